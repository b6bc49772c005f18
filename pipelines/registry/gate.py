"""The release gate: may this model become champion? A pure function over numbers.

"Cannot tell" never promotes: a challenger has to be better by more than chance explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipelines.params import RegisterConfig

VerdictKind = Literal["first", "better", "worse", "cannot tell", "blocked", "same"]
"""`first`: above the floor, nothing to compare with. `blocked`: a condition that does not depend on
the comparison fails. `same`: the champion itself."""


@dataclass(frozen=True, slots=True)
class MetricChange:
    """Challenger minus champion in one metric, with the interval that chance explains."""

    name: str
    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.name} {self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


@dataclass(frozen=True, slots=True)
class LatencyChange:
    """Challenger's latency over the champion's, measured in turns; above 1 is slower."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"latency {self.ratio:.2f} times ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Challenger against champion on the same gate data."""

    champion_version: int
    changes: tuple[MetricChange, ...]
    """The metric that decides first; empty if the two cannot be compared."""
    latency: LatencyChange | None
    remark: str = ""
    """How latency was compared, or why something could not be."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the gate looks at."""

    gate_ap: float
    """Challenger's AP on the gate split."""
    parity_failures: tuple[str, ...]
    """Exported files that are too far from torch."""
    unsigned_licences: tuple[str, ...]
    """Licences of data and weights that forbid or may forbid commercial use, not signed for."""
    comparison: Comparison | Literal["no champion", "is the champion"]
    broken_conditions: tuple[str, ...] = ()
    """Of params `register.conditions`, in words."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says."""

    kind: VerdictKind
    words: str
    """The reasons, with their numbers."""

    @property
    def promotes(self) -> bool:
        """Whether the model may become champion."""
        return self.kind in ("first", "better")


def decide(rules: RegisterConfig, evidence: Evidence) -> Verdict:
    """Apply the rules of params section `register` to the evidence.

    In this order: the champion itself is not judged again; blockers (parity, licences, conditions
    on error rates, a latency that is surely over the limit); a first model has to reach the floor;
    otherwise a significant loss in any metric is worse; a latency that seems over the limit cannot
    be told; the first metric's whole interval above `min_effect` is better; and the rest cannot be
    told.
    """
    comparison = evidence.comparison
    if comparison == "is the champion":
        return Verdict("same", "these model files are the champion's")
    blockers = [*_blockers(rules, evidence)]
    if blockers:
        return Verdict("blocked", "; ".join(blockers))
    if comparison == "no champion":
        return _first(rules, evidence.gate_ap)
    return _compared(rules, comparison)


def _blockers(rules: RegisterConfig, evidence: Evidence) -> Iterator[str]:
    if evidence.parity_failures:
        yield f"export differs from torch: {', '.join(evidence.parity_failures)}"
    if evidence.unsigned_licences:
        yield (
            f"licence does not allow commercial use or is unknown: "
            f"{', '.join(evidence.unsigned_licences)}; sign for it by name in params "
            "register.allow_licences, or train on other data"
        )
    yield from evidence.broken_conditions
    if isinstance(evidence.comparison, Comparison) and evidence.comparison.latency is not None:
        latency = evidence.comparison.latency
        if latency.low > rules.max_latency_ratio:
            yield f"too slow: {latency}, allowed {rules.max_latency_ratio:.2f} times"


def _first(rules: RegisterConfig, gate_ap: float) -> Verdict:
    if gate_ap < rules.floor_ap:
        words = f"AP {gate_ap:.4f} on the gate split is below the floor {rules.floor_ap:.4f}"
        return Verdict("blocked", f"{words}, and there is no champion to compare with")
    words = f"AP {gate_ap:.4f} on the gate split reaches the floor {rules.floor_ap:.4f}"
    return Verdict("first", f"first model: {words}")


def _compared(rules: RegisterConfig, comparison: Comparison) -> Verdict:
    against = f"against version {comparison.champion_version}"
    if not comparison.changes:
        return Verdict("cannot tell", f"{against}: {comparison.remark}; promote by hand if wanted")
    figures = ", ".join(map(str, comparison.changes))
    ending = [f"{against}, {rules.confidence:.0%} intervals"]
    if comparison.latency is not None:
        ending.append(str(comparison.latency))
    if comparison.remark:
        ending.append(comparison.remark)
    tail = "; ".join(ending)
    losses = [change.name for change in comparison.changes if change.high < 0]
    if losses:
        return Verdict("worse", f"loses {' and '.join(losses)}: {figures} {tail}")
    if comparison.latency is not None and comparison.latency.ratio > rules.max_latency_ratio:
        limit = f"allowed {rules.max_latency_ratio:.2f} times; time it on a quieter machine"
        return Verdict("cannot tell", f"{figures} {tail}; {limit}")
    decisive = comparison.changes[0]
    if decisive.low > rules.min_effect:
        return Verdict("better", f"{figures} {tail}")
    smallest = rules.min_effect + (decisive.high - decisive.low) / 2
    return Verdict(
        "cannot tell",
        f"{figures} {tail}; on this split about {smallest:+.4f} {decisive.name} would be needed",
    )

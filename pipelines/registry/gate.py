"""The release gate: may this model become champion? A pure function over numbers.

"Cannot tell" never promotes: a challenger has to be better by more than chance explains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import hypot, sqrt
from statistics import NormalDist
from typing import Literal

from pipelines.params import RegisterConfig
from rtmo.evaluation.bootstrap import Interval

VerdictKind = Literal["first", "better", "worse", "cannot tell", "blocked", "same"]
"""`first`: above the floor, nothing to compare with. `blocked`: a condition that does not depend on
the comparison fails. `same`: the champion itself."""

ASSUMED_SEED_STD = 0.005
"""Standard deviation of AP over seeds where `register.seed_std` is null. An assumption, not a
measurement: about the largest with which 500 gate images still show +0.03 AP in 95 % of cases, as
calculated in benchmarks/2026-11-21-gate-error-rates.md."""


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

    gate_ap: Interval
    """Challenger's AP on the gate split."""
    parity_failures: tuple[str, ...]
    """Exported files that are too far from torch."""
    looks: int
    """Models judged on this gate data so far, this one included."""
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
    if comparison == "no champion":
        judged = _first(rules, evidence)
    else:
        judged = _compared(rules, comparison, evidence.looks)
    if blockers:
        words = f"{'; '.join(blockers)}. Apart from that {judged.kind}: {judged.words}"
        return Verdict("blocked", words)
    return judged


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


def _first(rules: RegisterConfig, evidence: Evidence) -> Verdict:
    found = evidence.gate_ap
    half = (found.high - found.low) / 2
    words = f"AP {found.value:.4f} ({found.low:.4f} to {found.high:.4f}) on the gate split"
    tail = f"on this split AP is known to {half:.4f} only; look {evidence.looks} at it"
    if found.value < rules.floor_ap:
        words = f"{words} is below the floor {rules.floor_ap:.4f}"
        return Verdict("blocked", f"{words}, and there is no champion to compare with; {tail}")
    return Verdict("first", f"first model: {words} reaches the floor {rules.floor_ap:.4f}; {tail}")


def _compared(rules: RegisterConfig, comparison: Comparison, looks: int) -> Verdict:
    against = f"against version {comparison.champion_version}"
    if not comparison.changes:
        words = f"{against}: {comparison.remark}; promote by hand if wanted; no effect could show"
        return Verdict("cannot tell", words)
    changes = [widened(change, rules) for change in comparison.changes]
    decisive = changes[0]
    losses = [change.name for change in changes if change.high < 0]
    latency = comparison.latency
    is_slow = latency is not None and latency.ratio > rules.max_latency_ratio
    tail = _circumstances(rules, comparison, smallest_effect(rules, decisive), looks)
    figures = f"{', '.join(map(str, changes))} {against}, {tail}"
    if losses:
        return Verdict("worse", f"loses {' and '.join(losses)}: {figures}")
    if is_slow:
        limit = f"allowed {rules.max_latency_ratio:.2f} times; time it on a quieter machine"
        return Verdict("cannot tell", f"{figures}; {limit}")
    return Verdict("better" if decisive.low > rules.min_effect else "cannot tell", figures)


def widened(change: MetricChange, rules: RegisterConfig) -> MetricChange:
    """The interval with what two seeds of one recipe differ by, as measured or assumed.

    Resampling the images tells how far the pictures decide, not how far the seed does. Both are
    independent, so half widths add in squares; two trainings differ by sqrt(2) standard deviations.

    Example:
        >>> rules = RegisterConfig(name="rtmo", floor_ap=0, bootstrap_samples=100, confidence=0.95,
        ...                        min_effect=0, max_latency_ratio=1.1, seed_std=0.01)
        >>> print(widened(MetricChange("AP", 0.02, 0.01, 0.03), rules))
        AP +0.0200 (-0.0095 to +0.0495)
    """
    seeds = seed_difference(rules, ASSUMED_SEED_STD if rules.seed_std is None else rules.seed_std)
    low = change.mean - hypot(change.mean - change.low, seeds)
    high = change.mean + hypot(change.high - change.mean, seeds)
    return replace(change, low=low, high=high)


def seed_difference(rules: RegisterConfig, seed_std: float) -> float:
    """What the AP of two trainings that differ in their seed alone differs by at most.

    Example:
        >>> rules = RegisterConfig(name="rtmo", floor_ap=0, bootstrap_samples=100, confidence=0.95,
        ...                        min_effect=0, max_latency_ratio=1.1)
        >>> round(seed_difference(rules, 0.01), 4)
        0.0277
    """
    return NormalDist().inv_cdf((1 + rules.confidence) / 2) * sqrt(2) * seed_std


def smallest_effect(rules: RegisterConfig, decisive: MetricChange) -> float:
    """The least improvement that this split would call better, if measured without luck."""
    return rules.min_effect + (decisive.high - decisive.low) / 2


def _circumstances(
    rules: RegisterConfig, comparison: Comparison, smallest: float, looks: int
) -> str:
    """How the figures came about."""
    name = comparison.changes[0].name
    seeds = (
        f"{ASSUMED_SEED_STD:.4f}, assumed: register.seed_std is not measured"
        if rules.seed_std is None
        else f"{rules.seed_std:.4f}, as measured"
    )
    parts = [
        f"{rules.confidence:.0%} intervals",
        f"on this split about {smallest:+.4f} {name} would be needed",
        f"look {looks} at it",
        f"seed deviation {seeds}",
    ]
    if comparison.latency is not None:
        parts.append(str(comparison.latency))
    if comparison.remark:
        parts.append(comparison.remark)
    return "; ".join(parts)

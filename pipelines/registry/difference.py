"""What differs between two registered versions."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.registry.figures import SERVED_VARIANT
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import Version, download, get_version

ABSENT = "-"
"""Shown where one of the two has no such fact."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fact of both versions."""

    subject: str
    """code, data, params, metrics, errors, latency, licences."""
    name: str
    left: str
    right: str

    @property
    def differs(self) -> bool:
        """Whether the two differ in it."""
        return self.left != self.right


def diff(paths: Paths, left: int, right: int) -> tuple[Row, ...]:
    """Code, data versions, metrics, errors and latency of both; of the settings what differs.

    Raises:
        UnknownVersionError: if there is no such version.
        StoreUnavailableError: if the store cannot be used.
    """
    tracking = open_tracking(paths)
    name = load_params(paths.root).registration.name
    facts = [
        dict(_facts(tracking, get_version(tracking, name, number))) for number in (left, right)
    ]
    keys = list(dict.fromkeys((*facts[0], *facts[1])))
    rows = (Row(*key, *(side.get(key, ABSENT) for side in facts)) for key in keys)
    return tuple(row for row in rows if row.differs or row.subject != "params")


def model_card(paths: Paths, number: int) -> str:
    """The card of a version as Markdown, with the gate's verdict.

    Raises:
        UnknownVersionError: if there is no such version.
        StoreUnavailableError: if the store cannot be used.
    """
    tracking = open_tracking(paths)
    version = get_version(tracking, load_params(paths.root).registration.name, number)
    with tempfile.TemporaryDirectory() as folder:
        text = download(tracking, version, "model_card.md", folder).read_text(encoding="utf-8")
    verdict = (
        f"{version.tags.get('verdict', 'not judged')}: {version.tags.get('verdict_words', '')}"
    )
    return f"{text}\n## Verdict of the gate\n\n{verdict.rstrip(': ')}\n"


def read_card(tracking: Tracking, version: Version) -> Mapping[str, Any]:
    """The card of a version for programs."""
    with tempfile.TemporaryDirectory() as folder:
        file: Path = download(tracking, version, "model_card.json", folder)
        card: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return card


Fact = tuple[tuple[str, str], str]
"""(subject, name) and value."""


def _facts(tracking: Tracking, version: Version) -> Iterator[Fact]:
    card = read_card(tracking, version)
    for subject, name, tag in (
        ("code", "commit", "git.commit"),
        ("code", "uncommitted changes", "git.dirty"),
        ("code", "environment", "lock.environment"),
        ("data", "all splits", "data_digest"),
        ("data", "gate split", "gate.data"),
    ):
        yield (subject, name), version.tags.get(tag, ABSENT)
    run = tracking.client.get_run(version.run_id)
    for name, value in sorted(run.data.params.items()):
        yield ("params", name), value
    for split, metrics in card["metrics"].items():
        for name, value in metrics.items():
            interval = card.get("intervals", {}).get(split, {}).get(name)
            yield ("metrics", f"{split}.{name}"), _with_interval(value, interval)
    for name, gain in card.get("taxonomy", {}).get("gain_alone", {}).items():
        yield ("errors", f"AP gained without {name}"), f"{gain:+.4f}"
    yield from _latency(card["benchmark"])
    for licence in card["licences"]:
        yield ("licences", licence["name"]), f"commercial use: {licence['commercial_use']}"


def _with_interval(value: float, interval: Mapping[str, float] | None) -> str:
    if interval is None:
        return f"{value:.4f}"
    return f"{value:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def _latency(benchmark: Mapping[str, Any] | None) -> Iterator[Fact]:
    if benchmark is None:
        return
    hardware = f"{benchmark['hardware']['cpu']}, {benchmark['threads']} threads"
    yield ("latency", "hardware"), hardware
    total = benchmark["latency"][SERVED_VARIANT]["total"]
    for name, key in (("p50 ms", "p50_ms"), ("p99 ms", "p99_ms")):
        yield ("latency", name), f"{total[key]:.1f}"

"""Which figures of a model the registry keeps to search by."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pipelines.registry.candidate import Candidate
from pipelines.tracking.figures import Figure

SERVED_VARIANT = "onnx"
"""The benchmark's name for the file that is served; its latency is the model's."""
LATENCY = "latency_"
"""How the names of figures begin of which less is better, and which depend on the hardware."""


def figures_of(
    candidate: Candidate, gate_rates: Mapping[str, float], data_digest: str, gate_digest: str
) -> Iterator[Figure]:
    """Metrics on both splits, error rates on the gate, latency of the served file if measured."""
    dataset = str(candidate.card["dataset"])
    yield from split_figures("val", candidate.metrics, dataset, data_digest)
    yield from split_figures("gate", {**candidate.gate_metrics, **gate_rates}, dataset, gate_digest)
    if candidate.benchmark is None:
        return
    total = candidate.benchmark.latency[SERVED_VARIANT]["total"]
    yield Figure(f"{LATENCY}p50_ms", total.p50_ms, "", "")
    yield Figure(f"{LATENCY}p99_ms", total.p99_ms, "", "")


def split_figures(
    split: str, metrics: Mapping[str, float], dataset: str, digest: str
) -> Iterator[Figure]:
    """The metrics of one split."""
    for name, value in metrics.items():
        if math.isfinite(value):
            yield Figure(f"{split}.{name}", value, f"{dataset}/{split}", digest)

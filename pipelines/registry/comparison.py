"""Challenger and champion on the same gate data: what the gate's numbers are made from."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.params import Params
from pipelines.registry.gate import Comparison, LatencyChange, MetricChange
from pipelines.tracking.store import Tracking
from pipelines.tracking.versions import PACKAGED_ONNX, Version, attach_json, attached_json, download
from rtmo.deployment.latency import latency
from rtmo.deployment.predictor import load_predictor
from rtmo.deployment.runners import Predictor
from rtmo.evaluation.bootstrap import paired_differences
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.predict import predict_store
from rtmo.store import Store

DECIDING_METRICS = ("AP", "AR", "AP_hard")
"""In this order; the first decides, none may be lost. AP_hard where the protocol has it."""
BOOTSTRAP_SEED = 0
LATENCY_ROUNDS = 9
MIN_IMAGES = 2
"""Images that can be resampled."""

Detections = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class GateData:
    """The gate split and the settings detections on it are made with."""

    folder: Path
    """Store of the split."""
    digest: str
    """DVC's md5 of the split."""
    settings: EvaluateConfig

    @property
    def store(self) -> Store:
        """The split, opened."""
        return Store.open(self.folder)

    @property
    def artifact(self) -> str:
        """Where a version keeps its detections on exactly this data with these settings."""
        key = json.dumps([self.digest, self.settings.model_dump()], sort_keys=True)
        return f"gate/{hashlib.sha256(key.encode()).hexdigest()[:16]}.json.gz"

    @property
    def look_tag(self) -> str:
        """Tag of a version that was judged on this data, whatever the settings."""
        return f"gate.look.{self.digest[:16]}"


def compare(
    tracking: Tracking,
    champion: Version,
    onnx: Path,
    detections: Detections,
    gate: GateData,
    params: Params,
) -> Comparison:
    """The challenger's model file and gate detections against the champion's.

    The champion is asked again, through its own registered file, if it has no detections on this
    gate data; they are then kept with it. Latency is measured now, both files in turns.
    """
    store = gate.store
    if len(store) < MIN_IMAGES:
        remark = f"the gate split has {len(store)} images, expected {MIN_IMAGES} or more"
        return Comparison(champion.number, (), None, remark)
    with tempfile.TemporaryDirectory() as folder:
        champion_onnx = download(tracking, champion, PACKAGED_ONNX, folder)
        ours, theirs = (open_predictor(file, params) for file in (onnx, champion_onnx))
        if theirs.skeleton != store.skeleton:
            names = f"{theirs.skeleton.name}, the gate data {store.skeleton.name}"
            return Comparison(champion.number, (), None, f"the champion has skeleton {names}")
        timed = _latency_change(ours, theirs, store, params)
        reference = champion_detections(tracking, champion, theirs, gate)
    changes = metric_changes(store, detections, reference, params)
    remark = "" if changes else "nobody in the gate split counts, so there is nothing to compare"
    return Comparison(champion.number, changes, timed, remark)


def champion_detections(
    tracking: Tracking, champion: Version, predictor: Predictor, gate: GateData
) -> Detections:
    """What the champion finds on the gate split, from its artifacts or made now and kept there."""
    kept: Detections | None = attached_json(tracking, champion, gate.artifact)
    if kept is not None:
        return kept
    made = predict_store(predictor, gate.store, gate.settings.batch, lambda _done, _all: None)
    attach_json(tracking, champion, gate.artifact, made)
    return made


def metric_changes(
    store: Store, challenger: Detections, champion: Detections, params: Params
) -> tuple[MetricChange, ...]:
    """Differences of the deciding metrics, challenger less champion, by paired bootstrap."""
    differences = paired_differences(
        store.to_coco(),
        challenger,
        champion,
        skeleton=store.skeleton,
        protocol=store.meta.protocol,
        seed=BOOTSTRAP_SEED,
        samples=params.registration.bootstrap_samples,
        confidence=params.registration.confidence,
    )
    return tuple(
        MetricChange(name, differences[name].value, differences[name].low, differences[name].high)
        for name in DECIDING_METRICS
        if name in differences and math.isfinite(differences[name].low)
    )


def open_predictor(onnx: Path, params: Params) -> Predictor:
    """A model file on the CPU, with the thresholds of params section `evaluate`."""
    return load_predictor(
        onnx,
        "cpu",
        params.evaluate.score_threshold,
        params.evaluate.nms_iou,
        threads=params.benchmark.threads,
    )


def _latency_change(
    challenger: Predictor, champion: Predictor, store: Store, params: Params
) -> LatencyChange:
    """Both models in turns on the same gate pictures, on this machine's CPU.

    Each round gives one ratio of medians, so that a machine that gets busy in between spoils one
    round and not the figure.
    """
    settings = params.benchmark
    images = [store.read_image(row) for row in range(min(settings.images, len(store)))]
    ratios = [
        latency(
            {"challenger": challenger, "champion": champion},
            images,
            warmup_runs=settings.warmup_runs,
            runs=math.ceil(settings.runs / LATENCY_ROUNDS),
            threads=settings.threads,
        ).ratio("challenger", "champion")
        for _ in range(LATENCY_ROUNDS)
    ]
    return median_interval(ratios)


def median_interval(ratios: Sequence[float]) -> LatencyChange:
    """The median, between the second smallest and the second largest value.

    Each value lies on either side of the true median with equal chance, so with nine values that
    interval misses it in 4 % of cases, whatever their distribution.

    Example:
        >>> median_interval([1.0, 0.9, 5.0, 1.1, 1.2, 1.0, 0.8, 1.0, 1.3])
        LatencyChange(ratio=1.0, low=0.9, high=1.3)
    """
    ordered = sorted(ratios)
    return LatencyChange(ordered[len(ordered) // 2], ordered[1], ordered[-2])

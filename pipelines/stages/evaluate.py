"""DVC stage `evaluate`: weights and converted splits -> detections, AP and their pictures."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.progress import Progress

from pipelines.stage_run import stage_run
from pipelines.worded_errors import without_traceback
from rtmo.deployment import Predictor, load_predictor
from rtmo.evaluation.bootstrap import metric_intervals
from rtmo.evaluation.config import EvaluateConfig, Evaluator
from rtmo.evaluation.keypoint_ap import EvalReport, evaluate_keypoints
from rtmo.evaluation.plots import (
    save_keypoint_quality,
    save_oks_histogram,
    save_precision_recall,
)
from rtmo.evaluation.predict import predict_store
from rtmo.store import Store

BOOTSTRAP_SEED = 0

log = logging.getLogger(__name__)


def evaluate(weights: Path, processed: Path, out: Path, config: EvaluateConfig) -> EvalReport:
    """Detect people on the validation and the gate split and score them, each by its own protocol.

    Writes for validation `detections.json`, `metrics.json`, `intervals.json`, `keypoints.csv`,
    `pr_curves.csv`, `oks_histogram.png`; for the gate `gate_detections.json`, `gate_metrics.json`,
    which hold nothing where the gate has no images (`data.gate_fraction` 0).

    Returns:
        The report of the validation split.

    Raises:
        ValueError: if the model's skeleton is not the data's, or nobody in a split can be scored.
    """
    predict = load_predictor(
        weights, score_threshold=config.score_threshold, nms_iou=config.nms_iou
    )
    validation, gate = Store.open(processed / "val"), Store.open(processed / "gate")

    detections = detect(predict, validation, config.batch)
    report = score(validation, detections, config.evaluator)
    write_json(out / "detections.json", detections)
    write_json(out / "metrics.json", report.metrics, indent=2)
    write_json(out / "intervals.json", intervals(validation, detections, config), indent=2)
    save_keypoint_quality(report, out / "keypoints.csv")
    save_precision_recall(report, out / "pr_curves.csv")
    save_oks_histogram(report, out / "oks_histogram.png")

    gate_detections = detect(predict, gate, config.batch)
    gate_metrics = score(gate, gate_detections, config.evaluator).metrics if len(gate) else {}
    write_json(out / "gate_detections.json", gate_detections)
    write_json(out / "gate_metrics.json", gate_metrics, indent=2)
    return report


def detect(predict: Predictor, store: Store, batch: int) -> list[dict[str, Any]]:
    """COCO result list of a split, with a progress bar."""
    if predict.skeleton != store.skeleton:
        raise ValueError(
            f"the model finds skeleton {predict.skeleton.name!r}, {store.folder} is annotated with "
            f"{store.skeleton.name!r} (names, order, flips and sigmas must agree); train on this "
            "dataset or evaluate on the model's own"
        )
    with Progress() as progress:
        task = progress.add_task(f"detect {store.meta.split}", total=len(store))
        return predict_store(
            predict, store, batch, lambda done, _: progress.update(task, completed=done)
        )


def score(store: Store, detections: list[dict[str, Any]], evaluator: Evaluator) -> EvalReport:
    """Evaluate by the protocol that the split names."""
    report = evaluate_keypoints(
        store.to_coco(),
        detections,
        skeleton=store.skeleton,
        protocol=store.meta.protocol,
        evaluator=evaluator,
    )
    log.info(
        "%s: %d people found in %d images, AP %.4f",
        store.meta.split,
        report.num_detections,
        report.num_images,
        report.metrics["AP"],
    )
    return report


def intervals(
    store: Store, detections: list[dict[str, Any]], config: EvaluateConfig
) -> dict[str, dict[str, float]]:
    """95 % intervals of the metrics: name -> value, low, high."""
    found = metric_intervals(
        store.to_coco(),
        detections,
        skeleton=store.skeleton,
        protocol=store.meta.protocol,
        seed=BOOTSTRAP_SEED,
        samples=config.bootstrap_samples,
    )
    return {name: asdict(interval) for name, interval in found.items()}


def write_json(path: Path, content: Any, *, indent: int | None = None) -> None:  # noqa: ANN401
    """JSON with a newline at its end."""
    path.write_text(json.dumps(content, indent=indent) + "\n", encoding="utf-8")


def main() -> None:
    """Evaluate the trained weights on the dataset of `params.yaml`."""
    with stage_run("evaluate") as run:
        processed = run.paths.processed(run.params.data.dataset)
        with run.publish(run.paths.report("evaluate")) as out:
            evaluate(run.paths.trained / "weights.safetensors", processed, out, run.params.evaluate)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with without_traceback():
        typer.run(main)

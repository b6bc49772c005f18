"""DVC stage `export`: weights -> both ONNX forms, held against torch, and a TensorRT engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import typer

from pipelines.stage_run import stage_run
from rtmo.deployment.build_engine import RunStatus, TensorRtMissingError, cached_engine, run_status
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.export_onnx import export_both_forms
from rtmo.deployment.manifest import (
    EngineFacts,
    ExportedFile,
    Manifest,
    TensorRtStatus,
    file_sha256,
)
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.parity import parity
from rtmo.deployment.runners import Predictor, TorchPredictor
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.predict import coco_results
from rtmo.model.weights import load_model
from rtmo.store import Store


def export(
    weights: Path,
    validation: Store,
    out: Path,
    *,
    config: ExportConfig,
    thresholds: EvaluateConfig,
    engines: Path,
) -> Manifest:
    """Write rtmo.onnx and rtmo-raw.onnx into `out` and compare them with torch.

    Args:
        weights: file of the `train` stage.
        validation: the validation split; pictures spread evenly over it are compared.
        out: folder to write to.
        config: what is exported, and the budget.
        thresholds: score and NMS thresholds of evaluation, which become the files' defaults.
        engines: this host's cache of TensorRT engines.

    Raises:
        ParityError: if a file is further from torch than the budget; it names the figures.
        EngineBuildError: if TensorRT is installed and cannot build the raw form.
    """
    score, iou = thresholds.score_threshold, thresholds.nms_iou
    files = export_both_forms(weights, out, config, score_threshold=score, nms_iou=iou)
    exported = {
        form: OnnxPredictor(path, "cpu", score_threshold=score, nms_iou=iou)
        for form, path in files.items()
    }
    metadata = exported["complete"].metadata
    torch = TorchPredictor(
        load_model(weights),
        "cpu",
        input_size=metadata.input_size,
        score_threshold=score,
        nms_iou=iou,
        max_people=config.max_people,
    )
    rows = _spread(len(validation), config.parity_images)
    ap_torch = _average_precision(torch, validation, rows)
    manifest = Manifest(
        training_hash=metadata.training_hash,
        skeleton=metadata.skeleton.name,
        size=metadata.size,
        input_size=metadata.input_size,
        score_threshold=score,
        nms_iou=iou,
        files={
            files[form].name: ExportedFile(
                sha256=file_sha256(files[form]),
                size_bytes=files[form].stat().st_size,
                form=form,
                precision=predictor.metadata.precision,
                opset=_opset(files[form]),
                parity=parity(torch, predictor, (validation.read_image(row) for row in rows)),
                ap_torch=ap_torch,
                ap_exported=_average_precision(predictor, validation, rows),
            )
            for form, predictor in exported.items()
        },
        tensorrt=_tensorrt_status(files["raw"], engines),
    )
    manifest.require_within(config)
    return manifest


def _spread(available: int, wanted: int) -> list[int]:
    """Rows spread evenly over a split: all of them if there are no more than wanted."""
    count = min(available, wanted)
    rows: list[int] = np.linspace(0, available - 1, count).round().astype(int).tolist()
    return rows


def _average_precision(predictor: Predictor, store: Store, rows: list[int]) -> float:
    """AP of a predictor on some pictures of a split."""
    annotations = store.to_coco()
    image_ids = {int(store.image_ids[row]) for row in rows}
    subset: dict[str, Any] = annotations | {
        "images": [image for image in annotations["images"] if image["id"] in image_ids],
        "annotations": [
            person for person in annotations["annotations"] if person["image_id"] in image_ids
        ],
    }
    detections = [
        person
        for row in rows
        for person in coco_results(int(store.image_ids[row]), predictor(store.read_image(row)))
    ]
    report = evaluate_keypoints(
        subset, detections, skeleton=store.skeleton, protocol=store.meta.protocol
    )
    return report.metrics["AP"]


def _opset(path: Path) -> int:
    """Version of the standard operators in an ONNX file."""
    imports = onnx.load(path, load_external_data=False).opset_import
    return next(int(entry.version) for entry in imports if entry.domain == "")


def _tensorrt_status(raw: Path, engines: Path) -> TensorRtStatus:
    """Build the engine of the raw form, or say why there is none."""
    try:
        engine, receipt = cached_engine(raw, engines)
    except TensorRtMissingError as error:
        unavailable = RunStatus(status="unavailable", reason=str(error))
        return TensorRtStatus(build=unavailable, run=unavailable)
    facts = EngineFacts(
        package=receipt.package,
        version=receipt.version,
        profile=receipt.profile,
        layer_precisions=receipt.layer_precisions,
        engine_bytes=receipt.engine_bytes,
    )
    return TensorRtStatus(build=facts, run=run_status(engine))


def main() -> None:
    """Command line; `dvc.yaml` is its caller."""
    with stage_run("export") as run, run.publish(run.paths.exported) as out:
        manifest = export(
            run.paths.trained / "weights.safetensors",
            Store.open(run.paths.processed(run.params.data.dataset) / "val"),
            out,
            config=run.params.export,
            thresholds=run.params.evaluate,
            engines=run.paths.runs / "engines",
        )
        (out / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)

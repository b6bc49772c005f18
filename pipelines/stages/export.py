"""DVC stage `export`: weights -> ONNX in every precision that agrees with torch, and engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import typer

from pipelines.stage_run import stage_run
from pipelines.worded_errors import without_traceback
from rtmo.deployment.build_engine import TensorRtMissingError, cached_engine, run_status
from rtmo.deployment.check import Accuracy, Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.engine_facts import RunStatus
from rtmo.deployment.export_onnx import export_both_forms
from rtmo.deployment.framing import Framing
from rtmo.deployment.manifest import (
    EngineFacts,
    ExportedFile,
    Manifest,
    TensorRtStatus,
    Variant,
    file_sha256,
)
from rtmo.deployment.metadata import Form, Precision
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.pictures import spread
from rtmo.deployment.postprocess import Floats
from rtmo.deployment.runners import TorchPredictor
from rtmo.deployment.variants import make_variants
from rtmo.deployment.ways import Route, try_routes
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.predict import coco_results
from rtmo.model.weights import load_model
from rtmo.store import Store
from rtmo.structures import Poses


def export(
    weights: Path,
    validation: Store,
    training: Store,
    out: Path,
    *,
    config: ExportConfig,
    thresholds: EvaluateConfig,
    engines: Path,
) -> Manifest:
    """Write ONNX files into `out`, compare them with torch, and keep those that agree.

    rtmo.onnx and rtmo-raw.onnx are float32 and must agree; `variants/` has those in lower precision
    that do.

    Args:
        weights: file of the `train` stage.
        validation: the validation split; pictures spread evenly over it are compared.
        training: the training split; pictures spread evenly over it set the ranges of INT8.
        out: folder to write to.
        config: what is exported, and the budgets.
        thresholds: score and NMS thresholds of evaluation, which become the files' defaults.
        engines: this host's cache of TensorRT engines.

    Raises:
        ParityError: if a float32 file is further from torch than its budget; it names the figures.
        EngineBuildError: if TensorRT is installed and cannot build the raw form.
    """
    score, iou = thresholds.score_threshold, thresholds.nms_iou
    files = export_both_forms(weights, out, config, score_threshold=score, nms_iou=iou)
    fp32 = {
        form: OnnxPredictor(path, "cpu", score_threshold=score, nms_iou=iou)
        for form, path in files.items()
    }
    metadata = fp32["complete"].metadata
    torch = TorchPredictor(
        load_model(weights),
        "cpu",
        input_size=metadata.input_size,
        score_threshold=score,
        nms_iou=iou,
        max_people=config.max_people,
    )
    rows = spread(len(validation), config.parity_images)
    images = [validation.read_image(row) for row in rows]
    reference = Reference(torch, images, lambda poses: accuracy(poses, validation, rows))
    exported = {
        files[form].name: ExportedFile(
            sha256=file_sha256(files[form]),
            size_bytes=files[form].stat().st_size,
            form=form,
            precision=predictor.metadata.precision,
            opset=_opset(files[form]),
            check=reference.check(predictor),
        )
        for form, predictor in fp32.items()
    }
    calibration = network_inputs(training, config.calibration_images, torch.framing)
    variants = make_variants(out, files, reference, calibration, config)
    manifest = Manifest(
        training_hash=metadata.training_hash,
        skeleton=metadata.skeleton.name,
        size=metadata.size,
        input_size=metadata.input_size,
        score_threshold=score,
        nms_iou=iou,
        files=exported,
        variants=variants,
        cpu=try_routes(out, _routes(files, variants), reference, config),
        tensorrt=_engines(out, files["raw"], variants, engines),
    )
    manifest.require_within(config)
    return manifest


def network_inputs(store: Store, wanted: int, framing: Framing) -> list[Floats]:
    """Batches of pictures spread evenly over a split, as the network sees them."""
    return framing.inputs([store.read_image(row) for row in spread(len(store), wanted)])


def _routes(files: Mapping[Form, Path], variants: Mapping[str, Variant]) -> list[Route]:
    """Ways to run the shipped files on a CPU.

    bf16 is tried on the raw form: OpenVINO computes whole graphs in it, coordinates and NMS too.
    """
    complete = files["complete"].name
    routes = [
        Route("onnxruntime", complete, "fp32"),
        Route("openvino", complete, "fp32"),
        Route("openvino", files["raw"].name, "bf16"),
    ]
    return routes + [
        Route("openvino", name, "int8")
        for name, variant in variants.items()
        if variant.made_for == "openvino" and not variant.problems
    ]


def accuracy(poses: Sequence[Poses], store: Store, rows: list[int]) -> Accuracy:
    """AP and AR of what was found in some pictures of a split."""
    annotations = store.to_coco()
    image_ids = [int(store.image_ids[row]) for row in rows]
    chosen = set(image_ids)
    subset: dict[str, Any] = annotations | {
        "images": [image for image in annotations["images"] if image["id"] in chosen],
        "annotations": [
            person for person in annotations["annotations"] if person["image_id"] in chosen
        ],
    }
    detections = [
        person
        for image_id, found in zip(image_ids, poses, strict=True)
        for person in coco_results(image_id, found)
    ]
    metrics = evaluate_keypoints(
        subset, detections, skeleton=store.skeleton, protocol=store.meta.protocol
    ).metrics
    return Accuracy(metrics["AP"], metrics["AR"])


def _opset(path: Path) -> int:
    """Version of the standard operators in an ONNX file."""
    imports = onnx.load(path, load_external_data=False).opset_import
    return next(int(entry.version) for entry in imports if entry.domain == "")


def _engines(
    out: Path, raw: Path, variants: Mapping[str, Variant], engines: Path
) -> dict[Precision, TensorRtStatus]:
    """Build an engine of the raw form in every precision that is shipped."""
    shipped: dict[Precision, Path] = {"fp32": raw}
    shipped |= {
        variant.precision: out / name
        for name, variant in variants.items()
        if variant.made_for == "tensorrt" and not variant.problems
    }
    return {precision: _tensorrt_status(path, engines) for precision, path in shipped.items()}


def _tensorrt_status(raw: Path, engines: Path) -> TensorRtStatus:
    """Build the engine of a raw-form file, or say why there is none."""
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
        splits = run.paths.processed(run.params.data.dataset)
        manifest = export(
            run.paths.trained / "weights.safetensors",
            Store.open(splits / "val"),
            Store.open(splits / "train"),
            out,
            config=run.params.export,
            thresholds=run.params.evaluate,
            engines=run.paths.runs / "engines",
        )
        (out / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    with without_traceback():
        typer.run(main)

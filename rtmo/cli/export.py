"""`rtmo export`: ONNX files of a model, held against torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rtmo.cli.annotations import protocol_of, read_truth, require_file, with_images

if TYPE_CHECKING:
    from rtmo.deployment.check import Reference
    from rtmo.deployment.metadata import Form
    from rtmo.structures import Poses

EXAMPLE = "Example: rtmo export --weights rtmo-s-body7 --out onnx/ --pictures photos/"


def export(  # noqa: PLR0913 - one argument per option
    weights: Annotated[
        Path, typer.Option(help="Weights file (.safetensors .pth), or a published model's name.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for rtmo.onnx and rtmo-raw.onnx.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Picture or folder to compare with torch on.")
    ] = None,
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Default inside rtmo.onnx.")
    ] = 0.1,
    nms_iou: Annotated[float, typer.Option(min=0, max=1, help="Default inside rtmo.onnx.")] = 0.65,
    triton: Annotated[
        Path | None, typer.Option(help="NVIDIA Triton model repository to write rtmo.onnx into.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Lowest to write; fp16 needs --pictures, int8 --calibration besides."),
    ] = "fp32",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of training pictures that set the ranges of INT8.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations of --pictures: AP and AR are compared too.")
    ] = None,
) -> None:
    """Write both ONNX forms of a model, and say how far they are from torch.

    Lower precisions go into OUT/variants and stay there only if they agree with torch on the
    pictures, by the pipeline's budgets; where one does not, a report by layers takes its place.
    """
    from rtmo.deployment.config import ExportConfig
    from rtmo.deployment.export_onnx import export_both_forms
    from rtmo.deployment.official_files import fetch_official

    if precision != "fp32" and pictures is None:
        raise typer.BadParameter(f"--precision {precision} is held against torch on --pictures")
    if (precision == "int8") != (calibration is not None):
        raise typer.BadParameter("--precision int8 and --calibration FOLDER go together")
    if len(weights.parts) == 1 and not weights.suffix:  # a name, not a path
        weights = fetch_official(str(weights))
    require_file(weights)
    out.mkdir(parents=True, exist_ok=True)
    files = export_both_forms(
        weights, out, ExportConfig(), score_threshold=score_threshold, nms_iou=nms_iou
    )
    for form, path in files.items():
        print(f"{path} ({form} form, {path.stat().st_size / 1e6:.1f} MB)")
    if triton is not None:
        from rtmo.deployment.triton import write_triton_repository

        print(f"{write_triton_repository(files['complete'], triton)} (Triton model repository)")
    if pictures is not None:
        _print_parity(weights, list(files.values()), pictures)
    if pictures is not None and precision != "fp32":
        reference = _reference(weights, files["complete"], pictures, annotations)
        _write_variants(out, files, reference, calibration)


def _print_parity(weights: Path, files: list[Path], pictures: Path) -> None:
    from rtmo.deployment.parity import parity
    from rtmo.deployment.pictures import find_pictures, read_picture
    from rtmo.deployment.predictor import load_predictor

    images = [read_picture(path) for path in find_pictures(pictures)]
    torch = load_predictor(weights, "cpu")
    for path in files:
        report = parity(torch, load_predictor(path, "cpu"), images)
        print(
            f"{path.name} against torch on {report.images} pictures: {report.people_matched} of "
            f"{report.people_reference} people matched, keypoints p99 "
            f"{report.keypoint_px_p99:.4f} px, max {report.keypoint_px_max:.4f} px"
        )


def _reference(
    weights: Path, exported: Path, pictures: Path, annotations: Path | None
) -> Reference:
    """Torch's answers on pictures of a folder, with the thresholds of an exported file."""
    from rtmo.deployment.check import Accuracy, Reference
    from rtmo.deployment.config import ExportConfig
    from rtmo.deployment.onnx_runner import OnnxPredictor
    from rtmo.deployment.pictures import find_pictures, read_picture, spread
    from rtmo.deployment.runners import TorchPredictor
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints
    from rtmo.evaluation.predict import coco_results, read_listed
    from rtmo.model.weights import load_model

    metadata = OnnxPredictor(exported, "cpu").metadata
    torch = TorchPredictor(
        load_model(weights),
        "cpu",
        input_size=metadata.input_size,
        score_threshold=metadata.score_threshold,
        nms_iou=metadata.nms_iou,
        max_people=metadata.max_people,
    )
    most = ExportConfig().parity_images
    if annotations is None:
        paths = find_pictures(pictures)
        images = [read_picture(paths[place]) for place in spread(len(paths), most)]
        print("AP and AR are not compared: that needs --annotations", file=sys.stderr)
        return Reference(torch, images, lambda _poses: Accuracy(-1, -1))
    truth = read_truth(annotations)
    listed = [truth["images"][place] for place in spread(len(truth["images"]), most)]
    truth = with_images(truth, listed)

    def accuracy(found: Sequence[Poses]) -> Accuracy:
        detections = [
            person
            for image, poses in zip(listed, found, strict=True)
            for person in coco_results(int(image["id"]), poses)
        ]
        metrics = evaluate_keypoints(
            truth, detections, skeleton=torch.skeleton, protocol=protocol_of(truth)
        ).metrics
        return Accuracy(metrics["AP"], metrics["AR"])

    folder = pictures if pictures.is_dir() else pictures.parent
    return Reference(torch, [read_listed(image, folder) for image in listed], accuracy)


def _write_variants(
    out: Path, files: Mapping[Form, Path], reference: Reference, calibration: Path | None
) -> None:
    """Write lower precisions and print what became of each."""
    from rtmo.deployment.config import ExportConfig
    from rtmo.deployment.pictures import find_pictures, read_picture, spread
    from rtmo.deployment.variants import make_variants

    config = ExportConfig()
    paths = [] if calibration is None else find_pictures(calibration)
    places = spread(len(paths), config.calibration_images)
    inputs = reference.framing.inputs([read_picture(paths[place]) for place in places])
    for name, variant in make_variants(out, files, reference, inputs, config).items():
        where = f"{out / name} ({variant.form} form, {variant.precision}, for {variant.made_for})"
        if variant.deviation is None:
            print(f"{where}: kept, {variant.size_bytes / 1e6:.1f} MB")
        else:
            print(f"{where}: not kept: {'; '.join(variant.problems)}")
            print(f"  layer by layer: {out / variant.deviation.report}")

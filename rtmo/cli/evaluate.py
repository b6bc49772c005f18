"""`rtmo evaluate`: scores of any COCO-format keypoint result file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from rtmo.cli.annotations import protocol_of, read_json, read_truth, skeleton_of
from rtmo.cli.options import AsJson
from rtmo.evaluation.config import Evaluator

EXAMPLE = "Example: rtmo evaluate --detections found.json --annotations truth.json"


def evaluate(
    detections: Annotated[Path, typer.Option(help="COCO result list (JSON).")],
    annotations: Annotated[Path, typer.Option(help="COCO or CrowdPose annotation file (JSON).")],
    protocol: Annotated[
        Literal["coco", "crowdpose"] | None,
        typer.Option(help="Whose rules; by default CrowdPose's if its images have crowdIndex."),
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="Skeleton (JSON) of keypoints other than COCO's.")
    ] = None,
    evaluator: Annotated[
        Evaluator, typer.Option(help="Library that counts; both give the same numbers.")
    ] = "faster-coco-eval",
    as_json: AsJson = False,
) -> None:
    """Score any COCO-format keypoint result file."""
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints

    truth = read_truth(annotations)
    found = read_json(detections)
    if not isinstance(found, list):
        raise typer.BadParameter(f"{detections} is no COCO result list: expected a JSON list")
    report = evaluate_keypoints(
        truth,
        found,
        skeleton=skeleton_of(truth, skeleton, annotations),
        protocol=protocol or protocol_of(truth),
        evaluator=evaluator,
    )
    if as_json:
        print(json.dumps(report.metrics))
        return
    print(f"{report.protocol} protocol, {report.num_images} images, {report.num_people} people")
    for name, value in report.metrics.items():
        print(f"{name:>10}  {value:.4f}")

"""`rtmo verify-weights`: a published model measured beside what its authors published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rtmo.cli.annotations import protocol_of, read_truth, with_images
from rtmo.cli.options import AsJson, Device

EXAMPLE = "Example: rtmo verify-weights rtmo-s-coco --annotations val2017.json --images val2017/"


def verify_weights(
    weights: Annotated[str, typer.Argument(help="A published model's name, or a model file.")],
    annotations: Annotated[Path, typer.Option(help="person_keypoints_val2017.json, or its like.")],
    images: Annotated[Path, typer.Option(help="Folder of the pictures that the file lists.")],
    limit: Annotated[int | None, typer.Option(min=1, help="First pictures only.")] = None,
    device: Annotated[Device, typer.Option(help="Where to run.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on your own copy of a dataset, beside the figure its authors published.

    Score threshold 0.1, NMS at 0.65 and the published input size, as the published figures.
    """
    from rtmo.deployment.official_files import OFFICIAL_FILES
    from rtmo.deployment.predictor import load_predictor
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints
    from rtmo.evaluation.predict import predict_files

    truth = read_truth(annotations)
    listed = truth["images"][:limit]
    truth = with_images(truth, listed)
    predictor = load_predictor(weights, device)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("predict", total=len(listed))
        found = predict_files(
            predictor, listed, images, lambda done, _all: progress.update(task, completed=done)
        )
    report = evaluate_keypoints(
        truth, found, skeleton=predictor.skeleton, protocol=protocol_of(truth)
    )
    official = OFFICIAL_FILES.get(weights)
    published = {} if official is None else official.published
    if as_json:
        print(json.dumps({"measured": report.metrics, "published": dict(published)}))
        return
    table = Table("", "measured", "published", "difference")
    for name, value in report.metrics.items():
        figure = published.get(name)
        beside = ("", "") if figure is None else (f"{figure:.3f}", f"{value - figure:+.4f}")
        table.add_row(name, f"{value:.4f}", *beside)
    Console().print(table)
    print(f"{report.num_images} pictures, {report.num_people} people, {report.protocol} protocol")
    if official is not None:
        print(f"published: {official.measured_on}, trained on {official.trained_on}")

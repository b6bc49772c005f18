"""DVC stage `inspect`: detections of the validation split -> which errors cost how much AP.

The stage is called `inspect`; a module of that name would hide the standard library's.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import typer

from pipelines.dvc_graph import data_digest
from pipelines.inspection import FiftyOneStatus, InspectedSplit, update_fiftyone
from pipelines.stage_run import stage_run
from rtmo.evaluation.config import InspectConfig
from rtmo.evaluation.contact_sheet import save_contact_sheet
from rtmo.evaluation.gallery import (
    largest_missed_people,
    most_confident_background,
    worst_people,
)
from rtmo.evaluation.impact import Impact, impact
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.plots import save_errors
from rtmo.evaluation.report import Gallery, Subject, counts, render_report
from rtmo.evaluation.sensitivity import error_shares
from rtmo.evaluation.taxonomy import classify
from rtmo.store import Store

SMALL_GALLERY = 8
"""Missed people and confident background detections in the report."""

log = logging.getLogger(__name__)


def inspect_errors(
    folder: Path, detections: Path, out: Path, config: InspectConfig, shown_images: Path
) -> Impact:
    """Classify every error of a split, show it in a page, in pictures and in FiftyOne.

    Writes `metrics.json`, `report.html`, `errors.png`, `worst_people.png`, `fiftyone/`. Where
    FiftyOne's database cannot be used, `fiftyone/status.json` says why and the rest is written.

    Args:
        folder: the split's store.
        detections: COCO result list of the split.
        out: where to write.
        config: how much to show.
        shown_images: folder for the JPEGs that FiftyOne shows; its name tells the data version.

    Raises:
        ValueError: if the detections are not of this split.
    """
    store = Store.open(folder)
    skeleton = store.skeleton
    truth = read_ground_truth(store.to_coco(), skeleton, store.meta.protocol)
    found = read_detections(_result_list(detections), truth, skeleton)
    errors = classify(truth, found, skeleton)
    cost = impact(truth, found, errors, skeleton)
    split = InspectedSplit(
        f"{store.meta.dataset}-{store.meta.split}-{shown_images.name}", store, truth, found, errors
    )
    status = _show_in_fiftyone(split, config.fiftyone_images, shown_images, out / "fiftyone")

    worst = worst_people(truth, found, errors, config.worst_people)
    title = f"{store.meta.dataset}, {store.meta.split}"
    subject = Subject(title, skeleton, truth, found, errors, cost)
    galleries = (
        Gallery(
            "Worst people",
            "Found with confidence and placed badly: score times (1 - OKS) is highest.",
            worst,
        ),
        Gallery(
            "Missed people",
            "The largest people whom no detection is about.",
            largest_missed_people(truth, errors, SMALL_GALLERY),
        ),
        Gallery(
            "Confident background",
            "Detections of nobody with the highest scores.",
            most_confident_background(found, errors, SMALL_GALLERY),
        ),
    )
    page = render_report(subject, galleries, store.read_image, _fiftyone_words(status))
    (out / "report.html").write_text(page, encoding="utf-8")
    save_errors(errors, cost, out / "errors.png")
    save_contact_sheet(subject, worst, store.read_image, out / "worst_people.png")
    _write_json(out / "metrics.json", _metrics(subject))
    return cost


def _result_list(path: Path) -> list[dict[str, Any]]:
    """The result list of a file.

    Raises:
        ValueError: if the file holds anything else.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, list):
        raise ValueError(  # noqa: TRY004 - a bad file, not a bad call
            f"{path} holds a {type(content).__name__}, expected a list of COCO results; "
            "run `dvc repro evaluate`"
        )
    return content


def _show_in_fiftyone(
    split: InspectedSplit, max_images: int, shown_images: Path, out: Path
) -> FiftyOneStatus:
    status = update_fiftyone(split, max_images, shown_images, out)
    out.mkdir(exist_ok=True)
    (out / "status.json").write_text(status.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return status


def _fiftyone_words(status: FiftyOneStatus) -> str:
    if status.status == "unavailable":
        return f"There is no FiftyOne dataset: {status.reason}."
    return f"In FiftyOne this is the dataset {status.dataset} ({status.images} images)."


def _metrics(subject: Subject) -> dict[str, Any]:
    """Counts, shares of labelled keypoints and AP by correction, as a DVC metric."""
    cost = subject.impact
    shares = error_shares(subject.errors.keypoints)
    return {
        "AP": cost.ap,
        **counts(subject.truth, subject.errors),
        "keypoints": {error.name.lower(): share for error, share in shares.items()},
        "gain_alone": {step: ap - cost.ap for step, ap in cost.alone.items()},
        "AP_in_turn": cost.progressive,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Inspect the errors of the evaluated model on the dataset of `params.yaml`."""
    with stage_run("inspect") as run:
        version = (data_digest(run.paths.root) or "unversioned")[:12]
        with run.publish(run.paths.report("inspect")) as out:
            inspect_errors(
                run.paths.processed(run.params.data.dataset) / "val",
                run.paths.report("evaluate") / "detections.json",
                out,
                run.params.inspect,
                run.paths.runs / "inspect" / version,
            )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    typer.run(main)

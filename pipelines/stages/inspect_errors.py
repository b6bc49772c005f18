"""DVC stage `inspect`: detections of the validation split -> which errors cost how much AP.

The stage is called `inspect`; a module of that name would hide the standard library's.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from pipelines.dvc_graph import data_digest
from pipelines.inspection.dataset import FiftyOneStatus, update_fiftyone
from pipelines.inspection.split import InspectedSplit, ShownModel
from pipelines.registry.comparison import GateData
from pipelines.registry.reference import NoReference, Reference, champion_reference
from pipelines.stage_run import stage_run
from pipelines.worded_errors import without_traceback
from rtmo.evaluation.config import InspectConfig
from rtmo.evaluation.contact_sheet import save_contact_sheet
from rtmo.evaluation.faces import blur_words, blurred_reader
from rtmo.evaluation.gallery import (
    cases_of,
    largest_missed_people,
    most_confident_background,
    worst_people,
)
from rtmo.evaluation.head_to_head import head_to_head
from rtmo.evaluation.impact import Impact, impact
from rtmo.evaluation.inputs import GroundTruth, read_detections, read_ground_truth
from rtmo.evaluation.plots import save_errors
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.report import Gallery, counts, render_report
from rtmo.evaluation.sensitivity import error_shares
from rtmo.evaluation.subject import Champion, Subject
from rtmo.evaluation.taxonomy import Outcome, classify
from rtmo.skeleton import Skeleton
from rtmo.store import Store

SMALL_GALLERY = 8
"""Missed people and confident background detections in the report."""

log = logging.getLogger(__name__)


def inspect_errors(
    folder: Path,
    detections: Path,
    out: Path,
    config: InspectConfig,
    shown_images: Path,
    reference: Reference | NoReference,
) -> Impact:
    """Classify every error of a split, show it in a page, in pictures and in FiftyOne.

    Writes `metrics.json`, `report.html`, `errors.png`, `worst_people.png`, `champion.json`,
    `fiftyone/`. Where FiftyOne's database cannot be used, `fiftyone/status.json` says why and the
    rest is written. Faces are blurred in every picture but FiftyOne's, which stay on this machine,
    unless the data are public.

    Args:
        folder: the split's store.
        detections: COCO result list of the split.
        out: where to write.
        config: how much to show.
        shown_images: folder for the JPEGs that FiftyOne shows; its name tells the data version.
        reference: the champion's detections, or why there are none.

    Raises:
        ValueError: if the detections are not of this split.
    """
    store = Store.open(folder)
    skeleton = store.skeleton
    truth = read_ground_truth(store.to_coco(), skeleton, store.meta.protocol)
    found = read_detections(_result_list(detections), truth, skeleton)
    errors = classify(truth, found, skeleton)
    cost = impact(truth, found, errors, skeleton)
    champion = _compared(reference, truth, Outcome(found, errors), skeleton)
    title = f"{store.meta.dataset}, {store.meta.split}"
    subject = Subject(title, skeleton, truth, store.sizes_hw, found, errors, cost, champion)
    split = InspectedSplit(
        f"{store.meta.dataset}-{store.meta.split}-{shown_images.name}",
        store,
        truth,
        found,
        errors,
        None if champion is None else ShownModel(champion.name, champion.outcome, champion.changes),
    )
    status = _show_in_fiftyone(split, config.fiftyone_images, shown_images, out / "fiftyone")
    read_image, blur_remarks = _shown_pictures(store, subject)

    worst = worst_people(truth, found, errors, config.worst_people)
    galleries = (
        *_changed_people(subject),
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
    remarks = (*blur_remarks, _reference_words(reference), _fiftyone_words(status))
    page = render_report(subject, galleries, read_image, remarks)
    (out / "report.html").write_text(page, encoding="utf-8")
    save_errors(errors, cost, out / "errors.png")
    save_contact_sheet(subject, worst, read_image, out / "worst_people.png")
    _write_json(out / "metrics.json", _metrics(subject))
    (out / "champion.json").write_text(reference.model_dump_json() + "\n", encoding="utf-8")
    return cost


def _compared(
    reference: Reference | NoReference, truth: GroundTruth, model: Outcome, skeleton: Skeleton
) -> Champion | None:
    if isinstance(reference, NoReference):
        return None
    found = read_detections(reference.detections, truth, skeleton)
    errors = classify(truth, found, skeleton)
    theirs = Outcome(found, errors)
    return Champion(
        reference.name,
        theirs,
        impact(truth, found, errors, skeleton),
        head_to_head(truth, model, theirs),
    )


def _shown_pictures(
    store: Store, subject: Subject
) -> tuple[Callable[[int], np.ndarray], tuple[str, ...]]:
    """How pictures are read that leave the machine, and what is to be said about them."""
    if store.meta.pictures == "public":
        return store.read_image, ()
    found = [subject.found]
    if subject.champion is not None:
        found.append(subject.champion.outcome.found)
    read = blurred_reader(store.read_image, subject.truth, found, subject.skeleton)
    return read, (blur_words(subject.skeleton),)


def _changed_people(subject: Subject) -> tuple[Gallery, ...]:
    """People whom the champion had right and this model has wrong, and the reverse."""
    if subject.champion is None:
        return ()
    changes = subject.champion.changes
    return (
        Gallery(
            "Became wrong",
            f"People whom {subject.champion.name} has right and this model has wrong or misses.",
            cases_of(changes.became_wrong[:SMALL_GALLERY], subject.truth, subject.errors),
        ),
        Gallery(
            "Became right",
            f"People whom this model has right and {subject.champion.name} has wrong or misses.",
            cases_of(changes.became_right[:SMALL_GALLERY], subject.truth, subject.errors),
        ),
    )


def _reference_words(reference: Reference | NoReference) -> str:
    if isinstance(reference, NoReference):
        return f"Nothing is compared with a champion: {reference.reason}."
    return f"The champion, {reference.name}, answered through its registered ONNX file."


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
        "rates": error_rates(subject.truth, subject.errors),
        "keypoints": {error.name.lower(): share for error, share in shares.items()},
        "gain_alone": {step: ap - cost.ap for step, ap in cost.alone.items()},
        "AP_in_turn": cost.progressive,
        **({} if subject.champion is None else {"champion": _against(subject, subject.champion)}),
    }


def _against(subject: Subject, champion: Champion) -> dict[str, Any]:
    """The champion's figures, and how many people changed."""
    return {
        "AP": champion.impact.ap,
        "rates": error_rates(subject.truth, champion.outcome.errors),
        "became_right": len(champion.changes.became_right),
        "became_wrong": len(champion.changes.became_wrong),
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Inspect the errors of the evaluated model on the dataset of `params.yaml`."""
    with stage_run("inspect") as run:
        version = (data_digest(run.paths.root) or "unversioned")[:12]
        folder = run.paths.processed(run.params.data.dataset) / "val"
        digest = run.inputs.dependencies[folder.relative_to(run.paths.root).as_posix()]
        reference = champion_reference(
            run.paths,
            run.params,
            GateData(folder, digest, run.params.evaluate),
            run.paths.trained / "weights.safetensors",
        )
        with run.publish(run.paths.report("inspect")) as out:
            inspect_errors(
                folder,
                run.paths.report("evaluate") / "detections.json",
                out,
                run.params.inspect,
                run.paths.runs / "inspect" / version,
                reference,
            )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with without_traceback():
        typer.run(main)

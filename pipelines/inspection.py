"""Ground truth, predictions and their errors as a FiftyOne dataset: the only importer of FiftyOne.

FiftyOne displays; it computes nothing here. OKS is the evaluation's own (its keypoint similarity is
another one: no sigmas, extent of the points instead of area).
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rtmo._config import Config
from rtmo.evaluation.head_to_head import HeadToHead
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.sensitivity import num_overlapping
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError, Outcome
from rtmo.store import Store

if TYPE_CHECKING:
    import fiftyone as fo

log = logging.getLogger(__name__)

CONFIDENT_SCORE = 0.5
"""From here a detection of nobody is shown as confident."""

LARGE_AREA = 96.0**2
"""px^2; COCO's bound between medium and large people."""


CHAMPION_FIELD = "champion"
"""Field of the champion's boxes; its keypoints are in `champion_keypoints`."""

CHAMPION_FIELDS = (CHAMPION_FIELD, f"{CHAMPION_FIELD}_keypoints", "became_wrong", "became_right")

VIEWS = (
    ("worst people", "worst_cost", 0.0, "found with confidence and placed badly, worst first"),
    ("swaps in crowds", "num_swaps_crowded", 0.0, "swaps of people who overlap, most first"),
    ("swaps", "num_swaps", 0.0, "keypoints on another person, most first"),
    (
        "confident background",
        "background_score",
        CONFIDENT_SCORE,
        f"detections of nobody with a score above {CONFIDENT_SCORE}",
    ),
    (
        "missed large people",
        "largest_missed_area",
        LARGE_AREA,
        f"people above {LARGE_AREA:.0f} px^2 whom no detection is about",
    ),
)
"""Name, field that is matched and sorted by, lower bound, description."""

CHAMPION_VIEWS = (
    ("champion right, challenger wrong", "became_wrong", 0.0, "people who became wrong"),
    ("challenger right, champion wrong", "became_right", 0.0, "people who became right"),
)
"""As `VIEWS`; only with a champion."""


@dataclass(frozen=True, slots=True)
class ShownModel:
    """Another model on the same split."""

    name: str
    """As `version 3`."""
    outcome: Outcome
    changes: HeadToHead
    """People on whom it and the inspected model differ."""


@dataclass(frozen=True, slots=True)
class InspectedSplit:
    """One split with its detections and their errors."""

    name: str
    """Of the FiftyOne dataset: one per data version."""
    store: Store
    truth: GroundTruth
    found: Detections
    errors: Errors
    champion: ShownModel | None = None
    """The model that this one is compared with."""


class FiftyOneStatus(Config):
    """What became of the FiftyOne dataset."""

    status: Literal["available", "unavailable"]
    """Whether the dataset was written."""
    reason: str
    """Why not; empty where it was."""
    dataset: str
    """Its name in FiftyOne's database."""
    images: int
    """Images in it."""


def update_fiftyone(
    split: InspectedSplit, max_images: int, image_folder: Path, export_folder: Path
) -> FiftyOneStatus:
    """Bring the split's FiftyOne dataset up to date and export it; a second time changes nothing.

    The dataset is found by name. Ground truth, predictions and saved views are replaced; what a
    person added (tags, own fields, own views) stays. The database is the one named by
    FIFTYONE_DATABASE_URI, else FiftyOne's own, on loopback.

    Args:
        split: what to show.
        max_images: images in the dataset at most, by id.
        image_folder: where the JPEGs that FiftyOne shows are written; it must stay.
        export_folder: where the dataset is exported to, without images.

    Returns:
        `unavailable` with the reason where FiftyOne is not installed or its database cannot start.
    """
    try:
        fiftyone = _connected_fiftyone()
    except FiftyOneUnavailableError as error:
        log.warning("FiftyOne is unavailable: %s", error)
        return FiftyOneStatus(status="unavailable", reason=str(error), dataset=split.name, images=0)
    rows = range(min(len(split.store), max_images))
    dataset = _dataset(fiftyone, split)
    _add_images(fiftyone, dataset, split.store, rows, image_folder)
    _set_fields(fiftyone, dataset, split, rows)
    _save_views(fiftyone, dataset, split)
    dataset.export(
        export_dir=str(export_folder),
        dataset_type=fiftyone.types.FiftyOneDataset,
        export_media=False,
        rel_dir=str(image_folder.resolve()),
        progress=False,
    )
    return FiftyOneStatus(status="available", reason="", dataset=split.name, images=len(rows))


class FiftyOneUnavailableError(RuntimeError):
    """FiftyOne cannot be used on this host; the message says why."""


def _connected_fiftyone() -> Any:  # noqa: ANN401 - the module
    """The module `fiftyone`, with a database that answers.

    Raises:
        FiftyOneUnavailableError: not installed, or no database.
    """
    # Read by FiftyOne when it is imported.
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    try:
        import fiftyone
        from fiftyone.core.config import FiftyOneConfigError
        from fiftyone.core.service import ServiceException
        from pymongo.errors import PyMongoError
    except ImportError as error:
        raise FiftyOneUnavailableError(f"not installed ({error})") from error
    try:
        fiftyone.list_datasets()
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FiftyOneUnavailableError(
            f"its database does not start or answer ({type(error).__name__}: {reason})"
        ) from error
    return fiftyone


def _dataset(fiftyone: Any, split: InspectedSplit) -> fo.Dataset:  # noqa: ANN401 - the module
    """The dataset of this data version, made if there is none."""
    if fiftyone.dataset_exists(split.name):
        dataset = fiftyone.load_dataset(split.name)
    else:
        dataset = fiftyone.Dataset(split.name, persistent=True)
        dataset.add_sample_field("image_id", fiftyone.IntField)
        dataset.create_index("image_id", unique=True)
    meta = split.store.meta
    dataset.info = {
        "dataset": meta.dataset,
        "split": meta.split,
        "protocol": meta.protocol,
        "error_rates": _rates_of_models(split),
    }
    dataset.default_skeleton = fiftyone.KeypointSkeleton(
        labels=list(meta.skeleton.keypoints), edges=[list(limb) for limb in meta.skeleton.limbs]
    )
    dataset.save()
    return dataset


def _rates_of_models(split: InspectedSplit) -> dict[str, dict[str, float]]:
    """Error rates by model, to compare the two beside the pictures."""
    rates = {"predictions": error_rates(split.truth, split.errors)}
    if split.champion is not None:
        theirs = split.champion.outcome.errors
        rates[f"{CHAMPION_FIELD} ({split.champion.name})"] = error_rates(split.truth, theirs)
    return rates


def _add_images(
    fiftyone: Any,  # noqa: ANN401 - the module
    dataset: fo.Dataset,
    store: Store,
    rows: range,
    image_folder: Path,
) -> None:
    """Write the JPEGs and add those that the dataset does not have yet."""
    image_folder.mkdir(parents=True, exist_ok=True)
    known = set(dataset.values("image_id"))
    samples = []
    for row in rows:
        image_id = int(store.image_ids[row])
        path = (image_folder / f"{image_id}.jpg").resolve()
        if not path.exists():
            unfinished = path.with_suffix(".part")
            unfinished.write_bytes(store.image_bytes(row).tobytes())
            unfinished.rename(path)
        if image_id not in known:
            samples.append(
                fiftyone.Sample(filepath=str(path), image_id=image_id, name=store.file_name(row))
            )
    dataset.add_samples(samples, progress=False)


def _set_fields(
    fiftyone: Any,  # noqa: ANN401 - the module
    dataset: fo.Dataset,
    split: InspectedSplit,
    rows: range,
) -> None:
    """Labels of ground truth and predictions, and per image the figures that views sort by."""
    fields: dict[str, dict[int, Any]] = {}
    models = {"predictions": ("challenger", Outcome(split.found, split.errors))}
    is_crowded = num_overlapping(split.truth) > 0
    if split.champion is not None:
        models[CHAMPION_FIELD] = (split.champion.name, split.champion.outcome)
    for row in rows:
        image_id = int(split.store.image_ids[row])
        people = np.flatnonzero(split.truth.image == row)
        detected = np.flatnonzero(split.found.image[split.errors.detections] == row)
        truth_boxes, truth_keypoints = _truth_labels(fiftyone, split, row, people)
        values = {
            "ground_truth": fiftyone.Detections(detections=truth_boxes),
            "ground_truth_keypoints": fiftyone.Keypoints(keypoints=truth_keypoints),
            **_image_figures(split, people, detected, is_crowded),
        }
        for field, (model, outcome) in models.items():
            boxes, keypoints = _prediction_labels(fiftyone, split, row, model, outcome)
            values[field] = fiftyone.Detections(detections=boxes)
            values[f"{field}_keypoints"] = fiftyone.Keypoints(keypoints=keypoints)
        for name, value in values.items():
            fields.setdefault(name, {})[image_id] = value
    for name, by_image in fields.items():
        dataset.set_values(name, by_image, key_field="image_id", dynamic=True, progress=False)


def _truth_labels(
    fiftyone: Any,  # noqa: ANN401 - the module
    split: InspectedSplit,
    row: int,
    people: np.ndarray,
) -> tuple[list[Any], list[Any]]:
    """Annotated people of one image: boxes, and keypoints with NaN where nothing is labelled."""
    truth, errors = split.truth, split.errors
    size_wh = split.store.sizes_hw[row][::-1]
    boxes, keypoints = [], []
    for person in people.tolist():
        found = np.flatnonzero((errors.person == person) & (errors.kind == DetectionKind.FOUND))
        fields = {
            "label": "crowd" if truth.is_crowd[person] else "person",
            "annotation_id": int(truth.ids[person]),
            "area": float(truth.areas[person]),
            "num_keypoints": int(truth.num_keypoints[person]),
            "oks": float(errors.oks[found[0]]) if len(found) else 0.0,
            "outcome": _outcome(truth, person, found),
        }
        visibility = truth.keypoints[person, :, 2]
        points = np.where(visibility[:, None] > 0, truth.keypoints[person, :, :2], np.nan)
        boxes.append(_box(fiftyone, truth.boxes_xywh[person], size_wh, fields))
        keypoints.append(
            fiftyone.Keypoint(
                points=(points / size_wh).tolist(),
                visibility=visibility.astype(int).tolist(),
                **fields,
            )
        )
    return boxes, keypoints


def _outcome(truth: GroundTruth, person: int, found: np.ndarray) -> str:
    if truth.is_ignored[person]:
        return "ignored"
    return "found" if len(found) else "missed"


def _prediction_labels(
    fiftyone: Any,  # noqa: ANN401 - the module
    split: InspectedSplit,
    row: int,
    model: str,
    outcome: Outcome,
) -> tuple[list[Any], list[Any]]:
    """A model's detections of one image, with the error of each and of each of its keypoints."""
    found, errors = outcome.found, outcome.errors
    detected = np.flatnonzero(found.image[errors.detections] == row)
    size_wh = split.store.sizes_hw[row][::-1]
    boxes, keypoints = [], []
    for error in detected.tolist():
        detection, person = errors.detections[error], errors.person[error]
        fields = {
            "label": "person",
            "model": model,
            "outcome": DetectionKind(errors.kind[error]).name.lower(),
            "oks": float(errors.oks[error]),
            "annotation_id": int(split.truth.ids[person]) if person >= 0 else None,
            "score": float(found.scores[detection]),
        }
        boxes.append(_box(fiftyone, found.boxes_xywh[detection], size_wh, fields))
        keypoints.append(
            fiftyone.Keypoint(
                points=(found.keypoints[detection, :, :2] / size_wh).tolist(),
                confidence=found.keypoints[detection, :, 2].tolist(),
                errors=[KeypointError(value).name.lower() for value in errors.keypoints[error]],
                **fields,
            )
        )
    return boxes, keypoints


def _box(
    fiftyone: Any,  # noqa: ANN401 - the module
    box_xywh: np.ndarray,
    size_wh: np.ndarray,
    fields: dict[str, Any],
) -> Any:  # noqa: ANN401 - a label of FiftyOne
    box = (box_xywh.reshape(2, 2) / size_wh).ravel().tolist()
    return fiftyone.Detection(bounding_box=box, confidence=fields.get("score"), **fields)


def _image_figures(
    split: InspectedSplit, people: np.ndarray, detected: np.ndarray, is_crowded: np.ndarray
) -> dict[str, float]:
    """What the saved views select and sort by."""
    found, errors = split.found, split.errors
    scores = found.scores[errors.detections[detected]]
    kind = errors.kind[detected]
    cost = np.where(kind == DetectionKind.FOUND, scores * (1 - errors.oks[detected]), 0.0)
    missed = np.intersect1d(people, errors.missed)
    found_here = detected[kind == DetectionKind.FOUND]
    crowded = found_here[is_crowded[errors.person[found_here]]]
    return {
        "worst_cost": float(cost.max(initial=0.0)),
        "num_swaps": int((errors.keypoints[detected] == KeypointError.SWAP).sum()),
        "num_swaps_crowded": int((errors.keypoints[crowded] == KeypointError.SWAP).sum()),
        "background_score": float(scores[kind == DetectionKind.BACKGROUND].max(initial=0.0)),
        "largest_missed_area": float(split.truth.areas[missed].max(initial=0.0)),
        **_change_figures(split, people),
    }


def _change_figures(split: InspectedSplit, people: np.ndarray) -> dict[str, float]:
    """How many people of an image became wrong and right; nothing without a champion."""
    if split.champion is None:
        return {}
    changes = split.champion.changes
    return {
        "became_wrong": len(np.intersect1d(people, changes.became_wrong)),
        "became_right": len(np.intersect1d(people, changes.became_right)),
    }


def _save_views(fiftyone: Any, dataset: fo.Dataset, split: InspectedSplit) -> None:  # noqa: ANN401
    """The views a person opens first; saved again under the same names."""
    views = VIEWS if split.champion is None else (*VIEWS, *CHAMPION_VIEWS)
    for name, field, above, description in views:
        view = dataset.match(fiftyone.ViewField(field) > above).sort_by(field, reverse=True)
        dataset.save_view(name, view, description=description, overwrite=True)
    if split.champion is None:
        _remove_comparison(dataset)


def _remove_comparison(dataset: fo.Dataset) -> None:
    """Take away what an earlier inspection with a champion left."""
    for name, *_ in CHAMPION_VIEWS:
        if dataset.has_saved_view(name):
            dataset.delete_saved_view(name)
    dataset.delete_sample_fields(
        [field for field in CHAMPION_FIELDS if dataset.has_sample_field(field)]
    )

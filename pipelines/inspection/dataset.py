"""The FiftyOne dataset of a data version, brought up to date and exported."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipelines.inspection.connection import FiftyOneUnavailableError, connected_fiftyone
from pipelines.inspection.evaluation_runs import forget_run, save_runs
from pipelines.inspection.labels import prediction_labels, truth_labels
from pipelines.inspection.split import CHAMPION_FIELD, PREDICTIONS_FIELD, InspectedSplit
from pipelines.inspection.views import image_figures, remove_comparison_views, save_views
from rtmo._config import Config
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.sensitivity import num_overlapping
from rtmo.store import Store

if TYPE_CHECKING:
    import fiftyone as fo

log = logging.getLogger(__name__)

CHAMPION_FIELDS = (CHAMPION_FIELD, f"{CHAMPION_FIELD}_keypoints", "became_wrong", "became_right")
"""Of a sample; only with a champion."""

COLOURS = {"ground_truth": "#2fbf71", PREDICTIONS_FIELD: "#ff8c42", CHAMPION_FIELD: "#c77dff"}
"""Of boxes and keypoints in the App, which else are hard to tell apart."""


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

    The dataset is found by name. Ground truth, predictions, evaluation runs and saved views are
    replaced; what a person added (tags, own fields, own views) stays. The database is the one named
    by FIFTYONE_DATABASE_URI, else FiftyOne's own, on loopback.

    Args:
        split: what to show.
        max_images: images in the dataset at most, by id.
        image_folder: where the JPEGs that FiftyOne shows are written; it must stay.
        export_folder: where the dataset is exported to, without images.

    Returns:
        `unavailable` with the reason where FiftyOne is not installed or its database cannot start.
    """
    try:
        fiftyone = connected_fiftyone()
    except FiftyOneUnavailableError as error:
        log.warning("FiftyOne is unavailable: %s", error)
        return FiftyOneStatus(status="unavailable", reason=str(error), dataset=split.name, images=0)
    rows = range(min(len(split.store), max_images))
    dataset = _dataset(fiftyone, split)
    _add_images(fiftyone, dataset, split.store, rows, image_folder)
    _set_fields(fiftyone, dataset, split, rows)
    save_runs(dataset, split, rows)
    save_views(fiftyone, dataset, split)
    if split.champion is None:
        _remove_comparison(dataset)
    dataset.export(
        export_dir=str(export_folder),
        dataset_type=fiftyone.types.FiftyOneDataset,
        export_media=False,
        rel_dir=str(image_folder.resolve()),
        progress=False,
    )
    return FiftyOneStatus(status="available", reason="", dataset=split.name, images=len(rows))


def _dataset(fiftyone: Any, split: InspectedSplit) -> fo.Dataset:  # noqa: ANN401 - the module
    """The dataset of this data version, made if there is none."""
    if fiftyone.dataset_exists(split.name):
        dataset = fiftyone.load_dataset(split.name)
    else:
        dataset = fiftyone.Dataset(split.name, persistent=True)
        dataset.add_sample_field("image_id", fiftyone.IntField)
        dataset.create_index("image_id", unique=True)
        # Only at first: who chooses other colours keeps them.
        dataset.app_config.color_scheme = fiftyone.ColorScheme(
            fields=[
                {"path": path, "fieldColor": colour}
                for field, colour in COLOURS.items()
                for path in (field, f"{field}_keypoints")
            ]
        )
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
    return {
        f"{field} ({model})": error_rates(split.truth, outcome.errors)
        for field, (model, outcome) in split.models.items()
    }


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
    is_crowded = num_overlapping(split.truth) > 0
    for row in rows:
        image_id = int(split.store.image_ids[row])
        people = np.flatnonzero(split.truth.image == row)
        detected = np.flatnonzero(split.found.image[split.errors.detections] == row)
        truth_boxes, truth_keypoints = truth_labels(fiftyone, split, row, people)
        values = {
            "ground_truth": fiftyone.Detections(detections=truth_boxes),
            "ground_truth_keypoints": fiftyone.Keypoints(keypoints=truth_keypoints),
            **image_figures(split, people, detected, is_crowded),
        }
        for field, (model, outcome) in split.models.items():
            boxes, keypoints = prediction_labels(fiftyone, split, row, model, outcome)
            values[field] = fiftyone.Detections(detections=boxes)
            values[f"{field}_keypoints"] = fiftyone.Keypoints(keypoints=keypoints)
        for name, value in values.items():
            fields.setdefault(name, {})[image_id] = value
    for name, by_image in fields.items():
        dataset.set_values(name, by_image, key_field="image_id", dynamic=True, progress=False)


def _remove_comparison(dataset: fo.Dataset) -> None:
    """Take away what an earlier inspection with a champion left."""
    forget_run(dataset, CHAMPION_FIELD)
    remove_comparison_views(dataset)
    dataset.delete_sample_fields(
        [field for field in CHAMPION_FIELDS if dataset.has_sample_field(field)]
    )

"""People and detections of one image as FiftyOne's labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.inspection.split import InspectedSplit
from rtmo.evaluation.inputs import GroundTruth
from rtmo.evaluation.taxonomy import DetectionKind, KeypointError, Outcome


def truth_labels(
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


def prediction_labels(
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


def _outcome(truth: GroundTruth, person: int, found: np.ndarray) -> str:
    if truth.is_ignored[person]:
        return "ignored"
    return "found" if len(found) else "missed"


def _box(
    fiftyone: Any,  # noqa: ANN401 - the module
    box_xywh: np.ndarray,
    size_wh: np.ndarray,
    fields: dict[str, Any],
) -> Any:  # noqa: ANN401 - a label of FiftyOne
    box = (box_xywh.reshape(2, 2) / size_wh).ravel().tolist()
    return fiftyone.Detection(bounding_box=box, confidence=fields.get("score"), **fields)

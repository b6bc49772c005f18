"""Which people and detections are worth a look, and which part of the picture shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.taxonomy import DetectionKind, Errors

MARGIN = 0.15
"""Picture shown around a person, as a share of the larger side."""

REACH = 0.75
"""How far beyond the annotated box a detection may widen the crop, as a share of its sides."""


@dataclass(frozen=True, slots=True)
class Case:
    """One person, one detection, or both where the detection is of the person."""

    image: int
    """Index of the image in the split."""
    person: int | None
    """Row of `GroundTruth`; None for a detection of nobody."""
    error: int | None
    """Row of `Errors`; None for a missed person."""


def worst_people(
    truth: GroundTruth, found: Detections, errors: Errors, count: int
) -> tuple[Case, ...]:
    """Found people who cost most: the product of detection score and 1 - OKS is highest."""
    rows = np.flatnonzero(errors.kind == DetectionKind.FOUND)
    cost = found.scores[errors.detections[rows]] * (1 - errors.oks[rows])
    worst = rows[np.argsort(-cost, kind="stable")[:count]]
    return tuple(
        Case(int(truth.image[errors.person[row]]), int(errors.person[row]), int(row))
        for row in worst
    )


def cases_of(people: np.ndarray, truth: GroundTruth, errors: Errors) -> tuple[Case, ...]:
    """The given people (rows of `GroundTruth`), each with the detection that found them if any."""
    found = np.flatnonzero(errors.kind == DetectionKind.FOUND)
    row_of = dict(zip(errors.person[found].tolist(), found.tolist(), strict=True))
    return tuple(
        Case(int(truth.image[person]), person, row_of.get(person)) for person in people.tolist()
    )


def largest_missed_people(truth: GroundTruth, errors: Errors, count: int) -> tuple[Case, ...]:
    """Missed people, the largest first."""
    order = np.argsort(-truth.areas[errors.missed], kind="stable")[:count]
    return tuple(
        Case(int(truth.image[person]), int(person), None) for person in errors.missed[order]
    )


def most_confident_background(found: Detections, errors: Errors, count: int) -> tuple[Case, ...]:
    """Detections of nobody, the highest score first."""
    rows = np.flatnonzero(errors.kind == DetectionKind.BACKGROUND)
    scores = found.scores[errors.detections[rows]]
    return tuple(
        Case(int(found.image[errors.detections[row]]), None, int(row))
        for row in rows[np.argsort(-scores, kind="stable")[:count]]
    )


def crop_xyxy(
    case: Case, truth: GroundTruth, found: Detections, errors: Errors, size_hw: tuple[int, int]
) -> tuple[int, int, int, int]:
    """The part of the picture around the person and the detection, in whole pixels.

    A keypoint far off does not shrink the person to a dot: the crop follows the detection only
    so far (`REACH`).
    """
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    if case.error is not None:
        points = found.keypoints[errors.detections[case.error], :, :2]
        low, high = points.min(axis=0), points.max(axis=0)
    if case.person is not None:
        box = truth.boxes_xywh[case.person]
        box_low, box_high, reach = box[:2], box[:2] + box[2:], REACH * box[2:]
        low = np.minimum(np.maximum(low, box_low - reach), box_low)
        high = np.maximum(np.minimum(high, box_high + reach), box_high)
    margin = MARGIN * (high - low).max() + 2
    height, width = size_hw
    x1, y1 = np.clip(np.floor(low - margin), 0, (width - 2, height - 2)).astype(int).tolist()
    x2, y2 = np.ceil(high + margin).astype(int).tolist()
    return x1, y1, min(max(x2, x1 + 2), width), min(max(y2, y1 + 2), height)

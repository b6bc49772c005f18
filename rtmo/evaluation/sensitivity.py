"""How often which error happens, for groups of people: by size, by number of labelled keypoints."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from rtmo.evaluation.inputs import GroundTruth
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError

SIZES = (
    ("small (area up to 32² px)", 0.0, 32.0**2),
    ("medium (up to 96² px)", 32.0**2, 96.0**2),
    ("large", 96.0**2, np.inf),
)
"""COCO's size classes by a person's area: name, above, up to."""


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """Errors among some of the people who count."""

    name: str
    num_people: int
    missed: float
    """Share of the people whom no detection is about."""
    keypoints: dict[KeypointError, float]
    """Share of the labelled keypoints of the found people, by error; zeros if there are none."""


def by_size(truth: GroundTruth, errors: Errors) -> tuple[GroupErrors, ...]:
    """Groups by area."""
    return tuple(
        _group(name, (truth.areas > above) & (truth.areas <= up_to), truth, errors)
        for name, above, up_to in SIZES
    )


def by_labelled_keypoints(truth: GroundTruth, errors: Errors) -> tuple[GroupErrors, ...]:
    """Groups by the number of labelled keypoints: up to a third, two thirds, and more of them."""
    num_keypoints = truth.keypoints.shape[1]
    labelled = truth.is_labelled.sum(axis=1)
    bounds = [round(num_keypoints * third / 3) for third in range(4)]
    return tuple(
        _group(
            f"{low + 1} to {high} keypoints", (labelled > low) & (labelled <= high), truth, errors
        )
        for low, high in itertools.pairwise(bounds)
        if low < high
    )


def error_shares(keypoint_errors: np.ndarray) -> dict[KeypointError, float]:
    """Share of each error among labelled keypoints, in an array of `KeypointError` of any shape."""
    counts = np.bincount(keypoint_errors.ravel(), minlength=len(KeypointError))
    counts = counts[: KeypointError.UNLABELLED]
    total = max(int(counts.sum()), 1)
    return {KeypointError(error): float(count / total) for error, count in enumerate(counts)}


def _group(name: str, is_member: np.ndarray, truth: GroundTruth, errors: Errors) -> GroupErrors:
    is_member = is_member & ~truth.is_ignored
    num_people = int(is_member.sum())
    found = (errors.kind == DetectionKind.FOUND) & is_member[errors.person]
    return GroupErrors(
        name,
        num_people,
        missed=float(is_member[errors.missed].sum() / max(num_people, 1)),
        keypoints=error_shares(errors.keypoints[found]),
    )

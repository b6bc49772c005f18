"""What errors and AP depend on: size, labelled keypoints, overlap, truncation, confidence.

Legend: P annotated people, I images, M detections that count.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.matching import candidates, match, split_ap
from rtmo.evaluation.protocol import CROWD_LEVELS
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError, Outcome
from rtmo.formats.overlap import box_ious
from rtmo.skeleton import Skeleton

SIZES = (
    ("small (area up to 32² px)", 0.0, 32.0**2),
    ("medium (up to 96² px)", 32.0**2, 96.0**2),
    ("large", 96.0**2, np.inf),
)
"""COCO's size classes by a person's area: name, above, up to."""


OVERLAP_IOU = 0.1
"""Box IoU from which two people overlap (Ronchi and Perona's number)."""

OVERLAPS = (("nobody", 0, 0), ("one or two people", 1, 2), ("three and more", 3, np.inf))
"""Groups by how many others a person overlaps: name, least, most."""

BORDER_PX = 2.0
"""A box this near the border of the picture is cut off by it."""

CONFIDENCES = (("below 0.3", 0.0, 0.3), ("0.3 to 0.6", 0.3, 0.6), ("from 0.6", 0.6, np.inf))
"""Groups of detections by score: name, least, below."""


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the people who count."""

    name: str
    is_member: np.ndarray
    """(P,) bool."""


@dataclass(frozen=True, slots=True)
class ConfidenceErrors:
    """Errors among detections of similar score."""

    name: str
    num_detections: int
    """Those of ignored people are left out."""
    background: float
    """Share that is of nobody."""
    score: float
    """Share about a person whom a better detection has found."""
    keypoints: dict[KeypointError, float]
    """Share of the labelled keypoints of the found people, by error; zeros if there are none."""


@dataclass(frozen=True, slots=True)
class GroupErrors:
    """Errors among some of the people who count."""

    name: str
    num_people: int
    ap: float | None
    """AP among them, without detections of nobody, which belong to no group; None for no people."""
    missed: float
    """Share of the people whom no detection is about."""
    keypoints: dict[KeypointError, float]
    """Share of the labelled keypoints of the found people, by error; zeros if there are none."""


def sizes(truth: GroundTruth) -> tuple[Group, ...]:
    """Groups by area."""
    return tuple(
        Group(name, (truth.areas > above) & (truth.areas <= up_to)) for name, above, up_to in SIZES
    )


def labelled_keypoints(truth: GroundTruth) -> tuple[Group, ...]:
    """Groups by the number of labelled keypoints: up to a third, two thirds, and more of them."""
    num_keypoints = truth.keypoints.shape[1]
    labelled = truth.is_labelled.sum(axis=1)
    bounds = [round(num_keypoints * third / 3) for third in range(4)]
    return tuple(
        Group(f"{low + 1} to {high} keypoints", (labelled > low) & (labelled <= high))
        for low, high in itertools.pairwise(bounds)
        if low < high
    )


def num_overlapping(truth: GroundTruth) -> np.ndarray:
    """(P,) how many other people's boxes each person's box overlaps; crowd regions are nobody."""
    overlapping = np.zeros(len(truth.ids), dtype=np.int64)
    people = np.flatnonzero(~truth.is_crowd)
    order = people[np.argsort(truth.image[people], kind="stable")]
    starts = np.flatnonzero(np.diff(truth.image[order])) + 1
    for rows in np.split(order, starts):
        ious = box_ious(truth.boxes_xywh[rows], truth.boxes_xywh[rows])
        overlapping[rows] = (ious >= OVERLAP_IOU).sum(axis=1) - (np.diag(ious) >= OVERLAP_IOU)
    return overlapping


def overlaps(truth: GroundTruth) -> tuple[Group, ...]:
    """Groups by how many other people a person overlaps."""
    number = num_overlapping(truth)
    return tuple(Group(name, (number >= low) & (number <= high)) for name, low, high in OVERLAPS)


def crowding(truth: GroundTruth) -> tuple[Group, ...]:
    """Groups by CrowdPose's crowdIndex of the picture; empty where the protocol has none."""
    if truth.crowd_index is None:
        return ()
    index = truth.crowd_index[truth.image]
    return tuple(
        Group(metric.removeprefix("AP_"), (index >= low) & (index < high))
        for metric, low, high in CROWD_LEVELS
    )


def truncation(truth: GroundTruth, sizes_hw: np.ndarray) -> tuple[Group, ...]:
    """Groups by whether the border of the picture cuts a person off.

    Args:
        truth: annotated people.
        sizes_hw: (I, 2) of the pictures, px.
    """
    low, high = truth.boxes_xywh[:, :2], truth.boxes_xywh[:, :2] + truth.boxes_xywh[:, 2:]
    size_wh = sizes_hw[truth.image][:, ::-1]
    is_cut = ((low <= BORDER_PX) | (high >= size_wh - BORDER_PX)).any(axis=1)
    return Group("inside the picture", ~is_cut), Group("cut off by its border", is_cut)


def group_errors(
    groups: Sequence[Group], truth: GroundTruth, outcome: Outcome, skeleton: Skeleton
) -> tuple[GroupErrors, ...]:
    """Errors and AP of each group."""
    return tuple(_group(group, truth, outcome, skeleton) for group in groups)


def by_confidence(outcome: Outcome) -> tuple[ConfidenceErrors, ...]:
    """Errors of detections by their score."""
    errors = outcome.errors
    scores = outcome.found.scores[errors.detections]
    return tuple(
        _confidence(name, (scores >= low) & (scores < high), errors)
        for name, low, high in CONFIDENCES
    )


def error_shares(keypoint_errors: np.ndarray) -> dict[KeypointError, float]:
    """Share of each error among labelled keypoints, in an array of `KeypointError` of any shape."""
    counts = np.bincount(keypoint_errors.ravel(), minlength=len(KeypointError))
    counts = counts[: KeypointError.UNLABELLED]
    total = max(int(counts.sum()), 1)
    return {KeypointError(error): float(count / total) for error, count in enumerate(counts)}


def _group(group: Group, truth: GroundTruth, outcome: Outcome, skeleton: Skeleton) -> GroupErrors:
    errors = outcome.errors
    is_member = group.is_member & ~truth.is_ignored
    num_people = int(is_member.sum())
    is_about = np.isin(errors.kind, (DetectionKind.FOUND, DetectionKind.SCORE))
    about = is_about & is_member[errors.person]
    found = about & (errors.kind == DetectionKind.FOUND)
    return GroupErrors(
        group.name,
        num_people,
        ap=_ap(is_member, about, truth, outcome, skeleton) if num_people else None,
        missed=float(is_member[errors.missed].sum() / max(num_people, 1)),
        keypoints=error_shares(errors.keypoints[found]),
    )


def _ap(
    is_member: np.ndarray,
    about: np.ndarray,
    truth: GroundTruth,
    outcome: Outcome,
    skeleton: Skeleton,
) -> float:
    """AP of the detections about a group's people, all others being ignored."""
    rows = outcome.errors.detections[about]
    found = outcome.found
    those = Detections(
        found.image[rows], found.keypoints[rows], found.scores[rows], found.boxes_xywh[rows]
    )
    people = replace(truth, num_keypoints=np.where(is_member, truth.num_keypoints, 0))
    return split_ap(match(people, those, candidates(people, those, np.array(skeleton.sigmas))))


def _confidence(name: str, is_in: np.ndarray, errors: Errors) -> ConfidenceErrors:
    kinds = errors.kind[is_in & (errors.kind != DetectionKind.IGNORED)]
    total = max(len(kinds), 1)
    found = is_in & (errors.kind == DetectionKind.FOUND)
    return ConfidenceErrors(
        name,
        len(kinds),
        background=float((kinds == DetectionKind.BACKGROUND).sum() / total),
        score=float((kinds == DetectionKind.SCORE).sum() / total),
        keypoints=error_shares(errors.keypoints[found]),
    )

"""COCO's matching of detections to people, for all images of a split at once.

pycocotools gives the official numbers (`keypoint_ap.py`). What has to be evaluated many times -
bootstrap samples, corrected errors - needs the same rule as arrays; a test holds the two together.

Legend: I images, D detections of an image (at most 20, best score first), G people of an image,
T OKS thresholds, M detections that count over all images. Rows are padded with -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.protocol import MAX_DETECTIONS, OKS_THRESHOLDS, RECALL_LEVELS
from rtmo.evaluation.similarity import paired_oks


@dataclass(frozen=True, slots=True)
class Candidates:
    """Every detection that counts beside every annotated person of its image."""

    detections: np.ndarray
    """(I, D) rows of `Detections`, best score first; -1 is padding."""
    people: np.ndarray
    """(I, G) rows of `GroundTruth`, in the annotation file's order; -1 is padding."""
    oks: np.ndarray
    """(I, D, G) float64; -1 is padding."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Which detection found whom, per OKS threshold."""

    detections: np.ndarray
    """(M,) rows of `Detections`: at most 20 per image, by image, best score first."""
    image: np.ndarray
    """(M,) index of the image."""
    scores: np.ndarray
    """(M,)."""
    person: np.ndarray
    """(T, M) row of `GroundTruth` the detection was matched to, or -1."""
    is_ignored: np.ndarray
    """(T, M) bool: matched to a person who does not count."""
    people_per_image: np.ndarray
    """(I,) people who count."""

    @property
    def is_hit(self) -> np.ndarray:
        """(T, M) bool: true positives."""
        return np.asarray((self.person >= 0) & ~self.is_ignored)

    @property
    def is_false(self) -> np.ndarray:
        """(T, M) bool: false positives."""
        return np.asarray(self.person < 0)


def candidates(truth: GroundTruth, found: Detections, sigmas: np.ndarray) -> Candidates:
    """Put the detections of each image beside its people and compute every OKS.

    Args:
        truth: annotated people.
        found: detections.
        sigmas: per keypoint, shape (K,).
    """
    num_images = len(truth.image_ids)
    detections = _rows_by_image(found.image, np.argsort(-found.scores, kind="stable"), num_images)
    detections = detections[:, :MAX_DETECTIONS]
    people = _rows_by_image(truth.image, np.arange(len(truth.image)), num_images)
    real = (detections[:, :, None] >= 0) & (people[:, None, :] >= 0)  # (I, D, G)
    image, rank, place = np.nonzero(real)
    oks = np.full(real.shape, -1.0)
    oks[real] = paired_oks(truth, found, people[image, place], detections[image, rank], sigmas)
    return Candidates(detections, people, oks)


def match(
    truth: GroundTruth,
    found: Detections,
    beside: Candidates,
    thresholds: np.ndarray = OKS_THRESHOLDS,
) -> Matches:
    """COCO's greedy matching, all areas.

    Best score first, a detection takes the free person of highest OKS at or above the threshold
    (the later one on a tie); only if no person who counts is left does it take an ignored one. A
    crowd region can be taken any number of times.

    Args:
        truth: annotated people.
        found: detections.
        beside: `candidates(truth, found, sigmas)`.
        thresholds: shape (T,).
    """
    num_images, num_ranks, _ = beside.oks.shape
    exists = beside.people >= 0  # (I, G)
    counts = exists & ~truth.is_ignored[beside.people]
    is_crowd = exists & truth.is_crowd[beside.people]
    floor = np.minimum(thresholds, 1 - 1e-10)[None, :, None]
    free = np.repeat(exists[:, None, :], len(thresholds), axis=1)  # (I, T, G)
    taken = np.full((num_images, num_ranks, len(thresholds)), -1)  # place in (0..G-1)
    for rank in range(num_ranks):
        oks = np.where(free, beside.oks[:, rank, None, :], -1.0)  # (I, T, G)
        oks[oks < floor] = -1.0
        place = _last_best(np.where(counts[:, None, :], oks, -1.0))
        place = np.where(place >= 0, place, _last_best(oks))  # only ignored people are left
        image, threshold = np.nonzero(place >= 0)
        chosen = place[image, threshold]
        taken[image, rank, threshold] = chosen
        free[image, threshold, chosen] = is_crowd[image, chosen]
    owner, order = np.nonzero(beside.detections >= 0)
    detections = beside.detections[owner, order]
    place = taken[owner, order].T  # (T, M)
    person = np.where(place >= 0, beside.people[owner, place], -1)
    return Matches(
        detections=detections,
        image=owner,
        scores=found.scores[detections],
        person=person,
        is_ignored=(person >= 0) & truth.is_ignored[person],
        people_per_image=counts.sum(axis=1),
    )


def average_precision(
    is_hit: np.ndarray, is_false: np.ndarray, weights: np.ndarray, num_people: float
) -> float:
    """Mean over thresholds and 101 recall levels of the interpolated precision.

    Args:
        is_hit: (T, M) true positives, columns by descending score.
        is_false: (T, M) false positives, likewise.
        weights: (M,) how often each detection's image occurs; 1 for the split itself.
        num_people: people who count, weighted likewise; positive.

    Returns:
        AP in [0, 1], equal to pycocotools' up to rounding.
    """
    if is_hit.shape[1] == 0:
        return 0.0
    hits = np.cumsum(is_hit * weights, axis=1)
    precision = hits / (hits + np.cumsum(is_false * weights, axis=1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for row, recall in zip(precision, hits / num_people, strict=True):
        index = np.searchsorted(recall, RECALL_LEVELS, side="left")
        total += float(row[index[index < len(row)]].sum())
    return total / (len(precision) * len(RECALL_LEVELS))


def split_ap(matches: Matches) -> float:
    """AP of the matched split itself."""
    order = np.argsort(-matches.scores, kind="stable")
    return average_precision(
        matches.is_hit[:, order],
        matches.is_false[:, order],
        np.ones(len(order)),
        float(matches.people_per_image.sum()),
    )


def _rows_by_image(image: np.ndarray, order: np.ndarray, num_images: int) -> np.ndarray:
    """(I, longest) the given rows grouped by image in the given order, padded with -1."""
    order = order[np.argsort(image[order], kind="stable")]
    counts = np.bincount(image, minlength=num_images)
    starts = np.cumsum(counts) - counts
    table = np.full((num_images, counts.max(initial=0)), -1)
    table[image[order], np.arange(len(order)) - starts[image[order]]] = order
    return table


def _last_best(values: np.ndarray) -> np.ndarray:
    """(I, T) place of the largest value along the last axis, the later on a tie; -1 if below 0."""
    place = values.shape[-1] - 1 - np.argmax(values[..., ::-1], axis=-1)
    best = np.take_along_axis(values, place[..., None], axis=-1)[..., 0]
    return np.where(best >= 0, place, -1)

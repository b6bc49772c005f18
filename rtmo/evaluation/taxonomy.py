"""What kind of mistake each detection and each of its keypoints is.

After Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation"
(ICCV 2017, https://arxiv.org/abs/1707.05388), for any skeleton.

Legend: M detections that count, K keypoints, P annotated people, I images, G people of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.matching import Candidates, candidates, match
from rtmo.evaluation.similarity import keypoint_similarity
from rtmo.skeleton import Skeleton

GOOD_SIMILARITY = 0.85
"""Keypoint similarity from which a keypoint is good: within human annotators' spread."""

NEAR_SIMILARITY = 0.5
"""Keypoint similarity from which a keypoint is near a body part."""

LOCALISED_OKS = 0.1
"""OKS from which a detection is about a person at all."""

MATCHES_AT_ONCE = 2048
"""Bounds the memory of the comparison with all other people of the image."""


class KeypointError(IntEnum):
    """How a keypoint of a found person is placed."""

    GOOD = 0
    """Similarity to the true place at least 0.85."""
    JITTER = 1
    """At least 0.5: the right place, not precisely."""
    INVERSION = 2
    """On the same person's mirrored body part."""
    SWAP = 3
    """On the same or the mirrored body part of another person."""
    MISS = 4
    """Near none of these."""
    UNLABELLED = 5
    """The person has no label for it, or the detection is of no person."""


class DetectionKind(IntEnum):
    """What a detection is about."""

    FOUND = 0
    """A person who counts; its keypoints have errors of their own."""
    SCORE = 1
    """A person whom a detection of higher score has found already."""
    BACKGROUND = 2
    """Nobody."""
    IGNORED = 3
    """A crowd region or a person without keypoints: neither right nor wrong."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Every detection that counts and every missed person, by kind of error."""

    detections: np.ndarray
    """(M,) rows of `Detections`: at most 20 per image, by image, best score first."""
    kind: np.ndarray
    """(M,) `DetectionKind`."""
    person: np.ndarray
    """(M,) row of `GroundTruth` of the person it is about (also for SCORE); -1 for BACKGROUND."""
    oks: np.ndarray
    """(M,) OKS with that person; for BACKGROUND with the nearest person who counts, or 0."""
    keypoints: np.ndarray
    """(M, K) `KeypointError`."""
    missed: np.ndarray
    """Rows of `GroundTruth`: people who count and whom no detection is about."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model found on a split, and the errors in it."""

    found: Detections
    errors: Errors


def classify(truth: GroundTruth, found: Detections, skeleton: Skeleton) -> Errors:
    """Name the error of every detection and keypoint.

    Detections are matched to people as in COCO's evaluation, at OKS 0.1. A keypoint that is not
    near its true place is an inversion or a swap by what it is nearest to, else a miss. Nearness
    to another person's keypoint is measured with that person's area.

    Args:
        truth: annotated people.
        found: detections.
        skeleton: gives sigmas and mirrored body parts.
    """
    sigmas = np.array(skeleton.sigmas)
    beside = candidates(truth, found, sigmas)
    matches = match(truth, found, beside, np.array([LOCALISED_OKS]))
    matched, is_ignored = matches.person[0], matches.is_ignored[0]
    nearest, nearest_oks = _nearest_who_counts(truth, beside)
    is_found = (matched >= 0) & ~is_ignored
    kind = np.select(
        [is_found, is_ignored, nearest_oks >= LOCALISED_OKS],
        [DetectionKind.FOUND, DetectionKind.IGNORED, DetectionKind.SCORE],
        DetectionKind.BACKGROUND,
    )
    person = np.where(kind == DetectionKind.SCORE, nearest, matched)
    keypoints = np.full((len(kind), skeleton.num_keypoints), KeypointError.UNLABELLED)
    keypoints[is_found] = _keypoint_errors(
        truth,
        found.keypoints[matches.detections[is_found], :, :2],
        matched[is_found],
        beside.people[matches.image[is_found]],
        skeleton,
    )
    counts = np.flatnonzero(~truth.is_ignored)
    return Errors(
        detections=matches.detections,
        kind=kind,
        person=person,
        oks=np.where(matched >= 0, _matched_oks(beside, matched), nearest_oks),
        keypoints=keypoints,
        missed=np.setdiff1d(counts, matched[is_found]),
    )


def _nearest_who_counts(truth: GroundTruth, beside: Candidates) -> tuple[np.ndarray, np.ndarray]:
    """(M,) person who counts with the highest OKS, and (M,) that OKS; -1 and 0 for nobody."""
    counts = (beside.people >= 0) & ~truth.is_ignored[beside.people]  # (I, G)
    oks = np.where(counts[:, None, :], beside.oks, -1.0)  # (I, D, G)
    image, rank = np.nonzero(beside.detections >= 0)
    place = oks.argmax(axis=2)[image, rank]
    best = oks[image, rank, place]
    return np.where(best >= 0, beside.people[image, place], -1), np.maximum(best, 0.0)


def _matched_oks(beside: Candidates, matched: np.ndarray) -> np.ndarray:
    """(M,) OKS of each detection with the person it was matched to; 0 for nobody."""
    image, rank = np.nonzero(beside.detections >= 0)
    is_matched = (beside.people[image] == matched[:, None]) & (matched[:, None] >= 0)  # (M, G)
    return np.asarray(np.where(is_matched, beside.oks[image, rank], 0.0).sum(axis=1))


def _keypoint_errors(
    truth: GroundTruth,
    found_xy: np.ndarray,
    person: np.ndarray,
    people: np.ndarray,
    skeleton: Skeleton,
) -> np.ndarray:
    """(F, K) `KeypointError` of F found people.

    Args:
        truth: annotated people.
        found_xy: (F, K, 2) detected keypoints.
        person: (F,) rows of `truth`.
        people: (F, G) rows of everybody annotated in the same image, -1 is padding.
        skeleton: gives sigmas and mirrored body parts.
    """
    errors = np.empty(found_xy.shape[:2], dtype=np.int64)
    mirror = np.array(skeleton.flip_permutation)
    sigmas = np.array(skeleton.sigmas)
    has_mirror = mirror != np.arange(len(mirror))
    for start in range(0, len(person), MATCHES_AT_ONCE):
        some = slice(start, start + MATCHES_AT_ONCE)
        others = np.where(people[some] == person[some, None], -1, people[some])
        same = np.arange(len(mirror))
        true = _nearness(truth, found_xy[some], person[some, None], same, sigmas)
        mirrored = _nearness(truth, found_xy[some], person[some, None], mirror, sigmas)
        mirrored = np.where(has_mirror, mirrored, 0.0)
        elsewhere = np.maximum(
            _nearness(truth, found_xy[some], others, same, sigmas),
            _nearness(truth, found_xy[some], others, mirror, sigmas),
        )
        errors[some] = np.select(
            [
                ~truth.is_labelled[person[some]],
                true >= GOOD_SIMILARITY,
                true >= NEAR_SIMILARITY,
                np.maximum(mirrored, elsewhere) < NEAR_SIMILARITY,
                mirrored >= elsewhere,
            ],
            [
                KeypointError.UNLABELLED,
                KeypointError.GOOD,
                KeypointError.JITTER,
                KeypointError.MISS,
                KeypointError.INVERSION,
            ],
            KeypointError.SWAP,
        )
    return errors


def _nearness(
    truth: GroundTruth,
    found_xy: np.ndarray,
    people: np.ndarray,
    part: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """(F, K) highest similarity of keypoint k to body part `part[k]` of any of `people` (F, G)."""
    there = truth.keypoints[people][:, :, part]  # (F, G, K, 3)
    squared = ((found_xy[:, None] - there[..., :2]) ** 2).sum(axis=3)
    similarity = keypoint_similarity(squared, truth.areas[people], sigmas[part])
    usable = (there[..., 2] > 0) & (people >= 0)[:, :, None]
    return np.asarray(np.where(usable, similarity, 0.0).max(axis=1, initial=0.0))

"""Labels that a model contradicts, and people whom a second look at would teach most.

A model that is sure of itself and disagrees with a label is either wrong in an instructive way or
right; a person decides which. Legend: M pairs of a detection and an annotated person of the same
image, K keypoints, P annotated people.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from rtmo.evaluation.head_to_head import person_oks
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.matching import candidates
from rtmo.evaluation.similarity import keypoint_similarity
from rtmo.evaluation.taxonomy import NEAR_SIMILARITY, DetectionKind, Outcome
from rtmo.formats.overlap import box_ious
from rtmo.skeleton import Skeleton

MIN_SCORE = 0.3
"""Detections with a lower score contradict nobody."""

MIN_MIRRORED_OKS = 0.5
"""OKS from which a detection agrees with a person whose left and right were exchanged."""

MIN_MIRRORED_GAIN = 0.15
"""OKS that the exchange has to gain: a single pair of wrists is more often the model's mistake."""

MAX_FAR_SHARE = 1 / 3
"""With more than this share of keypoints far off, the person is placed badly as a whole."""

FAR_SIMILARITY = 0.1
"""Keypoint similarity below which a keypoint is far from its label."""

MIN_REST = 0.6
"""Mean similarity of the other keypoints, so that one far from its label stands out."""

MAX_BOX_IOU = 0.3
"""A detection that overlaps an annotated person more than this is a bad pose of that person."""

UNSEEN_WEIGHT = 0.5
"""That no detection is there says less about a label than one that contradicts it."""

LARGE_SIDE = 96.0
"""px; from this square root of the area on a person is easy to see (COCO's "large")."""


class Reason(Enum):
    """Why somebody should look."""

    LEFT_RIGHT = "left and right look exchanged"
    FAR_KEYPOINT = "keypoint far from where the model is sure of it"
    UNLABELLED = "person found, nobody labelled"
    UNSEEN = "labelled person whom no detection is about"
    BADLY_PLACED = "found with confidence, placed badly"
    MODELS_DISAGREE = "found well by one model only"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """One label to look at, or one that is not there."""

    reason: Reason
    strength: float
    """In (0, 1]; comparable between reasons."""
    image: int
    """Index of the image in the split."""
    person: int | None
    """Row of `GroundTruth`; None where nobody is labelled."""
    detection: int | None
    """Row of `Detections` that contradicts; None where there is none."""
    detail: str
    """Which keypoints or models, and the figures."""


def suspicions(
    truth: GroundTruth, model: Outcome, skeleton: Skeleton, champion: Outcome | None = None
) -> tuple[Suspicion, ...]:
    """Everything worth a second look, the strongest first.

    A person whose left and right look exchanged is not suspected for what follows from it.

    Args:
        truth: annotated people.
        model: whose detections question the labels.
        skeleton: gives sigmas, names and mirrored body parts.
        champion: another model on the same split, for `Reason.MODELS_DISAGREE`.
    """
    mirrored = list(_left_right(truth, model.found, skeleton))
    people = np.array([one.person for one in mirrored], dtype=np.int64)
    detections = np.array([one.detection for one in mirrored], dtype=np.int64)
    errors = model.errors
    is_open = ~np.isin(errors.detections, detections) & ~(
        np.isin(errors.person, people) & (errors.person >= 0)
    )
    far = list(_far_keypoints(truth, model, skeleton, np.flatnonzero(is_open)))
    far_people = np.array([one.person for one in far], dtype=np.int64)
    is_placed = is_open & ~np.isin(errors.person, far_people)
    all_of_them = [
        *mirrored,
        *far,
        *_unlabelled(truth, model, np.flatnonzero(is_open)),
        *_unseen(truth, np.setdiff1d(errors.missed, people)),
        *_badly_placed(truth, model, np.flatnonzero(is_placed)),
    ]
    if champion is not None:
        all_of_them += _disagreements(truth, model, champion)
    return tuple(sorted(all_of_them, key=lambda one: -one.strength))


def by_image(found: Iterable[Suspicion]) -> list[tuple[int, tuple[Suspicion, ...]]]:
    """Suspicions of each image with any; the image with the strongest one first.

    Example:
        >>> weak, strong = (
        ...     Suspicion(Reason.UNLABELLED, strength, image, None, 0, "")
        ...     for strength, image in ((0.2, 4), (0.9, 7))
        ... )
        >>> [image for image, _ in by_image([weak, strong])]
        [7, 4]
    """
    images: dict[int, list[Suspicion]] = {}
    for one in sorted(found, key=lambda one: -one.strength):
        images.setdefault(one.image, []).append(one)
    return [(image, tuple(those)) for image, those in images.items()]


def _left_right(truth: GroundTruth, found: Detections, skeleton: Skeleton) -> Iterator[Suspicion]:
    """People who fit a detection far better with flip pairs of their label exchanged.

    Every detection is held against every person of its image, not only matched ones: exchanged
    labels spoil the OKS, and with it the match.
    """
    pairs = np.array(skeleton.flip_pairs, dtype=np.int64).reshape(-1, 2)
    if len(pairs) == 0:
        return
    sigmas = np.array(skeleton.sigmas)
    beside = candidates(truth, found, sigmas)
    image, rank, place = np.nonzero(
        (beside.detections[:, :, None] >= 0) & (beside.people[:, None, :] >= 0)
    )
    person, detection = beside.people[image, place], beside.detections[image, rank]
    usable = ~truth.is_ignored[person] & (found.scores[detection] >= MIN_SCORE)
    person, detection = person[usable], detection[usable]
    order, mirror = np.arange(skeleton.num_keypoints), np.array(skeleton.flip_permutation)
    own = _similarity(truth, found, person, detection, skeleton, order)
    as_labelled = own[:, pairs].sum(axis=2)  # (M, pairs)
    exchanged = _similarity(truth, found, person, detection, skeleton, mirror)[:, pairs].sum(axis=2)
    num_labelled = np.maximum(truth.is_labelled[person].sum(axis=1), 1)
    plain = own.sum(axis=1) / num_labelled
    gains = np.maximum(exchanged - as_labelled, 0.0)
    gain = gains.sum(axis=1) / num_labelled
    sure = np.clip(found.keypoints[detection][:, pairs, 2], 0.0, 1.0).mean(axis=2)
    scores = np.minimum(found.scores[detection], 1.0)
    strength = scores * (gains * sure).sum(axis=1) / num_labelled
    is_suspect = (plain + gain >= MIN_MIRRORED_OKS) & (gain >= MIN_MIRRORED_GAIN)
    taken: set[int] = set()
    for row in np.flatnonzero(is_suspect)[np.argsort(-strength[is_suspect], kind="stable")]:
        if int(person[row]) in taken:
            continue
        taken.add(int(person[row]))
        crossed = pairs[exchanged[row] - as_labelled[row] >= NEAR_SIMILARITY]
        names = ", ".join(_without_side(skeleton.keypoints[left]) for left, _ in crossed)
        yield Suspicion(
            Reason.LEFT_RIGHT,
            float(strength[row]),
            int(truth.image[person[row]]),
            int(person[row]),
            int(detection[row]),
            f"{names or 'several pairs'}: OKS {plain[row]:.2f}, exchanged "
            f"{plain[row] + gain[row]:.2f}, score {scores[row]:.2f}",
        )


def _similarity(
    truth: GroundTruth,
    found: Detections,
    person: np.ndarray,
    detection: np.ndarray,
    skeleton: Skeleton,
    part: np.ndarray,
) -> np.ndarray:
    """(M, K) similarity of detected keypoint k to the label of `part[k]`; 0 where unlabelled."""
    there = truth.keypoints[person][:, part]  # (M, K, 3)
    squared = ((found.keypoints[detection, :, :2] - there[..., :2]) ** 2).sum(axis=2)
    near = keypoint_similarity(squared, truth.areas[person], np.array(skeleton.sigmas)[part])
    return np.asarray(np.where(there[..., 2] > 0, near, 0.0))


def _far_keypoints(
    truth: GroundTruth, model: Outcome, skeleton: Skeleton, rows: np.ndarray
) -> Iterator[Suspicion]:
    """Found people of whom single keypoints lie far from a label that the rest agrees with."""
    found, errors = model.found, model.errors
    rows = rows[errors.kind[rows] == DetectionKind.FOUND]
    person, detection = errors.person[rows], errors.detections[rows]
    order = np.arange(skeleton.num_keypoints)
    near = _similarity(truth, found, person, detection, skeleton, order)
    is_labelled = truth.is_labelled[person]
    is_far = is_labelled & (near < FAR_SIMILARITY)
    others = is_labelled & ~is_far
    rest = (near * others).sum(axis=1) / np.maximum(others.sum(axis=1), 1)
    share = is_far.sum(axis=1) / np.maximum(is_labelled.sum(axis=1), 1)
    # What the model places badly in general is weak evidence, however sure it is.
    usual = (near >= NEAR_SIMILARITY).sum(axis=0) / np.maximum(is_labelled.sum(axis=0), 1)
    keypoint_scores = np.clip(found.keypoints[detection, :, 2], 0.0, 1.0)
    sure = np.where(is_far, keypoint_scores * usual, 0.0).max(axis=1, initial=0.0)
    scores = np.minimum(found.scores[detection], 1.0)
    strength = scores * sure * rest
    is_suspect = is_far.any(axis=1) & (share <= MAX_FAR_SHARE) & (rest >= MIN_REST)
    for row in np.flatnonzero(is_suspect & (scores >= MIN_SCORE) & (strength > 0)):
        names = ", ".join(
            skeleton.keypoints[k].replace("_", " ") for k in np.nonzero(is_far[row])[0]
        )
        yield Suspicion(
            Reason.FAR_KEYPOINT,
            float(strength[row]),
            int(truth.image[person[row]]),
            int(person[row]),
            int(detection[row]),
            f"{names}: keypoint score {keypoint_scores[row][is_far[row]].max():.2f}, the others' "
            f"similarity {rest[row]:.2f}",
        )


def _unlabelled(truth: GroundTruth, model: Outcome, rows: np.ndarray) -> Iterator[Suspicion]:
    """Confident detections of nobody that overlap no annotated person."""
    found, errors = model.found, model.errors
    for row in rows[errors.kind[rows] == DetectionKind.BACKGROUND].tolist():
        detection = int(errors.detections[row])
        image, score = int(found.image[detection]), float(found.scores[detection])
        people = truth.boxes_xywh[truth.image == image]
        overlap = box_ious(found.boxes_xywh[[detection]], people).max(initial=0.0)
        if score >= MIN_SCORE and overlap <= MAX_BOX_IOU:
            yield Suspicion(
                Reason.UNLABELLED, min(score, 1.0), image, None, detection, f"score {score:.2f}"
            )


def _unseen(truth: GroundTruth, people: np.ndarray) -> Iterator[Suspicion]:
    """Missed people; the larger and the more completely labelled, the stranger."""
    labelled = truth.is_labelled.mean(axis=1)
    ease = np.minimum(np.sqrt(truth.areas) / LARGE_SIDE, 1.0)
    for person in people[labelled[people] > 0].tolist():
        yield Suspicion(
            Reason.UNSEEN,
            float(UNSEEN_WEIGHT * labelled[person] * ease[person]),
            int(truth.image[person]),
            person,
            None,
            f"{int(truth.is_labelled[person].sum())} labelled keypoints, "
            f"area {truth.areas[person]:.0f} px²",
        )


def _badly_placed(truth: GroundTruth, model: Outcome, rows: np.ndarray) -> Iterator[Suspicion]:
    """Found people by what they cost: detection score times 1 - OKS."""
    found, errors = model.found, model.errors
    for row in rows[errors.kind[rows] == DetectionKind.FOUND].tolist():
        person, detection = int(errors.person[row]), int(errors.detections[row])
        score, oks = float(found.scores[detection]), float(errors.oks[row])
        if score >= MIN_SCORE and oks < NEAR_SIMILARITY:
            yield Suspicion(
                Reason.BADLY_PLACED,
                min(score, 1.0) * (1 - oks),
                int(truth.image[person]),
                person,
                detection,
                f"OKS {oks:.2f}, score {score:.2f}",
            )


def _disagreements(truth: GroundTruth, model: Outcome, champion: Outcome) -> Iterator[Suspicion]:
    """People whom one model finds at OKS 0.5 or better, the other far worse or not at all."""
    oks, champion_oks = person_oks(truth, model), person_oks(truth, champion)
    score, champion_score = _person_scores(truth, model), _person_scores(truth, champion)
    for person in np.flatnonzero(np.maximum(oks, champion_oks) >= NEAR_SIMILARITY).tolist():
        better = score if oks[person] >= champion_oks[person] else champion_score
        strength = float(min(better[person], 1.0) * abs(oks[person] - champion_oks[person]))
        if min(oks[person], champion_oks[person]) < NEAR_SIMILARITY and better[person] >= MIN_SCORE:
            yield Suspicion(
                Reason.MODELS_DISAGREE,
                strength,
                int(truth.image[person]),
                person,
                None,
                f"OKS {oks[person]:.2f}, the champion's {champion_oks[person]:.2f}",
            )


def _person_scores(truth: GroundTruth, model: Outcome) -> np.ndarray:
    """(P,) score of the detection that found each person; 0 for nobody."""
    errors = model.errors
    found = errors.kind == DetectionKind.FOUND
    scores = np.zeros(len(truth.ids))
    scores[errors.person[found]] = model.found.scores[errors.detections[found]]
    return scores


def _without_side(name: str) -> str:
    """What both keypoints of a pair are called.

    Example:
        >>> _without_side("left_upper_arm"), _without_side("tip_left")
        ('upper arm', 'tip')
    """
    words = [word for word in name.split("_") if word not in ("left", "right")]
    return " ".join(words) or name

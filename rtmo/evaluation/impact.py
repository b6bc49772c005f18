"""How much AP each kind of error costs: correct it and evaluate again.

Legend: M detections that count, K keypoints.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.matching import candidates, match, split_ap
from rtmo.evaluation.similarity import paired_oks
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError
from rtmo.skeleton import Skeleton

KEYPOINT_STEPS = {
    "miss": KeypointError.MISS,
    "swap": KeypointError.SWAP,
    "inversion": KeypointError.INVERSION,
    "jitter": KeypointError.JITTER,
    "imprecision": KeypointError.GOOD,
}
"""Errors corrected by putting keypoints where they belong. Good keypoints are still off by up to a
similarity of 0.85, which costs AP at the strict thresholds; the paper's order, which has no such
step, would not end at AP 1."""

STEPS = (*KEYPOINT_STEPS, "score", "background", "missed")
"""The order of the progressive correction: the paper's, with `imprecision` after `jitter`."""


@dataclass(frozen=True, slots=True)
class Impact:
    """AP gained by corrections; all values are AP in [0, 1]."""

    ap: float
    """As it is."""
    alone: dict[str, float]
    """AP if this kind of error alone were corrected, by step."""
    progressive: dict[str, float]
    """AP after this step and all before it, in the order of `STEPS`; the last is 1."""


def impact(truth: GroundTruth, found: Detections, errors: Errors, skeleton: Skeleton) -> Impact:
    """Evaluate with each kind of error corrected, alone and one after the other.

    Args:
        truth: annotated people.
        found: detections.
        errors: `classify(truth, found, skeleton)`.
        skeleton: gives the sigmas.
    """
    sigmas = np.array(skeleton.sigmas)
    start = _State(truth, _select(found, errors.detections), np.arange(len(errors.detections)))
    alone = {step: _ap(_corrected(start, step, errors, sigmas), sigmas) for step in STEPS}
    progressive = {}
    state = start
    for step in STEPS:
        state = _corrected(state, step, errors, sigmas)
        progressive[step] = _ap(state, sigmas)
    return Impact(_ap(start, sigmas), alone, progressive)


@dataclass(frozen=True, slots=True)
class _State:
    """A split on its way to perfection."""

    truth: GroundTruth
    found: Detections
    origin: np.ndarray
    """Row of `Errors` of each detection that is left."""


def _corrected(state: _State, step: str, errors: Errors, sigmas: np.ndarray) -> _State:
    if step in KEYPOINT_STEPS:
        return _with_keypoints_placed(state, KEYPOINT_STEPS[step], errors)
    if step == "score":
        return _with_best_detection_first(state, errors, sigmas)
    kind = errors.kind[state.origin]
    if step == "background":
        return _kept(state, (kind == DetectionKind.FOUND) | (kind == DetectionKind.SCORE))
    assert step == "missed", step
    return replace(state, truth=_without_people(state.truth, errors.missed))


def _with_keypoints_placed(state: _State, error: KeypointError, errors: Errors) -> _State:
    """Keypoints with this error moved to the true place."""
    row, keypoint = np.nonzero(errors.keypoints[state.origin] == error)
    keypoints = state.found.keypoints.copy()
    person = errors.person[state.origin[row]]
    keypoints[row, keypoint, :2] = state.truth.keypoints[person, keypoint, :2]
    return replace(state, found=replace(state.found, keypoints=keypoints))


def _with_best_detection_first(state: _State, errors: Errors, sigmas: np.ndarray) -> _State:
    """Of all detections about one person the best one, with the highest of their scores."""
    kind = errors.kind[state.origin]
    about = np.flatnonzero((kind == DetectionKind.FOUND) | (kind == DetectionKind.SCORE))
    person = errors.person[state.origin[about]]
    oks = paired_oks(state.truth, state.found, person, about, sigmas)
    highest = np.full(len(state.truth.ids), -np.inf)
    np.maximum.at(highest, person, state.found.scores[about])
    order = np.lexsort((-oks, person))
    is_first = np.diff(person[order], prepend=-1) != 0
    winners = about[order[is_first]]
    scores = state.found.scores.copy()
    scores[winners] = highest[person[order[is_first]]]
    keep = np.ones(len(scores), dtype=bool)
    keep[about[order[~is_first]]] = False
    return _kept(replace(state, found=replace(state.found, scores=scores)), keep)


def _kept(state: _State, keep: np.ndarray) -> _State:
    rows = np.flatnonzero(keep)
    return replace(state, found=_select(state.found, rows), origin=state.origin[rows])


def _select(found: Detections, rows: np.ndarray) -> Detections:
    return Detections(
        found.image[rows], found.keypoints[rows], found.scores[rows], found.boxes_xywh[rows]
    )


def _without_people(truth: GroundTruth, people: np.ndarray) -> GroundTruth:
    """The same people, some of them no longer counting; rows stay what they were."""
    num_keypoints = truth.num_keypoints.copy()
    num_keypoints[people] = 0
    return replace(truth, num_keypoints=num_keypoints)


def _ap(state: _State, sigmas: np.ndarray) -> float:
    """AP; with nobody left who counts, 1 if nothing false is left either, else 0."""
    beside = candidates(state.truth, state.found, sigmas)
    matches = match(state.truth, state.found, beside)
    if matches.people_per_image.sum() == 0:
        return 0.0 if matches.is_false.any() else 1.0
    return split_ap(matches)

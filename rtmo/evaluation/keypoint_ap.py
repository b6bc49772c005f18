"""Keypoint AP and AR by the protocols of COCO and CrowdPose.

A library does the evaluation (`official.py`). CrowdPose's protocol stands on top of it: another
area, one area range, and three subsets of images by crowding (SPEC section 6).

Legend: T = 10 OKS thresholds, R = 101 recall levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtmo.evaluation.config import Evaluator
from rtmo.evaluation.inputs import (
    Detections,
    GroundTruth,
    read_detections,
    read_ground_truth,
)
from rtmo.evaluation.matching import candidates, match
from rtmo.evaluation.official import Rules, Scored, official_scores
from rtmo.evaluation.protocol import CROWD_LEVELS, OKS_THRESHOLDS, RECALL_LEVELS, Protocol
from rtmo.evaluation.similarity import keypoint_similarity, paired_oks
from rtmo.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class KeypointQuality:
    """How well one keypoint is placed on the people that were found at OKS 0.5."""

    name: str
    num_labelled: int
    """Labelled occurrences on those people."""
    mean_similarity: float
    """Mean of exp(-d^2 / (2 area (2 sigma)^2)); 0 where it is never labelled."""


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One result list scored against one annotation file."""

    protocol: Protocol
    metrics: dict[str, float]
    """AP, AP50, AP75, AR, AR50, AR75 and, by protocol, APM APL ARM ARL or AP_easy AP_medium
    AP_hard. In [0, 1]; -1, as the official tools have it, where no person belongs to the group."""
    precision: np.ndarray
    """(T, R) interpolated precision, all areas."""
    oks_thresholds: np.ndarray
    """(T,)."""
    recall_levels: np.ndarray
    """(R,)."""
    per_keypoint: tuple[KeypointQuality, ...]
    matched_oks: np.ndarray
    """OKS of each found person (OKS >= 0.5) with its annotation, for a histogram."""
    num_images: int
    num_people: int
    """Annotated people that count."""
    num_detections: int


def evaluate_keypoints(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    skeleton: Skeleton,
    protocol: Protocol,
    evaluator: Evaluator = "faster-coco-eval",
) -> EvalReport:
    """Score a COCO result list against an annotation file in COCO's layout.

    All images of the annotation file count, also those without people. No detection at all is a
    valid result with AP 0.

    Args:
        annotations: `images`, `annotations`; CrowdPose's images have `crowdIndex`.
        detections: `image_id`, `keypoints` [x, y, score] * K, `score` and, for all or for none,
            `bbox` (x, y, w, h), whose area decides which unmatched detections count in APM, APL.
        skeleton: gives the sigmas.
        protocol: whose rules.
        evaluator: the library that matches and counts; both give the same bits.

    Raises:
        ValueError: if either file is not what `rtmo.evaluation.inputs` expects.

    Source: https://cocodataset.org/#keypoints-eval, https://github.com/Jeff-sjtu/CrowdPose
    """
    truth = read_ground_truth(annotations, skeleton, protocol)
    found = read_detections(detections, truth, skeleton)
    subsets = [truth.image_ids]
    if truth.crowd_index is not None:
        subsets += [
            truth.image_ids[(truth.crowd_index >= low) & (truth.crowd_index < high)]
            for _, low, high in CROWD_LEVELS
        ]
    rules = Rules(protocol, skeleton.sigmas)
    whole, *crowded = official_scores(truth, found, rules, subsets, evaluator)
    metrics = _summary(whole)
    for (name, _, _), part in zip(CROWD_LEVELS, crowded, strict=False):
        # The official script averages the raw array, absent entries (-1) included.
        metrics[name] = round(float(np.mean(part.precision)), 4)
    people, detected = _found_people(truth, found, skeleton)
    return EvalReport(
        protocol=protocol,
        metrics=metrics,
        precision=whole.precision[:, :, 0],
        oks_thresholds=OKS_THRESHOLDS,
        recall_levels=RECALL_LEVELS,
        per_keypoint=_keypoint_quality(truth, found, people, detected, skeleton),
        matched_oks=paired_oks(truth, found, people, detected, np.array(skeleton.sigmas)),
        num_images=len(truth.image_ids),
        num_people=int((~truth.is_ignored).sum()),
        num_detections=len(found),
    )


def _summary(scored: Scored) -> dict[str, float]:
    """COCOeval.summarize's numbers by name, without its printing."""
    metrics = {}
    for prefix, values in (("AP", scored.precision), ("AR", scored.recall)):
        metrics[prefix] = _mean_present(values[..., 0])
        metrics[f"{prefix}50"] = _mean_present(values[0, ..., 0])
        metrics[f"{prefix}75"] = _mean_present(values[5, ..., 0])
        for area, label in enumerate(scored.areas):
            if label != "all":
                metrics[f"{prefix}{label[0].upper()}"] = _mean_present(values[..., area])
    return metrics


def _mean_present(values: np.ndarray) -> float:
    """Mean of the entries that exist; -1 where none does."""
    present = values[values > -1]
    return float(present.mean()) if len(present) else -1.0


def _found_people(
    truth: GroundTruth, found: Detections, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """People found at OKS 0.5: their rows in `truth` and the rows of their detections."""
    beside = candidates(truth, found, np.array(skeleton.sigmas))
    matches = match(truth, found, beside, np.array([0.5]))
    hit = matches.is_hit[0]
    return matches.person[0, hit], matches.detections[hit]


def _keypoint_quality(
    truth: GroundTruth,
    found: Detections,
    people: np.ndarray,
    detected: np.ndarray,
    skeleton: Skeleton,
) -> tuple[KeypointQuality, ...]:
    offsets = found.keypoints[detected, :, :2] - truth.keypoints[people, :, :2]
    similarity = keypoint_similarity(
        (offsets**2).sum(axis=2), truth.areas[people], np.array(skeleton.sigmas)
    )
    labelled = truth.is_labelled[people]
    return tuple(
        KeypointQuality(
            name,
            num_labelled=int(labelled[:, index].sum()),
            mean_similarity=float(similarity[labelled[:, index], index].mean())
            if labelled[:, index].any()
            else 0.0,
        )
        for index, name in enumerate(skeleton.keypoints)
    )

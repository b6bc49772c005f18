"""Object keypoint similarity (OKS) in numpy, as the official evaluation computes it.

Legend: M pairs of a detection and an annotated person of the same image, K keypoints.
"""

from __future__ import annotations

import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth

PAIRS_AT_ONCE = 100_000
"""Bounds the memory of one step: about 30 MiB for 17 keypoints."""


def keypoint_similarity(
    squared_distances: np.ndarray, areas: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """How near a keypoint is to the true one: exp(-d^2 / (2 * area * (2 * sigma)^2)).

    Args:
        squared_distances: d^2 in pixels^2, shape (..., K).
        areas: area of the annotated person in pixels^2, shape (...).
        sigmas: per keypoint, shape (K,). The factor 2 on them is COCO's.

    Returns:
        Similarity in (0, 1], shape (..., K).

    Example:
        >>> keypoint_similarity(np.array([0.0, 200.0]), np.array(100.0), np.array([0.5, 0.5]))
        array([1.        , 0.36787944])

    Source: https://cocodataset.org/#keypoints-eval
    """
    spread = (areas + np.spacing(1))[..., None] * (2 * sigmas) ** 2 * 2
    return np.asarray(np.exp(-squared_distances / spread))


def paired_oks(
    truth: GroundTruth,
    found: Detections,
    people: np.ndarray,
    detections: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """OKS of `detections[m]` with `people[m]`: mean keypoint similarity over labelled keypoints.

    A person without any labelled keypoint is compared by the distance of the detection's keypoints
    from the person's box, doubled in size; such people are ignored in the score.

    Args:
        truth: annotated people.
        found: detections.
        people: rows of `truth`, shape (M,).
        detections: rows of `found`, shape (M,).
        sigmas: per keypoint, shape (K,).

    Returns:
        OKS in [0, 1], shape (M,) float64.
    """
    oks = np.empty(len(people))
    for start in range(0, len(people), PAIRS_AT_ONCE):
        some = slice(start, start + PAIRS_AT_ONCE)
        oks[some] = _oks(truth, found, people[some], detections[some], sigmas)
    return oks


def _oks(
    truth: GroundTruth,
    found: Detections,
    people: np.ndarray,
    detections: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    found_xy = found.keypoints[detections, :, :2]  # (M, K, 2)
    labelled = truth.is_labelled[people]  # (M, K)
    squared = ((found_xy - truth.keypoints[people, :, :2]) ** 2).sum(axis=2)
    unlabelled = ~labelled.any(axis=1)  # (M,)
    squared[unlabelled] = _squared_distance_from_doubled_box(
        found_xy[unlabelled], truth.boxes_xywh[people[unlabelled]]
    )
    counts = labelled | unlabelled[:, None]
    similarity = keypoint_similarity(squared, truth.areas[people], sigmas)
    return np.asarray((similarity * counts).sum(axis=1) / counts.sum(axis=1))


def _squared_distance_from_doubled_box(points_xy: np.ndarray, boxes_xywh: np.ndarray) -> np.ndarray:
    """(M, K) squared distance to the box grown by its own size on every side; 0 inside."""
    low = boxes_xywh[:, None, :2] - boxes_xywh[:, None, 2:]
    high = boxes_xywh[:, None, :2] + 2 * boxes_xywh[:, None, 2:]
    outside = np.maximum(0, low - points_xy) + np.maximum(0, points_xy - high)
    return np.asarray((outside**2).sum(axis=2))

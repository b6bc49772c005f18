"""From rows of network output to people, in numpy: threshold, NMS, back to the original picture.

Shapes: n rows, K keypoints. Boxes are xyxy. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmo.data.letterbox import Letterbox
from rtmo.deployment.metadata import Form
from rtmo.structures import Poses

Floats = NDArray[np.float32]
Indices = NDArray[np.intp]

UNION_FLOOR = 1e-6
"""Smallest union of two boxes, pixels^2 (SPEC section 6)."""


@dataclass(frozen=True, slots=True)
class InputPeople:
    """The people of one picture in network-input pixels, best score first, boxes not clipped."""

    boxes_xyxy: Floats
    """(n, 4)."""
    scores: Floats
    """(n,)."""
    keypoints_xy: Floats
    """(n, K, 2)."""
    keypoint_scores: Floats
    """(n, K)."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Indices) -> InputPeople:
        """The chosen rows, in the order given."""
        return InputPeople(
            self.boxes_xyxy[rows],
            self.scores[rows],
            self.keypoints_xy[rows],
            self.keypoint_scores[rows],
        )


def box_iou(boxes_a_xyxy: Floats, boxes_b_xyxy: Floats) -> Floats:
    """IoU of every box of one list with every box of another, without the +1 of pixel counting.

    Args:
        boxes_a_xyxy: shape (n, 4).
        boxes_b_xyxy: shape (m, 4).

    Returns:
        (n, m); the union is at least 1e-6, so that empty boxes overlap nothing.

    Example:
        >>> boxes = np.float32([[0, 0, 2, 2], [1, 0, 3, 2]])
        >>> box_iou(boxes, boxes).astype(float).round(3).tolist()
        [[1.0, 0.333], [0.333, 1.0]]
    """
    top_left = np.maximum(boxes_a_xyxy[:, None, :2], boxes_b_xyxy[None, :, :2])
    bottom_right = np.minimum(boxes_a_xyxy[:, None, 2:], boxes_b_xyxy[None, :, 2:])
    overlap = np.clip(bottom_right - top_left, 0, None).prod(axis=-1)
    areas_a = (boxes_a_xyxy[:, 2:] - boxes_a_xyxy[:, :2]).prod(axis=-1)
    areas_b = (boxes_b_xyxy[:, 2:] - boxes_b_xyxy[:, :2]).prod(axis=-1)
    union = areas_a[:, None] + areas_b[None, :] - overlap
    iou: Floats = overlap / np.maximum(union, UNION_FLOOR)
    return iou


def greedy_nms(boxes_xyxy: Floats, scores: Floats, nms_iou: float) -> Indices:
    """Keep the best box, drop what overlaps it by more than `nms_iou`, repeat with the rest.

    Args:
        boxes_xyxy: shape (n, 4).
        scores: shape (n,); equal scores keep their order.
        nms_iou: largest IoU at which two boxes are still two people.

    Returns:
        Indices of the kept rows, best score first.

    Example:
        >>> boxes = np.float32([[0, 0, 9, 9], [0, 0, 10, 10], [50, 50, 60, 60]])
        >>> greedy_nms(boxes, np.float32([0.5, 0.9, 0.2]), 0.65).tolist()
        [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    ordered = boxes_xyxy[order]
    overlaps = box_iou(ordered, ordered) > nms_iou
    is_dropped = np.zeros(len(order), dtype=bool)
    for row in range(len(order)):
        if not is_dropped[row]:
            is_dropped[row + 1 :] |= overlaps[row, row + 1 :]
    return order[~is_dropped]


def above(people: InputPeople, score_threshold: float) -> InputPeople:
    """People whose score is strictly above the threshold.

    A padding row has score 0 and the threshold is at least 0, so padding always goes. A box that is
    not finite is nobody, as in `rtmo.model.decode`: the exponential of a badly trained size
    overflows.
    """
    is_person = (people.scores > score_threshold) & np.isfinite(people.boxes_xyxy).all(axis=1)
    return people[np.flatnonzero(is_person)]


def suppress(candidates: InputPeople, score_threshold: float, nms_iou: float) -> InputPeople:
    """Threshold and NMS for a network that leaves both to its caller (the raw form)."""
    confident = above(candidates, score_threshold)
    return confident[greedy_nms(confident.boxes_xyxy, confident.scores, nms_iou)]


def require_people(dets: Floats, keypoints: Floats, num_keypoints: int, source: str) -> None:
    """Refuse outputs that are not people; what a file declares and what it answers may differ.

    Raises:
        ValueError: saying their shapes.
    """
    rows = dets.shape[:2]
    if dets.shape != (*rows, 5) or keypoints.shape != (*rows, num_keypoints, 3) or len(rows) != 2:
        raise ValueError(
            f"{source} answers dets {dets.shape} and keypoints {keypoints.shape}; expected "
            f"(B, n, 5) and (B, n, {num_keypoints}, 3)"
        )


def people_of_outputs(
    form: Form, dets: Floats, keypoints: Floats, score_threshold: float, nms_iou: float
) -> list[InputPeople]:
    """People of each image from the two outputs of an exported graph.

    Args:
        form: the raw form gets its NMS here, the complete form has had it.
        dets: (B, n, 5), x1, y1, x2, y2, score.
        keypoints: (B, n, K, 3), x, y, visibility.
        score_threshold: people must score above this.
        nms_iou: box IoU above which the lower-scored of two people is dropped.
    """
    images = (
        InputPeople(rows[:, :4], rows[:, 4], points[..., :2], points[..., 2])
        for rows, points in zip(dets, keypoints, strict=True)
    )
    if form == "raw":
        return [suppress(candidates, score_threshold, nms_iou) for candidates in images]
    return [above(people, score_threshold) for people in images]


def to_poses(people: InputPeople, letterbox: Letterbox) -> Poses:
    """Map people from network-input pixels to the original picture.

    Boxes are clipped to the input first, keypoints are not (SPEC section 6).
    """
    height, width = letterbox.input_hw
    corners = np.clip(people.boxes_xyxy.reshape(-1, 2, 2), 0, (width, height))
    return Poses(
        boxes_xyxy=letterbox.to_original(corners).reshape(-1, 4).astype(np.float32),
        scores=people.scores.astype(np.float32),
        keypoints_xy=letterbox.to_original(people.keypoints_xy).astype(np.float32),
        keypoint_scores=people.keypoint_scores.astype(np.float32),
    )


def to_lists(poses: Poses) -> dict[str, list[Any]]:
    """For JSON: `boxes_xyxy` (N, 4), `scores` (N,), `keypoints` (N, K, 3) of (x, y, score)."""
    points = np.concatenate([poses.keypoints_xy, poses.keypoint_scores[..., None]], axis=2)
    return {
        "boxes_xyxy": poses.boxes_xyxy.astype(float).tolist(),
        "scores": poses.scores.astype(float).tolist(),
        "keypoints": points.astype(float).tolist(),
    }

"""The people of one picture while it is being transformed, and what each transform does to them.

Legend: G people, K keypoints. Everything float32, in pixels of the picture's current state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rtmo.skeleton import Skeleton

SMALLEST_SIDE_PX = 1.0


@dataclass(frozen=True, slots=True)
class Labels:
    """Boxes and poses of G people."""

    boxes_xyxy: np.ndarray
    """(G, 4)."""
    keypoints_xy: np.ndarray
    """(G, K, 2); coordinates stay when a keypoint becomes unlabelled."""
    is_labelled: np.ndarray
    """(G, K): 1.0 or 0.0."""
    is_annotated: np.ndarray
    """(G, K): 1.0 where the person's dataset annotates this keypoint at all, else 0.0."""
    areas: np.ndarray
    """(G,), pixels^2."""

    def __len__(self) -> int:
        return len(self.areas)


def no_people(num_keypoints: int) -> Labels:
    """G = 0."""
    return Labels(
        boxes_xyxy=np.zeros((0, 4), np.float32),
        keypoints_xy=np.zeros((0, num_keypoints, 2), np.float32),
        is_labelled=np.zeros((0, num_keypoints), np.float32),
        is_annotated=np.zeros((0, num_keypoints), np.float32),
        areas=np.zeros(0, np.float32),
    )


def join(parts: Sequence[Labels]) -> Labels:
    """The people of several pictures, now in one; there is at least one part."""
    return Labels(
        boxes_xyxy=np.concatenate([part.boxes_xyxy for part in parts]),
        keypoints_xy=np.concatenate([part.keypoints_xy for part in parts]),
        is_labelled=np.concatenate([part.is_labelled for part in parts]),
        is_annotated=np.concatenate([part.is_annotated for part in parts]),
        areas=np.concatenate([part.areas for part in parts]),
    )


def scale_and_shift(labels: Labels, scale: float, shift_xy: tuple[float, float]) -> Labels:
    """After resizing by `scale`, then moving right and down."""
    shift = np.array([*shift_xy, *shift_xy], np.float32)
    return replace(
        labels,
        boxes_xyxy=labels.boxes_xyxy * np.float32(scale) + shift,
        keypoints_xy=labels.keypoints_xy * np.float32(scale) + shift[:2],
        areas=labels.areas * np.float32(scale**2),
    )


def warp(labels: Labels, matrix: np.ndarray) -> Labels:
    """After an affine map, (2, 3) or (3, 3); a box becomes the box of its four moved corners."""
    linear, shift = matrix[:2, :2], matrix[:2, 2]
    corners = labels.boxes_xyxy[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]  # (G, 4, 2)
    moved = corners @ linear.T + shift
    keypoints_xy = labels.keypoints_xy @ linear.T + shift
    return replace(
        labels,
        boxes_xyxy=np.concatenate([moved.min(axis=1), moved.max(axis=1)], 1).astype(np.float32),
        keypoints_xy=keypoints_xy.astype(np.float32),
        areas=(labels.areas * np.linalg.det(linear)).astype(np.float32),
    )


def clip(labels: Labels, size_hw: tuple[int, int]) -> Labels:
    """Boxes cut to [0, width] x [0, height]; keypoints outside become unlabelled."""
    height, width = size_hw
    limit = np.array([width, height, width, height], np.float32)
    inside = ((labels.keypoints_xy >= 0) & (labels.keypoints_xy <= limit[:2])).all(axis=2)
    return replace(
        labels,
        boxes_xyxy=np.minimum(np.maximum(labels.boxes_xyxy, 0), limit),
        is_labelled=np.where(inside, labels.is_labelled, np.float32(0)),
    )


def mirror(labels: Labels, width: int, skeleton: Skeleton) -> Labels:
    """After mirroring a picture: x -> width - 1 - x, and left and right change names."""
    order = list(skeleton.flip_permutation)
    keypoints_xy = labels.keypoints_xy[:, order].copy()
    keypoints_xy[..., 0] = width - 1 - keypoints_xy[..., 0]
    boxes_xyxy = labels.boxes_xyxy.copy()
    boxes_xyxy[:, [0, 2]] = width - 1 - labels.boxes_xyxy[:, [2, 0]]
    return replace(
        labels,
        boxes_xyxy=boxes_xyxy,
        keypoints_xy=keypoints_xy,
        is_labelled=labels.is_labelled[:, order],
        is_annotated=labels.is_annotated[:, order],
    )


def trainable(labels: Labels) -> Labels:
    """Only people with a box above one pixel on both sides and at least one labelled keypoint."""
    sides = labels.boxes_xyxy[:, 2:] - labels.boxes_xyxy[:, :2]
    keep = (sides > SMALLEST_SIDE_PX).all(axis=1) & (labels.is_labelled.sum(axis=1) >= 1)
    return Labels(
        boxes_xyxy=labels.boxes_xyxy[keep],
        keypoints_xy=labels.keypoints_xy[keep],
        is_labelled=labels.is_labelled[keep],
        is_annotated=labels.is_annotated[keep],
        areas=labels.areas[keep],
    )

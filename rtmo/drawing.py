"""Poses drawn over pictures: limbs coloured by side, sizes scaled to the person."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from rtmo.skeleton import Skeleton
from rtmo.structures import Poses

LEFT_COLOUR = (66, 140, 255)
"""BGR orange: the person's left."""
RIGHT_COLOUR = (240, 170, 60)
"""BGR blue: the person's right."""
MIDDLE_COLOUR = (120, 220, 120)
"""BGR green: neither, or both."""
BOX_COLOUR = (235, 235, 235)

MIN_SCORE = 0.3
"""Predicted keypoints below this score are not drawn."""


def draw_poses(
    image: np.ndarray,
    poses: Poses,
    skeleton: Skeleton,
    track_ids: Sequence[int | None] | None = None,
) -> np.ndarray:
    """A copy of a BGR picture with predicted poses, their boxes, scores and ids if there are any.

    Raises:
        ValueError: if the poses have another number of keypoints than the skeleton.
    """
    canvas = image.copy()
    ids = track_ids or [None] * len(poses)
    for box, score, points, point_scores, track_id in zip(
        poses.boxes_xyxy, poses.scores, poses.keypoints_xy, poses.keypoint_scores, ids, strict=True
    ):
        thickness = _draw_box(canvas, box)
        _draw_label(canvas, box, f"{score:.2f}" if track_id is None else f"#{track_id} {score:.2f}")
        _draw_limbs(canvas, points, point_scores >= MIN_SCORE, skeleton, thickness)
        for k in np.flatnonzero(point_scores >= MIN_SCORE):
            _draw_joint(canvas, points[k], _side_colour(skeleton, (int(k),)), thickness, cv2.FILLED)
    return canvas


def draw_people(
    image: np.ndarray, keypoints_xyv: np.ndarray, boxes_xyxy: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """A copy of a BGR picture with annotated people; hidden joints (v = 1) are hollow.

    Args:
        image: (H, W, 3) uint8.
        keypoints_xyv: (G, K, 3) pixels and COCO's v.
        boxes_xyxy: (G, 4) pixels.
        skeleton: names, sides and limbs of the K keypoints.

    Raises:
        ValueError: if K is not the skeleton's number of keypoints.
    """
    canvas = image.copy()
    for box, person in zip(boxes_xyxy, keypoints_xyv, strict=True):
        points, flags = person[:, :2], person[:, 2]
        thickness = _draw_box(canvas, box)
        _draw_limbs(canvas, points, flags > 0, skeleton, thickness)
        for k in np.flatnonzero(flags > 0):
            line = cv2.FILLED if flags[k] == 2 else max(thickness // 2, 1)
            _draw_joint(canvas, points[k], _side_colour(skeleton, (int(k),)), thickness, line)
    return canvas


def mosaic_grid(
    images: Sequence[np.ndarray], *, columns: int | None = None, gap: int = 4
) -> np.ndarray:
    """Pictures side by side on white, each in the middle of a cell as large as the largest.

    Args:
        images: BGR uint8 pictures of any sizes, at least one.
        columns: pictures per row; None makes the grid about square.
        gap: pixels between pictures.

    Raises:
        ValueError: if there are no pictures.
    """
    if not images:
        raise ValueError("mosaic_grid got no pictures, expected at least one")
    across = columns or math.ceil(math.sqrt(len(images)))
    down = math.ceil(len(images) / across)
    height = max(image.shape[0] for image in images)
    width = max(image.shape[1] for image in images)
    grid = np.full(
        (down * (height + gap) + gap, across * (width + gap) + gap, 3), 255, dtype=np.uint8
    )
    for index, image in enumerate(images):
        row, column = divmod(index, across)
        y = gap + row * (height + gap) + (height - image.shape[0]) // 2
        x = gap + column * (width + gap) + (width - image.shape[1]) // 2
        grid[y : y + image.shape[0], x : x + image.shape[1]] = image
    return grid


def _draw_box(canvas: np.ndarray, box_xyxy: np.ndarray) -> int:
    """Outline a person; returns the line thickness for limbs of a person of that size."""
    x0, y0, x1, y1 = (round(float(value)) for value in box_xyxy)
    cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX_COLOUR, 1, cv2.LINE_AA)
    return int(np.clip(round(max(x1 - x0, y1 - y0) / 90), 1, 8))


def _draw_label(canvas: np.ndarray, box_xyxy: np.ndarray, label: str) -> None:
    corner = (round(float(box_xyxy[0])) + 2, max(round(float(box_xyxy[1])) - 3, 9))
    for colour, line in (((0, 0, 0), 2), (BOX_COLOUR, 1)):
        cv2.putText(
            canvas,
            label,
            corner,
            cv2.FONT_HERSHEY_SIMPLEX,
            0.35,
            colour,
            line,
            cv2.LINE_AA,
        )


def _draw_limbs(
    canvas: np.ndarray,
    points: np.ndarray,
    is_drawn: np.ndarray,
    skeleton: Skeleton,
    thickness: int,
) -> None:
    if len(points) != skeleton.num_keypoints:
        raise ValueError(
            f"a pose has {len(points)} keypoints, skeleton {skeleton.name!r} has "
            f"{skeleton.num_keypoints}; are these the poses of another model?"
        )
    for a, b in skeleton.limbs:
        if is_drawn[a] and is_drawn[b]:
            ends = _fixed_point(points[a]), _fixed_point(points[b])
            colour = _side_colour(skeleton, (a, b))
            cv2.line(canvas, *ends, colour, thickness, cv2.LINE_AA, _SHIFT)


def _draw_joint(
    canvas: np.ndarray, point: np.ndarray, colour: tuple[int, int, int], thickness: int, line: int
) -> None:
    radius = (thickness + 1) << _SHIFT
    if line == cv2.FILLED:
        cv2.circle(
            canvas, _fixed_point(point), radius + 12, (255, 255, 255), line, cv2.LINE_AA, _SHIFT
        )
    cv2.circle(canvas, _fixed_point(point), radius, colour, line, cv2.LINE_AA, _SHIFT)


_SHIFT = 4


def _fixed_point(point: np.ndarray) -> tuple[int, int]:
    """OpenCV coordinates with _SHIFT fractional bits, kept within what OpenCV can draw."""
    x, y = np.clip(np.rint(point * (1 << _SHIFT)), -(1 << 20), 1 << 20).astype(int)
    return int(x), int(y)


def _side_colour(skeleton: Skeleton, members: tuple[int, ...]) -> tuple[int, int, int]:
    """The side all of these keypoints are on, by the skeleton's mirror pairs (left first)."""
    left = {pair[0] for pair in skeleton.flip_pairs}
    right = {pair[1] for pair in skeleton.flip_pairs}
    if left.issuperset(members):
        return LEFT_COLOUR
    return RIGHT_COLOUR if right.issuperset(members) else MIDDLE_COLOUR

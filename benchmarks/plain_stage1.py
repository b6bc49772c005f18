"""Stage 1 of training as SPEC section 5.5 tells it, step by step: the oracle of the fast path.

It renders the same plans as `rtmo.data.mosaic` and builds everything: the whole 2S x 2S canvas, all
four tiles, the whole blended square.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from rtmo.data.augment import warp_matrix
from rtmo.data.labels import Labels
from rtmo.data.mosaic import MixUp, MosaicPlan, Picture

GREY = 114


def render(
    plan: MosaicPlan,
    pictures: Callable[[int], Picture],
    flip_permutation: tuple[int, ...],
    side: int,
) -> tuple[np.ndarray, Labels]:
    """Mosaic, perspective warp and mixup of one plan."""
    canvas, labels = mosaic(plan, pictures, side)
    image, labels = perspective(canvas, labels, warp_matrix(plan.warp, side), side)
    if plan.mixup is None:
        return image, labels
    return mixup(image, labels, plan.mixup, pictures(plan.mixup.picture), flip_permutation)


def mosaic(
    plan: MosaicPlan, pictures: Callable[[int], Picture], side: int
) -> tuple[np.ndarray, Labels]:
    """Four pictures around the centre of a grey canvas."""
    canvas = np.full((2 * side, 2 * side, 3), GREY, np.uint8)
    centre_x, centre_y = plan.centre_xy
    parts = []
    for number, index in enumerate(plan.pictures):
        picture = pictures(index)
        pixels = picture.read()
        height, width = pixels.shape[:2]
        ratio = min(side / height, side / width)
        width, height = int(width * ratio), int(height * ratio)
        tile = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        x = centre_x if number in (1, 3) else centre_x - width
        y = centre_y if number in (2, 3) else centre_y - height
        top, left = max(y, 0), max(x, 0)
        bottom, right = min(y + height, 2 * side), min(x + width, 2 * side)
        canvas[top:bottom, left:right] = tile[top - y : bottom - y, left - x : right - x]
        labels = picture.labels
        boxes = np.clip(labels.boxes_xyxy * ratio + [x, y, x, y], 0, 2 * side)
        points = labels.keypoints_xy * ratio + [x, y]
        is_labelled = labels.is_labelled * inside(points, 2 * side)
        areas = labels.areas * ratio**2
        parts.append((boxes, points, is_labelled, labels.is_annotated, areas))
    return canvas, Labels(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def perspective(
    canvas: np.ndarray, labels: Labels, matrix: np.ndarray, side: int
) -> tuple[np.ndarray, Labels]:
    """The canvas through the matrix, cut to side x side."""
    image = cv2.warpPerspective(
        canvas, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(GREY, GREY, GREY)
    )
    boxes = []
    for x1, y1, x2, y2 in labels.boxes_xyxy:
        corners = matrix @ np.array([[x1, y1, 1], [x2, y1, 1], [x2, y2, 1], [x1, y2, 1]]).T
        boxes.append([*corners[:2].min(axis=1), *corners[:2].max(axis=1)])
    points = labels.keypoints_xy @ matrix[:2, :2].T + matrix[:2, 2]
    return image, Labels(
        np.clip(np.array(boxes).reshape(-1, 4), 0, side),
        points,
        labels.is_labelled * inside(points, side),
        labels.is_annotated,
        labels.areas * np.linalg.det(matrix[:2, :2]),
    )


def mixup(
    image: np.ndarray,
    labels: Labels,
    drawn: MixUp,
    picture: Picture,
    flip_permutation: tuple[int, ...],
) -> tuple[np.ndarray, Labels]:
    """Half the image, half a crop of another picture."""
    side = len(image)
    pixels = picture.read()
    height, width = pixels.shape[:2]
    ratio = min(side / height, side / width)
    tile = cv2.resize(pixels, (int(width * ratio), int(height * ratio)))
    square = np.full((side, side, 3), GREY, np.uint8)
    square[: len(tile), : tile.shape[1]] = tile
    other_side = int(side * drawn.scale)
    square = cv2.resize(square, (other_side, other_side))
    boxes = np.clip(picture.labels.boxes_xyxy * (ratio * drawn.scale), 0, other_side)
    points = picture.labels.keypoints_xy * (ratio * drawn.scale)
    is_labelled = picture.labels.is_labelled * inside(points, other_side)
    is_annotated = picture.labels.is_annotated
    if drawn.is_mirrored:
        square = square[:, ::-1]
        boxes = np.stack(
            [other_side - 1 - boxes[:, 2], boxes[:, 1], other_side - 1 - boxes[:, 0], boxes[:, 3]],
            axis=1,
        )
        points = points[:, flip_permutation] * [-1, 1] + [other_side - 1, 0]
        is_labelled = is_labelled[:, flip_permutation]
        is_annotated = is_annotated[:, flip_permutation]
    padded_side = max(side, other_side)
    padded = np.full((padded_side, padded_side, 3), GREY, np.uint8)
    padded[:other_side, :other_side] = square
    x, y = (int(fraction * (padded_side - side + 1)) for fraction in drawn.crop_xy)
    crop = padded[y : y + side, x : x + side]
    points = points - [x, y]
    is_labelled = is_labelled * inside(points, side)
    mixed = (0.5 * image + 0.5 * crop).astype(np.uint8)
    return mixed, Labels(
        np.clip(np.concatenate([labels.boxes_xyxy, boxes - [x, y, x, y]]), 0, side),
        np.concatenate([labels.keypoints_xy, points]),
        np.concatenate([labels.is_labelled, is_labelled]),
        np.concatenate([labels.is_annotated, is_annotated]),
        np.concatenate([labels.areas, picture.labels.areas * (ratio * drawn.scale) ** 2]),
    )


def inside(points: np.ndarray, side: int) -> np.ndarray:
    """1.0 where a point lies in [0, side] both ways."""
    return ((points >= 0) & (points <= side)).all(axis=-1).astype(float)

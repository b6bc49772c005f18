"""Boxes as tensors: IoU and greedy suppression. Conversions of box formats live here only.

Shapes: N, M boxes; a leading `...` is any batch. Boxes are (x1, y1, x2, y2) in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

UNION_FLOOR_PX2 = 1e-6
"""Smallest union in the denominator of an IoU, as in mmdet's bbox_overlaps."""


def xyxy_to_centre_size(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (..., 2) and (width, height) (..., 2) of boxes (..., 4)."""
    top_left, bottom_right = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return (top_left + bottom_right) / 2, bottom_right - top_left


def box_areas(boxes_xyxy: Tensor) -> Tensor:
    """Width times height of each box, (..., 4) -> (...)."""
    return (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) * (boxes_xyxy[..., 3] - boxes_xyxy[..., 1])


def clip_boxes(boxes_xyxy: Tensor, size_wh: Tensor) -> Tensor:
    """Boxes (..., 4) cut to the rectangle from (0, 0) to `size_wh` (2,)."""
    return torch.minimum(boxes_xyxy.clamp(min=0), size_wh.repeat(2))


def paired_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """IoU of boxes that correspond one to one, or that broadcast: (..., 4), (..., 4) -> (...).

    Example:
        >>> paired_iou(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 10, 5]]))
        tensor([0.5000])
    """
    top_left = torch.maximum(boxes_a[..., :2], boxes_b[..., :2])
    bottom_right = torch.minimum(boxes_a[..., 2:], boxes_b[..., 2:])
    overlap_wh = (bottom_right - top_left).clamp(min=0)
    overlap = overlap_wh[..., 0] * overlap_wh[..., 1]
    union = box_areas(boxes_a) + box_areas(boxes_b) - overlap
    return overlap / union.clamp(min=UNION_FLOOR_PX2)


def pairwise_iou(boxes_a: Tensor, boxes_b: Tensor) -> Tensor:
    """IoU of every box with every box: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    return paired_iou(boxes_a[..., :, None, :], boxes_b[..., None, :, :])


def greedy_nms(boxes_xyxy: Tensor, max_iou: float) -> Tensor:
    """Which boxes survive greedy suppression; the boxes come best score first.

    A box is dropped when its IoU with a better kept box is above `max_iou`. The rule is solved by
    iterating it from "all kept": after t rounds the first t boxes of every chain of overlaps are
    right, so the fixed point is the greedy answer, with no step per box.

    Args:
        boxes_xyxy: (N, 4), descending by score.
        max_iou: largest IoU two kept boxes may have.

    Returns:
        (N,) bool, True where kept.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
        >>> greedy_nms(boxes, 0.65)
        tensor([ True, False,  True])
    """
    suppresses = (pairwise_iou(boxes_xyxy, boxes_xyxy) > max_iou).triu(diagonal=1)
    keep = torch.ones(len(boxes_xyxy), dtype=torch.bool, device=boxes_xyxy.device)
    while True:
        updated = ~(suppresses & keep[:, None]).any(dim=0)
        if torch.equal(updated, keep):
            return keep
        keep = updated

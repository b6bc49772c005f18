"""How much boxes overlap, in numpy: (x, y, width, height) in pixels."""

from __future__ import annotations

import numpy as np


def box_ious(boxes_xywh: np.ndarray, others_xywh: np.ndarray) -> np.ndarray:
    """IoU of every box (N, 4) with every other one (M, 4), shape (N, M); 0 for two empty ones.

    Example:
        >>> box_ious(np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 5], [20, 0, 10, 10]]))
        array([[0.5, 0. ]])
    """
    boxes, others = boxes_xywh[:, None], others_xywh[None]
    low = np.maximum(boxes[..., :2], others[..., :2])
    high = np.minimum(boxes[..., :2] + boxes[..., 2:], others[..., :2] + others[..., 2:])
    shared = np.clip(high - low, 0.0, None).prod(axis=-1)
    union = boxes[..., 2:].prod(axis=-1) + others[..., 2:].prod(axis=-1) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(union), where=union > 0))

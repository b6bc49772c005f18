"""The grid of priors and the decoding of what the head says relative to them.

Shapes: B images, N priors (all cells of stride 16 row by row, then of stride 32), K keypoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STRIDES = (16, 32)
"""Strides of the head's levels, pixels."""


def grid_priors(
    sizes_hw: Sequence[tuple[int, int]], device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Positions and strides of all priors for feature maps of these sizes, one per stride.

    The prior of row i and column j lies at (j * s + (s - 1) / 2, i * s + (s - 1) / 2): the centre
    of the cell's pixels, neither YOLOX's corner nor s / 2.

    Args:
        sizes_hw: (rows, columns) of the maps, in the order of `STRIDES`.
        device: where to make the tensors.

    Returns:
        priors_xy (N, 2) in input pixels and strides (N,).

    Example:
        >>> priors_xy, strides = grid_priors([(2, 2), (1, 1)])
        >>> priors_xy.tolist()
        [[7.5, 7.5], [23.5, 7.5], [7.5, 23.5], [23.5, 23.5], [15.5, 15.5]]
    """
    points, strides = [], []
    for (rows, columns), stride in zip(sizes_hw, STRIDES, strict=True):
        offset = (stride - 1) / 2
        x = torch.arange(columns, device=device, dtype=torch.float32) * stride + offset
        y = torch.arange(rows, device=device, dtype=torch.float32) * stride + offset
        grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack((grid_x, grid_y), dim=-1).reshape(-1, 2))
        strides.append(torch.full((rows * columns,), float(stride), device=device))
    return torch.cat(points), torch.cat(strides)


def input_size_wh(priors_xy: Tensor, strides: Tensor) -> Tensor:
    """Width and height (2,) of the network input that has these priors: undoes the last one."""
    return priors_xy[-1] + (strides[-1] + 1) / 2


def decode_boxes(boxes_raw: Tensor, priors_xy: Tensor, strides: Tensor) -> Tensor:
    """Raw (dx, dy, log w, log h) in strides -> (x1, y1, x2, y2) in input pixels.

    Args:
        boxes_raw: (B, N, 4).
        priors_xy: (N, 2).
        strides: (N,).

    Returns:
        (B, N, 4).
    """
    centres = priors_xy + boxes_raw[..., :2] * strides[:, None]
    half_sizes = boxes_raw[..., 2:].exp() * strides[:, None] / 2
    return torch.cat((centres - half_sizes, centres + half_sizes), dim=-1)


def decode_offsets(offsets: Tensor, priors_xy: Tensor, strides: Tensor) -> Tensor:
    """Keypoint offsets (B, N, K, 2) in strides -> positions (B, N, K, 2) in input pixels."""
    return priors_xy[:, None] + offsets * strides[:, None, None]

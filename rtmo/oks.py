"""Object keypoint similarity between poses.

Shapes: N predictions, G people, K keypoints; a leading `...` is any batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

AREA_ROOT_FLOOR_PX = 1e-8
"""Smallest square root of an area in the denominator."""

LABELLED_FLOOR = 1e-8
"""Smallest number of labelled keypoints in the denominator: nobody labelled scores 0."""


def keypoint_similarity(
    keypoints: Tensor, gt_keypoints: Tensor, gt_areas: Tensor, sigmas: Tensor
) -> Tensor:
    """exp(-d^2 / (2 * area * (2 * sigma)^2)) of each keypoint; the factor 2 on sigma is COCO's.

    Args:
        keypoints: predicted (x, y), (..., K, 2).
        gt_keypoints: true (x, y), (..., K, 2); both broadcast.
        gt_areas: segment area of the person, (...).
        sigmas: (K,).

    Returns:
        (..., K), in [0, 1].
    """
    squared_px = (keypoints - gt_keypoints).square().sum(dim=-1)
    scale_px = gt_areas.sqrt().clamp(min=AREA_ROOT_FLOOR_PX)[..., None] * (2 * sigmas)
    return torch.exp(-0.5 * squared_px / scale_px.square())


def paired_oks(
    keypoints: Tensor,
    gt_keypoints: Tensor,
    gt_labelled: Tensor,
    gt_areas: Tensor,
    sigmas: Tensor,
) -> Tensor:
    """OKS of poses that correspond one to one, or that broadcast.

    OKS = mean over labelled keypoints of exp(-d^2 / (2 * area * (2 * sigma)^2)), with d in
    input-image pixels and area in pixels^2.

    Args:
        keypoints: predicted (x, y), (..., K, 2).
        gt_keypoints: true (x, y), (..., K, 2).
        gt_labelled: 1.0 where labelled, 0.0 elsewhere, (..., K).
        gt_areas: segment area of the person, (...).
        sigmas: per-keypoint standard deviation, (K,).

    Returns:
        (...), in [0, 1]. A person with no labelled keypoint scores 0.

    Raises:
        ValueError: if the keypoint counts disagree.

    Example:
        >>> pose = torch.tensor([[10.0, 10.0], [20.0, 20.0]])
        >>> sigmas = torch.tensor([0.1, 0.1])
        >>> paired_oks(pose, pose, torch.ones(2), torch.tensor(100.0), sigmas)
        tensor(1.)

    Source: https://cocodataset.org/#keypoints-eval
    """
    _check_keypoint_counts(keypoints, gt_keypoints, sigmas)
    weights = _labelled_weights(gt_labelled)
    similarity = keypoint_similarity(keypoints, gt_keypoints, gt_areas, sigmas)
    return (weights * similarity).sum(dim=-1)


def pairwise_oks(
    keypoints: Tensor,
    gt_keypoints: Tensor,
    gt_labelled: Tensor,
    gt_areas: Tensor,
    sigmas: Tensor,
) -> Tensor:
    """OKS of every predicted pose with every person: (..., N, K, 2), (..., G, K, 2) -> (..., N, G).

    Arguments and meaning as in `paired_oks`; people have gt_labelled (..., G, K) and
    gt_areas (..., G).

    Example:
        >>> pose = torch.tensor([[[10.0, 10.0], [20.0, 20.0]]])
        >>> sigmas = torch.tensor([0.1, 0.1])
        >>> pairwise_oks(pose, pose, torch.ones(1, 2), torch.tensor([100.0]), sigmas)
        tensor([[1.]])
    """
    _check_keypoint_counts(keypoints, gt_keypoints, sigmas)
    weights = _labelled_weights(gt_labelled)
    root_area = gt_areas.sqrt().clamp(min=AREA_ROOT_FLOOR_PX)
    total = keypoints.new_zeros((*keypoints.shape[:-2], gt_areas.shape[-1]))
    # One keypoint at a time: (N, G, K, 2) differences of a crowd would not fit any cache.
    for k, sigma in enumerate(sigmas):
        difference_x = keypoints[..., :, None, k, 0] - gt_keypoints[..., None, :, k, 0]
        difference_y = keypoints[..., :, None, k, 1] - gt_keypoints[..., None, :, k, 1]
        squared_px = difference_x.square() + difference_y.square()
        squared_scale = (root_area * (2 * sigma)).square()[..., None, :]
        total += weights[..., None, :, k] * torch.exp(-0.5 * squared_px / squared_scale)
    return total


def _check_keypoint_counts(keypoints: Tensor, gt_keypoints: Tensor, sigmas: Tensor) -> None:
    if not keypoints.shape[-2] == gt_keypoints.shape[-2] == len(sigmas):
        raise ValueError(
            f"poses have {keypoints.shape[-2]} keypoints, people {gt_keypoints.shape[-2]}, "
            f"sigmas {len(sigmas)}; was the model built for another skeleton?"
        )


def _labelled_weights(gt_labelled: Tensor) -> Tensor:
    return gt_labelled / gt_labelled.sum(dim=-1, keepdim=True).clamp(min=LABELLED_FLOOR)

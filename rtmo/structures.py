"""The values that travel between parts: targets, raw network outputs, poses.

Shapes: B images, G people (padded to the largest image of the batch), K keypoints, N priors,
C channels of a pose vector. This module imports numpy only; tensors are annotations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TargetBatch:
    """Ground truth of a batch, in network-input pixels, people padded to a common G.

    `is_person` is False on padding rows; what the other fields hold there has no meaning.
    """

    boxes_xyxy: Tensor
    """(B, G, 4) float32."""
    keypoints_xy: Tensor
    """(B, G, K, 2) float32."""
    is_labelled: Tensor
    """(B, G, K) float32: 1.0 where v > 0."""
    is_annotated: Tensor
    """(B, G, K) float32: 1.0 where the source dataset annotates this joint at all."""
    areas: Tensor
    """(B, G) float32: the annotation's area scaled to the input, pixels^2."""
    is_person: Tensor
    """(B, G) bool."""
    ignore_mask: Tensor | None
    """(B, H, W) float32, 1.0 inside regions to ignore; None when no image has any."""

    def to(self, device: str) -> TargetBatch:
        """The same values on another device."""
        return TargetBatch(
            self.boxes_xyxy.to(device, non_blocking=True),
            self.keypoints_xy.to(device, non_blocking=True),
            self.is_labelled.to(device, non_blocking=True),
            self.is_annotated.to(device, non_blocking=True),
            self.areas.to(device, non_blocking=True),
            self.is_person.to(device, non_blocking=True),
            None if self.ignore_mask is None else self.ignore_mask.to(device, non_blocking=True),
        )

    def first(self, count: int) -> TargetBatch:
        """Those of the first `count` pictures."""
        return TargetBatch(
            self.boxes_xyxy[:count],
            self.keypoints_xy[:count],
            self.is_labelled[:count],
            self.is_annotated[:count],
            self.areas[:count],
            self.is_person[:count],
            None if self.ignore_mask is None else self.ignore_mask[:count],
        )


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """What the network says at every prior, before any choice is made. Input pixels."""

    cls_logits: Tensor
    """(B, N)."""
    boxes_raw: Tensor
    """(B, N, 4): (dx, dy, log w, log h) in strides."""
    boxes_xyxy: Tensor
    """(B, N, 4)."""
    proxy_keypoints_xy: Tensor
    """(B, N, K, 2): the training-only regression branch."""
    visibility_logits: Tensor
    """(B, N, K)."""
    pose_vectors: Tensor
    """(B, N, C): what the dynamic coordinate classifier reads."""
    priors_xy: Tensor
    """(N, 2)."""
    strides: Tensor
    """(N,)."""


@dataclass(frozen=True, slots=True)
class Poses:
    """The people found in one picture, in original-image pixels, best score first."""

    boxes_xyxy: np.ndarray
    """(N, 4) float32."""
    scores: np.ndarray
    """(N,) float32 in [0, 1]."""
    keypoints_xy: np.ndarray
    """(N, K, 2) float32; not clipped to the picture."""
    keypoint_scores: np.ndarray
    """(N, K) float32 in [0, 1]: probability that the keypoint is visible."""

    def __post_init__(self) -> None:
        count = len(self.scores)
        shapes = (self.boxes_xyxy.shape, self.keypoints_xy.shape, self.keypoint_scores.shape)
        num_keypoints = self.keypoint_scores.shape[-1]
        expected = ((count, 4), (count, num_keypoints, 2), (count, num_keypoints))
        if shapes != expected:
            raise ValueError(f"Poses shapes are {shapes}, expected {expected} for {count} scores")

    def __len__(self) -> int:
        return len(self.scores)

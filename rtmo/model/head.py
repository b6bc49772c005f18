"""The dense head: what every prior says, before any choice.

Shapes: B images, C channels, H W map size, N priors, K keypoints.
Source: SPEC section 2.3; mmpose/models/heads/hybrid_heads/rtmo_head.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rtmo.model.layers import YOLOX_NORM, ConvNormAct

NUM_CLS_CONVS = 2
NUM_POSE_CONVS = 4
POSE_GROUPS = 8
"""Groups of the pose branch's convolutions after the first."""


class LevelOutputs(NamedTuple):
    """Maps of one level, (B, channels, H, W) each."""

    cls: Tensor
    """1 channel."""
    box: Tensor
    """4 channels: (dx, dy, log w, log h) in strides."""
    proxy: Tensor
    """2K channels: (dx, dy) of every keypoint in strides; training only."""
    visibility: Tensor
    """K channels."""
    pose: Tensor
    """The pose vector."""


class LevelHead(nn.Module):
    """Head of one level: the first half of the channels classifies, the second half poses."""

    def __init__(
        self, cls_channels: int, pose_channels: int, pose_vector: int, num_keypoints: int
    ) -> None:
        super().__init__()
        self.cls_convs = nn.Sequential(
            *(ConvNormAct(cls_channels, cls_channels, 3, YOLOX_NORM) for _ in range(NUM_CLS_CONVS))
        )
        self.pose_convs = nn.Sequential(
            ConvNormAct(cls_channels, pose_channels, 3, YOLOX_NORM),
            *(
                ConvNormAct(pose_channels, pose_channels, 3, YOLOX_NORM, groups=POSE_GROUPS)
                for _ in range(NUM_POSE_CONVS - 1)
            ),
        )
        self.out_cls = nn.Conv2d(cls_channels, 1, 1)
        self.out_box = nn.Conv2d(pose_channels, 4, 1)
        self.out_proxy = nn.Conv2d(pose_channels, 2 * num_keypoints, 1)
        self.out_visibility = nn.Conv2d(pose_channels, num_keypoints, 1)
        self.out_pose = nn.Conv2d(pose_channels, pose_vector, 1)

    def forward(self, features: Tensor) -> LevelOutputs:
        """(B, 2 * cls_channels, H, W) -> maps."""
        cls_features, pose_features = features.chunk(2, dim=1)
        cls_features = self.cls_convs(cls_features)
        pose_features = self.pose_convs(pose_features)
        return LevelOutputs(
            cls=self.out_cls(cls_features),
            box=self.out_box(pose_features),
            proxy=self.out_proxy(pose_features),
            visibility=self.out_visibility(pose_features),
            pose=self.out_pose(pose_features),
        )


class Head(nn.Module):
    """One `LevelHead` per stride, with weights of its own."""

    def __init__(
        self, cls_channels: int, pose_channels: int, pose_vector: int, num_keypoints: int
    ) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            LevelHead(cls_channels, pose_channels, pose_vector, num_keypoints) for _ in range(2)
        )

    def forward(self, features: tuple[Tensor, Tensor]) -> tuple[LevelOutputs, LevelOutputs]:
        """Neck maps of strides 16 and 32 -> outputs of both levels."""
        fine, coarse = (level(x) for level, x in zip(self.levels, features, strict=True))
        return fine, coarse


def flatten_levels(maps: tuple[Tensor, ...]) -> Tensor:
    """Maps (B, C, H, W) of all levels -> (B, N, C) float32, row by row, finest level first."""
    return torch.cat([x.flatten(2).transpose(1, 2).float() for x in maps], dim=1)

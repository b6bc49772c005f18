"""RTMO, assembled: images -> what every prior says.

Shapes: B images, H W input size, N priors, K keypoints, C channels of a pose vector.
Source: SPEC sections 1 and 2; https://arxiv.org/abs/2312.07526.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtmo.model.config import SCALES, Size
from rtmo.model.csp_darknet import CSPDarknet
from rtmo.model.dcc import DynamicCoordinateClassifier
from rtmo.model.head import POSE_GROUPS, Head, flatten_levels
from rtmo.model.hybrid_encoder import HIDDEN, HybridEncoder
from rtmo.priors import decode_boxes, decode_offsets, grid_priors
from rtmo.skeleton import Skeleton
from rtmo.structures import RawOutputs

INPUT_MULTIPLE = 32
"""Both input sides are multiples of the coarsest stride."""


class RTMO(nn.Module):
    """The network of one size for one skeleton, uninitialised; `build_rtmo` also draws weights."""

    def __init__(self, size: Size, skeleton: Skeleton) -> None:
        super().__init__()
        self.size = size
        self.skeleton = skeleton
        scale = SCALES[size]
        channels = int(256 * scale.width)
        self.backbone = CSPDarknet(scale.width, scale.depth)
        self.neck = HybridEncoder(
            self.backbone.channels,
            out_channels=2 * channels,
            rep_hidden=int(HIDDEN * scale.width),
            rep_blocks=round(3 * scale.depth),
        )
        self.head = Head(
            cls_channels=channels,
            pose_channels=POSE_GROUPS * int(36 * scale.width),
            pose_vector=2 * channels,
            num_keypoints=skeleton.num_keypoints,
        )
        self.dcc = DynamicCoordinateClassifier(2 * channels, skeleton.num_keypoints)

    def forward(self, images: Tensor) -> RawOutputs:
        """Everything the dense part says.

        Args:
            images: (B, 3, H, W) floating, BGR, 0..255, not normalised; H and W multiples of 32.

        Raises:
            ValueError: if the images have another shape.
        """
        check_images(images)
        levels = self.head(self.neck(self.backbone(images)))
        sizes_hw = [(level.cls.shape[-2], level.cls.shape[-1]) for level in levels]
        priors_xy, strides = grid_priors(sizes_hw, images.device)
        boxes_raw = flatten_levels(tuple(level.box for level in levels))
        offsets = flatten_levels(tuple(level.proxy for level in levels))
        return RawOutputs(
            cls_logits=flatten_levels(tuple(level.cls for level in levels)).squeeze(-1),
            boxes_raw=boxes_raw,
            boxes_xyxy=decode_boxes(boxes_raw, priors_xy, strides),
            proxy_keypoints_xy=decode_offsets(
                torch.unflatten(offsets, -1, (-1, 2)), priors_xy, strides
            ),
            visibility_logits=flatten_levels(tuple(level.visibility for level in levels)),
            pose_vectors=flatten_levels(tuple(level.pose for level in levels)),
            priors_xy=priors_xy,
            strides=strides,
        )


def check_images(images: Tensor) -> None:
    """Raise ValueError unless `images` is (B, 3, H, W) with sides that are multiples of 32."""
    shape = tuple(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] % INPUT_MULTIPLE or shape[3] % INPUT_MULTIPLE:
        raise ValueError(
            f"images have shape {shape}, expected (B, 3, H, W) with H and W multiples of "
            f"{INPUT_MULTIPLE}; letterbox them first"
        )

"""The backbone: YOLOX's CSPDarknet with a Focus stem.

Shapes: B images, C channels, H W map size.
Source: SPEC section 2.1; mmdet/models/backbones/csp_darknet.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rtmo.model.layers import YOLOX_NORM, ConvNormAct

BASE_BLOCKS = (3, 9, 9, 3)
"""Bottlenecks of the four stages at depth 1."""

SPP_KERNELS = (5, 9, 13)
"""Window sides of the pooling pyramid, cells."""


def space_to_channels(images: Tensor) -> Tensor:
    """The four pixels of every 2x2 block on the channels: (B, C, H, W) -> (B, 4C, H/2, W/2).

    Order: (even row, even column), (odd, even), (even, odd), (odd, odd), all channels each.
    """
    return torch.cat(
        (
            images[..., ::2, ::2],
            images[..., 1::2, ::2],
            images[..., ::2, 1::2],
            images[..., 1::2, 1::2],
        ),
        dim=1,
    )


class Focus(nn.Module):
    """2x2 blocks to channels, then a 3x3 convolution: (B, 3, H, W) -> (B, C, H/2, W/2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = ConvNormAct(12, channels, 3, YOLOX_NORM)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H/2, W/2)."""
        features: Tensor = self.conv(space_to_channels(images))
        return features


class SpatialPyramid(nn.Module):
    """Concatenates the map with its maxima over three window sizes, each taken from the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2, 1, YOLOX_NORM)
        self.pools = nn.ModuleList(
            nn.MaxPool2d(kernel, stride=1, padding=kernel // 2) for kernel in SPP_KERNELS
        )
        self.merge = ConvNormAct(2 * channels, channels, 1, YOLOX_NORM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.reduce(x)
        merged: Tensor = self.merge(torch.cat((x, *(pool(x) for pool in self.pools)), dim=1))
        return merged


class Bottleneck(nn.Module):
    """1x1 then 3x3 convolution, without the sum with the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 1, YOLOX_NORM)
        self.conv2 = ConvNormAct(channels, channels, 3, YOLOX_NORM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        features: Tensor = self.conv2(self.conv1(x))
        return features


class ResidualBottleneck(nn.Module):
    """1x1 then 3x3 convolution, plus the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(channels, channels, 1, YOLOX_NORM)
        self.conv2 = ConvNormAct(channels, channels, 3, YOLOX_NORM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        features: Tensor = x + self.conv2(self.conv1(x))
        return features


class CSPLayer(nn.Module):
    """Half the channels pass through bottlenecks, half go round them; then both are merged."""

    def __init__(self, channels: int, blocks: list[Bottleneck] | list[ResidualBottleneck]) -> None:
        super().__init__()
        self.main = ConvNormAct(channels, channels // 2, 1, YOLOX_NORM)
        self.short = ConvNormAct(channels, channels // 2, 1, YOLOX_NORM)
        self.blocks = nn.Sequential(*blocks)
        self.final = ConvNormAct(channels, channels, 1, YOLOX_NORM)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        halves = (self.blocks(self.main(x)), self.short(x))
        merged: Tensor = self.final(torch.cat(halves, dim=1))
        return merged


class CSPDarknet(nn.Module):
    """Stem and four stages; gives the maps of strides 8, 16 and 32.

    Only the last stage has a pooling pyramid, before its CSP layer, and only its bottlenecks have
    no identity path.
    """

    def __init__(self, width: float, depth: float) -> None:
        super().__init__()
        stem, *channels = (int(base * width) for base in (64, 128, 256, 512, 1024))
        blocks = tuple(max(round(base * depth), 1) for base in BASE_BLOCKS)
        self.channels = tuple(channels[1:])
        self.stem = Focus(stem)
        self.stage1 = _residual_stage(stem, channels[0], blocks[0])
        self.stage2 = _residual_stage(channels[0], channels[1], blocks[1])
        self.stage3 = _residual_stage(channels[1], channels[2], blocks[2])
        self.stage4 = nn.Sequential(
            ConvNormAct(channels[2], channels[3], 3, YOLOX_NORM, stride=2),
            SpatialPyramid(channels[3]),
            CSPLayer(channels[3], [Bottleneck(channels[3] // 2) for _ in range(blocks[3])]),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> maps of strides 8, 16 and 32, with `self.channels` channels."""
        stride_8 = self.stage2(self.stage1(self.stem(images)))
        stride_16 = self.stage3(stride_8)
        return stride_8, stride_16, self.stage4(stride_16)


def _residual_stage(in_channels: int, channels: int, num_blocks: int) -> nn.Sequential:
    """Halve the map, then a CSP layer whose bottlenecks keep an identity path."""
    return nn.Sequential(
        ConvNormAct(in_channels, channels, 3, YOLOX_NORM, stride=2),
        CSPLayer(channels, [ResidualBottleneck(channels // 2) for _ in range(num_blocks)]),
    )

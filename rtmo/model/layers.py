"""Blocks that backbone, neck and head share.

Shapes: B images, C channels, H W map size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class NormSettings(NamedTuple):
    """Constants of a batch norm; RTMO's parts differ in them."""

    eps: float
    """Added to the variance."""
    momentum: float
    """Weight of the new batch in the running statistics."""


YOLOX_NORM = NormSettings(eps=1e-3, momentum=0.03)
"""Backbone and head."""

TORCH_NORM = NormSettings(eps=1e-5, momentum=0.1)
"""Neck and coordinate classifier."""


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, activation; padding keeps the size at stride 1."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        norm: NormSettings,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: nn.Module | None = None,
    ) -> None:
        """`activation` None means SiLU; give `nn.Identity()` for none."""
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=norm.eps, momentum=norm.momentum)
        self.activation = nn.SiLU() if activation is None else activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride)."""
        activated: Tensor = self.activation(self.norm(self.conv(x)))
        return activated


class RepVGG(nn.Module):
    """SiLU of a normalised 3x3 convolution plus a normalised 1x1 convolution, no identity branch.

    `inference.fold` turns it into one 3x3 convolution.
    """

    def __init__(self, channels: int, norm: NormSettings) -> None:
        super().__init__()
        self.branch_3x3 = ConvNormAct(channels, channels, 3, norm, activation=nn.Identity())
        self.branch_1x1 = ConvNormAct(channels, channels, 1, norm, activation=nn.Identity())
        self.activation = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        activated: Tensor = self.activation(self.branch_3x3(x) + self.branch_1x1(x))
        return activated


class SineEncoding(nn.Module):
    """Positions -> [cos(p / t_0..), sin(p / t_0..)], with t_j = temperature^(j / 64) at 64 waves.

    Cosines first, halves not interleaved, positions in their own unit. Always in float32: in half
    precision a position of some hundreds has lost the phase of the fast waves.
    """

    wavelengths: Tensor

    def __init__(self, channels: int, temperature: float) -> None:
        super().__init__()
        waves = channels // 2
        exponents = torch.arange(waves, dtype=torch.float32) / waves
        self.register_buffer("wavelengths", temperature**exponents, persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """(...) -> (..., channels) float32."""
        phases = positions.float()[..., None] / self.wavelengths
        return torch.cat((phases.cos(), phases.sin()), dim=-1)

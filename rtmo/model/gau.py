"""Gated attention unit over the keypoints of one person.

Shapes: P people, K keypoints, C = 128 channels.
Source: SPEC section 2.5; mmpose/models/utils/rtmcc_block.py; https://arxiv.org/abs/2202.10447.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_FLOOR = 1e-5
"""Smallest norm that ScaleNorm divides by."""


class ScaleNorm(nn.Module):
    """x / max(||x|| / sqrt(C), 1e-5) * g, with one learned g."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**-0.5
        self.g = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True) * self.scale
        normalised: Tensor = x / norm.clamp(min=NORM_FLOOR) * self.g
        return normalised


class GatedAttentionUnit(nn.Module):
    """Attention with squared-ReLU weights, gated, plus a scaled identity path.

    The weights are not divided by the number of keypoints, and there is no relative position bias:
    both differ from the paper and agree with RTMO.
    """

    def __init__(self, channels: int, expanded: int, attention_channels: int) -> None:
        super().__init__()
        self.splits = [expanded, expanded, attention_channels]
        self.norm = ScaleNorm(channels)
        self.uv = nn.Linear(channels, sum(self.splits), bias=False)
        self.gamma = nn.Parameter(torch.rand(2, attention_channels))
        self.beta = nn.Parameter(torch.rand(2, attention_channels))
        self.out = nn.Linear(expanded, channels, bias=False)
        self.residual_scale = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Features x (P, K, C), positions (K, attention channels) -> (P, K, C)."""
        activated = F.silu(self.uv(self.norm(x)))
        gate, values, base = torch.split(activated, self.splits, dim=-1)
        query = base * self.gamma[0] + self.beta[0] + positions
        key = base * self.gamma[1] + self.beta[1] + positions
        similarity = query @ key.transpose(1, 2) / math.sqrt(key.shape[-1])  # (P, K, K)
        attended = similarity.relu().square() @ values
        mixed: Tensor = x * self.residual_scale + self.out(gate * attended)
        return mixed

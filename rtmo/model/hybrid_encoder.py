"""The neck: one transformer layer on the coarsest map, then a two-way feature pyramid.

Shapes: B images, C = 256 channels, H W map size, T = H * W tokens.
Source: SPEC section 2.2; mmpose/models/necks/hybrid_encoder.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtmo.model.layers import TORCH_NORM, ConvNormAct, RepVGG, SineEncoding

HIDDEN = 256
"""Channels of every level inside the neck."""
ATTENTION_HEADS = 8
FEEDFORWARD = 1024
POSITION_TEMPERATURE = 10_000.0


class SelfAttention(nn.Module):
    """Multi-head attention whose queries and keys know the position and whose values do not."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * channels))
        self.out_proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, T, C), positions (T, C) -> (B, T, C), without the sum with the input."""
        split = 2 * tokens.shape[-1]
        placed = tokens + positions
        queries_keys = F.linear(placed, self.in_proj_weight[:split], self.in_proj_bias[:split])
        values = F.linear(tokens, self.in_proj_weight[split:], self.in_proj_bias[split:])
        query, key = queries_keys.chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._heads_first(query), self._heads_first(key), self._heads_first(values)
        )
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected

    def _heads_first(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, C / heads)


class EncoderLayer(nn.Module):
    """Transformer layer, normalised after each sum; exact GELU; no dropout."""

    def __init__(self, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, heads)
        self.attention_norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, feedforward)
        self.contract = nn.Linear(feedforward, channels)
        self.feedforward_norm = nn.LayerNorm(channels)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Tokens (B, T, C), positions (T, C) -> (B, T, C)."""
        tokens = self.attention_norm(tokens + self.attention(tokens, positions))
        fed = self.contract(F.gelu(self.expand(tokens)))
        normalised: Tensor = self.feedforward_norm(tokens + fed)
        return normalised


class GridPositions(nn.Module):
    """Sine encoding of (row, column), row first: sizes -> (H * W, C) float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.encoding = SineEncoding(channels // 2, POSITION_TEMPERATURE)

    def forward(self, rows: int, columns: int) -> Tensor:
        """Encodings of a `rows` x `columns` map, row by row."""
        device = self.encoding.wavelengths.device
        row_codes = self.encoding(torch.arange(rows, device=device))
        column_codes = self.encoding(torch.arange(columns, device=device))
        grid = (
            row_codes[:, None].expand(-1, columns, -1),
            column_codes[None].expand(rows, -1, -1),
        )
        return torch.cat(grid, dim=-1).flatten(0, 1)


class CSPRep(nn.Module):
    """Two maps' concatenation merged: RepVGG blocks on one projection, plus another projection."""

    def __init__(self, hidden: int, num_blocks: int) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(2 * HIDDEN, hidden, 1, TORCH_NORM)
        self.conv2 = ConvNormAct(2 * HIDDEN, hidden, 1, TORCH_NORM)
        self.blocks = nn.Sequential(*(RepVGG(hidden, TORCH_NORM) for _ in range(num_blocks)))
        self.conv3 = (
            nn.Identity() if hidden == HIDDEN else ConvNormAct(hidden, HIDDEN, 1, TORCH_NORM)
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Two maps (B, C, H, W) -> (B, C, H, W)."""
        both = torch.cat((coarse, fine), dim=1)
        merged: Tensor = self.conv3(self.blocks(self.conv1(both)) + self.conv2(both))
        return merged


class HybridEncoder(nn.Module):
    """Backbone maps of strides 8, 16, 32 -> head maps of strides 16 and 32."""

    def __init__(
        self, in_channels: tuple[int, ...], out_channels: int, rep_hidden: int, rep_blocks: int
    ) -> None:
        super().__init__()
        self.input_proj = nn.ModuleList(
            ConvNormAct(channels, HIDDEN, 1, TORCH_NORM, activation=nn.Identity())
            for channels in in_channels
        )
        self.positions = GridPositions(HIDDEN)
        self.encoder = EncoderLayer(HIDDEN, ATTENTION_HEADS, FEEDFORWARD)
        self.lateral = nn.ModuleList(ConvNormAct(HIDDEN, HIDDEN, 1, TORCH_NORM) for _ in range(2))
        self.top_down = nn.ModuleList(CSPRep(rep_hidden, rep_blocks) for _ in range(2))
        self.downsample = nn.ModuleList(
            ConvNormAct(HIDDEN, HIDDEN, 3, TORCH_NORM, stride=2) for _ in range(2)
        )
        self.bottom_up = nn.ModuleList(CSPRep(rep_hidden, rep_blocks) for _ in range(2))
        self.projector = nn.ModuleList(
            ConvNormAct(HIDDEN, out_channels, 1, TORCH_NORM, activation=nn.Identity())
            for _ in range(2)
        )

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Maps of strides 8, 16, 32 -> maps of strides 16, 32, (B, out_channels, H, W) each."""
        p3, p4, p5 = (project(x) for project, x in zip(self.input_proj, maps, strict=True))
        p5 = self._attend(p5)

        lateral_5 = self.lateral[0](p5)
        f4 = self.top_down[0](_double(lateral_5), p4)
        lateral_4 = self.lateral[1](f4)
        o3 = self.top_down[1](_double(lateral_4), p3)

        o4 = self.bottom_up[0](self.downsample[0](o3), lateral_4)
        o5 = self.bottom_up[1](self.downsample[1](o4), lateral_5)
        return self.projector[0](o4), self.projector[1](o5)

    def _attend(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2:]
        tokens = self.encoder(x.flatten(2).transpose(1, 2), self.positions(rows, columns))
        return torch.unflatten(tokens.transpose(1, 2), 2, (rows, columns))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

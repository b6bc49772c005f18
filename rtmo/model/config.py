"""Sizes of RTMO as values. Source: mmpose configs/body_2d_keypoint/rtmo."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import Field

from rtmo._config import Config

Size = Literal["t", "s", "m", "l"]


class Scale(NamedTuple):
    """What tells the sizes apart; every channel and block count follows from it."""

    width: float
    """Factor on channels."""
    depth: float
    """Factor on block counts."""


SCALES: dict[Size, Scale] = {
    "t": Scale(width=0.375, depth=0.33),
    "s": Scale(width=0.5, depth=0.33),
    "m": Scale(width=0.75, depth=0.67),
    "l": Scale(width=1.0, depth=1.0),
}

PUBLISHED_INPUT_SIDES: dict[Size, int] = {"t": 416, "s": 640, "m": 640, "l": 640}
"""Side of the square test input of the published models, pixels."""


class ModelConfig(Config):
    """Which RTMO to build."""

    size: Size
    """t, s, m or l."""
    input_size: int = Field(ge=64, le=2048, multiple_of=32)
    """Side of the square network input at test time, pixels."""

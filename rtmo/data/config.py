"""Settings of the training input pipelines (SPEC section 5.5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from rtmo._config import Config


def _range(values: tuple[float, float]) -> tuple[float, float]:
    low, high = values
    if not 0 < low <= high:
        raise ValueError(f"expected 0 < smallest <= largest, got {list(values)}")
    return values


def _sides(values: tuple[int, int]) -> tuple[int, int]:
    _range(values)
    if any(side % 32 for side in values):
        raise ValueError(f"expected multiples of 32, got {list(values)}")
    return values


Range = Annotated[tuple[float, float], AfterValidator(_range)]
Sides = Annotated[tuple[int, int], AfterValidator(_sides)]


class HsvConfig(Config):
    """Colour jitter."""

    hue: int = Field(5, ge=0, le=90)
    """Largest change of hue, OpenCV degrees (0..180)."""
    saturation: int = Field(30, ge=0, le=255)
    """Largest change of saturation, grey levels."""
    value: int = Field(30, ge=0, le=255)
    """Largest change of value, grey levels."""


class MosaicConfig(Config):
    """Stage 1: mosaic, perspective warp, mixup, HSV, flip."""

    partners: Literal["dataset", "batch"] = "dataset"
    """Where the other pictures of a sample come from: anywhere, or the pictures that its batch is
    named after, which are then decoded once each (docs/decisions/stage1-fast-path.md)."""
    mosaic_prob: float = Field(1.0, ge=0, le=1)
    """Probability of joining four pictures; otherwise the picture alone, fitted into the middle of
    the input, is warped."""
    mixup_prob: float = Field(1.0, ge=0, le=1)
    """Probability of blending in another picture; 0 for RTMO-t."""
    mixup_scale: Range = (0.8, 1.6)
    """Range of the blended picture's extra scale."""
    shift: float = Field(0.1, ge=0, le=1)
    """Largest translation of the warp, fraction of the input side."""
    rotation_deg: float = Field(10.0, ge=0, le=180)
    """Largest rotation of the warp, degrees."""
    scale: Range = (0.75, 1.0)
    """Range of the warp's scale; above 1 enlarges."""
    shear_deg: float = Field(2.0, ge=0, lt=45)
    """Largest shear per axis, degrees."""


class LetterboxConfig(Config):
    """Stage 2: centred affine letterbox, HSV, flip. Zero means that step has no randomness."""

    shift: float = Field(0.0, ge=0, le=1)
    """Largest shift of the source window, fraction of the picture's width and height."""
    scale: Range = (1.0, 1.0)
    """Range of the source window's scale; above 1 shrinks the picture."""
    rotation_deg: float = Field(0.0, ge=0, le=180)
    """Largest rotation, degrees."""


class AugmentConfig(Config):
    """Both training input pipelines; the phase says which one is used."""

    mosaic: MosaicConfig = MosaicConfig()
    """Stage 1."""
    letterbox: LetterboxConfig = LetterboxConfig()
    """Stage 2."""
    hsv: HsvConfig = HsvConfig()
    """Colour jitter of both stages."""
    flip_prob: float = Field(0.5, ge=0, le=1)
    """Probability of mirroring."""
    multiscale: Sides | None = None
    """Smallest and largest input side drawn per step, multiples of 32; None keeps one size."""

"""Random changes of a picture, each as drawn numbers and a pure function that applies them.

Source: SPEC section 5.5; mmpose BottomupRandomAffine, YOLOXHSVRandomAug, RandomFlip.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from rtmo.data.config import HsvConfig, LetterboxConfig, MosaicConfig
from rtmo.data.letterbox import window_matrix

HUE_DEGREES = 180
"""OpenCV's hue runs from 0 to 179."""


@dataclass(frozen=True, slots=True)
class Warp:
    """A drawn stage-1 warp."""

    shift_px: tuple[float, float]
    rotation_deg: float
    scale: float
    shear_deg: tuple[float, float]


def draw_warp(rng: np.random.Generator, config: MosaicConfig, input_size: int) -> Warp:
    """Uniform in the configured ranges."""
    rotation = rng.uniform(-config.rotation_deg, config.rotation_deg)
    scale = rng.uniform(*config.scale)
    shear_x, shear_y = rng.uniform(-config.shear_deg, config.shear_deg, 2)
    shift_x, shift_y = rng.uniform(-config.shift, config.shift, 2) * input_size
    return Warp((shift_x, shift_y), rotation, scale, (shear_x, shear_y))


def warp_matrix(warp: Warp, input_size: int) -> np.ndarray:
    """(3, 3) float32, mosaic canvas -> input: about the centre (S/2, S/2), then shifted.

    T(centre + shift) @ shear @ rotation @ scale @ T(-centre), in float32 as the reference.
    """
    centre = input_size / 2
    angle = np.deg2rad(warp.rotation_deg)
    shear_x, shear_y = np.tan(np.deg2rad(warp.shear_deg))
    there = _matrix([[1, 0, centre + warp.shift_px[0]], [0, 1, centre + warp.shift_px[1]]])
    shear = _matrix([[1, shear_x, 0], [shear_y, 1, 0]])
    rotation = _matrix([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]])
    scale = _matrix([[warp.scale, 0, 0], [0, warp.scale, 0]])
    back = _matrix([[1, 0, -centre], [0, 1, -centre]])
    matrix: np.ndarray = there @ shear @ rotation @ scale @ back
    return matrix


def draw_window_matrix(
    rng: np.random.Generator, config: LetterboxConfig, size_hw: tuple[int, int], input_size: int
) -> np.ndarray:
    """(2, 3) float64, picture -> input of stage 2: the letterbox with a jittered source window.

    Each jitter is a standard normal truncated to [-1, 1], stretched over its configured range.
    """
    height, width = size_hw
    jitter_x, jitter_y, jitter_scale, jitter_rotation = (_truncated_normal(rng) for _ in range(4))
    low, high = config.scale
    centre_xy = (
        width * (0.5 + config.shift * jitter_x),
        height * (0.5 + config.shift * jitter_y),
    )
    side = max(width, height) * ((low + high) / 2 + (high - low) / 2 * jitter_scale)
    return window_matrix(centre_xy, side, config.rotation_deg * jitter_rotation, input_size)


@dataclass(frozen=True, slots=True)
class HsvShift:
    """What is added to hue (OpenCV degrees), saturation and value (grey levels)."""

    hue: int
    saturation: int
    value: int


def draw_hsv(rng: np.random.Generator, config: HsvConfig) -> HsvShift:
    """Each channel is moved with probability one half, cut to a whole number."""
    gains = rng.uniform(-1, 1, 3) * (config.hue, config.saturation, config.value)
    hue, saturation, value = (gains * rng.integers(0, 2, 3)).astype(int).tolist()
    return HsvShift(hue, saturation, value)


def shift_hsv(image: np.ndarray, shift: HsvShift) -> np.ndarray:
    """The picture with hue turned and saturation and value moved, both cut to 0..255."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    if shift.hue == 0:
        # Addition cuts by itself, in a third of the table's time.
        cv2.add(hsv, np.array([0, shift.saturation, shift.value, 0], np.float64), dst=hsv)
    else:
        cv2.LUT(hsv, _hsv_table(shift), dst=hsv)
    shifted: np.ndarray = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    return shifted


def _hsv_table(shift: HsvShift) -> np.ndarray:
    """(1, 256, 3) uint8: what each level becomes."""
    levels = np.arange(256)
    columns = [
        (levels + shift.hue) % HUE_DEGREES,
        np.clip(levels + shift.saturation, 0, 255),
        np.clip(levels + shift.value, 0, 255),
    ]
    return np.stack(columns, axis=1)[None].astype(np.uint8)


def _truncated_normal(rng: np.random.Generator) -> float:
    while abs(value := rng.standard_normal()) > 1:
        pass
    return value


def _matrix(rows: list[list[float]]) -> np.ndarray:
    return np.array([*rows, [0, 0, 1]], dtype=np.float32)

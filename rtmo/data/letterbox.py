"""Fitting a picture into the network input, and mapping points back. No torch.

Two rules are in use in the field. The centred one (mmpose; our default) is one affine warp. The
top-left one (rtmlib) resizes to a whole number of pixels and pads right and below.
Source: SPEC section 6; mmpose BottomupResize; rtmlib tools/pose_estimation/rtmo.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

PADDING_GREY = 114


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How one picture lies in the network input: input = matrix @ (x, y, 1)."""

    matrix: np.ndarray
    """(2, 3) float64, original pixels to input pixels: one scale and a shift."""
    source_hw: tuple[int, int]
    """Size of the original picture."""
    input_hw: tuple[int, int]
    """Size of the network input."""
    rule: Literal["centred", "top_left"]
    """Where the padding is, and how pixels are interpolated."""

    @classmethod
    def centred(cls, size_hw: tuple[int, int], input_size: int) -> Letterbox:
        """The whole picture in the middle of a square input: scale input_size / longest side.

        Example:
            >>> Letterbox.centred((240, 320), 640).to_input(np.array([[160.0, 120.0]]))
            array([[320., 320.]])
        """
        height, width = size_hw
        matrix = window_matrix((width / 2, height / 2), max(width, height), 0.0, input_size)
        return cls(matrix, _whole(size_hw), (input_size, input_size), "centred")

    @classmethod
    def top_left(cls, size_hw: tuple[int, int], input_hw: tuple[int, int]) -> Letterbox:
        """The whole picture in the top left corner of the input, as rtmlib feeds it.

        Example:
            >>> Letterbox.top_left((240, 320), (640, 640)).to_input(np.array([[160.0, 120.0]]))
            array([[320., 240.]])
        """
        ratio = min(input_hw[0] / size_hw[0], input_hw[1] / size_hw[1])
        matrix = np.array([[ratio, 0.0, 0.0], [0.0, ratio, 0.0]])
        return cls(matrix, _whole(size_hw), input_hw, "top_left")

    def trimmed(self, stride: int) -> Letterbox:
        """The same fit at the same scale, with padding only up to the next whole stride.

        Centred pictures stay in the middle of the smaller input, top-left ones in its corner.

        Example:
            >>> Letterbox.centred((240, 320), 640).trimmed(32).input_hw
            (480, 640)
        """
        height, width = (
            min(whole, -(-round(side * self.scale, 6) // stride) * stride)
            for side, whole in zip(self.source_hw, self.input_hw, strict=True)
        )
        input_hw = (int(height), int(width))
        if self.rule == "top_left":
            return replace(self, input_hw=input_hw)
        matrix = self.matrix.copy()
        matrix[:, 2] -= [(self.input_hw[1] - width) / 2, (self.input_hw[0] - height) / 2]
        return replace(self, matrix=matrix, input_hw=input_hw)

    @property
    def scale(self) -> float:
        """Input pixels per original pixel, both ways."""
        return float(self.matrix[0, 0])

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The network input (H, W, 3) uint8 of the picture, padded with grey 114.

        Raises:
            ValueError: if the picture is not of the size this letterbox was made for.
        """
        if image.shape != (*self.source_hw, 3):
            raise ValueError(
                f"picture has shape {image.shape}, the letterbox is for {(*self.source_hw, 3)}"
            )
        height, width = self.input_hw
        if self.rule == "centred":
            warped: np.ndarray = cv2.warpAffine(
                image,
                self.matrix,
                (width, height),
                flags=cv2.INTER_LINEAR,
                borderValue=(PADDING_GREY,) * 3,
            )
            return warped
        padded = np.full((height, width, 3), PADDING_GREY, dtype=np.uint8)
        resized_hw = [max(1, int(side * self.scale)) for side in self.source_hw]
        resized = cv2.resize(image, (resized_hw[1], resized_hw[0]), interpolation=cv2.INTER_LINEAR)
        padded[: resized_hw[0], : resized_hw[1]] = resized
        return padded

    def to_input(self, points_xy: np.ndarray) -> np.ndarray:
        """Original pixels (..., 2) to input pixels (..., 2)."""
        mapped: np.ndarray = points_xy * self.scale + self.matrix[:, 2]
        return mapped

    def to_original(self, points_xy: np.ndarray) -> np.ndarray:
        """Input pixels (..., 2) to original pixels (..., 2); not clipped to the picture."""
        original: np.ndarray = (points_xy - self.matrix[:, 2]) / self.scale
        return original


def window_matrix(
    centre_xy: tuple[float, float], side: float, rotation_deg: float, input_size: int
) -> np.ndarray:
    """(2, 3) float64: the square window of the picture -> the square network input.

    A positive rotation turns the window clockwise on the screen, so its content turns the other
    way. A window larger than the picture shrinks it.
    """
    source = _three_points(centre_xy, side, rotation_deg)
    target = _three_points((input_size / 2, input_size / 2), input_size, 0.0)
    matrix: np.ndarray = cv2.getAffineTransform(source, target)
    return matrix


def _three_points(centre_xy: tuple[float, float], side: float, rotation_deg: float) -> np.ndarray:
    """Centre, middle of the left edge, and a corner below it, (3, 2) float32.

    Which three points are used decides the last bits of the matrix, and with them single pixels.
    """
    angle = np.deg2rad(rotation_deg)
    direction = np.array([np.cos(angle), np.sin(angle)])
    centre = np.array(centre_xy, dtype=np.float32)
    left = (np.array(centre_xy) - side / 2 * direction).astype(np.float32)
    arm = centre - left
    corner = left + np.array([-arm[1], arm[0]])
    return np.stack([centre, left, corner])


def _whole(size_hw: tuple[int, int]) -> tuple[int, int]:
    height, width = size_hw
    return int(height), int(width)

"""How pictures become network input, and how people found there come back to the pictures.

Both directions use the same `Letterbox` value; the rule is SPEC's centred one or rtmlib's corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmo.data.letterbox import Letterbox
from rtmo.deployment.metadata import LetterboxRule
from rtmo.deployment.postprocess import Floats, InputPeople, to_poses
from rtmo.structures import Poses


@dataclass(frozen=True, slots=True)
class InputBatch:
    """Pictures fitted into the network input."""

    pixels: Floats
    """(B, 3, S, S) float32, BGR, 0..255."""
    letterboxes: tuple[Letterbox, ...]
    """How each picture was fitted."""


@dataclass(frozen=True, slots=True)
class Framing:
    """The network's input square and how pictures are fitted into it."""

    input_size: int
    """Side S of the square, pixels."""
    letterbox: LetterboxRule = "centred"
    """Where the picture lies in it."""

    def prepare(self, images: Sequence[NDArray[Any]]) -> InputBatch:
        """Fit pictures of any sizes into one batch.

        Args:
            images: BGR uint8 arrays of shape (H, W, 3).

        Raises:
            ValueError: if an array is not such a picture.
        """
        size = self.input_size
        letterboxes = tuple(self._fit(check_picture(image)) for image in images)
        pixels = np.empty((len(images), 3, size, size), dtype=np.float32)
        for row, letterbox, image in zip(pixels, letterboxes, images, strict=True):
            row[...] = letterbox.apply(image).transpose(2, 0, 1)
        return InputBatch(pixels, letterboxes)

    def finish(self, people: Sequence[InputPeople], batch: InputBatch) -> list[Poses]:
        """People in input pixels -> people in the pixels of their pictures."""
        return [
            to_poses(found, letterbox, self.input_size)
            for found, letterbox in zip(people, batch.letterboxes, strict=True)
        ]

    def _fit(self, image: NDArray[Any]) -> Letterbox:
        size_hw = (image.shape[0], image.shape[1])
        if self.letterbox == "centred":
            return Letterbox.centred(size_hw, self.input_size)
        return Letterbox.top_left(size_hw, (self.input_size, self.input_size))


def check_picture(image: NDArray[Any]) -> NDArray[Any]:
    """The picture itself, if it is one.

    Raises:
        ValueError: if it is not a non-empty BGR uint8 array of shape (H, W, 3).
    """
    if not isinstance(image, np.ndarray):
        raise ValueError(  # noqa: TRY004 - every bad picture is a ValueError, whatever is wrong
            f"a picture must be a numpy array, got {type(image).__name__}; "
            "read files with cv2.imread(path)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(
            f"a picture must be BGR uint8 of shape (H, W, 3), got {image.dtype} of shape "
            f"{image.shape}; grey and RGBA pictures need cv2.cvtColor, 16-bit and float ones "
            "a conversion to 0..255 first"
        )
    return image

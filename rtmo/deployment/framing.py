"""How pictures become network input, and how people found there come back to the pictures.

Both directions use the same `Letterbox` value; the rule is SPEC's centred one or rtmlib's corner,
padded to the whole square or only to the next stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtmo.data.letterbox import Letterbox
from rtmo.deployment.metadata import LetterboxRule, Padding
from rtmo.deployment.postprocess import Floats, InputPeople, to_poses
from rtmo.structures import Poses

STRIDE = 32
"""Sides of the network input are multiples of it, pixels."""
BATCH = 8
"""Pictures in a batch where nobody says otherwise."""
MAX_SIDE = 2**15 - 2
"""Longest side of a picture that OpenCV warps, pixels."""


@dataclass(frozen=True, slots=True)
class InputBatch:
    """Pictures fitted into the network input."""

    pixels: Floats
    """(B, 3, H, W) float32, BGR, 0..255; H = W = S with square padding."""
    letterboxes: tuple[Letterbox, ...]
    """How each picture was fitted."""


@dataclass(frozen=True, slots=True)
class Framing:
    """The network's input and how pictures are fitted into it."""

    input_size: int
    """Longer side S of the input, pixels."""
    letterbox: LetterboxRule = "centred"
    """Where the picture lies in it."""
    padding: Padding = "square"
    """How far it is padded."""

    def prepare(self, images: Sequence[NDArray[Any]]) -> InputBatch:
        """Fit pictures into one batch.

        Args:
            images: BGR uint8 arrays of shape (H, W, 3): of any sizes with square padding, else of
                one group of `groups`.

        Raises:
            ValueError: if an array is not such a picture, or if their inputs differ in size.
        """
        letterboxes = tuple(self.fit(image) for image in images)
        sizes_hw = {letterbox.input_hw for letterbox in letterboxes}
        if len(sizes_hw) != 1:
            raise ValueError(
                f"{len(images)} pictures need inputs of sizes {sorted(sizes_hw)} (height, width); "
                "a batch has one size: split them with Framing.groups"
            )
        pixels = np.empty((len(images), 3, *letterboxes[0].input_hw), dtype=np.float32)
        for row, letterbox, image in zip(pixels, letterboxes, images, strict=True):
            row[...] = letterbox.apply(image).transpose(2, 0, 1)
        return InputBatch(pixels, letterboxes)

    def inputs(self, images: Sequence[NDArray[Any]]) -> list[Floats]:
        """Pictures as network inputs, in batches of `BATCH`; square padding only."""
        return [
            self.prepare(images[start : start + BATCH]).pixels
            for start in range(0, len(images), BATCH)
        ]

    def groups(self, images: Sequence[NDArray[Any]]) -> list[list[int]]:
        """Places of the pictures that fit into one batch together; all of them with square padding.

        Raises:
            ValueError: if an array is not a picture.
        """
        places: dict[tuple[int, int], list[int]] = {}
        for place, image in enumerate(images):
            places.setdefault(self.fit(image).input_hw, []).append(place)
        return list(places.values())

    def finish(self, people: Sequence[InputPeople], batch: InputBatch) -> list[Poses]:
        """People in input pixels -> people in the pixels of their pictures."""
        return [
            to_poses(found, letterbox)
            for found, letterbox in zip(people, batch.letterboxes, strict=True)
        ]

    def fit(self, image: NDArray[Any]) -> Letterbox:
        """How a picture lies in the input.

        Raises:
            ValueError: if the array is not a picture.
        """
        height, width, _ = check_picture(image).shape
        size = self.input_size
        letterbox = (
            Letterbox.centred((height, width), size)
            if self.letterbox == "centred"
            else Letterbox.top_left((height, width), (size, size))
        )
        return letterbox if self.padding == "square" else letterbox.trimmed(STRIDE)


def check_picture(image: NDArray[Any]) -> NDArray[Any]:
    """The picture itself, if it is one.

    Raises:
        ValueError: if it is not a non-empty BGR uint8 array of shape (H, W, 3), or is too long.
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
    if max(image.shape) > MAX_SIDE:
        raise ValueError(
            f"a picture of {image.shape[1]} x {image.shape[0]} is too long for OpenCV, which warps "
            f"sides up to {MAX_SIDE}; scale it down or cut it"
        )
    return image

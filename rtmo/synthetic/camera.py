"""What a camera does to a scene: uneven light, soft focus, noise, JPEG."""

from __future__ import annotations

import cv2
import numpy as np


def develop(rng: np.random.Generator, image: np.ndarray, quality: tuple[int, int]) -> bytes:
    """A painted picture (H, W, 3) as the bytes of a JPEG file."""
    image = _uneven_light(rng, image)
    if rng.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    image = _noise(rng, image)
    parameters = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(quality[0], quality[1] + 1))]
    _, encoded = cv2.imencode(".jpg", image, parameters)
    return encoded.tobytes()


def _uneven_light(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Exposure, a colour cast, and a soft gradient over the picture.

    In whole numbers, so that every processor gives the same pixels.
    """
    height, width = image.shape[:2]
    exposure = rng.uniform(0.82, 1.2)
    cast = 1.0 + rng.normal(0, 0.04, 3)
    gains = exposure * (1.0 + rng.normal(0, 0.1, (2, 3, 1))) * cast
    corners = np.clip(np.rint(UNIT_GAIN * gains), 0, 255).astype(np.uint8)
    gain = cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return cv2.multiply(image, gain, scale=1 / UNIT_GAIN)


UNIT_GAIN = 128
"""The gain that leaves a pixel as it is."""


def _noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Grain, the same in all channels."""
    height, width = image.shape[:2]
    strength = int(rng.integers(1, 9))
    grain = rng.integers(-strength, strength + 1, (height, width), np.int8)
    return cv2.add(image, cv2.merge([grain, grain, grain]), dtype=cv2.CV_8U)

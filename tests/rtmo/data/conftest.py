"""Pictures and goldens for the data tests."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden(shared: Path) -> dict[str, np.ndarray]:
    """Numbers of the official preprocessing."""
    return dict(np.load(shared / "rtmo/golden/preprocess.npz"))


@pytest.fixture(scope="session")
def golden_image() -> Callable[[str, int, int], np.ndarray]:
    """The goldens' pictures by name, height and width (shared/rtmo/golden/README.md, img8)."""

    def make(name: str, height: int, width: int) -> np.ndarray:
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        coarse = rng.random((height // 8 + 2, width // 8 + 2, 3)) * 255
        smooth = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
        noisy = smooth + 10 * rng.standard_normal((height, width, 3))
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)

    return make

"""Random numbers as a function of what they are for and where: there is no generator to save."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """Keeps streams apart that would otherwise share their numbers, as (epoch) and (step) would."""

    SAMPLE = 1
    """One augmented sample; position is (epoch, index)."""
    ORDER = 2
    """The order of an epoch; position is (epoch,)."""
    INPUT_SIZE = 3
    """The input side of a step; position is (step,)."""
    PICTURE = 4
    """Which picture of a merged set a sample shows; position is (epoch, index)."""


def generator(purpose: Purpose, seed: int, *position: int) -> np.random.Generator:
    """The generator that belongs to one place of a run.

    Example:
        >>> generator(Purpose.ORDER, 0, 3).integers(1000) == generator(
        ...     Purpose.ORDER, 0, 3
        ... ).integers(1000)
        np.True_
    """
    return np.random.default_rng((int(purpose), seed, *position))

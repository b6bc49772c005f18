"""Impossible settings of the input pipelines are refused."""

import pytest
from pydantic import ValidationError

from rtmo.data.config import AugmentConfig, LetterboxConfig, MosaicConfig


@pytest.mark.parametrize("scale", [(1.0, 0.5), (0.0, 1.0), (-1.0, 1.0)])
@pytest.mark.parametrize("section", [MosaicConfig, LetterboxConfig])
def test_a_scale_range_must_be_positive_and_increase(section, scale):
    with pytest.raises(ValidationError, match="0 < smallest <= largest"):
        section(scale=scale)


@pytest.mark.parametrize(
    ("sides", "message"), [((480, 500), "multiples of 32"), ((640, 480), "smallest <= largest")]
)
def test_multiscale_sides_are_multiples_of_the_largest_stride(sides, message):
    with pytest.raises(ValidationError, match=message):
        AugmentConfig(multiscale=sides)

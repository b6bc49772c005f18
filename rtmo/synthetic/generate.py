"""Draw a split of the embedded dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from rtmo.synthetic.camera import develop
from rtmo.synthetic.config import SyntheticConfig
from rtmo.synthetic.records import SyntheticImage
from rtmo.synthetic.scene import compose

IDS_PER_SPLIT = 1_000_000
"""Image ids of the n-th split of a config start at n times this."""


def generate(config: SyntheticConfig, split: str) -> Iterator[SyntheticImage]:
    """Every picture of a split, in order of index.

    Raises:
        ValueError: if the config has no such split.
    """
    if split not in config.num_images:
        raise ValueError(f"no split {split!r} in num_images, which has {[*config.num_images]}")
    return (draw_image(config, split, index) for index in range(config.num_images[split]))


def draw_image(config: SyntheticConfig, split: str, index: int) -> SyntheticImage:
    """One picture, a function of (config, split, index) alone."""
    rng = _image_rng(config.seed, split, index)
    image, people = compose(rng, config)
    image_id = IDS_PER_SPLIT * [*config.num_images].index(split) + index + 1
    return SyntheticImage(
        image_id=image_id,
        file_name=f"{image_id:012d}.jpg",
        jpeg=develop(rng, image, config.jpeg_quality),
        width=config.width,
        height=config.height,
        people=people,
    )


def _image_rng(seed: int, split: str, index: int) -> np.random.Generator:
    name = int.from_bytes(hashlib.sha256(split.encode()).digest()[:8], "big")
    return np.random.default_rng([seed, name, index])

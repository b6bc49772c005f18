"""What the generator hands out: pictures and the people in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np


class RunLengths(TypedDict):
    """COCO's uncompressed run-length encoding: runs of 0 and 1 in turn, column by column."""

    size: list[int]
    counts: list[int]


Polygons = list[list[float]]
"""COCO polygons: flat lists x, y, x, y, ... in pixels, pixel i covering [i, i + 1]."""


@dataclass(frozen=True, slots=True)
class SyntheticPerson:
    """One person, or one region of uncountable people, as an annotator would record it."""

    coco_keypoints: np.ndarray
    """(17, 3) float32: x, y of the joint and v; picture pixels, pixel centres at integers.

    v = 2 visible, 1 hidden but labelled, 0 not labelled; x and y are then 0.
    """
    crowdpose_keypoints: np.ndarray
    """(14, 3) float32, as above."""
    box_xywh: tuple[float, float, float, float]
    """Bounds of the visible pixels."""
    area: int
    """Pixels of the segmentation."""
    segmentation: Polygons | RunLengths
    """Outline of the visible pixels; run lengths for a crowd region."""
    is_crowd: bool
    """Whether this is a region of uncountable people; it has no keypoints."""


@dataclass(frozen=True, slots=True)
class SyntheticImage:
    """One picture with its people; `jpeg` is the whole file."""

    image_id: int
    file_name: str
    jpeg: bytes
    width: int
    height: int
    people: tuple[SyntheticPerson, ...]

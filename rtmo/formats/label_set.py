"""What a labelling tool's files say, whichever tool it was; and what is written for another."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from rtmo.formats.records import ImageRecord

LabelFormat = Literal["coco", "cvat", "yolo", "label-studio"]
LabelSplit = Literal["train", "val", "gate"]
DECIMALS = 6
"""Kept of pixels that come from shares: without rounding, a box at the border reaches outside."""


@dataclass(frozen=True, slots=True)
class DeclaredSkeleton:
    """What the files themselves say of their keypoints."""

    keypoints: tuple[str, ...]
    """Names in the order of every array."""
    limbs: tuple[tuple[int, int], ...] = ()
    """Index pairs to join by a line."""
    flip_pairs: tuple[tuple[int, int], ...] | None = None
    """Index pairs that change places in a mirror; None where the format does not say."""
    remark: str = ""
    """How the names or their order were settled, where the files leave it open."""


@dataclass(frozen=True, slots=True)
class LabelSet:
    """Every labelled picture of an export."""

    format: LabelFormat
    skeleton: DeclaredSkeleton
    splits: Mapping[LabelSplit, tuple[ImageRecord, ...]]
    """`file_name` of a record is the picture's path in the folder or archive."""
    documents: tuple[str, ...]
    """Paths of the files that the labels were read from."""


@dataclass(frozen=True, slots=True)
class WrittenLabels:
    """The files of an export, without the pictures."""

    documents: Mapping[str, bytes]
    """Content by path."""
    pictures: Mapping[str, str]
    """Path where a picture belongs, by its `file_name`."""
    lost: tuple[str, ...]
    """What was there and the format has no place for, in words."""


def split_named(name: str) -> LabelSplit:
    """Which split a tool's name for a subset means; what is neither val nor test trains.

    Example:
        >>> split_named("Validation"), split_named("test"), split_named("train2017")
        ('val', 'gate', 'train')
    """
    match name.lower()[:3]:
        case "val":
            return "val"
        case "tes":
            return "gate"
        case _:
            return "train"


def short_names(records: Iterable[ImageRecord]) -> dict[str, str]:
    """Each `file_name` without the folders that all have in common.

    Example:
        >>> from rtmo.formats.records import ImageRecord
        >>> names = ("images/day/a.jpg", "images/night/a.jpg")
        >>> list(short_names(ImageRecord(1, n, 9, 9, None, False, ()) for n in names).values())
        ['day/a.jpg', 'night/a.jpg']
    """
    names = [record.file_name for record in records]
    common = os.path.commonpath([PurePosixPath(name).parent for name in names]) if names else ""
    return {name: PurePosixPath(name).relative_to(common).as_posix() for name in names}

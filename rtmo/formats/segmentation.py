"""Segmentations of COCO annotation files: polygons, and run lengths plain or compressed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtmo.formats.records import FormatError, Polygons, RunLengths, Segmentation

POINTS_IN_SMALLEST_POLYGON = 3


def read_segmentation(value: Any) -> Segmentation | None:  # noqa: ANN401 - raw JSON
    """The segmentation field of one annotation; None when it is absent or empty.

    Raises:
        FormatError: if it is neither a list of polygons nor run lengths of its size.

    Example:
        >>> read_segmentation({"size": [2, 3], "counts": [1, 2, 3]})
        RunLengths(size_hw=(2, 3), counts=(1, 2, 3))
    """
    if value is None or value in ([], {}):
        return None
    if isinstance(value, list):
        return Polygons(tuple(_polygon(part) for part in value))
    if isinstance(value, dict) and {"size", "counts"} <= value.keys():
        return _run_lengths(value["size"], value["counts"])
    raise FormatError(
        f"segmentation is {type(value).__name__}, expected a list of polygons or size and counts"
    )


def write_segmentation(segmentation: Segmentation) -> list[list[float]] | dict[str, list[int]]:
    """The value for an annotation file; run lengths are written uncompressed."""
    if isinstance(segmentation, Polygons):
        return [list(part) for part in segmentation.parts]
    return {"size": list(segmentation.size_hw), "counts": list(segmentation.counts)}


def _polygon(part: Any) -> tuple[float, ...]:  # noqa: ANN401 - raw JSON
    if not isinstance(part, list) or not all(isinstance(number, int | float) for number in part):
        raise FormatError("a polygon is not a list of numbers")
    if len(part) % 2 or len(part) < 2 * POINTS_IN_SMALLEST_POLYGON:
        raise FormatError(f"a polygon has {len(part)} numbers, expected an even number from 6 up")
    return tuple(part)


def _run_lengths(size: Any, counts: Any) -> RunLengths:  # noqa: ANN401 - raw JSON
    if not (isinstance(size, list) and len(size) == 2 and all(isinstance(n, int) for n in size)):
        raise FormatError(f"run-length size is {size!r}, expected [height, width]")
    if isinstance(counts, str):
        counts = decompress_counts(counts)
    if not isinstance(counts, Sequence) or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise FormatError("run lengths are not whole numbers")
    if sum(counts) != size[0] * size[1]:
        raise FormatError(f"run lengths add up to {sum(counts)}, the mask has {size[0]}x{size[1]}")
    return RunLengths((size[0], size[1]), tuple(counts))


def decompress_counts(text: str) -> list[int]:
    """Run lengths from COCO's compressed string.

    Each number is written in groups of five bits, lowest first, as characters from '0' on; bit 6
    says that more follow, the sign is extended from the last group, and from the fourth number on
    the difference to the number two before is written.

    Source: https://github.com/cocodataset/cocoapi (common/maskApi.c, rleFrString)

    Example:
        >>> decompress_counts("123")
        [1, 2, 3]
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode():
        group = character - 48
        if not 0 <= group < 64:
            raise FormatError(f"compressed run lengths hold the byte {character}")
        value |= (group & 0x1F) << shift
        shift += 5
        if group & 0x20:
            continue
        if group & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise FormatError("compressed run lengths end inside a number")
    return counts

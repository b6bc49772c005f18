"""What an annotation file says, as frozen values: one picture, its people, their segmentations."""

from __future__ import annotations

from dataclasses import dataclass


class FormatError(ValueError):
    """An annotation file cannot be read as its format; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """Outline of a person: closed polygons (x0, y0, x1, y1, ...) in picture pixels."""

    parts: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class RunLengths:
    """Mask of a region: lengths of runs of 0 and 1 in turn, column by column, 0 first."""

    size_hw: tuple[int, int]
    """Mask size; the lengths add up to its product."""
    counts: tuple[int, ...]


Segmentation = Polygons | RunLengths


@dataclass(frozen=True, slots=True)
class PersonRecord:
    """One annotated person, numbers as in the file."""

    id: int
    """Annotation id, unique in its file."""
    box_xywh: tuple[float, float, float, float]
    """Left, top, width, height in picture pixels; may reach outside the picture."""
    keypoints: tuple[float, ...]
    """x, y, v for each keypoint (3K numbers); v is 0 unlabelled, 1 labelled, 2 also visible."""
    num_keypoints: int
    """The file's own count, which the official evaluators read."""
    is_crowd: bool
    """A region with many people and no single pose."""
    area: float | None
    """Segment area in pixels^2; None where the format has none (CrowdPose)."""
    segmentation: Segmentation | None


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One picture of an annotation file with its people in file order."""

    id: int
    file_name: str
    """Path of the picture inside its split, with forward slashes."""
    height: int
    """Pixels; 0 where the file gives no usable size."""
    width: int
    """Pixels; 0 where the file gives no usable size."""
    crowd_index: float | None
    """CrowdPose's crowding of the picture in [0, 1]; None elsewhere."""
    is_turned: bool
    """Whether the annotations are those of the picture after its EXIF orientation is applied."""
    people: tuple[PersonRecord, ...]

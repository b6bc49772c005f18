"""One split of a dataset on disk: memory-mapped columns and JPEGs packed into few large files.

Every source is converted to this form by `rtmo.store_writer`. Opening costs milliseconds and
nothing is copied into a process: loader workers share the pages of the columns. Legend: I pictures,
P people, K keypoints.

    meta.json             StoreMeta
    <column>.npy          one array each, see `COLUMNS`
    images-00000.bin ...  JPEG files one after the other, at most 1 GiB each
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import cv2
import numpy as np

from rtmo._config import Config
from rtmo.formats.coco import estimated_area, write_coco
from rtmo.formats.corrections import CorrectionCounts
from rtmo.formats.licence import Licence as Licence  # part of StoreMeta
from rtmo.formats.records import ImageRecord, PersonRecord, Polygons, RunLengths, Segmentation
from rtmo.skeleton import Skeleton

COLUMNS = MappingProxyType(
    {
        "image_ids": np.int64,  # (I,), increasing
        "sizes_hw": np.int32,  # (I, 2)
        "crowd_indices": np.float64,  # (I,), NaN where the format has none
        "file_names": np.uint8,  # UTF-8, one after the other
        "file_name_ends": np.int64,  # (I,)
        "is_turned": np.bool_,  # (I,): the EXIF orientation is applied on reading
        "jpeg_shards": np.int32,  # (I,)
        "jpeg_offsets": np.int64,  # (I,)
        "jpeg_lengths": np.int64,  # (I,), 0 where the store has annotations only
        "people_ends": np.int64,  # (I,): people of picture i are [ends[i - 1], ends[i])
        "annotation_ids": np.int64,  # (P,)
        "boxes_xywh": np.float64,  # (P, 4), as annotated
        "keypoints": np.float64,  # (P, K, 3): x, y, v as annotated
        "num_keypoints": np.int32,  # (P,), the file's count
        "is_crowd": np.bool_,  # (P,)
        "areas": np.float64,  # (P,), NaN where the format has none
        "segment_kinds": np.uint8,  # (P,): 0 none, 1 polygons, 2 run lengths
        "segment_ends": np.int64,  # (P,): parts of person p
        "part_ends": np.int64,  # one per part: its numbers
        "part_numbers": np.float64,  # polygon coordinates, or height, width, run lengths
    }
)
"""Name and type of every column; float64 keeps the digits of the annotation file."""


class StoreError(ValueError):
    """A store cannot be opened or read; the message names the file and what to do."""


class StoreMeta(Config):
    """What a store holds, in words."""

    format_version: Literal[1] = 1
    """Of the folder's layout."""
    dataset: str
    """Name of the source file."""
    split: Literal["train", "val", "gate"]
    """Which part of the dataset."""
    protocol: Literal["coco", "crowdpose"]
    """By whose rules the split is evaluated."""
    skeleton: Skeleton
    """Keypoints in the order of every array."""
    unannotated: tuple[str, ...] = ()
    """Keypoints that the dataset never annotates: those that the skeleton of a merged set lacks."""
    licence: Licence
    """Terms of annotations and pictures."""
    pictures: Literal["public", "own"] = "own"
    """Own pictures are shown outside of this machine with blurred faces only."""
    corrections: CorrectionCounts | None = None
    """What people corrected in the annotation file; None where nothing was."""


@dataclass(frozen=True, slots=True)
class People:
    """The people of one picture as the official loader reads them, in original pixels. G people."""

    boxes_xyxy: np.ndarray
    """(G, 4) float32, clipped to [0, width - 1] x [0, height - 1]."""
    keypoints: np.ndarray
    """(G, K, 3) float32: x, y, v."""
    areas: np.ndarray
    """(G,) float32; where the format has none, 0.53 x clipped box and at least 1."""
    is_crowd: np.ndarray
    """(G,) bool."""
    num_keypoints: np.ndarray
    """(G,) int32, the file's count."""
    annotation_ids: np.ndarray
    """(G,) int64."""

    def __len__(self) -> int:
        return len(self.annotation_ids)


class Store:
    """Read access to one split. Safe to share between threads and forked processes."""

    def __init__(self, folder: Path, meta: StoreMeta, columns: dict[str, np.ndarray]) -> None:
        self.folder = folder
        self.meta = meta
        self.image_ids = columns["image_ids"]
        self.sizes_hw = columns["sizes_hw"]
        self._columns = columns

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Map the columns of a folder written by `rtmo.store_writer.write_store`.

        Raises:
            StoreError: if the folder is no store of this version or is incomplete.
        """
        try:
            meta = StoreMeta.model_validate_json((folder / "meta.json").read_bytes())
            columns = {name: _map_column(folder / f"{name}.npy") for name in COLUMNS}
        except (OSError, ValueError) as error:
            raise StoreError(
                f"{folder} is not a complete store ({error}); run `dvc repro convert`, or "
                "`dvc checkout convert` to get the former one back"
            ) from error
        return cls(folder, meta, columns)

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        """Pickled as its folder, so that a spawned worker maps the files itself."""
        return Store.open, (self.folder,)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def skeleton(self) -> Skeleton:
        """Keypoints in the order of every array."""
        return self.meta.skeleton

    @cached_property
    def is_annotated(self) -> np.ndarray:
        """(K,) float32: 1.0 where the dataset annotates this keypoint at all, else 0.0."""
        unannotated = self.meta.unannotated
        return np.array([name not in unannotated for name in self.skeleton.keypoints], np.float32)

    @property
    def num_people(self) -> int:
        """Annotated people and crowd regions of all pictures."""
        return len(self._columns["annotation_ids"])

    @cached_property
    def people_per_image(self) -> np.ndarray:
        """(I,) int64: annotated people and crowd regions of each picture."""
        return np.diff(self._columns["people_ends"], prepend=0)

    def file_name(self, index: int) -> str:
        """The picture's name in its source."""
        start, end = _span(self._columns["file_name_ends"], index)
        return self._columns["file_names"][start:end].tobytes().decode()

    def image_bytes(self, index: int) -> np.ndarray:
        """The original JPEG file, (bytes,) uint8, mapped from disk.

        Raises:
            StoreError: if the store holds annotations only.
        """
        length = int(self._columns["jpeg_lengths"][index])
        if length == 0:
            raise StoreError(f"{self.folder} holds no pixels of image {self.image_ids[index]}")
        offset = int(self._columns["jpeg_offsets"][index])
        return self._shards[int(self._columns["jpeg_shards"][index])][offset : offset + length]

    def read_image(self, index: int) -> np.ndarray:
        """The picture the annotations were made on, (H, W, 3) uint8 BGR.

        An EXIF orientation is ignored unless the annotations assume it.

        Raises:
            StoreError: if the JPEG does not decode.
        """
        flags = cv2.IMREAD_COLOR
        if not self._columns["is_turned"][index]:
            flags |= cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(self.image_bytes(index), flags)
        # OpenCV is typed as always returning an array; a broken file gives None.
        if image is None:
            raise StoreError(
                f"image {self.image_ids[index]} of {self.folder} does not decode; convert again"
            )
        return image

    def people(self, index: int) -> People:
        """People of one picture by the official loading rules."""
        people = slice(*_span(self._columns["people_ends"], index))
        height, width = self.sizes_hw[index]
        boxes = self._columns["boxes_xywh"][people]
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        last = np.array([width, height, width, height]) - 1
        boxes_xyxy = np.minimum(np.maximum(corners, 0), last)
        areas = self._columns["areas"][people].copy()
        for person in np.flatnonzero(np.isnan(areas)):
            x1, y1, x2, y2 = boxes_xyxy[person].tolist()
            areas[person] = estimated_area((x2 - x1, y2 - y1))
        return People(
            boxes_xyxy=boxes_xyxy.astype(np.float32),
            keypoints=self._columns["keypoints"][people].astype(np.float32),
            areas=areas.astype(np.float32),
            is_crowd=self._columns["is_crowd"][people],
            num_keypoints=self._columns["num_keypoints"][people],
            annotation_ids=self._columns["annotation_ids"][people],
        )

    def segmentations(self, index: int) -> tuple[Segmentation | None, ...]:
        """Segmentation of each person of one picture, in original pixels."""
        start, end = _span(self._columns["people_ends"], index)
        return tuple(self._segmentation(person) for person in range(start, end))

    def records(self) -> Iterator[ImageRecord]:
        """The annotations as they were written."""
        for index in range(len(self)):
            start, end = _span(self._columns["people_ends"], index)
            height, width = self.sizes_hw[index].tolist()
            crowd_index = float(self._columns["crowd_indices"][index])
            yield ImageRecord(
                id=int(self.image_ids[index]),
                file_name=self.file_name(index),
                height=height,
                width=width,
                crowd_index=None if np.isnan(crowd_index) else crowd_index,
                is_turned=bool(self._columns["is_turned"][index]),
                people=tuple(self._person(person) for person in range(start, end)),
            )

    def to_coco(self) -> dict[str, Any]:
        """The annotation document that the evaluators read: every picture, ordered by id."""
        return write_coco(self.records(), self.skeleton)

    def column(self, name: str) -> np.ndarray:
        """One whole column of `COLUMNS`, read-only, for statistics over all people."""
        return self._columns[name]

    @cached_property
    def _shards(self) -> list[np.ndarray]:
        paths = sorted(self.folder.glob("images-*.bin"))
        return [np.memmap(path, dtype=np.uint8, mode="r") for path in paths]

    def _person(self, person: int) -> PersonRecord:
        columns = self._columns
        x, y, width, height = columns["boxes_xywh"][person].tolist()
        area = float(columns["areas"][person])
        return PersonRecord(
            id=int(columns["annotation_ids"][person]),
            box_xywh=(x, y, width, height),
            keypoints=tuple(columns["keypoints"][person].ravel().tolist()),
            num_keypoints=int(columns["num_keypoints"][person]),
            is_crowd=bool(columns["is_crowd"][person]),
            area=None if np.isnan(area) else area,
            segmentation=self._segmentation(person),
        )

    def _segmentation(self, person: int) -> Segmentation | None:
        kind = int(self._columns["segment_kinds"][person])
        if kind == 0:
            return None
        parts = range(*_span(self._columns["segment_ends"], person))
        numbers = [
            self._columns["part_numbers"][slice(*_span(self._columns["part_ends"], part))].tolist()
            for part in parts
        ]
        if kind == 1:
            return Polygons(tuple(map(tuple, numbers)))
        height, width, *counts = map(int, numbers[0])
        return RunLengths((height, width), tuple(counts))


def _map_column(path: Path) -> np.ndarray:
    # An empty file cannot be mapped: a column without rows is read instead.
    try:
        column: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        column = np.load(path, allow_pickle=False)
    expected = np.dtype(COLUMNS[path.stem])
    if column.dtype != expected:
        raise ValueError(f"{path.name} holds {column.dtype}, expected {expected}")
    # A plain array on the same pages: np.memmap is slower to slice.
    return np.asarray(column)


def _span(ends: np.ndarray, index: int) -> tuple[int, int]:
    return (int(ends[index - 1]) if index else 0), int(ends[index])

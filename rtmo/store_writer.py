"""Writing one split of a dataset in the form that `rtmo.store` reads.

Writing the same records gives the same bytes.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rtmo.formats.records import ImageRecord, PersonRecord, Polygons, RunLengths, Segmentation
from rtmo.store import COLUMNS, StoreError, StoreMeta

SHARD_BYTES = 1 << 30


def write_store(
    folder: Path, meta: StoreMeta, records: Iterable[tuple[ImageRecord, bytes | None]]
) -> None:
    """Write one split; `records` are pictures by increasing id, each with its JPEG file.

    None instead of a JPEG writes a store of annotations only, for evaluation. Pictures are written
    as they come, so a generator keeps memory low.

    Raises:
        StoreError: if ids do not increase or a person has another number of keypoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    columns = _Columns(meta.skeleton.num_keypoints)
    with _ShardWriter(folder) as shards:
        for record, jpeg in records:
            columns.add_image(record, shards.add(jpeg or b""))
    columns.save(folder)
    text = json.dumps(meta.model_dump(mode="json"), indent=2)
    (folder / "meta.json").write_text(text + "\n")


class _ShardWriter:
    """Appends files to numbered shards, beginning a new one before the size limit is passed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = -1
        self._used = SHARD_BYTES
        self._file: BinaryIO | None = None

    def __enter__(self) -> _ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, content: bytes) -> tuple[int, int, int]:
        """Shard number, offset and length of the content, now written."""
        if not content:
            return 0, 0, 0
        if self._file is None or self._used + len(content) > SHARD_BYTES:
            if self._file is not None:
                self._file.close()
            self._number += 1
            self._used = 0
            self._file = (self._folder / f"images-{self._number:05d}.bin").open("wb")
        self._file.write(content)
        self._used += len(content)
        return self._number, self._used - len(content), len(content)


class _Columns:
    """The columns while they grow, as flat typed arrays."""

    def __init__(self, num_keypoints: int) -> None:
        self._num_keypoints = num_keypoints
        self._last_id: int | None = None
        # array has no bool; a byte of 0 or 1 is one.
        self._data: dict[str, array[Any]] = {
            name: array("b" if kind is np.bool_ else np.dtype(kind).char)
            for name, kind in COLUMNS.items()
        }

    def add_image(self, record: ImageRecord, jpeg: tuple[int, int, int]) -> None:
        if self._last_id is not None and record.id <= self._last_id:
            raise StoreError(
                f"image {record.id} comes after image {self._last_id}; pictures are written by "
                "increasing id"
            )
        self._last_id = record.id
        data = self._data
        for person in record.people:
            self._add_person(person)
        data["image_ids"].append(record.id)
        data["sizes_hw"].extend((record.height, record.width))
        data["crowd_indices"].append(np.nan if record.crowd_index is None else record.crowd_index)
        data["is_turned"].append(record.is_turned)
        data["file_names"].frombytes(record.file_name.encode())
        data["file_name_ends"].append(len(data["file_names"]))
        for name, value in zip(("jpeg_shards", "jpeg_offsets", "jpeg_lengths"), jpeg, strict=True):
            data[name].append(value)
        data["people_ends"].append(len(data["annotation_ids"]))

    def _add_person(self, person: PersonRecord) -> None:
        if len(person.keypoints) != 3 * self._num_keypoints:
            raise StoreError(
                f"annotation {person.id} has {len(person.keypoints)} keypoint numbers, expected "
                f"{3 * self._num_keypoints}"
            )
        data = self._data
        data["annotation_ids"].append(person.id)
        data["boxes_xywh"].extend(person.box_xywh)
        data["keypoints"].extend(person.keypoints)
        data["num_keypoints"].append(person.num_keypoints)
        data["is_crowd"].append(person.is_crowd)
        data["areas"].append(np.nan if person.area is None else person.area)
        kind, parts = _segment_columns(person.segmentation)
        for part in parts:
            data["part_numbers"].extend(part)
            data["part_ends"].append(len(data["part_numbers"]))
        data["segment_kinds"].append(kind)
        data["segment_ends"].append(len(data["part_ends"]))

    def save(self, folder: Path) -> None:
        shapes = {
            "sizes_hw": (-1, 2),
            "boxes_xywh": (-1, 4),
            "keypoints": (-1, self._num_keypoints, 3),
        }
        for name, kind in COLUMNS.items():
            values: np.ndarray = np.frombuffer(self._data[name], dtype=kind)
            np.save(folder / f"{name}.npy", values.reshape(shapes.get(name, (-1,))))


def _segment_columns(
    segmentation: Segmentation | None,
) -> tuple[int, tuple[tuple[float, ...], ...]]:
    """Kind and parts of a segmentation as the columns hold them."""
    match segmentation:
        case None:
            return 0, ()
        case Polygons(parts=polygons):
            return 1, polygons
        case RunLengths(size_hw=size_hw, counts=counts):
            return 2, ((*size_hw, *counts),)

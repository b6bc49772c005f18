"""COCO-format annotation files and their pictures as stores, for a training without a pipeline."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import track

from rtmo.formats.coco import read_coco
from rtmo.formats.crowdpose import read_crowdpose
from rtmo.formats.doctor import check_pictures
from rtmo.formats.findings import Findings, Problem
from rtmo.formats.licence import Licence
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.skeleton import Skeleton
from rtmo.store import Store, StoreMeta
from rtmo.store_writer import write_store

NOT_STATED = Licence(name="not stated", url="", commercial_use="unknown")


@dataclass(frozen=True, slots=True)
class CocoSplit:
    """One annotation file and the folder of its pictures."""

    name: Literal["train", "val"]
    annotations: Path
    images: Path
    skeleton: Skeleton
    protocol: Literal["coco", "crowdpose"]
    """By whose rules it is evaluated; CrowdPose's files also count keypoints differently."""

    def digest(self) -> str:
        """Of the annotations, and of the pictures' names, sizes and times of change."""
        digest = hashlib.sha256(self.annotations.read_bytes())
        digest.update(self.skeleton.model_dump_json().encode())
        for path in sorted(self.images.rglob("*")):
            facts = path.stat()
            digest.update(f"{path.name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
        return digest.hexdigest()


def open_or_write(split: CocoSplit, folder: Path) -> tuple[Store, Findings]:
    """The store of a split: the one in `folder` if it is complete, else written now.

    Returns:
        The store, and what the dataset doctor found; nothing for a store that was there.

    Raises:
        FormatError: if the annotations are no keypoint file of the skeleton, or no picture with a
            labelled person is left.
    """
    findings = Findings()
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        write_store(partial, _meta(split), _checked(split, findings))
        partial.replace(folder)
    store = Store.open(folder)
    if not (store.column("keypoints")[:, :, 2] > 0).any():
        shutil.rmtree(folder)
        found = {problem.label: count for problem, count in findings.counts.items()}
        raise FormatError(
            f"{split.annotations} with the pictures of {split.images} has no person with a "
            f"labelled keypoint in a usable picture; found on the way: {found or 'nothing wrong'}"
        )
    return store, findings


def _checked(split: CocoSplit, findings: Findings) -> Iterator[tuple[ImageRecord, bytes]]:
    try:
        document = json.loads(split.annotations.read_bytes())
    except ValueError as error:
        raise FormatError(f"{split.annotations} is not JSON: {error}") from None
    read = read_crowdpose if split.protocol == "crowdpose" else read_coco
    records = sorted(read(document, split.skeleton, findings), key=lambda record: record.id)
    shown = track(records, split.name, console=Console(stderr=True))
    yield from check_pictures(_pictures(shown, split.images, findings), split.skeleton, findings)


def _pictures(
    records: Iterable[ImageRecord], folder: Path, findings: Findings
) -> Iterator[tuple[ImageRecord, bytes]]:
    """Records with their files, those that are there."""
    inside = folder.resolve()
    for record in records:
        path = (inside / record.file_name).resolve()
        if path.is_relative_to(inside) and path.is_file():
            yield record, path.read_bytes()
        else:
            findings.add(Problem.IMAGE_FILE_MISSING, f"image {record.id} ({record.file_name})")


def _meta(split: CocoSplit) -> StoreMeta:
    return StoreMeta(
        dataset=split.annotations.stem,
        split=split.name,
        protocol=split.protocol,
        skeleton=split.skeleton,
        licence=NOT_STATED,
    )

"""Own labels, as a labelling tool exported them, into the layout that `convert` reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipelines.sources.archives import write_archive
from pipelines.sources.schema import Labels, Location, Source, SourceError, SplitLocations
from rtmo.formats.coco import write_coco
from rtmo.formats.findings import Findings
from rtmo.formats.jpeg import START
from rtmo.formats.label_files import LabelFiles
from rtmo.formats.label_set import LabelSet, LabelSplit
from rtmo.formats.labels import read_labels
from rtmo.formats.records import ImageRecord
from rtmo.formats.splits import choose_gate

ARCHIVE = "pictures.zip"
FOLDER = "pictures"
JPEG_QUALITY = 95
"""Of pictures that come in another format."""

Splits = dict[LabelSplit, tuple[ImageRecord, ...]]


def pack_labels(source: Source, get: Labels, path: Path, out: Path) -> None:
    """Write every picture as a JPEG and an annotation file per split.

    Raises:
        SourceError: if the labels or pictures are not those that `init` saw.
        FormatError: if the labels cannot be read.
    """
    if not path.exists():
        raise SourceError(
            f"{path} does not exist; sources/{source.dataset}.json takes the labels from there"
        )
    files = LabelFiles(path)
    labels = read_labels(files, Findings(), source.keypoints.keypoints)
    if labels_digest(files, labels) != get.sha256:
        raise SourceError(
            f"the labels or pictures in {path} are not those that sources/{source.dataset}.json "
            "was made for; take the change in with `rtmo-pipeline init --data "
            f"{get.path} --name {source.dataset}` and the options used before"
        )
    splits = divide(files, labels, get.val_fraction)
    for split, records in splits.items():
        renamed = (replace(record, file_name=jpeg_name(record)) for record in records)
        document = write_coco(renamed, source.keypoints)
        (out / f"{split}.json").write_text(json.dumps(document, separators=(",", ":")))
    write_archive(out / ARCHIVE, _members(files, splits))


def split_locations(splits: Splits) -> dict[LabelSplit, SplitLocations]:
    """Where `pack_labels` puts every split."""
    return {
        split: SplitLocations(
            images=Location(archive=ARCHIVE, path=FOLDER),
            annotations=Location(path=f"{split}.json"),
        )
        for split in splits
    }


def divide(files: LabelFiles, labels: LabelSet, val_fraction: float) -> Splits:
    """The splits, with some training pictures for validation where the export has none.

    Which ones depends on their content only.

    Raises:
        SourceError: if nothing is left to train on.
    """
    splits = dict(labels.splits)
    train = splits.get("train", ())
    if val_fraction:
        there = {r.file_name: files.fingerprint(r.file_name) for r in train if r.file_name in files}
        chosen = choose_gate(there.values(), val_fraction)
        splits["val"] = tuple(r for r in train if there.get(r.file_name) in chosen)
        splits["train"] = tuple(r for r in train if there.get(r.file_name) not in chosen)
    if not splits.get("train"):
        raise SourceError(
            f"{files.path} has no pictures to train on; its parts are "
            f"{', '.join(f'{name} ({len(records)})' for name, records in splits.items())}"
        )
    return splits


def labels_digest(files: LabelFiles, labels: LabelSet) -> str:
    """What identifies labels and pictures, whatever else lies beside them."""
    pictures = (record.file_name for records in labels.splits.values() for record in records)
    return files.digest((*labels.documents, *(name for name in pictures if name in files)))


def jpeg_of(files: LabelFiles, name: str) -> bytes:
    """A picture as a JPEG file: as it is, or drawn anew; what is no picture stays what it is."""
    content = files.read(name)
    if content.startswith(START) or not content:
        return content
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        return content
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def jpeg_name(record: ImageRecord) -> str:
    """A name of its own for the JPEG of a picture.

    Example:
        >>> from rtmo.formats.records import ImageRecord
        >>> jpeg_name(ImageRecord(1, "a/b.PNG", 9, 9, None, False, ()))
        'a/b.PNG.jpg'
    """
    name = record.file_name
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"


def _members(files: LabelFiles, splits: Splits) -> Iterator[tuple[str, bytes]]:
    for records in splits.values():
        for record in records:
            if record.file_name in files:
                name = jpeg_name(record)
                yield f"{FOLDER}/{name}", jpeg_of(files, record.file_name)

"""COCO keypoint files with their pictures: COCO's own layout and CVAT's "COCO Keypoints" archive.

    COCO   annotations/person_keypoints_train2017.json   train2017/0001.jpg
    CVAT   annotations/person_keypoints_<subset>.json    images/<subset>/0001.jpg

Sources: https://cocodataset.org/#format-data,
https://docs.cvat.ai/docs/dataset_management/formats/format-coco-keypoints
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Literal

from rtmo.formats.coco import read_keypoint_file, write_coco
from rtmo.formats.findings import Findings
from rtmo.formats.label_files import LabelFiles
from rtmo.formats.label_set import (
    DeclaredSkeleton,
    LabelSet,
    LabelSplit,
    WrittenLabels,
    short_names,
    split_named,
)
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.skeleton import Skeleton

TABLES = ("images", "annotations", "categories")


def coco_documents(files: LabelFiles) -> dict[str, Any]:
    """The keypoint annotation files of an export, parsed, by path."""
    parsed = {name: _json(files, name) for name in files.names if name.lower().endswith(".json")}
    return {name: content for name, content in parsed.items() if _has_keypoints(content)}


def read_coco_folder(files: LabelFiles, findings: Findings) -> LabelSet:
    """Every keypoint file of a folder or archive, a split each by its name.

    Raises:
        FormatError: naming the file, if there is none, they disagree, or one is malformed.
    """
    documents = coco_documents(files)
    if not documents:
        raise FormatError(f"{files.path} has no JSON file with keypoint categories, as COCO's")
    declared: DeclaredSkeleton | None = None
    splits: dict[LabelSplit, list[ImageRecord]] = {}
    for name, document in documents.items():
        subset = _subset(name)
        try:
            skeleton = _declared(document)
            records = _read(document, skeleton, findings)
        except FormatError as error:
            raise FormatError(f"{name} in {files.path}: {error}") from None
        if declared is not None and skeleton.keypoints != declared.keypoints:
            raise FormatError(
                f"{name} in {files.path} has keypoints {', '.join(skeleton.keypoints)}, the files "
                f"before it {', '.join(declared.keypoints)}; export them with one skeleton"
            )
        declared = declared or skeleton
        located = [replace(r, file_name=files.place(r.file_name, subset)) for r in records]
        present = splits.setdefault(split_named(subset), [])
        present.extend(_renumbered(located, present))
    assert declared is not None
    is_cvat = any("images" in PurePosixPath(name).parts for name in files.pictures)
    return LabelSet(
        format="cvat" if is_cvat else "coco",
        skeleton=declared,
        splits={split: tuple(records) for split, records in splits.items()},
        documents=tuple(documents),
    )


def write_coco_folder(
    splits: Mapping[LabelSplit, Sequence[ImageRecord]],
    skeleton: Skeleton,
    layout: Literal["coco", "cvat"],
) -> WrittenLabels:
    """One keypoint file per split. Both layouts hold everything but flip pairs and sigmas."""
    documents: dict[str, bytes] = {}
    pictures: dict[str, str] = {}
    for split, records in splits.items():
        folder = f"images/{split}" if layout == "cvat" else split
        names = short_names(records)
        pictures |= {name: f"{folder}/{short}" for name, short in names.items()}
        renamed = (replace(record, file_name=names[record.file_name]) for record in records)
        document = write_coco(renamed, skeleton)
        for annotation in document["annotations"]:
            annotation.setdefault("segmentation", [])  # Datumaro, CVAT's reader, insists on it
        content = json.dumps(document, separators=(",", ":")).encode()
        documents[f"annotations/person_keypoints_{split}.json"] = content
    lost = ("flip pairs and sigmas: COCO's files have no field for them",)
    return WrittenLabels(documents, pictures, lost)


def _json(files: LabelFiles, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        return json.loads(files.read(name))
    except ValueError as error:  # of JSON, or of text that is no UTF-8
        raise FormatError(
            f"{name} in {files.path} is no JSON file ({error}); was it cut short?"
        ) from None


def _has_keypoints(document: Any) -> bool:  # noqa: ANN401 - parsed JSON
    if not isinstance(document, dict) or not all(table in document for table in TABLES):
        return False
    categories = document["categories"]
    return isinstance(categories, list) and any(
        isinstance(category, dict) and category.get("keypoints") for category in categories
    )


def _subset(name: str) -> str:
    """The tool's name of a part: of the file, or of its folder where all files have one name.

    Example:
        >>> _subset("annotations/person_keypoints_Train.json"), _subset("a/valid/_annotations.json")
        ('Train', 'valid')
    """
    path = PurePosixPath(name)
    stem = re.sub(r"^(person_keypoints|keypoints|instances)_", "", path.stem)
    return path.parent.name if stem.startswith("_annotations") else stem


def _declared(document: dict[str, Any]) -> DeclaredSkeleton:
    """Names and limbs of the keypoint category; limbs of the file count from 1."""
    (category, *_) = (
        c for c in document["categories"] if isinstance(c, dict) and c.get("keypoints")
    )
    names, limbs = category["keypoints"], category.get("skeleton") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise FormatError(
            f"the keypoint category has keypoints {names!r}, expected a list of names"
        )
    for limb in limbs:
        is_pair = isinstance(limb, list) and len(limb) == 2
        if not is_pair or not all(isinstance(end, int) and 1 <= end <= len(names) for end in limb):
            raise FormatError(
                f"the keypoint category's skeleton has {limb!r}, expected two numbers from 1 to "
                f"{len(names)}"
            )
    return DeclaredSkeleton(tuple(names), tuple((first - 1, second - 1) for first, second in limbs))


def _read(
    document: dict[str, Any], declared: DeclaredSkeleton, findings: Findings
) -> list[ImageRecord]:
    count = len(declared.keypoints)
    provisional = Skeleton(
        name="of the file",
        keypoints=declared.keypoints,
        flip_pairs=(),
        limbs=declared.limbs,
        sigmas=(1.0,) * count,
    )
    return read_keypoint_file(document, provisional, findings, num_counted=count)


def _renumbered(records: list[ImageRecord], present: list[ImageRecord]) -> list[ImageRecord]:
    """The records of a further file of the same split, with ids of their own where they collide."""
    last_image = max((record.id for record in present), default=0)
    last_person = max((person.id for record in present for person in record.people), default=0)
    taken = {record.id for record in present}
    if taken.isdisjoint(record.id for record in records):
        taken_people = {person.id for record in present for person in record.people}
        if taken_people.isdisjoint(person.id for record in records for person in record.people):
            return records
    return [
        replace(
            record,
            id=record.id + last_image,
            people=tuple(replace(person, id=person.id + last_person) for person in record.people),
        )
        for record in records
    ]

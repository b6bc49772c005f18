"""Own labels in any format that is known here: what is it, read it, write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from rtmo.formats.coco_folder import coco_documents, read_coco_folder, write_coco_folder
from rtmo.formats.findings import Findings
from rtmo.formats.label_files import LabelFiles
from rtmo.formats.label_set import LabelFormat, LabelSet, LabelSplit, WrittenLabels
from rtmo.formats.label_studio import (
    label_studio_documents,
    read_label_studio,
    write_label_studio,
)
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.formats.yolo_pose import read_yolo_pose, write_yolo_pose, yolo_config
from rtmo.skeleton import Skeleton


def read_labels(
    files: LabelFiles, findings: Findings, keypoints: tuple[str, ...] | None = None
) -> LabelSet:
    """What a folder or archive holds, by whichever format it turns out to be.

    Args:
        files: the folder or archive.
        findings: where what is left out is counted.
        keypoints: names, or their order, for the formats that have none.

    Raises:
        FormatError: if it is none of the known formats, or more than one, or malformed.
    """
    found = [
        name
        for name, is_there in (
            ("COCO or CVAT keypoints", bool(coco_documents(files))),
            ("YOLO-pose", yolo_config(files) is not None),
            ("Label Studio", bool(label_studio_documents(files))),
        )
        if is_there
    ]
    match found:
        case ["COCO or CVAT keypoints"]:
            labels = read_coco_folder(files, findings)
        case ["YOLO-pose"]:
            labels = read_yolo_pose(files, findings, keypoints)
        case ["Label Studio"]:
            labels = read_label_studio(files, findings, keypoints)
        case []:
            raise FormatError(_nothing_known(files))
        case _:
            raise FormatError(
                f"{files.path} holds labels in {len(found)} formats, {' and '.join(found)}; put "
                "those that are meant into a folder of their own, with their pictures"
            )
    if keypoints is not None and keypoints != labels.skeleton.keypoints:
        raise FormatError(
            f"{files.path} names its keypoints {', '.join(labels.skeleton.keypoints)}; they were "
            f"given as {', '.join(keypoints)}"
        )
    names = Counter(record.file_name for records in labels.splits.values() for record in records)
    twice = [name for name, times in names.items() if times > 1]
    if twice:
        raise FormatError(
            f"{len(twice)} pictures are labelled more than once in {files.path}, the first is "
            f"{twice[0]}; are pictures missing whose names end in the same way?"
        )
    if not any(record.people for records in labels.splits.values() for record in records):
        raise FormatError(f"{files.path} has labels of format {labels.format}, but no person")
    return labels


def write_labels(
    splits: Mapping[LabelSplit, Sequence[ImageRecord]], skeleton: Skeleton, to: LabelFormat
) -> WrittenLabels:
    """The files of an export in a format, without the pictures."""
    match to:
        case "coco" | "cvat":
            return write_coco_folder(splits, skeleton, to)
        case "yolo":
            return write_yolo_pose(splits, skeleton)
        case "label-studio":
            return write_label_studio(splits, skeleton)


def _nothing_known(files: LabelFiles) -> str:
    suffixes = sorted({name.rpartition(".")[2].lower() for name in files.names})
    return (
        f"{files.path} holds no keypoint labels that are known: {len(files.names)} files "
        f"({', '.join(suffixes[:8]) or 'none'}), of which {len(files.pictures)} pictures. Known "
        "are a COCO keypoints JSON, CVAT's export `COCO Keypoints 1.0`, YOLO-pose (data.yaml with "
        "kpt_shape) and Label Studio's JSON export"
    )

"""Annotation files in COCO's layout with rules of their own: Halpe, sub-JHMDB, PoseTrack18.

Names of pictures become relative to their folder; the last two sets publish them with its name.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rtmo.formats.coco import read_keypoint_file
from rtmo.formats.findings import Findings
from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton


def read_halpe(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """Halpe-FullBody: the skeleton's 26 body keypoints are the first of 136.

    The other 110, of face and hands, are left out. Categories name no keypoints.

    Raises:
        FormatError: if the document is no keypoint annotation file or has too few keypoints.

    Source: https://github.com/Fang-Haoshu/Halpe-FullBody
    """
    document = _body_only(document, skeleton.num_keypoints)
    return read_keypoint_file(document, skeleton, findings, num_counted=skeleton.num_keypoints)


def read_jhmdb(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """sub-JHMDB: pixels begin at 1, as MATLAB counts; here they begin at 0.

    Raises:
        FormatError: if the document is no keypoint annotation file or not of this skeleton.

    Source: http://jhmdb.is.tue.mpg.de in the JSON form of mmpose's JhmdbDataset (Sub1_train.json)
    """
    records = read_keypoint_file(document, skeleton, findings, num_counted=skeleton.num_keypoints)
    return [
        replace(
            record,
            file_name=record.file_name.removeprefix("Rename_Images/"),
            people=tuple(_counted_from_zero(person) for person in record.people),
        )
        for record in records
    ]


def read_posetrack(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """PoseTrack18: one file per video, ids unique over all; frames without labels are left out.

    Raises:
        FormatError: if the document is no keypoint annotation file or not of this skeleton.

    Source: https://posetrack.net
    """
    records = read_keypoint_file(document, skeleton, findings, num_counted=skeleton.num_keypoints)
    unlabelled = {image["id"] for image in document["images"] if not image.get("is_labeled", True)}
    return [
        replace(record, file_name=record.file_name.removeprefix("images/"))
        for record in records
        if record.id not in unlabelled
    ]


def _body_only(document: Any, num_keypoints: int) -> Any:  # noqa: ANN401 - parsed JSON
    """The document without the keypoints after the body's, wherever it lists them."""
    if not isinstance(document, dict):
        return document
    cut = {"annotations": 3 * num_keypoints, "categories": num_keypoints}
    return document | {
        table: [
            row | {"keypoints": row["keypoints"][:length]} if row.get("keypoints") else row
            for row in document.get(table, ())
        ]
        for table, length in cut.items()
    }


def _counted_from_zero(person: PersonRecord) -> PersonRecord:
    x, y, width, height = person.box_xywh
    numbers = person.keypoints
    points = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    moved = ((x - 1, y - 1, v) if v > 0 else (x, y, v) for x, y, v in points)
    return replace(
        person,
        box_xywh=(x - 1, y - 1, width, height),
        keypoints=tuple(value for point in moved for value in point),
    )

"""AI Challenger keypoint annotation files -> records.

A list of pictures, each with `image_id` (the file's name without its suffix), `human_annotations`
(person -> x1, y1, x2, y2) and `keypoint_annotations` (person -> x, y, v for 14 keypoints, v being 1
visible, 2 hidden, 3 not in the picture). No sizes, no areas, no numbers as ids.
Source: https://github.com/AIChallenger/AI_Challenger_2017
"""

from __future__ import annotations

from typing import Any

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

NOT_IN_PICTURE = 3
"""Its visibility flags count down: 3 - v is COCO's."""


def read_aic(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """Every picture of the file, numbered from 1 in the order of their names.

    Raises:
        FormatError: if the document is no such list or not of this skeleton.
    """
    pictures = _pictures(document)
    records = []
    person_id = 0
    for number, name in enumerate(sorted(pictures), start=1):
        boxes, poses = (
            pictures[name][key] for key in ("human_annotations", "keypoint_annotations")
        )
        people = []
        for person in sorted(poses):
            person_id += 1
            where = f"{person} of {name}"
            box = boxes.get(person)
            if box is None or len(box) != 4:
                findings.add(Problem.NO_BOX, where)
                continue
            numbers = _keypoints(poses[person], skeleton, where)
            people.append(
                PersonRecord(
                    id=person_id,
                    box_xywh=(box[0], box[1], box[2] - box[0], box[3] - box[1]),
                    keypoints=numbers,
                    num_keypoints=sum(v > 0 for v in numbers[2::3]),
                    is_crowd=False,
                    area=None,
                    segmentation=None,
                )
            )
        records.append(
            ImageRecord(
                id=number,
                file_name=f"{name}.jpg",
                height=0,
                width=0,
                crowd_index=None,
                is_turned=False,
                people=tuple(people),
            )
        )
    return records


def _pictures(document: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401 - parsed JSON
    keys = {"image_id", "human_annotations", "keypoint_annotations"}
    if not isinstance(document, list) or not all(
        isinstance(row, dict) and keys <= row.keys() for row in document
    ):
        raise FormatError(
            f"the annotation file is no list of objects with {', '.join(sorted(keys))}, as AI "
            'Challenger publishes; say "format": "coco" in the source file for a conversion of it'
        )
    return {row["image_id"]: row for row in document}


def _keypoints(numbers: list[float], skeleton: Skeleton, where: str) -> tuple[float, ...]:
    if len(numbers) != 3 * skeleton.num_keypoints:
        raise FormatError(
            f"{where} has {len(numbers)} numbers for its keypoints, expected "
            f"{3 * skeleton.num_keypoints} = 3 x {skeleton.num_keypoints} of skeleton "
            f"{skeleton.name!r}"
        )
    flags = numbers[2::3]
    if not {1, 2, NOT_IN_PICTURE}.issuperset(flags):
        raise FormatError(f"{where} has visibility flags {flags}, expected 1, 2 or 3")
    labelled = [NOT_IN_PICTURE - flag for flag in flags]
    points = zip(numbers[::3], numbers[1::3], labelled, strict=True)
    return tuple(value for x, y, v in points for value in ((x, y, v) if v else (0, 0, 0)))

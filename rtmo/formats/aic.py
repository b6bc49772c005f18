"""AI Challenger keypoint annotation files -> records.

A list of pictures, each with `image_id` (the file's name without its suffix), `human_annotations`
(person -> x1, y1, x2, y2) and `keypoint_annotations` (person -> x, y, v for 14 keypoints, v being 1
visible, 2 hidden, 3 not in the picture). No sizes, no areas, no numbers as ids.
Source: https://github.com/AIChallenger/AI_Challenger_2017
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

NOT_IN_PICTURE = 3
"""Its visibility flags count down: 3 - v is COCO's."""


class AicPicture(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    image_id: str
    human_annotations: dict[str, tuple[float, float, float, float]]
    keypoint_annotations: dict[str, tuple[float, ...]]


def read_aic(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """Every picture of the file, numbered from 1 in the order of their names.

    Raises:
        FormatError: if the document is no such list or not of this skeleton.
    """
    try:
        listed = TypeAdapter(list[AicPicture]).validate_python(document)
    except ValidationError as error:
        raise FormatError(
            f"the annotation file is not as AI Challenger publishes it ({error.errors()[0]['msg']} "
            f'at {error.errors()[0]["loc"]}); say "format": "coco" in the source file for a '
            "conversion of it"
        ) from None
    pictures: dict[str, AicPicture] = {}
    for picture in listed:
        if picture.image_id in pictures:
            findings.add(Problem.DUPLICATE_IMAGE, f"image {picture.image_id}")
        pictures.setdefault(picture.image_id, picture)
    records = []
    num_people = 0
    for number, name in enumerate(sorted(pictures), start=1):
        people = _people(pictures[name], num_people + 1, skeleton, findings)
        num_people += len(people)
        records.append(
            ImageRecord(
                id=number,
                file_name=f"{name}.jpg",
                height=0,
                width=0,
                crowd_index=None,
                is_turned=False,
                people=people,
            )
        )
    return records


def _people(
    picture: AicPicture, first_id: int, skeleton: Skeleton, findings: Findings
) -> tuple[PersonRecord, ...]:
    people: list[PersonRecord] = []
    for person, pose in sorted(picture.keypoint_annotations.items()):
        where = f"{person} of image {picture.image_id}"
        box = picture.human_annotations.get(person)
        if box is None:
            findings.add(Problem.NO_BOX, where)
            continue
        numbers = _keypoints(pose, skeleton, where)
        people.append(
            PersonRecord(
                id=first_id + len(people),
                box_xywh=(box[0], box[1], box[2] - box[0], box[3] - box[1]),
                keypoints=numbers,
                num_keypoints=sum(v > 0 for v in numbers[2::3]),
                is_crowd=False,
                area=None,
                segmentation=None,
            )
        )
    return tuple(people)


def _keypoints(numbers: tuple[float, ...], skeleton: Skeleton, where: str) -> tuple[float, ...]:
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

"""MPII Human Pose annotations -> records, from the JSON files that pose toolboxes train on.

A list of people, each with `image`, `joints` (16 times x, y), `joints_vis` (16 times 0 or 1),
`center` and `scale` (the person's height over 200 pixels). MATLAB's counting: pixels begin at 1.
Source: http://human-pose.mpi-inf.mpg.de; mmpose's MpiiDataset (the box).
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

HEIGHT_PX = 200.0
"""Height of a person of scale 1."""
CENTRE_SHIFT = 15.0
"""Pixels at scale 1 by which the official loader moves the centre down, to the limbs."""


class MpiiPerson(BaseModel):
    """One entry of the file."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    image: str
    joints: tuple[tuple[float, float], ...]
    joints_vis: tuple[float, ...]
    center: tuple[float, float]
    """-1 where there is none."""
    scale: float


def read_mpii(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """Every picture that the file names, numbered from 1 in the order of their names.

    A person's box is the square around the centre with the person's height as its side, as in the
    official loader: MPII has no boxes.

    Raises:
        FormatError: if the document is no such list or not of this skeleton.
    """
    try:
        listed = TypeAdapter(list[MpiiPerson]).validate_python(document)
    except ValidationError as error:
        raise FormatError(
            f"the annotation file is no list of MPII people ({error.errors()[0]['msg']} at "
            f"{error.errors()[0]['loc']}); MPII publishes a MATLAB file, mpii_train.json is a "
            "widespread conversion of it"
        ) from None
    people: dict[str, list[PersonRecord]] = {person.image: [] for person in listed}
    for number, person in enumerate(listed, start=1):
        where = f"person {number} in {person.image}"
        if person.center[0] < 0 or person.scale <= 0:
            findings.add(Problem.NO_BOX, where)
            continue
        people[person.image].append(_person(person, number, skeleton, where))
    return [
        ImageRecord(
            id=number,
            file_name=name,
            height=0,
            width=0,
            crowd_index=None,
            is_turned=False,
            people=tuple(people[name]),
        )
        for number, name in enumerate(sorted(people), start=1)
    ]


def _person(person: MpiiPerson, number: int, skeleton: Skeleton, where: str) -> PersonRecord:
    joints, flags = person.joints, person.joints_vis
    if not len(joints) == len(flags) == skeleton.num_keypoints:
        raise FormatError(
            f"{where} has {len(joints)} joints and {len(flags)} flags, expected "
            f"{skeleton.num_keypoints} of skeleton {skeleton.name!r}"
        )
    points = (
        (x - 1.0, y - 1.0, 2.0) if flag else (0.0, 0.0, 0.0)
        for (x, y), flag in zip(joints, flags, strict=True)
    )
    side = HEIGHT_PX * person.scale
    x, y = person.center[0] - 1.0, person.center[1] - 1.0 + CENTRE_SHIFT * person.scale
    return PersonRecord(
        id=number,
        box_xywh=(x - side / 2, y - side / 2, side, side),
        keypoints=tuple(value for point in points for value in point),
        num_keypoints=sum(map(bool, flags)),
        is_crowd=False,
        area=None,
        segmentation=None,
    )

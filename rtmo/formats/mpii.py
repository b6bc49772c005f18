"""MPII Human Pose annotations -> records, from the JSON files that pose toolboxes train on.

A list of people, each with `image`, `joints` (16 times x, y), `joints_vis` (16 times 0 or 1),
`center` and `scale` (the person's height over 200 pixels). MATLAB's counting: pixels begin at 1.
Source: http://human-pose.mpi-inf.mpg.de; mmpose's MpiiDataset (the box).
"""

from __future__ import annotations

from typing import Any

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

HEIGHT_PX = 200.0
"""Height of a person of scale 1."""
CENTRE_SHIFT = 15.0
"""Pixels at scale 1 by which the official loader moves the centre down, to the limbs."""
KEYS = ("image", "joints", "joints_vis", "center", "scale")


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
    if not isinstance(document, list) or not all(
        isinstance(row, dict) and row.keys() >= set(KEYS) for row in document
    ):
        raise FormatError(
            f"the annotation file is no list of objects with {', '.join(KEYS)}; MPII itself "
            "publishes a MATLAB file, mpii_train.json is a widespread conversion of it"
        )
    people: dict[str, list[PersonRecord]] = {row["image"]: [] for row in document}
    for number, row in enumerate(document, start=1):
        where = f"person {number} in {row['image']}"
        if row["center"][0] < 0 or row["scale"] <= 0:
            findings.add(Problem.NO_BOX, where)
            continue
        people[row["image"]].append(_person(row, number, skeleton, where))
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


def _person(row: dict[str, Any], number: int, skeleton: Skeleton, where: str) -> PersonRecord:
    joints, flags = row["joints"], row["joints_vis"]
    if not len(joints) == len(flags) == skeleton.num_keypoints:
        raise FormatError(
            f"{where} has {len(joints)} joints and {len(flags)} flags, expected "
            f"{skeleton.num_keypoints} of skeleton {skeleton.name!r}"
        )
    points = (
        (x - 1.0, y - 1.0, 2.0) if flag else (0.0, 0.0, 0.0)
        for (x, y), flag in zip(joints, flags, strict=True)
    )
    side = HEIGHT_PX * row["scale"]
    x, y = row["center"][0] - 1.0, row["center"][1] - 1.0 + CENTRE_SHIFT * row["scale"]
    return PersonRecord(
        id=number,
        box_xywh=(x - side / 2, y - side / 2, side, side),
        keypoints=tuple(value for point in points for value in point),
        num_keypoints=sum(map(bool, flags)),
        is_crowd=False,
        area=None,
        segmentation=None,
    )

"""The regions of a Label Studio task that are people: rectangles and keypoints, in percent.

A person is a rectangle and the keypoints that name it as their parent; keypoints without a parent
belong to the smallest rectangle around them that lacks theirs. A keypoint whose region also has the
choice `occluded` (or `hidden`) is labelled and not visible, v = 1; every other one is visible.
Sources: https://labelstud.io/tags/keypointlabels, https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.label_set import DECIMALS
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

HIDDEN = frozenset({"occluded", "hidden"})
"""Choices, in lower case, that say of a keypoint that it is not visible."""
BOX_MARGIN = 0.1
"""Of the keypoints' extent, added on each side where a person has no rectangle."""


@dataclass(frozen=True, slots=True)
class Point:
    """One keypoint region, in picture pixels."""

    name: str
    x: float
    y: float
    v: int
    parent: str | None


@dataclass(slots=True)
class Person:
    """A rectangle with what is found to belong to it."""

    box_xywh: tuple[float, float, float, float]
    points: dict[str, Point] = field(default_factory=dict)

    def holds(self, point: Point) -> bool:
        """Whether a keypoint lies in the rectangle."""
        left, top, width, height = self.box_xywh
        return left <= point.x <= left + width and top <= point.y <= top + height


def keypoint_names(results: list[dict[str, Any]], where: str) -> set[str]:
    """The names that the keypoints among the regions have."""
    return {
        label
        for result in results
        if result.get("type") == "keypointlabels"
        for label in _labels(result, where)
    }


def read_people(
    results: list[dict[str, Any]], size_hw: tuple[int, int], where: str, findings: Findings
) -> list[Person]:
    """The people of a picture; keypoints that belong to nobody are counted.

    Raises:
        FormatError: naming what is malformed, or the picture if people cannot be told apart.
    """
    hidden = {r.get("id") for r in results if r.get("type") == "choices" and _says_hidden(r)}
    people: dict[str, Person] = {}
    points: list[Point] = []
    for result in results:
        this = f"{where}: region {result.get('id')!r}"
        match result.get("type"):
            case "rectanglelabels" | "rectangle":
                people[str(result.get("id"))] = Person(_box(result, size_hw, this))
            case "keypointlabels":
                points.append(_point(result, size_hw, hidden, this))
            case _:
                continue
    if not people and points:
        return [_person_without_box(points, where)]
    for point in sorted(points, key=lambda point: point.parent is None):  # certain ones first
        owner = _owner(point, people)
        if owner is None:
            findings.add(Problem.KEYPOINT_WITHOUT_PERSON, f"{point.name} in {where}")
        elif point.name in owner.points:
            raise FormatError(
                f"{where}: a person has {point.name!r} twice; correct it, or draw a rectangle for "
                "each person and make its keypoints its children"
            )
        else:
            owner.points[point.name] = point
    return list(people.values())


def person_record(number: int, person: Person, names: tuple[str, ...]) -> PersonRecord:
    """A person under a number, with keypoints in the order of `names`; 0, 0, 0 without a region."""
    keypoints: list[float] = []
    for name in names:
        point = person.points.get(name)
        keypoints += [0, 0, 0] if point is None else [point.x, point.y, point.v]
    return PersonRecord(
        id=number,
        box_xywh=person.box_xywh,
        keypoints=tuple(keypoints),
        num_keypoints=len(person.points),
        is_crowd=False,
        area=None,
        segmentation=None,
    )


def write_person(
    person: PersonRecord, record: ImageRecord, skeleton: Skeleton
) -> list[dict[str, Any]]:
    """The regions of a person in a picture.

    Raises:
        FormatError: if the picture's size is not known.
    """
    if not (record.height and record.width):
        raise FormatError(
            f"{record.file_name} has people and no width and height, which Label Studio's percent "
            "are of; give the pictures with the labels"
        )
    box_id = f"person-{person.id}"
    common = {
        "original_width": record.width,
        "original_height": record.height,
        "image_rotation": 0,
        "to_name": "image",
    }
    x, y, width, height = person.box_xywh
    box = {
        "x": 100 * x / record.width,
        "y": 100 * y / record.height,
        "width": 100 * width / record.width,
        "height": 100 * height / record.height,
        "rotation": 0,
    }
    results: list[dict[str, Any]] = [
        {
            **common,
            "id": box_id,
            "type": "rectanglelabels",
            "from_name": "people",
            "value": {**box, "rectanglelabels": ["person"]},
        }
    ]
    numbers = person.keypoints
    triples = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    for name, (px, py, v) in zip(skeleton.keypoints, triples, strict=True):
        if v == 0:
            continue
        place = {"x": 100 * px / record.width, "y": 100 * py / record.height, "width": 0.5}
        shared = {**common, "id": f"{box_id}-{name}", "parentID": box_id}
        kind = {"type": "keypointlabels", "from_name": "keypoints"}
        results.append({**shared, **kind, "value": {**place, "keypointlabels": [name]}})
        if v == 1:
            kind = {"type": "choices", "from_name": "visibility"}
            results.append({**shared, **kind, "value": {**place, "choices": ["occluded"]}})
    return results


def _owner(point: Point, people: Mapping[str, Person]) -> Person | None:
    if point.parent in people:
        return people[str(point.parent)]
    around = [person for person in people.values() if person.holds(point)]
    around.sort(key=lambda person: person.box_xywh[2] * person.box_xywh[3])
    lacking = [person for person in around if point.name not in person.points]
    return next(iter(lacking or around), None)


def _person_without_box(points: list[Point], where: str) -> Person:
    """The one person of a picture without rectangles, in a box around the keypoints."""
    by_name = {point.name: point for point in points}
    if len(by_name) < len(points):
        raise FormatError(
            f"{where} has more than one keypoint of a name and no rectangles, so that people "
            "cannot be told apart; draw a rectangle for each person and make its keypoints its "
            "children"
        )
    left, right = (pick(point.x for point in points) for pick in (min, max))
    top, bottom = (pick(point.y for point in points) for pick in (min, max))
    margin = max(BOX_MARGIN * max(right - left, bottom - top), 1.0)
    box = (left - margin, top - margin, right - left + 2 * margin, bottom - top + 2 * margin)
    return Person(box, by_name)


def _box(
    result: dict[str, Any], size_hw: tuple[int, int], where: str
) -> tuple[float, float, float, float]:
    """The upright box around a rectangle, which turns about its upper left corner, clockwise."""
    x, y, width, height = _numbers(result, ("x", "y", "width", "height"), size_hw, where)
    rotation = result["value"].get("rotation", 0)
    if not rotation:
        return x, y, width, height
    angle = math.radians(rotation)
    corners = [
        (x + right * math.cos(angle) - down * math.sin(angle),
         y + right * math.sin(angle) + down * math.cos(angle))
        for right in (0.0, width)
        for down in (0.0, height)
    ]  # fmt: skip
    left, right = (pick(corner[0] for corner in corners) for pick in (min, max))
    top, bottom = (pick(corner[1] for corner in corners) for pick in (min, max))
    return left, top, right - left, bottom - top


def _point(result: dict[str, Any], size_hw: tuple[int, int], hidden: set[Any], where: str) -> Point:
    labels = _labels(result, where)
    if len(labels) != 1:
        raise FormatError(f"{where} has keypointlabels {labels!r}, expected one name")
    x, y = _numbers(result, ("x", "y"), size_hw, where)
    v = 1 if result.get("id") in hidden else 2
    return Point(labels[0], x, y, v, result.get("parentID"))


def _labels(result: dict[str, Any], where: str) -> list[str]:
    value = result.get("value")
    labels = value.get("keypointlabels") if isinstance(value, dict) else None
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise FormatError(
            f"{where}: region {result.get('id')!r} has value {value!r}, expected keypointlabels"
        )
    return labels


def _numbers(
    result: dict[str, Any], keys: tuple[str, ...], size_hw: tuple[int, int], where: str
) -> list[float]:
    """Percentages as pixels."""
    if result.get("image_rotation"):
        raise FormatError(
            f"{where} has image_rotation {result['image_rotation']}, expected 0: turn the picture "
            "itself before labelling"
        )
    value = result.get("value")
    pixels = []
    for key in keys:
        number = value.get(key) if isinstance(value, dict) else None
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise FormatError(f"{where} has {key} {number!r}, expected percent of the picture")
        side = size_hw[1] if key in ("x", "width") else size_hw[0]
        pixels.append(round(number * side / 100, DECIMALS))
    return pixels


def _says_hidden(result: dict[str, Any]) -> bool:
    value = result.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    return isinstance(choices, list) and any(str(c).lower() in HIDDEN for c in choices)

"""Label Studio's JSON export of keypoints: tasks with regions in percent of the picture's sides.

A person is a rectangle and the keypoints that name it as their parent; keypoints without a parent
belong to the smallest rectangle around them that lacks theirs. A keypoint whose region also has the
choice `occluded` (or `hidden`) is labelled and not visible, v = 1; every other one is visible.
Sources: https://labelstud.io/tags/keypointlabels, https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.label_files import LabelFiles, is_picture
from rtmo.formats.label_set import (
    DECIMALS,
    DeclaredSkeleton,
    LabelSet,
    LabelSplit,
    WrittenLabels,
    short_names,
)
from rtmo.formats.picture_size import picture_size
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

HIDDEN = frozenset({"occluded", "hidden"})
"""Choices, in lower case, that say of a keypoint that it is not visible."""
BOX_MARGIN = 0.1
"""Of the keypoints' extent, added on each side where a person has no rectangle."""
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts in front of the names of uploaded files."""


@dataclass(frozen=True, slots=True)
class _Point:
    """One keypoint region, in picture pixels."""

    name: str
    x: float
    y: float
    v: int
    parent: str | None


@dataclass(slots=True)
class _Person:
    """A rectangle with what is found to belong to it."""

    box_xywh: tuple[float, float, float, float]
    points: dict[str, _Point] = field(default_factory=dict)

    def holds(self, point: _Point) -> bool:
        left, top, width, height = self.box_xywh
        return left <= point.x <= left + width and top <= point.y <= top + height


def label_studio_documents(files: LabelFiles) -> dict[str, list[Any]]:
    """The exports with keypoints among the JSON files, parsed, by path."""
    found = {}
    for name in files.names:
        content = files.read(name) if name.lower().endswith(".json") else b""
        if b'"keypointlabels"' in content:
            found[name] = _tasks(content, f"{name} in {files.path}")
    return found


def read_label_studio(
    files: LabelFiles, findings: Findings, keypoints: tuple[str, ...] | None = None
) -> LabelSet:
    """Every labelled picture with its people, all in one split; ids are ours.

    Args:
        files: the export beside its pictures.
        findings: where what is left out is counted.
        keypoints: their order, which an export does not have.

    Raises:
        FormatError: naming file, task and region, and what was expected.
    """
    documents = label_studio_documents(files)
    if not documents:
        raise FormatError(f"{files.path} has no JSON export with keypointlabels")
    chosen = [
        (task, results, where)
        for name, tasks in documents.items()
        for task, results, where in _labelled(tasks, f"{name} in {files.path}", findings)
    ]
    declared = _declared(
        {
            label
            for _, results, where in chosen
            for result in results
            if result.get("type") == "keypointlabels"
            for label in _labels(result, where)
        },
        keypoints,
    )
    image_ids, person_ids = count(1), count(1)
    records = []
    for task, results, where in chosen:
        picture = _picture(task, files, where)
        size_hw = _size(results, picture, files, where)
        people = tuple(
            _record(next(person_ids), person, declared.keypoints)
            for person in _people(results, size_hw, where, findings)
        )
        records.append(
            ImageRecord(next(image_ids), picture, *size_hw, None, is_turned=False, people=people)
        )
    return LabelSet("label-studio", declared, {"train": tuple(records)}, tuple(documents))


def write_label_studio(
    splits: Mapping[LabelSplit, Sequence[ImageRecord]], skeleton: Skeleton
) -> WrittenLabels:
    """One export per split and `labels.xml`, the labelling interface that it belongs to."""
    documents: dict[str, bytes] = {"labels.xml": _interface(skeleton).encode()}
    pictures: dict[str, str] = {}
    num_crowds = 0
    for split, records in splits.items():
        names = short_names(records)
        tasks = []
        for record in records:
            pictures[record.file_name] = f"images/{split}/{names[record.file_name]}"
            people = [person for person in record.people if not person.is_crowd]
            num_crowds += len(record.people) - len(people)
            results = [r for person in people for r in _write_person(person, record, skeleton)]
            tasks.append(
                {
                    "id": record.id,
                    "data": {"image": pictures[record.file_name]},
                    "annotations": [{"id": record.id, "was_cancelled": False, "result": results}],
                }
            )
        documents[f"{split}.json"] = json.dumps(tasks, indent=1).encode()
    lost = [
        "splits: an export is one list of tasks",
        "areas, outlines, limbs, sigmas and the places of unlabelled keypoints: no region for them",
        *([f"{num_crowds} crowd regions, which have no pose"] * (num_crowds > 0)),
    ]
    return WrittenLabels(documents, pictures, tuple(lost))


def _tasks(content: bytes, where: str) -> list[Any]:
    try:
        tasks = json.loads(content)
    except ValueError as error:
        raise FormatError(f"{where} is no JSON file ({error}); was it cut short?") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise FormatError(
            f"{where} is no list of tasks; export as JSON, not as JSON-MIN or one file per task"
        )
    return tasks


def _labelled(
    tasks: list[dict[str, Any]], where: str, findings: Findings
) -> list[tuple[dict[str, Any], list[dict[str, Any]], str]]:
    """Each task with the results of its one valid labelling."""
    chosen = []
    for number, task in enumerate(tasks, start=1):
        this = f"task {task.get('id', number)} of {where}"
        given = task.get("annotations")
        if not isinstance(given, list):
            raise FormatError(f"{this} has annotations {given!r}, expected a list; export as JSON")
        valid = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
        if not valid:
            findings.add(Problem.NOT_LABELLED, this)
            continue
        for _ in valid[1:]:
            findings.add(Problem.OTHER_LABELLING, this)
        truth = [one for one in valid if one.get("ground_truth")] or valid
        results = truth[-1].get("result")
        if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
            raise FormatError(f"{this} has an annotation without a list `result`")
        chosen.append((task, results, this))
    return chosen


def _declared(found: set[str], order: tuple[str, ...] | None) -> DeclaredSkeleton:
    if order is not None:
        unknown = sorted(found - set(order))
        if unknown:
            raise FormatError(
                f"the labels have keypoints {', '.join(unknown)}, which are not among "
                f"{', '.join(order)}"
            )
        return DeclaredSkeleton(order, COCO17.limbs if order == COCO17.keypoints else ())
    for known in (COCO17, CROWDPOSE14):
        if found <= set(known.keypoints) and 2 * len(found) > known.num_keypoints:
            remark = f"keypoints: in the order of {known.name}, whose names they have"
            return DeclaredSkeleton(known.keypoints, known.limbs, known.flip_pairs, remark)
    remark = "keypoints: in alphabetical order, an export has none; --keypoints NAME,... sets one"
    return DeclaredSkeleton(tuple(sorted(found)), remark=remark)


def _picture(task: dict[str, Any], files: LabelFiles, where: str) -> str:
    """The picture's path among the files, or the name in the task where it is not there."""
    data = task.get("data")
    values = data.values() if isinstance(data, dict) else ()
    paths = [_path(value) for value in values if isinstance(value, str)]
    named = [path for path in paths if is_picture(path)]
    if not named:
        raise FormatError(f"{where}: data is {data!r}, expected the address of a picture")
    path = PurePosixPath(named[0])
    without_prefix = str(path.with_name(UPLOAD_PREFIX.sub("", path.name)))
    return files.locate(str(path)) or files.place(without_prefix)


def _path(address: str) -> str:
    """The path in an address of Label Studio's.

    Example:
        >>> _path("/data/local-files/?d=day%201/a.jpg"), _path("s3://bucket/b.png")
        ('day 1/a.jpg', '/b.png')
    """
    split = urlsplit(address)
    local = parse_qs(split.query).get("d")
    return local[0] if local else unquote(split.path)


def _size(
    results: list[dict[str, Any]], picture: str, files: LabelFiles, where: str
) -> tuple[int, int]:
    """Height and width in pixels; an empty picture's come from its file, 0 if that is missing."""
    for result in results:
        if "original_width" in result or "original_height" in result:
            width, height = result.get("original_width"), result.get("original_height")
            if not (isinstance(width, int) and isinstance(height, int) and min(width, height) > 0):
                raise FormatError(
                    f"{where}: region {result.get('id')!r} has original_width {width!r} and "
                    f"original_height {height!r}, expected pixels"
                )
            return height, width
    if picture not in files:
        return 0, 0
    return picture_size(files.read(picture), f"{picture} in {files.path}")


def _people(
    results: list[dict[str, Any]], size_hw: tuple[int, int], where: str, findings: Findings
) -> list[_Person]:
    hidden = {r.get("id") for r in results if r.get("type") == "choices" and _says_hidden(r)}
    people: dict[str, _Person] = {}
    points: list[_Point] = []
    for result in results:
        this = f"{where}: region {result.get('id')!r}"
        match result.get("type"):
            case "rectanglelabels" | "rectangle":
                people[str(result.get("id"))] = _Person(_box(result, size_hw, this))
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


def _owner(point: _Point, people: Mapping[str, _Person]) -> _Person | None:
    if point.parent in people:
        return people[str(point.parent)]
    around = [person for person in people.values() if person.holds(point)]
    around.sort(key=lambda person: person.box_xywh[2] * person.box_xywh[3])
    lacking = [person for person in around if point.name not in person.points]
    return next(iter(lacking or around), None)


def _person_without_box(points: list[_Point], where: str) -> _Person:
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
    return _Person(box, by_name)


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


def _point(
    result: dict[str, Any], size_hw: tuple[int, int], hidden: set[Any], where: str
) -> _Point:
    labels = _labels(result, where)
    if len(labels) != 1:
        raise FormatError(f"{where} has keypointlabels {labels!r}, expected one name")
    x, y = _numbers(result, ("x", "y"), size_hw, where)
    v = 1 if result.get("id") in hidden else 2
    return _Point(labels[0], x, y, v, result.get("parentID"))


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


def _record(number: int, person: _Person, names: tuple[str, ...]) -> PersonRecord:
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


def _write_person(
    person: PersonRecord, record: ImageRecord, skeleton: Skeleton
) -> list[dict[str, Any]]:
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


def _interface(skeleton: Skeleton) -> str:
    names = map(quoteattr, skeleton.keypoints)
    labels = "".join(f"    <Label value={name}/>\n" for name in names)
    return (
        "<View>\n"
        '  <Image name="image" value="$image"/>\n'
        '  <RectangleLabels name="people" toName="image">\n    <Label value="person"/>\n'
        "  </RectangleLabels>\n"
        f'  <KeyPointLabels name="keypoints" toName="image">\n{labels}  </KeyPointLabels>\n'
        '  <Choices name="visibility" toName="image" perRegion="true" whenTagName="keypoints">\n'
        '    <Choice value="occluded"/>\n'
        "  </Choices>\n"
        "</View>\n"
    )

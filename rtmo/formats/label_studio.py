"""Label Studio's JSON export of keypoints: files of tasks, each a picture with its labellings.

Source: https://labelstud.io/guide/task_format
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.label_files import LabelFiles, is_picture
from rtmo.formats.label_set import (
    DeclaredSkeleton,
    LabelSet,
    LabelSplit,
    WrittenLabels,
    short_names,
)
from rtmo.formats.label_studio_regions import (
    keypoint_names,
    person_record,
    read_people,
    write_person,
)
from rtmo.formats.picture_size import picture_size
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""What Label Studio puts in front of the names of uploaded files."""


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
        {name for _, results, where in chosen for name in keypoint_names(results, where)},
        keypoints,
    )
    image_ids, person_ids = count(1), count(1)
    records = []
    for task, results, where in chosen:
        picture = _picture(task, files, where)
        size_hw = _size(results, picture, files, where)
        people = tuple(
            person_record(next(person_ids), person, declared.keypoints)
            for person in read_people(results, size_hw, where, findings)
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
            results = [r for person in people for r in write_person(person, record, skeleton)]
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

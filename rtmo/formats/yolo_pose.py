"""YOLO-pose datasets: `data.yaml` and one text file per picture.

A line is `class cx cy w h` and then x y [v] of each keypoint, all but class and v as shares of the
picture's sides. v is 0, 1, 2 as COCO's; with two numbers per keypoint, (0, 0) is unlabelled and all
others are visible. Source: https://docs.ultralytics.com/datasets/pose
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from itertools import count
from pathlib import PurePosixPath
from posixpath import normpath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.label_files import LabelFiles
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
from rtmo.skeleton import COCO17, Skeleton

SPLIT_KEYS: Mapping[str, LabelSplit] = {"train": "train", "val": "val", "test": "gate"}
FARTHEST = 1.0
"""How far outside the picture a number may lie, in its sides; beyond, it must be in pixels."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """What `data.yaml` says of every line."""

    num_keypoints: int
    dims: int
    person_class: int


def yolo_config(files: LabelFiles) -> str | None:
    """Path of the file that describes a YOLO-pose dataset; None if there is none."""
    for name in files.names:
        if name.lower().endswith((".yaml", ".yml")) and b"kpt_shape" in files.read(name):
            return name
    return None


def read_yolo_pose(
    files: LabelFiles, findings: Findings, keypoints: tuple[str, ...] | None = None
) -> LabelSet:
    """Every picture of train, val and test with its people; areas and ids are ours.

    Args:
        files: the dataset.
        findings: where labels without a picture and other classes are counted.
        keypoints: their names, for files that have none.

    Raises:
        FormatError: naming file, line and field, and what was expected.
    """
    name = yolo_config(files)
    if name is None:
        raise FormatError(f"{files.path} has no .yaml file with kpt_shape, as YOLO-pose data has")
    where = f"{name} in {files.path}"
    config = _load(files.read(name), where)
    layout, declared = _layout(config, where), _declared(config, where, keypoints)
    image_ids, person_ids = count(1), count(1)
    splits: dict[LabelSplit, tuple[ImageRecord, ...]] = {}
    used: set[str] = set()
    documents = [name]
    for key, split in SPLIT_KEYS.items():
        pictures = [p for p in _pictures(config, key, name, files) if p not in used]
        used.update(pictures)
        records = []
        for picture in pictures:
            label = _label_path(picture)
            size_hw = picture_size(files.read(picture), f"{picture} in {files.path}")
            lines: list[str] = []
            if label in files:
                documents.append(label)
                lines = _text(files, label).splitlines()
            found = [
                _read_line(line, f"{label} line {number} in {files.path}", layout, size_hw)
                for number, line in enumerate(lines, start=1)
                if line.strip()
            ]
            for _ in range(found.count(None)):
                findings.add(Problem.OTHER_CATEGORY, label)
            people = tuple(_person(next(person_ids), *person) for person in found if person)
            records.append(
                ImageRecord(
                    next(image_ids), picture, *size_hw, None, is_turned=False, people=people
                )
            )
        if records:
            splits[split] = tuple(records)
    for label in files.names:
        if _is_label(label) and label not in documents:
            findings.add(Problem.LABEL_WITHOUT_PICTURE, label)
    return LabelSet("yolo", declared, splits, tuple(documents))


def write_yolo_pose(
    splits: Mapping[LabelSplit, Sequence[ImageRecord]], skeleton: Skeleton
) -> WrittenLabels:
    """`data.yaml` and a text file for every picture with people; three numbers per keypoint."""
    documents: dict[str, bytes] = {}
    pictures: dict[str, str] = {}
    num_crowds = num_unsized = 0
    for split, records in splits.items():
        names = short_names(records)
        for record in records:
            picture = f"images/{split}/{names[record.file_name]}"
            pictures[record.file_name] = picture
            people = [person for person in record.people if not person.is_crowd]
            num_crowds += len(record.people) - len(people)
            if people and not (record.height and record.width):
                num_unsized += 1
                continue
            lines = [_write_line(person, record) for person in people]
            if lines:
                documents[_label_path(picture)] = "".join(lines).encode()
    if num_unsized:
        raise FormatError(
            f"{num_unsized} pictures with people have no width and height, by which YOLO's numbers "
            "are divided; give the pictures with the labels"
        )
    documents["data.yaml"] = _write_config(splits, skeleton)
    lost = [
        "ids, areas, outlines, limbs and sigmas: a line has a box and keypoints only",
        *(
            [f"{num_crowds} crowd regions, which a trainer would take for people"]
            * (num_crowds > 0)
        ),
    ]
    return WrittenLabels(documents, pictures, tuple(lost))


def _load(content: bytes, where: str) -> dict[str, Any]:
    try:
        config = YAML(typ="safe").load(BytesIO(content))
    except (YAMLError, UnicodeDecodeError) as error:
        raise FormatError(f"{where} is not YAML: {error}") from None
    if not isinstance(config, dict):
        raise FormatError(f"{where} holds {type(config).__name__}, expected keys such as kpt_shape")
    return config


def _layout(config: dict[str, Any], where: str) -> _Layout:
    shape = config.get("kpt_shape")
    match shape:
        case [int(num_keypoints), 2 | 3 as dims] if num_keypoints > 0:
            pass
        case _:
            raise FormatError(f"{where}: kpt_shape is {shape!r}, expected [keypoints, 2 or 3]")
    names = config.get("names", {0: "person"})
    classes = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(classes, dict) or not classes:
        raise FormatError(f"{where}: names is {names!r}, expected the classes")
    people = [index for index, name in classes.items() if name == "person" or len(classes) == 1]
    if len(people) != 1:
        raise FormatError(
            f"{where}: names has {list(classes.values())}; of several classes one must be 'person'"
        )
    return _Layout(num_keypoints, dims, people[0])


def _declared(
    config: dict[str, Any], where: str, given: tuple[str, ...] | None
) -> DeclaredSkeleton:
    num_keypoints = config["kpt_shape"][0]
    pairs = _flip_pairs(config.get("flip_idx"), num_keypoints, where)
    names, remark = given, ""
    if names is None and (of_class := config.get("kpt_names")) is not None:
        names = tuple(next(iter(of_class.values())) if isinstance(of_class, dict) else of_class)
    if names is None and num_keypoints == 17 and set(pairs or ()) == set(COCO17.flip_pairs):
        names = COCO17.keypoints
        remark = "keypoints: COCO's 17, because flip_idx is COCO's; the files have no names"
    if names is None:
        names = tuple(f"keypoint_{index}" for index in range(num_keypoints))
        remark = (
            "keypoints: numbered, the files have no names; --keypoints NAME,NAME,... gives some"
        )
    if len(names) != num_keypoints:
        raise FormatError(
            f"{where}: kpt_shape says {num_keypoints} keypoints, but there are {len(names)} names: "
            f"{', '.join(names)}"
        )
    limbs = COCO17.limbs if names == COCO17.keypoints else ()
    return DeclaredSkeleton(names, limbs, pairs, remark)


def _flip_pairs(
    order: Any,  # noqa: ANN401 - parsed YAML
    num_keypoints: int,
    where: str,
) -> tuple[tuple[int, int], ...] | None:
    """Pairs out of `flip_idx`, which names for every keypoint the one that takes its place."""
    if order is None:
        return None
    is_order = isinstance(order, list) and sorted(map(str, order)) == sorted(
        map(str, range(num_keypoints))
    )
    if not is_order or any(order[order[index]] != index for index in range(num_keypoints)):
        raise FormatError(
            f"{where}: flip_idx is {order!r}, expected each of 0 to {num_keypoints - 1} once, and "
            "pairs that name each other"
        )
    return tuple((index, other) for index, other in enumerate(order) if index < other)


def _pictures(config: dict[str, Any], key: str, name: str, files: LabelFiles) -> list[str]:
    """Paths of the pictures of one split, in order."""
    entries = config.get(key)
    if entries is None:
        return []
    found: set[str] = set()
    for entry in entries if isinstance(entries, list) else [entries]:
        pictures = _pictures_at(str(entry), str(config.get("path") or ""), name, files)
        if not pictures:
            folders = sorted({str(PurePosixPath(p).parent) for p in files.pictures})
            raise FormatError(
                f"{name} in {files.path}: {key} is {entry!r}, where there are no pictures; they "
                f"are in {folders[:8] or 'no folder at all'}. Export with pictures, or correct "
                f"{key}"
            )
        found.update(pictures)
    return sorted(found)


def _pictures_at(entry: str, root: str, name: str, files: LabelFiles) -> list[str]:
    """The pictures of a folder or list; tools write paths from several starting points."""
    parent = PurePosixPath(name).parent
    inside = entry.lstrip("./")
    for start in (parent / root / entry, parent / entry, parent / inside):
        path = normpath(str(start))
        if path in files and path.endswith(".txt"):
            lines = [line.strip() for line in _text(files, path).splitlines() if line.strip()]
            return [located for line in lines if (located := files.locate(line)) is not None]
        pictures = [p for p in files.pictures if p.startswith(f"{path}/") or path == "."]
        if pictures:
            return pictures
    return []


def _label_path(picture: str) -> str:
    """`labels` for the last folder `images`, .txt for the suffix.

    Example:
        >>> _label_path("images/train/images/a.jpg")
        'images/train/labels/a.txt'
    """
    path = PurePosixPath(picture).with_suffix(".txt")
    parts = list(path.parts)
    if "images" in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index("images")] = "labels"
    return str(PurePosixPath(*parts))


def _is_label(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix == ".txt" and "labels" in path.parts


def _text(files: LabelFiles, name: str) -> str:
    try:
        return files.read(name).decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"{name} in {files.path} is no text: {error}") from None


_Found = tuple[tuple[float, float, float, float], tuple[float, ...]]
"""Box and keypoints in pixels."""


def _read_line(line: str, where: str, layout: _Layout, size_hw: tuple[int, int]) -> _Found | None:
    """One line; None for a class other than people."""
    fields = line.split()
    expected = 5 + layout.num_keypoints * layout.dims
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        raise FormatError(f"{where}: {line[:60]!r} has a field that is no number") from None
    if len(numbers) != expected:
        raise FormatError(
            f"{where} has {len(numbers)} numbers, expected {expected}: class, box of 4, and "
            f"{layout.num_keypoints} keypoints of {layout.dims} (kpt_shape)"
        )
    if numbers[0] != layout.person_class:
        return None
    height, width = size_hw
    cx, cy, box_width, box_height = (_share(numbers[i], i, where) for i in range(1, 5))
    box = (
        round((cx - box_width / 2) * width, DECIMALS),
        round((cy - box_height / 2) * height, DECIMALS),
        round(box_width * width, DECIMALS),
        round(box_height * height, DECIMALS),
    )
    keypoints: list[float] = []
    for first in range(5, expected, layout.dims):
        x, y = _share(numbers[first], first, where), _share(numbers[first + 1], first + 1, where)
        v = (0.0 if x == y == 0 else 2.0) if layout.dims == 2 else numbers[first + 2]
        if v not in (0, 1, 2):
            raise FormatError(f"{where}: field {first + 3} is {v:g}, expected v of 0, 1 or 2")
        keypoints += [round(x * width, DECIMALS), round(y * height, DECIMALS), int(v)]
    return box, tuple(keypoints)


def _share(number: float, index: int, where: str) -> float:
    if not math.isfinite(number) or not -FARTHEST <= number <= 1 + FARTHEST:
        raise FormatError(
            f"{where}: field {index + 1} is {number:g}, expected a share of the picture's side, 0 "
            "to 1; are these pixels?"
        )
    return number


def _person(
    number: int, box: tuple[float, float, float, float], keypoints: tuple[float, ...]
) -> PersonRecord:
    return PersonRecord(
        id=number,
        box_xywh=box,
        keypoints=keypoints,
        num_keypoints=sum(v > 0 for v in keypoints[2::3]),
        is_crowd=False,
        area=None,
        segmentation=None,
    )


def _write_line(person: PersonRecord, record: ImageRecord) -> str:
    x, y, width, height = person.box_xywh
    sides = (record.width, record.height)
    box = (x + width / 2, y + height / 2, width, height)
    fields = ["0", *(_digits(value / sides[i % 2]) for i, value in enumerate(box))]
    numbers = person.keypoints
    for px, py, v in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True):
        fields += [_digits(px / record.width), _digits(py / record.height), str(int(v))]
    return " ".join(fields) + "\n"


def _digits(value: float) -> str:
    return f"{value:.10g}"


def _write_config(splits: Mapping[LabelSplit, Sequence[ImageRecord]], skeleton: Skeleton) -> bytes:
    config: dict[str, Any] = {"path": "."}
    config |= {key: f"images/{split}" for key, split in SPLIT_KEYS.items() if splits.get(split)}
    config |= {
        "kpt_shape": [skeleton.num_keypoints, 3],
        "flip_idx": list(skeleton.flip_permutation),
        "names": {0: "person"},
        "kpt_names": {0: list(skeleton.keypoints)},
    }
    text = StringIO()
    yaml = YAML()
    yaml.default_flow_style = None
    yaml.width = 1000
    yaml.dump(config, text)
    return text.getvalue().encode()

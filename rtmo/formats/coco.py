"""COCO person-keypoint annotation files <-> records.

Source: https://cocodataset.org/#format-data and mmpose's BaseCocoStyleDataset (what is dropped).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord, Segmentation
from rtmo.formats.segmentation import read_segmentation, write_segmentation
from rtmo.skeleton import Skeleton

BOX_AREA_FACTOR = 0.53
"""Segment area of a person as a share of its box, where none is annotated (mmpose's number)."""


def read_coco(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """Every picture of the file, ordered by id, with its people in file order.

    Nothing is changed silently: what is dropped or repaired is counted in `findings`.

    Raises:
        FormatError: if the document is no keypoint annotation file or not of this skeleton.
    """
    records = read_keypoint_file(document, skeleton, findings, num_counted=skeleton.num_keypoints)
    return [_with_areas(record, findings) for record in records]


def read_keypoint_file(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
    *,
    num_counted: int,
) -> list[ImageRecord]:
    """What COCO and the formats derived from it share; areas may still be missing.

    `num_keypoints` of the file is expected to count the labelled among the first `num_counted`.
    """
    images, annotations, categories = _tables(document)
    category = _keypoint_category(categories, skeleton)
    records = _images(images, findings)
    people: dict[int, list[PersonRecord]] = {image_id: [] for image_id in records}
    seen: set[int] = set()
    for annotation in annotations:
        person_id = _whole_number(annotation, "id", "an annotation")
        where = f"annotation {person_id}"
        image_id = _whole_number(annotation, "image_id", where)
        if person_id in seen:
            findings.add(Problem.DUPLICATE_ANNOTATION, where)
        elif annotation.get("category_id", category) != category:
            findings.add(Problem.OTHER_CATEGORY, where)
        elif image_id not in people:
            findings.add(Problem.ORPHAN_ANNOTATION, f"{where} of image {image_id}")
        else:
            seen.add(person_id)
            person = _person(annotation, skeleton, findings, num_counted)
            if person is not None:
                people[image_id].append(person)
    return [
        ImageRecord(
            id=image_id,
            file_name=_file_name(image, image_id),
            height=_side(image, "height"),
            width=_side(image, "width"),
            crowd_index=_crowd_index(image),
            is_turned=False,
            people=tuple(people[image_id]),
        )
        for image_id, image in sorted(records.items())
    ]


def write_coco(records: Iterable[ImageRecord], skeleton: Skeleton) -> dict[str, Any]:
    """The annotation document of these records, as the official evaluators read it."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in records:
        image: dict[str, Any] = {
            "id": record.id,
            "file_name": record.file_name,
            "height": record.height,
            "width": record.width,
        }
        if record.crowd_index is not None:
            image["crowdIndex"] = record.crowd_index
        images.append(image)
        annotations.extend(_write_person(person, record.id) for person in record.people)
    return {"images": images, "annotations": annotations, "categories": [person_category(skeleton)]}


def person_category(skeleton: Skeleton) -> dict[str, Any]:
    """The one entry of `categories`; limbs are written from 1, as COCO does."""
    return {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.limbs],
    }


def estimated_area(box_wh: tuple[float, float]) -> float:
    """Area of a person known by its box only: 0.53 x box, at least 1 pixel^2.

    Example:
        >>> estimated_area((100.0, 100.0)), estimated_area((0.0, 20.0))
        (5300.0, 1.0)
    """
    width, height = box_wh
    return max(BOX_AREA_FACTOR * width * height, 1.0)


def _tables(document: Any) -> tuple[list[Any], list[Any], list[Any]]:  # noqa: ANN401 - parsed JSON
    if not isinstance(document, dict):
        raise FormatError(
            f"the annotation file holds a {type(document).__name__}, expected an object with "
            "images, annotations and categories (a list is a result file, not annotations)"
        )
    tables = [document.get(key) for key in ("images", "annotations", "categories")]
    for key, table in zip(("images", "annotations", "categories"), tables, strict=True):
        if not isinstance(table, list) or not all(isinstance(row, dict) for row in table):
            raise FormatError(
                f"the annotation file has no list of objects {key!r}; it has {sorted(document)}"
            )
    images, annotations, categories = tables
    assert images is not None
    assert annotations is not None
    assert categories is not None
    return images, annotations, categories


def _keypoint_category(categories: list[dict[str, Any]], skeleton: Skeleton) -> int:
    candidates = [category for category in categories if category.get("keypoints")]
    if len(candidates) > 1:
        raise FormatError(
            f"{len(candidates)} categories have keypoints ({[c.get('name') for c in candidates]}); "
            "one is supported"
        )
    if not candidates:
        candidates = [category for category in categories if category.get("name") == "person"]
    if not candidates:
        raise FormatError("no category has keypoints or is called 'person'")
    names = candidates[0].get("keypoints")
    if names is not None and len(names) != skeleton.num_keypoints:
        raise FormatError(
            f"the file's skeleton has {len(names)} keypoints {names}, skeleton {skeleton.name!r} "
            f"has {skeleton.num_keypoints}; name the right skeleton in the source file"
        )
    if names is not None and tuple(names) != skeleton.keypoints:
        _require_no_other_order(names, skeleton)
    return _whole_number(candidates[0], "id", "the keypoint category")


def _require_no_other_order(names: list[Any], skeleton: Skeleton) -> None:
    """Refuse the skeleton's own names in another order; other spellings cannot be compared."""
    if sorted(map(str, names)) == sorted(skeleton.keypoints):
        raise FormatError(
            f"the file has its keypoints in the order {names}, skeleton {skeleton.name!r} in the "
            f"order {list(skeleton.keypoints)}: poses would be mixed up; write the skeleton of the "
            "source file in the order of the annotation file"
        )


def _images(images: list[dict[str, Any]], findings: Findings) -> dict[int, dict[str, Any]]:
    by_id: dict[int, dict[str, Any]] = {}
    for image in images:
        image_id = _whole_number(image, "id", "an image")
        if image_id in by_id:
            findings.add(Problem.DUPLICATE_IMAGE, f"image {image_id}")
            continue
        by_id[image_id] = image
        if not (_side(image, "height") and _side(image, "width")):
            findings.add(Problem.IMAGE_SIZE_MISSING, f"image {image_id}")
    return by_id


def _person(
    annotation: dict[str, Any],
    skeleton: Skeleton,
    findings: Findings,
    num_counted: int,
) -> PersonRecord | None:
    where = f"annotation {annotation['id']}"
    numbers = annotation.get("keypoints")
    if not isinstance(numbers, list):
        findings.add(Problem.NO_KEYPOINTS_FIELD, where)
        return None
    if len(numbers) != 3 * skeleton.num_keypoints:
        raise FormatError(
            f"{where} has {len(numbers)} numbers for its keypoints, expected "
            f"{3 * skeleton.num_keypoints} = 3 x {skeleton.num_keypoints} of skeleton "
            f"{skeleton.name!r}; name the right skeleton in the source file"
        )
    box = annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not _all_finite(box):
        findings.add(Problem.NO_BOX, where)
        return None
    if not _all_finite(numbers):
        findings.add(Problem.NOT_FINITE, where)
        return None
    if not {0, 1, 2}.issuperset(numbers[2::3]):
        findings.add(Problem.BAD_VISIBILITY, where)
        numbers = list(numbers)
        numbers[2::3] = [min(max(round(v), 0), 2) for v in numbers[2::3]]
    counted = sum(v > 0 for v in numbers[2 : 3 * num_counted : 3])
    return PersonRecord(
        id=annotation["id"],
        box_xywh=(box[0], box[1], box[2], box[3]),
        keypoints=tuple(numbers),
        num_keypoints=_num_keypoints(annotation, counted, where, findings),
        is_crowd=bool(annotation.get("iscrowd", 0)),
        area=_area(annotation),
        segmentation=_segmentation(annotation, where, findings),
    )


def _num_keypoints(annotation: dict[str, Any], counted: int, where: str, findings: Findings) -> int:
    value = annotation.get("num_keypoints")
    if not isinstance(value, int):
        findings.add(Problem.NUM_KEYPOINTS_MISSING, where)
        return counted
    if value != counted:
        findings.add(Problem.NUM_KEYPOINTS_WRONG, f"{where}: {value}, counted {counted}")
    return value


def _area(annotation: dict[str, Any]) -> float | None:
    area = annotation.get("area")
    if isinstance(area, int | float) and math.isfinite(area) and area > 0:
        return area
    return None


def _segmentation(
    annotation: dict[str, Any], where: str, findings: Findings
) -> Segmentation | None:
    try:
        return read_segmentation(annotation.get("segmentation"))
    except FormatError as error:
        findings.add(Problem.BAD_SEGMENTATION, f"{where}: {error}")
        return None


def _with_areas(record: ImageRecord, findings: Findings) -> ImageRecord:
    if all(person.area is not None for person in record.people):
        return record
    return replace(record, people=tuple(_with_area(person, findings) for person in record.people))


def _with_area(person: PersonRecord, findings: Findings) -> PersonRecord:
    if person.area is not None:
        return person
    findings.add(Problem.AREA_MISSING, f"annotation {person.id}")
    return replace(person, area=estimated_area(person.box_xywh[2:]))


def _write_person(person: PersonRecord, image_id: int) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "id": person.id,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": int(person.is_crowd),
        "num_keypoints": person.num_keypoints,
        "keypoints": list(person.keypoints),
        "bbox": list(person.box_xywh),
    }
    if person.area is not None:
        annotation["area"] = person.area
    if person.segmentation is not None:
        annotation["segmentation"] = write_segmentation(person.segmentation)
    return annotation


def _file_name(image: dict[str, Any], image_id: int) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise FormatError(f"image {image_id} has no file_name")
    return name


def _side(image: dict[str, Any], key: str) -> int:
    side = image.get(key)
    return side if isinstance(side, int) and side > 0 else 0


def _crowd_index(image: dict[str, Any]) -> float | None:
    value = image.get("crowdIndex")
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _whole_number(row: dict[str, Any], key: str, what: str) -> int:
    value = row.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"{what} has {key} {value!r}, expected a whole number")
    return value


def _all_finite(numbers: list[Any]) -> bool:
    return all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)

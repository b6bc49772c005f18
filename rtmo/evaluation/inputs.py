"""What an evaluation is given, checked at the border and turned into columns.

Legend: I images, P annotated people, D detections, K keypoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtmo.evaluation.protocol import Protocol
from rtmo.formats.coco import BOX_AREA_FACTOR
from rtmo.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """Annotated people of a data split, by image, in original-image pixels."""

    image_ids: np.ndarray
    """(I,) int64, ascending."""
    crowd_index: np.ndarray | None
    """(I,) float64, CrowdPose's measure of crowding; None under the COCO protocol."""
    ids: np.ndarray
    """(P,) int64 annotation ids, unique, never 0 (pycocotools reads 0 as "no match")."""
    image: np.ndarray
    """(P,) int64: index into `image_ids`."""
    keypoints: np.ndarray
    """(P, K, 3) float64: x, y, v."""
    boxes_xywh: np.ndarray
    """(P, 4) float64."""
    areas: np.ndarray
    """(P,) float64: the area OKS is measured with."""
    num_keypoints: np.ndarray
    """(P,) int64: the annotation's own field; 0 takes the person out of the score."""
    is_crowd: np.ndarray
    """(P,) bool: the annotation is a region of many people."""

    @property
    def is_ignored(self) -> np.ndarray:
        """(P,) bool: neither found nor missed counts."""
        return np.asarray(self.is_crowd | (self.num_keypoints == 0))

    @property
    def is_labelled(self) -> np.ndarray:
        """(P, K) bool: v > 0."""
        return np.asarray(self.keypoints[..., 2] > 0)


@dataclass(frozen=True, slots=True)
class Detections:
    """Found people, in original-image pixels, in the order of the result list."""

    image: np.ndarray
    """(D,) int64: index into `GroundTruth.image_ids`."""
    keypoints: np.ndarray
    """(D, K, 3) float64: x, y, keypoint score."""
    scores: np.ndarray
    """(D,) float64."""
    boxes_xywh: np.ndarray
    """(D, 4) float64; the extent of the keypoints where the result list has no `bbox`."""

    def __len__(self) -> int:
        return len(self.scores)


def read_ground_truth(
    annotations: Mapping[str, Any], skeleton: Skeleton, protocol: Protocol
) -> GroundTruth:
    """Columns of an annotation file in COCO's layout.

    Raises:
        ValueError: if a field is missing, an annotation points to no image, ids repeat, the
            keypoint count is not the skeleton's, or nobody in the file can be scored.
    """
    images = _table(annotations, "images")
    people = _table(annotations, "annotations")
    image_ids = np.array([_field(image, "id", "image") for image in images], dtype=np.int64)
    order = np.argsort(image_ids, kind="stable")
    image_ids = image_ids[order]
    if len(np.unique(image_ids)) != len(image_ids):
        raise ValueError("image ids repeat in the annotation file; each image needs its own")
    ids = np.array([_field(person, "id", "annotation") for person in people], dtype=np.int64)
    if len(np.unique(ids)) != len(ids) or (ids == 0).any():
        raise ValueError("annotation ids must be unique and not 0; renumber the annotations from 1")
    _check_one_category(people)
    boxes = _columns(people, "bbox", 4, "annotation")
    counts = [_field(person, "num_keypoints", "annotation") for person in people]
    truth = GroundTruth(
        image_ids=image_ids,
        crowd_index=_crowd_index(images, order) if protocol == "crowdpose" else None,
        ids=ids,
        image=_image_index(people, image_ids, "annotation"),
        keypoints=_keypoints(people, skeleton, "annotation"),
        boxes_xywh=boxes,
        areas=_areas(people, boxes, protocol),
        num_keypoints=np.array(counts, dtype=np.int64),
        is_crowd=np.array([bool(person.get("iscrowd", 0)) for person in people], dtype=bool),
    )
    if truth.is_ignored.all():
        raise ValueError(
            f"none of the {len(people)} annotated people in {len(images)} images can be scored: "
            "all have num_keypoints 0 or iscrowd 1; AP is not defined without any"
        )
    return truth


def read_detections(
    detections: Sequence[Mapping[str, Any]], truth: GroundTruth, skeleton: Skeleton
) -> Detections:
    """Columns of a result list in COCO's layout; an empty list is a valid one.

    Raises:
        ValueError: if a detection is of an image that the annotations do not name, has another
            keypoint count than the skeleton, or holds a number that is not finite.
    """
    keypoints = _keypoints(detections, skeleton, "detection")
    scores = [float(_field(detection, "score", "detection")) for detection in detections]
    with_box = sum("bbox" in detection for detection in detections)
    if with_box not in (0, len(detections)):
        raise ValueError(
            f"{with_box} of {len(detections)} detections have a bbox; give all of them one, or none"
        )
    found = Detections(
        image=_image_index(detections, truth.image_ids, "detection"),
        keypoints=keypoints,
        scores=np.array(scores, dtype=np.float64),
        boxes_xywh=_columns(detections, "bbox", 4, "detection")
        if with_box
        else _extents_xywh(keypoints),
    )
    if not np.isfinite(found.scores).all():
        index = int(np.flatnonzero(~np.isfinite(found.scores))[0])
        raise ValueError(f"detection {index} has score {found.scores[index]}; expected a number")
    return found


def _table(annotations: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    if not isinstance(annotations.get(key), list):
        raise ValueError(  # noqa: TRY004 - a bad file, not a bad call
            f"the annotation file has no list {key!r} (it has {sorted(annotations)}); "
            "expected COCO's layout: images, annotations, categories"
        )
    return list(annotations[key])


def _field(row: Mapping[str, Any], key: str, what: str) -> Any:  # noqa: ANN401 - JSON
    if key not in row:
        raise ValueError(f"{what} {row.get('id', dict(row))} has no {key!r}")
    return row[key]


def _columns(rows: Sequence[Mapping[str, Any]], key: str, width: int, what: str) -> np.ndarray:
    """(R, width) float64 of a list-valued field; finite."""
    values = [_field(row, key, what) for row in rows]
    for index, value in enumerate(values):
        if len(value) != width:
            raise ValueError(f"{what} {index}: {key} has {len(value)} numbers, expected {width}")
    columns = np.array(values, dtype=np.float64).reshape(-1, width)
    finite = np.isfinite(columns).all(axis=1)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise ValueError(
            f"{what} {index} (image {rows[index].get('image_id')}): {key} holds NaN or infinity; "
            "the model or the label file that wrote it is broken"
        )
    return columns


def _keypoints(rows: Sequence[Mapping[str, Any]], skeleton: Skeleton, what: str) -> np.ndarray:
    """(R, K, 3) float64. An iscrowd region may have no keypoints: they read as unlabelled."""
    width = 3 * skeleton.num_keypoints
    filled: list[Mapping[str, Any]] = []
    for index, row in enumerate(rows):
        if row.get("iscrowd") and "keypoints" not in row:
            filled.append({**row, "keypoints": [0.0] * width})
            continue
        count = len(_field(row, "keypoints", what))
        if count != width:
            raise ValueError(
                f"{what} {index} has {count / 3:g} keypoints, skeleton {skeleton.name!r} has "
                f"{skeleton.num_keypoints}; was it made for another skeleton?"
            )
        filled.append(row)
    return _columns(filled, "keypoints", width, what).reshape(-1, skeleton.num_keypoints, 3)


def _image_index(rows: Sequence[Mapping[str, Any]], image_ids: np.ndarray, what: str) -> np.ndarray:
    """(R,) position of each row's image in the sorted `image_ids`."""
    wanted = np.array([_field(row, "image_id", what) for row in rows], dtype=np.int64)
    index = np.searchsorted(image_ids, wanted)
    known = np.isin(wanted, image_ids)
    if not known.all():
        unknown = np.unique(wanted[~known])
        raise ValueError(
            f"{int((~known).sum())} of {len(wanted)} {what}s are of {len(unknown)} images that the "
            f"annotation file does not name (first: {unknown[:3].tolist()}); "
            "do the two files belong to the same data split?"
        )
    return index


def _areas(
    people: Sequence[Mapping[str, Any]], boxes_xywh: np.ndarray, protocol: Protocol
) -> np.ndarray:
    """(P,) area that OKS is measured with; CrowdPose's evaluation takes a share of the box.

    Source: `keypoints_crowd` with `use_area=False` in https://github.com/jin-s13/xtcocoapi
    """
    if protocol == "crowdpose":
        return np.asarray(boxes_xywh[:, 2] * boxes_xywh[:, 3] * BOX_AREA_FACTOR)
    areas = [float(_field(person, "area", "annotation")) for person in people]
    return np.array(areas, dtype=np.float64)


def _crowd_index(images: Sequence[Mapping[str, Any]], order: np.ndarray) -> np.ndarray:
    values = [float(_field(images[row], "crowdIndex", "CrowdPose image")) for row in order]
    return np.array(values, dtype=np.float64)


def _check_one_category(people: Sequence[Mapping[str, Any]]) -> None:
    categories = {person.get("category_id") for person in people}
    if len(categories) > 1:
        raise ValueError(
            f"annotations are of categories {sorted(map(str, categories))}; expected one (person)"
        )


def _extents_xywh(keypoints: np.ndarray) -> np.ndarray:
    """(D, 4) box around all keypoints, as pycocotools makes it for results without `bbox`."""
    if len(keypoints) == 0:
        return np.zeros((0, 4))
    low, high = keypoints[..., :2].min(axis=1), keypoints[..., :2].max(axis=1)
    return np.concatenate([low, high - low], axis=1)

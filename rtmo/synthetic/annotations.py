"""The pictures' annotations in the official file formats of COCO and CrowdPose.

Sources: https://cocodataset.org/#format-data and the published crowdpose_val.json.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.synthetic.records import SyntheticImage, SyntheticPerson

COCO_FILE_SKELETON = (
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9),
    (8, 10), (9, 11), (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
)  # fmt: skip
"""Limbs as COCO's files list them, counted from 1."""

CROWDPOSE_FILE_SKELETON = COCO_FILE_SKELETON[:12]
"""What CrowdPose's files list: COCO's numbers, though the keypoints are others."""


def coco_annotations(images: Iterable[SyntheticImage]) -> dict[str, Any]:
    """A `person_keypoints_*.json` document."""
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        records.append(
            {
                "license": 1,
                "file_name": image.file_name,
                "height": image.height,
                "width": image.width,
                "id": image.image_id,
            }
        )
        for number, person in enumerate(image.people):
            annotations.append(
                {
                    "segmentation": person.segmentation,
                    "num_keypoints": int(np.count_nonzero(person.coco_keypoints[:, 2])),
                    "area": person.area,
                    "iscrowd": int(person.is_crowd),
                    "keypoints": _flat(person.coco_keypoints),
                    "image_id": image.image_id,
                    "bbox": [*person.box_xywh],
                    "category_id": 1,
                    "id": _annotation_id(image, number),
                }
            )
    return {
        "info": {"description": "Embedded dataset: drawn people", "version": "1.0"},
        "licenses": [
            {"id": 1, "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
        ],
        "images": records,
        "annotations": annotations,
        "categories": [_category(list(COCO17.keypoints), COCO_FILE_SKELETON)],
    }


def crowdpose_annotations(images: Iterable[SyntheticImage]) -> dict[str, Any]:
    """A `crowdpose_*.json` document: 14 keypoints, `crowdIndex`, no area and no segmentation.

    As in the official files, `num_keypoints` counts labelled limb keypoints (v > 0), not head
    and neck.
    """
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image in images:
        people = [person for person in image.people if not person.is_crowd]
        boxes = [_full_box(person) for person in people]
        index = crowd_index([person.crowdpose_keypoints for person in people], boxes)
        records.append(
            {
                "file_name": image.file_name,
                "id": image.image_id,
                "height": image.height,
                "width": image.width,
                "crowdIndex": round(index, 2),
            }
        )
        for number, person in enumerate(image.people):
            limbs = person.crowdpose_keypoints[:12]
            annotations.append(
                {
                    "num_keypoints": int(np.count_nonzero(limbs[:, 2])),
                    "iscrowd": int(person.is_crowd),
                    "keypoints": _flat(person.crowdpose_keypoints),
                    "image_id": image.image_id,
                    "bbox": [*_full_box(person)],
                    "category_id": 1,
                    "id": _annotation_id(image, number),
                }
            )
    names = ["head" if name == "top_head" else name for name in CROWDPOSE14.keypoints]
    return {
        "images": records,
        "annotations": annotations,
        "categories": [_category(names, CROWDPOSE_FILE_SKELETON)],
    }


def crowd_index(
    keypoints: Sequence[np.ndarray], boxes_xywh: Sequence[tuple[float, float, float, float]]
) -> float:
    """CrowdPose's measure of crowding: mean over people of (others' joints in the box) / (own).

    Joints are labelled keypoints (v > 0); people without any are left out of the mean. It can
    exceed 1. A picture without joints has 0.

    Args:
        keypoints: one (K, 3) x, y, v per person.
        boxes_xywh: their boxes.

    Source: Li et al., CrowdPose, CVPR 2019, section 4. Rounded to two digits this agrees with the
    published crowdIndex of three pictures in four of crowdpose_val.json.

    Example:
        >>> pair = [np.array([[1.0, 1, 2], [3, 1, 2]]), np.array([[2.0, 1, 2], [9, 9, 2]])]
        >>> crowd_index(pair, [(0, 0, 4, 4), (8, 8, 2, 2)])
        0.25
    """
    ratios: list[float] = []
    for person, (x, y, width, height) in enumerate(boxes_xywh):
        own = np.count_nonzero(keypoints[person][:, 2])
        if own == 0:
            continue
        inside = 0
        for other, points in enumerate(keypoints):
            if other != person:
                inside += int(
                    np.count_nonzero(
                        (points[:, 2] > 0)
                        & (points[:, 0] >= x)
                        & (points[:, 0] <= x + width)
                        & (points[:, 1] >= y)
                        & (points[:, 1] <= y + height)
                    )
                )
        ratios.append(inside / own)
    return float(np.mean(ratios)) if ratios else 0.0


def _full_box(person: SyntheticPerson) -> tuple[float, float, float, float]:
    """The visible box, enlarged to hold hidden labelled keypoints, as CrowdPose's boxes do."""
    x, y, width, height = person.box_xywh
    labelled = person.crowdpose_keypoints[person.crowdpose_keypoints[:, 2] > 0, :2].astype(float)
    corners = np.array([[x, y], [x + width, y + height], *labelled.tolist()])
    (x0, y0), (x1, y1) = corners.min(0), corners.max(0)
    return round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)


def _annotation_id(image: SyntheticImage, number: int) -> int:
    return 100 * image.image_id + number


def _flat(keypoints: np.ndarray) -> list[float]:
    """Files hold x, y, v, x, y, v, ...; v as a whole number."""
    return [
        value for x, y, v in keypoints.astype(float) for value in (round(x, 2), round(y, 2), int(v))
    ]


def _category(names: list[str], limbs: Sequence[tuple[int, int]]) -> dict[str, Any]:
    return {
        "supercategory": "person",
        "id": 1,
        "name": "person",
        "keypoints": names,
        "skeleton": [list(limb) for limb in limbs],
    }

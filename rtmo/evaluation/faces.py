"""Faces made unrecognisable in pictures that leave the machine.

A head is where the nose, eyes and ears are; where none of them is known, where top of the head and
neck, the shoulders, or at last the person's box say it must be. Legend: G people, K keypoints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.skeleton import Skeleton

FACE_WORDS = frozenset({"nose", "eye", "eyes", "ear", "ears", "mouth", "chin", "face", "forehead"})
"""Words in names of keypoints of the face."""

HEAD_WORDS = frozenset({"head"})
TORSO_WORDS = frozenset({"neck", "shoulder", "shoulders", "thorax"})
"""Words in names of keypoints that a head is above of."""

REACH = 1.9
"""Radius of the face as a multiple of the largest distance of its keypoints from their middle."""

LEAST_RADIUS = 0.09
"""Radius at least, as a share of the longer side of the person's box: one eye alone has no extent,
and seen from the side nose and ear are near each other."""

HEAD_RADIUS = 0.6
"""Radius of the head as a share of the distance between top of the head and neck."""

SHOULDER_REACH = 0.9
"""How far the middle of the head lies above the shoulders, in widths of the shoulders; its radius
is as large."""

BOX_SHARE = 0.15
"""Middle of the head below the top of the box, as a share of its longer side, where only the box is
known; the radius is as large."""

LARGEST_RADIUS = 0.5
"""Radius at most, as a share of the longer side of the box: one keypoint astray does not hide the
picture."""

CELLS = 5
"""Blurred faces are made of this many cells across at most: no feature is left."""

LEAST_CELL_PX = 3
"""Side of a cell at least, px."""

MIN_KEYPOINT_SCORE = 0.2
"""A detected keypoint of a lower score does not tell where the head is."""

How = Literal["face", "head", "torso", "nowhere"]
"""By which keypoints heads are found in a skeleton."""


@dataclass(frozen=True, slots=True)
class FaceParts:
    """Keypoints of a skeleton that tell where a head is."""

    face: tuple[int, ...]
    head: tuple[int, ...]
    torso: tuple[int, ...]

    @property
    def how(self) -> How:
        """The best that the skeleton allows."""
        if self.face:
            return "face"
        if self.head and self.torso:
            return "head"
        return "torso" if self.torso else "nowhere"


def face_parts(skeleton: Skeleton) -> FaceParts:
    """Find the parts by the words in their names.

    Example:
        >>> from rtmo.skeleton import COCO17, CROWDPOSE14
        >>> face_parts(COCO17).how, face_parts(CROWDPOSE14).how
        ('face', 'head')
    """

    def named(words: frozenset[str]) -> tuple[int, ...]:
        return tuple(
            index
            for index, name in enumerate(skeleton.keypoints)
            if words & set(name.lower().replace("-", "_").split("_"))
        )

    return FaceParts(named(FACE_WORDS), named(HEAD_WORDS), named(TORSO_WORDS))


def blur_words(skeleton: Skeleton) -> str:
    """One sentence for the reader of a report on how faces were blurred."""
    return {
        "face": "Faces of annotated and found people are blurred around nose, eyes and ears.",
        "head": "Heads of annotated and found people are blurred between top of the head and neck.",
        "torso": "Heads of annotated and found people are blurred where their shoulders are.",
        "nowhere": (
            f"Faces could not be blurred: skeleton {skeleton.name} has no keypoint that tells "
            "where a head is."
        ),
    }[face_parts(skeleton).how]


def blur_faces(
    image: np.ndarray, people_xyv: np.ndarray, boxes_xywh: np.ndarray, skeleton: Skeleton
) -> np.ndarray:
    """A copy of the picture in which the faces of these people cannot be recognised.

    Args:
        image: (H, W, 3) uint8.
        people_xyv: (G, K, 3) pixels and a third number above 0 where the keypoint is known.
        boxes_xywh: (G, 4) pixels.
        skeleton: names of the K keypoints.
    """
    blurred = image.copy()
    parts = face_parts(skeleton)
    if parts.how == "nowhere":
        return blurred
    for person, box in zip(people_xyv, boxes_xywh, strict=True):
        _blur_disc(blurred, image, *_head(person, box, parts))
    return blurred


def blurred_reader(
    read_image: Callable[[int], np.ndarray],
    truth: GroundTruth,
    found: Sequence[Detections],
    skeleton: Skeleton,
) -> Callable[[int], np.ndarray]:
    """`read_image` with the faces of everybody who is annotated or was found blurred.

    Args:
        read_image: index of an image in the split -> BGR uint8 (H, W, 3).
        truth: annotated people; a crowd region has no face.
        found: detections of each model.
        skeleton: names of the keypoints.
    """

    def read(index: int) -> np.ndarray:
        here = (truth.image == index) & ~truth.is_crowd
        keypoints, boxes = [truth.keypoints[here]], [truth.boxes_xywh[here]]
        for detections in found:
            rows = detections.image == index
            seen = detections.keypoints[rows].copy()
            seen[..., 2] = seen[..., 2] >= MIN_KEYPOINT_SCORE
            keypoints.append(seen)
            boxes.append(detections.boxes_xywh[rows])
        return blur_faces(
            read_image(index), np.concatenate(keypoints), np.concatenate(boxes), skeleton
        )

    return read


def _head(person: np.ndarray, box_xywh: np.ndarray, parts: FaceParts) -> tuple[np.ndarray, float]:
    """Centre and radius of the person's head."""
    side = float(box_xywh[2:].max())
    face, head, torso = (
        person[[k for k in part if person[k, 2] > 0], :2]
        for part in (parts.face, parts.head, parts.torso)
    )
    if len(face):
        centre = face.mean(axis=0)
        radius = REACH * float(np.linalg.norm(face - centre, axis=1).max())
    elif len(head) and len(torso):
        top, base = head.mean(axis=0), torso.mean(axis=0)
        centre, radius = (top + base) / 2, HEAD_RADIUS * float(np.linalg.norm(top - base))
    elif len(torso) > 1:
        middle = torso.mean(axis=0)
        radius = SHOULDER_REACH * 2 * float(np.linalg.norm(torso - middle, axis=1).max())
        centre = middle - (0.0, radius)
    else:
        radius = BOX_SHARE * side
        centre = box_xywh[:2] + np.array([box_xywh[2] / 2, radius])
    return centre, min(max(radius, LEAST_RADIUS * side), LARGEST_RADIUS * side)


def _blur_disc(blurred: np.ndarray, image: np.ndarray, centre: np.ndarray, radius: float) -> None:
    """Make a disc of `blurred` into coarse cells of the original picture's mean colours."""
    height, width = image.shape[:2]
    low = np.floor(np.clip(centre - radius, 0, (width, height))).astype(int)
    high = np.ceil(np.clip(centre + radius, 0, (width, height))).astype(int) + 1
    (x1, y1), (x2, y2) = low.tolist(), np.minimum(high, (width, height)).tolist()
    if x2 <= x1 or y2 <= y1:
        return
    patch = image[y1:y2, x1:x2]
    cells = tuple(max(1, min(CELLS, side // LEAST_CELL_PX)) for side in (x2 - x1, y2 - y1))
    coarse = cv2.resize(patch, cells, interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(coarse, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR)
    y, x = np.mgrid[y1:y2, x1:x2]
    inside = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    blurred[y1:y2, x1:x2][inside] = smooth[inside]

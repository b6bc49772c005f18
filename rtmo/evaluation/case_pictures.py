"""Cases as pictures: crops as JPEGs, with the skeletons and errors to draw over them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from rtmo.evaluation.gallery import Case, crop_xyxy
from rtmo.evaluation.subject import Subject
from rtmo.evaluation.taxonomy import KeypointError
from rtmo.skeleton import Skeleton

PICTURE_PX = 360
"""Longer side of a picture in the page."""

JPEG_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Dot:
    """A keypoint in a picture, in its pixels."""

    x: float
    y: float
    kind: str
    """Of error, in lower case; `truth` for the annotation."""
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """A limb in a picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    """`truth` or `found`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A crop with what is drawn over it."""

    jpeg_base64: str
    width: int
    height: int
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    caption: str


def case_picture(case: Case, subject: Subject, read_image: Callable[[int], np.ndarray]) -> Picture:
    """A case as a picture.

    Args:
        case: the person, detection or both.
        subject: the split and its errors.
        read_image: index of an image in the split -> BGR uint8 (H, W, 3).
    """
    image = read_image(case.image)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = crop_xyxy(case, subject.truth, subject.found, subject.errors, (height, width))
    scale = PICTURE_PX / max(x2 - x1, y2 - y1)
    size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    crop = cv2.resize(image[y1:y2, x1:x2], size, interpolation=interpolation)
    written, jpeg = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert written, "a crop of a decoded picture can be encoded"
    lines, dots = _overlay(case, subject, np.array([x1, y1]), scale)
    return Picture(
        jpeg_base64=base64.b64encode(jpeg.tobytes()).decode("ascii"),
        width=size[0],
        height=size[1],
        lines=lines,
        dots=dots,
        caption=_caption(case, subject),
    )


def _overlay(
    case: Case, subject: Subject, origin: np.ndarray, scale: float
) -> tuple[tuple[Line, ...], tuple[Dot, ...]]:
    """Annotation first, detection over it."""
    lines: list[Line] = []
    dots: list[Dot] = []
    names = subject.skeleton.keypoints
    if case.person is not None:
        points = (subject.truth.keypoints[case.person, :, :2] - origin) * scale
        drawn = subject.truth.is_labelled[case.person]
        lines += _limbs(points, drawn, subject.skeleton, "truth")
        dots += [
            Dot(*_xy(points[index]), "truth", f"{names[index]}, annotated")
            for index in np.flatnonzero(drawn)
        ]
    if case.error is not None:
        found = subject.found.keypoints[subject.errors.detections[case.error]]
        points = (found[:, :2] - origin) * scale
        lines += _limbs(points, np.ones(len(points), dtype=bool), subject.skeleton, "found")
        for index, error in enumerate(subject.errors.keypoints[case.error]):
            kind = KeypointError(error).name.lower()
            words = f"{names[index]}: {kind}, score {found[index, 2]:.2f}"
            dots.append(Dot(*_xy(points[index]), kind, words))
    return tuple(lines), tuple(dots)


def _limbs(points: np.ndarray, drawn: np.ndarray, skeleton: Skeleton, kind: str) -> list[Line]:
    return [
        Line(*_xy(points[a]), *_xy(points[b]), kind)
        for a, b in skeleton.limbs
        if drawn[a] and drawn[b]
    ]


def _xy(point: np.ndarray) -> tuple[float, float]:
    return round(float(point[0]), 1), round(float(point[1]), 1)


def _caption(case: Case, subject: Subject) -> str:
    words = [f"image {subject.truth.image_ids[case.image]}"]
    if case.person is not None:
        words.append(f"annotation {subject.truth.ids[case.person]}")
    if case.error is not None:
        score = subject.found.scores[subject.errors.detections[case.error]]
        words.append(f"score {score:.2f}")
    if case.person is not None and case.error is not None:
        words.append(f"OKS {subject.errors.oks[case.error]:.2f}")
    return ", ".join(words)

"""The worst people as one picture: annotation on the left, detection on the right of each pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from rtmo.drawing import draw_people, mosaic_grid
from rtmo.evaluation.gallery import Case, crop_xyxy
from rtmo.evaluation.subject import Subject

CELL_WH = (190, 220)
"""Largest size of one half of a pair, px."""

COLUMNS = 4


def save_contact_sheet(
    subject: Subject,
    cases: Sequence[Case],
    read_image: Callable[[int], np.ndarray],
    path: Path,
) -> None:
    """Write a PNG of all cases; an empty one where there is none.

    Args:
        subject: the split and its errors.
        cases: found people, see `rtmo.evaluation.gallery.worst_people`.
        read_image: index of an image in the split -> BGR uint8 (H, W, 3).
        path: of the PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    pairs = [_pair(case, subject, read_image(case.image)) for case in cases]
    blank = np.full((CELL_WH[1], CELL_WH[0], 3), 255, np.uint8)
    if not cv2.imwrite(str(path), mosaic_grid(pairs or [blank], columns=COLUMNS)):
        raise OSError(f"cannot write {path}")


def _pair(case: Case, subject: Subject, image: np.ndarray) -> np.ndarray:
    """(H, W, 3) the same part of the picture twice, with the annotation and with the detection."""
    assert case.person is not None, "the worst people are annotated people"
    assert case.error is not None, "the worst people were found"
    truth, found, errors = subject.truth, subject.found, subject.errors
    detection = errors.detections[case.error]
    predicted = found.keypoints[detection].copy()
    predicted[:, 2] = 2  # every keypoint of a detection is drawn as visible
    x1, y1, x2, y2 = crop_xyxy(case, truth, found, errors, (image.shape[0], image.shape[1]))
    scale = min(CELL_WH[0] / (x2 - x1), CELL_WH[1] / (y2 - y1))
    size = (max(2, round((x2 - x1) * scale)), max(2, round((y2 - y1) * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    crop = cv2.resize(image[y1:y2, x1:x2], size, interpolation=interpolation)
    shown = (
        (truth.keypoints[case.person], truth.boxes_xywh[case.person]),
        (predicted, found.boxes_xywh[detection]),
    )
    halves = []
    for keypoints, (x, y, width, height) in shown:
        placed = (keypoints - (x1, y1, 0)) * (scale, scale, 1)
        box = (np.array([x, y, x + width, y + height]) - (x1, y1, x1, y1)) * scale
        halves.append(draw_people(crop, placed[None], box[None], subject.skeleton))
    return np.concatenate(halves, axis=1)

"""What a careful annotator would record of the people in a painted picture."""

from __future__ import annotations

import numpy as np

from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.synthetic.body import LANDMARKS
from rtmo.synthetic.canvas import PARTS, SCENERY
from rtmo.synthetic.figure import PaintedPerson
from rtmo.synthetic.masks import box_xywh, outline, run_lengths
from rtmo.synthetic.parts import SHOWN_BY
from rtmo.synthetic.records import SyntheticPerson

DISTANT = 0.13
"""A person whose standing height is below this share of the picture's height gets no keypoints."""

UNSEEN_PIXELS = 12
"""A person of whom fewer pixels are visible is not recorded at all."""

UNSEEN_SHARE = 0.04
"""Nor one of whom a smaller share of what is inside the picture is visible."""

GLIMPSE_SHARE = 0.2
"""Where a smaller share is visible, nobody guesses at hidden joints."""

_COCO = [LANDMARKS.index(name) for name in COCO17.keypoints]
_CROWDPOSE = [LANDMARKS.index(name) for name in CROWDPOSE14.keypoints]
_FACE = frozenset({"nose", "left_eye", "right_eye", "left_ear", "right_ear"})
_IS_FACE = np.array([name in _FACE for name in LANDMARKS])


def record_person(
    labels: np.ndarray, person: PaintedPerson, guesses: np.ndarray, unlabelled_prob: float
) -> SyntheticPerson | None:
    """Keypoints, box and segment of one person as the finished picture shows them.

    Args:
        labels: (H, W) uint16, the finished canvas's labels.
        person: the person as painted.
        guesses: (19,) uniform in [0, 1): a hidden joint is guessed where it is not below
            `unlabelled_prob`.
        unlabelled_prob: probability that a hidden joint is left unlabelled.

    Returns:
        The record; None for a person of whom next to nothing can be seen.
    """
    x0, y0, x1, y1 = person.bounds
    visible = labels[y0:y1, x0:x1] // PARTS == person.number
    share = np.count_nonzero(visible) / max(person.painted, 1)
    if np.count_nonzero(visible) < UNSEEN_PIXELS or share < UNSEEN_SHARE:
        return None
    polygons, segment = outline(visible, (x0, y0))
    if not polygons:
        return None
    flags = np.zeros(len(LANDMARKS))
    height, width = labels.shape
    if person.scale >= DISTANT * height:
        guessed = guesses >= (unlabelled_prob if share >= GLIMPSE_SHARE else 1.0)
        shown = _showing(np.where(segment, labels[y0:y1, x0:x1], SCENERY), person)
        turned = ~person.faces_camera & _IS_FACE
        inside = (person.landmarks_xy >= 0) & (person.landmarks_xy <= (width - 1, height - 1))
        flags = np.where(shown, 2, guessed & ~turned) * inside.all(axis=1)
    keypoints = np.column_stack([np.round(person.landmarks_xy, 2), flags])
    keypoints = np.where(flags[:, None] > 0, keypoints, 0.0).astype(np.float32)
    return SyntheticPerson(
        coco_keypoints=keypoints[_COCO],
        crowdpose_keypoints=keypoints[_CROWDPOSE],
        box_xywh=box_xywh(segment, (x0, y0)),
        area=int(np.count_nonzero(segment)),
        segmentation=polygons,
        is_crowd=False,
    )


def _showing(labels: np.ndarray, person: PaintedPerson) -> np.ndarray:
    """Which landmarks can be seen in the window of the person's bounds: (19,) bool.

    A landmark can be seen where it faces the camera and, within a pixel of it, one of the parts
    that show it is on top.
    """
    x0, y0 = person.bounds[:2]
    columns, rows = np.rint(person.landmarks_xy - (x0, y0)).astype(int).T.tolist()
    shown = person.faces_camera.copy()
    for k in np.flatnonzero(shown):
        around = labels[_near(rows[k]), _near(columns[k])].ravel().tolist()
        parts = SHOWN_BY[LANDMARKS[k]]
        shown[k] = any(label - person.number * PARTS in parts for label in around)
    return shown


def _near(index: int) -> slice:
    return slice(max(index - 1, 0), max(index + 2, 0))


def record_crowd(labels: np.ndarray, number: int) -> SyntheticPerson | None:
    """One mask around a crowd region; None where nothing of it is left visible."""
    mask = labels // PARTS == number
    if np.count_nonzero(mask) < UNSEEN_PIXELS:
        return None
    return SyntheticPerson(
        coco_keypoints=np.zeros((len(_COCO), 3), np.float32),
        crowdpose_keypoints=np.zeros((len(_CROWDPOSE), 3), np.float32),
        box_xywh=box_xywh(mask, (0, 0)),
        area=int(np.count_nonzero(mask)),
        segmentation=run_lengths(mask),
        is_crowd=True,
    )

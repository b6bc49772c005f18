"""Paint one person: parts from far to near, each a few convex shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.synthetic.body import HEAD_LANDMARKS, LANDMARKS
from rtmo.synthetic.canvas import PARTS, Canvas
from rtmo.synthetic.head import ears_show, head_parts
from rtmo.synthetic.limbs import arm_parts, leg_parts
from rtmo.synthetic.outfit import Outfit
from rtmo.synthetic.parts import Figure
from rtmo.synthetic.trunk import trunk_parts


@dataclass(frozen=True, slots=True)
class PaintedPerson:
    """What is known of a person after painting, before anything is painted in front."""

    number: int
    """The figure number in the canvas's labels, 1 or more."""
    landmarks_xy: np.ndarray
    """(19, 2) pixels, in the order of LANDMARKS."""
    faces_camera: np.ndarray
    """(19,) bool: False where the point is on the far side of the own head or trunk."""
    scale: float
    """Pixels per standing height."""
    bounds: tuple[int, int, int, int]
    """x0, y0, x1, y1 of what was painted, clipped to the picture; x1 and y1 are outside."""
    painted: int
    """Pixels painted inside the picture."""


def paint_person(canvas: Canvas, figure: Figure, outfit: Outfit, number: int) -> PaintedPerson:
    """Paint a person over what is there."""
    parts = [*trunk_parts(figure, outfit), *head_parts(figure, outfit)]
    for side in ("left", "right"):
        parts += [*arm_parts(figure, outfit, side), *leg_parts(figure, outfit, side)]
    parts.sort(key=lambda part: part.depth)
    for part in parts:
        for shape in part.shapes:
            canvas.paint(shape, number * PARTS + part.label)
        for detail in part.details:
            canvas.tint(detail)
    outline = np.concatenate([shape.points for part in parts for shape in part.shapes])
    bounds = _clip(outline, canvas.labels.shape)
    x0, y0, x1, y1 = bounds
    return PaintedPerson(
        number=number,
        landmarks_xy=np.stack([figure.spots[name][:2] for name in LANDMARKS]),
        faces_camera=_faces_camera(figure, outfit),
        scale=figure.view.scale,
        bounds=bounds,
        painted=int(np.count_nonzero(canvas.labels[y0:y1, x0:x1] // PARTS == number)),
    )


def _clip(points: np.ndarray, size_hw: tuple[int, ...]) -> tuple[int, int, int, int]:
    height, width = size_hw
    (x0, y0), (x1, y1) = np.floor(points.min(0)) - 1, np.ceil(points.max(0)) + 2
    return (
        int(np.clip(x0, 0, width)),
        int(np.clip(y0, 0, height)),
        int(np.clip(x1, 0, width)),
        int(np.clip(y1, 0, height)),
    )


def _faces_camera(figure: Figure, outfit: Outfit) -> np.ndarray:
    """Which landmarks the own head or trunk does not turn away from the camera."""
    face = figure.view.towards_camera(np.array([*HEAD_LANDMARKS.values()]) @ figure.body.head.T)
    turned = dict(zip(HEAD_LANDMARKS, face, strict=True))
    least = {
        "nose": -0.1,
        "left_eye": 0.05,
        "right_eye": 0.05,
        "left_ear": -0.4,
        "right_ear": -0.4,
    }
    seen = {name: turned[name] > limit for name, limit in least.items()}
    if not ears_show(outfit):
        seen |= {"left_ear": False, "right_ear": False}
    for frame, joint in ((figure.body.chest, "shoulder"), (figure.body.pelvis, "hip")):
        left = float(figure.view.towards_camera(frame[:, :1].T)[0])
        seen |= {f"left_{joint}": left > -0.85, f"right_{joint}": left < 0.85}
    return np.array([seen.get(name, True) for name in LANDMARKS])

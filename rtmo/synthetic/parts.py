"""The parts a painted person consists of, and which part shows which keypoint."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.synthetic.body import Body
from rtmo.synthetic.canvas import Colour, Shape, discs, shade
from rtmo.synthetic.view import View

TORSO, HEAD, HAIR = 1, 2, 3
UPPER_ARM = {"left": 4, "right": 5}
FOREARM = {"left": 6, "right": 7}
HAND = {"left": 8, "right": 9}
THIGH = {"left": 10, "right": 11}
SHANK = {"left": 12, "right": 13}
FOOT = {"left": 14, "right": 15}
BACKPACK = 16

SHOWN_BY: dict[str, frozenset[int]] = {
    **dict.fromkeys(("nose", "left_eye", "right_eye", "left_ear", "right_ear"), frozenset({HEAD})),
    "top_head": frozenset({HEAD, HAIR}),
    "neck": frozenset({TORSO, HEAD, HAIR}),
    **{f"{s}_shoulder": frozenset({TORSO, UPPER_ARM[s], HAIR}) for s in UPPER_ARM},
    **{f"{s}_elbow": frozenset({UPPER_ARM[s], FOREARM[s]}) for s in UPPER_ARM},
    **{f"{s}_wrist": frozenset({FOREARM[s], HAND[s]}) for s in UPPER_ARM},
    **{f"{s}_hip": frozenset({TORSO, THIGH[s]}) for s in UPPER_ARM},
    **{f"{s}_knee": frozenset({THIGH[s], SHANK[s]}) for s in UPPER_ARM},
    **{f"{s}_ankle": frozenset({SHANK[s], FOOT[s]}) for s in UPPER_ARM},
}
"""A keypoint can be seen where one of these parts is on top at its place."""

EDGE = 0.62
"""Brightness of outlines against the fill."""
GLOW = 1.13
"""Brightness of the lit side against the fill."""
GLOW_FROM = 2.5
"""Radius in pixels from which a lit side is painted."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something painted in one go, at one depth."""

    label: int
    depth: float
    """Towards the camera, standing heights."""
    shapes: list[Shape]
    """Painted in this order into picture and labels."""
    details: list[Shape]
    """Painted after them, into the picture only."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A posed body in the picture."""

    body: Body
    view: View
    spots: dict[str, np.ndarray]
    """(3,) x, y, depth of every point of the body."""
    light: np.ndarray
    """(2,) pixels direction the light comes from, length 1."""

    @classmethod
    def seen(cls, body: Body, view: View, light: np.ndarray) -> Figure:
        """Project every point of a body."""
        projected = view.project(np.stack(list(body.points.values())))
        return cls(body, view, dict(zip(body.points, projected, strict=True)), light)

    def place(self, points: list[np.ndarray]) -> np.ndarray:
        """(N, 3) x, y, depth of further points in the body's axes."""
        return self.view.project(np.stack(points))

    def px(self, length: float) -> float:
        """A length in standing heights in pixels."""
        return length * self.view.scale

    def solid(self, spots: np.ndarray, radii: list[float], colour: Colour) -> Shape:
        """An outlined shape around discs at (N, 3) spots, radii in standing heights."""
        sizes = np.array(radii) * self.view.scale
        return Shape(discs(spots[:, :2], sizes), colour, shade(colour, EDGE))

    def glow(self, spots: np.ndarray, radii: list[float], colour: Colour) -> list[Shape]:
        """The lit side of that shape, where it is large enough to be seen."""
        if max(radii) * self.view.scale < GLOW_FROM:
            return []
        sizes = np.array(radii) * self.view.scale
        lit = spots[:, :2] + np.multiply.outer(0.34 * sizes, self.light)
        return [Shape(discs(lit, 0.5 * sizes), shade(colour, GLOW))]

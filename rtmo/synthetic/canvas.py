"""A picture being painted, and beside it a map of what each pixel shows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[float, float, float]
"""Blue, green, red, 0 to 255."""

SHIFT = 4
"""Fractional bits of coordinates given to OpenCV: 1/16 pixel."""

PARTS = 32
"""Labels per figure: `figure * PARTS + part`; figure 0 is everything that is not a person."""

SCENERY = 0
"""The label of background and objects."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A filled convex shape: the hull of `points`."""

    points: np.ndarray
    """(N, 2) pixels, any order."""
    colour: Colour
    edge: Colour | None = None
    """Colour of a thin outline."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """Pixels to look at and labels to annotate from, painted over together."""

    image: np.ndarray
    """(H, W, 3) uint8 BGR."""
    labels: np.ndarray
    """(H, W) uint16, SCENERY or `figure * PARTS + part`."""

    @classmethod
    def over(cls, backdrop: np.ndarray) -> Canvas:
        """A canvas on which nothing but the backdrop is painted."""
        return cls(backdrop, np.zeros(backdrop.shape[:2], np.uint16))

    def paint(self, shape: Shape, label: int) -> None:
        """Fill a shape in the picture (smooth edges) and in the labels (hard edges)."""
        hull = _hull(shape.points)
        cv2.fillConvexPoly(self.image, hull, shape.colour, cv2.LINE_AA, SHIFT)
        if shape.edge is not None:
            closed, thickness = True, 1
            cv2.polylines(self.image, [hull], closed, shape.edge, thickness, cv2.LINE_AA, SHIFT)
        cv2.fillConvexPoly(self.labels, hull, label, cv2.LINE_8, SHIFT)

    def tint(self, shape: Shape) -> None:
        """Fill a shape in the picture only: a detail on something painted before."""
        fill(self.image, shape.points, shape.colour)

    def shadow(self, centre: tuple[float, float], half_axes: tuple[float, float]) -> None:
        """Darken a flat ellipse of the picture, pixels."""
        (x, y), (across, down) = centre, half_axes
        height, width = self.labels.shape
        x0, x1 = np.clip([round(x - across), round(x + across)], 0, width)
        y0, y1 = np.clip([round(y - down), round(y + down)], 0, height)
        if x0 >= x1 or y0 >= y1:
            return
        columns = ((np.arange(x0, x1, dtype=np.float32) - x) / across) ** 2
        rows = ((np.arange(y0, y1, dtype=np.float32) - y) / down) ** 2
        depth = 0.45 * np.clip(1.0 - rows[:, None] - columns, 0.0, 1.0)
        window = self.image[y0:y1, x0:x1]
        window[:] = (window * (1.0 - depth[:, :, None])).astype(np.uint8)


def fill(image: np.ndarray, points: np.ndarray, colour: Colour) -> None:
    """Fill the hull of (N, 2) pixel positions with smooth edges."""
    cv2.fillConvexPoly(image, _hull(points), colour, cv2.LINE_AA, SHIFT)


def _hull(points: np.ndarray) -> np.ndarray:
    fixed = np.rint(points * (1 << SHIFT)).astype(np.int32)
    return np.asarray(cv2.convexHull(fixed))


_TURN = np.linspace(0, 2 * np.pi, 12, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1) / np.cos(np.pi / 24)


def discs(centres: np.ndarray, radii: np.ndarray | float) -> np.ndarray:
    """Points around discs: their hull is a ball, a capsule, or a rounded polygon.

    Args:
        centres: (N, 2) pixels.
        radii: (N,) or one radius, pixels.

    Returns:
        (12 N, 2) pixels.
    """
    return np.asarray((centres[:, None] + np.multiply.outer(radii, _CIRCLE)).reshape(-1, 2))


def shade(colour: Colour, factor: float) -> Colour:
    """The colour in less (factor < 1) or more light."""
    blue, green, red = colour
    return min(255.0, blue * factor), min(255.0, green * factor), min(255.0, red * factor)

"""From the body's space to the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

DISTANCE = 6.0
"""Camera distance in standing heights: near limbs are drawn a little larger."""


@dataclass(frozen=True, slots=True)
class View:
    """Where one person stands in the picture and how large."""

    ground_xy: tuple[float, float]
    """Pixel of the ground below the person."""
    scale: float
    """Pixels per standing height."""
    tilt: float
    """Degrees the camera looks down."""

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels and depth of points.

        Args:
            points: (N, 3) in the camera's axes, standing heights, ground at y = 0.

        Returns:
            (N, 3): x and y in pixels; depth towards the camera in standing heights.
        """
        c, s = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        up = c * points[:, 1] - s * points[:, 2]
        depth = s * points[:, 1] + c * points[:, 2]
        size = self.scale * DISTANCE / (DISTANCE - depth)
        return np.stack(
            [self.ground_xy[0] + size * points[:, 0], self.ground_xy[1] - size * up, depth], axis=1
        )

    def towards_camera(self, directions: np.ndarray) -> np.ndarray:
        """Share of each direction (N, 3) that points at the camera, -1 to 1: (N,)."""
        c, s = math.cos(math.radians(self.tilt)), math.sin(math.radians(self.tilt))
        return np.asarray(s * directions[:, 1] + c * directions[:, 2])

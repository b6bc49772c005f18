"""From a visible mask to what annotation files hold: polygons, run lengths, boxes."""

from __future__ import annotations

import cv2
import numpy as np

from rtmo.synthetic.records import Polygons, RunLengths

SLACK = 0.35
"""Largest distance of a polygon from the outline it follows, pixels."""

SPECK = 4
"""Pieces of fewer visible pixels than this are left out, as an annotator would."""


def outline(mask: np.ndarray, corner: tuple[int, int]) -> tuple[Polygons, np.ndarray]:
    """Polygons around the pieces of a mask, and the mask they enclose.

    Holes and specks are closed: COCO polygons have no holes.

    Args:
        mask: (H, W) bool, a window of the picture.
        corner: x, y of the window in the picture.

    Returns:
        The polygons in picture pixels, and the (H, W) bool mask they enclose.
    """
    double = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(double, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    rings = [cv2.approxPolyDP(ring, 2 * SLACK, closed=True) for ring in contours]
    kept = [ring for ring in rings if len(ring) >= 3 and cv2.contourArea(ring) > 4 * SPECK]
    filled = np.zeros_like(double)
    cv2.drawContours(filled, kept, -1, 1, cv2.FILLED)
    origin = np.array(corner)
    polygons = [((ring[:, 0] + 0.5) / 2 + origin).ravel().tolist() for ring in kept]
    return polygons, filled[::2, ::2].astype(bool)


def box_xywh(mask: np.ndarray, corner: tuple[int, int]) -> tuple[float, float, float, float]:
    """Bounds of the set pixels of a window at `corner`; the mask must not be empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return (
        float(corner[0] + columns[0]),
        float(corner[1] + rows[0]),
        float(columns[-1] - columns[0] + 1),
        float(rows[-1] - rows[0] + 1),
    )


def run_lengths(mask: np.ndarray) -> RunLengths:
    """COCO's uncompressed run lengths of a whole-picture mask.

    Example:
        >>> run_lengths(np.array([[0, 1], [1, 1]], bool))
        {'size': [2, 2], 'counts': [1, 3]}
    """
    flat = mask.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    counts = [0, *runs] if flat[0] else runs
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": counts}

"""Paint neck, chest and hips, and what is worn on them."""

from __future__ import annotations

import numpy as np

from rtmo.synthetic.canvas import Colour, Shape, discs, shade
from rtmo.synthetic.outfit import Outfit
from rtmo.synthetic.parts import BACKPACK, TORSO, Figure, Part


def trunk_parts(figure: Figure, outfit: Outfit) -> list[Part]:
    """Neck, hips under a top, and perhaps a skirt and a backpack."""
    body, stout = figure.body, figure.body.build.stoutness
    depth = float(figure.spots["waist"][2])
    spots = _outline_spots(figure)
    shoulder, waist, hip = 0.040 * stout, 0.050 * stout, 0.052 * stout
    throat = figure.place(
        [body.points["neck"], body.points["skull"] - 0.35 * body.build.head[1] * body.head[:, 1]]
    )
    neck = figure.solid(throat, [0.028, 0.026], shade(outfit.skin, 0.88))
    hips = figure.solid(spots[4:8], [hip] * 4, outfit.trousers)
    belly, belly_radii = spots[2:6], [waist, waist, 1.06 * hip, 1.06 * hip]
    chest = np.concatenate([spots[:4], throat[:1]])
    chest_radii = [shoulder, shoulder, waist, waist, 0.03]
    lower = figure.solid(belly, belly_radii, outfit.top)
    upper = figure.solid(chest, chest_radii, outfit.top)
    details = [
        Shape(upper.points, outfit.top),
        *figure.glow(chest, chest_radii, outfit.top),
        *figure.glow(belly, belly_radii, outfit.top),
        *_worn(figure, outfit, spots),
    ]
    parts = [
        Part(TORSO, min(depth, float(figure.spots["skull"][2])) - 0.012, [neck], []),
        Part(TORSO, depth, [hips, lower, upper], details),
    ]
    if outfit.skirt:
        parts.append(_skirt(figure, outfit))
    if outfit.backpack is not None:
        parts.append(_backpack(figure, outfit.backpack))
    return parts


def _outline_spots(figure: Figure) -> np.ndarray:
    """(8, 3) left and right of shoulders, waist, hem of the top, and hips."""
    body, points = figure.body, figure.body.points
    hem = points["pelvis"] + 0.12 * body.build.torso * body.pelvis[:, 1]
    across = 0.85 * body.build.hip * body.pelvis[:, 0]
    drop = 0.012 * body.chest[:, 1]
    inset = 0.16 * body.build.shoulder * body.chest[:, 0]
    return figure.place(
        [
            points["left_shoulder"] - inset - drop,
            points["right_shoulder"] + inset - drop,
            points["waist"] + 0.95 * across,
            points["waist"] - 0.95 * across,
            hem + across,
            hem - across,
            points["left_hip"],
            points["right_hip"],
        ]
    )


def _worn(figure: Figure, outfit: Outfit, spots: np.ndarray) -> list[Shape]:
    """Stripes all round; a collar, print or open jacket where the chest faces the camera."""
    left, right = spots[[0, 2, 4], :2], spots[[1, 3, 5], :2]
    shapes: list[Shape] = []
    if outfit.pattern == "stripes":
        shapes += _stripes(figure, outfit.accent, left, right)
    body, stout = figure.body, figure.body.build.stoutness
    facing = float(figure.view.towards_camera(body.chest[:, 2:].T)[0])
    if facing < 0.25:
        return shapes
    forward = 0.042 * stout * body.chest[:, 2]
    front = [body.points["neck"] + forward, body.points["waist"] + forward]
    throat, belt = figure.place(front)[:, :2]
    down = belt - throat
    if outfit.pattern == "jacket":
        strip = np.stack([throat, belt + 0.5 * down])
        shapes.append(Shape(discs(strip, figure.px(0.018 * stout) * facing), outfit.accent))
    if outfit.pattern == "print":
        middle = np.stack([throat + 0.42 * down, throat + 0.6 * down])
        shapes.append(Shape(discs(middle, figure.px(0.034 * stout) * facing), outfit.accent))
    side = (left[0] - right[0]) * 0.15
    collar = np.stack([throat + side, throat - side, throat + 0.18 * down])
    shapes.append(Shape(collar, outfit.skin))
    return shapes


def _stripes(figure: Figure, colour: Colour, left: np.ndarray, right: np.ndarray) -> list[Shape]:
    """Bands across the top, as wide as the trunk looks from here."""
    spine = (left[0] + right[0]) / 2 - (left[2] + right[2]) / 2
    normal = np.array([spine[1], -spine[0]]) / max(float(np.linalg.norm(spine)), 1e-6)
    shapes: list[Shape] = []
    for t in (0.12, 0.36, 0.6, 0.84):
        a = left[0] + (left[2] - left[0]) * t
        b = right[0] + (right[2] - right[0]) * t
        middle, half = (a + b) / 2, abs(float((a - b) @ normal)) / 2 + figure.px(0.034)
        ends = np.stack([middle - half * normal, middle + half * normal])
        shapes.append(Shape(discs(ends, figure.px(0.010)), colour))
    return shapes


def _skirt(figure: Figure, outfit: Outfit) -> Part:
    points = figure.body.points
    hems = [
        points[f"{side}_hip"] + 0.75 * (points[f"{side}_knee"] - points[f"{side}_hip"])
        for side in ("left", "right")
    ]
    spots = figure.place([points["left_hip"], points["right_hip"], *hems])
    radii = [0.056, 0.056, 0.06, 0.06]
    depth = max(float(figure.spots["waist"][2]), float(spots[2:, 2].mean())) - 0.008
    return Part(
        TORSO,
        depth,
        [figure.solid(spots, radii, outfit.trousers)],
        figure.glow(spots, radii, outfit.trousers),
    )


def _backpack(figure: Figure, colour: Colour) -> Part:
    body = figure.body
    behind = -0.085 * body.chest[:, 2]
    across = 0.037 * body.chest[:, 0]
    high = behind + 0.55 * body.points["neck"] + 0.45 * body.points["waist"]
    low = behind + body.points["waist"]
    spots = figure.place([high + across, high - across, low + across, low - across])
    radii = [0.05, 0.05, 0.055, 0.055]
    return Part(
        BACKPACK,
        float(spots[:, 2].mean()),
        [figure.solid(spots, radii, colour)],
        figure.glow(spots, radii, colour),
    )

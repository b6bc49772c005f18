"""Paint a head so that one can see where it looks: hair behind, a face in front."""

from __future__ import annotations

import numpy as np

from rtmo.synthetic.body import HEAD_LANDMARKS
from rtmo.synthetic.canvas import Colour, Shape, discs, shade
from rtmo.synthetic.outfit import Outfit
from rtmo.synthetic.parts import EDGE, HAIR, HEAD, Figure, Part


def _sphere(count: int) -> np.ndarray:
    """(count, 3) unit vectors spread evenly (a Fibonacci lattice)."""
    turn = np.pi * (3.0 - np.sqrt(5.0)) * np.arange(count)
    height = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    ring = np.sqrt(1.0 - height**2)
    return np.stack([ring * np.cos(turn), height, ring * np.sin(turn)], axis=1)


_DIRECTIONS = _sphere(160)


def _cap(towards: tuple[float, float, float], cosine: float) -> np.ndarray:
    axis = np.array(towards) / np.linalg.norm(towards)
    return np.asarray(_DIRECTIONS @ axis > cosine)


_LONG_HAIR_FACE = _cap((0.0, -0.35, 1.0), 0.42)
_SHORT_HAIR = _cap((0.0, 0.75, -0.66), 0.27)
_CROWN = _cap((0.0, 1.0, -0.25), 0.3)


def head_parts(figure: Figure, outfit: Outfit) -> list[Part]:
    """The head, and long hair hanging behind it."""
    depth = float(figure.spots["skull"][2]) + 0.03
    parts = [Part(HEAD, depth, _skull(figure, outfit), _features(figure, outfit))]
    if outfit.hair_style == "long":
        parts.append(_mane(figure, outfit))
    return parts


def ears_show(outfit: Outfit) -> bool:
    """Long hair hides the ears."""
    return outfit.hair_style != "long"


def _skull(figure: Figure, outfit: Outfit) -> list[Shape]:
    """Skull, hair, ears and hat; long hair leaves a face free, short hair sits on the skin."""
    axes = np.array(figure.body.build.head)
    surface = figure.body.points["skull"] + (_DIRECTIONS * axes) @ figure.body.head.T
    spots = figure.view.project(surface)[:, :2]
    facing = figure.view.towards_camera(_DIRECTIONS @ figure.body.head.T)
    centre = figure.spots["skull"][:2]
    far, near = _ears(figure, outfit)
    if outfit.hair_style == "long":
        hair = Shape(centre + 1.08 * (spots - centre), outfit.hair, shade(outfit.hair, EDGE))
        return [hair, *_region(spots[_LONG_HAIR_FACE & (facing > 0.0)], outfit.skin)]
    shapes = [*far, Shape(spots, outfit.skin, shade(outfit.skin, EDGE)), *near]
    if outfit.hair_style != "bald":
        grown = centre + 1.09 * (spots - centre)
        shapes += _region(grown[_SHORT_HAIR & (facing > -0.1)], outfit.hair)
    if outfit.hair_style == "hat":
        lifted = centre + 1.16 * (spots - centre)
        shapes += _region(lifted[_CROWN & (facing > -0.2)], outfit.hat)
        shapes += _visor(figure, outfit.hat)
    return shapes


def _region(points: np.ndarray, colour: Colour) -> list[Shape]:
    """The visible part of a cap, or nothing where too little of it shows."""
    return [Shape(points, colour, shade(colour, EDGE))] if len(points) > 4 else []


def _ears(figure: Figure, outfit: Outfit) -> tuple[list[Shape], list[Shape]]:
    """Ears on the far side, painted before the skull, and on the near side."""
    far: list[Shape] = []
    near: list[Shape] = []
    if not ears_show(outfit):
        return far, near
    radius = figure.px(0.26 * figure.body.build.head[0])
    for name, side in (("left_ear", 1.0), ("right_ear", -1.0)):
        spot = figure.spots[name][None, :2]
        flat = Shape(discs(spot, radius), shade(outfit.skin, 0.9), shade(outfit.skin, EDGE))
        turned = float(figure.view.towards_camera(side * figure.body.head[:, :1].T)[0])
        (near if turned > 0.2 else far).append(flat)
    return far, near


def _visor(figure: Figure, colour: Colour) -> list[Shape]:
    points = _on_head(
        figure, [(-0.6, 0.5, 0.85), (0.6, 0.5, 0.85), (-0.4, 0.42, 1.6), (0.4, 0.42, 1.6)]
    )
    if figure.view.towards_camera(figure.body.head[:, 2:].T)[0] < -0.1:
        return []
    return [Shape(discs(points, figure.px(0.008)), shade(colour, 0.8), shade(colour, 0.5))]


def _on_head(figure: Figure, directions: list[tuple[float, float, float]]) -> np.ndarray:
    """(N, 2) pixels of directions in the head's half-axes."""
    offsets = (np.array(directions) * figure.body.build.head) @ figure.body.head.T
    return figure.view.project(figure.body.points["skull"] + offsets)[:, :2]


def _features(figure: Figure, outfit: Outfit) -> list[Shape]:
    """Eyes, brows, nose and mouth, each where it faces the camera."""
    size = figure.px(figure.body.build.head[0])
    spots = _on_head(figure, [*_FEATURES.values()])
    place = dict(zip(_FEATURES, spots, strict=True))
    facing = figure.view.towards_camera(np.array([*_FEATURES.values()]) @ figure.body.head.T)
    seen = {name for name, value in zip(_FEATURES, facing, strict=True) if value > 0.12}
    shapes: list[Shape] = []
    if {"bridge", "nose"} & seen:
        line = np.stack([place["bridge"], place["nose"]])
        shapes.append(Shape(discs(line, np.array([0.1, 0.17]) * size), shade(outfit.skin, 0.8)))
    for side in ("left", "right"):
        if f"{side}_eye" not in seen:
            continue
        eye = place[f"{side}_eye"][None]
        shapes.append(Shape(discs(eye, 0.2 * size), (245.0, 245.0, 245.0)))
        shapes.append(Shape(discs(eye, 0.13 * size), (30.0, 24.0, 20.0)))
        brow = np.stack([place[f"{side}_brow_in"], place[f"{side}_brow_out"]])
        shapes.append(Shape(discs(brow, 0.05 * size), shade(outfit.hair, 0.8)))
    if "mouth" in seen:
        lips = np.stack([place["mouth_left"], place["mouth_right"]])
        shapes.append(Shape(discs(lips, 0.07 * size), (70.0, 60.0, 150.0)))
    return shapes


_FEATURES: dict[str, tuple[float, float, float]] = {
    "left_eye": HEAD_LANDMARKS["left_eye"],
    "right_eye": HEAD_LANDMARKS["right_eye"],
    "nose": HEAD_LANDMARKS["nose"],
    "bridge": (0.0, 0.12, 0.98),
    "left_brow_in": (0.25, 0.38, 0.9),
    "left_brow_out": (0.6, 0.36, 0.74),
    "right_brow_in": (-0.25, 0.38, 0.9),
    "right_brow_out": (-0.6, 0.36, 0.74),
    "mouth": (0.0, -0.52, 0.86),
    "mouth_left": (0.26, -0.5, 0.84),
    "mouth_right": (-0.26, -0.5, 0.84),
}
"""Directions from the head's centre, in its half-axes."""


def _mane(figure: Figure, outfit: Outfit) -> Part:
    """Hair to the shoulders, on the back of the head and neck."""
    body = figure.body
    back = body.points["skull"] - 0.3 * body.build.head[2] * body.head[:, 2]
    ends = body.points["neck"] - 0.03 * body.chest[:, 1] - 0.035 * body.chest[:, 2]
    spots = figure.place([back, ends])
    radii = [1.02 * body.build.head[0], 0.9 * body.build.head[0]]
    behind = float(figure.view.towards_camera(body.head[:, 2:].T)[0])
    return Part(
        HAIR,
        float(figure.spots["skull"][2]) - 0.09 * behind,
        [figure.solid(spots, radii, outfit.hair)],
        figure.glow(spots, radii, outfit.hair),
    )

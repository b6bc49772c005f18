"""Things: furniture, poles, plants. Behind people they are clutter, in front they hide."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtmo.synthetic.canvas import Colour, Shape, discs, shade
from rtmo.synthetic.outfit import from_hsv
from rtmo.synthetic.parts import EDGE

Rng = np.random.Generator
Spot = tuple[float, float]
"""Pixel x, y; y grows downwards."""


def random_prop(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    """Something standing on the ground, sized for people of `scale` pixels."""
    return PROPS[rng.integers(len(PROPS))](rng, ground_xy, scale)


def random_seat(rng: Rng, ground_xy: Spot, scale: float, top: float) -> list[Shape]:
    """A stool, block or chair whose seat is `top` standing heights above the ground."""
    x, y = ground_xy
    colour = _material(rng)
    half, seat, thick = rng.uniform(0.09, 0.2) * scale, y - top * scale, 0.035 * scale
    board = _block((x - half, seat), (x + half, seat + thick), colour)
    kind = rng.integers(3)
    if kind == 0:
        return [_block((x - 0.9 * half, seat), (x + 0.9 * half, y), shade(colour, 0.85)), board]
    legs = [
        _block((foot, seat), (foot + 0.6 * thick, y), shade(colour, 0.8))
        for foot in (x - 0.9 * half, x + 0.9 * half - 0.6 * thick)
    ]
    if kind == 1:
        return [*legs, board]
    return [
        _block((x - half, seat - 0.3 * scale), (x + half, seat), shade(colour, 0.9)),
        *legs,
        board,
    ]


def _material(rng: Rng) -> Colour:
    return from_hsv(rng.random(), rng.uniform(0.05, 0.7), rng.uniform(0.2, 0.85))


def _block(corner: Spot, opposite: Spot, colour: Colour) -> Shape:
    (x0, y0), (x1, y1) = corner, opposite
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    return Shape(points, colour, shade(colour, EDGE))


def _round(centre: Spot, radius: float, colour: Colour) -> Shape:
    return Shape(discs(np.array([centre]), radius), colour, shade(colour, EDGE))


def _box(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    x, y = ground_xy
    colour = _material(rng)
    half, height = rng.uniform(0.08, 0.25) * scale, rng.uniform(0.1, 0.45) * scale
    front = _block((x - half, y - height), (x + half, y), colour)
    lid = _block((x - half, y - height), (x + half, y - 0.85 * height), shade(colour, 1.15))
    return [front, lid]


def _table(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    x, y = ground_xy
    colour = _material(rng)
    half, height = rng.uniform(0.2, 0.5) * scale, rng.uniform(0.36, 0.46) * scale
    thick = 0.035 * scale
    legs = [
        _block((foot - thick / 2, y - height), (foot + thick / 2, y), shade(colour, 0.8))
        for foot in (x - 0.9 * half, x + 0.9 * half)
    ]
    return [*legs, _block((x - half, y - height - thick), (x + half, y - height + thick), colour)]


def _sofa(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    x, y = ground_xy
    colour = _material(rng)
    half, low, high = rng.uniform(0.3, 0.5) * scale, 0.22 * scale, 0.42 * scale
    back = _block((x - half, y - high), (x + half, y), shade(colour, 0.9))
    cushion = _block((x - half, y - low), (x + half, y - 0.03 * scale), colour)
    arms = [
        _block(
            (edge - 0.05 * scale, y - 0.3 * scale), (edge + 0.05 * scale, y), shade(colour, 1.08)
        )
        for edge in (x - half, x + half)
    ]
    return [back, cushion, *arms]


def _pole(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    x, y = ground_xy
    half = rng.uniform(0.012, 0.04) * scale
    return [_block((x - half, y - rng.uniform(0.9, 2.5) * scale), (x + half, y), _material(rng))]


def _lamp(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    """A floor lamp or sign post: thin, upright, with a head on top, about as tall as a person."""
    x, y = ground_xy
    top = y - rng.uniform(0.6, 1.1) * scale
    stem = _block((x - 0.012 * scale, top), (x + 0.012 * scale, y), _material(rng))
    radius = rng.uniform(0.06, 0.1) * scale
    if rng.random() < 0.5:
        return [stem, _round((x, top), radius, _material(rng))]
    cone = np.array([[x - 0.5 * radius, top - radius], [x + 0.5 * radius, top - radius]])
    cone = np.concatenate(
        [cone, [[x + 1.3 * radius, top + radius], [x - 1.3 * radius, top + radius]]]
    )
    colour = _material(rng)
    foot = _block((x - radius, y - 0.02 * scale), (x + radius, y), shade(colour, 0.7))
    return [stem, foot, Shape(cone, colour, shade(colour, EDGE))]


def _plant(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    x, y = ground_xy
    green = from_hsv(rng.uniform(0.2, 0.42), rng.uniform(0.35, 0.8), rng.uniform(0.25, 0.65))
    height = rng.uniform(0.25, 0.8) * scale
    stem = _block((x - 0.02 * scale, y - height), (x + 0.02 * scale, y), (40.0, 60.0, 90.0))
    leaves = [
        _round((x + dx, y - height + dy), radius, shade(green, light))
        for dx, dy, radius, light in zip(
            *(rng.normal(0, 0.16, (2, 5)) * height),
            rng.uniform(0.13, 0.26, 5) * height,
            rng.uniform(0.8, 1.2, 5),
            strict=True,
        )
    ]
    return [stem, *leaves]


def _ball(rng: Rng, ground_xy: Spot, scale: float) -> list[Shape]:
    radius = rng.uniform(0.05, 0.14) * scale
    x, y = ground_xy[0], ground_xy[1] - radius
    colour = _material(rng)
    glint = Shape(discs(np.array([[x, y]]) - 0.3 * radius, 0.4 * radius), shade(colour, 1.2))
    return [_round((x, y), radius, colour), glint]


PROPS: tuple[Callable[[Rng, Spot, float], list[Shape]], ...] = (
    _box,
    _table,
    _sofa,
    _pole,
    _lamp,
    _plant,
    _ball,
)

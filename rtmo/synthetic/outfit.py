"""How a person looks: skin, hair and clothes."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtmo.synthetic.canvas import Colour

Pattern = Literal["plain", "stripes", "print", "jacket"]
Hair = Literal["short", "long", "bald", "hat"]

SKIN: tuple[Colour, ...] = (
    (196, 214, 244),
    (170, 196, 236),
    (143, 176, 224),
    (112, 150, 206),
    (84, 122, 182),
    (66, 96, 148),
    (48, 70, 112),
    (40, 54, 84),
)
"""From light to dark."""

HAIR: tuple[Colour, ...] = (
    (22, 20, 24),
    (30, 38, 56),
    (40, 62, 98),
    (58, 96, 148),
    (110, 170, 214),
    (44, 74, 158),
    (168, 168, 172),
)

HAIR_STYLES: tuple[Hair, ...] = (*("short",) * 8, *("long",) * 5, "bald", *("hat",) * 2)
PATTERNS: tuple[Pattern, ...] = ("plain", "plain", "stripes", "print", "jacket")
SLEEVES = (0.0, 0.3, 0.3, 0.3, 0.3, 1.0, 1.0, 1.0, 1.0)
TROUSER_LEGS = (0.28, 0.28, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)
"""What is worn; what is listed more often is seen more often."""


@dataclass(frozen=True, slots=True)
class Outfit:
    """Everything about a person that is not shape or pose."""

    skin: Colour
    hair: Colour
    hair_style: Hair
    hat: Colour
    top: Colour
    accent: Colour
    """Stripes, print, buttons, or what is worn under a jacket."""
    pattern: Pattern
    sleeve: float
    """Covered part of the arm: 0 none, 0.3 short, 1 long."""
    trousers: Colour
    trouser_leg: float
    """Covered part of the leg: 0.3 shorts, 1 long."""
    skirt: bool
    shoes: Colour
    backpack: Colour | None


def random_outfit(rng: np.random.Generator) -> Outfit:
    """Plain people in everyday clothes."""
    top = _cloth(rng)
    return Outfit(
        skin=_near(rng, SKIN[rng.integers(len(SKIN))]),
        hair=_near(rng, HAIR[rng.integers(len(HAIR))]),
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        hat=_cloth(rng),
        top=top,
        accent=_contrast(rng, top),
        pattern=PATTERNS[rng.integers(len(PATTERNS))],
        sleeve=SLEEVES[rng.integers(len(SLEEVES))],
        trousers=_cloth(rng),
        trouser_leg=TROUSER_LEGS[rng.integers(len(TROUSER_LEGS))],
        skirt=bool(rng.random() < 0.15),
        shoes=_cloth(rng),
        backpack=_cloth(rng) if rng.random() < 0.12 else None,
    )


def _cloth(rng: np.random.Generator) -> Colour:
    """Anything from black and white over greys and blues to bright colours."""
    grey = rng.random() < 0.3
    return from_hsv(
        rng.random(),
        0.08 * rng.random() if grey else rng.uniform(0.25, 0.9),
        rng.uniform(0.12, 0.95) if grey else rng.uniform(0.3, 0.95),
    )


def _contrast(rng: np.random.Generator, colour: Colour) -> Colour:
    light = sum(colour) > 360
    return from_hsv(rng.random(), rng.uniform(0.0, 0.8), 0.3 if light else 0.95)


def _near(rng: np.random.Generator, colour: Colour) -> Colour:
    blue, green, red = (
        float(np.clip(channel * factor, 0, 255))
        for channel, factor in zip(colour, rng.uniform(0.93, 1.07, 3), strict=True)
    )
    return blue, green, red


def from_hsv(hue: float, saturation: float, value: float) -> Colour:
    """BGR 0 to 255 from hue, saturation and value in 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return 255 * blue, 255 * green, 255 * red

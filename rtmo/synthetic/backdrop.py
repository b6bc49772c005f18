"""Places: a room, a street, a park, or nothing in particular."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from rtmo.synthetic.canvas import Colour, discs, fill, shade
from rtmo.synthetic.outfit import from_hsv

Rng = np.random.Generator


def paint_backdrop(rng: Rng, size_hw: tuple[int, int], horizon: float) -> np.ndarray:
    """An empty place: (H, W, 3) uint8, the ground begins at or below the horizon row."""
    height, width = size_hw
    image = np.empty((height, width, 3), np.uint8)
    place = PLACES[rng.choice(len(PLACES), p=(0.4, 0.22, 0.22, 0.16))]
    place(rng, image, round(horizon + rng.uniform(0.0, 0.1) * height))
    return _textured(rng, image)


def _textured(rng: Rng, image: np.ndarray) -> np.ndarray:
    """Large soft patches and small blotches, so that no surface is quite even.

    In whole numbers, so that every processor gives the same pixels.
    """
    height, width = image.shape[:2]
    small = (width // 3, height // 3)
    patches = np.clip(rng.normal(128, rng.uniform(2, 12), (6, 8)), 0, 255).astype(np.uint8)
    soft = cv2.resize(patches, small, interpolation=cv2.INTER_LINEAR_EXACT)
    strength = int(rng.integers(1, 11))
    blotches = rng.integers(-strength, strength + 1, soft.shape, np.int8)
    rough = cv2.add(soft, blotches, dtype=cv2.CV_8U)
    grey = cv2.resize(rough, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    change = grey.astype(np.int16) - 128
    return cv2.add(image, cv2.merge([change] * 3), dtype=cv2.CV_8U)


def _bands(image: np.ndarray, ground: int, above: Colour, below: Colour, fade: float) -> None:
    """Two surfaces; the upper one gets lighter downwards, the lower one darker."""
    height, width = image.shape[:2]
    rows = np.arange(height)[:, None]
    light = np.where(
        rows < ground,
        1.0 + fade * (rows / max(ground, 1) - 0.5),
        1.0 - fade * ((rows - ground) / height - 0.2),
    )
    colours = np.where(rows < ground, np.array([above]), np.array([below])) * light
    column = np.clip(colours, 0, 255).astype(np.uint8)[:, None]
    cv2.resize(column, (width, height), dst=image, interpolation=cv2.INTER_NEAREST)


def _rectangle(
    image: np.ndarray, corners: tuple[float, float, float, float], colour: Colour
) -> None:
    """Fill x0, y0, x1, y1, clipped to the picture."""
    x0, y0, x1, y1 = (max(round(value), 0) for value in corners)
    image[y0:y1, x0:x1] = np.clip(colour, 0, 255).astype(np.uint8)


def _muted(rng: Rng, least: float = 0.3) -> Colour:
    """A colour of walls and floors."""
    return from_hsv(rng.random(), rng.uniform(0.0, 0.4), rng.uniform(least, 0.9))


def _room(rng: Rng, image: np.ndarray, ground: int) -> None:
    """A wall with windows, doors, pictures and shelves above a floor of boards or tiles."""
    height, width = image.shape[:2]
    wall = _muted(rng, 0.45)
    floor = from_hsv(rng.uniform(0.04, 0.12), rng.uniform(0.1, 0.6), rng.uniform(0.25, 0.75))
    _bands(image, ground, wall, floor, rng.uniform(0, 0.25))
    if rng.random() < 0.3:
        for x in range(int(rng.integers(8)), width, int(rng.integers(9, 26))):
            _rectangle(image, (x, 0, x + 3, ground), shade(wall, 0.9))
    _floor_lines(rng, image, ground, shade(floor, 0.82))
    for _ in range(rng.integers(1, 5)):
        _WALL_THINGS[rng.integers(len(_WALL_THINGS))](rng, image, ground)
    _rectangle(image, (0, ground - 0.02 * height, width, ground), shade(wall, 0.7))


def _floor_lines(rng: Rng, image: np.ndarray, ground: int, colour: Colour) -> None:
    """Boards running away from the camera, sometimes crossed to tiles."""
    height, width = image.shape[:2]
    for t in np.linspace(-1.2, 2.2, 18):
        start = (round(width * (0.5 + (t - 0.5) * 0.5)), ground)
        cv2.line(image, start, (round(width * t), height), colour, 1, cv2.LINE_AA)
    if rng.random() < 0.4:
        for step in np.cumsum(np.linspace(0.02, 0.1, 6)):
            y = ground + step * height
            _rectangle(image, (0, y, width, y + 1), colour)


def _window(rng: Rng, image: np.ndarray, ground: int) -> None:
    height, width = image.shape[:2]
    x, wide, tall = (
        rng.uniform(0, width),
        rng.uniform(0.1, 0.28) * width,
        rng.uniform(0.2, 0.4) * height,
    )
    y = max(ground - rng.uniform(1.2, 1.5) * tall, -0.1 * height)
    frame, sky = _muted(rng, 0.6), from_hsv(rng.uniform(0.5, 0.6), rng.uniform(0.05, 0.4), 0.95)
    _rectangle(image, (x, y, x + wide, y + tall), frame)
    for column in (0.06, 0.53):
        for row in (0.05, 0.52):
            pane = (x + column * wide, y + row * tall)
            _rectangle(image, (*pane, pane[0] + 0.41 * wide, pane[1] + 0.43 * tall), sky)


def _door(rng: Rng, image: np.ndarray, ground: int) -> None:
    height, width = image.shape[:2]
    x, wide, tall = (
        rng.uniform(0, width),
        rng.uniform(0.1, 0.18) * width,
        rng.uniform(0.35, 0.6) * height,
    )
    colour = from_hsv(rng.uniform(0.03, 0.12), rng.uniform(0.1, 0.6), rng.uniform(0.3, 0.8))
    _rectangle(image, (x, ground - tall, x + wide, ground), shade(colour, 0.6))
    _rectangle(image, (x + 3, ground - tall + 3, x + wide - 3, ground), colour)
    for top in (0.1, 0.55):
        panel = (
            x + 0.2 * wide,
            ground - (1 - top) * tall,
            x + 0.8 * wide,
            ground - (0.65 - top) * tall,
        )
        _rectangle(image, panel, shade(colour, 0.88))


def _picture(rng: Rng, image: np.ndarray, ground: int) -> None:
    height, width = image.shape[:2]
    x, y = rng.uniform(0, width), rng.uniform(0, max(ground - 0.3 * height, 1))
    wide, tall = rng.uniform(0.06, 0.16, 2) * width
    _rectangle(image, (x, y, x + wide, y + tall), _muted(rng))
    _rectangle(
        image, (x + 3, y + 3, x + wide - 3, y + tall - 3), from_hsv(*rng.uniform(0.2, 0.9, 3))
    )
    centre = np.array([[x + wide / 2, y + tall / 2]])
    fill(image, discs(centre, 0.2 * min(wide, tall)), from_hsv(*rng.uniform(0.2, 0.9, 3)))


def _shelf(rng: Rng, image: np.ndarray, ground: int) -> None:
    """A bookcase standing against the wall."""
    height, width = image.shape[:2]
    x, wide = rng.uniform(-0.1, 0.9) * width, rng.uniform(0.12, 0.3) * width
    board = 0.11 * height
    wood = from_hsv(rng.uniform(0.04, 0.1), rng.uniform(0.2, 0.6), rng.uniform(0.25, 0.6))
    rows = int(rng.integers(2, 5))
    _rectangle(image, (x, ground - rows * board, x + wide, ground), wood)
    for row in range(rows):
        foot = ground - row * board - 3
        book = x + 3
        while book < x + wide - 8:
            thick, tall = rng.uniform(3, 8), rng.uniform(0.5, 0.85) * board
            colour = from_hsv(rng.random(), rng.uniform(0.1, 0.8), rng.uniform(0.2, 0.9))
            _rectangle(image, (book, foot - tall, book + thick, foot), colour)
            book += thick + (rng.random() < 0.15) * 6


_WALL_THINGS = (_window, _window, _door, _picture, _picture, _shelf)


def _street(rng: Rng, image: np.ndarray, ground: int) -> None:
    """A row of houses under the sky, behind a road or a square."""
    height, width = image.shape[:2]
    sky = from_hsv(rng.uniform(0.54, 0.62), rng.uniform(0.05, 0.5), rng.uniform(0.6, 1.0))
    road = from_hsv(rng.uniform(0.05, 0.65), rng.uniform(0, 0.12), rng.uniform(0.25, 0.7))
    _bands(image, ground, sky, road, rng.uniform(0, 0.3))
    x = -rng.uniform(0, 0.2) * width
    while x < width:
        wide = rng.uniform(0.12, 0.35) * width
        _house(rng, image, (x, ground - rng.uniform(0.15, 1.0) * ground, x + wide, ground))
        x += wide + (rng.random() < 0.25) * rng.uniform(0, 0.2) * width
    if rng.random() < 0.5:
        y = ground + rng.uniform(0.08, 0.3) * height
        for x in range(-20, width, 50):
            _rectangle(image, (max(x, 0), y, x + 28, y + 4), (215.0, 225.0, 225.0))
    _rectangle(image, (0, ground, width, ground + 0.03 * height), shade(road, 1.25))


def _house(rng: Rng, image: np.ndarray, corners: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = corners
    wall = from_hsv(rng.uniform(0.0, 0.15), rng.uniform(0.05, 0.55), rng.uniform(0.3, 0.9))
    _rectangle(image, corners, wall)
    pane = shade(from_hsv(0.58, 0.3, 0.6), rng.uniform(0.4, 1.4))
    across, down = rng.uniform(10, 22), rng.uniform(14, 26)
    for x in np.arange(x0 + 5, x1 - 0.6 * across, across):
        for y in np.arange(y0 + 6, y1 - 0.8 * down, down):
            _rectangle(image, (x, y, x + 0.55 * across, y + 0.6 * down), pane)
    _rectangle(image, (x0, y0, x0 + 1, y1), shade(wall, 0.6))


def _park(rng: Rng, image: np.ndarray, ground: int) -> None:
    """Hills and trees between sky and grass, sand or snow."""
    height, width = image.shape[:2]
    sky = from_hsv(rng.uniform(0.52, 0.62), rng.uniform(0.05, 0.55), rng.uniform(0.65, 1.0))
    hue, saturation, value = (
        (rng.uniform(0.2, 0.36), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7)),
        (rng.uniform(0.09, 0.13), rng.uniform(0.2, 0.5), rng.uniform(0.6, 0.9)),
        (rng.uniform(0.5, 0.65), rng.uniform(0.0, 0.1), rng.uniform(0.8, 0.95)),
    )[rng.choice(3, p=(0.7, 0.2, 0.1))]
    field = from_hsv(hue, saturation, value)
    _bands(image, ground, sky, field, rng.uniform(0, 0.3))
    for _ in range(rng.integers(0, 4)):
        hill = np.array([[rng.uniform(0, width), ground + 0.25 * height]])
        radii = rng.uniform(0.28, 0.6) * height
        fill(image[:ground], discs(hill, radii), shade(field, rng.uniform(0.6, 1.1)))
    for _ in range(rng.integers(0, 9)):
        _tree(rng, image, ground + rng.uniform(0, 0.05) * height)


def _tree(rng: Rng, image: np.ndarray, foot: float) -> None:
    height, width = image.shape[:2]
    x, tall = rng.uniform(0, width), rng.uniform(0.15, 0.6) * height
    green = from_hsv(rng.uniform(0.18, 0.42), rng.uniform(0.3, 0.75), rng.uniform(0.2, 0.55))
    trunk = np.array([[x, foot], [x, foot - 0.6 * tall]])
    fill(image, discs(trunk, 0.035 * tall), from_hsv(0.07, rng.uniform(0.2, 0.6), 0.3))
    if rng.random() < 0.35:
        for level in (0.3, 0.5, 0.7):
            half = 0.36 * tall * (1.15 - level)
            y = foot - level * tall
            fill(image, np.array([[x - half, y], [x + half, y], [x, y - 0.4 * tall]]), green)
        return
    for shift in rng.normal(0, 0.12, (4, 2)) * tall:
        crown = np.array([[x, foot - 0.72 * tall]]) + shift
        fill(image, discs(crown, 0.2 * tall), shade(green, rng.uniform(0.8, 1.25)))


def _nowhere(rng: Rng, image: np.ndarray, ground: int) -> None:
    """Soft shapes of any colour."""
    height, width = image.shape[:2]
    _bands(image, ground, _muted(rng), _muted(rng), rng.uniform(0, 0.4))
    for _ in range(rng.integers(0, 14)):
        corners = rng.uniform(-0.1, 1.1, (2, 2)) * (width, height)
        radii = rng.uniform(0.01, 0.1, 2) * height
        fill(image, discs(corners, radii), _muted(rng))


PLACES: tuple[Callable[[Rng, np.ndarray, int], None], ...] = (_room, _street, _park, _nowhere)

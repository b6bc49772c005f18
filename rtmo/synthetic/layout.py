"""Who is where: the camera, how tall people look, and in which column they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.synthetic.config import SyntheticConfig

Rng = np.random.Generator


@dataclass(frozen=True, slots=True)
class Setting:
    """What everybody in one picture shares."""

    size_hw: tuple[int, int]
    horizon: float
    """Row of the horizon, pixels."""
    eye: float
    """Height of the camera above the ground, standing heights."""
    tilt: float
    """Degrees the camera looks down."""
    light: np.ndarray
    """(2,) direction of the light in the picture, length 1."""

    def ground(self, scale: float) -> float:
        """The row of the ground where people are `scale` pixels tall."""
        return self.horizon + self.eye * scale


def random_setting(rng: Rng, config: SyntheticConfig) -> Setting:
    """A camera between the height of a child's eyes and a raised hand, light from above."""
    angle = rng.uniform(-2.4, -0.7)
    return Setting(
        size_hw=(config.height, config.width),
        horizon=rng.uniform(0.3, 0.55) * config.height,
        eye=rng.uniform(0.55, 1.0),
        tilt=rng.uniform(0, 14),
        light=np.array([np.cos(angle), np.sin(angle)]),
    )


def random_scales(rng: Rng, config: SyntheticConfig) -> np.ndarray:
    """Standing heights of the people in the picture, pixels, from small to large."""
    low, high = config.person_height
    count = _random_count(rng, config)
    if count >= config.crowd_people[0]:
        high = low + 0.5 * (high - low)
    together, own = rng.uniform(low, high), rng.uniform(low, high, count)
    share = rng.uniform(0.3, 1.0)
    close = (1 - share) * own + share * together
    distant = np.empty(0)
    if rng.random() < config.distant_people_prob:
        distant = rng.uniform(0.07, 0.12, rng.integers(1, 4))
    return np.sort(np.concatenate([close, distant])) * config.height


def _random_count(rng: Rng, config: SyntheticConfig) -> int:
    weights = np.array([*config.people_weights, config.crowd_weight])
    count = int(rng.choice(len(weights), p=weights / weights.sum()))
    if count < len(config.people_weights):
        return count
    return int(rng.integers(config.crowd_people[0], config.crowd_people[1] + 1))


def random_columns(rng: Rng, scales: np.ndarray, config: SyntheticConfig) -> np.ndarray:
    """A column for everyone: close together, or spread over the picture."""
    if rng.random() < config.group_prob:
        return _grouped(rng, scales, config.width)
    return _spread(rng, scales, config.width)


def _grouped(rng: Rng, scales: np.ndarray, width: int) -> np.ndarray:
    """Shoulder to shoulder, and half of that behind each other."""
    order = rng.permutation(len(scales)) - (len(scales) - 1) / 2
    shift = rng.normal(0, 0.06, len(scales))
    middle, apart = rng.uniform(0.3, 0.7) * width, rng.uniform(0.12, 0.3)
    return np.asarray(middle + (apart * order + shift) * scales)


def _spread(rng: Rng, scales: np.ndarray, width: int) -> np.ndarray:
    """Of a few random columns, the one farthest from the people there already."""
    columns: list[float] = []
    for scale in scales:
        tries = rng.uniform(0.02 * width, 0.98 * width, 3)
        gaps = [min((abs(x - other) for other in columns), default=0.0) / scale for x in tries]
        columns.append(float(tries[int(np.argmax(gaps))]))
    return np.array(columns)

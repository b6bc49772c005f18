"""What people do: random builds and poses, by families of everyday postures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from rtmo.synthetic.body import Arm, Build, Leg, Pose
from rtmo.synthetic.config import PostureWeights, ViewWeights

Rng = np.random.Generator


def random_build(rng: Rng) -> Build:
    """A grown-up's proportions most of the time, a child's otherwise."""
    child = float(rng.random() < 0.2) * rng.uniform(0.4, 1.0)
    head = rng.uniform(1.0, 1.12) * (1.0 + 0.3 * child)
    legs = rng.uniform(0.96, 1.04) * (1.0 - 0.12 * child)
    arms = rng.uniform(0.94, 1.06) * (1.0 - 0.08 * child)
    width = rng.uniform(0.9, 1.1)
    return Build(
        head=(0.060 * head, 0.080 * head, 0.070 * head),
        head_rise=0.118 * (1.0 + 0.2 * child),
        torso=rng.uniform(0.285, 0.31),
        shoulder=0.112 * width * (1.0 - 0.08 * child),
        hip=0.058 * rng.uniform(0.9, 1.15),
        upper_arm=0.158 * arms,
        forearm=0.138 * arms,
        thigh=0.232 * legs,
        shank=0.222 * legs,
        stoutness=rng.choice([0.85, 1.0, 1.0, 1.15, 1.35]) * rng.uniform(0.93, 1.07),
    )


def random_pose(rng: Rng, postures: PostureWeights, views: ViewWeights) -> Pose:
    """One posture of a random family, seen from a random side, mirrored half of the time."""
    weights = np.array([getattr(postures, name) for name in POSTURES])
    name = rng.choice(list(POSTURES), p=weights / weights.sum())
    pose = POSTURES[name](rng, _facing(rng, views))
    return pose.mirrored() if rng.random() < 0.5 else pose


def _facing(rng: Rng, views: ViewWeights) -> float:
    """Degrees from the camera."""
    weights = np.array([views.front, views.back, views.side])
    centre, spread = ((0, 40), (180, 35), (80, 30))[rng.choice(3, p=weights / weights.sum())]
    return float(rng.uniform(centre - spread, centre + spread))


def _upright(rng: Rng, facing: float, arms: tuple[Arm, Arm], legs: tuple[Leg, Leg]) -> Pose:
    """Arms and legs (left, right) on a trunk that is roughly straight."""
    return Pose(
        *arms,
        *legs,
        facing=facing,
        pitch=rng.normal(0, 2),
        roll=rng.normal(0, 2),
        bend=rng.normal(4, 5),
        lean=rng.normal(0, 4),
        twist=rng.normal(0, 8),
        head_turn=float(np.clip(rng.normal(0, 20), -55, 55)),
        head_nod=rng.normal(6, 8),
    )


def _hanging(rng: Rng) -> Arm:
    return Arm(rng.normal(2, 10), rng.uniform(4, 20), rng.uniform(5, 40))


def _straight_leg(rng: Rng) -> Leg:
    return Leg(rng.normal(2, 5), rng.uniform(2, 11), rng.uniform(0, 10))


def _folded(rng: Rng) -> Arm:
    """Forearm across the belly or held in front: a phone, a bag, folded arms."""
    return Arm(
        rng.uniform(5, 35),
        rng.uniform(5, 25),
        rng.uniform(75, 115),
        (rng.uniform(0.1, 1.2), 0.0, 1.0),
    )


def _raised(rng: Rng) -> Arm:
    return Arm(
        rng.normal(0, 12), rng.uniform(120, 172), rng.uniform(0, 70), (0.8, 0.6, rng.normal(0, 0.4))
    )


def _spread(rng: Rng) -> Arm:
    return Arm(rng.normal(0, 15), rng.uniform(55, 110), rng.uniform(0, 40), (0.2, 1.0, 0.4))


def _waving(rng: Rng) -> Arm:
    return Arm(rng.normal(15, 10), rng.uniform(45, 100), rng.uniform(70, 125), (-0.1, 1.0, 0.3))


def _on_hip(rng: Rng) -> Arm:
    return Arm(rng.normal(-12, 5), rng.uniform(38, 55), rng.uniform(85, 108), (1.0, 0.0, 0.25))


def _reaching(rng: Rng) -> Arm:
    return Arm(rng.uniform(55, 110), rng.uniform(0, 35), rng.uniform(0, 35), (0.2, 0.6, 0.6))


ARM_GESTURES: tuple[Callable[[Rng], Arm], ...] = (
    *(_hanging,) * 6,
    *(_folded,) * 3,
    _raised,
    _spread,
    _waving,
    _on_hip,
    _reaching,
)
"""Each as often as it is named: arms hang in four of ten, as most people's do."""


Limb = TypeVar("Limb", Arm, Leg)


def _both(draw: Callable[[], Limb]) -> tuple[Limb, Limb]:
    """Left and right, drawn one after the other."""
    return draw(), draw()


def _gesture(rng: Rng) -> Arm:
    return ARM_GESTURES[rng.integers(len(ARM_GESTURES))](rng)


def standing(rng: Rng, facing: float) -> Pose:
    """On both feet; each arm does something of its own, or both do the same."""
    gesture = ARM_GESTURES[rng.integers(len(ARM_GESTURES))]
    left = gesture(rng)
    right = gesture(rng) if rng.random() < 0.5 else _gesture(rng)
    return _upright(rng, facing, (left, right), _both(lambda: _straight_leg(rng)))


def walking(rng: Rng, facing: float) -> Pose:
    """From a stroll to a run: legs apart, arms in the opposite phase."""
    stride = rng.uniform(12, 48)
    elbow = rng.uniform(10, 30) + 1.5 * max(stride - 20, 0)
    arms = (
        Arm(-0.9 * stride, rng.uniform(5, 15), elbow),
        Arm(0.9 * stride, rng.uniform(5, 15), elbow),
    )
    legs = (
        Leg(stride, 3.0, rng.uniform(5, 15) + 0.6 * stride * rng.random()),
        Leg(-0.6 * stride, 3.0, rng.uniform(10, 30) + 1.2 * max(stride - 20, 0)),
    )
    return replace(
        _upright(rng, facing, arms, legs), pitch=rng.uniform(0, 4) + 0.25 * max(stride - 20, 0)
    )


def sitting(rng: Rng, facing: float) -> Pose:
    """On something as high as the knees."""
    legs = _both(lambda: Leg(rng.uniform(78, 96), rng.uniform(2, 18), rng.uniform(65, 105)))
    on_lap = Arm(rng.uniform(20, 40), rng.uniform(3, 15), rng.uniform(40, 75))
    arms = _both(lambda: on_lap if rng.random() < 0.6 else _gesture(rng))
    return replace(_upright(rng, facing, arms, legs), bend=rng.normal(8, 8), seated=True)


def squatting(rng: Rng, facing: float) -> Pose:
    """Low over the heels."""
    legs = _both(lambda: Leg(rng.uniform(95, 125), rng.uniform(8, 25), rng.uniform(110, 135)))
    pose = _upright(rng, facing, (_reaching(rng), _folded(rng)), legs)
    return replace(pose, pitch=rng.uniform(5, 20), bend=rng.uniform(5, 25))


def bending(rng: Rng, facing: float) -> Pose:
    """Bent forward over straight or slightly bent legs, arms down."""
    bend, pitch = rng.uniform(25, 60), rng.uniform(5, 30)
    reach = bend + pitch
    arms = _both(lambda: Arm(rng.uniform(0.4, 1.0) * reach, rng.uniform(3, 15), rng.uniform(5, 40)))
    legs = _both(lambda: Leg(pitch + rng.uniform(0, 15), rng.uniform(3, 10), rng.uniform(0, 30)))
    pose = _upright(rng, facing, arms, legs)
    return replace(pose, bend=bend, pitch=pitch, head_nod=rng.uniform(-25, 10))


def jumping(rng: Rng, facing: float) -> Pose:
    """In the air, limbs apart."""
    legs = _both(lambda: Leg(rng.uniform(-10, 50), rng.uniform(8, 35), rng.uniform(10, 90)))
    arms = _both(lambda: _raised(rng) if rng.random() < 0.75 else _spread(rng))
    return replace(_upright(rng, facing, arms, legs), lift=rng.uniform(0.05, 0.2))


def lying(rng: Rng, facing: float) -> Pose:
    """On the back, the front or a side, across the picture."""
    pose = _upright(
        rng,
        facing,
        (_gesture(rng), _hanging(rng)),
        (
            Leg(rng.uniform(0, 50), 5.0, rng.uniform(0, 80)),
            Leg(rng.uniform(0, 20), 6.0, rng.uniform(0, 30)),
        ),
    )
    kind = rng.choice(3, p=(0.4, 0.2, 0.4))
    if kind == 0:
        return replace(pose, pitch=-90.0, facing=rng.uniform(60, 120), bend=rng.uniform(0, 30))
    if kind == 1:
        return replace(pose, pitch=88.0, facing=rng.uniform(60, 120), bend=rng.uniform(-20, 0))
    side = 0.0 if abs(facing) < 90 else 180.0
    return replace(pose, roll=rng.uniform(75, 92), facing=side + rng.normal(0, 25))


POSTURES: dict[str, Callable[[Rng, float], Pose]] = {
    "standing": standing,
    "walking": walking,
    "sitting": sitting,
    "squatting": squatting,
    "bending": bending,
    "jumping": jumping,
    "lying": lying,
}
"""By the names of `PostureWeights`."""

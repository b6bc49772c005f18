"""Paint arms and legs: two dressed tapered segments and a hand or a foot each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.synthetic.canvas import Colour, Shape, discs
from rtmo.synthetic.outfit import Outfit
from rtmo.synthetic.parts import FOOT, FOREARM, HAND, SHANK, THIGH, UPPER_ARM, Figure, Part

ARM_LIFT = 0.03
"""Hanging arms are painted over the trunk they hang beside: nearer by this, standing heights."""
LEG_LIFT = 0.012
"""Legs are painted over the hips."""
LOOSE = 0.004
"""Cloth stands off the skin by this."""


def arm_parts(figure: Figure, outfit: Outfit, side: str) -> list[Part]:
    """Upper arm, forearm and hand of one side, "left" or "right"."""
    stout = figure.body.build.stoutness
    joints = np.stack([figure.spots[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist")])
    upper = _Dress(outfit.skin, outfit.top, min(2 * outfit.sleeve, 1.0))
    lower = _Dress(outfit.skin, outfit.top, max(2 * outfit.sleeve - 1.0, 0.0))
    tip = figure.spots[f"{side}_hand"]
    hand = figure.solid(np.stack([joints[2], tip]), [0.018, 0.020], outfit.skin)
    return [
        _segment(figure, UPPER_ARM[side], joints[:2], (0.032 * stout, 0.026 * stout), upper),
        _segment(figure, FOREARM[side], joints[1:], (0.026 * stout, 0.018 * stout), lower),
        Part(HAND[side], float(tip[2]) + ARM_LIFT, [hand], []),
    ]


def leg_parts(figure: Figure, outfit: Outfit, side: str) -> list[Part]:
    """Thigh, shank and foot of one side, "left" or "right"."""
    stout = figure.body.build.stoutness
    joints = np.stack([figure.spots[f"{side}_{name}"] for name in ("hip", "knee", "ankle")])
    upper = _Dress(outfit.skin, outfit.trousers, min(2 * outfit.trouser_leg, 1.0))
    lower = _Dress(outfit.skin, outfit.trousers, max(2 * outfit.trouser_leg - 1.0, 0.0))
    sole = np.stack([figure.spots[f"{side}_heel"], figure.spots[f"{side}_toe"]])
    shoe = figure.solid(sole, [0.024, 0.021], outfit.shoes)
    return [
        _segment(figure, THIGH[side], joints[:2], (0.050 * stout, 0.035 * stout), upper),
        _segment(figure, SHANK[side], joints[1:], (0.035 * stout, 0.022 * stout), lower),
        Part(FOOT[side], float(sole[0, 2] + sole[1, 2]) / 2, [shoe], []),
    ]


@dataclass(frozen=True, slots=True)
class _Dress:
    """How far down a limb segment is dressed."""

    skin: Colour
    cloth: Colour
    share: float
    """0 bare, 1 dressed to the end."""


def _segment(
    figure: Figure, label: int, ends: np.ndarray, radii: tuple[float, float], dress: _Dress
) -> Part:
    """One segment between two (x, y, depth) joints; its first joint is blended into its parent."""
    lift = ARM_LIFT if label in (*UPPER_ARM.values(), *FOREARM.values()) else LEG_LIFT
    border = ends[0] + dress.share * (ends[1] - ends[0])
    radius = radii[0] + dress.share * (radii[1] - radii[0])
    shapes: list[Shape] = []
    details: list[Shape] = []
    if dress.share < 1.0:
        bare, sizes = np.stack([border, ends[1]]), [radius, radii[1]]
        shapes.append(figure.solid(bare, sizes, dress.skin))
        shapes += figure.glow(bare, sizes, dress.skin)
    if dress.share > 0.0:
        dressed, sizes = np.stack([ends[0], border]), [radii[0] + LOOSE, radius + LOOSE]
        shapes.append(figure.solid(dressed, sizes, dress.cloth))
        details += figure.glow(dressed, sizes, dress.cloth)
    blend = figure.px(radii[0]) - 0.6
    if blend > 1.0:
        colour = dress.cloth if dress.share > 0.0 else dress.skin
        details.insert(0, Shape(discs(ends[:1, :2], blend), colour))
    return Part(label, float(ends[0, 2] + ends[1, 2]) / 2 + lift, shapes, details)

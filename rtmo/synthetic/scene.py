"""Compose a picture: a place, things, people near and far, and what hides them."""

from __future__ import annotations

import numpy as np

from rtmo.synthetic.backdrop import paint_backdrop
from rtmo.synthetic.body import LANDMARKS, Pose, pose_body
from rtmo.synthetic.canvas import PARTS, SCENERY, Canvas, Shape, discs
from rtmo.synthetic.config import SyntheticConfig
from rtmo.synthetic.figure import PaintedPerson, paint_person
from rtmo.synthetic.labelling import record_crowd, record_person
from rtmo.synthetic.layout import Setting, random_columns, random_scales, random_setting
from rtmo.synthetic.outfit import random_outfit
from rtmo.synthetic.parts import Figure
from rtmo.synthetic.poses import random_build, random_pose
from rtmo.synthetic.props import random_prop, random_seat
from rtmo.synthetic.records import SyntheticPerson
from rtmo.synthetic.view import View

Rng = np.random.Generator

CROWD_NUMBER = 1
"""Figure number of the crowd region."""
FIRST_PERSON = 2
"""Figure number of the farthest person; the others follow."""


def compose(rng: Rng, config: SyntheticConfig) -> tuple[np.ndarray, tuple[SyntheticPerson, ...]]:
    """One painted picture (H, W, 3) and the people an annotator would record in it."""
    setting = random_setting(rng, config)
    canvas = Canvas.over(paint_backdrop(rng, setting.size_hw, setting.horizon))
    for _ in range(rng.integers(0, 6)):
        column = rng.uniform(0, config.width)
        _paint_prop(rng, canvas, setting, column, rng.uniform(0.2, 0.6) * config.height)
    if rng.random() < config.crowd_region_prob:
        _paint_crowd_region(rng, canvas, setting)
    people = _paint_people(rng, canvas, setting, config)
    records = [
        record_person(
            canvas.labels, person, rng.random(len(LANDMARKS)), config.unlabelled_hidden_prob
        )
        for person in people
    ]
    records.append(record_crowd(canvas.labels, CROWD_NUMBER))
    return canvas.image, tuple(record for record in records if record is not None)


def _paint_people(
    rng: Rng, canvas: Canvas, setting: Setting, config: SyntheticConfig
) -> list[PaintedPerson]:
    """Paint everybody from far to near, and in front of one of them perhaps a thing."""
    scales = random_scales(rng, config)
    columns = random_columns(rng, scales, config)
    hidden = rng.integers(len(scales)) if len(scales) else 0
    has_occluder = rng.random() < config.occluder_prob
    people: list[PaintedPerson] = []
    for index, (scale, column) in enumerate(zip(scales, columns, strict=True)):
        pose = random_pose(rng, config.postures, config.views)
        view = View((column, setting.ground(scale)), scale, setting.tilt)
        people.append(_paint_one(rng, canvas, setting.light, view, pose, FIRST_PERSON + index))
        if has_occluder and index == hidden:
            beside = column + rng.normal(0, 0.25) * scale
            _paint_prop(rng, canvas, setting, beside, 1.04 * scale)
    return people


def _paint_one(
    rng: Rng, canvas: Canvas, light: np.ndarray, view: View, pose: Pose, number: int
) -> PaintedPerson:
    """A person with a shadow, sitting on something where the pose asks for it."""
    body = pose_body(random_build(rng), pose)
    figure = Figure.seen(body, view, light)
    across = [spot[0] for spot in figure.spots.values()]
    middle, width = (min(across) + max(across)) / 2, max(across) - min(across)
    canvas.shadow((middle, view.ground_xy[1]), (0.6 * width + 2, 0.06 * view.scale))
    if pose.seated:
        top = float(body.points["pelvis"][1]) - 0.05
        for shape in random_seat(rng, view.ground_xy, view.scale, top):
            canvas.paint(shape, SCENERY)
    return paint_person(canvas, figure, random_outfit(rng), number)


def _paint_prop(rng: Rng, canvas: Canvas, setting: Setting, column: float, scale: float) -> None:
    for shape in random_prop(rng, (column, setting.ground(scale)), scale):
        canvas.paint(shape, SCENERY)


def _paint_crowd_region(rng: Rng, canvas: Canvas, setting: Setting) -> None:
    """A band of tiny people at the horizon."""
    height, width = setting.size_hw
    left = rng.uniform(-0.1, 0.7) * width
    right = left + rng.uniform(0.25, 0.8) * width
    for scale in np.sort(rng.uniform(0.06, 0.11, rng.integers(14, 40))) * height:
        outfit = random_outfit(rng)
        x, ground = rng.uniform(left, right), setting.ground(scale)
        knee, chest, head = ([x, ground - part * scale] for part in (0.1, 0.62, 0.9))
        for points, radius, colour in (
            (np.array([knee, chest]), 0.09, outfit.trousers),
            (np.array([chest, [x, ground - 0.5 * scale]]), 0.13, outfit.top),
            (np.array([head]), 0.09, outfit.skin),
        ):
            canvas.paint(Shape(discs(points, radius * scale), colour), CROWD_NUMBER * PARTS)

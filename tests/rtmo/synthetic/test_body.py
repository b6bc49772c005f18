from dataclasses import replace

import numpy as np
import pytest

from rtmo.skeleton import COCO17
from rtmo.synthetic.body import LANDMARKS, Arm, Leg, Pose, pose_body
from rtmo.synthetic.canvas import PARTS, SCENERY, Canvas, Shape
from rtmo.synthetic.config import PostureWeights, ViewWeights
from rtmo.synthetic.figure import paint_person
from rtmo.synthetic.labelling import record_person
from rtmo.synthetic.outfit import random_outfit
from rtmo.synthetic.parts import Figure
from rtmo.synthetic.poses import random_build, random_pose
from rtmo.synthetic.view import View

VIEW = View((120.0, 230.0), 200.0, 5.0)
LIGHT = np.array([0.0, -1.0])
STRAIGHT = Pose(Arm(0, 8, 10), Arm(0, 8, 10), Leg(0, 4, 0), Leg(0, 4, 0), facing=0.0)


def _rng() -> np.random.Generator:
    return np.random.default_rng(5)


def _figure(pose: Pose) -> Figure:
    return Figure.seen(pose_body(random_build(_rng()), pose), VIEW, LIGHT)


def _canvas() -> Canvas:
    return Canvas.over(np.full((260, 240, 3), 128, np.uint8))


def _flags(canvas: Canvas, person, prob: float = 0.0) -> dict[str, int]:
    record = record_person(canvas.labels, person, np.full(len(LANDMARKS), 0.5), prob)
    return dict(zip(COCO17.keypoints, record.coco_keypoints[:, 2].astype(int), strict=True))


def test_the_mirrored_pose_is_the_picture_mirrored_with_left_and_right_swapped():
    pairs = {
        name: name.replace("left", "*").replace("right", "left").replace("*", "right")
        for name in LANDMARKS
    }
    for seed in range(20):
        pose = random_pose(np.random.default_rng(seed), PostureWeights(), ViewWeights())
        here, there = _figure(pose).spots, _figure(pose.mirrored()).spots
        for name, other in pairs.items():
            x, y, depth = here[name]
            expected = (2 * VIEW.ground_xy[0] - x, y, depth)
            np.testing.assert_allclose(there[other], expected, atol=1e-9)


def test_facing_the_camera_the_left_hand_is_on_the_right_of_the_picture():
    spots = _figure(STRAIGHT).spots
    assert spots["left_wrist"][0] > spots["right_wrist"][0]
    assert spots["nose"][2] > spots["top_head"][2]


def test_bones_keep_their_length_in_every_pose():
    build = random_build(_rng())
    for seed in range(20):
        points = pose_body(
            build, random_pose(np.random.default_rng(seed), PostureWeights(), ViewWeights())
        ).points
        for a, b, length in (
            ("left_shoulder", "left_elbow", build.upper_arm),
            ("right_elbow", "right_wrist", build.forearm),
            ("left_hip", "left_knee", build.thigh),
            ("right_knee", "right_ankle", build.shank),
        ):
            assert np.linalg.norm(points[a] - points[b]) == pytest.approx(length)


def test_nobody_sinks_into_the_ground():
    for seed in range(20):
        pose = random_pose(np.random.default_rng(seed), PostureWeights(), ViewWeights())
        points = pose_body(random_build(_rng()), pose).points
        assert min(point[1] for point in points.values()) >= 0.0


def test_a_person_in_full_view_facing_the_camera_has_all_keypoints_visible():
    canvas = _canvas()
    outfit = replace(random_outfit(_rng()), hair_style="short")
    flags = _flags(canvas, paint_person(canvas, _figure(STRAIGHT), outfit, 2))
    assert set(flags.values()) == {2}


def test_long_hair_hides_the_ears():
    canvas = _canvas()
    outfit = replace(random_outfit(_rng()), hair_style="long")
    flags = _flags(canvas, paint_person(canvas, _figure(STRAIGHT), outfit, 2))
    assert flags["left_ear"] == flags["right_ear"] == 0
    assert flags["left_eye"] == flags["nose"] == 2


def test_from_behind_the_face_is_not_labelled_and_the_limbs_are_visible():
    canvas = _canvas()
    pose = Pose(Arm(0, 12, 5), Arm(0, 12, 5), Leg(0, 4, 0), Leg(0, 4, 0), facing=180.0)
    flags = _flags(canvas, paint_person(canvas, _figure(pose), random_outfit(_rng()), 2))
    assert flags["nose"] == flags["left_eye"] == flags["right_eye"] == 0
    assert flags["left_elbow"] == flags["right_knee"] == flags["left_ankle"] == 2


def test_what_another_person_or_thing_covers_is_hidden():
    for label in (SCENERY, 9 * PARTS + 1):
        canvas = _canvas()
        figure = _figure(STRAIGHT)
        person = paint_person(canvas, figure, random_outfit(_rng()), 2)
        cover = figure.spots["left_knee"][:2] + np.array([[-8, -8], [8, -8], [8, 8], [-8, 8]])
        canvas.paint(Shape(cover, (0.0, 0.0, 0.0)), label)
        assert _flags(canvas, person)["left_knee"] == 1
        assert _flags(canvas, person, prob=1.0)["left_knee"] == 0
        assert _flags(canvas, person)["left_ankle"] == 2


def test_what_lies_outside_the_picture_is_not_labelled():
    canvas = Canvas.over(np.full((150, 240, 3), 128, np.uint8))
    flags = _flags(canvas, paint_person(canvas, _figure(STRAIGHT), random_outfit(_rng()), 2))
    assert flags["left_ankle"] == flags["right_ankle"] == 0
    assert flags["left_shoulder"] == 2


def test_somebody_who_cannot_be_seen_is_not_recorded():
    canvas = _canvas()
    person = paint_person(canvas, _figure(STRAIGHT), random_outfit(_rng()), 2)
    canvas.labels[:] = SCENERY
    assert record_person(canvas.labels, person, np.ones(len(LANDMARKS)), 0.0) is None


def test_painted_joints_lie_on_the_person():
    for seed in range(20):
        canvas = _canvas()
        pose = random_pose(np.random.default_rng(seed), PostureWeights(), ViewWeights())
        person = paint_person(canvas, _figure(pose), random_outfit(_rng()), 2)
        for name, (x, y) in zip(LANDMARKS, person.landmarks_xy, strict=True):
            column, row = round(x), round(y)
            if name == "nose" or not (1 <= column < 239 and 1 <= row < 259):
                continue
            around = canvas.labels[row - 1 : row + 2, column - 1 : column + 2]
            assert (around // PARTS == 2).any(), (seed, name)

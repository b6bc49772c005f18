import numpy as np
import pytest

from rtmo.drawing import LEFT_COLOUR, RIGHT_COLOUR, draw_people, draw_poses, mosaic_grid
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton
from rtmo.structures import Poses

GREY = np.full((200, 160, 3), 90, np.uint8)


def _spread(skeleton: Skeleton) -> np.ndarray:
    """Keypoints far enough apart not to be painted over each other."""
    k = np.arange(skeleton.num_keypoints)
    return np.stack([20 + 30 * (k % 5), 20 + 40 * (k // 5)], axis=1).astype(np.float32)


def _poses(skeleton: Skeleton, score: float) -> Poses:
    points = _spread(skeleton)[None]
    return Poses(
        boxes_xyxy=np.array([[5, 5, 150, 190]], np.float32),
        scores=np.array([0.9], np.float32),
        keypoints_xy=points,
        keypoint_scores=np.full(points.shape[:2], score, np.float32),
    )


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14])
def test_joints_are_drawn_where_they_are_in_the_colour_of_their_side(skeleton):
    drawn = draw_poses(GREY, _poses(skeleton, 0.9), skeleton)
    for left, right in skeleton.flip_pairs:
        for joint, colour in ((left, LEFT_COLOUR), (right, RIGHT_COLOUR)):
            x, y = _spread(skeleton)[joint].astype(int)
            np.testing.assert_allclose(drawn[y, x], colour, atol=3)


def test_the_given_picture_is_not_changed():
    before = GREY.copy()
    draw_poses(GREY, _poses(COCO17, 0.9), COCO17)
    np.testing.assert_array_equal(GREY, before)


def test_no_people_gives_the_same_picture():
    nobody = Poses(
        boxes_xyxy=np.empty((0, 4), np.float32),
        scores=np.empty(0, np.float32),
        keypoints_xy=np.empty((0, 17, 2), np.float32),
        keypoint_scores=np.empty((0, 17), np.float32),
    )
    np.testing.assert_array_equal(draw_poses(GREY, nobody, COCO17), GREY)


def test_keypoints_of_low_score_and_unlabelled_ones_are_left_out():
    unsure = draw_poses(GREY, _poses(COCO17, 0.1), COCO17)
    assert (unsure[20:180, 20:140] == 90).mean() > 0.95
    people = np.concatenate([_spread(COCO17), np.zeros((17, 1))], axis=1)[None]
    drawn = draw_people(GREY, people, np.array([[5, 5, 150, 190]]), COCO17)
    assert (drawn[20:180, 20:140] == 90).all()


def test_hidden_joints_are_drawn_hollow():
    flat = np.full((200, 160, 3), 90, np.uint8)
    person = np.zeros((1, 17, 3))
    person[0, 9] = (80, 100, 1)
    box = np.array([[0, 0, 159, 199]])
    hollow = draw_people(flat, person, box, COCO17)
    person[0, 9, 2] = 2
    filled = draw_people(flat, person, box, COCO17)
    assert (hollow[100, 80] == 90).all()
    np.testing.assert_allclose(filled[100, 80], LEFT_COLOUR, atol=3)


def test_a_pose_of_another_skeleton_is_refused():
    with pytest.raises(ValueError, match="14 keypoints, skeleton 'coco17' has 17"):
        draw_poses(GREY, _poses(CROWDPOSE14, 0.9), COCO17)


def test_points_far_outside_do_not_disturb():
    person = np.full((1, 17, 3), 1e7)
    person[..., 2] = 2
    assert draw_people(GREY, person, np.array([[5, 5, 150, 190]]), COCO17).shape == GREY.shape


def test_a_grid_holds_every_picture_unchanged():
    images = [np.full((20 + n, 30, 3), 10 * n, np.uint8) for n in range(5)]
    grid = mosaic_grid(images, columns=3, gap=2)
    assert grid.shape == (2 * 26 + 2, 3 * 32 + 2, 3)
    for n, image in enumerate(images):
        assert (grid == 10 * n).all(axis=2).sum() == image[..., 0].size


def test_a_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no pictures"):
        mosaic_grid([])

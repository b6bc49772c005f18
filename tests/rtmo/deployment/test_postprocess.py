"""Threshold, NMS and the way back to the picture."""

import numpy as np
import pytest

from rtmo.data.letterbox import Letterbox
from rtmo.deployment.postprocess import InputPeople, above, box_iou, greedy_nms, suppress, to_poses


def people(boxes: list[list[float]], scores: list[float]) -> InputPeople:
    count = len(scores)
    corners = np.array(boxes, np.float32).reshape(count, 4)
    return InputPeople(
        boxes_xyxy=corners,
        scores=np.array(scores, np.float32),
        keypoints_xy=np.repeat(corners[:, None, :2], 17, axis=1),
        keypoint_scores=np.full((count, 17), 0.5, np.float32),
    )


def test_no_boxes_keep_nobody():
    assert greedy_nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.65).tolist() == []


def test_a_dropped_box_does_not_drop_others():
    # The middle box overlaps both, the outer two do not overlap each other enough.
    boxes = np.float32([[0, 0, 10, 10], [2, 0, 12, 10], [4, 0, 14, 10]])
    assert greedy_nms(boxes, np.float32([0.9, 0.8, 0.7]), 0.6).tolist() == [0, 2]


def test_an_overlap_of_exactly_the_threshold_is_kept():
    boxes = np.float32([[0, 0, 2, 1], [1, 0, 2, 1]])  # IoU is exactly 0.5
    scores = np.float32([0.9, 0.8])
    assert greedy_nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert greedy_nms(boxes, scores, 0.4999).tolist() == [0]


def test_equal_scores_keep_their_order():
    boxes = np.float32([[0, 0, 1, 1], [5, 5, 6, 6], [9, 9, 10, 10]])
    assert greedy_nms(boxes, np.float32([0.5, 0.5, 0.5]), 0.65).tolist() == [0, 1, 2]


def test_boxes_without_area_overlap_nothing():
    boxes = np.float32([[3, 3, 3, 3], [3, 3, 3, 3]])
    assert box_iou(boxes, boxes).tolist() == [[0, 0], [0, 0]]


def test_inverted_boxes_do_not_gain_overlap_from_two_negative_sides():
    boxes = np.float32([[0, 0, 1, 1], [5, 5, 6, 6]])
    assert box_iou(boxes, boxes)[0, 1] == 0


def test_padding_rows_go_even_with_threshold_zero():
    found = above(people([[0, 0, 4, 4], [0, 0, 0, 0]], [0.01, 0.0]), 0.0)
    assert found.scores.tolist() == pytest.approx([0.01])


def test_a_score_of_exactly_the_threshold_goes():
    assert len(above(people([[0, 0, 4, 4]], [0.5]), 0.5)) == 0


@pytest.mark.parametrize("side", [np.inf, np.nan])
def test_a_box_that_is_not_finite_is_nobody_and_drops_nobody(side):
    candidates = people([[0, 0, side, 4], [0, 0, 4, 4]], [0.9, 0.8])
    assert suppress(candidates, 0.1, 0.65).scores.tolist() == pytest.approx([0.8])


def test_suppression_gives_people_best_first():
    candidates = people([[0, 0, 4, 4], [9, 9, 12, 12], [0, 0, 4, 4.1]], [0.3, 0.6, 0.5])
    assert suppress(candidates, 0.1, 0.65).scores.tolist() == pytest.approx([0.6, 0.5])


def test_boxes_are_clipped_to_the_input_and_keypoints_are_not():
    letterbox = Letterbox.centred((320, 640), 640)  # scale 1, 160 px of padding above
    found = to_poses(people([[-50, 100, 700, 400]], [0.9]), letterbox)
    np.testing.assert_allclose(found.boxes_xyxy, [[0, -60, 640, 240]], atol=1e-3)
    np.testing.assert_allclose(found.keypoints_xy[0, 0], [-50, -60], atol=1e-3)


def test_nobody_is_poses_without_rows():
    found = to_poses(people([], []), Letterbox.centred((48, 64), 64))
    assert len(found) == 0
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.keypoints_xy.shape == (0, 17, 2)

"""Who is shown, and which part of the picture."""

import numpy as np
import pytest

from rtmo.evaluation.gallery import (
    Case,
    crop_xyxy,
    largest_missed_people,
    most_confident_background,
    worst_people,
)
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.taxonomy import DetectionKind, Errors

BOXES = np.array([[10.0, 10, 20, 40], [100, 10, 40, 80], [200, 10, 10, 20]])


@pytest.fixture
def truth() -> GroundTruth:
    """Three people of one image."""
    return GroundTruth(
        image_ids=np.array([7]),
        crowd_index=None,
        ids=np.array([1, 2, 3]),
        image=np.zeros(3, int),
        keypoints=np.full((3, 1, 3), 2.0),
        boxes_xywh=BOXES,
        areas=BOXES[:, 2] * BOXES[:, 3],
        num_keypoints=np.ones(3, int),
        is_crowd=np.zeros(3, bool),
    )


@pytest.fixture
def found() -> Detections:
    """Five detections of one point each."""
    return Detections(
        image=np.zeros(5, int),
        keypoints=np.array(
            [[[15.0, 15, 1]], [[900, 50, 1]], [[5, 5, 1]], [[6, 6, 1]], [[7, 7, 1]]]
        ),
        scores=np.array([0.9, 0.8, 0.7, 0.6, 0.5]),
        boxes_xywh=np.zeros((5, 4)),
    )


def errors(kind, person, oks, missed=()) -> Errors:
    count = len(kind)
    return Errors(
        detections=np.arange(count),
        kind=np.array(kind),
        person=np.array(person),
        oks=np.array(oks),
        keypoints=np.zeros((count, 1), int),
        missed=np.array(missed, int),
    )


FOUND, BACKGROUND = DetectionKind.FOUND, DetectionKind.BACKGROUND


def test_the_worst_are_confident_and_badly_placed(truth, found):
    result = errors([FOUND, FOUND, FOUND, BACKGROUND], [0, 1, 2, -1], [0.9, 0.3, 0.2, 0.0])
    worst = worst_people(truth, found, result, 2)
    # costs: 0.9 * 0.1, 0.8 * 0.7, 0.7 * 0.8; the last two are equal, the first of them stays first
    assert [case.person for case in worst] == [1, 2]
    assert [case.error for case in worst] == [1, 2]


def test_missed_people_come_by_size(truth, found):
    missed = largest_missed_people(truth, errors([], [], [], missed=(0, 1, 2)), 2)
    assert [case.person for case in missed] == [1, 0]


def test_background_comes_by_score(found):
    result = errors([BACKGROUND, FOUND, BACKGROUND], [-1, 0, -1], [0, 0.5, 0])
    shown = most_confident_background(found, result, 5)
    assert [case.error for case in shown] == [0, 2]
    assert all(case.person is None for case in shown)


def test_a_crop_holds_the_person_and_stays_in_the_picture(truth, found):
    result = errors([FOUND], [0], [0.5])
    x1, y1, x2, y2 = crop_xyxy(Case(0, 0, None), truth, found, result, (60, 300))
    assert (x1, y1) == (2, 2)
    assert (x2, y2) == (38, 58)
    assert crop_xyxy(Case(0, 2, None), truth, found, result, (25, 205))[2:] == (205, 25)


def test_a_far_keypoint_does_not_shrink_the_person_to_a_dot(truth, found):
    result = errors([FOUND, FOUND], [0, 1], [0.5, 0.5])
    x1, _, x2, _ = crop_xyxy(Case(0, 1, 1), truth, found, result, (600, 1000))
    assert x1 < 100
    assert 140 < x2 < 220  # the keypoint lies at x = 900


def test_a_single_point_outside_the_picture_still_gives_a_crop(truth, found):
    far = Detections(
        found.image[:1], np.array([[[-50.0, -50.0, 1.0]]]), found.scores[:1], found.boxes_xywh[:1]
    )
    x1, y1, x2, y2 = crop_xyxy(
        Case(0, None, 0), truth, far, errors([BACKGROUND], [-1], [0.0]), (60, 300)
    )
    assert 0 <= x1 < x2 <= 300
    assert 0 <= y1 < y2 <= 60

"""Shares of errors and AP in groups of people and detections; rates; two models side by side."""

from dataclasses import replace

import numpy as np
import pytest

from rtmo.evaluation.head_to_head import head_to_head
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.sensitivity import (
    by_confidence,
    crowding,
    error_shares,
    group_errors,
    labelled_keypoints,
    num_overlapping,
    overlaps,
    sizes,
    truncation,
)
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError, Outcome, classify
from rtmo.skeleton import Skeleton

SIX = Skeleton(
    name="six",
    keypoints=tuple("abcdef"),
    flip_pairs=(),
    limbs=(),
    sigmas=(0.1,) * 6,
)


@pytest.fixture
def truth() -> GroundTruth:
    """A small person, a large one, and a large one who does not count; six keypoints each."""
    keypoints = np.full((3, 6, 3), 2.0)
    keypoints[0, 2:, 2] = 0  # the small one has two labelled keypoints
    return GroundTruth(
        image_ids=np.array([1]),
        crowd_index=None,
        ids=np.array([1, 2, 3]),
        image=np.zeros(3, int),
        keypoints=keypoints,
        boxes_xywh=np.zeros((3, 4)),
        areas=np.array([100.0, 40000.0, 40000.0]),
        num_keypoints=np.array([2, 6, 0]),
        is_crowd=np.zeros(3, bool),
    )


@pytest.fixture
def errors() -> Errors:
    """The small person is missed, the large one has a swap and two misses."""
    row = [KeypointError.GOOD] * 3 + [KeypointError.SWAP] + [KeypointError.MISS] * 2
    nothing = [KeypointError.UNLABELLED] * 6
    return Errors(
        detections=np.arange(2),
        kind=np.array([DetectionKind.FOUND, DetectionKind.BACKGROUND]),
        person=np.array([1, -1]),
        oks=np.array([0.6, 0.0]),
        keypoints=np.array([row, nothing]),
        missed=np.array([0]),
    )


@pytest.fixture
def outcome(errors) -> Outcome:
    """The errors above with detections in the place of the annotated people."""
    found = Detections(
        image=np.zeros(2, int),
        keypoints=np.full((2, 6, 3), 2.0),
        scores=np.array([0.9, 0.2]),
        boxes_xywh=np.zeros((2, 4)),
    )
    return Outcome(found, errors)


def test_groups_by_size_count_only_people_who_count(truth, outcome):
    small, medium, large = group_errors(sizes(truth), truth, outcome, SIX)
    assert (small.num_people, medium.num_people, large.num_people) == (1, 0, 1)
    assert (small.missed, medium.missed, large.missed) == (1.0, 0.0, 0.0)
    assert large.keypoints[KeypointError.GOOD] == 0.5
    assert large.keypoints[KeypointError.SWAP] == pytest.approx(1 / 6)
    assert set(small.keypoints.values()) == {0.0}
    assert (small.ap, medium.ap) == (0.0, None)
    assert large.ap == pytest.approx(1.0)  # the detection of nobody belongs to no group


def test_groups_by_labelled_keypoints_are_thirds_of_the_skeleton(truth, outcome):
    groups = group_errors(labelled_keypoints(truth), truth, outcome, SIX)
    assert [group.name for group in groups] == [
        "1 to 2 keypoints",
        "3 to 4 keypoints",
        "5 to 6 keypoints",
    ]
    assert [group.num_people for group in groups] == [1, 0, 1]


def test_shares_leave_unlabelled_keypoints_out():
    shares = error_shares(np.array([KeypointError.MISS, KeypointError.UNLABELLED]))
    assert shares[KeypointError.MISS] == 1.0
    assert KeypointError.UNLABELLED not in shares
    assert set(error_shares(np.array([], int)).values()) == {0.0}


def with_boxes(truth: GroundTruth, *boxes: tuple[float, float, float, float]) -> GroundTruth:
    return replace(truth, boxes_xywh=np.array(boxes))


def test_people_who_overlap_are_counted_and_crowd_regions_are_nobody(truth):
    side_by_side = with_boxes(truth, (0, 0, 10, 10), (5, 0, 10, 10), (100, 0, 10, 10))
    assert num_overlapping(side_by_side).tolist() == [1, 1, 0]
    assert [group.is_member.tolist() for group in overlaps(side_by_side)] == [
        [False, False, True],
        [True, True, False],
        [False, False, False],
    ]
    crowd = replace(side_by_side, is_crowd=np.array([False, True, False]))
    assert num_overlapping(crowd).tolist() == [0, 0, 0]
    elsewhere = replace(side_by_side, image=np.array([0, 1, 1]))
    assert num_overlapping(elsewhere).tolist() == [0, 0, 0]


def test_people_at_the_border_are_cut_off(truth):
    placed = with_boxes(truth, (20, 20, 10, 10), (1, 20, 10, 10), (20, 80, 10, 19))
    inside, cut = truncation(placed, np.array([[100, 200]]))
    assert inside.is_member.tolist() == [True, False, False]
    assert cut.is_member.tolist() == [False, True, True]


def test_crowding_is_that_of_the_picture_and_of_crowdpose_alone(truth):
    assert crowding(truth) == ()
    easy, medium, hard = crowding(replace(truth, crowd_index=np.array([0.8])))
    assert (easy.is_member.any(), medium.is_member.any(), hard.is_member.all()) == (
        False,
        False,
        True,
    )


def test_errors_by_confidence_are_those_of_the_detections(outcome):
    low, middle, high = by_confidence(outcome)
    assert (low.num_detections, low.background) == (1, 1.0)
    assert (middle.num_detections, middle.background) == (0, 0.0)
    assert (high.num_detections, high.background, high.score) == (1, 0.0, 0.0)
    assert high.keypoints[KeypointError.SWAP] == pytest.approx(1 / 6)


def test_rates_are_shares_of_what_there_is(truth, errors):
    apart = with_boxes(truth, (0, 0, 10, 10), (50, 0, 10, 10), (100, 0, 10, 10))
    rates = error_rates(apart, errors)
    assert rates["swap_rate"] == pytest.approx(1 / 6)
    assert rates["missed_rate"] == 0.5
    assert rates["background_rate"] == 0.5
    assert not [name for name in rates if name.endswith("_crowded")]
    close = with_boxes(truth, (0, 0, 10, 10), (5, 0, 10, 10), (100, 0, 10, 10))
    assert error_rates(close, errors)["miss_rate_crowded"] == pytest.approx(2 / 6)


def test_people_right_for_one_model_and_wrong_for_the_other_are_told_apart(truth):
    people = replace(truth, image=np.array([0, 1, 2]), image_ids=np.array([1, 2, 3]))
    keypoints = people.keypoints + np.arange(6)[None, :, None] * (10.0, 5.0, 0.0)
    people = replace(people, keypoints=np.where(keypoints[..., 2:] > 0, keypoints, 0.0))

    def model(*off_px: float) -> Outcome:
        points = people.keypoints + np.array(off_px)[:, None, None] * (1.0, 0.0, 0.0)
        found = Detections(people.image, points, np.full(3, 0.9), people.boxes_xywh)
        return Outcome(found, classify(people, found, SIX))

    changes = head_to_head(people, model(0.0, 300.0, 300.0), model(90.0, 0.0, 0.0))
    assert changes.became_right.tolist() == [0]
    assert changes.became_wrong.tolist() == [1]  # the third does not count
    same = head_to_head(people, model(0.0, 0.0, 0.0), model(0.0, 0.0, 0.0))
    assert len(same.became_right) == len(same.became_wrong) == 0

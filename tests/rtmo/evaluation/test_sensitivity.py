"""Shares of errors in groups of people."""

import numpy as np
import pytest

from rtmo.evaluation.inputs import GroundTruth
from rtmo.evaluation.sensitivity import by_labelled_keypoints, by_size, error_shares
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError


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


def test_groups_by_size_count_only_people_who_count(truth, errors):
    small, medium, large = by_size(truth, errors)
    assert (small.num_people, medium.num_people, large.num_people) == (1, 0, 1)
    assert (small.missed, medium.missed, large.missed) == (1.0, 0.0, 0.0)
    assert large.keypoints[KeypointError.GOOD] == 0.5
    assert large.keypoints[KeypointError.SWAP] == pytest.approx(1 / 6)
    assert set(small.keypoints.values()) == {0.0}


def test_groups_by_labelled_keypoints_are_thirds_of_the_skeleton(truth, errors):
    groups = by_labelled_keypoints(truth, errors)
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

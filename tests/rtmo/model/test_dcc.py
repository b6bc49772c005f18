"""The coordinate classifier keeps its precision and its sense of place."""

import pytest
import torch

from rtmo.model.dcc import DynamicCoordinateClassifier


@pytest.fixture
def dcc():
    torch.manual_seed(0)
    return DynamicCoordinateClassifier(64, 5).eval()


BOXES = torch.tensor([[10.0, 20.0, 90.0, 150.0], [0.0, 0.0, 300.0, 30.0]])
PRIORS = torch.tensor([[55.5, 71.5], [151.5, 7.5]])


def test_keypoints_lie_within_the_enlarged_box(dcc):
    result = dcc(torch.randn(2, 64), BOXES, PRIORS)
    centre, half = (BOXES[:, :2] + BOXES[:, 2:]) / 2, (BOXES[:, 2:] - BOXES[:, :2]) * 1.25 / 2
    assert ((result.keypoints_xy - centre[:, None]).abs() <= half[:, None]).all()


def test_moving_box_and_prior_together_moves_the_keypoints_with_them(dcc):
    vectors, shift = torch.randn(2, 64), torch.tensor([100.0, 40.0])
    there = dcc.keypoints(vectors, BOXES + shift.repeat(2), PRIORS + shift)
    torch.testing.assert_close(there, dcc.keypoints(vectors, BOXES, PRIORS) + shift)


def test_inference_and_training_forms_agree(dcc):
    vectors = torch.randn(2, 64)
    expected = dcc(vectors, BOXES, PRIORS).keypoints_xy
    torch.testing.assert_close(dcc.keypoints(vectors, BOXES, PRIORS), expected, rtol=0, atol=1e-4)


def test_autocast_around_it_changes_nothing(dcc):
    vectors = torch.randn(2, 64)
    expected = dcc(vectors, BOXES, PRIORS).keypoints_xy
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dcc(vectors, BOXES, PRIORS).keypoints_xy, expected)


def test_nobody_is_classified_to_nothing(dcc):
    keypoints = dcc.keypoints(torch.zeros(0, 64), torch.zeros(0, 4), torch.zeros(0, 2))
    assert keypoints.shape == (0, 5, 2)


def test_gradients_reach_the_boxes_through_the_bins(dcc):
    boxes = BOXES.clone().requires_grad_()
    dcc(torch.randn(2, 64), boxes, PRIORS).keypoints_xy.sum().backward()
    assert boxes.grad.abs().sum(dim=1).min() > 0

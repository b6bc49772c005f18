"""Constants of the loss terms that the golden files do not pin, and their edges."""

import math

import pytest
import torch

from rtmo.losses.terms import (
    bbox_l1_loss,
    bbox_loss,
    cls_loss,
    likelihood_loss,
    oks_loss,
    visibility_loss,
)
from rtmo.model.dcc import CoordinateDistributions


def test_class_logits_are_clipped_at_ten_in_the_cross_entropy_only():
    loss = cls_loss(torch.tensor([[30.0, -30.0]]), torch.tensor([[0.0, 0.5]]))
    # negative: weight 0.75 * sigmoid(30)^2, cross entropy of a logit of 10
    assert loss[0, 0].item() == pytest.approx(0.75 * (10 + math.exp(-10)), rel=1e-4)
    assert loss[0, 1].item() == pytest.approx(0.5 * (0.5 * 10 + math.exp(-10)), rel=1e-3)


def test_an_overlap_of_a_ten_thousandth_counts_as_negative():
    at, above = cls_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1e-4, 1.1e-4]]))[0]
    assert at.item() == pytest.approx((0.75 * 0.25 + 1e-4) * math.log(2), rel=1e-3)
    assert above.item() == pytest.approx(1.1e-4 * math.log(2), rel=1e-3)


def test_the_varifocal_weight_is_not_detached():
    logits = torch.zeros(1, 1, requires_grad=True)
    cls_loss(logits, torch.zeros(1, 1)).sum().backward()
    # d/dx [0.75 s^2 * ln(1 + e^x)] at 0 = 0.75 (2 s s (1 - s) ln 2 + s^2 s)
    assert logits.grad.item() == pytest.approx(0.75 * (0.25 * math.log(2) + 0.125), rel=1e-5)


def test_losses_that_are_not_finite_count_zero():
    loss = cls_loss(torch.tensor([[torch.nan, 0.0]]), torch.zeros(1, 2))
    assert loss[0, 0] == 0
    assert loss[0, 1] > 0


def test_box_loss_is_one_minus_squared_plain_iou():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 1, 1]])
    truth = torch.tensor([[0.0, 0, 10, 5], [0, 0, 10, 10], [50, 50, 60, 60]])
    torch.testing.assert_close(bbox_loss(boxes, truth), torch.tensor([0.75, 0.0, 1.0]))


def test_box_l1_keeps_the_logarithm_of_a_flat_box_finite():
    flat = torch.tensor([[16.0, 16.0, 16.0, 48.0]])
    loss = bbox_l1_loss(torch.zeros(1, 4), flat, torch.tensor([[16.0, 32.0]]), torch.tensor([16.0]))
    assert loss.item() == pytest.approx(-math.log(1e-8) + math.log(2), rel=1e-6)


def test_unannotated_joints_do_not_enter_the_visibility_loss():
    logits = torch.tensor([[0.0, 5.0]])
    loss = visibility_loss(logits, torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(loss, torch.tensor([[math.log(2), 0.0]]))


def certain(position_px, sigma=0.1):
    """All probability on one bin at this position, both axes."""
    one = torch.ones(1, 1, 1)
    bins = torch.tensor([[position_px]])
    return CoordinateDistributions(
        one, one, bins, bins, torch.full((1, 1, 2), position_px), torch.tensor([[sigma]])
    )


@pytest.mark.parametrize(("area", "root"), [(0.01, 1.0), (100.0, 10.0)])
def test_likelihood_spread_uses_the_root_of_the_area_but_at_least_one_pixel(area, root):
    truth = torch.tensor([[[5.2, 5.2]]])
    loss = likelihood_loss(certain(5.0), truth, torch.ones(1, 1), torch.tensor([area]))
    mass = math.exp(-0.2 / (root * 0.1) / 2) / 0.1
    assert loss.item() == pytest.approx(-math.log(mass**2 + 1e-4), rel=1e-4)


def test_likelihood_sigma_is_at_least_a_thousandth():
    truth = torch.tensor([[[5.0, 5.0]]])
    loss = likelihood_loss(certain(5.0, sigma=0.0), truth, torch.ones(1, 1), torch.ones(1))
    assert loss.item() == pytest.approx(-math.log(1e6), rel=1e-5)


def test_unlabelled_keypoints_do_not_enter_the_likelihood_even_far_away():
    truth = torch.tensor([[[1e6, 1e6]]])
    loss = likelihood_loss(certain(5.0), truth, torch.zeros(1, 1), torch.ones(1))
    assert loss.item() == 0


def test_oks_loss_divides_by_all_keypoints():
    pose = torch.zeros(1, 4, 2)
    weights = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    loss = oks_loss(pose, pose, weights, torch.ones(1), torch.ones(4))
    assert loss.item() == pytest.approx(0.5)

"""Priors whose pose lies in a region to ignore count less."""

import torch

from rtmo.losses.ignore_region import prior_weights


def weights(keypoints, visibility, mask):
    return prior_weights(torch.tensor(keypoints)[None], torch.tensor(visibility)[None], mask[None])[
        0
    ]


def test_each_axis_is_measured_by_its_own_size():
    mask = torch.zeros(40, 80)
    mask[30:, 60:] = 1.0  # bottom right
    poses = [[[75.0, 37.0]], [[75.0, 5.0]], [[30.0, 37.0]]]
    actual = weights(poses, [[5.0], [5.0], [5.0]], mask)
    assert actual.tolist() == [0.0, 1.0, 1.0]


def test_only_keypoints_predicted_visible_place_the_pose():
    mask = torch.zeros(32, 32)
    mask[16:, 16:] = 1.0
    pose = [[[24.0, 24.0], [500.0, 500.0]]]
    assert weights(pose, [[5.0, -5.0]], mask).item() == 0.0
    assert weights(pose, [[5.0, 5.0]], mask).item() == 1.0  # their mean is outside the picture


def test_a_pose_without_visible_keypoints_lies_at_the_origin():
    mask = torch.zeros(32, 32)
    pose = [[[24.0, 24.0]]]
    assert weights(pose, [[-5.0]], mask).item() == 1.0
    mask[:4, :4] = 1.0
    assert weights(pose, [[-5.0]], mask).item() == 0.75  # the corner pixel's outer half is zero


def test_no_gradient_reaches_the_proxy_keypoints_or_the_visibility():
    keypoints = torch.rand(1, 5, 3, 2, requires_grad=True)
    visibility = torch.rand(1, 5, 3, requires_grad=True)
    assert not prior_weights(keypoints, visibility, torch.ones(1, 32, 32)).requires_grad

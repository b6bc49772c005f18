"""The grid of priors."""

import pytest
import torch

from rtmo.priors import decode_boxes, grid_priors, input_size_wh


@pytest.mark.parametrize(("height", "width"), [(640, 640), (384, 576), (416, 32)])
def test_the_last_prior_tells_the_input_size(height, width):
    sizes = [(height // stride, width // stride) for stride in (16, 32)]
    priors_xy, strides = grid_priors(sizes)
    assert len(priors_xy) == len(strides) == height * width // 256 + height * width // 1024
    assert input_size_wh(priors_xy, strides).tolist() == [width, height]


def test_a_raw_box_of_zeros_is_one_stride_wide_about_its_prior():
    priors_xy, strides = grid_priors([(2, 2), (1, 1)])
    boxes = decode_boxes(torch.zeros(1, 5, 4), priors_xy, strides)
    assert boxes[0, 0].tolist() == [-0.5, -0.5, 15.5, 15.5]
    assert boxes[0, 4].tolist() == [-0.5, -0.5, 31.5, 31.5]

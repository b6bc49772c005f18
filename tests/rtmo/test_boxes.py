"""IoU and greedy suppression."""

import pytest
import torch

from rtmo.boxes import clip_boxes, greedy_nms, paired_iou, pairwise_iou


def one_by_one(boxes, max_iou):
    """Greedy suppression as everybody writes it."""
    kept = []
    for i, box in enumerate(boxes):
        if all(paired_iou(box, boxes[j]) <= max_iou for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(5))
def test_suppression_keeps_what_the_greedy_loop_keeps(seed):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(120, 2, generator=generator) * 100
    boxes = torch.cat((corners, corners + 20 + torch.rand(120, 2, generator=generator) * 30), 1)
    kept = greedy_nms(boxes, 0.4).nonzero().flatten().tolist()
    assert kept == one_by_one(boxes, 0.4)
    assert len(kept) < 120


def test_a_box_suppressed_by_a_suppressed_box_stays():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 4, 10, 14], [0, 8, 10, 18]])  # IoU 0.43 in a chain
    assert greedy_nms(boxes, 0.4).tolist() == [True, False, True]


def test_suppression_of_no_boxes_is_empty():
    assert greedy_nms(torch.zeros(0, 4), 0.5).tolist() == []


def test_iou_of_empty_boxes_is_zero_not_nan():
    flat = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert pairwise_iou(flat, flat).tolist() == [[0.0]]


def test_clipping_keeps_boxes_inside_a_rectangle_that_is_not_square():
    boxes = torch.tensor([[-5.0, -5.0, 700.0, 700.0]])
    assert clip_boxes(boxes, torch.tensor([640.0, 480.0])).tolist() == [[0, 0, 640, 480]]

"""Resizing whole batches."""

from dataclasses import replace

import pytest
import torch

from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import collate
from rtmo.data.multiscale import draw_size, resize_batch


@pytest.fixture
def batch(random_store):
    dataset = TrainingSet(random_store(8), 64, AugmentConfig(), seed=0)
    return collate([dataset.samples(0, [index], "letterbox")[0] for index in range(4)], 17)


def test_sizes_are_multiples_of_32_in_the_closed_range():
    sizes = {draw_size(0, step, (480, 800)) for step in range(500)}
    assert sizes == set(range(480, 801, 32))
    assert [draw_size(0, step, (480, 800)) for step in range(9)] != [
        draw_size(1, step, (480, 800)) for step in range(9)
    ]


def test_targets_follow_the_picture(batch):
    mask = torch.zeros(4, 64, 64)
    mask[:, 16:32, 16:32] = 1
    batch = replace(batch, targets=replace(batch.targets, ignore_mask=mask))
    larger = resize_batch(batch, 96)
    assert larger.images.shape == (4, 3, 96, 96)
    assert larger.images.dtype == torch.uint8
    assert torch.equal(larger.targets.boxes_xyxy, batch.targets.boxes_xyxy * 1.5)
    assert torch.equal(larger.targets.areas, batch.targets.areas * 2.25)
    assert torch.equal(larger.targets.is_labelled, batch.targets.is_labelled)
    assert larger.targets.ignore_mask[:, 26:46, 26:46].min() == 1
    assert larger.targets.ignore_mask.sum() == pytest.approx(float(mask.sum()) * 2.25, rel=0.05)


def test_the_same_size_is_the_same_batch(batch):
    assert resize_batch(batch, 64) is batch

"""Mosaics made of the pictures of their own batch: cheaper, and the same samples on average."""

import numpy as np
import pytest
import torch

from rtmo.data.config import AugmentConfig, MosaicConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import BatchLoader, epoch_order
from rtmo.data.mosaic import draw_plan
from rtmo.store import Store


def training_set(store, partners, side=64):
    return TrainingSet(store, side, AugmentConfig(mosaic=MosaicConfig(partners=partners)), seed=1)


def test_a_plan_names_only_its_partners():
    rng = np.random.default_rng(0)
    named = set()
    for _ in range(50):
        plan = draw_plan(rng, MosaicConfig(), 3, (3, 5, 7), 64)
        named |= {*plan.pictures, plan.mixup.picture}
    assert named == {3, 5, 7}


@pytest.mark.parametrize("partners", ["dataset", "batch"])
def test_pictures_of_a_batch_are_decoded_once(random_store, partners):
    store = random_store(40)
    shard = store.folder / "images-00000.bin"
    shard.write_bytes(b"\xff" * shard.stat().st_size)  # what is read is reported
    dataset = training_set(Store.open(store.folder), partners)
    samples = dataset.samples(0, range(8), "mosaic")
    named = [sample.image_name for sample in samples]
    read = [name for sample in samples for name in sample.unreadable]
    if partners == "batch":
        assert sorted(read) == sorted(named)
    else:
        assert len(read) > 3 * len(named)


def test_workers_do_not_change_the_batches(random_store):
    dataset = training_set(random_store(40), "batch")
    here, there = (
        list(BatchLoader(dataset, micro_batch=4, workers=workers, stall_s=60).epoch(2, "mosaic"))
        for workers in (0, 2)
    )
    assert len(here) == dataset.num_samples(2) // 4
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.targets.keypoints_xy, b.targets.keypoints_xy)


def test_samples_are_distributed_as_those_of_any_partners(random_store):
    store = random_store(60)
    anywhere, within = (
        statistics(training_set(store, partners)) for partners in ("dataset", "batch")
    )
    for name, one in anywhere.items():
        other = within[name]
        assert len(one) > 1000
        levels = np.quantile(one, np.linspace(0.1, 0.9, 9))
        below = [np.searchsorted(np.sort(sizes), levels) / len(sizes) for sizes in (one, other)]
        # Samples of a batch share pictures, so the noise is that of the batches, about 0.02.
        assert np.abs(below[0] - below[1]).max() < 0.06, name


def statistics(dataset):
    """Box sides, labelled keypoints per person and grey levels of many samples."""
    found = {"box sides": [], "labelled keypoints": [], "grey levels": []}
    for epoch in range(30):
        order = epoch_order(dataset.num_samples(epoch), 0, epoch)[:40].reshape(5, 8)
        for indices in order.tolist():
            for sample in dataset.samples(epoch, indices, "mosaic"):
                boxes = sample.labels.boxes_xyxy
                found["box sides"].append((boxes[:, 2:] - boxes[:, :2]).ravel())
                found["labelled keypoints"].append(sample.labels.is_labelled.sum(axis=1))
                found["grey levels"].append(sample.image[::16, ::16].ravel())
    return {name: np.concatenate(parts) for name, parts in found.items()}

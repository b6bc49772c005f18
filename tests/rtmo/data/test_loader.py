"""Batches: the same ones from any number of workers, complete, resumable, split over ranks."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields
from itertools import chain

import numpy as np
import pytest
import torch

from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import (
    BatchLoader,
    LoaderStalledError,
    LoaderWorkerError,
    collate,
    epoch_order,
    num_batches,
)
from rtmo.store import Store


@pytest.fixture
def dataset(random_store):
    return TrainingSet(random_store(40), 64, AugmentConfig(), seed=1)


def batches(dataset, epoch=2, pipeline="mosaic", start_batch=0, micro_batch=4, workers=0, **ranks):
    loader = BatchLoader(dataset, micro_batch=micro_batch, workers=workers, stall_s=60, **ranks)
    return list(loader.epoch(epoch, pipeline, start_batch))


def assert_same(a, b):
    assert a.image_names == b.image_names
    assert torch.equal(a.images, b.images)
    for name in ("boxes_xyxy", "keypoints_xy", "is_labelled", "is_annotated", "areas", "is_person"):
        assert torch.equal(getattr(a.targets, name), getattr(b.targets, name)), name


@pytest.mark.parametrize("pipeline", ["mosaic", "letterbox"])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_batches(dataset, workers, pipeline):
    here = batches(dataset, pipeline=pipeline)
    there = batches(dataset, workers=workers, pipeline=pipeline)
    assert len(here) == len(there) == dataset.num_samples(0) // 4
    for a, b in zip(here, there, strict=True):
        assert_same(a, b)


def test_workers_go_on_to_the_next_epoch(dataset):
    loader = BatchLoader(dataset, micro_batch=4, workers=2, stall_s=60)
    for epoch, pipeline in enumerate(("mosaic", "letterbox", "mosaic")):
        here = batches(dataset, epoch, pipeline)
        for a, b in zip(here, loader.epoch(epoch, pipeline), strict=True):
            assert_same(a, b)


def test_an_abandoned_epoch_leaves_nothing_to_the_next(dataset):
    loader = BatchLoader(dataset, micro_batch=4, workers=2, stall_s=60)
    next(loader.epoch(0, "mosaic"))
    for a, b in zip(batches(dataset, 1), loader.epoch(1, "mosaic"), strict=True):
        assert_same(a, b)


def test_without_workers_one_thread_makes_the_batches_and_ends_with_the_epoch(dataset):
    others = set(threading.enumerate())
    epoch = BatchLoader(dataset, micro_batch=4, workers=0, stall_s=60).epoch(0, "mosaic")
    next(epoch)
    (maker,) = set(threading.enumerate()) - others
    next(epoch)
    assert maker.is_alive()
    epoch.close()
    maker.join(timeout=60)
    assert not maker.is_alive()


def test_workers_do_not_inherit_exit_hooks(dataset, tmp_path):
    # Prefect leaves one behind that fails in a fork, which then ends with status 1.
    parent, mark = os.getpid(), tmp_path / "run by a worker"
    hooks = threading._threading_atexits
    hooks.append(lambda: os.getpid() == parent or mark.touch())
    try:
        assert len(batches(dataset, workers=2)) == dataset.num_samples(0) // 4
    finally:
        hooks.pop()
    assert not multiprocessing.active_children()
    assert not mark.exists()


def test_an_epoch_shows_every_picture_at_most_once(dataset):
    shown = list(chain.from_iterable(batch.image_names for batch in batches(dataset)))
    assert len(set(shown)) == len(shown) == dataset.num_samples(0) // 4 * 4
    assert shown != list(chain.from_iterable(b.image_names for b in batches(dataset, epoch=3)))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumes_where_it_stopped(dataset, workers):
    whole = batches(dataset)
    rest = batches(dataset, start_batch=3, workers=workers)
    assert len(rest) == len(whole) - 3
    for a, b in zip(whole[3:], rest, strict=True):
        assert_same(a, b)


def test_ranks_share_an_epoch_without_overlap(dataset):
    shown = [
        set(chain.from_iterable(b.image_names for b in batches(dataset, rank=rank, world_size=3)))
        for rank in range(3)
    ]
    assert {len(ids) for ids in shown} == {num_batches(dataset.num_samples(0), 4, 3) * 4}
    assert len(set.union(*shown)) == sum(len(ids) for ids in shown)


def test_padding_rows_are_marked(dataset):
    samples = [dataset.samples(0, [index], "letterbox")[0] for index in range(6)]
    counts = [len(sample.labels) for sample in samples]
    assert len(set(counts)) > 1
    batch = collate(samples, 17)
    targets = batch.targets
    assert targets.is_person.sum(dim=1).tolist() == counts
    assert targets.boxes_xyxy.shape == (6, max(counts), 4)
    assert not targets.is_labelled[~targets.is_person].any()
    assert batch.images.dtype == torch.uint8
    for row, sample in enumerate(samples):
        np.testing.assert_array_equal(batch.images[row].permute(1, 2, 0).numpy(), sample.image)


def test_a_batch_without_people_has_no_rows(random_store):
    dataset = TrainingSet(random_store(4), 64, AugmentConfig(), seed=0)
    samples = [dataset.samples(0, [0], "letterbox")[0]]
    nobody = collate(
        [type(samples[0])(samples[0].image, none(samples[0].labels), None, "random/1", ())], 17
    )
    assert nobody.targets.keypoints_xy.shape == (1, 0, 17, 2)
    assert nobody.targets.ignore_mask is None


def none(labels):
    return type(labels)(*(getattr(labels, field.name)[:0] for field in fields(labels)))


def test_too_few_pictures_for_a_batch_is_an_error(dataset):
    with pytest.raises(ValueError, match=r"make no batch of 64.*lower train\.micro_batch"):
        batches(dataset, micro_batch=64)


def test_the_order_of_an_epoch_is_a_permutation():
    order = epoch_order(50, seed=0, epoch=1)
    assert sorted(order.tolist()) == list(range(50))
    assert order.tolist() != epoch_order(50, seed=1, epoch=1).tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_unreadable_pictures_are_warned_of_by_id(random_store, caplog, workers):
    store = random_store(8)
    shard = store.folder / "images-00000.bin"
    content = bytearray(shard.read_bytes())
    start = content.index(store.image_bytes(5).tobytes())
    content[start : start + 9] = b"\0" * 9
    shard.write_bytes(content)
    dataset = TrainingSet(Store.open(store.folder), 64, AugmentConfig(), seed=0)
    shown = batches(dataset, pipeline="letterbox", micro_batch=6, workers=workers)
    assert shown[0].unreadable == ("random/51",)
    assert "pictures random/51 did not decode" in caplog.text


HANGING = """
import os, sys
from rtmo.data.loader import BatchLoader

class OnADeadDisk:
    seed = 0
    num_keypoints = 17

    def num_samples(self, epoch):
        return 8

    def samples(self, epoch, indices, pipeline):
        return open(sys.argv[1], "rb").read()

next(BatchLoader(OnADeadDisk(), micro_batch=4, workers=0, stall_s=0.5).epoch(3, "letterbox"))
"""


def test_a_read_that_hangs_ends_the_process_with_an_error_that_says_what_was_waited_for(tmp_path):
    os.mkfifo(tmp_path / "picture.jpg")  # opening it waits for a writer, for ever
    command = [sys.executable, "-c", HANGING, tmp_path / "picture.jpg"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    samples = ", ".join(map(str, epoch_order(8, seed=0, epoch=3)[:4]))
    assert f"no batch for 0.5 s, waiting for samples {samples} of epoch 3 (letterbox)" in last
    assert "raise train.loader_stall_s" in last


def workers_of(loader, first_epoch):
    """Process ids of the loader's workers, after their first batch."""
    before = {child.pid for child in multiprocessing.active_children()}
    next(first_epoch)
    return sorted({child.pid for child in multiprocessing.active_children()} - before)


def test_a_worker_that_dies_is_noticed_within_seconds(dataset):
    loader = BatchLoader(dataset, micro_batch=4, workers=1, stall_s=60)
    epoch = loader.epoch(0, "mosaic")
    (worker,) = workers_of(loader, epoch)
    os.kill(worker, signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(LoaderWorkerError, match=r"process died .* of epoch 0.*lower train.workers"):
        list(epoch)
    assert time.monotonic() - start < 15


@pytest.mark.slow
def test_a_worker_that_is_stuck_is_given_up_and_ended(dataset):
    loader = BatchLoader(dataset, micro_batch=4, workers=2, stall_s=20)
    epoch = loader.epoch(0, "mosaic")
    workers = workers_of(loader, epoch)
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(LoaderStalledError, match="no batch for 20 s, waiting for samples"):
        list(epoch)
    assert 20 <= time.monotonic() - start < 40
    assert not {child.pid for child in multiprocessing.active_children()} & set(workers)

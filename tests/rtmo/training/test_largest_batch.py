from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.config import Phase, TrainConfig
from rtmo.training.largest_batch import CpuMemory, largest_batch, largest_divisor, measure_cpu

MIB = 2**20


@pytest.fixture(scope="module")
def fresh():
    """A process that has freed nothing which would serve the steps, as the command's."""
    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn"), max_tasks_per_child=1
    ) as processes:
        yield processes


def take_64_mib(count):
    np.ones(count * 64 * MIB, np.uint8)


def test_the_peak_of_a_step_is_found_though_its_memory_is_free_again(fresh):
    memory = fresh.submit(measure_cpu, take_64_mib).result()
    assert memory.per_picture == pytest.approx(64 * MIB, rel=0.1)
    assert 0 < memory.fixed < memory.free


def test_processes_share_the_memory_of_their_host():
    alone = measure_cpu(lambda _count: None)
    shared = measure_cpu(lambda _count: None, processes=4)
    assert shared.free == pytest.approx(alone.free / 4, rel=0.3)


def test_a_tenth_of_the_memory_is_left():
    memory = CpuMemory(fixed=100, per_picture=10, free=1000)
    assert memory.holds(80)
    assert not memory.holds(81)


def test_nothing_fits_where_one_picture_is_too_much():
    assert largest_divisor(16, lambda _count: False) is None


def test_a_run_is_measured_at_its_largest_side(fresh, tiny_store):
    found = fresh.submit(measured, tiny_store).result()
    assert (found.micro_batch, found.side) == (4, 96)
    assert 5 * MIB < found.memory.per_picture < 200 * MIB


def measured(folder):
    config = TrainConfig(
        epochs=2,
        micro_batch=1,
        global_batch=4,
        cpu_threads=1,
        device="cpu",
        phases=(Phase(first_epoch=0, input_size=96), Phase(first_epoch=1, input_size=64)),
        validate_every_epochs=1,
        checkpoint_every_steps=1,
    )
    dataset = TrainingSet(Store.open(folder), 64, AugmentConfig(), 0)
    torch.manual_seed(0)
    return largest_batch(build_rtmo("t"), dataset, config, multiscale=None)

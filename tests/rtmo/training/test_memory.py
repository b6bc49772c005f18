import resource
import subprocess
import sys

import pytest
import torch

from rtmo.training.memory import fits, is_out_of_memory, largest_below

SCRIPT = """
import resource, sys
from pathlib import Path
import torch
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import TrainConfig
from rtmo.training.loop import Callbacks, fit

store, folder = map(Path, sys.argv[1:])
config = TrainConfig(
    epochs=1, micro_batch=8, global_batch=8, cpu_threads=1, device="cpu",
    validate_every_epochs=1, checkpoint_every_steps=9,
)

def validate(_model):
    # The last thing before the first step: from here on, a step at one picture fits.
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1100 << 20),) * 2)
    return {"AP": 0.0}

callbacks = Callbacks(
    validate=validate, reporters=(), show_step=lambda _figures: None, should_stop=lambda: False
)
dataset = TrainingSet(Store.open(store), 512, AugmentConfig(), 0)
with open_checkpoints(folder) as checkpoints:
    fit(build_rtmo("t"), dataset, config, callbacks, checkpoints)
"""


def never_enough(micro_batch):
    raise torch.OutOfMemoryError(f"{micro_batch} pictures")


def allocate(gibibytes):
    return torch.empty(gibibytes << 30, dtype=torch.uint8).fill_(0)


def test_memory_that_runs_out_is_told_from_other_errors():
    def wrong(_count):
        raise RuntimeError("shapes do not match")

    assert not fits(never_enough, 4)
    with pytest.raises(RuntimeError, match="shapes"):
        fits(wrong, 4)


def test_torchs_own_error_on_the_cpu_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        allocate(1 << 17)  # 128 TiB
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("micro_batch", "room", "expected"), [(32, 8, 8), (32, 31, 16), (12, 4, 3), (9, 4, 1)]
)
def test_the_largest_half_that_fits_is_found(micro_batch, room, expected):
    def step(count):
        if count > room:
            never_enough(count)

    assert largest_below(step, micro_batch) == expected


def test_nothing_fits_where_one_picture_is_too_much():
    assert largest_below(never_enough, 8) is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by RLIMIT_AS and reads /proc")
def test_a_training_that_runs_out_of_memory_names_the_micro_batch_that_fits(tiny_store, tmp_path):
    assert resource.RLIMIT_AS
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tiny_store, tmp_path / "checkpoints"],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "MicroBatchTooLargeError: a micro-batch of 8 pictures does not fit into memory" in last
    assert "fits: set train.micro_batch to that, the global batch of 8 is accumulated" in last

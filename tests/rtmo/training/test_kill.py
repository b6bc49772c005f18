"""SIGKILL at random moments of a training, in real processes; `make chaos KILLS=1000` for many."""

import random
import shutil
import signal
import time
from multiprocessing import get_context

import pytest
import torch
from safetensors.torch import load_file, save_file

from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, TrainConfig
from rtmo.training.loop import Callbacks, fit

INTERVAL = 2
"""Steps between checkpoints: what a kill may cost."""
LAST_STEP = 8


def train(store, folder, out, precision, steps):
    """A whole training in the process that is to be killed; tells every step."""
    config = TrainConfig(
        epochs=4,
        micro_batch=2,
        global_batch=4,
        cpu_threads=1,  # so that one core is enough: two threads that share one wait for each other
        device="cpu",
        precision=precision,
        optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
        validate_every_epochs=2,
        checkpoint_every_steps=INTERVAL,
    )
    callbacks = Callbacks(
        validate=lambda _model: {"AP": 0.0},
        reporters=(),
        show_step=lambda figures: steps.send(figures.step),
        should_stop=lambda: False,
    )
    torch.manual_seed(0)
    dataset = TrainingSet(Store.open(store), 64, AugmentConfig(), 0)
    with open_checkpoints(folder) as checkpoints:
        result = fit(build_rtmo("t"), dataset, config, callbacks, checkpoints)
    save_file({name: t.contiguous() for name, t in result.last_weights.items()}, out)


def attempt(*arguments, kill_after=None, delay_s=0.0):
    """One process, killed `delay_s` after its `kill_after`th step; its steps, and if it ended."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=train, args=(*arguments, sender))
    process.start()
    sender.close()
    steps = []
    try:
        while len(steps) != kill_after:
            steps.append(receiver.recv())
        time.sleep(delay_s)
        process.kill()
    except EOFError:
        pass  # it has come to its end
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return steps, process.exitcode == 0


@pytest.mark.parametrize(
    "precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)]
)
@pytest.mark.timeout(20_000)
def test_a_run_killed_at_random_moments_ends_with_the_bits_of_an_undisturbed_run(
    tiny_store, tmp_path, precision, kills
):
    steps, _ = attempt(tiny_store, tmp_path / "whole", tmp_path / "whole.st", precision)
    assert steps == list(range(1, LAST_STEP + 1))
    whole = load_file(tmp_path / "whole.st")

    chance = random.Random(0)
    killed = runs = 0
    while killed < kills:
        runs += 1
        seen, is_done = 0, False
        folder, out = tmp_path / f"run {runs}", tmp_path / f"{runs}.st"
        while not is_done:
            is_last = killed == kills
            steps, is_done = attempt(
                tiny_store,
                folder,
                out,
                precision,
                kill_after=None if is_last else chance.randint(0, 5),
                delay_s=chance.uniform(0, 0.5),
            )
            killed += not is_done
            if steps:
                assert steps[0] > seen - INTERVAL
                seen = steps[-1]
        cut = load_file(out)
        assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []
        shutil.rmtree(folder)  # a thousand kills would leave 70 GB
        out.unlink()

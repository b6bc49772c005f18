"""SIGKILL in the middle of training, in real processes."""

import subprocess
import sys

import pytest
from safetensors.torch import load_file

SCRIPT = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, TrainConfig
from rtmo.training.loop import Callbacks, fit

store, folder, out, precision = sys.argv[1:]
config = TrainConfig(
    epochs=4, micro_batch=2, global_batch=4, cpu_threads=2, device="cpu", precision=precision,
    optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
    validate_every_epochs=2, checkpoint_every_steps=2,
)
callbacks = Callbacks(
    validate=lambda _model: {"AP": 0.0},
    reporters=(),
    show_step=lambda figures: print(figures.step, flush=True),
    should_stop=lambda: False,
)
torch.manual_seed(0)
model = build_rtmo("t")
dataset = TrainingSet(Store.open(Path(store)), 64, AugmentConfig(), 0)
with open_checkpoints(Path(folder)) as checkpoints:
    result = fit(model, dataset, config, callbacks, checkpoints)
save_file({name: t.contiguous() for name, t in result.last_weights.items()}, out)
"""


def start(*arguments):
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_killed_at_several_steps_ends_with_the_bits_of_an_undisturbed_run(
    tiny_store, tmp_path, precision
):
    with start(tiny_store, tmp_path / "whole", tmp_path / "whole.st", precision) as undisturbed:
        assert [int(line) for line in undisturbed.stdout] == list(range(1, 9))

    first_steps = []
    for fatal_step in (1, 4, 7, None):
        with start(tiny_store, tmp_path / "cut", tmp_path / "cut.st", precision) as process:
            steps = []
            for line in process.stdout:
                steps.append(int(line))
                if steps[-1] == fatal_step:
                    process.kill()
            first_steps.append(steps[0])
    # Checkpoints are taken after steps 2, 4, 6 and 8 and after validations (epochs 0, 2, 4).
    assert first_steps[0] == first_steps[1] == 1
    assert first_steps[2] in (3, 5)
    assert first_steps[3] in (7, 8)

    whole, cut = load_file(tmp_path / "whole.st"), load_file(tmp_path / "cut.st")
    assert [name for name in whole if not (whole[name] == cut[name]).all()] == []

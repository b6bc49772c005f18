"""Several training processes on one host, started by torchrun over gloo."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import BatchLoader
from rtmo.skeleton import COCO17
from rtmo.store import Licence, Store, StoreMeta
from rtmo.store_writer import write_store
from tests.rtmo.training.conftest import record

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.losses.config import LossConfig
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, Phase, TrainConfig
from rtmo.training.loop import Callbacks, fit

store, out, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
rank = int(os.environ.get("RANK", 0))
config = TrainConfig(
    epochs=2, micro_batch=settings["micro_batch"], global_batch=2 * settings["micro_batch"],
    cpu_threads=1, device="cpu",
    optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
    phases=(Phase(first_epoch=0, pipeline="letterbox", loss=LossConfig(**settings["loss"])),),
    validate_every_epochs=1, checkpoint_every_steps=1,
)

def after_step(figures):
    with (out / f"steps-{rank}.txt").open("a") as file:
        print(figures.step, figures.loss, file=file)
    is_first_try = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
    if settings["fatal_step"] == figures.step and rank == 1 and is_first_try:
        os.kill(os.getpid(), signal.SIGKILL)

callbacks = Callbacks(
    validate=lambda _model: {"AP": 0.0}, reporters=(), show_step=after_step,
    should_stop=lambda: False,
)
torch.manual_seed(0)
model = build_rtmo("t")
dataset = TrainingSet(Store.open(store), 64, AugmentConfig(), 0)
if rank == 0:
    with open_checkpoints(out / "checkpoints") as checkpoints:
        fit(model, dataset, config, callbacks, checkpoints)
    save_file({n: p.detach().contiguous() for n, p in model.named_parameters()}, out / "w.st")
else:
    fit(model, dataset, config, callbacks, None)
"""
MEANS_ONLY = {"cls": 0, "bbox": 0, "oks": 10, "mle": 1, "vis": 1}
"""Terms that are means over the positives of a process, in any number of processes."""
TORCHRUN = (
    *("-m", "torch.distributed.run", "--standalone"),
    *("--nproc-per-node=2", "--max-restarts=1"),
)


def train(folder, store, *launcher, loss, micro_batch=2, fatal_step=0):
    """Parameters at the end, and (step, loss) of the first process."""
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(SCRIPT)
    settings = {"loss": loss, "micro_batch": micro_batch, "fatal_step": fatal_step}
    command = [sys.executable, *launcher, script, store, folder, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (folder / "steps-0.txt").read_text().splitlines()
    steps = [(int(step), float(value)) for step, value in map(str.split, lines)]
    return load_file(folder / "w.st"), steps


def test_two_processes_take_the_steps_of_one_that_accumulates(tiny_store, tmp_path):
    one, one_losses = train(tmp_path / "one", tiny_store, loss=MEANS_ONLY)
    two, two_losses = train(tmp_path / "two", tiny_store, *TORCHRUN, loss=MEANS_ONLY)
    # A sum of two gradients has no other order, so even the bits are the same.
    assert two_losses == one_losses
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


@pytest.mark.slow
def test_the_whole_loss_differs_by_whose_positives_it_is_divided_by(tiny_store, tmp_path):
    _, one = train(tmp_path / "one", tiny_store, loss={})
    _, two = train(tmp_path / "two", tiny_store, *TORCHRUN, loss={})
    # Class and box terms: mean positives of both processes, or of each micro-batch its own.
    assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=0.05)


@pytest.mark.slow
def test_when_a_process_is_killed_all_go_on_from_the_last_checkpoint(tiny_store, tmp_path):
    whole, _ = train(tmp_path / "whole", tiny_store, *TORCHRUN, loss={})
    cut, steps = train(tmp_path / "cut", tiny_store, *TORCHRUN, loss={}, fatal_step=3)
    assert max(step for step, _ in steps) == 4
    assert len(steps) > 4 or [step for step, _ in steps].count(3) == 1
    assert [name for name in whole if not torch.equal(whole[name], cut[name])] == []


@pytest.fixture
def half_unlabelled(tmp_path):
    """Every other picture has people without a single labelled keypoint."""

    def changed(index):
        picture, jpeg = record(index)
        if index % 2 == 0:
            return picture, jpeg
        people = tuple(
            replace(person, keypoints=(0.0,) * 51, num_keypoints=0) for person in picture.people
        )
        return replace(picture, people=people), jpeg

    meta = StoreMeta(
        dataset="half",
        split="train",
        protocol="coco",
        skeleton=COCO17,
        licence=Licence(name="none", url="", commercial_use="yes"),
    )
    folder = tmp_path / "half"
    write_store(folder, meta, (changed(index) for index in range(12)))
    return folder


@pytest.mark.slow
def test_a_process_without_positives_does_not_hold_up_the_other(half_unlabelled, tmp_path):
    dataset = TrainingSet(Store.open(half_unlabelled), 64, AugmentConfig(), 0)
    ranks = [
        BatchLoader(dataset, micro_batch=1, workers=0, stall_s=60, rank=rank, world_size=2)
        for rank in (0, 1)
    ]
    people = [
        [bool(batch.targets.is_person.any()) for batch in loader.epoch(0, "letterbox")]
        for loader in ranks
    ]
    assert any(first != second for first, second in zip(*people, strict=True))
    train(tmp_path / "run", half_unlabelled, *TORCHRUN, loss={}, micro_batch=1)

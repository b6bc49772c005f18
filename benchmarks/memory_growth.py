"""Does a training hold more memory after thousands of steps than after 200?

    python -m benchmarks.memory_growth data/processed/embedded/train 5000

A real run of the loop: mosaic and letterbox, multi-scale, checkpoints, batches made in a thread.
Writes a raw log of what malloc has handed out, to the byte; of the memory in use; of the process's
own memory, which has besides what malloc keeps for later; and of all that is resident: that counts
the mapped pages of the dataset too, which the kernel takes back when it needs them. Exits with 1 if
what is handed out grew by more than 0.2 %. Needs glibc 2.33.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, Phase, TrainConfig
from rtmo.training.loop import Callbacks, fit
from rtmo.training.reporting import StepFigures

WARM_STEPS = 200
"""By then every input size has been met and malloc holds what a step needs."""
ALLOWED_GROWTH = 0.002
MICRO_BATCH = 2
SIDE, SIDES = 96, (64, 96)
ROWS = 10


class MallocState(ctypes.Structure):
    """What `mallinfo2` answers, in bytes and counts of blocks."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    )


def memory_mib() -> tuple[float, float, float, float]:
    """Memory now: handed out by malloc, in use, its own, and with the mapped pages of files."""
    libc = ctypes.CDLL("libc.so.6")
    libc.mallinfo2.restype = MallocState
    own, resident = _status_mib("RssAnon"), _status_mib("VmRSS")
    gc.collect()
    libc.malloc_trim(0)
    state = libc.mallinfo2()
    return (state.uordblks + state.hblkhd) / 2**20, _status_mib("RssAnon"), own, resident


def _status_mib(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024


def config_for(store: Store, steps: int) -> TrainConfig:
    """About `steps` steps; half of the epochs with either pipeline."""
    epochs = max(2, round(steps * MICRO_BATCH / len(store)))
    return TrainConfig(
        epochs=epochs,
        micro_batch=MICRO_BATCH,
        global_batch=MICRO_BATCH,
        cpu_threads=1,
        device="cpu",
        optimizer=OptimizerConfig(lr=1e-4, warmup_epochs=0, clip_norm=1.0),
        phases=(
            Phase(first_epoch=0, pipeline="mosaic"),
            Phase(first_epoch=epochs // 2, pipeline="letterbox"),
        ),
        validate_every_epochs=1,
        checkpoint_every_steps=100,
    )


def measure(folder: Path, steps: int) -> dict[int, tuple[float, float, float, float]]:
    """`memory_mib` by step."""
    store = Store.open(folder)
    config = config_for(store, steps)
    measured: dict[int, tuple[float, float, float, float]] = {}

    def after_step(figures: StepFigures) -> None:
        if figures.step == WARM_STEPS or figures.step % (steps // ROWS) == 0:
            measured[figures.step] = memory_mib()
            print(f"step {figures.step}: {measured[figures.step][0]:.2f} MiB", file=sys.stderr)

    torch.manual_seed(0)
    callbacks = Callbacks(
        validate=lambda _model: {"AP": 0.0},
        reporters=(),
        show_step=after_step,
        should_stop=lambda: False,
    )
    with tempfile.TemporaryDirectory() as states, open_checkpoints(Path(states)) as checkpoints:
        dataset = TrainingSet(store, SIDE, AugmentConfig(), config.seed)
        fit(build_rtmo("t"), dataset, config, callbacks, checkpoints, SIDES)
    return measured


def main() -> None:
    """Measure, print the table."""
    measurement = raw_log.begin("memory_growth")
    measured = measure(Path(sys.argv[1]), int(sys.argv[2]))
    log = measurement.end({"mib": {str(step): mib for step, mib in measured.items()}})
    print(table_of(log))
    sys.exit(growth(log) > ALLOWED_GROWTH)


def growth(log: RawLog) -> float:
    """Of what is handed out, from `WARM_STEPS` to the last step, as a share."""
    handed_out = {step: mib[0] for step, mib in log.samples["mib"].items()}
    return float([*handed_out.values()][-1] / handed_out[str(WARM_STEPS)] - 1)


def table_of(log: RawLog) -> str:
    """Memory by step."""
    steps = log.samples["mib"]
    rows = [
        (step, f"{handed_out:.2f}", *(f"{mib:.0f}" for mib in others))
        for step, (handed_out, *others) in steps.items()
    ]
    head = ["step", "handed out by malloc, MiB", "in use, MiB", "its own, MiB", "resident, MiB"]
    return (
        f"{table(head, rows)}\n\n"
        f"Handed out, from step {WARM_STEPS} to step {[*steps][-1]}: {growth(log):+.2%}."
    )


if __name__ == "__main__":
    main()

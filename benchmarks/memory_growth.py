"""Does a training hold more memory after 2,000 steps than after 200?

    python -m benchmarks.memory_growth data/processed/embedded/train 2000

A real run of the loop: mosaic and letterbox, multi-scale, checkpoints, batches made in a thread.
Writes a raw log of the process's resident memory; exits with 1 if it grew by more than 3 %.
"""

from __future__ import annotations

import gc
import resource
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
ALLOWED_GROWTH = 0.03
MICRO_BATCH = 2
SIDE, SIDES = 96, (64, 96)
ROWS = 10


def resident_mib() -> float:
    """Resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


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


def measure(folder: Path, steps: int) -> dict[int, float]:
    """MiB by step."""
    store = Store.open(folder)
    config = config_for(store, steps)
    measured: dict[int, float] = {}

    def after_step(figures: StepFigures) -> None:
        if figures.step == WARM_STEPS or figures.step % (steps // ROWS) == 0:
            gc.collect()
            measured[figures.step] = resident_mib()
            print(f"step {figures.step}: {measured[figures.step]:.0f} MiB", file=sys.stderr)

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
    log = measurement.end({"resident_mib": {str(step): mib for step, mib in measured.items()}})
    print(table_of(log))
    sys.exit(growth(log) > ALLOWED_GROWTH)


def growth(log: RawLog) -> float:
    """Of the memory from `WARM_STEPS` to the last step, as a share."""
    mib = log.samples["resident_mib"]
    return float([*mib.values()][-1] / mib[str(WARM_STEPS)] - 1)


def table_of(log: RawLog) -> str:
    """Memory by step."""
    steps = log.samples["resident_mib"]
    rows = [(step, f"{mib:.0f}") for step, mib in steps.items()]
    return (
        f"{table(['step', 'resident, MiB'], rows)}\n\n"
        f"From step {WARM_STEPS} to step {[*steps][-1]}: {growth(log):+.1%}."
    )


if __name__ == "__main__":
    main()

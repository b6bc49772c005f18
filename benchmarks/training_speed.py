"""Training pictures per second of the real loop, from JPEG to the optimiser's step.

    python -m benchmarks.training_speed data/processed/coco/train --size s --workers 8 12 16

For a GPU: bf16, kernels compiled for the one input size (`--compile off` for none), the published
augmentation. States the rate, the share of time spent waiting for data, peak memory, and the share
of this device's own bf16 matrix rate that the network's work comes to. `--device cpu` tries the
script where there is no GPU.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.config import OptimizerConfig, TrainConfig
from rtmo.training.loop import Callbacks, TrainingInterrupted, fit
from rtmo.training.reporting import StepFigures

WARMUP_STEPS = 10
"""Steps not counted: kernels are compiled, the loader fills its queue."""
MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}


@dataclass
class Pace:
    """When every step ended."""

    steps: int
    ends: list[float] = field(default_factory=list)
    data_wait: float = 0.0
    """Share of the time, of the last step told."""

    def note(self, figures: StepFigures) -> None:
        """A step ended; its figures were read from the device, so it is over there as well."""
        self.ends.append(time.perf_counter())
        self.data_wait = figures.data_wait

    def is_over(self) -> bool:
        """Whether enough steps were taken."""
        return len(self.ends) >= WARMUP_STEPS + self.steps


def matrix_tflops(device: str) -> float:
    """bf16 matrix products of this device, 10^12 operations per second, median of ten."""
    side = MATRIX_SIDE[device]
    a, b = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    times = []
    for _ in range(12):
        start = time.perf_counter()
        (a @ b).sum().item()
        times.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(times[2:]) / 1e12


def network_gflop(size: str, side: int) -> float:
    """Forward and backward pass of the network for one picture, 10^9 operations."""
    model = build_rtmo(size).train()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(2, 3, side, side))
    return 3 * counter.get_total_flops() / 2 / 1e9  # backward has twice the forward's products


def measure(arguments: argparse.Namespace, workers: int) -> dict[str, float]:
    """One training of a few steps with so many loader processes."""
    device = arguments.device
    pace = Pace(arguments.steps)
    config = TrainConfig(
        epochs=10_000,
        micro_batch=arguments.batch,
        global_batch=arguments.batch,
        workers=workers,
        precision="bf16-mixed",
        compile=arguments.compile,
        device=device,
        optimizer=OptimizerConfig(lr=1e-4, warmup_epochs=0),
        validate_every_epochs=10_000,
        checkpoint_every_steps=10**9,
    )
    callbacks = Callbacks(
        validate=lambda _model: {"AP": 0.0},
        reporters=(),
        show_step=pace.note,
        should_stop=pace.is_over,
    )
    store = Store.open(arguments.data)
    dataset = TrainingSet(store, arguments.side, AugmentConfig(), config.seed)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(TrainingInterrupted):
        fit(build_rtmo(arguments.size, store.skeleton), dataset, config, callbacks, None)
    counted = pace.ends[WARMUP_STEPS - 1 :]
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    return {
        "images_per_s": arguments.batch * (len(counted) - 1) / (counted[-1] - counted[0]),
        "data_wait": pace.data_wait,
        "peak_gib": peak,
    }


def table_of(log: RawLog) -> str:
    """A row per number of loader processes."""
    facts = log.settings
    rows = [
        (
            workers,
            f"{one['images_per_s']:.1f}",
            f"{one['data_wait']:.1%}",
            f"{one['images_per_s'] * facts['gflop_per_image'] / 1e3 / facts['matrix_tflops']:.1%}",
            f"{one['peak_gib']:.1f}" if one["peak_gib"] else "",
        )
        for workers, one in log.samples.items()
    ]
    head = ("workers", "images/s", "waiting for data", "of the matrix rate", "peak GiB")
    return (
        f"RTMO-{facts['size']}, {facts['side']} px, batch {facts['batch']}, bf16, compile "
        f"{facts['compile']}, {facts['steps']} steps on {facts['device']}; the network's work is "
        f"{facts['gflop_per_image']:.1f} GFLOP a picture, the matrix rate "
        f"{facts['matrix_tflops']:.2f} TFLOP/s.\n\n{table(head, rows)}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a converted split with its pictures")
    parser.add_argument("--size", default="s", choices=("t", "s", "m", "l"))
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--workers", type=int, nargs="+", default=[8])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--compile", default="per_size", choices=("off", "per_size"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("unavailable: torch sees no CUDA device on this machine")
    measurement = raw_log.begin("training_speed", ("lightning",))
    names = ("size", "side", "batch", "steps", "compile", "device")
    log = measurement.end(
        samples={str(workers): measure(arguments, workers) for workers in arguments.workers},
        settings={
            **{name: getattr(arguments, name) for name in names},
            "gflop_per_image": network_gflop(arguments.size, arguments.side),
            "matrix_tflops": matrix_tflops(arguments.device),
        },
    )
    print(table_of(log))


if __name__ == "__main__":
    main()

"""Which micro-batch this machine's memory holds, before hours are spent on a training.

On a GPU by trying; on a CPU, where too large a step may end other programs, by measuring two small
ones and reckoning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rtmo.data.loader import collate
from rtmo.data.multiscale import resize_batch
from rtmo.losses.criterion import Criterion
from rtmo.training.devices import build_fabric
from rtmo.training.ema import Ema
from rtmo.training.memory import fits
from rtmo.training.optim import build_optimizer
from rtmo.training.step import TrainingStep, Truth

if TYPE_CHECKING:
    from rtmo.data.dataset import TrainingSet
    from rtmo.model.rtmo import RTMO
    from rtmo.training.config import Phase, TrainConfig

HEADROOM = 0.1
"""Share of the memory that a CPU training leaves to pictures with more people and to others."""
MEASURED = 1, 3
"""Pictures of the steps that are measured on a CPU."""

KIB = 1024


@dataclass(frozen=True, slots=True)
class CpuMemory:
    """What a training takes of the host's memory, in bytes."""

    fixed: int
    """Interpreter, libraries, weights, their average and the optimiser's state."""
    per_picture: int
    """Peak of forward and backward pass."""
    free: int
    """For one training process: of the host or container, this process's own included."""

    def holds(self, micro_batch: int) -> bool:
        """Whether a step on so many pictures leaves the headroom."""
        return self.fixed + micro_batch * self.per_picture <= (1 - HEADROOM) * self.free


@dataclass(frozen=True, slots=True)
class LargestBatch:
    """The answer, and what it was found from."""

    micro_batch: int | None
    """Divides the share of the global batch of each process; None if not even one picture fits."""
    side: int
    """Pixels: the largest side the run trains at."""
    memory: CpuMemory | None
    """None where it was found by trying, on a GPU."""


def largest_batch(
    model: RTMO, dataset: TrainingSet, config: TrainConfig, multiscale: tuple[int, int] | None
) -> LargestBatch:
    """The largest micro-batch with which `config` can be trained on this machine.

    Args:
        model: of the run; one or a few steps are taken with it.
        dataset: of the run; the first pictures of the first epoch are used.
        config: the run; its `micro_batch` is not looked at.
        multiscale: smallest and largest input side drawn per step.

    Raises:
        ValueError: if the wished device is absent, or the memory of a CPU cannot be read here.
    """
    largest = dataset.input_size if multiscale is None else multiscale[1]
    phase = max(config.phases, key=lambda phase: phase.input_size or largest)
    side = phase.input_size or largest
    step = _step(model, dataset, config, phase, side)
    share = config.global_batch // config.processes
    if torch.cuda.is_available() and config.device != "cpu":
        found = largest_divisor(share, lambda count: fits(step, count))
        return LargestBatch(found, side, memory=None)
    memory = measure_cpu(step, config.processes)
    return LargestBatch(largest_divisor(share, memory.holds), side, memory)


def largest_divisor(number: int, is_possible: Callable[[int], bool]) -> int | None:
    """The last divisor of `number` before the first, from 1 upwards, that is not possible.

    Example:
        >>> largest_divisor(48, lambda count: count < 20)
        16
    """
    found = None
    for divisor in (count for count in range(1, number + 1) if number % count == 0):
        if not is_possible(divisor):
            break
        found = divisor
    return found


def measure_cpu(step: Callable[[int], None], processes: int = 1) -> CpuMemory:
    """Peaks of a small and a larger step, and the line through them.

    Args:
        step: takes an optimiser step on so many pictures.
        processes: among which the memory will be shared.

    Raises:
        ValueError: if this system does not tell peaks as Linux does.
    """
    few, more = MEASURED
    step(few)  # makes the optimiser's state
    peaks = [_peak(step, count) for count in (few, more)]
    per_picture = (peaks[1] - peaks[0]) // (more - few)
    free = (_own("VmRSS") + _available()) // processes
    return CpuMemory(peaks[0] - few * per_picture, per_picture, free)


def _peak(step: Callable[[int], None], count: int) -> int:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # forget the former peak: proc(5)
    except OSError as error:
        raise ValueError(
            f"cannot measure peaks of memory here ({error}); this needs Linux, or a GPU"
        ) from error
    step(count)
    return _own("VmHWM")


def _own(name: str) -> int:
    """Bytes, of this process."""
    return _numbers(Path("/proc/self/status"))[name] * KIB


def _available() -> int:
    """Bytes that this process may still take: of the host, or of its container if that is less."""
    free = _numbers(Path("/proc/meminfo"))["MemAvailable"] * KIB
    container = Path("/sys/fs/cgroup")
    limit = container / "memory.max"
    if limit.is_file() and limit.read_text().strip() != "max":
        cached = _numbers(container / "memory.stat")["inactive_file"]
        used = int((container / "memory.current").read_text()) - cached
        free = min(free, int(limit.read_text()) - used)
    return free


def _numbers(table: Path) -> dict[str, int]:
    """The rows `name: number` or `name number` of a file of the kernel."""
    rows = (row.split() for row in table.read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}


def _step(
    model: RTMO, dataset: TrainingSet, config: TrainConfig, phase: Phase, side: int
) -> Callable[[int], None]:
    """One optimiser step on so many pictures, as the loop takes it."""
    fabric = build_fabric(config)
    fabric.launch()
    model.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    is_fused = config.precision != "16-mixed"
    optimizer = build_optimizer(model, config.optimizer, fused=is_fused)
    module, wrapped = fabric.setup(TrainingStep(model, Criterion(model.skeleton)), optimizer)
    average = Ema(model, config.ema)

    def step(count: int) -> None:
        indices = [index % dataset.num_samples(0) for index in range(count)]
        samples = dataset.samples(0, indices, phase.pipeline)
        batch = resize_batch(collate(samples, dataset.num_keypoints), side)
        targets = batch.targets.to(str(fabric.device))
        total, _ = module(batch.images.to(fabric.device), Truth(targets, phase.loss))
        fabric.backward(total)
        wrapped.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step=1)

    return step

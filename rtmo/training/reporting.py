"""What a training tells the outside, and what a person sees of it in a terminal."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOADER_BOUND = 0.1
"""Share of time spent waiting for data above which a person is told what to change."""

log = logging.getLogger(__name__)


class Reporter(Protocol):
    """Where the figures and pictures of a run go."""

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record named figures at an optimiser step."""

    def log_image(self, name: str, path: Path) -> None:
        """Record a picture."""


@dataclass(frozen=True, slots=True)
class StepFigures:
    """One optimiser step, as shown to a person."""

    step: int
    """Steps taken, this one included."""
    epoch: int
    """0-based."""
    loss: float
    """Weighted total."""
    terms: Mapping[str, float]
    """Weighted loss terms."""
    images_per_s: float
    """Over the epoch so far."""
    data_wait: float
    """Share of the epoch's time spent waiting for the loader."""


class ConsoleReporter(AbstractContextManager["ConsoleReporter"]):
    """A live line in a terminal; one log line per epoch where the output is not a terminal.

    Example:
        >>> with ConsoleReporter(total_steps=10, console=Console(quiet=True)) as console:
        ...     console.log_metrics(5, {"epoch": 1.0, "loss": 2.5})
    """

    def __init__(self, total_steps: int, console: Console | None = None) -> None:
        self._console = Console(stderr=True) if console is None else console
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("train", total=total_steps, epoch="-", figures="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show_step(self, figures: StepFigures) -> None:
        """Move the live line; costs nothing where there is none."""
        if self._progress.disable:
            return
        terms = " ".join(f"{name} {value:.2f}" for name, value in figures.terms.items())
        self._progress.update(
            self._task,
            completed=figures.step,
            epoch=str(figures.epoch + 1),
            figures=f"{figures.images_per_s:.1f} images/s, data wait {figures.data_wait:.0%}, "
            f"loss {figures.loss:.2f} ({terms})",
        )

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line with the epoch's figures."""
        figures = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        if self._progress.disable:
            log.info("step %d: %s", step, figures)
        else:
            self._progress.console.print(f"step {step}: {figures}", highlight=False)

    def log_image(self, name: str, path: Path) -> None:
        """Say where the picture is."""
        log.info("%s: %s", name, path)


def warn_if_loader_bound(data_wait: float, workers: int) -> None:
    """Tell a person that the loader, not the device, sets the pace, and what to change."""
    if data_wait > LOADER_BOUND:
        log.warning(
            "%.0f %% of the epoch went by waiting for data; train.workers is %d: raise it up to "
            "the number of CPU cores, or use smaller input pictures",
            100 * data_wait,
            workers,
        )

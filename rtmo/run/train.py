"""A whole training: from a recipe and converted stores to a folder of outputs."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rtmo.run.outputs import device_hours, write_outputs
from rtmo.run.recipe import Recipe, TrainingData, initial_model, training_set, validator
from rtmo.run.sample_batch import save_sample_batch
from rtmo.training.checkpoint import CheckpointFolder
from rtmo.training.loop import Callbacks, FitResult, fit
from rtmo.training.reporting import ConsoleReporter, Reporter

EXIT_INTERRUPTED = 85
"""Exit status after SIGTERM: the state is saved, running the training again continues. HTCondor's
customary code for it; distinct from errors and from a death by signal (143)."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a training keeps its state and tells of itself."""

    checkpoints: CheckpointFolder
    reporters: tuple[Reporter, ...]
    should_stop: Callable[[], bool]


def train(data: TrainingData, out: Path, recipe: Recipe, surroundings: Surroundings) -> FitResult:
    """Train on `data` as the recipe says and write weights, card, curves and metrics to `out`.

    The weights are the best on validation. Nothing in `out` depends on the machine's speed or on
    paths: on a CPU the same recipe and data give the same bytes.

    Raises:
        ValueError: see `rtmo.training.loop.fit`.
        TrainingInterrupted: asked to stop; the state is in the checkpoint folder.
    """
    dataset = training_set(data, recipe)
    out.mkdir(parents=True, exist_ok=True)
    # Kept with the checkpoints while training, so that reporters find it when they write.
    picture = surroundings.checkpoints.path / "sample_batch.png"
    save_sample_batch(data, recipe, picture)
    for reporter in surroundings.reporters:
        reporter.log_image("sample_batch", picture)

    total_steps = sum(
        dataset.num_samples(epoch) // recipe.train.global_batch
        for epoch in range(recipe.train.epochs)
    )
    with ConsoleReporter(total_steps) as console:
        result = fit(
            initial_model(recipe, dataset.skeleton),
            dataset,
            recipe.train,
            Callbacks(
                validate=validator(data.validation, recipe),
                reporters=(console, *surroundings.reporters),
                show_step=console.show_step,
                should_stop=surroundings.should_stop,
            ),
            surroundings.checkpoints,
            recipe.augment.multiscale,
        )
    cost = {"images_seen": result.images_seen, "device_hours": device_hours(result)}
    for reporter in surroundings.reporters:
        reporter.log_metrics(result.steps, cost)
    shutil.copy(picture, out)
    write_outputs(out, recipe, data, result)
    return result


def follow(data: TrainingData, recipe: Recipe, should_stop: Callable[[], bool]) -> None:
    """Train as one of the further processes: the first one validates, reports and writes.

    Raises:
        ValueError: see `rtmo.training.loop.fit`.
        TrainingInterrupted: asked to stop; the first process saved the state.
    """
    dataset = training_set(data, recipe)
    callbacks = Callbacks(
        validate=lambda _model: {},
        reporters=(),
        show_step=lambda _figures: None,
        should_stop=should_stop,
    )
    fit(
        initial_model(recipe, dataset.skeleton),
        dataset,
        recipe.train,
        callbacks,
        None,
        recipe.augment.multiscale,
    )


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """While the block lasts SIGTERM only sets the flag that the yielded function reads."""
    asked = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal asked
        asked = True

    former = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, former)

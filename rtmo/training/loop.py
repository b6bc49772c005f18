"""The training loop: epochs of optimiser steps, validation, resume checkpoints, guards.

Everything random is a function of (seed, epoch, sample index) or (seed, step), so a run resumed
from a checkpoint takes the very steps an undisturbed run takes.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rtmo.data.loader import BatchLoader
from rtmo.losses.criterion import Criterion
from rtmo.training.checkpoint import Checkpoint, Position
from rtmo.training.clock import Clock, Pace
from rtmo.training.devices import build_fabric, synchronise_norms
from rtmo.training.ema import Ema
from rtmo.training.gradients import Gradients
from rtmo.training.optim import build_optimizer, learning_rate, set_learning_rate
from rtmo.training.phases import phase_at
from rtmo.training.reporting import Reporter, StepFigures, warn_if_loader_bound
from rtmo.training.step import TrainingStep, compile_forward

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtmo.data.dataset import TrainingSet
    from rtmo.data.loader import Batch
    from rtmo.model.rtmo import RTMO
    from rtmo.training.checkpoint import CheckpointFolder
    from rtmo.training.config import Phase, TrainConfig

log = logging.getLogger(__name__)

HistoryRow = dict[str, float]
"""One row of the curves: figures averaged over an epoch, and the validation after it."""


class TrainingInterrupted(Exception):  # noqa: N818 - nothing went wrong
    """The run was asked to stop; its checkpoint is written and it can be continued."""


class DivergenceError(RuntimeError):
    """Loss or gradients stayed non-finite."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What the loop calls and knows nothing about."""

    validate: Callable[[RTMO], Mapping[str, float]]
    """Metrics of a model on the validation split; `AP` among them."""
    reporters: tuple[Reporter, ...]
    """Get a row of figures per epoch."""
    show_step: Callable[[StepFigures], None]
    """Called after every optimiser step; must cost next to nothing."""
    should_stop: Callable[[], bool]
    """True once the process was asked to end (SIGTERM)."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """A finished training."""

    history: tuple[HistoryRow, ...]
    """First the untrained model at epoch 0, then one row per epoch."""
    best_epoch: int
    """Epochs trained when validation AP was highest; the later of equals."""
    best_ap: float
    """Its validation AP."""
    best_weights: dict[str, Tensor]
    """Averaged weights of that epoch."""
    last_weights: dict[str, Tensor]
    """Averaged weights at the end."""
    steps: int
    """Optimiser steps taken."""
    images_seen: int
    """Images those steps were taken on, over all processes."""
    skipped_steps: int
    """Steps left out because of a non-finite loss or gradient."""
    processes: int
    """Processes on all hosts, one device each."""
    clock: Clock
    """Where the time went, former processes of a resumed run included."""


def fit(
    model: RTMO,
    dataset: TrainingSet,
    config: TrainConfig,
    callbacks: Callbacks,
    checkpoints: CheckpointFolder | None,
    multiscale: tuple[int, int] | None = None,
) -> FitResult:
    """Train `model` for `config.epochs`, continuing from the newest checkpoint if there is one.

    Args:
        model: at its initial weights; trained in place.
        dataset: the training split.
        config: the run.
        callbacks: validation, reports, the wish to stop.
        checkpoints: where the run keeps its state, held by this process; None on every process
            but the first of several.
        multiscale: smallest and largest input side drawn per step; None keeps the dataset's.

    Raises:
        ValueError: if the dataset has fewer images than one global batch, if the processes' batches
            do not add up to it, or if the wished device is absent.
        TrainingInterrupted: if `should_stop` said so; the state is saved.
        MicroBatchTooLargeError: if a step does not fit into memory.
        DivergenceError: if more than `max_skipped_steps` consecutive steps are non-finite.
        CheckpointError: if there are checkpoints and none can be read.
        LoaderStalledError: if no batch came for `loader_stall_s` seconds; as after a kill, the run
            goes on from its last checkpoint.
        LoaderWorkerError: if a loader process died; likewise.
    """
    training = _Training(model, dataset, config, callbacks, checkpoints, multiscale)
    training.resume()
    return training.run()


class _Training:
    """The state of one run and what is done with it, step by step."""

    def __init__(
        self,
        model: RTMO,
        dataset: TrainingSet,
        config: TrainConfig,
        callbacks: Callbacks,
        checkpoints: CheckpointFolder | None,
        multiscale: tuple[int, int] | None,
    ) -> None:
        self.config = config
        self.callbacks = callbacks
        self.checkpoints = checkpoints

        self.fabric = build_fabric(config)
        self.fabric.launch()
        self.accumulation = _accumulation(config, self.fabric.world_size)
        self.steps = [_num_steps(dataset, epoch, config) for epoch in range(config.epochs)]
        self.loader = BatchLoader(
            dataset,
            micro_batch=config.micro_batch,
            workers=config.workers,
            stall_s=config.loader_stall_s,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )

        self.model = model.train()
        if config.batch_norm == "synchronised":
            synchronise_norms(model)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        criterion = Criterion(model.skeleton)
        # Fabric cannot clip the gradients of a fused optimiser under fp16 loss scaling.
        self.optimizer = build_optimizer(model, config.optimizer, fused=not self._scales_loss)
        step_module = TrainingStep(model, criterion)
        self.module, self.wrapped_optimizer = self.fabric.setup(step_module, self.optimizer)
        self.gradients = Gradients(self.fabric, self.module, step_module, config, multiscale)
        self.ema = Ema(self.model, config.ema)
        compile_forward(self.model, config.compile)

        self.clock = Clock()
        self.position = Position(step=0, epoch=0, batch=0)
        self.history: list[HistoryRow] = []
        self.sums: dict[str, float] = {}
        self.best: dict[str, Any] = {}
        self.skipped = 0
        self.skipped_in_a_row = 0

    def resume(self) -> None:
        """Take up the newest checkpoint, if there is one; other processes get it from the first."""
        found = None if self.checkpoints is None else self.checkpoints.load_latest()
        checkpoint: Checkpoint | None = self.fabric.broadcast(found)
        if checkpoint is None:
            return
        state = checkpoint.state
        self.position = checkpoint.position
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.history, self.sums, self.best = state["history"], state["sums"], state["best"]
        self.skipped, self.skipped_in_a_row = state["skipped"], state["skipped_in_a_row"]
        self.clock = Clock(state["seconds"])
        log.info("continuing from step %d", self.position.step)

    def run(self) -> FitResult:
        """All epochs that are left."""
        if not self.history:
            self._close_epoch({"epoch": 0.0, "step": 0.0}, Pace(self.clock))
        while self.position.epoch < self.config.epochs:
            self._train_epoch()
        return FitResult(
            history=tuple(self.history),
            best_epoch=self.best["epoch"],
            best_ap=self.best["AP"],
            best_weights=self.best["weights"],
            last_weights=self.ema.model.state_dict(),
            steps=self.position.step,
            images_seen=self.position.step * self.config.global_batch,
            skipped_steps=self.skipped,
            processes=self.fabric.world_size,
            clock=self.clock,
        )

    def _train_epoch(self) -> None:
        epoch = self.position.epoch
        phase = phase_at(self.config.phases, epoch)
        batches = self.loader.epoch(epoch, phase.pipeline, self.position.batch)
        pace = Pace(self.clock)
        for _ in range(self.position.batch // self.accumulation, self.steps[epoch]):
            with self.clock.during("data_wait"):
                group = [next(batches) for _ in range(self.accumulation)]
            figures = self._step(group, phase)
            for name, value in figures.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
            batch = self.position.batch + self.accumulation
            self.position = Position(self.position.step + 1, epoch, batch)
            pace.images += self.config.global_batch
            self.callbacks.show_step(_step_figures(self.position, figures, pace))
            self._save_if_due()
        warn_if_loader_bound(pace.data_wait(), self.config.workers)

        steps = self.sums.pop("steps", 0.0) or 1.0
        lr = learning_rate(
            self.config.optimizer.lr,
            self._schedule_step(epoch, self.steps[epoch] - 1),
            self.steps[0],
            self.config.optimizer,
        )
        row = {"epoch": epoch + 1.0, "step": float(self.position.step), "lr": lr}
        row |= {name: total / steps for name, total in self.sums.items()}
        self.sums = {}
        self.position = Position(self.position.step, epoch + 1, batch=0)
        self._close_epoch(row, pace)

    def _step(self, group: Sequence[Batch], phase: Phase) -> dict[str, float]:
        """One optimiser step; its figures. A non-finite one leaves weights and statistics alone."""
        step = self._schedule_step(self.position.epoch, self.position.batch // self.accumulation)
        set_learning_rate(self.optimizer, step, self.steps[0], self.config.optimizer)
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        with self.clock.during("forward_backward"):
            figures = self.gradients.accumulate(group, phase, self.position.step)
        with self.clock.during("update"):
            norm = self.fabric.clip_gradients(
                self.module,
                self.wrapped_optimizer,
                max_norm=self.config.optimizer.clip_norm,
                error_if_nonfinite=False,
            )
            assert norm is not None
            figures |= {"grad_norm": float(norm), "steps": 1.0}
            is_finite = all(math.isfinite(value) for value in figures.values())
            if is_finite or self._scales_loss:  # a loss scale adapts by seeing the overflow
                self.wrapped_optimizer.step()
            if is_finite:
                self.skipped_in_a_row = 0
            else:
                for buffer, former in zip(self.model.buffers(), buffers, strict=True):
                    buffer.copy_(former)
                self._count_skipped(group, phase, figures)
                figures = {}
            self.optimizer.zero_grad(set_to_none=True)
            self.ema.update(self.position.step)
        return figures

    def _schedule_step(self, epoch: int, step: int) -> int:
        """Where a step of an epoch lies on the learning-rate curve, in steps of the first epoch.

        The curve is stated in epochs, and one that a merged set has left is shorter.
        """
        return epoch * self.steps[0] + step * self.steps[0] // self.steps[epoch]

    def _count_skipped(
        self, group: Sequence[Batch], phase: Phase, figures: Mapping[str, float]
    ) -> None:
        self.skipped += 1
        self.skipped_in_a_row += 1
        step = self.position.step
        log.warning("step %d skipped, not finite: %s", step, dict(figures))
        if self.skipped_in_a_row <= self.config.max_skipped_steps:
            return
        words = (
            f"{self.skipped_in_a_row} steps in a row had a non-finite loss or gradient, the last "
            f"one at step {step}: {dict(figures)}. Lower train.optimizer.lr, lengthen its warm-up "
            "or train in 32-true"
        )
        if self.checkpoints is not None:
            evidence = {
                "images": [batch.images for batch in group],
                "image_names": [batch.image_names for batch in group],
                "phase": phase.model_dump(),
                "figures": dict(figures),
            }
            dump = self.checkpoints.dump(f"diverged-{step:09d}", {**self._state(), **evidence})
            words += f"; weights and batch are in {dump}"
        raise DivergenceError(words)

    def _close_epoch(self, row: HistoryRow, pace: Pace) -> None:
        """Validate if due, keep the best weights, report; `row` is complete afterwards."""
        epoch = int(row["epoch"])
        is_due = epoch % self.config.validate_every_epochs == 0 or epoch == self.config.epochs
        if is_due:
            with self.clock.during("validation"):
                row |= self._validate()
            if not self.best or row["AP"] >= self.best["AP"]:
                self._keep_best(epoch, row["AP"])
        self.history.append(row)
        for reporter in self.callbacks.reporters:
            reporter.log_metrics(self.position.step, {**row, **pace.metrics()})
        if is_due:
            self._save()

    def _keep_best(self, epoch: int, ap: float) -> None:
        """Copy the averaged weights, into the former copy where there is one.

        A second copy beside it, once per epoch, leaves holes that the allocator gives back late.
        """
        present = self.ema.model.state_dict()
        weights = self.best.get("weights") or {name: t.clone() for name, t in present.items()}
        for name, tensor in weights.items():
            tensor.copy_(present[name])
        self.best = {"epoch": epoch, "AP": ap, "weights": weights}

    def _validate(self) -> dict[str, float]:
        """Metrics of the averaged weights, from the first process."""
        metrics: dict[str, float] = {}
        if self.fabric.is_global_zero:
            metrics = dict(self.callbacks.validate(self.ema.model))
        received: dict[str, float] = self.fabric.broadcast(metrics)
        return received

    def _save_if_due(self) -> None:
        is_stopping = self._is_stopping()
        if is_stopping or self.position.step % self.config.checkpoint_every_steps == 0:
            self._save()
        if is_stopping:
            raise TrainingInterrupted(f"stopped at step {self.position.step}; it can be continued")

    def _is_stopping(self) -> bool:
        """Whether any process was asked to stop: all of them leave after the same step."""
        asked = self.callbacks.should_stop()
        if self.fabric.world_size == 1:
            return asked
        votes = torch.tensor(float(asked), device=self.fabric.device)
        return bool(self.fabric.all_reduce(votes, reduce_op="sum"))

    def _save(self) -> None:
        if self.checkpoints is not None:
            with self.clock.during("checkpoint"):
                self.checkpoints.save(Checkpoint(self.position, self._state()))

    def _state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "history": self.history,
            "sums": self.sums,
            "best": self.best,
            "skipped": self.skipped,
            "skipped_in_a_row": self.skipped_in_a_row,
            "seconds": self.clock.seconds(),
        }

    @property
    def _scales_loss(self) -> bool:
        return self.config.precision == "16-mixed"


def _step_figures(position: Position, figures: Mapping[str, float], pace: Pace) -> StepFigures:
    hidden = ("loss", "steps")
    return StepFigures(
        step=position.step,
        epoch=position.epoch,
        loss=figures.get("loss", math.nan),
        terms={name: value for name, value in figures.items() if name not in hidden},
        images_per_s=pace.images_per_s(),
        data_wait=pace.data_wait(),
    )


def _accumulation(config: TrainConfig, world_size: int) -> int:
    """Micro-batches per process and optimiser step."""
    at_once = config.micro_batch * world_size
    if config.global_batch % at_once:
        raise ValueError(
            f"train.global_batch {config.global_batch} is not a multiple of micro_batch "
            f"{config.micro_batch} x {world_size} processes; change one of them"
        )
    return config.global_batch // at_once


def _num_steps(dataset: TrainingSet, epoch: int, config: TrainConfig) -> int:
    num_images = dataset.num_samples(epoch)
    steps = num_images // config.global_batch
    if not steps:
        raise ValueError(
            f"the training split has {num_images} images in epoch {epoch}, fewer than "
            f"train.global_batch {config.global_batch}; lower it"
        )
    return steps

"""Gradients of one global batch: its micro-batches placed, sized and accumulated."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from rtmo.data.multiscale import draw_size, resize_batch
from rtmo.training.memory import MicroBatchTooLargeError, is_out_of_memory, largest_below
from rtmo.training.step import Truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.fabric import Fabric
    from lightning.fabric.wrappers import _FabricModule
    from torch import Tensor

    from rtmo.data.loader import Batch
    from rtmo.training.config import Phase, TrainConfig
    from rtmo.training.step import TrainingStep


class Gradients:
    """Forward and backward passes of the processes of a run; knows nothing of the optimiser."""

    def __init__(
        self,
        fabric: Fabric,
        module: _FabricModule,
        step_module: TrainingStep,
        config: TrainConfig,
        multiscale: tuple[int, int] | None,
    ) -> None:
        """Take the parts of a run.

        Args:
            fabric: launched.
            module: `step_module` as Fabric wrapped it.
            step_module: model and criterion.
            config: the run.
            multiscale: smallest and largest input side drawn per step; None keeps the dataset's.
        """
        self._fabric = fabric
        self._module = module
        self._step_module = step_module
        self._config = config
        self._multiscale = multiscale

    def accumulate(self, group: Sequence[Batch], phase: Phase, step: int) -> dict[str, float]:
        """Leave the gradients of the mean loss over the micro-batches in the weights.

        Args:
            group: this process's micro-batches of one optimiser step.
            phase: losses and input size.
            step: optimiser steps before this one, for the input size.

        Returns:
            Means over all micro-batches of all processes: `loss`, every weighted term, and the
            number of positives.

        Raises:
            MicroBatchTooLargeError: naming the micro-batch that fits; no gradients are left.
        """
        side = self._side(phase, step)
        try:
            return self._accumulate(group, phase, side)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            words = str(error).strip().splitlines()[-1]
        # Outside the handler: the error keeps the tensors of the failed pass alive.
        self._step_module.zero_grad(set_to_none=True)
        attempt = partial(self._try, group[0], phase, side)
        found = largest_below(attempt, self._config.micro_batch)
        advice = (
            f"{found} fits: set train.micro_batch to that, the global batch of "
            f"{self._config.global_batch} is accumulated"
            if found
            else "not even one picture fits: use a smaller model or input_size"
        )
        raise MicroBatchTooLargeError(
            f"a micro-batch of {self._config.micro_batch} pictures does not fit into memory "
            f"({words}); {advice}"
        )

    def _accumulate(
        self, group: Sequence[Batch], phase: Phase, side: int | None
    ) -> dict[str, float]:
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(group):
            placed = self._place(batch, side)
            is_last = index == len(group) - 1
            with self._fabric.no_backward_sync(self._module, enabled=not is_last):
                total, figures = self._module(placed.images, Truth(placed.targets, phase.loss))
                self._fabric.backward(total / len(group))
            for name, value in {"loss": total.detach(), **figures}.items():
                sums[name] = sums.get(name, 0.0) + value / len(group)
        means = self._fabric.all_reduce(torch.stack(list(sums.values())), reduce_op="mean")
        assert isinstance(means, torch.Tensor)
        return dict(zip(sums, means.tolist(), strict=True))

    def _try(self, batch: Batch, phase: Phase, side: int | None, count: int) -> None:
        """Forward and backward on the first pictures of a batch, in this process alone."""
        placed = self._place(batch, side)
        truth = Truth(placed.targets.first(count), phase.loss)
        with self._fabric.autocast():
            total, _ = self._step_module(placed.images[:count], truth)
        total.backward()
        self._step_module.zero_grad(set_to_none=True)

    def _place(self, batch: Batch, side: int | None) -> Batch:
        """The batch on the device, at the input size of its step."""
        device = self._fabric.device
        images = batch.images.to(device, non_blocking=True)
        placed = replace(batch, images=images, targets=batch.targets.to(str(device)))
        return placed if side is None else resize_batch(placed, side)

    def _side(self, phase: Phase, step: int) -> int | None:
        """Input side of a step; None keeps the loader's.

        Multi-scale begins with the second step, as published (SPEC section 5.5).
        """
        if phase.input_size is not None:
            return phase.input_size
        if self._multiscale is None or step == 0:
            return None
        return draw_size(self._config.seed, step, self._multiscale)

"""Exponential moving average of the weights (SPEC section 5.3)."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

if TYPE_CHECKING:
    from rtmo.training.config import EmaConfig

ModelT = TypeVar("ModelT", bound=nn.Module)


def ema_momentum(step: int, config: EmaConfig) -> float:
    """Share of the new weights taken up after 0-based step `step`.

    m = (1 - momentum) exp(-(1 + step) / gamma) + momentum: near 1 at first, so that the average
    forgets the initial weights, falling to `momentum`.

    Example:
        >>> from rtmo.training.config import EmaConfig
        >>> round(ema_momentum(0, EmaConfig()), 4), round(ema_momentum(50_000, EmaConfig()), 4)
        (0.9995, 0.0002)
    """
    return (1 - config.momentum) * math.exp(-(1 + step) / config.gamma) + config.momentum


class Ema(Generic[ModelT]):
    """The averaged twin of a model.

    `model` is a copy in evaluation mode; parameters and float buffers (batch-norm statistics) are
    averaged, integer buffers keep the value they have after the first step.
    """

    def __init__(self, source: ModelT, config: EmaConfig) -> None:
        self.model = copy.deepcopy(source).eval().requires_grad_(requires_grad=False)
        self._config = config
        self._ours = _tensors(self.model)
        self._theirs = _tensors(source)
        floating = [tensor.is_floating_point() for tensor in self._ours]
        self._our_floats = [t for t, wanted in zip(self._ours, floating, strict=True) if wanted]
        self._their_floats = [t for t, wanted in zip(self._theirs, floating, strict=True) if wanted]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the source's weights after optimiser step `step` (0-based, step 0 copies)."""
        if step == 0:
            for ours, theirs in zip(self._ours, self._theirs, strict=True):
                ours.copy_(theirs)
            return
        decay = 1 - ema_momentum(step, self._config)
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        average(self._our_floats, self._their_floats, step)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*(parameter.detach() for parameter in model.parameters()), *model.buffers()]

"""AdamW's parameter groups and the learning-rate curve (SPEC sections 5.1 and 5.2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from rtmo.training.config import CosineSegment, OptimizerConfig

ENCODER_PREFIX = "neck.encoder."
"""Parameters below this name learn at `encoder_lr_factor` times the base rate."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm, nn.LayerNorm)


def parameter_settings(model: nn.Module, config: OptimizerConfig) -> dict[str, tuple[float, float]]:
    """Base learning rate and weight decay of every parameter, by its name.

    No weight decay on parameters of norm layers and on those named exactly `bias`; so the
    attention's `in_proj_bias` and the gated attention unit's own scales and offsets do decay, as
    in the published recipe.
    """
    settings = {}
    for module_name, module in model.named_modules():
        for leaf, _ in module.named_parameters(recurse=False):
            name = f"{module_name}.{leaf}" if module_name else leaf
            factor = config.encoder_lr_factor if name.startswith(ENCODER_PREFIX) else 1.0
            exempt = leaf == "bias" or isinstance(module, _NORMS)
            settings[name] = (config.lr * factor, 0.0 if exempt else config.weight_decay)
    return settings


def build_optimizer(model: nn.Module, config: OptimizerConfig, *, fused: bool) -> torch.optim.AdamW:
    """AdamW with one group per distinct (rate, decay).

    Each group keeps its base rate as `initial_lr`, which `set_learning_rate` reads.

    Args:
        model: its parameters, already on their device.
        config: rates and decay.
        fused: one kernel for all tensors, 2.7 times as fast on a CPU; Fabric cannot clip
            gradients of a fused optimiser under fp16 loss scaling.
    """
    parameters = dict(model.named_parameters())
    members: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, setting in parameter_settings(model, config).items():
        members.setdefault(setting, []).append(parameters[name])
    groups = [
        {"params": tensors, "lr": lr, "initial_lr": lr, "weight_decay": decay}
        for (lr, decay), tensors in members.items()
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8, fused=fused)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, step: int, steps_per_epoch: int, config: OptimizerConfig
) -> float:
    """Give every group its rate for 0-based optimiser step `step`; returns the main rate."""
    group: dict[str, Any]
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(group["initial_lr"], step, steps_per_epoch, config)
    return learning_rate(config.lr, step, steps_per_epoch, config)


def learning_rate(
    base_lr: float, step: int, steps_per_epoch: int, config: OptimizerConfig
) -> float:
    """The rate at one optimiser step: warm-up, then the cosine segments in order.

    Warm-up: base * ((step + 1) / W)^2 for the first W steps. A segment that begins at step b with
    period T goes from the rate r it finds there to `min_lr` + (r - min_lr) (1 + cos(pi t / T)) / 2
    with t = step - b, and stops at the last t before its end: the published curves never reach
    `min_lr` quite. `min_lr` is the same for all groups, so a group whose base rate equals it stays.

    Example:
        >>> from rtmo.training.config import CosineSegment, OptimizerConfig
        >>> half = CosineSegment(first_epoch=1, period_epochs=2, last_epoch=3)
        >>> config = OptimizerConfig(lr=1.0, min_lr=0.0, warmup_epochs=1, cosines=(half,))
        >>> [round(learning_rate(1.0, step, 2, config), 2) for step in range(7)]
        [0.25, 1.0, 1.0, 0.85, 0.5, 0.15, 0.15]

    Source: golden/lr_schedule.json, made by stepping the official schedulers.
    """
    warmup_steps = round(config.warmup_epochs * steps_per_epoch)
    rate = base_lr
    if step < warmup_steps:
        rate = base_lr * ((step + 1) / warmup_steps) ** 2
    for segment in config.cosines:
        rate = _after_segment(rate, segment, step, steps_per_epoch, config.min_lr)
    return rate


def _after_segment(
    rate: float, segment: CosineSegment, step: int, steps_per_epoch: int, min_lr: float
) -> float:
    first = round(segment.first_epoch * steps_per_epoch)
    last = round(segment.last_epoch * steps_per_epoch) - 1
    if step >= first - steps_per_epoch:
        rate *= segment.restart_factor
    if step < first:
        return rate
    phase = math.pi * (min(step, last) - first) / round(segment.period_epochs * steps_per_epoch)
    return min_lr + (rate - min_lr) * (1 + math.cos(phase)) / 2

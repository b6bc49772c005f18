"""Settings of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from rtmo._config import Config
from rtmo.losses.config import LossConfig


class Phase(Config):
    """What holds from `first_epoch` until the next phase begins (0-based epochs)."""

    first_epoch: int = Field(ge=0)
    """Epoch from which this phase holds."""
    pipeline: Literal["mosaic", "letterbox"] = "mosaic"
    """Input pipeline: SPEC's stage 1 or stage 2."""
    input_size: int | None = Field(None, ge=64, multiple_of=32)
    """Side of the training inputs, pixels; None takes the model's, or what multi-scale draws. A
    smaller one at first sees more pictures in the same time (docs/experiments.md)."""
    loss: LossConfig = LossConfig()
    """Loss weights and targets."""


class CosineSegment(Config):
    """One cosine of the learning-rate curve (SPEC section 5.2)."""

    first_epoch: float = Field(ge=0)
    """Epoch at which the cosine begins."""
    period_epochs: float = Field(gt=0)
    """T_max, epochs."""
    last_epoch: float = Field(gt=0)
    """Epoch at which it ends; the rate then stays."""
    restart_factor: float = Field(1.0, gt=0)
    """The rate is multiplied by this once, one epoch before the segment begins; 1 leaves it."""


class OptimizerConfig(Config):
    """AdamW and its learning-rate curve."""

    lr: float = Field(4e-3, gt=0)
    """Base learning rate at the global batch size."""
    encoder_lr_factor: float = Field(0.05, gt=0)
    """Factor for the transformer encoder of the neck."""
    weight_decay: float = Field(0.05, ge=0)
    """Not applied to norms and biases."""
    clip_norm: float = Field(0.1, gt=0)
    """Largest L2 norm of the gradient."""
    warmup_epochs: float = Field(5, ge=0)
    """Quadratic warm-up, epochs."""
    min_lr: float = Field(2e-4, ge=0)
    """eta_min of every cosine, for every parameter group."""
    cosines: tuple[CosineSegment, ...] = ()
    """Cosine segments in order."""


class EmaConfig(Config):
    """Exponential moving average of the weights (SPEC section 5.3)."""

    momentum: float = Field(2e-4, gt=0, lt=1)
    """Final momentum."""
    gamma: float = Field(2000, gt=0)
    """Steps over which the momentum falls to its final value."""


class TrainConfig(Config):
    """One training run."""

    seed: int = Field(0, ge=0)
    """All randomness is a function of this, the epoch and the sample index or step."""
    epochs: int = Field(gt=0)
    """Passes over the training split."""
    micro_batch: int = Field(gt=0)
    """Images per forward pass and device."""
    global_batch: int = Field(gt=0)
    """Images per optimiser step over all devices; a multiple of micro_batch."""
    processes: int = Field(1, gt=0)
    """Training processes on this host, each with its own device: one per GPU. Each takes its share
    of the global batch; norms see the micro-batches of their own process."""
    workers: int = Field(0, ge=0)
    """Loader processes of each training process."""
    loader_stall_s: float = Field(600, gt=0)
    """Seconds without a batch after which the loader counts as stuck and the training ends."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Lightning Fabric's precision."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a GPU when there is one."""
    compile: Literal["off", "per_size"] = "off"
    """Whether torch.compile makes the network's kernels, one set for each input size that a run
    meets. docs/training.md says when that pays."""
    batch_norm: Literal["local", "synchronised"] = "local"
    """Whose pictures the norms of backbone, neck and head see in training: those of their own
    process, as published, or those of all processes, which needs GPUs and more than one process.
    The norm of the coordinate classifier stays local: a process may have no positives for it."""
    algorithms: Literal["fastest", "deterministic"] = "fastest"
    """Which kernels a GPU may take. The deterministic ones give the same bits again and are slower;
    an operation that has none is an error. On a CPU the bits are the same either way."""
    cpu_threads: int = Field(2, gt=0)
    """Threads of the CPU kernels; runs on a CPU give the same bits only at the same number."""
    max_skipped_steps: int = Field(10, ge=0)
    """Consecutive steps with a non-finite loss or gradient that are skipped; one more stops."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """AdamW and the learning-rate curve."""
    ema: EmaConfig = EmaConfig()
    """Moving average of the weights, used for validation and release."""
    phases: tuple[Phase, ...] = (Phase(first_epoch=0),)
    """Regimes in order of epoch; the first begins at 0."""
    validate_every_epochs: int = Field(gt=0)
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_every_steps: int = Field(gt=0)
    """Optimiser steps between resume checkpoints."""
    checkpoint_store: str | None = Field(None, pattern=r"^[a-z0-9+.-]+://[^@]+$")
    """URL of an existing bucket or folder that also gets the checkpoints (`s3://bucket/runs`), so
    that another machine can go on; null keeps them on this one. Secrets come from the
    environment."""
    resume_from: str | None = None
    """Stage hash of another run to continue on purpose; None continues this run only."""
    classifier_init: Literal["published", "calm"] = "published"
    """How the coordinate classifier is drawn; calm is for training without pre-trained weights."""
    init_weights: str | None = None
    """Weights file, or name of a published model, to start from; its keypoints may be others. None
    starts from the documented initialisation."""
    init_weights_sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """Of that file, so that other content is another training. None for a published model, whose
    checksum the catalogue has."""

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if self.global_batch % self.micro_batch:
            raise ValueError(
                f"global_batch {self.global_batch} is not a multiple of micro_batch "
                f"{self.micro_batch}"
            )
        is_file = self.init_weights is not None and Path(self.init_weights).suffix != ""
        if is_file != (self.init_weights_sha256 is not None):
            raise ValueError(
                f"init_weights is {self.init_weights!r} and init_weights_sha256 "
                f"{self.init_weights_sha256!r}; a file needs its hash (`sha256sum FILE` prints "
                "it), a published model or null has none"
            )
        firsts = [phase.first_epoch for phase in self.phases]
        if not firsts or firsts[0] != 0 or firsts != sorted(set(firsts)):
            raise ValueError(
                f"phases must begin at epoch 0 and have increasing first_epoch, got {firsts}"
            )
        return self

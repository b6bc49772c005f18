"""Where a training runs: Lightning Fabric from the settings and, with several processes, torchrun.

One process per device. `torchrun` starts them and says so in the environment; without it there is
one process on one device.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from torch import nn

from rtmo.malloc import keep_freed_memory

if TYPE_CHECKING:
    from rtmo.model.rtmo import RTMO
    from rtmo.training.config import TrainConfig


def build_fabric(config: TrainConfig) -> Fabric:
    """Fabric for the wished device and precision.

    Sets torch's thread count for the CPU: it decides in which order sums are taken, hence the bits
    of the result; and whether torch may take kernels that are not deterministic.

    Raises:
        ValueError: if a GPU is asked for and none is there, or there are more processes than GPUs,
            or fp16 on a CPU, which Fabric would silently turn into bf16, or norms are to be
            synchronised on CPUs or in one process.
    """
    accelerator = _accelerator(config)
    _choose_algorithms(config)
    if accelerator == "cpu":
        torch.set_num_threads(config.cpu_threads)
        keep_freed_memory()
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return Fabric(accelerator=accelerator, devices=1, precision=config.precision)
    processes = int(os.environ["LOCAL_WORLD_SIZE"])
    gpus = torch.cuda.device_count()
    if accelerator == "cuda" and processes > gpus:
        raise ValueError(
            f"train.processes is {processes}, but this host has {gpus} GPU(s); set it to that "
            "number, the global batch is accumulated"
        )
    # Local statistics of batch norms stay those of their process; synchronised ones are equal.
    return Fabric(
        accelerator=accelerator,
        devices=processes,
        num_nodes=int(os.environ["GROUP_WORLD_SIZE"]),
        precision=config.precision,
        strategy=DDPStrategy(broadcast_buffers=False),
    )


def synchronise_norms(model: RTMO) -> None:
    """Let the norms of backbone, neck and head see the pictures of all processes, in place.

    Weights keep their names, and a copy in evaluation mode computes what it did.
    """
    for part in (model.backbone, model.neck, model.head):
        # Replaces what lies within; torch has no types here.
        nn.SyncBatchNorm.convert_sync_batchnorm(part)  # type: ignore[no-untyped-call]


def _choose_algorithms(config: TrainConfig) -> None:
    is_exact = config.algorithms == "deterministic"
    if is_exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(is_exact)


def _accelerator(config: TrainConfig) -> str:
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ValueError("train.device is cuda, but torch sees no GPU here; set it to auto or cpu")
    accelerator = "cuda" if config.device != "cpu" and has_cuda else "cpu"
    if accelerator == "cpu" and config.precision == "16-mixed":
        raise ValueError("train.precision 16-mixed needs a GPU; use bf16-mixed or 32-true on a CPU")
    if config.batch_norm == "synchronised" and (accelerator == "cpu" or config.processes == 1):
        raise ValueError(
            f"train.batch_norm synchronised needs several processes on GPUs, here are "
            f"{config.processes} on {accelerator}; use local"
        )
    return accelerator

"""One forward pass to one loss, as a module: what DDP wraps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rtmo.losses.config import LossConfig
    from rtmo.losses.criterion import Criterion
    from rtmo.model.rtmo import RTMO
    from rtmo.structures import TargetBatch

COMPILED_SIZES = 64
"""Input sizes a run may meet; beyond torch's own limit of 8 the rest would silently run eager."""


class Truth:
    """What a forward pass is compared with, and how.

    A plain class on purpose: under mixed precision Fabric walks through every dataclass, list and
    dict given to a module and rounds float tensors to 16 bits, which moves keypoints by pixels.
    """

    __slots__ = ("loss", "targets")

    def __init__(self, targets: TargetBatch, loss: LossConfig) -> None:
        self.targets = targets
        self.loss = loss


class TrainingStep(nn.Module):
    """Model and criterion behind one `forward`."""

    def __init__(self, model: RTMO, criterion: Criterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion

    def forward(self, images: Tensor, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of a batch.

        Args:
            images: (B, 3, H, W) uint8, BGR; uint8 because Fabric would round floats to 16 bits.
            truth: targets in input pixels and the loss settings of the phase.

        Returns:
            The weighted total with its graph, and detached figures: every weighted term and the
            number of positives.
        """
        raw = self.model(images.to(torch.float32, memory_format=torch.channels_last))
        losses = self.criterion(raw, truth.targets, self.model.dcc, truth.loss)
        figures = {name: term.detach() for name, term in losses.terms.items()}
        figures["num_positives"] = torch.as_tensor(
            losses.num_positives, dtype=torch.float32, device=images.device
        )
        return losses.total, figures


def compile_forward(model: RTMO, policy: Literal["off", "per_size"]) -> None:
    """Let torch.compile make the kernels of `model(images)`, in place.

    Names of weights stay, and a copy made before or after is an ordinary model. The losses stay
    eager: their shapes change with the number of people.

    Args:
        model: on its device, in its memory format.
        policy: `train.compile`.
    """
    if policy == "per_size":
        from torch._dynamo import config  # loads the compiler: seconds

        # Before torch 2.13 there is only this limit, of the whole process.
        config.recompile_limit = COMPILED_SIZES
        model.compile(dynamic=False)

"""Which regime holds in an epoch (SPEC section 5.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtmo.training.config import Phase


def phase_at(phases: tuple[Phase, ...], epoch: int) -> Phase:
    """The last phase whose `first_epoch` is not after `epoch`.

    The answer follows from the epoch alone, never from having passed through an earlier epoch:
    a run resumed behind a switch is in the same phase as one that was never interrupted.

    Args:
        phases: by rising `first_epoch`, the first at 0 (TrainConfig checks it).
        epoch: 0-based.

    Example:
        >>> from rtmo.training.config import Phase
        >>> phases = (Phase(first_epoch=0), Phase(first_epoch=280, pipeline="letterbox"))
        >>> [phase_at(phases, epoch).pipeline for epoch in (0, 279, 280, 599)]
        ['mosaic', 'mosaic', 'letterbox', 'letterbox']
    """
    return next(phase for phase in reversed(phases) if phase.first_epoch <= epoch)

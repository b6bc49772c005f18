"""Which micro-batch fits into memory, found by trying."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable


class MicroBatchTooLargeError(RuntimeError):
    """A step did not fit into memory; the message names the micro-batch that does."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the device's or the host's memory ran out, however torch words it."""
    words = str(error)
    return (
        isinstance(error, (torch.OutOfMemoryError, MemoryError))
        or "can't allocate memory" in words  # torch's own CPU allocator
        or "std::bad_alloc" in words
    )


def fits(step: Callable[[int], object], micro_batch: int) -> bool:
    """Whether `step` on so many pictures ends without running out of memory."""
    try:
        step(micro_batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return True


def largest_below(step: Callable[[int], object], micro_batch: int) -> int | None:
    """Half of a micro-batch that did not fit, or a quarter, ...: the first that fits.

    Args:
        step: forward and backward pass on so many pictures; leaves nothing behind.
        micro_batch: the one that did not fit.

    Returns:
        A divisor of `micro_batch`, so that the global batch stays; None if not even one fits.
    """
    smaller = micro_batch
    while smaller % 2 == 0:
        smaller //= 2
        if fits(step, smaller):
            return smaller
    return 1 if smaller > 1 and fits(step, 1) else None

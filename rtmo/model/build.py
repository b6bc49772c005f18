"""A model ready to train, from two choices."""

from __future__ import annotations

from rtmo.model.config import Size
from rtmo.model.initialisation import initialise
from rtmo.model.rtmo import RTMO
from rtmo.skeleton import COCO17, Skeleton


def build_rtmo(size: Size, skeleton: Skeleton = COCO17) -> RTMO:
    """RTMO with random weights drawn from torch's global generator (SPEC section 2.6).

    Example:
        >>> sum(p.numel() for p in build_rtmo("s").parameters())
        9868899
    """
    model = RTMO(size, skeleton)
    initialise(model)
    return model

"""Another input size for every training step.

Source: SPEC section 5.5 (model preprocess); mmpose BatchSyncRandomResize.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from rtmo.data.loader import Batch
from rtmo.data.randomness import Purpose, generator

STEP = 32


def draw_size(seed: int, step: int, sizes: tuple[int, int]) -> int:
    """Input side of an optimiser step: a multiple of 32 in the closed range.

    Example:
        >>> draw_size(0, 5, (320, 320))
        320
    """
    low, high = sizes
    rng = generator(Purpose.INPUT_SIZE, seed, step)
    return STEP * int(rng.integers(low // STEP, high // STEP, endpoint=True))


def resize_batch(batch: Batch, size: int) -> Batch:
    """The batch at input side `size`: images bilinear, targets scaled alike, areas squared."""
    side = batch.images.shape[-1]
    if side == size:
        return batch
    scale = size / side
    images = F.interpolate(
        batch.images.float(), size=(size, size), mode="bilinear", align_corners=False
    )
    targets = batch.targets
    mask = targets.ignore_mask
    if mask is not None:
        mask = F.interpolate(
            mask[:, None], size=(size, size), mode="bilinear", align_corners=False
        )[:, 0]
    return replace(
        batch,
        images=images.round().to(torch.uint8),
        targets=replace(
            targets,
            boxes_xyxy=targets.boxes_xyxy * scale,
            keypoints_xy=targets.keypoints_xy * scale,
            areas=targets.areas * scale**2,
            ignore_mask=mask,
        ),
    )

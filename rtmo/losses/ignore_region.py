"""How much each prior counts where the picture has regions to ignore (crowds, unlabelled people).

Shapes: B images, N priors, K keypoints, H W input size.
Source: SPEC section 4, "Ignore mask".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_VISIBILITY = 0.3
"""Proxy keypoints predicted less visible than this do not place the prior's pose."""
COUNT_FLOOR = 1e-8


@torch.no_grad()
def prior_weights(
    proxy_keypoints_xy: Tensor, visibility_logits: Tensor, ignore_mask: Tensor
) -> Tensor:
    """1 minus the mask at the centre of each prior's proxy pose, without gradient.

    The official code normalises both coordinates by the width; this one uses each axis' own size,
    which is the same on its square inputs (docs/decisions/ignore-mask-axes.md).

    Args:
        proxy_keypoints_xy: (B, N, K, 2), input pixels.
        visibility_logits: (B, N, K).
        ignore_mask: (B, H, W), 1.0 inside regions to ignore.

    Returns:
        (B, N) in [0, 1].
    """
    is_visible = (visibility_logits.sigmoid() > MIN_VISIBILITY).float()[..., None]
    count = is_visible.sum(dim=-2).clamp(min=COUNT_FLOOR)
    centres = (proxy_keypoints_xy * is_visible).sum(dim=-2) / count  # (B, N, 2)
    height, width = ignore_mask.shape[-2:]
    last = centres.new_tensor((width - 1, height - 1))
    grid = (centres / last * 2 - 1)[:, :, None]  # (B, N, 1, 2)
    ignored = F.grid_sample(ignore_mask[:, None], grid, align_corners=False)
    return 1 - ignored[:, 0, :, 0]

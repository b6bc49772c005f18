"""Loss settings of one training phase."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rtmo._config import Config


class LossConfig(Config):
    """Weights of the loss terms and the choices that change between phases (SPEC section 4)."""

    cls: float = Field(1.0, ge=0)
    """Weight of the varifocal classification loss."""
    bbox: float = Field(5.0, ge=0)
    """Weight of the squared-IoU box loss."""
    bbox_l1: float = Field(0.0, ge=0)
    """Weight of the L1 loss on raw box outputs; 0 leaves it out."""
    vis: float = Field(1.0, ge=0)
    """Weight of the keypoint visibility loss."""
    oks: float = Field(30.0, ge=0)
    """Weight of the OKS loss on the proxy keypoints."""
    mle: float = Field(1.0, ge=0)
    """Weight of the coordinate classifier's likelihood loss."""
    overlap_power: float = Field(0.5, gt=0)
    """Exponent on OKS in the classification target."""
    proxy_target: Literal["ground_truth", "dcc"] = "ground_truth"
    """What the proxy branch learns from, and whose OKS the classification target uses."""
    assign_centre: Literal["box", "keypoints"] = "keypoints"
    """Where the assigner's centre square lies: around the box's centre, or around the mean of the
    labelled keypoints (published t and s on COCO and the merged sets; box for all others)."""
    min_priors: int = Field(1, ge=1, le=10)
    """Priors that each person gets at least; the published recipes have 1. More gives a model
    without pre-trained backbone something to learn from while its OKS is still near 0."""
    sigma_scale: float = Field(1.0, gt=0)
    """Factor on the sigmas of OKS in assignment and losses; published 1. Above 1, keypoints that
    are still far off have a gradient."""

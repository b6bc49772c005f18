"""The six loss terms of RTMO, unweighted, per element; `criterion` reduces and weights them.

Shapes: B images, N priors, P positives, K keypoints. Pixels are network-input pixels. float32.
Source: SPEC section 4.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rtmo.boxes import paired_iou, xyxy_to_centre_size
from rtmo.model.dcc import CoordinateDistributions
from rtmo.oks import keypoint_similarity

VARIFOCAL_ALPHA = 0.75
POSITIVE_QUALITY = 1e-4
"""A prior whose target is above this counts as positive in the varifocal weight."""
MAX_LOGIT = 10.0
IOU_FLOOR = 1e-16
LOG_SIZE_FLOOR = 1e-8
SIGMA_FLOOR = 1e-3
AREA_ROOT_FLOOR_PX = 1.0
LIKELIHOOD_FLOOR = 1e-4


def cls_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Varifocal loss against the positives' overlap: weight * BCE(clip(x, 10), q).

    The weight is q for positives and 0.75 * sigmoid(x)^2 for the others, and not detached.

    Args:
        logits: x, (B, N).
        quality: q, (B, N): overlap to the configured power; 0 for negatives.

    Returns:
        (B, N); what is not finite counts 0.
    """
    is_negative = (quality <= POSITIVE_QUALITY).float()
    weight = VARIFOCAL_ALPHA * logits.sigmoid().square() * is_negative + quality
    clipped = logits.clamp(-MAX_LOGIT, MAX_LOGIT)
    loss = F.binary_cross_entropy_with_logits(clipped, quality, reduction="none") * weight
    return torch.where(loss.isfinite(), loss, 0.0)


def bbox_loss(boxes_xyxy: Tensor, gt_boxes_xyxy: Tensor) -> Tensor:
    """1 - IoU^2 of each positive, (P, 4), (P, 4) -> (P,); the plain IoU."""
    iou = paired_iou(boxes_xyxy, gt_boxes_xyxy)
    return 1 - iou.clamp(min=IOU_FLOOR).square()


def bbox_l1_loss(
    boxes_raw: Tensor, gt_boxes_xyxy: Tensor, priors_xy: Tensor, strides: Tensor
) -> Tensor:
    """|raw - target| summed over the four numbers of each positive.

    Args:
        boxes_raw: (P, 4), (dx, dy, log w, log h) in strides.
        gt_boxes_xyxy: (P, 4).
        priors_xy: (P, 2).
        strides: (P,).

    Returns:
        (P,).
    """
    centre, size = xyxy_to_centre_size(gt_boxes_xyxy)
    offsets = (centre - priors_xy) / strides[:, None]
    log_sizes = (size / strides[:, None] + LOG_SIZE_FLOOR).log()
    return (boxes_raw - torch.cat((offsets, log_sizes), dim=-1)).abs().sum(dim=-1)


def visibility_loss(logits: Tensor, is_labelled: Tensor, is_annotated: Tensor) -> Tensor:
    """BCE of the visibility logits against "is labelled", 0 for joints the source never annotates.

    All (P, K). The official code has weight 1 everywhere: `is_annotated` all ones.
    """
    loss = F.binary_cross_entropy_with_logits(logits, is_labelled, reduction="none")
    return loss * is_annotated


def likelihood_loss(
    distributions: CoordinateDistributions,
    gt_keypoints_xy: Tensor,
    is_labelled: Tensor,
    gt_areas: Tensor,
) -> Tensor:
    """Negative log likelihood of the true position under the classifier, mean over keypoints.

    -ln(sum_b px_b Tx_b * sum_b py_b Ty_b + 1e-4), with T = exp(-d / (2 * a * s)) / s, d the
    distance of a bin to the truth in pixels, a = max(sqrt(area), 1), s = max(sigma, 1e-3). T is
    not normalised over bins; gradients reach the sigmas and, through the bins, the boxes.

    Args:
        distributions: of the P positives.
        gt_keypoints_xy: (P, K, 2).
        is_labelled: (P, K); other keypoints count 0.
        gt_areas: (P,).

    Returns:
        (P,).
    """
    sigmas = distributions.sigmas.clamp(min=SIGMA_FLOOR)[..., None]
    spread_px = 2 * gt_areas.sqrt().clamp(min=AREA_ROOT_FLOOR_PX)[:, None, None] * sigmas

    def mass(probabilities: Tensor, bins: Tensor, truth: Tensor) -> Tensor:
        distance_px = (truth[..., None] - bins[:, None]).abs()  # (P, K, bins)
        target = torch.exp(-distance_px / spread_px) / sigmas
        return (probabilities * target).sum(dim=-1)

    x_mass = mass(distributions.x_probabilities, distributions.x_bins, gt_keypoints_xy[..., 0])
    y_mass = mass(distributions.y_probabilities, distributions.y_bins, gt_keypoints_xy[..., 1])
    loss = -(x_mass * y_mass + LIKELIHOOD_FLOOR).log()
    return (torch.where(loss.isnan(), 0.0, loss) * is_labelled).mean(dim=-1)


def oks_loss(
    keypoints_xy: Tensor, target_xy: Tensor, weights: Tensor, gt_areas: Tensor, sigmas: Tensor
) -> Tensor:
    """1 - sum over keypoints of weight / K * similarity.

    Divided by K, not by the number of labelled keypoints: an unlabelled one adds the constant 1/K.

    Args:
        keypoints_xy: (P, K, 2).
        target_xy: (P, K, 2).
        weights: (P, K).
        gt_areas: (P,).
        sigmas: (K,).

    Returns:
        (P,).
    """
    similarity = keypoint_similarity(keypoints_xy, target_xy, gt_areas, sigmas)
    return 1 - (weights * similarity).mean(dim=-1)

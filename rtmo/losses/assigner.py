"""SimOTA: which prior learns which person. Batched over images; nothing here has a gradient.

Shapes: B images, N priors, G people (padded; see `TargetBatch`), K keypoints, P positives.
Source: SPEC section 3; mmpose/models/task_modules/assigners/sim_ota_assigner.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rtmo.boxes import pairwise_iou
from rtmo.oks import pairwise_oks
from rtmo.structures import RawOutputs, TargetBatch

CENTRE_RADIUS_STRIDES = 2.5
"""Half side of the square around a person's centre, in strides of the prior."""
OUTSIDE_COST = 1e5
"""Cost of a prior that is not both in the box and in the centre square of the person."""
IOU_COST, OKS_COST = 3.0, 3.0
LOG_FLOOR = 1e-7
"""Added to IoU and OKS before the logarithm."""
MAX_BCE = 100.0
"""torch's bound on the terms of a binary cross entropy."""
MAX_LOGIT = 1e4
MAX_PRIORS_PER_PERSON = 10
"""As many of the largest OKS are summed to say how many priors a person gets."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Where a person may be learnt at all."""

    is_candidate: Tensor
    """(B, N) bool: in the box or in the centre square of at least one person."""
    is_inside: Tensor
    """(B, N, G) bool: in the box and in the centre square of this person."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The positives, ordered by image and then by prior."""

    image_ids: Tensor
    """(P,)."""
    prior_ids: Tensor
    """(P,)."""
    person_ids: Tensor
    """(P,): index into the people of its image."""
    overlaps: Tensor
    """(P,): OKS of the proxy keypoints with the person."""

    def __len__(self) -> int:
        return len(self.image_ids)


@torch.no_grad()
def assign(
    raw: RawOutputs,
    targets: TargetBatch,
    sigmas: Tensor,
    centre: Literal["box", "keypoints"],
    min_priors: int = 1,
) -> Assignment:
    """Match people to priors.

    A person gets as many priors as its ten best OKS sum to (at least `min_priors`), the cheapest
    first. A prior that several people want keeps the one that is cheapest among all people of the
    image.

    Args:
        raw: what the network says.
        targets: the people; an image may have none.
        sigmas: (K,).
        centre: what the centre square surrounds: the box's centre or the labelled keypoints' mean.
        min_priors: priors a person gets at least; the published number is 1.
    """
    if targets.is_person.shape[1] == 0:
        nothing = torch.zeros(0, dtype=torch.long, device=sigmas.device)
        return Assignment(nothing, nothing, nothing, nothing.float())
    candidates = find_candidates(raw.priors_xy, raw.strides, targets, centre)
    overlaps = pairwise_oks(
        raw.proxy_keypoints_xy,
        targets.keypoints_xy,
        targets.is_labelled,
        targets.areas,
        sigmas,
    )
    cost = matching_cost(raw, targets, candidates, overlaps)
    is_possible = candidates.is_candidate[..., None] & targets.is_person[:, None]
    is_match = match(cost, overlaps, is_possible, min_priors)
    image_ids, prior_ids = is_match.any(dim=-1).nonzero(as_tuple=True)
    person_ids = is_match[image_ids, prior_ids].long().argmax(dim=-1)
    return Assignment(image_ids, prior_ids, person_ids, overlaps[image_ids, prior_ids, person_ids])


def find_candidates(
    priors_xy: Tensor,
    strides: Tensor,
    targets: TargetBatch,
    centre: Literal["box", "keypoints"],
) -> Candidates:
    """Priors strictly inside a box or a centre square; padding people have neither."""
    boxes = targets.boxes_xyxy[:, None]  # (B, 1, G, 4)
    points = priors_xy[:, None]  # (N, 1, 2)
    in_box = ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(dim=-1)
    radius = (CENTRE_RADIUS_STRIDES * strides)[:, None, None]
    centres = _centres(targets, centre)[:, None]  # (B, 1, G, 2)
    in_square = ((points > centres - radius) & (points < centres + radius)).all(dim=-1)
    in_box = in_box & targets.is_person[:, None]
    in_square = in_square & targets.is_person[:, None]
    return Candidates((in_box | in_square).any(dim=-1), in_box & in_square)


def _centres(targets: TargetBatch, centre: Literal["box", "keypoints"]) -> Tensor:
    """(B, G, 2). A person without a labelled keypoint falls back to its box."""
    box_centres = (targets.boxes_xyxy[..., :2] + targets.boxes_xyxy[..., 2:]) / 2
    if centre == "box":
        return box_centres
    labelled = targets.is_labelled[..., None]
    count = labelled.sum(dim=-2)
    means = (targets.keypoints_xy * labelled).sum(dim=-2) / count.clamp(min=1)
    return torch.where(count > 0, means, box_centres)


def matching_cost(
    raw: RawOutputs, targets: TargetBatch, candidates: Candidates, overlaps: Tensor
) -> Tensor:
    """Cost (B, N, G) of every prior for every person.

    1e5 outside + 3 * -ln(IoU) + 3 * -ln(OKS) - ln(p), with p the square root of the class score.
    The terms are added in this order: beside 1e5 the order decides the last digits.
    """
    logits = raw.cls_logits.nan_to_num(nan=0.0).clamp(-MAX_LOGIT, MAX_LOGIT)
    cls_cost = -logits.sigmoid().sqrt().log().clamp(min=-MAX_BCE)
    iou = pairwise_iou(raw.boxes_xyxy, targets.boxes_xyxy)
    cost = (~candidates.is_inside) * OUTSIDE_COST
    cost = cost - IOU_COST * (iou + LOG_FLOOR).log()
    cost = cost - OKS_COST * (overlaps + LOG_FLOOR).log()
    return cost + cls_cost[..., None]


def match(cost: Tensor, overlaps: Tensor, is_possible: Tensor, min_priors: int = 1) -> Tensor:
    """The matching (B, N, G) bool, at most one person per prior.

    Args:
        cost: (B, N, G).
        overlaps: (B, N, G), OKS.
        is_possible: (B, N, G) bool: a candidate prior and a person that exists.
        min_priors: priors a person gets at least, where it has as many candidates.
    """
    cost = cost.masked_fill(~is_possible, torch.inf)
    overlaps = overlaps.masked_fill(~is_possible, 0.0)
    ranks = min(MAX_PRIORS_PER_PERSON, cost.shape[1])
    num_priors = overlaps.topk(ranks, dim=1).values.sum(dim=1).int().clamp(min=min_priors)  # (B, G)
    cheapest = cost.topk(ranks, dim=1, largest=False)
    rank = torch.arange(ranks, device=cost.device)[:, None]
    is_taken = (rank < num_priors[:, None]) & cheapest.values.isfinite()
    is_match = torch.zeros_like(is_possible).scatter_(1, cheapest.indices, is_taken)
    best_person = torch.zeros_like(is_possible).scatter_(
        2, cost.argmin(dim=-1, keepdim=True), value=True
    )
    is_contested = is_match.sum(dim=-1, keepdim=True) > 1
    return torch.where(is_contested, best_person, is_match)

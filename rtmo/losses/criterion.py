"""The training loss: assign, gather the positives, score them with the six terms, weight and add.

Shapes: B images, N priors, P positives, K keypoints.
Source: SPEC section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor, nn

from rtmo.losses.assigner import Assignment, assign
from rtmo.losses.config import LossConfig
from rtmo.losses.ignore_region import prior_weights
from rtmo.losses.terms import (
    bbox_l1_loss,
    bbox_loss,
    cls_loss,
    likelihood_loss,
    oks_loss,
    visibility_loss,
)
from rtmo.model.dcc import CoordinateDistributions, DynamicCoordinateClassifier
from rtmo.oks import paired_oks
from rtmo.skeleton import Skeleton
from rtmo.structures import RawOutputs, TargetBatch


@dataclass(frozen=True, slots=True)
class Losses:
    """The loss of one batch."""

    total: Tensor
    """Scalar with gradient: the sum of the terms."""
    terms: dict[str, Tensor]
    """Weighted scalars: cls, bbox, bbox_l1, vis, mle, oks."""
    num_positives: int
    """P of this batch, on this device."""


@dataclass(frozen=True, slots=True)
class _Positives:
    """Predictions and truth of the P positives, row by row."""

    boxes_raw: Tensor
    boxes_xyxy: Tensor
    proxy_keypoints_xy: Tensor
    visibility_logits: Tensor
    pose_vectors: Tensor
    priors_xy: Tensor
    strides: Tensor
    gt_boxes_xyxy: Tensor
    gt_keypoints_xy: Tensor
    is_labelled: Tensor
    is_annotated: Tensor
    gt_areas: Tensor


class Criterion(nn.Module):
    """The loss for one skeleton; what changes between phases comes as a `LossConfig`."""

    sigmas: Tensor

    def __init__(self, skeleton: Skeleton) -> None:
        super().__init__()
        self.register_buffer("sigmas", torch.tensor(skeleton.sigmas), persistent=False)

    def forward(
        self,
        raw: RawOutputs,
        targets: TargetBatch,
        dcc: DynamicCoordinateClassifier,
        config: LossConfig,
    ) -> Losses:
        """Score a batch; always in float32, whatever the network ran in.

        A batch without positives has the loss of its negatives, and every other branch takes part
        with weight zero (docs/decisions/batches-with-few-positives.md).
        """
        with torch.autocast(raw.cls_logits.device.type, enabled=False):
            sigmas = self.sigmas * config.sigma_scale
            assignment = assign(raw, targets, sigmas, config.assign_centre, config.min_priors)
            normaliser = max(_mean_over_ranks(len(assignment), raw.cls_logits.device), 1.0)
            positives = _gather(raw, targets, assignment)
            poses = dcc(positives.pose_vectors, positives.boxes_xyxy, positives.priors_xy)
            terms = self._positive_terms(positives, poses, normaliser, config)
            if len(assignment) == 0:
                terms = {name: 0.0 * term for name, term in terms.items()}
            quality = self._quality(raw, assignment, positives, poses, config)
            per_prior = cls_loss(raw.cls_logits, quality)
            if targets.ignore_mask is not None:
                per_prior = per_prior * prior_weights(
                    raw.proxy_keypoints_xy, raw.visibility_logits, targets.ignore_mask
                )
            terms["cls"] = config.cls * per_prior.sum() / normaliser
            return Losses(torch.stack(list(terms.values())).sum(), terms, len(assignment))

    def _positive_terms(
        self,
        positives: _Positives,
        poses: CoordinateDistributions,
        normaliser: float,
        config: LossConfig,
    ) -> dict[str, Tensor]:
        """Weighted terms of the positives: boxes per expected positive, the rest their mean."""
        boxes = bbox_loss(positives.boxes_xyxy, positives.gt_boxes_xyxy)
        boxes_l1 = bbox_l1_loss(
            positives.boxes_raw, positives.gt_boxes_xyxy, positives.priors_xy, positives.strides
        )
        visibility = visibility_loss(
            positives.visibility_logits, positives.is_labelled, positives.is_annotated
        )
        likelihood = likelihood_loss(
            poses, positives.gt_keypoints_xy, positives.is_labelled, positives.gt_areas
        )
        proxy_target, proxy_weights = _proxy_target(positives, poses, config)
        oks = oks_loss(
            positives.proxy_keypoints_xy,
            proxy_target,
            proxy_weights,
            positives.gt_areas,
            self.sigmas * config.sigma_scale,
        )
        return {
            "bbox": config.bbox * boxes.sum() / normaliser,
            "bbox_l1": config.bbox_l1 * boxes_l1.sum() / normaliser,
            "vis": config.vis * visibility.mean(),
            "mle": config.mle * likelihood.mean(),
            "oks": config.oks * oks.mean(),
        }

    @torch.no_grad()
    def _quality(
        self,
        raw: RawOutputs,
        assignment: Assignment,
        positives: _Positives,
        poses: CoordinateDistributions,
        config: LossConfig,
    ) -> Tensor:
        """Classification target (B, N): the positives' overlap to a power, 0 elsewhere."""
        quality = torch.zeros_like(raw.cls_logits)
        if len(assignment) == 0:
            return quality
        overlaps = assignment.overlaps
        if config.proxy_target == "dcc":
            overlaps = paired_oks(
                poses.keypoints_xy,
                positives.gt_keypoints_xy,
                positives.is_labelled,
                positives.gt_areas,
                self.sigmas * config.sigma_scale,
            )
        quality[assignment.image_ids, assignment.prior_ids] = overlaps**config.overlap_power
        return quality


def _proxy_target(
    positives: _Positives, poses: CoordinateDistributions, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Where the proxy keypoints should be (P, K, 2), and which of them learn (P, K).

    Learning from the classifier, only those that it places better than the proxy branch does.
    """
    if config.proxy_target == "ground_truth":
        return positives.gt_keypoints_xy, positives.is_labelled
    taught = poses.keypoints_xy.detach()
    proxy_error = _distance(positives.proxy_keypoints_xy.detach(), positives.gt_keypoints_xy)
    taught_error = _distance(taught, positives.gt_keypoints_xy)
    return taught, positives.is_labelled * (proxy_error > taught_error)


def _distance(a_xy: Tensor, b_xy: Tensor) -> Tensor:
    distance: Tensor = torch.linalg.vector_norm(a_xy - b_xy, dim=-1)
    return distance


def _gather(raw: RawOutputs, targets: TargetBatch, assignment: Assignment) -> _Positives:
    """The positives' rows; without positives, one row that stands in for them."""
    if len(assignment) == 0:
        return _stand_in(raw)
    image_ids, prior_ids = assignment.image_ids, assignment.prior_ids
    people = (image_ids, assignment.person_ids)
    return _Positives(
        boxes_raw=raw.boxes_raw[image_ids, prior_ids],
        boxes_xyxy=raw.boxes_xyxy[image_ids, prior_ids],
        proxy_keypoints_xy=raw.proxy_keypoints_xy[image_ids, prior_ids],
        visibility_logits=raw.visibility_logits[image_ids, prior_ids],
        pose_vectors=raw.pose_vectors[image_ids, prior_ids],
        priors_xy=raw.priors_xy[prior_ids],
        strides=raw.strides[prior_ids],
        gt_boxes_xyxy=targets.boxes_xyxy[people],
        gt_keypoints_xy=targets.keypoints_xy[people],
        is_labelled=targets.is_labelled[people],
        is_annotated=targets.is_annotated[people],
        gt_areas=targets.areas[people],
    )


def _stand_in(raw: RawOutputs) -> _Positives:
    """The first prior of the first image, with itself as its own truth and nothing labelled.

    It lets every branch take part in a batch without positives.
    """
    first = (slice(0, 1), 0)
    visibility = raw.visibility_logits[first]
    return _Positives(
        boxes_raw=raw.boxes_raw[first],
        boxes_xyxy=raw.boxes_xyxy[first],
        proxy_keypoints_xy=raw.proxy_keypoints_xy[first],
        visibility_logits=visibility,
        pose_vectors=raw.pose_vectors[first],
        priors_xy=raw.priors_xy[:1],
        strides=raw.strides[:1],
        gt_boxes_xyxy=raw.boxes_xyxy[first].detach(),
        gt_keypoints_xy=raw.proxy_keypoints_xy[first].detach(),
        is_labelled=torch.zeros_like(visibility),
        is_annotated=torch.zeros_like(visibility),
        gt_areas=torch.ones_like(visibility[:, 0]),
    )


def _mean_over_ranks(count: int, device: torch.device) -> float:
    """Mean number of positives over all training processes; `count` when there is only one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return float(count)
    total = torch.tensor(float(count), device=device)
    torch.distributed.all_reduce(total)
    return total.item() / torch.distributed.get_world_size()

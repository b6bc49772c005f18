"""From what every prior says to people: threshold, suppress, classify coordinates.

Shapes: B images, N priors, P people kept in one image, K keypoints.
Source: SPEC section 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rtmo.boxes import clip_boxes, greedy_nms
from rtmo.model.dcc import DynamicCoordinateClassifier
from rtmo.priors import input_size_wh
from rtmo.structures import RawOutputs


@dataclass(frozen=True, slots=True)
class InputPoses:
    """The people found in one network input, in its pixels, best score first."""

    boxes_xyxy: Tensor
    """(P, 4), clipped to the input."""
    scores: Tensor
    """(P,)."""
    keypoints_xy: Tensor
    """(P, K, 2); not clipped."""
    keypoint_scores: Tensor
    """(P, K): probability that the keypoint is visible."""
    prior_ids: Tensor
    """(P,): the prior each person comes from."""


def select_people(
    scores: Tensor,
    boxes_xyxy: Tensor,
    *,
    score_threshold: float,
    nms_iou: float,
    max_people: int | None = None,
) -> Tensor:
    """Priors of one image that stand for a person, best score first.

    A box that is not finite is nobody: early in training, exp of the raw size overflows.

    Args:
        scores: (N,).
        boxes_xyxy: (N, 4), not clipped.
        score_threshold: scores at or below are left out.
        nms_iou: of two boxes with a larger IoU only the better one stays.
        max_people: most people kept, counted after suppression; None keeps all.

    Returns:
        (P,) indices into the priors.
    """
    is_candidate = (scores > score_threshold) & boxes_xyxy.isfinite().all(dim=-1)
    candidates = is_candidate.nonzero().squeeze(1)
    candidates = candidates[scores[candidates].argsort(descending=True, stable=True)]
    kept = candidates[greedy_nms(boxes_xyxy[candidates], nms_iou)]
    return kept if max_people is None else kept[:max_people]


def decode(
    raw: RawOutputs,
    dcc: DynamicCoordinateClassifier,
    *,
    score_threshold: float,
    nms_iou: float,
    max_people: int | None = None,
) -> list[InputPoses]:
    """People of every image of the batch; thresholds as in `select_people`.

    The classifier reads the unclipped boxes and runs once for the people of all images.
    """
    scores = raw.cls_logits.sigmoid()
    kept = [
        select_people(
            image_scores,
            image_boxes,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            max_people=max_people,
        )
        for image_scores, image_boxes in zip(scores, raw.boxes_xyxy, strict=True)
    ]
    counts = [len(ids) for ids in kept]
    image_ids = torch.arange(len(kept), device=scores.device).repeat_interleave(
        torch.tensor(counts, device=scores.device)
    )
    prior_ids = torch.cat(kept)
    boxes = raw.boxes_xyxy[image_ids, prior_ids]
    fields = (
        clip_boxes(boxes, input_size_wh(raw.priors_xy, raw.strides)),
        scores[image_ids, prior_ids],
        dcc.keypoints(raw.pose_vectors[image_ids, prior_ids], boxes, raw.priors_xy[prior_ids]),
        raw.visibility_logits[image_ids, prior_ids].sigmoid(),
        prior_ids,
    )
    per_image = zip(*(torch.split(field, counts) for field in fields), strict=True)
    return [InputPoses(*values) for values in per_image]

"""Keypoint AP and AR by the protocols of COCO and CrowdPose.

pycocotools does the evaluation. CrowdPose's protocol stands on top of it: another area, one area
range, and three subsets of images by crowding (SPEC section 6).

Legend: T = 10 OKS thresholds, R = 101 recall levels.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rtmo.evaluation.inputs import (
    Detections,
    GroundTruth,
    read_detections,
    read_ground_truth,
)
from rtmo.evaluation.matching import candidates, match
from rtmo.evaluation.protocol import CROWD_LEVELS, MAX_DETECTIONS, Protocol
from rtmo.evaluation.similarity import keypoint_similarity, paired_oks
from rtmo.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class KeypointQuality:
    """How well one keypoint is placed on the people that were found at OKS 0.5."""

    name: str
    num_labelled: int
    """Labelled occurrences on those people."""
    mean_similarity: float
    """Mean of exp(-d^2 / (2 area (2 sigma)^2)); 0 where it is never labelled."""


@dataclass(frozen=True, slots=True)
class EvalReport:
    """One result list scored against one annotation file."""

    protocol: Protocol
    metrics: dict[str, float]
    """AP, AP50, AP75, AR, AR50, AR75 and, by protocol, APM APL ARM ARL or AP_easy AP_medium
    AP_hard. In [0, 1]; -1, as the official tools have it, where no person belongs to the group."""
    precision: np.ndarray
    """(T, R) interpolated precision, all areas."""
    oks_thresholds: np.ndarray
    """(T,)."""
    recall_levels: np.ndarray
    """(R,)."""
    per_keypoint: tuple[KeypointQuality, ...]
    matched_oks: np.ndarray
    """OKS of each found person (OKS >= 0.5) with its annotation, for a histogram."""
    num_images: int
    num_people: int
    """Annotated people that count."""
    num_detections: int


def evaluate_keypoints(
    annotations: Mapping[str, Any],
    detections: Sequence[Mapping[str, Any]],
    *,
    skeleton: Skeleton,
    protocol: Protocol,
) -> EvalReport:
    """Score a COCO result list against an annotation file in COCO's layout.

    All images of the annotation file count, also those without people. No detection at all is a
    valid result with AP 0.

    Args:
        annotations: `images`, `annotations`; CrowdPose's images have `crowdIndex`.
        detections: `image_id`, `keypoints` [x, y, score] * K, `score` and, for all or for none,
            `bbox` (x, y, w, h), whose area decides which unmatched detections count in APM, APL.
        skeleton: gives the sigmas.
        protocol: whose rules.

    Raises:
        ValueError: if either file is not what `rtmo.evaluation.inputs` expects.

    Source: https://cocodataset.org/#keypoints-eval, https://github.com/Jeff-sjtu/CrowdPose
    """
    truth = read_ground_truth(annotations, skeleton, protocol)
    found = read_detections(detections, truth, skeleton)
    coco_truth, coco_found = _coco_objects(truth, found)
    evaluation = _official_evaluation(coco_truth, coco_found, skeleton, truth.image_ids, protocol)
    metrics = _summary(evaluation)
    if truth.crowd_index is not None:
        for name, low, high in CROWD_LEVELS:
            subset = truth.image_ids[(truth.crowd_index >= low) & (truth.crowd_index < high)]
            part = _official_evaluation(coco_truth, coco_found, skeleton, subset, protocol)
            # The official script averages the raw array, absent entries (-1) included.
            metrics[name] = round(float(np.mean(part.eval["precision"])), 4)
    people, detected = _found_people(truth, found, skeleton)
    return EvalReport(
        protocol=protocol,
        metrics=metrics,
        precision=evaluation.eval["precision"][:, :, 0, 0, 0],
        oks_thresholds=evaluation.params.iouThrs,
        recall_levels=evaluation.params.recThrs,
        per_keypoint=_keypoint_quality(truth, found, people, detected, skeleton),
        matched_oks=paired_oks(truth, found, people, detected, np.array(skeleton.sigmas)),
        num_images=len(truth.image_ids),
        num_people=int((~truth.is_ignored).sum()),
        num_detections=len(found),
    )


def _coco_objects(truth: GroundTruth, found: Detections) -> tuple[COCO, COCO]:
    """What pycocotools works on; it writes into its input, so it gets its own."""
    coco_truth = COCO()
    coco_truth.dataset = {
        "images": [{"id": image_id} for image_id in truth.image_ids.tolist()],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": int(truth.ids[index]),
                "image_id": int(truth.image_ids[truth.image[index]]),
                "category_id": 1,
                "keypoints": truth.keypoints[index].ravel().tolist(),
                "num_keypoints": int(truth.num_keypoints[index]),
                "bbox": truth.boxes_xywh[index].tolist(),
                "area": float(truth.areas[index]),
                "iscrowd": int(truth.is_crowd[index]),
            }
            for index in range(len(truth.ids))
        ],
    }
    results = [
        {
            "image_id": int(truth.image_ids[found.image[index]]),
            "category_id": 1,
            "keypoints": found.keypoints[index].ravel().tolist(),
            "score": float(found.scores[index]),
            "bbox": found.boxes_xywh[index].tolist(),
        }
        for index in range(len(found))
    ]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco_truth.createIndex()
        if results:
            return coco_truth, coco_truth.loadRes(results)
        coco_found = COCO()  # loadRes looks at the first result
        coco_found.dataset = {**coco_truth.dataset, "annotations": []}
        coco_found.createIndex()
        return coco_truth, coco_found


def _official_evaluation(
    coco_truth: COCO,
    coco_found: COCO,
    skeleton: Skeleton,
    image_ids: np.ndarray,
    protocol: Protocol,
) -> COCOeval:
    evaluation = COCOeval(coco_truth, coco_found, "keypoints")
    evaluation.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
    evaluation.params.imgIds = image_ids.tolist()
    evaluation.params.maxDets = [MAX_DETECTIONS]
    if protocol == "crowdpose":
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _summary(evaluation: COCOeval) -> dict[str, float]:
    """COCOeval.summarize's numbers by name, without its printing."""
    precision = evaluation.eval["precision"][:, :, 0, :, 0]  # (T, R, areas)
    recall = evaluation.eval["recall"][:, 0, :, 0]  # (T, areas)
    metrics = {}
    for prefix, values in (("AP", precision), ("AR", recall)):
        metrics[prefix] = _mean_present(values[..., 0])
        metrics[f"{prefix}50"] = _mean_present(values[0, ..., 0])
        metrics[f"{prefix}75"] = _mean_present(values[5, ..., 0])
        for area, label in enumerate(evaluation.params.areaRngLbl):
            if label != "all":
                metrics[f"{prefix}{label[0].upper()}"] = _mean_present(values[..., area])
    return metrics


def _mean_present(values: np.ndarray) -> float:
    """Mean of the entries that exist; -1 where none does."""
    present = values[values > -1]
    return float(present.mean()) if len(present) else -1.0


def _found_people(
    truth: GroundTruth, found: Detections, skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray]:
    """People found at OKS 0.5: their rows in `truth` and the rows of their detections."""
    beside = candidates(truth, found, np.array(skeleton.sigmas))
    matches = match(truth, found, beside, np.array([0.5]))
    hit = matches.is_hit[0]
    return matches.person[0, hit], matches.detections[hit]


def _keypoint_quality(
    truth: GroundTruth,
    found: Detections,
    people: np.ndarray,
    detected: np.ndarray,
    skeleton: Skeleton,
) -> tuple[KeypointQuality, ...]:
    offsets = found.keypoints[detected, :, :2] - truth.keypoints[people, :, :2]
    similarity = keypoint_similarity(
        (offsets**2).sum(axis=2), truth.areas[people], np.array(skeleton.sigmas)
    )
    labelled = truth.is_labelled[people]
    return tuple(
        KeypointQuality(
            name,
            num_labelled=int(labelled[:, index].sum()),
            mean_similarity=float(similarity[labelled[:, index], index].mean())
            if labelled[:, index].any()
            else 0.0,
        )
        for index, name in enumerate(skeleton.keypoints)
    )

"""COCO's matching and counting by the libraries that are known to do it right.

pycocotools is the reference; faster-coco-eval is the same in C++, with the same bits in a quarter
of the time (benchmarks/2026-11-21-evaluation.md).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import faster_coco_eval
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from rtmo.evaluation.config import Evaluator
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.protocol import MAX_DETECTIONS, Protocol

LIBRARIES: dict[Evaluator, tuple[Any, Any]] = {
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
    "pycocotools": (COCO, COCOeval),
}
"""The class of annotation files and that of evaluations; both libraries name things alike."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an evaluation goes by."""

    protocol: Protocol
    """CrowdPose's has one area range."""
    sigmas: tuple[float, ...]
    """Of the keypoints, in order."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What an evaluation counted. -1 where no person belongs to the group."""

    precision: np.ndarray
    """(T, R, areas): interpolated, by OKS threshold, recall level and area range."""
    recall: np.ndarray
    """(T, areas): the largest that was reached."""
    areas: tuple[str, ...]
    """Names of the area ranges: all, and for COCO medium and large."""


def official_scores(
    truth: GroundTruth,
    found: Detections,
    rules: Rules,
    subsets: Sequence[np.ndarray],
    evaluator: Evaluator,
) -> list[Scored]:
    """Score each subset of the images, given by their ids."""
    with contextlib.redirect_stdout(io.StringIO()):  # both print their progress
        annotated, detected = _as_coco(truth, found, LIBRARIES[evaluator][0])
        return [
            _score(LIBRARIES[evaluator][1](annotated, detected, "keypoints"), rules, image_ids)
            for image_ids in subsets
        ]


def _as_coco(truth: GroundTruth, found: Detections, library: Any) -> tuple[Any, Any]:  # noqa: ANN401 - the libraries have no types
    """Annotations and detections as a library's objects, which writes into what it is given."""
    annotated = library()
    annotated.dataset = {
        "images": [{"id": image_id} for image_id in truth.image_ids.tolist()],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {
                "id": number,
                "image_id": image_id,
                "category_id": 1,
                "keypoints": keypoints,
                "num_keypoints": num_keypoints,
                "bbox": box,
                "area": area,
                "iscrowd": is_crowd,
            }
            for number, image_id, keypoints, num_keypoints, box, area, is_crowd in zip(
                truth.ids.tolist(),
                truth.image_ids[truth.image].tolist(),
                truth.keypoints.reshape(len(truth.ids), -1).tolist(),
                truth.num_keypoints.tolist(),
                truth.boxes_xywh.tolist(),
                truth.areas.tolist(),
                truth.is_crowd.astype(int).tolist(),
                strict=True,
            )
        ],
    }
    annotated.createIndex()
    if not len(found):
        detected = library()  # loadRes looks at the first result
        detected.dataset = {**annotated.dataset, "annotations": []}
        detected.createIndex()
        return annotated, detected
    results = [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": keypoints,
            "score": score,
            "bbox": box,
        }
        for image_id, keypoints, score, box in zip(
            truth.image_ids[found.image].tolist(),
            found.keypoints.reshape(len(found), -1).tolist(),
            found.scores.tolist(),
            found.boxes_xywh.tolist(),
            strict=True,
        )
    ]
    return annotated, annotated.loadRes(results)


def _score(evaluation: Any, rules: Rules, image_ids: np.ndarray) -> Scored:  # noqa: ANN401 - as above
    params = evaluation.params
    params.kpt_oks_sigmas = np.array(rules.sigmas)
    params.imgIds = image_ids.tolist()
    params.maxDets = [MAX_DETECTIONS]
    if rules.protocol == "crowdpose":
        params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]
    evaluation.evaluate()
    evaluation.accumulate()
    counted = evaluation.eval
    return Scored(
        precision=counted["precision"][:, :, 0, :, 0],
        recall=counted["recall"][:, 0, :, 0],
        areas=tuple(params.areaRngLbl),
    )

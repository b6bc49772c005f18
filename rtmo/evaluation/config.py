"""Settings of prediction on a data split and of its evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rtmo._config import Config

Evaluator = Literal["faster-coco-eval", "pycocotools"]
"""Library for the official numbers: the reference, or the same in C++ in a quarter of the time."""
ErrorRate = Literal[
    "jitter_rate",
    "inversion_rate",
    "swap_rate",
    "miss_rate",
    "missed_rate",
    "jitter_rate_crowded",
    "inversion_rate_crowded",
    "swap_rate_crowded",
    "miss_rate_crowded",
    "missed_rate_crowded",
    "score_rate",
    "background_rate",
]
"""Share of labelled keypoints of found people, of people (`missed`) or of detections (the last two)
that are wrong in this way; `crowded` among people whose box overlaps that of somebody else."""


class EvaluateConfig(Config):
    """How detections are made for evaluation (SPEC section 6)."""

    batch: int = Field(8, gt=0)
    """Images per forward pass."""
    score_threshold: float = Field(0.1, ge=0, lt=1)
    """People with a lower score are left out."""
    nms_iou: float = Field(0.65, gt=0, le=1)
    """Box IoU above which the lower-scored of two people is dropped."""
    evaluator: Evaluator = "faster-coco-eval"
    """Library that matches and counts; both give the same bits."""
    bootstrap_samples: int = Field(1000, ge=100)
    """Resamplings of the images for the intervals of AP and AR."""


class InspectConfig(Config):
    """What the error inspection shows."""

    worst_people: int = Field(24, gt=0)
    """People with the largest errors drawn in the report."""
    fiftyone_images: int = Field(2000, gt=0)
    """Images stored in the FiftyOne dataset at most, by id."""

"""How sure an AP is, and whether one model is better: paired bootstrap over images.

Matching does not depend on the other images, so it is done once; a sample only weighs the images.
Two models are compared on the same samples, which takes the difficulty of the images out.

Legend: I images, M detections that count, T OKS thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtmo.evaluation.inputs import GroundTruth, read_detections, read_ground_truth
from rtmo.evaluation.matching import average_precision, candidates, match
from rtmo.evaluation.protocol import CROWD_LEVELS, Protocol
from rtmo.skeleton import Skeleton

Results = Sequence[Mapping[str, Any]]
"""A COCO result list."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric of one model."""

    value: float
    """On the split itself."""
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A metric of model a less that of model b; positive where a is better."""

    value: float
    """On the split itself."""
    mean: float
    """Over the samples."""
    low: float
    high: float
    share_a_better: float
    """Of the samples, those in which a is strictly better."""


def metric_intervals(
    annotations: Mapping[str, Any],
    detections: Results,
    *,
    skeleton: Skeleton,
    protocol: Protocol,
    seed: int,
    samples: int,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of AP, AR and, under CrowdPose's protocol, AP_easy, AP_medium, AP_hard.

    Args:
        annotations: as for `evaluate_keypoints`.
        detections: likewise.
        skeleton: likewise.
        protocol: likewise.
        seed: of the drawing of images.
        samples: how often the images are drawn.
        confidence: share of the samples that an interval holds, the same part left out at each end.

    Raises:
        ValueError: as `evaluate_keypoints`; or if the split has fewer than two images.
    """
    truth = read_ground_truth(annotations, skeleton, protocol)
    scored = _score(truth, detections, skeleton)
    values = _sampled(truth, (scored,), seed, samples)[:, 0]
    low, high = _middle(values, confidence)
    whole = _metrics(scored, truth, np.ones(len(truth.image_ids)))
    return {
        name: Interval(float(whole[index]), float(low[index]), float(high[index]))
        for index, name in enumerate(_metric_names(truth))
    }


def paired_differences(  # noqa: PLR0913 - all but the data by name
    annotations: Mapping[str, Any],
    detections_a: Results,
    detections_b: Results,
    *,
    skeleton: Skeleton,
    protocol: Protocol,
    seed: int,
    samples: int,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """Differences a - b of the metrics of `metric_intervals`, on the same samples of images.

    Raises:
        ValueError: as `evaluate_keypoints`; or if the split has fewer than two images.
    """
    truth = read_ground_truth(annotations, skeleton, protocol)
    both = tuple(_score(truth, results, skeleton) for results in (detections_a, detections_b))
    values = _sampled(truth, both, seed, samples)
    differences = values[:, 0] - values[:, 1]
    low, high = _middle(differences, confidence)
    mean = np.nanmean(differences, axis=0)
    once = np.ones(len(truth.image_ids))
    whole = _metrics(both[0], truth, once) - _metrics(both[1], truth, once)
    return {
        name: Difference(
            value=float(whole[index]),
            mean=float(mean[index]),
            low=float(low[index]),
            high=float(high[index]),
            share_a_better=float((differences[:, index] > 0).mean()),
        )
        for index, name in enumerate(_metric_names(truth))
    }


@dataclass(frozen=True, slots=True)
class _Scored:
    """A model's detections after matching, by descending score."""

    image: np.ndarray  # (M,)
    is_hit: np.ndarray  # (T, M)
    is_false: np.ndarray  # (T, M)
    people_per_image: np.ndarray  # (I,)


def _score(truth: GroundTruth, detections: Results, skeleton: Skeleton) -> _Scored:
    found = read_detections(detections, truth, skeleton)
    matches = match(truth, found, candidates(truth, found, np.array(skeleton.sigmas)))
    order = np.argsort(-matches.scores, kind="stable")
    return _Scored(
        matches.image[order],
        matches.is_hit[:, order],
        matches.is_false[:, order],
        matches.people_per_image,
    )


def _sampled(
    truth: GroundTruth, models: tuple[_Scored, ...], seed: int, samples: int
) -> np.ndarray:
    """(samples, models, metrics): every model on every resampled set of images."""
    if len(truth.image_ids) < 2:
        raise ValueError(
            f"the split has {len(truth.image_ids)} image; resampling images needs two or more"
        )
    return np.array(
        [
            [_metrics(model, truth, weights) for model in models]
            for weights in _image_weights(len(truth.image_ids), seed, samples)
        ]
    )


def _middle(values: np.ndarray, confidence: float) -> np.ndarray:
    """(2, metrics) ends of the middle part of the samples, those without a value left out."""
    tail = 50 * (1 - confidence)
    return np.asarray(np.nanpercentile(values, (tail, 100 - tail), axis=0))


def _image_weights(num_images: int, seed: int, samples: int) -> Iterator[np.ndarray]:
    """(I,) how often each image is drawn, with replacement, as many draws as images."""
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        yield np.bincount(generator.integers(num_images, size=num_images), minlength=num_images)


def _metric_names(truth: GroundTruth) -> tuple[str, ...]:
    levels = CROWD_LEVELS if truth.crowd_index is not None else ()
    return ("AP", "AR", *(name for name, _, _ in levels))


def _metrics(model: _Scored, truth: GroundTruth, image_weights: np.ndarray) -> np.ndarray:
    """AP, AR and the crowd levels' AP; NaN where the drawn images hold nobody who counts."""
    values = [_ap(model, image_weights), _recall(model, image_weights)]
    if truth.crowd_index is not None:
        for _, low, high in CROWD_LEVELS:
            is_level = (truth.crowd_index >= low) & (truth.crowd_index < high)
            values.append(_ap(model, image_weights * is_level))
    return np.array(values)


def _ap(model: _Scored, image_weights: np.ndarray) -> float:
    num_people = float((model.people_per_image * image_weights).sum())
    if num_people == 0:
        return float("nan")
    return average_precision(model.is_hit, model.is_false, image_weights[model.image], num_people)


def _recall(model: _Scored, image_weights: np.ndarray) -> float:
    num_people = float((model.people_per_image * image_weights).sum())
    if num_people == 0:
        return float("nan")
    hits = model.is_hit @ image_weights[model.image].astype(float)
    return float(hits.mean()) / num_people

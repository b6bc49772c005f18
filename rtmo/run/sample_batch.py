"""A picture of training pictures with their targets, as the network sees them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from rtmo.data.loader import BatchLoader
from rtmo.drawing import draw_people, mosaic_grid
from rtmo.training.phases import phase_at

if TYPE_CHECKING:
    from rtmo.data.dataset import TrainingSet
    from rtmo.data.loader import Batch
    from rtmo.skeleton import Skeleton
    from rtmo.training.config import TrainConfig

SAMPLE_IMAGES = 8
"""Training pictures in it."""


def save_sample_batch(dataset: TrainingSet, config: TrainConfig, path: Path) -> None:
    """Draw the first pictures of the first epoch with their targets, as the network sees them."""
    count = min(SAMPLE_IMAGES, dataset.num_samples(0))
    loader = BatchLoader(dataset, micro_batch=count, workers=0, stall_s=config.loader_stall_s)
    batch = next(loader.epoch(0, phase_at(config.phases, 0).pipeline))
    pictures = [_draw(batch, row, dataset.skeleton) for row in range(len(batch.images))]
    if not cv2.imwrite(str(path), mosaic_grid(pictures)):
        raise OSError(f"cannot write {path}")


def _draw(batch: Batch, row: int, skeleton: Skeleton) -> np.ndarray:
    targets = batch.targets
    people = targets.is_person[row]
    labelled = targets.is_labelled[row][people].numpy()
    keypoints = np.dstack([targets.keypoints_xy[row][people].numpy(), 2 * labelled])
    image = np.ascontiguousarray(batch.images[row].permute(1, 2, 0).numpy())
    boxes_xyxy = targets.boxes_xyxy[row][people].numpy()
    drawn: np.ndarray = draw_people(image, keypoints, boxes_xyxy, skeleton)
    return drawn

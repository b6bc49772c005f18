"""A picture of training pictures with their targets, as the network sees them.

It is tracked, so it leaves this machine: faces in own pictures are blurred. That is done before
the pictures are augmented, where everybody annotated is known; training reads them as they are.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from rtmo.data.loader import BatchLoader
from rtmo.drawing import draw_people, mosaic_grid
from rtmo.evaluation.faces import blur_faces, blur_words, face_parts
from rtmo.run.recipe import training_set
from rtmo.training.phases import phase_at

if TYPE_CHECKING:
    from rtmo.data.loader import Batch
    from rtmo.run.recipe import Recipe, TrainingData
    from rtmo.skeleton import Skeleton
    from rtmo.store import Store

SAMPLE_IMAGES = 8
"""Training pictures in it."""

log = logging.getLogger(__name__)


def save_sample_batch(data: TrainingData, recipe: Recipe, path: Path) -> None:
    """Draw the first pictures of the first epoch with their targets, as the network sees them.

    Faces in own pictures are blurred; a skeleton that does not tell where heads are is warned of.

    Raises:
        OSError: if the picture cannot be written.
    """
    is_own = any(store.meta.pictures == "own" for store in data.learnt)
    if is_own and face_parts(data.train.skeleton).how == "nowhere":
        log.warning("%s: %s", path.name, blur_words(data.train.skeleton))
    dataset = training_set(data, recipe, read_to_show)
    count = min(SAMPLE_IMAGES, dataset.num_samples(0))
    stall_s = recipe.train.loader_stall_s
    loader = BatchLoader(dataset, micro_batch=count, workers=0, stall_s=stall_s)
    batch = next(loader.epoch(0, phase_at(recipe.train.phases, 0).pipeline))
    pictures = [_draw(batch, row, dataset.skeleton) for row in range(len(batch.images))]
    if not cv2.imwrite(str(path), mosaic_grid(pictures)):
        raise OSError(f"cannot write {path}")


def read_to_show(store: Store, index: int) -> np.ndarray:
    """A training picture as it may leave this machine: (H, W, 3) uint8 BGR.

    Faces of everybody annotated are blurred unless the pictures are public.

    Raises:
        StoreError: if the JPEG does not decode.
    """
    image = store.read_image(index)
    if store.meta.pictures == "public":
        return image
    people = store.people(index)
    is_person = ~people.is_crowd
    boxes_xyxy = people.boxes_xyxy[is_person]
    boxes_xywh = np.hstack([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]])
    return blur_faces(image, people.keypoints[is_person], boxes_xywh, store.skeleton)


def _draw(batch: Batch, row: int, skeleton: Skeleton) -> np.ndarray:
    targets = batch.targets
    people = targets.is_person[row]
    labelled = targets.is_labelled[row][people].numpy()
    keypoints = np.dstack([targets.keypoints_xy[row][people].numpy(), 2 * labelled])
    image = np.ascontiguousarray(batch.images[row].permute(1, 2, 0).numpy())
    boxes_xyxy = targets.boxes_xyxy[row][people].numpy()
    drawn: np.ndarray = draw_people(image, keypoints, boxes_xyxy, skeleton)
    return drawn

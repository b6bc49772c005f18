"""Training batches, in this process or from worker processes; always the same ones.

Legend: B images, G people (padded to the largest image of the batch), K keypoints, S input side.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rtmo.data.dataset import Pipeline, Sample, TrainingSet
from rtmo.data.randomness import Purpose, generator
from rtmo.structures import TargetBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass is trained on."""

    images: Tensor
    """(B, 3, S, S) uint8 BGR."""
    targets: TargetBatch
    image_ids: tuple[int, ...]
    """Of the picture each sample is named after."""
    unreadable_ids: tuple[int, ...]
    """Pictures that did not decode and were left grey; the loader warns of them."""


def num_batches(num_samples: int, micro_batch: int, world_size: int = 1) -> int:
    """Batches of one epoch on each rank; the incomplete rest is dropped.

    Example:
        >>> num_batches(100, 8, world_size=2)
        6
    """
    return num_samples // (micro_batch * world_size)


def epoch_order(num_samples: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation of the sample indices, the same on every rank."""
    return generator(Purpose.ORDER, seed, epoch).permutation(num_samples)


def training_batches(  # noqa: PLR0913 - where and when, all by name
    dataset: TrainingSet,
    *,
    epoch: int,
    micro_batch: int,
    pipeline: Pipeline,
    workers: int,
    start_batch: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[Batch]:
    """Batches `start_batch`, `start_batch + 1`, ... of an epoch for one rank.

    Order and content depend on the dataset's seed and the epoch only, not on `workers`.

    Raises:
        ValueError: if the dataset is smaller than one batch on every rank.
    """
    count = num_batches(len(dataset), micro_batch, world_size)
    if count == 0:
        raise ValueError(
            f"{len(dataset)} pictures make no batch of {micro_batch} on {world_size} ranks; "
            "lower train.micro_batch"
        )
    order = epoch_order(len(dataset), dataset.seed, epoch)[: count * micro_batch * world_size]
    batches = order[rank::world_size].reshape(count, micro_batch)[start_batch:].tolist()
    make = partial(_make_batch, dataset, epoch, pipeline)
    if workers == 0:
        return _warn_of_unreadable(map(make, batches))
    return _warn_of_unreadable(
        DataLoader(
            _Batches(make, batches),
            batch_size=None,
            num_workers=workers,
            worker_init_fn=_use_one_thread,
        )
    )


def collate(samples: Sequence[Sample], num_keypoints: int) -> Batch:
    """Stack samples; people are padded with zeros to the largest sample."""
    count, most = len(samples), max(len(sample.labels) for sample in samples)
    side = samples[0].image.shape[0]
    boxes_xyxy = np.zeros((count, most, 4), np.float32)
    keypoints_xy = np.zeros((count, most, num_keypoints, 2), np.float32)
    is_labelled = np.zeros((count, most, num_keypoints), np.float32)
    areas = np.zeros((count, most), np.float32)
    is_person = np.zeros((count, most), np.bool_)
    for row, sample in enumerate(samples):
        people = len(sample.labels)
        boxes_xyxy[row, :people] = sample.labels.boxes_xyxy
        keypoints_xy[row, :people] = sample.labels.keypoints_xy
        is_labelled[row, :people] = sample.labels.is_labelled
        areas[row, :people] = sample.labels.areas
        is_person[row, :people] = True
    images = np.empty((count, 3, side, side), np.uint8)
    for row, sample in enumerate(samples):
        images[row] = sample.image.transpose(2, 0, 1)
    return Batch(
        images=torch.from_numpy(images),
        targets=TargetBatch(
            boxes_xyxy=torch.from_numpy(boxes_xyxy),
            keypoints_xy=torch.from_numpy(keypoints_xy),
            is_labelled=torch.from_numpy(is_labelled),
            is_annotated=torch.ones(is_labelled.shape),
            areas=torch.from_numpy(areas),
            is_person=torch.from_numpy(is_person),
            ignore_mask=_ignore_masks(samples, side),
        ),
        image_ids=tuple(sample.image_id for sample in samples),
        unreadable_ids=tuple(chain.from_iterable(sample.unreadable_ids for sample in samples)),
    )


def _ignore_masks(samples: Sequence[Sample], side: int) -> Tensor | None:
    if all(sample.ignore_mask is None for sample in samples):
        return None
    masks = torch.zeros(len(samples), side, side)
    for row, sample in enumerate(samples):
        if sample.ignore_mask is not None:
            masks[row] = torch.from_numpy(sample.ignore_mask)
    return masks


def _make_batch(
    dataset: TrainingSet, epoch: int, pipeline: Pipeline, indices: Sequence[int]
) -> Batch:
    samples = [dataset.sample(epoch, index, pipeline) for index in indices]
    return collate(samples, dataset.num_keypoints)


def _warn_of_unreadable(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; here and not in the workers, whose log nobody may read."""
    for batch in batches:
        if batch.unreadable_ids:
            logger.warning(
                "pictures %s did not decode and were left grey; convert the dataset again",
                sorted(set(batch.unreadable_ids)),
            )
        yield batch


class _Batches(Dataset[Batch]):
    """The batches of one epoch by number, for worker processes."""

    def __init__(self, make: Callable[[Sequence[int]], Batch], batches: list[list[int]]) -> None:
        self._make = make
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch:
        return self._make(self._batches[number])


def _use_one_thread(worker: int) -> None:  # noqa: ARG001 - torch's signature
    # Workers are the parallelism; OpenCV's own threads would fight with training for the cores.
    cv2.setNumThreads(0)

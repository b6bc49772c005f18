"""Training batches, in this process or from worker processes; always the same ones.

Legend: B images, G people (padded to the largest image of the batch), K keypoints, S input side.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rtmo.data.dataset import Pipeline, Sample, TrainingSet
from rtmo.data.randomness import Purpose, generator
from rtmo.malloc import keep_freed_memory
from rtmo.structures import TargetBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass is trained on."""

    images: Tensor
    """(B, 3, S, S) uint8 BGR."""
    targets: TargetBatch
    image_names: tuple[str, ...]
    """Of the picture each sample is named after, `<dataset>/<image id>`."""
    unreadable: tuple[str, ...]
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


class BatchLoader:
    """The batches of one rank, made in this process or by workers that live as long as the loader.

    Order and content depend on the dataset's seed and the epoch only, not on the workers. They are
    fresh processes, not forks: a fork inherits the threads, locks and exit hooks of whatever else
    this process runs (in a Prefect flow every forked worker ends with status 1).
    """

    def __init__(
        self,
        dataset: TrainingSet,
        *,
        micro_batch: int,
        workers: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare; workers start with the first epoch."""
        self._dataset = dataset
        self._micro_batch = micro_batch
        self._rank, self._world_size = rank, world_size
        self._requests: list[Request] = []
        self._make = _BatchMaker(dataset)
        self._workers: DataLoader[Batch] | None = None
        if workers > 0:
            context = get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._workers = DataLoader(
                self._make,
                batch_size=None,
                sampler=self._requests,
                num_workers=workers,
                persistent_workers=True,
                multiprocessing_context=context,
                worker_init_fn=_settle_in,
            )

    def epoch(self, epoch: int, pipeline: Pipeline, start_batch: int = 0) -> Iterator[Batch]:
        """Batches `start_batch`, `start_batch + 1`, ... of an epoch.

        Raises:
            ValueError: if the epoch has fewer samples than one batch on every rank.
        """
        num_samples = self._dataset.num_samples(epoch)
        count = num_batches(num_samples, self._micro_batch, self._world_size)
        if count == 0:
            raise ValueError(
                f"{num_samples} pictures make no batch of {self._micro_batch} on "
                f"{self._world_size} ranks; lower train.micro_batch"
            )
        order = epoch_order(num_samples, self._dataset.seed, epoch)
        order = order[: count * self._world_size * self._micro_batch]
        # Ranks take neighbouring micro-batches: those that one process would accumulate.
        batches = order.reshape(count, self._world_size, self._micro_batch)[:, self._rank]
        requests = [Request(epoch, pipeline, tuple(row)) for row in batches[start_batch:].tolist()]
        if self._workers is None:
            return _warn_of_unreadable(map(self._make.__getitem__, requests))
        self._requests[:] = requests
        return _warn_of_unreadable(self._workers)


class Request(NamedTuple):
    """What decides the content of a batch, beside the dataset."""

    epoch: int
    pipeline: Pipeline
    indices: tuple[int, ...]


def collate(samples: Sequence[Sample], num_keypoints: int) -> Batch:
    """Stack samples; people are padded with zeros to the largest sample."""
    count, most = len(samples), max(len(sample.labels) for sample in samples)
    side = samples[0].image.shape[0]
    boxes_xyxy = np.zeros((count, most, 4), np.float32)
    keypoints_xy = np.zeros((count, most, num_keypoints, 2), np.float32)
    is_labelled = np.zeros((count, most, num_keypoints), np.float32)
    is_annotated = np.zeros((count, most, num_keypoints), np.float32)
    areas = np.zeros((count, most), np.float32)
    is_person = np.zeros((count, most), np.bool_)
    for row, sample in enumerate(samples):
        people = len(sample.labels)
        boxes_xyxy[row, :people] = sample.labels.boxes_xyxy
        keypoints_xy[row, :people] = sample.labels.keypoints_xy
        is_labelled[row, :people] = sample.labels.is_labelled
        is_annotated[row, :people] = sample.labels.is_annotated
        areas[row, :people] = sample.labels.areas
        is_person[row, :people] = True
    images = np.empty((count, 3, side, side), np.uint8)
    for row, sample in enumerate(samples):
        cv2.split(sample.image, list(images[row]))
    return Batch(
        images=torch.from_numpy(images),
        targets=TargetBatch(
            boxes_xyxy=torch.from_numpy(boxes_xyxy),
            keypoints_xy=torch.from_numpy(keypoints_xy),
            is_labelled=torch.from_numpy(is_labelled),
            is_annotated=torch.from_numpy(is_annotated),
            areas=torch.from_numpy(areas),
            is_person=torch.from_numpy(is_person),
            ignore_mask=_ignore_masks(samples, side),
        ),
        image_names=tuple(sample.image_name for sample in samples),
        unreadable=tuple(chain.from_iterable(sample.unreadable for sample in samples)),
    )


def _ignore_masks(samples: Sequence[Sample], side: int) -> Tensor | None:
    if all(sample.ignore_mask is None for sample in samples):
        return None
    masks = torch.zeros(len(samples), side, side)
    for row, sample in enumerate(samples):
        if sample.ignore_mask is not None:
            masks[row] = torch.from_numpy(sample.ignore_mask)
    return masks


def _warn_of_unreadable(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches; here and not in the workers, whose log nobody may read."""
    for batch in batches:
        if batch.unreadable:
            logger.warning(
                "pictures %s did not decode and were left grey; convert the dataset again",
                ", ".join(sorted(set(batch.unreadable))),
            )
        yield batch


class _BatchMaker(Dataset[Batch]):
    """A request -> its batch; what a worker process holds."""

    def __init__(self, dataset: TrainingSet) -> None:
        self._dataset = dataset

    def __getitem__(self, request: Request) -> Batch:
        samples = self._dataset.samples(request.epoch, request.indices, request.pipeline)
        return collate(samples, self._dataset.num_keypoints)


def _settle_in(worker: int) -> None:  # noqa: ARG001 - torch's signature
    # Workers are the parallelism; OpenCV's own threads would fight with training for the cores.
    cv2.setNumThreads(0)
    keep_freed_memory()

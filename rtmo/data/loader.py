"""Training batches, in this process or from worker processes; always the same ones.

Legend: B images, G people (padded to the largest image of the batch), K keypoints, S input side.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from itertools import chain
from multiprocessing import active_children, connection, get_context
from queue import SimpleQueue
from threading import Event, Thread, Timer
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rtmo.data.dataset import Pipeline, Sample, TrainingSet
from rtmo.data.randomness import Purpose, generator
from rtmo.malloc import keep_freed_memory
from rtmo.structures import TargetBatch

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

DEATH_S = 2.0
"""A process that died is known to be dead so long after the connection to it broke."""

logger = logging.getLogger(__name__)


class LoaderStalledError(TimeoutError):
    """A batch was waited for longer than is allowed: a read hangs, or a worker is stuck."""


class LoaderWorkerError(RuntimeError):
    """A loader process ended before its work was done."""


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

    The process that trains never reads a picture in its own thread, so that it can stop waiting for
    a read that hangs.
    """

    def __init__(
        self,
        dataset: TrainingSet,
        *,
        micro_batch: int,
        workers: int,
        stall_s: float,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare; workers start with the first epoch.

        Args:
            dataset: makes the samples.
            micro_batch: samples per batch.
            workers: processes that make batches; 0 makes them in a thread of this one.
            stall_s: seconds to wait for one batch, the start of the workers included.
            rank: which of the training processes this one is.
            world_size: how many of them share an epoch.
        """
        self._dataset = dataset
        self._micro_batch = micro_batch
        self._rank, self._world_size = rank, world_size
        self._stall_s = stall_s
        self._requests: list[Request] = []
        self._processes: set[BaseProcess] = set()
        self._gave_up = Event()
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
            LoaderStalledError: while iterating, after `stall_s` without a batch; workers get killed
                for it, which takes up to 5 seconds more to be seen.
            LoaderWorkerError: while iterating, within about 5 seconds of a worker's death.
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
            return _warn_of_unreadable(self._made_here(requests))
        return _warn_of_unreadable(self._made_by(self._workers, requests))

    def _made_here(self, requests: Sequence[Request]) -> Iterator[Batch]:
        """One by one in a thread that this process can leave behind, even when it exits.

        The same thread for all: OpenCV never gives back 880 bytes of each thread that used it.
        """
        orders: SimpleQueue[Order | None] = SimpleQueue()
        Thread(target=_fulfil, args=(self._make, orders), name="batches", daemon=True).start()
        try:
            for request in requests:
                future: Future[Batch] = Future()
                orders.put((request, future))
                if not wait([future], self._stall_s).done:
                    raise self._stalled(request)
                yield future.result()
        finally:
            orders.put(None)

    def _made_by(self, workers: DataLoader[Batch], requests: Sequence[Request]) -> Iterator[Batch]:
        """From the processes; those that are stuck get killed."""
        self._requests[:] = requests
        batches: Iterator[Batch] | None = None
        for request in requests:
            # It does not hold this object, or the workers would live until it has run out.
            watch = Timer(self._stall_s, _give_up, (self._processes, self._gave_up))
            watch.daemon = True
            watch.start()
            try:
                if batches is None:
                    batches = self._begin(workers)
                batch = next(batches)
            except (RuntimeError, OSError, EOFError) as error:
                if self._gave_up.is_set():
                    raise self._stalled(request) from error
                # Torch notices a missing process, or fails to fetch the tensors it left behind.
                if not connection.wait([one.sentinel for one in self._processes], DEATH_S):
                    raise
                raise LoaderWorkerError(
                    f"a loader process died ({error}) before {_words(request)} were there; one "
                    "that is killed from outside is mostly one for which memory did not suffice: "
                    "lower train.workers, or give a container more memory and /dev/shm"
                ) from error
            finally:
                watch.cancel()
            yield batch

    def _begin(self, workers: DataLoader[Batch]) -> Iterator[Batch]:
        """Start the processes, or take them up again."""
        others = set(active_children())
        batches = iter(workers)
        if not self._processes:
            self._processes |= set(active_children()) - others
        return batches

    def _stalled(self, request: Request) -> LoaderStalledError:
        return LoaderStalledError(
            f"no batch for {self._stall_s:g} s, waiting for {_words(request)}: a read hangs or a "
            "loader process is stuck. See whether the disk or network share of the dataset "
            "answers, then run the training again, which goes on from its last checkpoint; where "
            "reading is only slow, raise train.loader_stall_s"
        )


class Request(NamedTuple):
    """What decides the content of a batch, beside the dataset."""

    epoch: int
    pipeline: Pipeline
    indices: tuple[int, ...]


Order = tuple[Request, Future[Batch]]
"""A batch that is wanted, and where it goes."""


def _words(request: Request) -> str:
    """For a person: how to ask the dataset for the same samples."""
    samples = ", ".join(map(str, request.indices))
    return f"samples {samples} of epoch {request.epoch} ({request.pipeline})"


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


def _fulfil(make: _BatchMaker, orders: SimpleQueue[Order | None]) -> None:
    """Make what is ordered, until None is."""
    while (order := orders.get()) is not None:
        request, future = order
        try:
            future.set_result(make[request])
        except Exception as error:  # noqa: BLE001 - raised again by the one who waits
            future.set_exception(error)
        del order, future  # or the batch would live on while the next order is waited for


def _give_up(workers: set[BaseProcess], gave_up: Event) -> None:
    """End the workers, also those that are stopped: no exit of this process waits for them."""
    gave_up.set()
    for worker in workers:
        worker.kill()


def _settle_in(worker: int) -> None:  # noqa: ARG001 - torch's signature
    # Workers are the parallelism; OpenCV's own threads would fight with training for the cores.
    cv2.setNumThreads(0)
    keep_freed_memory()

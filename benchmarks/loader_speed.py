"""Stage-1 samples per second of one loader process: the plain SPEC steps, and ours.

    python -m benchmarks.loader_speed STORE [--side 640] [--rounds 12] [--batch 32]

STORE is a folder written by `convert`. Each path has a process of its own, one thread, set up as
its loader workers are; they take turns, batch by batch, so that other work on the machine slows
all alike. Prints the median over the rounds, and what each step costs alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import numpy as np

from benchmarks.plain_stage1 import render
from rtmo.data.augment import HsvShift, Warp, draw_hsv, shift_hsv, warp_matrix
from rtmo.data.config import AugmentConfig, MosaicConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.labels import mirror, trainable
from rtmo.data.loader import collate, epoch_order
from rtmo.data.mosaic import MixUp, blend, draw_plan
from rtmo.data.randomness import Purpose, generator
from rtmo.malloc import keep_freed_memory
from rtmo.store import Store

PLAIN, ANYWHERE, WITHIN = "plain", "ours, partners anywhere", "ours, partners in the batch"


def plain_batch(dataset: TrainingSet, augment: AugmentConfig, indices: Sequence[int]) -> None:
    """What `TrainingSet.samples` and `collate` do, with the plain mosaic, warp and mixup."""
    pictures = dataset._around(0, ()).picture  # noqa: SLF001 - the same pictures
    partners = range(dataset.num_samples(0))
    planes = []
    for index in indices:
        rng = generator(Purpose.SAMPLE, dataset.seed, 0, index)
        plan = draw_plan(rng, augment.mosaic, index, partners, dataset.input_size)
        flip_permutation = dataset.skeleton.flip_permutation
        image, labels = render(plan, pictures, flip_permutation, dataset.input_size)
        image = shift_hsv(image, draw_hsv(rng, augment.hsv))
        if rng.random() < augment.flip_prob:
            image = cv2.flip(image, 1)
            labels = mirror(labels, dataset.input_size, dataset.skeleton)
        trainable(labels)
        planes.append(np.ascontiguousarray(image.transpose(2, 0, 1)))
    np.stack(planes)


def our_batch(dataset: TrainingSet, indices: Sequence[int]) -> None:
    """What a loader worker does."""
    collate(dataset.samples(0, indices, "mosaic"), dataset.num_keypoints)


def serve(pipe: Connection, path: str, folder: Path, side: int) -> None:
    """Make the batches that are asked for; answer with seconds of wall and processor time."""
    cv2.setNumThreads(0)
    partners = "batch" if path == WITHIN else "dataset"
    augment = AugmentConfig(mosaic=MosaicConfig(partners=partners))
    dataset = TrainingSet(Store.open(folder), side, augment, seed=0)
    make = partial(our_batch, dataset)
    if path == PLAIN:
        make = partial(plain_batch, dataset, augment)
    else:
        keep_freed_memory()
    while indices := pipe.recv():
        begin, cpu_begin = time.perf_counter(), time.process_time()
        make(indices)
        pipe.send((time.perf_counter() - begin, time.process_time() - cpu_begin))


def print_steps(store: Store, side: int) -> None:
    """Milliseconds of each step alone on the first pictures of the store."""
    keep_freed_memory()
    cv2.setNumThreads(0)
    dataset = TrainingSet(store, side, AugmentConfig(), seed=0)
    picture = dataset._around(0, ()).picture(0)  # noqa: SLF001 - the same pictures
    tile = picture.tile
    assert tile is not None
    square = np.resize(tile, (side, side, 3))
    matrix = warp_matrix(Warp((10, 10), 5.0, 0.9, (1.0, 1.0)), side).astype(np.float64)
    mixup = MixUp(0, 1.2, is_mirrored=True, crop_xy=(0.5, 0.5))
    quiet = replace(picture)
    quiet.__dict__["tile"] = tile  # decoded already
    planes = np.empty((3, side, side), np.uint8)
    steps: dict[str, Callable[[], object]] = {
        "decode": picture.read,
        "warp, general": lambda: cv2.warpPerspective(square, matrix, (side, side)),
        "warp, affine": lambda: cv2.warpAffine(square, matrix[:2], (side, side)),
        "mixup": lambda: blend(square, quiet.labels, mixup, quiet, store.skeleton),
        "colour": lambda: shift_hsv(square, HsvShift(3, 20, -20)),
        "planes, numpy": lambda: np.copyto(planes, square.transpose(2, 0, 1)),
        "planes, OpenCV": lambda: cv2.split(square, list(planes)),
    }
    for name, step in steps.items():
        times = []
        for _ in range(50):
            begin = time.perf_counter()
            step()
            times.append(time.perf_counter() - begin)
        print(f"  {name}: {1000 * float(np.median(times)):.2f} ms")


def main() -> None:
    """Print milliseconds per sample of each path and its ratio to the plain one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    num_samples = TrainingSet(store, arguments.side, AugmentConfig(), seed=0).num_samples(0)
    context = get_context("spawn")
    workers = {}
    for path in (PLAIN, ANYWHERE, WITHIN):
        ours, theirs = context.Pipe()
        target = (theirs, path, arguments.store, arguments.side)
        context.Process(target=serve, args=target, daemon=True).start()
        workers[path] = ours
    times: dict[str, list[tuple[float, float]]] = {path: [] for path in workers}
    for number in range(arguments.rounds + 1):
        indices = tuple(epoch_order(num_samples, 0, number)[: arguments.batch].tolist())
        for path, pipe in workers.items():
            pipe.send(indices)
            times[path].append(pipe.recv())
    for pipe in workers.values():
        pipe.send(())
    print(f"{num_samples} pictures, side {arguments.side}, batches of {arguments.batch}")
    milliseconds = {
        path: 1000 / arguments.batch * np.median(measured[1:], axis=0)  # the first one warms up
        for path, measured in times.items()
    }
    for path, (wall, cpu) in milliseconds.items():
        ratio = milliseconds[PLAIN][0] / wall
        print(
            f"{path}: {wall:.2f} ms per sample ({cpu:.2f} ms of processor), "
            f"{1000 / wall:.0f} per second, {ratio:.2f} times the plain path"
        )
    print("each step alone:")
    print_steps(store, arguments.side)


if __name__ == "__main__":
    main()

"""Stage-1 samples per second of one loader process: the plain SPEC steps, and ours.

    python -m benchmarks.loader_speed STORE [--side 640] [--rounds 12] [--batch 32]

STORE is a folder written by `convert`. Each path has a process of its own, one thread, set up as
its loader workers are; they take turns, batch by batch, so that other work on the machine slows
all alike. Writes a raw log; prints the median over the rounds, and what each step costs alone.
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

from benchmarks import raw_log
from benchmarks.plain_stage1 import render
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
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


def step_times(store: Store, side: int) -> dict[str, list[float]]:
    """Milliseconds of each step alone on the first picture of the store, run by run."""
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
    times: dict[str, list[float]] = {name: [] for name in steps}
    for name, step in steps.items():
        for _ in range(50):
            begin = time.perf_counter()
            step()
            times[name].append(1000 * (time.perf_counter() - begin))
    return times


def table_of(log: RawLog) -> str:
    """Paths with their ratio to the plain one, then the steps alone."""
    batch = log.settings["batch"]
    per_sample = {
        path: 1000 / batch * np.median(rounds, axis=0)
        for path, rounds in log.samples["batch_seconds"].items()
    }
    paths = [
        (
            path,
            f"{wall:.1f}",
            f"{processor:.1f}",
            f"{1000 / wall:.0f}",
            f"{per_sample[PLAIN][0] / wall:.2f}",
        )
        for path, (wall, processor) in per_sample.items()
    ]
    steps = [(name, f"{np.median(times):.2f}") for name, times in log.samples["step_ms"].items()]
    head = ["path", "ms per sample", "of processor", "per second", "times the plain path"]
    return (
        f"{log.settings['pictures']} pictures, side {log.settings['side']}, batches of {batch}; "
        f"medians of {len(log.samples['batch_seconds'][PLAIN])} rounds.\n\n"
        f"{table(head, paths)}\n\n{table(['step alone', 'ms'], steps)}"
    )


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parser.parse_args()
    store = Store.open(arguments.store)
    num_samples = TrainingSet(store, arguments.side, AugmentConfig(), seed=0).num_samples(0)
    measurement = raw_log.begin("loader_speed")
    workers = start_workers(arguments.store, arguments.side)
    times: dict[str, list[tuple[float, float]]] = {path: [] for path in workers}
    for number in range(arguments.rounds + 1):
        indices = tuple(epoch_order(num_samples, 0, number)[: arguments.batch].tolist())
        for path, pipe in workers.items():
            pipe.send(indices)
            times[path].append(pipe.recv())
    for pipe in workers.values():
        pipe.send(())
    log = measurement.end(
        {
            "batch_seconds": {path: measured[1:] for path, measured in times.items()},  # one warms
            "step_ms": step_times(store, arguments.side),
        },
        {"pictures": num_samples, "side": arguments.side, "batch": arguments.batch},
    )
    print(table_of(log))


def start_workers(folder: Path, side: int) -> dict[str, Connection]:
    """A process for each path, and the pipe to it."""
    context = get_context("spawn")
    workers = {}
    for path in (PLAIN, ANYWHERE, WITHIN):
        ours, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, path, folder, side), daemon=True).start()
        workers[path] = ours
    return workers


if __name__ == "__main__":
    main()

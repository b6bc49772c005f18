"""Stage-1 samples per second: the fast path, and plain SPEC steps on the same plans, interleaved.

    python -m benchmarks.loader_speed STORE [--side 640] [--samples 200]

STORE is a folder written by `convert`. One process, one thread.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from benchmarks.plain_stage1 import render
from rtmo.data.augment import draw_hsv, shift_hsv
from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.labels import mirror, trainable
from rtmo.data.mosaic import draw_plan
from rtmo.data.randomness import Purpose, generator
from rtmo.store import Store


def plain_sample(dataset: TrainingSet, augment: AugmentConfig, index: int) -> None:
    """What `TrainingSet.sample` does, with the plain mosaic, warp and mixup."""
    rng = generator(Purpose.SAMPLE, 0, 0, index)
    plan = draw_plan(rng, augment.mosaic, index, dataset.num_samples(0), dataset.input_size)
    pictures = partial(dataset._picture, 0, unreadable=[])  # noqa: SLF001 - the same pictures
    skeleton = dataset.skeleton
    image, labels = render(plan, pictures, skeleton.flip_permutation, dataset.input_size)
    image = shift_hsv(image, draw_hsv(rng, augment.hsv))
    if rng.random() < augment.flip_prob:
        image = cv2.flip(image, 1)
        labels = mirror(labels, dataset.input_size, skeleton)
    trainable(labels)


def main() -> None:
    """Print milliseconds per sample of both paths and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("--side", type=int, default=640)
    parser.add_argument("--samples", type=int, default=200)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    augment = AugmentConfig()
    dataset = TrainingSet(Store.open(arguments.store), arguments.side, augment, seed=0)
    times: dict[str, list[float]] = {"fast": [], "plain": []}
    for number in range(arguments.samples):
        index = number % dataset.num_samples(0)
        begin = time.perf_counter()
        dataset.sample(0, index, "mosaic")
        between = time.perf_counter()
        plain_sample(dataset, augment, index)
        times["fast"].append(between - begin)
        times["plain"].append(time.perf_counter() - between)
    means = {name: 1000 * float(np.mean(values[10:])) for name, values in times.items()}
    for name, mean in means.items():
        print(f"{name}: {mean:.2f} ms per sample, {1000 / mean:.0f} per second")
    print(f"ratio {means['plain'] / means['fast']:.2f}")


if __name__ == "__main__":
    main()

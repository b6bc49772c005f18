"""Latency of predictors, split into fitting the picture, the network, and mapping people back.

Variants are measured in one run, one after the other on the same picture, so that a busy or hot
machine slows all of them alike and their ratios stay meaningful.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rtmo._config import Config
from rtmo.deployment.runners import Predictor

STEPS = ("pre", "net", "post", "total")
"""Fitting and stacking pixels; network, threshold and NMS; clipping and mapping back; all three."""

SETTLE_S = 0.03
"""Pause before a timed run, seconds. ONNX Runtime's threads spin for some milliseconds after a run,
on the cores that the next one needs: without a pause whoever follows another is charged for it (on
2 cores OpenVINO took 50 ms instead of 34, a second session 108 instead of 65)."""

RESAMPLINGS = 2000
"""Of the runs, for the interval of a ratio."""

VERSIONED = ("numpy", "opencv-python-headless", "onnxruntime", "torch", "openvino")
"""Distributions whose versions decide a latency figure."""


class Percentiles(Config):
    """Milliseconds per picture."""

    p50_ms: float
    """Median."""
    p90_ms: float
    """Nine of ten runs are faster."""
    p99_ms: float
    """99 of 100 runs are faster; with fewer than 100 runs close to the slowest one."""


class Hardware(Config):
    """What a latency figure was measured on."""

    cpu: str
    """Processor name."""
    logical_cpus: int
    """Logical processors that this process may use."""
    cpu_mhz: tuple[float, ...]
    """Clock of every processor after the measurement; empty when the system does not say."""
    load_average: float
    """Runnable processes of the whole machine in the last minute; above the threads used means
    that others were busy too."""
    memory_gib: float
    """Main memory."""
    gpu: str
    """Name and driver; empty without one."""
    system: str
    """Operating system and kernel."""
    python: str
    """Python version."""
    versions: dict[str, str]
    """Versions of the libraries that are installed of `VERSIONED`."""


class Ratio(Config):
    """Time of one variant over another's; below 1 is faster."""

    median: float
    """Median over the runs, each of which timed both on the same picture."""
    low: float
    """Lower end of the median's interval of 95 %, by bootstrap over the runs."""
    high: float
    """Upper end of it."""


class LatencyReport(Config):
    """One interleaved measurement."""

    hardware: Hardware
    """The machine."""
    threads: int = Field(gt=0)
    """CPU threads given to each runtime."""
    batch: int = Field(1, gt=0)
    """Pictures per call."""
    warmup_runs: int
    """Runs of each variant before counting."""
    runs: int
    """Counted runs of each variant."""
    images: int
    """Different pictures fed in turn."""
    pictures_sha256: str
    """Of their pixels and shapes, in order: which pictures these were."""
    mean_people: dict[str, float]
    """People found per picture by each variant."""
    latency: dict[str, dict[str, Percentiles]]
    """Variant -> step (pre, net, post, total) -> percentiles."""

    totals_ms: dict[str, tuple[float, ...]]
    """Variant -> total of each counted run; equal places are the same picture."""

    def ratio(self, variant: str, baseline: str) -> float:
        """Median total latency of one variant over another's; below 1 is faster.

        Raises:
            KeyError: if one of them was not measured.
        """
        return self.latency[variant]["total"].p50_ms / self.latency[baseline]["total"].p50_ms

    def paired_ratio(self, variant: str, baseline: str) -> Ratio:
        """How many times as long as the baseline the variant takes, run by run.

        Raises:
            KeyError: if one of them was not measured.
        """
        ratios = np.array(self.totals_ms[variant]) / np.array(self.totals_ms[baseline])
        rows = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLINGS, len(ratios)))
        low, high = np.quantile(np.median(ratios[rows], axis=1), (0.025, 0.975))
        return Ratio(
            median=round(float(np.median(ratios)), 4),
            low=round(float(low), 4),
            high=round(float(high), 4),
        )


def latency(
    predictors: Mapping[str, Predictor],
    images: Sequence[NDArray[Any]],
    *,
    warmup_runs: int,
    runs: int,
    threads: int,
) -> LatencyReport:
    """Time every predictor on the same pictures, batch 1, in turns of random order.

    Args:
        predictors: variant name -> predictor, already set to `threads` CPU threads.
        images: BGR uint8 pictures, decoded.
        warmup_runs: runs of each variant that are not counted.
        runs: counted runs of each variant.
        threads: what the predictors were set to; recorded.

    Raises:
        ValueError: if there is nothing to measure.
    """
    if not predictors or not images:
        raise ValueError(
            f"latency needs at least one predictor and one picture, got {len(predictors)} and "
            f"{len(images)}"
        )
    times = {name: np.zeros((runs, len(STEPS))) for name in predictors}
    people = dict.fromkeys(predictors, 0)
    order = np.random.default_rng(0)
    for run in range(-warmup_runs, runs):
        image = images[run % len(images)]
        for name in order.permutation([*predictors]):
            milliseconds, found = _timed(predictors[name], image)
            if run >= 0:
                times[name][run] = milliseconds
                people[name] += found
    return LatencyReport(
        hardware=hardware(),
        threads=threads,
        warmup_runs=warmup_runs,
        runs=runs,
        images=len(images),
        pictures_sha256=_pictures_sha256(images),
        mean_people={name: count / runs for name, count in people.items()},
        latency={
            name: {step: _percentiles(values[:, i]) for i, step in enumerate(STEPS)}
            for name, values in times.items()
        },
        totals_ms={
            name: tuple(values[:, STEPS.index("total")].round(3).tolist())
            for name, values in times.items()
        },
    )


def throughput(
    predictors: Mapping[str, Predictor],
    images: Sequence[NDArray[Any]],
    *,
    batch: int,
    runs: int,
) -> dict[str, float]:
    """Pictures per second of every predictor: whole batches, in turns, decoded pictures in.

    Args:
        predictors: variant name -> predictor.
        images: fed in turn, again from the first one when they are used up.
        batch: pictures per call.
        runs: counted calls of each variant; before each is one that is not counted.

    Returns:
        Variant -> pictures per second of its median call.
    """
    seconds = {name: np.zeros(runs) for name in predictors}
    order = np.random.default_rng(0)
    for run in range(runs):
        pictures = [images[(run * batch + place) % len(images)] for place in range(batch)]
        for name in order.permutation([*predictors]):
            time.sleep(SETTLE_S)
            predictors[name](pictures)
            start = time.perf_counter()
            predictors[name](pictures)
            seconds[name][run] = time.perf_counter() - start
    return {name: round(batch / float(np.median(taken)), 2) for name, taken in seconds.items()}


def _pictures_sha256(images: Sequence[NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr(image.shape).encode())
        digest.update(np.ascontiguousarray(image).tobytes())
    return digest.hexdigest()


def hardware() -> Hardware:
    """The machine this process runs on."""
    cpu_info = _read(Path("/proc/cpuinfo"))
    names = _values(cpu_info, "model name")
    return Hardware(
        cpu=names[0] if names else platform.processor() or platform.machine(),
        logical_cpus=len(os.sched_getaffinity(0)),
        cpu_mhz=tuple(float(value) for value in _values(cpu_info, "cpu MHz")),
        load_average=round(os.getloadavg()[0], 2),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        gpu=_gpu(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: version for name in VERSIONED if (version := _version(name))},
    )


def _timed(predictor: Predictor, image: NDArray[Any]) -> tuple[tuple[float, ...], int]:
    """Milliseconds of each step for one picture, and the number of people found.

    As in a stream, where the picture before was the predictor's own: a run before is not counted.
    After another variant's run the processor's caches hold that one's weights.
    """
    time.sleep(SETTLE_S)
    predictor(image)
    start = time.perf_counter()
    batch = predictor.framing.prepare([image])
    prepared = time.perf_counter()
    people = predictor.infer(batch.pixels)
    inferred = time.perf_counter()
    poses = predictor.framing.finish(people, batch)
    end = time.perf_counter()
    steps = (prepared - start, inferred - prepared, end - inferred, end - start)
    return tuple(1000 * seconds for seconds in steps), len(poses[0])


def _percentiles(milliseconds: NDArray[np.float64]) -> Percentiles:
    p50, p90, p99 = np.quantile(milliseconds, (0.5, 0.9, 0.99))
    return Percentiles(
        p50_ms=round(float(p50), 3), p90_ms=round(float(p90), 3), p99_ms=round(float(p99), 3)
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _values(text: str, key: str) -> list[str]:
    lines = (line.partition(":") for line in text.splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == key]


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _gpu() -> str:
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()

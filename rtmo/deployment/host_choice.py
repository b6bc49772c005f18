"""Which way of a manifest is the fastest on this host: timed once, then remembered.

Latency belongs to the host and not to the export, so it is not in the manifest. It is kept in the
user's cache folder, by the manifest's content, processor, threads and versions of the libraries: a
change of any of them times again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from pydantic import Field, ValidationError

from rtmo._config import Config
from rtmo.deployment.latency import Hardware, hardware, latency
from rtmo.deployment.official_files import cache_folder
from rtmo.deployment.runners import Predictor

WARMUP_RUNS = 3

logger = logging.getLogger(__name__)


class HostTimings(Config):
    """One interleaved measurement of a manifest's ways."""

    manifest: str
    """Where the manifest lay, for people to read."""
    hardware: Hardware
    """The machine, and how busy it was."""
    threads: int | None
    """CPU threads of each runtime; null where it was left to them."""
    p50_ms: dict[str, float] = Field(min_length=1)
    """Way -> median time of a picture of noise, letterbox and NMS included, batch 1."""

    @property
    def fastest(self) -> str:
        """Name of the way with the smallest median."""
        return min(self.p50_ms, key=lambda name: self.p50_ms[name])


def timings_file(manifest_path: Path, threads: int | None) -> Path:
    """Where this host's timings of a manifest are kept, measured or not yet."""
    host = hardware()
    key = {
        "manifest": hashlib.sha256(manifest_path.read_bytes()).hexdigest(),
        "cpu": host.cpu,
        "logical_cpus": host.logical_cpus,
        "threads": threads,
        "versions": host.versions,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache_folder() / "ways" / f"{digest[:32]}.json"


def kept_timings(path: Path) -> HostTimings | None:
    """What was measured before; None when nothing was, or when the file is damaged."""
    try:
        return HostTimings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def measure(
    manifest_path: Path, ways: Mapping[str, Predictor], *, runs: int, threads: int | None
) -> HostTimings:
    """Time the ways in turns on a picture of noise, and keep the result for the next time.

    Args:
        manifest_path: what they are ways of.
        ways: name -> predictor, set to `threads` CPU threads.
        runs: counted runs of each.
        threads: CPU threads of each runtime; None where it is left to them.
    """
    logger.warning(
        "timing %d ways to run %s on this CPU, once; load average %.1f",
        len(ways),
        manifest_path,
        hardware().load_average,
    )
    size = max(way.framing.input_size for way in ways.values())
    picture = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    used = threads or hardware().logical_cpus
    report = latency(ways, [picture], warmup_runs=WARMUP_RUNS, runs=runs, threads=used)
    timings = HostTimings(
        manifest=str(manifest_path),
        hardware=report.hardware,
        threads=threads,
        p50_ms={name: steps["total"].p50_ms for name, steps in report.latency.items()},
    )
    _keep(timings_file(manifest_path, threads), timings)
    return timings


def _keep(path: Path, timings: HostTimings) -> None:
    """Write atomically: two processes may open a manifest at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(timings.model_dump_json(indent=2) + "\n")
        Path(file.name).replace(path)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the next opening times again", path, error)

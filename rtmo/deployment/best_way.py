"""A manifest opened as a model: the way within budget that is fastest on this host."""

from __future__ import annotations

import importlib.util
import logging
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rtmo.deployment.cache import cache_folder
from rtmo.deployment.fastest import choose_fastest, recall, remember, this_host
from rtmo.deployment.latency import hardware
from rtmo.deployment.manifest import Manifest, file_sha256
from rtmo.deployment.metadata import Padding
from rtmo.deployment.runners import Predictor, UnavailableError
from rtmo.deployment.ways import Route, open_route

RUNTIMES = ("onnxruntime", "openvino")
"""Python modules that run ONNX files on a CPU."""

logger = logging.getLogger(__name__)


def open_best(
    manifest_path: Path,
    *,
    score_threshold: float,
    nms_iou: float,
    threads: int | None,
    padding: Padding,
) -> Predictor:
    """The fastest way within its budget on this host, timed when it is first opened here.

    Args:
        manifest_path: manifest.json of the export stage, beside its files.
        score_threshold: people must score above this.
        nms_iou: box IoU above which the lower-scored of two people is dropped.
        threads: CPU threads; None leaves it to the runtime.
        padding: how far pictures are padded.

    Raises:
        ValueError: if the file is not such a manifest.
        UnavailableError: if no way of it can be run here.
    """
    try:
        cpu = Manifest.model_validate_json(manifest_path.read_bytes()).cpu
    except ValidationError as error:
        raise ValueError(
            f"{manifest_path} is not a manifest of the export stage of this version: {error}"
        ) from error
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
    openers = {
        way.name: partial(
            open_route,
            manifest_path.parent,
            Route(way.runtime, way.file, way.arithmetic),
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            threads=threads,
            padding=padding,
        )
        for way in (cpu.usable(installed) if cpu else ())
    }
    if cpu is None or not openers:
        raise UnavailableError(
            f"{manifest_path} names no way to run the model by {' or '.join(RUNTIMES)} that this "
            "host can use; open its ONNX file instead, or export again on this host"
        )
    host = this_host(threads)
    name = f"{file_sha256(manifest_path)[:32]}-{padding}-{host.digest}.json"
    memory = cache_folder() / "ways" / name
    choice = recall(memory, host)
    if choice is None:
        logger.warning(
            "timing %d ways to run %s on this CPU, once; load average %.1f",
            len(openers),
            manifest_path,
            hardware().load_average,
        )
        choice = choose_fastest(openers, _no_problem, [_noise()], host, cpu.timing_runs)
        remember(choice, memory)
    return openers[choice.usable[0]]()


def _no_problem(_predictor: Predictor) -> str:
    """Every way of a manifest was held against torch when it was exported."""
    return ""


def _noise() -> NDArray[np.uint8]:
    """A picture to time on, as large as the usual ones."""
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)

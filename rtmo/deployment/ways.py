"""Ways to run an export on a CPU: which runtime, file and arithmetic; which hold, and the best."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rtmo.deployment.check import Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.fastest import choose_fastest, recall, remember, this_host
from rtmo.deployment.latency import hardware
from rtmo.deployment.manifest import CpuWays, Manifest, Way, file_sha256
from rtmo.deployment.metadata import Arithmetic
from rtmo.deployment.official_files import cache_folder
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.runners import Predictor, UnavailableError

RUNTIMES = ("onnxruntime", "openvino")
"""Python modules that run ONNX files on a CPU."""

logger = logging.getLogger(__name__)


class Route(NamedTuple):
    """A way that may be tried."""

    runtime: Literal["onnxruntime", "openvino"]
    """Which library runs it."""
    file: str
    """Path beside the manifest."""
    arithmetic: Arithmetic
    """What the network is computed in."""

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.runtime} {self.arithmetic} {self.file}"


def open_route(
    folder: Path, route: Route, *, score_threshold: float, nms_iou: float, threads: int | None
) -> Predictor:
    """The predictor of a route.

    Args:
        folder: where the manifest lies.
        route: what to open.
        score_threshold: people must score above this.
        nms_iou: box IoU above which the lower-scored of two people is dropped.
        threads: CPU threads; None leaves it to the runtime.

    Raises:
        UnavailableError: if this CPU does not have the arithmetic.
        ValueError: if the file cannot be opened, or OpenVINO cannot reach the thresholds.
    """
    path = folder / route.file
    if route.runtime == "onnxruntime":
        return OnnxPredictor(
            path, "cpu", score_threshold=score_threshold, nms_iou=nms_iou, threads=threads
        )
    return OpenVinoPredictor(
        path,
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        threads=threads,
        float_type="bf16" if route.arithmetic == "bf16" else "f32",
    )


def try_routes(
    folder: Path, routes: Sequence[Route], reference: Reference, config: ExportConfig
) -> CpuWays:
    """Hold every route against torch.

    Args:
        folder: where the files lie.
        routes: what to try; a route that this CPU does not have is left out and logged.
        reference: torch's answers.
        config: budgets and threads.
    """
    ways = []
    for route in routes:
        try:
            predictor = open_route(
                folder,
                route,
                score_threshold=reference.score_threshold,
                nms_iou=reference.nms_iou,
                threads=config.threads,
            )
        except UnavailableError as error:
            logger.warning("%s is not tried: %s", route.name, error)
            continue
        check = reference.check(predictor)
        problems = check.over_budget(config.budgets.of(route.arithmetic))
        ways.append(
            Way(
                runtime=route.runtime,
                file=route.file,
                arithmetic=route.arithmetic,
                check=check,
                problems=tuple(problems),
            )
        )
    return CpuWays(threads=config.threads, timing_runs=config.timing_runs, ways=tuple(ways))


def open_best(
    manifest_path: Path, *, score_threshold: float, nms_iou: float, threads: int | None
) -> Predictor:
    """The fastest way within its budget on this host, timed when it is first opened here.

    Args:
        manifest_path: manifest.json of the export stage, beside its files.
        score_threshold: people must score above this.
        nms_iou: box IoU above which the lower-scored of two people is dropped.
        threads: CPU threads; None leaves it to the runtime.

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
        )
        for way in (cpu.usable(installed) if cpu else ())
    }
    if cpu is None or not openers:
        raise UnavailableError(
            f"{manifest_path} names no way to run the model by {' or '.join(RUNTIMES)} that this "
            "host can use; open its ONNX file instead, or export again on this host"
        )
    host = this_host(threads)
    name = f"{file_sha256(manifest_path)[:32]}-{host.digest}.json"
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

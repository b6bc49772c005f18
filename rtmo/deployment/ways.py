"""Ways to run an export on a CPU: which runtime, file and arithmetic, and which is best."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from numpy.typing import NDArray
from pydantic import ValidationError

from rtmo.deployment.check import Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.latency import hardware, latency
from rtmo.deployment.manifest import CpuWays, Manifest, Way
from rtmo.deployment.metadata import Arithmetic
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.runners import Predictor, UnavailableError

RUNTIMES = ("onnxruntime", "openvino")
"""Python modules that run ONNX files on a CPU."""

WARMUP_RUNS = 3

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
    folder: Path,
    routes: Sequence[Route],
    reference: Reference,
    images: Sequence[NDArray[Any]],
    config: ExportConfig,
) -> CpuWays:
    """Hold every route against torch and time them in turns.

    Args:
        folder: where the files lie.
        routes: what to try; a route that this CPU does not have is left out and logged.
        reference: torch's answers.
        images: BGR uint8 pictures to time on.
        config: budgets, threads and number of runs.
    """
    predictors: dict[Route, Predictor] = {}
    for route in routes:
        try:
            predictors[route] = open_route(
                folder,
                route,
                score_threshold=reference.score_threshold,
                nms_iou=reference.nms_iou,
                threads=config.threads,
            )
        except UnavailableError as error:
            logger.warning("%s is not tried: %s", route.name, error)
    timed = latency(
        {route.name: predictor for route, predictor in predictors.items()},
        images,
        warmup_runs=WARMUP_RUNS,
        runs=config.timing_runs,
        threads=config.threads,
    )
    ways = []
    for route, predictor in predictors.items():
        check = reference.check(predictor)
        ways.append(
            Way(
                runtime=route.runtime,
                file=route.file,
                arithmetic=route.arithmetic,
                check=check,
                problems=tuple(check.over_budget(config.budgets.of(route.arithmetic))),
                p50_ms=timed.latency[route.name]["total"].p50_ms,
            )
        )
    return CpuWays(cpu=timed.hardware.cpu, threads=config.threads, ways=tuple(ways))


def open_best(
    manifest_path: Path, *, score_threshold: float, nms_iou: float, threads: int | None
) -> Predictor:
    """The fastest way within its budget that the installed runtimes can run.

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
        manifest = Manifest.model_validate_json(manifest_path.read_bytes())
    except ValidationError as error:
        raise ValueError(
            f"{manifest_path} is not a manifest of the export stage: {error}"
        ) from error
    installed = [name for name in RUNTIMES if importlib.util.find_spec(name) is not None]
    best = manifest.cpu.best(installed) if manifest.cpu else None
    if manifest.cpu is None or best is None:
        raise UnavailableError(
            f"{manifest_path} names no way to run the model by {' or '.join(RUNTIMES)} that is "
            "installed here; open its ONNX file instead, or export again on this host"
        )
    if manifest.cpu.cpu != (here := hardware().cpu):
        logger.warning(
            "%s was timed on %s, this is %s: another way may be faster here",
            manifest_path,
            manifest.cpu.cpu,
            here,
        )
    return open_route(
        manifest_path.parent,
        Route(best.runtime, best.file, best.arithmetic),
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        threads=threads,
    )

"""Ways to run an export on a CPU: runtime, file and arithmetic, and which agree with torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from rtmo.deployment.check import Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.manifest import CpuWays, Way
from rtmo.deployment.metadata import Arithmetic, Padding
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.runners import Predictor, UnavailableError

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
    folder: Path,
    route: Route,
    *,
    score_threshold: float,
    nms_iou: float,
    threads: int | None,
    padding: Padding = "square",
) -> Predictor:
    """The predictor of a route.

    Args:
        folder: where the manifest lies.
        route: what to open.
        score_threshold: people must score above this.
        nms_iou: box IoU above which the lower-scored of two people is dropped.
        threads: CPU threads; None leaves it to the runtime.
        padding: how far pictures are padded.

    Raises:
        UnavailableError: if this CPU does not have the arithmetic.
        ValueError: if the file cannot be opened, or has one input size and pictures are trimmed.
    """
    path = folder / route.file
    if route.runtime == "onnxruntime":
        return OnnxPredictor(
            path,
            "cpu",
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            threads=threads,
            padding=padding,
        )
    return OpenVinoPredictor(
        path,
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        threads=threads,
        padding=padding,
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

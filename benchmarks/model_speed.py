"""Time RTMO's training step and its inference on this machine's CPU.

    python -m benchmarks.model_speed --threads 2 > benchmarks/model_speed.md

Training: forward, loss and backward of RTMO-s, batch 4, 640 x 640, 5 people per image; the error
is the relative difference of the loss to the plain float32 model's.
Inference: the dense forward of RTMO-s and RTMO-l, batch 1, 640 x 640, and the whole prediction with
10 people kept; the error is the largest distance of a box side from the plain float32 model's.

Work is counted by torch's own counter (convolutions and matrix products, 2 per multiply-add), so
GFLOP/s compare with the machine's float32 matrix product of the same run.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model import build_rtmo
from rtmo.model.config import Size
from rtmo.model.decode import select_people
from rtmo.model.inference import InferenceRTMO, fold
from rtmo.skeleton import COCO17
from rtmo.structures import TargetBatch

SIDE = 640
PEOPLE = 10

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


def as_is(forward: Callable[..., Any]) -> Callable[..., Any]:
    """The compiler that leaves everything as it is."""
    return forward


Row = dict[str, Any]
"""One variant: what, variant, seconds of each run, gflop of one, error, unit of the error."""


def row(what: str, variant: str, step: Callable[[], object], runs: int, **facts: object) -> Row:
    """Time a variant; `facts` are its work and its error."""
    return {"what": what, "variant": variant, "seconds": seconds_of(step, runs), **facts}


def seconds_of(step: Callable[[], object], runs: int) -> list[float]:
    """Wall time of `runs` calls after two that do not count."""
    for _ in range(2):
        step()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times


def matrix_gflops(runs: int = 5) -> float:
    """Rate of a large float32 matrix product, the bound for convolutions."""
    a = torch.rand(2048, 2048)
    return 2 * 2048**3 / statistics.median(seconds_of(lambda: a @ a, runs)) / 1e9


def people(batch: int, count: int) -> TargetBatch:
    """Random people."""
    centres = torch.rand(batch, count, 2) * SIDE
    half = torch.rand(batch, count, 2) * SIDE / 6 + 20
    boxes = torch.cat((centres - half, centres + half), dim=-1).clamp(0, SIDE)
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    keypoints = low + (high - low) * torch.rand(batch, count, 17, 2)
    labelled = torch.ones(batch, count, 17)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    return TargetBatch(
        boxes, keypoints, labelled, labelled, areas, torch.ones(batch, count).bool(), None
    )


def gflop(work: Callable[[], object]) -> float:
    """Work of one call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def training_step(
    precision: torch.autocast, memory_format: torch.memory_format, compiler: Compiler
) -> Callable[[], Tensor]:
    """One step of RTMO-s, batch 4; gives the loss."""
    torch.manual_seed(0)
    model = build_rtmo("s").train().to(memory_format=memory_format)  # type: ignore[call-overload]
    forward = compiler(model)
    criterion = Criterion(COCO17)
    images = (torch.rand(4, 3, SIDE, SIDE) * 255).to(memory_format=memory_format)
    targets = people(4, 5)

    def step() -> Tensor:
        with precision:
            raw = forward(images)
        model.zero_grad(set_to_none=True)
        loss = criterion(raw, targets, model.dcc, LossConfig()).total
        loss.backward()
        return loss.detach()

    return step


def training_rows(runs: int) -> list[Row]:
    """One table row per variant of the training step."""
    full = torch.autocast("cpu", enabled=False)
    half = torch.autocast("cpu", torch.bfloat16)
    rows_first, channels_last = torch.contiguous_format, torch.channels_last
    variants: dict[str, tuple[torch.autocast, torch.memory_format, Compiler]] = {
        "float32": (full, rows_first, as_is),
        "float32, channels last": (full, channels_last, as_is),
        "float32, channels last, compiled": (full, channels_last, torch.compile),
        "bfloat16 autocast, channels last": (half, channels_last, as_is),
        "bfloat16 autocast, channels last, compiled": (half, channels_last, torch.compile),
    }
    work = gflop(training_step(full, rows_first, as_is))
    reference = training_step(full, rows_first, as_is)().item()
    rows = []
    for name, variant in variants.items():
        error = abs(training_step(*variant)().item() / reference - 1)
        step = training_step(*variant)
        rows.append(row("s training step, batch 4", name, step, runs, gflop=work, error=error))
    return rows


def prediction(model: InferenceRTMO, images: Tensor) -> Callable[[], Tensor]:
    """Forward, choice of ten people and their keypoints."""
    priors_xy = model.priors_xy(SIDE, SIDE)
    with torch.inference_mode():
        # Random weights give every prior nearly the same score: only the best ten may pass.
        threshold = float(model(images)[0].flatten().topk(PEOPLE + 1).values[-1])

    @torch.inference_mode()
    def predict() -> Tensor:
        scores, boxes, _, vectors = model(images)
        ids = select_people(
            scores[0], boxes[0], score_threshold=threshold, nms_iou=1.0, max_people=PEOPLE
        )
        return model.keypoints(vectors[0, ids], boxes[0, ids], priors_xy[ids])

    assert len(predict()) == PEOPLE
    return predict


def inference_rows(size: Size, runs: int) -> list[Row]:
    """One table row per variant."""
    torch.manual_seed(0)
    model = build_rtmo(size).eval()
    images = torch.rand(1, 3, SIDE, SIDE) * 255
    folded = fold(model)
    last = fold(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images_last = images.to(memory_format=torch.channels_last)
    compiled = torch.compile(last)

    @torch.inference_mode()
    def plain() -> Tensor:
        return model(images).boxes_xyxy

    @torch.inference_mode()
    def boxes(
        module: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, precision: torch.autocast
    ) -> Tensor:
        with precision:
            return module(x)[1]

    full = torch.autocast("cpu", enabled=False)
    half = torch.autocast("cpu", torch.bfloat16)

    variants: dict[str, Callable[[], Tensor]] = {
        "float32": plain,
        "float32, folded": lambda: boxes(folded, images, full),
        "float32, folded, channels last": lambda: boxes(last, images_last, full),
        "float32, folded, channels last, compiled": lambda: boxes(compiled, images_last, full),
        "bfloat16, folded, channels last": lambda: boxes(last, images_last, half),
        "bfloat16, folded, channels last, compiled": lambda: boxes(compiled, images_last, half),
    }
    reference = plain()
    work = gflop(lambda: boxes(folded, images, full))
    rows = []
    for name, run in variants.items():
        error_px = (run() - reference).abs().max().item()
        rows.append(row(f"{size} forward", name, run, runs, gflop=work, error_px=error_px))
    whole = prediction(last, images_last)
    name = "float32, folded, channels last"
    return [
        *rows,
        row(f"{size} prediction, 10 people", name, whole, runs, gflop=gflop(whole)),
    ]


def main() -> None:
    """Measure everything; print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measurement = raw_log.begin("model_speed")
    gflops = matrix_gflops()
    rows = training_rows(arguments.runs)
    for size in ("s", "l"):
        rows += inference_rows(size, arguments.runs)
    settings = {"threads": arguments.threads, "runs": arguments.runs}
    print(table_of(measurement.end({"matrix_gflops": gflops, "rows": rows}, settings)))


def table_of(log: RawLog) -> str:
    """Time, rate and error of every variant."""
    rows = []
    for found in log.samples["rows"]:
        median_s = statistics.median(found["seconds"])
        if "error_px" in found:
            error = f"{found['error_px']:.2g} px"
        else:
            error = f"{found['error']:.1g}" if "error" in found else ""
        rate = f"{found['gflop'] / median_s:.0f}"
        rows.append((found["what"], found["variant"], f"{1e3 * median_s:.0f}", rate, error))
    return (
        f"{log.settings['threads']} threads, medians of {log.settings['runs']} runs; "
        f"float32 matrix product {log.samples['matrix_gflops']:.0f} GFLOP/s.\n\n"
        + table(["what", "variant", "ms", "GFLOP/s", "error"], rows)
    )


if __name__ == "__main__":
    main()

"""Time RTMO's training step and its inference on this machine's CPU.

    python -m benchmarks.model_speed --threads 2 > benchmarks/model_speed.md

Training: forward, loss and backward of RTMO-s, batch 4, 640 x 640, 5 people per image.
Inference: the dense forward of RTMO-s and RTMO-l, batch 1, 640 x 640, and the whole prediction with
10 people kept. Each variant's error is its largest distance from the plain float32 model.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model import build_rtmo
from rtmo.model.config import Size
from rtmo.model.decode import select_people
from rtmo.model.inference import InferenceRTMO, fold
from rtmo.skeleton import COCO17
from rtmo.structures import TargetBatch

SIDE = 640


def median_s(step: Callable[[], object], runs: int) -> float:
    """Median wall time of `runs` calls after two that do not count."""
    for _ in range(2):
        step()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matrix_gflops(runs: int = 5) -> float:
    """Rate of a large float32 matrix product, the bound for convolutions."""
    a = torch.rand(2048, 2048)
    return 2 * 2048**3 / median_s(lambda: a @ a, runs) / 1e9


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


def training_step(precision: torch.autocast) -> Callable[[], None]:
    """One step of RTMO-s, batch 4, channels last."""
    torch.manual_seed(0)
    model = build_rtmo("s").train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    criterion = Criterion(COCO17)
    images = (torch.rand(4, 3, SIDE, SIDE) * 255).to(memory_format=torch.channels_last)
    targets = people(4, 5)

    def step() -> None:
        with precision:
            raw = model(images)
        model.zero_grad(set_to_none=True)
        criterion(raw, targets, model.dcc, LossConfig()).total.backward()

    return step


def prediction(model: InferenceRTMO, images: Tensor) -> Callable[[], Tensor]:
    """Forward, choice of ten people and their keypoints."""
    priors_xy = model.priors_xy(SIDE, SIDE)

    @torch.inference_mode()
    def predict() -> Tensor:
        scores, boxes, _, vectors = model(images)
        ids = select_people(scores[0], boxes[0], score_threshold=0.0, nms_iou=0.65, max_people=10)
        return model.keypoints(vectors[0, ids], boxes[0, ids], priors_xy[ids])

    return predict


def inference_rows(size: Size, runs: int) -> list[str]:
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
    rows = []
    for name, run in variants.items():
        error_px = (run() - reference).abs().max().item()
        rows.append(
            f"| {size} forward | {name} | {1e3 * median_s(run, runs):.0f} | {error_px:.2g} |"
        )
    whole = 1e3 * median_s(prediction(last, images_last), runs)
    return [
        *rows,
        f"| {size} prediction, 10 people | float32, folded, channels last | {whole:.0f} | |",
    ]


def main() -> None:
    """Print a report in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"# Model speed, {datetime.datetime.now(datetime.UTC):%Y-%m-%d}\n")
    print(f"{cpu_name()}, {arguments.threads} threads, torch {torch.__version__};")
    print(f"float32 matrix product {matrix_gflops():.0f} GFLOP/s.")
    print(f"Medians of {arguments.runs} runs. `python -m benchmarks.model_speed`\n")
    print("| what | variant | ms | largest box error, px |\n|---|---|---|---|")
    for name, enabled in (("float32", False), ("bfloat16 autocast", True)):
        step = training_step(torch.autocast("cpu", torch.bfloat16, enabled=enabled))
        duration = 1e3 * median_s(step, arguments.runs)
        print(f"| s training step, batch 4 | {name}, channels last | {duration:.0f} | |")
    for size in ("s", "l"):
        print("\n".join(inference_rows(size, arguments.runs)))


def cpu_name() -> str:
    """The processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()

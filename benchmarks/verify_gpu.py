"""Build, run, compare and time the engines of a trained model on this machine's GPU.

    python benchmarks/verify_gpu.py [--weights FILE] [--data FOLDER] [--receipts FILE]

Appends a dated receipt. What cannot be done here is `unavailable` with the reason, and then the
exit status is 1: nothing was verified.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from pipelines.stages.export import accuracy, network_inputs
from rtmo.deployment.build_engine import TensorRtMissingError, cached_engine
from rtmo.deployment.check import Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.engine_runner import EnginePredictor
from rtmo.deployment.export_onnx import export_both_forms
from rtmo.deployment.latency import hardware
from rtmo.deployment.pictures import spread
from rtmo.deployment.runners import TorchPredictor, UnavailableError
from rtmo.deployment.variants import make_variants
from rtmo.model.weights import load_model, read_metadata
from rtmo.store import Store

BATCHES = (1, 8, 32)
RUNS, WARMUP = 200, 20
SCORE, IOU = 0.1, 0.65


def main() -> int:
    """Parse the command line, verify, append the receipt; 0 if everything ran and agreed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=Path("models/train/weights.safetensors"))
    parser.add_argument("--data", type=Path, default=Path("data/processed/embedded"))
    parser.add_argument("--receipts", type=Path, default=Path("benchmarks/gpu-receipts.md"))
    arguments = parser.parse_args()
    rows, failures = verify(arguments.weights, arguments.data)
    text = receipt(arguments.weights, rows, failures)
    print(text)
    with arguments.receipts.open("a") as file:
        file.write(text)
    return 1 if failures else 0


def verify(weights: Path, data: Path) -> tuple[list[str], list[str]]:
    """Table rows of everything that ran, and in words what did not run or did not agree."""
    config = ExportConfig()
    rows: list[str] = []
    failures: list[str] = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = export_both_forms(weights, folder, config, score_threshold=SCORE, nms_iou=IOU)
        reference, calibration = references(weights, data, config)
        variants = make_variants(folder, files, reference, calibration, config)
        failures += [f"{name}: {problem}" for name, v in variants.items() for problem in v.problems]
        sources = {"fp32": files["raw"]} | {
            variant.precision: folder / name
            for name, variant in variants.items()
            if variant.made_for == "tensorrt" and not variant.problems
        }
        for precision, source in sources.items():
            try:
                engine, built = cached_engine(source, Path("runs/engines"))
                predictor = EnginePredictor(engine, score_threshold=SCORE, nms_iou=IOU)
            except (TensorRtMissingError, UnavailableError) as error:
                failures.append(f"{precision}: unavailable: {error}")
                continue
            check = reference.check(predictor)
            failures += [
                f"{precision}: {problem}"
                for problem in check.over_budget(config.budgets.of(built.metadata.precision))
            ]
            for batch in BATCHES:
                p50, p99 = latency_ms(predictor, batch)
                rows.append(
                    f"| {built.package} {built.version} | {precision} | {batch} | {p50:.2f} | "
                    f"{p99:.2f} | {1000 * batch / p50:.0f} | {check.ap_exported:.4f} | "
                    f"{check.ap_torch:.4f} | {check.parity.keypoint_px_p99:.3f} |"
                )
    return rows, failures


def references(
    weights: Path, data: Path, config: ExportConfig
) -> tuple[Reference, list[np.ndarray]]:
    """What torch finds in validation pictures, and network inputs of training pictures."""
    torch_on_cpu = TorchPredictor(
        load_model(weights),
        "cpu",
        input_size=int(read_metadata(weights)["input_size"]),
        score_threshold=SCORE,
        nms_iou=IOU,
        max_people=config.max_people,
    )
    validation = Store.open(data / "val")
    rows = spread(len(validation), config.parity_images)
    images = [validation.read_image(row) for row in rows]
    reference = Reference(torch_on_cpu, images, lambda poses: accuracy(poses, validation, rows))
    training = Store.open(data / "train")
    return reference, network_inputs(training, config.calibration_images, torch_on_cpu.framing)


def latency_ms(predictor: EnginePredictor, batch: int) -> tuple[float, float]:
    """Median and 99th percentile of the engine alone on GPU memory, by CUDA events."""
    size = predictor.metadata.input_size
    images = torch.rand(batch, 3, size, size, device="cuda") * 255
    times = []
    for run in range(WARMUP + RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        predictor.run(images)
        end.record()
        torch.cuda.synchronize()
        if run >= WARMUP:
            times.append(start.elapsed_time(end))
    p50, p99 = np.quantile(times, (0.5, 0.99))
    return float(p50), float(p99)


def receipt(weights: Path, rows: list[str], failures: list[str]) -> str:
    """The section that is appended."""
    machine = hardware()
    facts = read_metadata(weights)
    lines = [
        f"\n## {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, {machine.gpu or 'no GPU'}",
        "",
        f"Weights of stage hash {facts.get('stage_hash', 'unknown')[:12]}, input "
        f"{facts['input_size']} px; {machine.versions}",
        "",
    ]
    if rows:
        lines += [
            "| package | precision | batch | p50 ms | p99 ms | pictures/s | AP | AP torch "
            "| keypoints p99 px |",
            "|---|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    lines += [f"- not verified: {failure}" for failure in failures]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

"""RTMO-s at 640 px, batch 1: complete graph against raw graph, and OpenVINO's arithmetics.

    python -m benchmarks.cpu_runtimes PICTURES [--size s] [--threads 2] [--runs 40]

The network has random weights, and the score threshold is set so that about 20 people are found:
accuracy is not looked at here (`docs/decisions/precision.md`). Timed are the graphs with threshold
and NMS, on the same input pixels, in turns; the raw graph also alone, as the yardstick. Writes a
raw log.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.deployment.export_onnx import export_onnx
from rtmo.deployment.framing import Framing
from rtmo.deployment.int8 import write_int8
from rtmo.deployment.latency import SETTLE_S
from rtmo.deployment.metadata import ModelMetadata
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.pictures import find_pictures, read_picture
from rtmo.model import build_rtmo
from rtmo.model.rtmo import RTMO

INPUT_SIZE = 640
PEOPLE = 20
YARDSTICK = "onnxruntime fp32, raw graph alone"

Infer = Callable[[np.ndarray], list[Any]]


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--size", default="s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=40)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    measurement = raw_log.begin("cpu_runtimes")
    framing = Framing(INPUT_SIZE)
    images = [read_picture(path) for path in find_pictures(arguments.pictures)[:4]]
    batches = [framing.prepare([image]).pixels for image in images]
    model = build_rtmo(arguments.size)
    with TemporaryDirectory() as folder:
        files = write_files(model, INPUT_SIZE, batches, Path(folder))
        infer = open_all(files, arguments.threads, threshold_for(files["complete"], batches[0]))
        times: dict[str, list[float]] = {name: [] for name in infer}
        found = {name: run(batches[0])[0] for name, run in infer.items()}  # and warms up
        rng = np.random.default_rng(0)
        for turn in range(arguments.runs):
            pixels = batches[turn % len(batches)]
            for name in rng.permutation([*infer]):
                time.sleep(SETTLE_S)
                infer[name](pixels)  # others have taken the processor's caches: not counted
                start = time.perf_counter()
                infer[name](pixels)
                times[name].append(1000 * (time.perf_counter() - start))
    people = {name: len(rows) for name, rows in found.items() if name != YARDSTICK}
    settings = {"size": arguments.size, "threads": arguments.threads, "side": INPUT_SIZE}
    print(table_of(measurement.end({"milliseconds": times, "people": people}, settings)))


def table_of(log: RawLog) -> str:
    """Times of every way, beside the raw graph's alone."""
    times, people = log.samples["milliseconds"], log.samples["people"]
    base = float(np.median(times[YARDSTICK]))
    rows = []
    for name, values in times.items():
        p50, p90 = np.quantile(values, (0.5, 0.9))
        rows.append((name, people.get(name, ""), f"{p50:.1f}", f"{p90:.1f}", f"{p50 / base:.2f}"))
    facts = log.settings
    head = ["graph", "people", "p50 ms", "p90 ms", "times the raw graph"]
    return (
        f"RTMO-{facts['size']}, {facts['side']} px, batch 1, {facts['threads']} threads, "
        f"{len(times[YARDSTICK])} runs in turns.\n\n{table(head, rows)}"
    )


def write_files(
    model: RTMO,
    input_size: int,
    batches: list[np.ndarray],
    folder: Path,
    score_threshold: float = 0.1,
) -> dict[str, Path]:
    """Both float32 forms and the INT8 file for CPUs, whose ranges `batches` set."""
    files = {
        "complete": folder / "rtmo.onnx",
        "raw": folder / "rtmo-raw.onnx",
        "int8": folder / "rtmo-int8-cpu.onnx",
    }
    for form in ("complete", "raw"):
        metadata = ModelMetadata(
            skeleton=model.skeleton,
            input_size=input_size,
            form=form,
            score_threshold=score_threshold,
        )
        export_onnx(model, files[form], metadata)
    write_int8(files["complete"], files["int8"], batches, "uint8")
    return files


def threshold_for(complete: Path, pixels: np.ndarray) -> float:
    """Score threshold at which the complete graph finds `PEOPLE` people, or nearly."""
    people = OnnxPredictor(complete, "cpu", score_threshold=0.0).infer(pixels)[0]
    scores = np.sort(people.scores)[::-1]
    return float(scores[min(PEOPLE, len(scores) - 1)])


def open_all(files: dict[str, Path], threads: int, threshold: float) -> dict[str, Infer]:
    """Name -> what runs a batch of input pixels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    raw = onnxruntime.InferenceSession(files["raw"], options, providers=["CPUExecutionProvider"])
    common = {"score_threshold": threshold, "threads": threads}
    return {
        YARDSTICK: lambda pixels: raw.run(None, {"input": pixels}),
        "onnxruntime fp32, complete": OnnxPredictor(files["complete"], "cpu", **common).infer,
        "onnxruntime fp32, raw and NMS": OnnxPredictor(files["raw"], "cpu", **common).infer,
        "openvino fp32, complete": OpenVinoPredictor(files["complete"], **common).infer,
        "openvino fp32, raw and NMS": OpenVinoPredictor(files["raw"], **common).infer,
        "openvino bf16, raw and NMS": OpenVinoPredictor(
            files["raw"], **common, float_type="bf16"
        ).infer,
        "openvino int8, complete": OpenVinoPredictor(files["int8"], **common).infer,
        "openvino int8 and bf16, complete": OpenVinoPredictor(
            files["int8"], **common, float_type="bf16"
        ).infer,
    }


if __name__ == "__main__":
    main()

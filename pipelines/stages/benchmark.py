"""DVC stage `benchmark`: latency of torch and of the exported files on this machine."""

from __future__ import annotations

from pathlib import Path

import typer
from matplotlib.figure import Figure

from pipelines.stage_run import stage_run
from pipelines.worded_errors import without_traceback
from rtmo.deployment.config import BenchmarkConfig
from rtmo.deployment.latency import LatencyReport, latency
from rtmo.deployment.predictor import load_predictor
from rtmo.store import Store


def benchmark(
    models: dict[str, Path], validation: Store, *, config: BenchmarkConfig
) -> LatencyReport:
    """Time models in turns on validation pictures, on the CPU, batch 1.

    Args:
        models: variant name -> model file.
        validation: the validation split; its first pictures are used.
        config: pictures, runs and threads.
    """
    return latency(
        {
            name: load_predictor(path, "cpu", threads=config.threads)
            for name, path in models.items()
        },
        [validation.read_image(row) for row in range(min(config.images, len(validation)))],
        warmup_runs=config.warmup_runs,
        runs=config.runs,
        threads=config.threads,
    )


def plot_latency(report: LatencyReport, path: Path) -> None:
    """Median of each step as stacked bars, and the 99th percentile of the total as a mark."""
    figure = Figure(figsize=(7, 1 + 0.6 * len(report.latency)), layout="constrained")
    axes = figure.subplots()
    names = list(report.latency)
    starts = [0.0] * len(names)
    for step in ("pre", "net", "post"):
        widths = [report.latency[name][step].p50_ms for name in names]
        axes.barh(names, widths, left=starts, label=step)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    slowest = [report.latency[name]["total"].p99_ms for name in names]
    axes.plot(slowest, names, "k|", markersize=16, label="p99 of the total")
    axes.set_xlabel(f"ms per picture, {report.threads} threads, {report.hardware.cpu}")
    axes.invert_yaxis()
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Command line; `dvc.yaml` is its caller."""
    with stage_run("benchmark") as run, run.publish(run.paths.report("benchmark")) as out:
        report = benchmark(
            {
                "torch": run.paths.trained / "weights.safetensors",
                "onnx": run.paths.exported / "rtmo.onnx",
                "onnx-raw": run.paths.exported / "rtmo-raw.onnx",
            },
            Store.open(run.paths.processed(run.params.data.dataset) / "val"),
            config=run.params.benchmark,
        )
        (out / "benchmark.json").write_text(report.model_dump_json(indent=2) + "\n")
        plot_latency(report, out / "latency.png")


if __name__ == "__main__":
    with without_traceback():
        typer.run(main)

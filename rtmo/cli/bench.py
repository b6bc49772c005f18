"""`rtmo bench`: latency, throughput and accuracy of a model file, beside another one's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from rtmo.cli.annotations import protocol_of, read_truth
from rtmo.cli.options import AsJson, Padding

if TYPE_CHECKING:
    from rtmo.deployment.latency import LatencyReport
    from rtmo.deployment.runners import Predictor

EXAMPLE = "Example: rtmo bench rtmo.onnx --pictures photos/ --compare former.onnx"


def bench(  # noqa: PLR0913 - one argument per option
    model: Annotated[Path, typer.Argument(help="Model file.")],
    pictures: Annotated[Path, typer.Option(help="Picture or folder to run on.")],
    compare: Annotated[
        Path | None, typer.Option(help="Baseline, timed in turns with the model.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations of the folder's pictures: AP besides time.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture (.png) of AP over latency; needs --annotations.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each model.")] = 40,
    warmup_runs: Annotated[int, typer.Option(min=0, help="Runs not counted.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Pictures per call for throughput.")] = 8,
    padding: Padding = "square",
    as_json: AsJson = False,
) -> None:
    """Latency per picture split into its steps, throughput in batches, and accuracy if asked."""
    from rtmo.deployment.latency import latency, throughput
    from rtmo.deployment.pictures import find_pictures, read_picture
    from rtmo.deployment.predictor import load_predictor

    if plot is not None and annotations is None:
        raise typer.BadParameter("--plot shows AP over latency, so it needs --annotations")
    models = {"model": model} if compare is None else {"model": model, "baseline": compare}
    predictors = {
        name: load_predictor(path, threads=threads, padding=padding)
        for name, path in models.items()
    }
    images = [read_picture(path) for path in find_pictures(pictures)]
    report = latency(predictors, images, warmup_runs=warmup_runs, runs=runs, threads=threads)
    rates = throughput(predictors, images, batch=batch, runs=max(1, runs // batch))
    precision = (
        {}
        if annotations is None
        else {name: _ap(predictor, annotations, pictures) for name, predictor in predictors.items()}
    )
    if plot is not None:
        from rtmo.evaluation.plots import plot_accuracy_over_latency

        points = {
            str(path): (report.latency[name]["total"].p50_ms, precision[name])
            for name, path in models.items()
        }
        plot_accuracy_over_latency(points, plot)
    if as_json:
        facts = {"files": {name: str(path) for name, path in models.items()}, "padding": padding}
        batches = {"batch": batch, "pictures_per_second": rates}
        print(json.dumps({**facts, **report.model_dump(), "batches": batches, "AP": precision}))
        return
    for name, path in models.items():
        ap = f", AP {precision[name]:.4f}" if precision else ""
        print(f"{name}: {path}, {rates[name]:.1f} pictures/s in batches of {batch}{ap}")
    _print_latency(report)
    if compare is not None:
        ratio = report.paired_ratio("model", "baseline")
        print(
            f"the model takes {ratio.median:.3f} times as long as the baseline "
            f"(95 %: {ratio.low:.3f} to {ratio.high:.3f})"
        )


def _ap(predictor: Predictor, annotations: Path, pictures: Path) -> float:
    """AP of a predictor on the annotated pictures of a folder."""
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints
    from rtmo.evaluation.predict import predict_files

    truth = read_truth(annotations)
    folder = pictures if pictures.is_dir() else pictures.parent
    found = predict_files(predictor, truth["images"], folder, lambda _done, _all: None)
    report = evaluate_keypoints(
        truth, found, skeleton=predictor.skeleton, protocol=protocol_of(truth)
    )
    return report.metrics["AP"]


def _print_latency(report: LatencyReport) -> None:
    table = Table("", "step", "p50 ms", "p90 ms", "p99 ms")
    for name, steps in report.latency.items():
        for step, value in steps.items():
            row = (f"{value.p50_ms:.2f}", f"{value.p90_ms:.2f}", f"{value.p99_ms:.2f}")
            table.add_row(name, step, *row)
    Console().print(table)
    machine = report.hardware
    clocks = "/".join(f"{clock:.0f}" for clock in machine.cpu_mhz) or "unknown"
    print(
        f"{machine.cpu}, {report.threads} threads, {report.runs} runs in turns, batch 1; clocks "
        f"{clocks} MHz, load {machine.load_average}; {report.images} pictures "
        f"{report.pictures_sha256[:12]}"
    )

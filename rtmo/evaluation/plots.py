"""Pictures of an evaluation, drawn without a display; the same report gives the same bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from rtmo.evaluation.impact import STEPS, Impact
from rtmo.evaluation.keypoint_ap import EvalReport
from rtmo.evaluation.sensitivity import error_shares
from rtmo.evaluation.taxonomy import Errors, KeypointError

BAR = "#4c78a8"

ERROR_COLOURS = {
    KeypointError.GOOD: "#b9cfbe",
    KeypointError.JITTER: "#e9c46a",
    KeypointError.INVERSION: "#9b6fc4",
    KeypointError.SWAP: "#e07a3f",
    KeypointError.MISS: "#c8374b",
}
"""As in `report.html`."""


def save_precision_recall(report: EvalReport, path: Path) -> None:
    """A CSV with precision by recall at OKS 0.50, 0.75 and as the mean over all thresholds."""
    half, three_quarters = (
        report.precision[np.isclose(report.oks_thresholds, threshold)][0]
        for threshold in (0.5, 0.75)
    )
    columns = (report.recall_levels, half, three_quarters, report.precision.mean(axis=0))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("recall", "precision_oks50", "precision_oks75", "precision_mean"))
        writer.writerows(np.stack(columns, axis=1).round(6).tolist())


def save_keypoint_quality(report: EvalReport, path: Path) -> None:
    """A CSV with the mean similarity of each keypoint on the people found at OKS 0.5."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("keypoint", "labelled", "mean_similarity"))
        for quality in report.per_keypoint:
            similarity = round(quality.mean_similarity, 6)
            writer.writerow((quality.name, quality.num_labelled, similarity))


def save_oks_histogram(report: EvalReport, path: Path) -> None:
    """How well found people (OKS at least 0.5) are placed, and how many were not found."""
    with _figure(path) as figure:
        axes = figure.subplots()
        axes.set_xlabel("OKS with the annotated person")
        axes.set_ylabel("people")
        axes.spines[["top", "right"]].set_visible(False)
        axes.hist(report.matched_oks, bins=np.linspace(0.5, 1.0, 26).tolist(), color=BAR)
        missed = report.num_people - len(report.matched_oks)
        axes.set_title(
            f"{len(report.matched_oks)} of {report.num_people} people found at OKS 0.5, "
            f"{missed} not",
            loc="left",
        )
        axes.set_xlim(0.5, 1.0)


def save_errors(errors: Errors, impact: Impact, path: Path) -> None:
    """How keypoints are placed, and the AP gained if one kind of error alone were corrected."""
    shares = error_shares(errors.keypoints)
    with _figure(path, width=10) as figure:
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        left.set_title("Keypoints of found people", loc="left")
        if sum(shares.values()) > 0:
            left.pie(
                list(shares.values()),
                labels=[f"{error.name.lower()} {share:.0%}" for error, share in shares.items()],
                colors=[ERROR_COLOURS[error] for error in shares],
                startangle=90,
                counterclock=False,
                wedgeprops={"width": 0.45, "edgecolor": "white"},
            )
        else:
            left.set_axis_off()
        gains = [impact.alone[step] - impact.ap for step in STEPS]
        bars = right.barh(range(len(STEPS)), gains, color=BAR)
        right.bar_label(bars, [f"{gain:+.3f}" for gain in gains], padding=3)
        right.set_yticks(range(len(STEPS)), STEPS)
        right.invert_yaxis()
        right.margins(x=0.12)
        right.spines[["top", "right"]].set_visible(False)
        right.set_xlabel("AP gained by correcting this kind of error alone")
        right.set_title(f"AP is {impact.ap:.3f}", loc="left")


@contextmanager
def _figure(path: Path, *, width: float = 7) -> Iterator[Figure]:
    """A figure that is saved as PNG at the end of the block."""
    figure = Figure(figsize=(width, 4), dpi=110, layout="constrained")
    yield figure
    figure.savefig(path, metadata={"Software": None})  # no version of the drawing library inside


def plot_accuracy_over_latency(points: Mapping[str, tuple[float, float]], path: Path) -> None:
    """One named mark per model: its AP over its median milliseconds per picture.

    Args:
        points: name -> (milliseconds, AP).
        path: the picture to write.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, (milliseconds, precision) in points.items():
        axes.plot(milliseconds, precision, "o", label=name)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("ms per picture (median, batch 1)")
    axes.set_ylabel("AP")
    axes.legend()
    figure.savefig(path, dpi=120)

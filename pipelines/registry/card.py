"""The model card of a version: tags to search by, JSON for programs, Markdown for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipelines.registry.candidate import Candidate
from rtmo.deployment.latency import LatencyReport

HEADLINE_METRICS = ("AP", "AP50", "AR", "AP_hard")
"""Metrics that become tags, where the protocol has them."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a version, apart from the gate's verdict."""

    candidate: Candidate
    lineage: Mapping[str, str]
    """git commit, data digest and so on."""

    def tags(self) -> dict[str, str]:
        """Short facts, for `search_model_versions` and MLflow's pages."""
        candidate = self.candidate
        return {
            **self.lineage,
            "stage_hash": candidate.stage_hash,
            "model": str(candidate.card["model"]),
            "skeleton": str(candidate.card["skeleton"]),
            "dataset": str(candidate.card["dataset"]),
            "seed": str(candidate.card["seed"]),
            **self._initial(),
            "licences": "; ".join(
                f"{licence.name} (commercial use: {licence.commercial_use})"
                for licence in candidate.licences
            ),
            **_metric_tags("val", candidate.metrics),
            **_metric_tags("gate", candidate.gate_metrics),
            **_latency_tags(candidate.benchmark),
            **{f"sha256.{name}": digest for name, digest in candidate.sha256.items()},
        }

    def _initial(self) -> dict[str, str]:
        """The weights that the training started from, if any."""
        initial = self.candidate.card["initial"]
        if initial is None:
            return {}
        facts = {"initial.file": initial["file"], "initial.sha256": initial["sha256"]}
        return {name: fact for name, fact in facts.items() if fact is not None}

    def content(self) -> dict[str, Any]:
        """Everything, as JSON."""
        candidate = self.candidate
        return {
            "content_hash": candidate.content_hash,
            "stage_hash": candidate.stage_hash,
            "lineage": dict(self.lineage),
            "training": dict(candidate.card),
            "files": dict(candidate.sha256),
            "metrics": {"val": dict(candidate.metrics), "gate": dict(candidate.gate_metrics)},
            "intervals": {"val": {name: asdict(it) for name, it in candidate.intervals.items()}},
            "taxonomy": dict(candidate.taxonomy),
            "licences": [licence.model_dump() for licence in candidate.licences],
            "export": candidate.manifest.model_dump(mode="json"),
            "benchmark": (
                None if candidate.benchmark is None else candidate.benchmark.model_dump(mode="json")
            ),
        }

    def markdown(self) -> str:
        """The same for a reader."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        candidate = self.candidate
        training = candidate.card
        yield f"# {training['model']}, trained on {training['dataset']}"
        yield ""
        yield (
            f"One-stage multi-person pose, skeleton `{training['skeleton']}`, input "
            f"{training['input_size']} px, {training['training_images']} training images, seed "
            f"{training['seed']}. Weights: {training['weights']}."
        )
        for merged in training["merged"]:
            yield (
                f"Merged with {merged['sampling_factor']:.0%} of {merged['dataset']} "
                f"({merged['training_images']} images) an epoch, up to epoch "
                f"{merged['until_epoch']}."
            )
        yield from self._quality()
        yield from self._limits()
        yield from ("", "## Licences", "")
        for licence in candidate.licences:
            terms = f"commercial use: {licence.commercial_use}"
            yield f"- {licence.name} ({terms}) {licence.url}".rstrip()
        yield from ("", "## Lineage", "")
        for name, value in {
            **self.lineage,
            **self._initial(),
            "stage hash of the training": candidate.stage_hash,
        }.items():
            yield f"- {name}: `{value}`"
        yield from ("", "## Files (sha256)", "")
        for name, digest in candidate.sha256.items():
            yield f"- `{name}`: `{digest}`"
        yield from ("", "## Parity with torch, network-input pixels", "")
        yield from (
            "| file | keypoint p99 | keypoint max | AP torch | AP file |",
            "|---|---|---|---|---|",
        )
        for name, file in candidate.manifest.files.items():
            check, figures = file.check, file.check.parity
            yield (
                f"| {name} | {figures.keypoint_px_p99:.4f} | {figures.keypoint_px_max:.4f} | "
                f"{check.ap_torch:.4f} | {check.ap_exported:.4f} |"
            )
        yield from self._latency()

    def _quality(self) -> Iterator[str]:
        candidate = self.candidate
        yield from ("", "## Quality", "", "| metric | validation | gate |", "|---|---|---|")
        for name, figure in candidate.metrics.items():
            gate_figure = candidate.gate_metrics.get(name, float("nan"))
            found = candidate.intervals.get(name)
            interval = "" if found is None else f" ({found.low:.4f} to {found.high:.4f})"
            yield f"| {name} | {figure:.4f}{interval} | {gate_figure:.4f} |"
        yield from ("", "Intervals: 95 %, from resampling the images.", "", "## Errors", "")
        yield from ("| error | AP gained without it |", "|---|---|")
        for name, gain in candidate.taxonomy["gain_alone"].items():
            yield f"| {name} | {gain:+.4f} |"

    def _limits(self) -> Iterator[str]:
        candidate = self.candidate
        gains = candidate.taxonomy["gain_alone"]
        yield from ("", "## Limits", "")
        yield f"- Measured on {candidate.card['dataset']} only; nothing is known of other pictures."
        yield f"- Its costliest error is `{max(gains, key=gains.__getitem__)}`."
        for precision, tensorrt in candidate.manifest.tensorrt.items():
            if tensorrt.run.status == "unavailable":
                yield f"- Not tried in TensorRT {precision}: {tensorrt.run.reason}."

    def _latency(self) -> Iterator[str]:
        report = self.candidate.benchmark
        if report is None:
            yield from ("", "## Latency", "", "Not measured where this version was restored.")
            return
        yield from (
            "",
            f"## Latency on {report.hardware.cpu}, {report.threads} threads, batch 1",
            "",
        )
        yield from ("| variant | p50 ms | p99 ms |", "|---|---|---|")
        for name, steps in report.latency.items():
            total = steps["total"]
            yield f"| {name} | {total.p50_ms:.1f} | {total.p99_ms:.1f} |"


def _metric_tags(split: str, metrics: Mapping[str, float]) -> dict[str, str]:
    return {
        f"{split}.{name}": f"{metrics[name]:.4f}" for name in HEADLINE_METRICS if name in metrics
    }


def _latency_tags(report: LatencyReport | None) -> dict[str, str]:
    """Median total per variant, and what it was measured on."""
    if report is None:
        return {}
    medians = {
        f"latency.{name}_ms": f"{steps['total'].p50_ms:.1f}"
        for name, steps in report.latency.items()
    }
    return {**medians, "latency.hardware": f"{report.hardware.cpu}, {report.threads} threads"}

"""Settings of export and of the latency benchmark."""

from __future__ import annotations

from pydantic import Field

from rtmo._config import Config
from rtmo.deployment.metadata import Arithmetic


class ParityBudget(Config):
    """How far an exported model may be from torch on the same pictures."""

    max_ap_drop: float = Field(ge=0, le=1)
    """AP below torch's (0..1)."""
    max_recall_drop: float = Field(0.01, ge=0, le=1)
    """AR below torch's (0..1)."""
    max_count_difference: float = Field(0.01, ge=0, le=1)
    """Difference of the numbers of people found, as a share of torch's; one person may differ."""
    max_unmatched: float | None = Field(None, ge=0, le=1)
    """Share of all people found that only one of the two finds; one person may differ. Null sets no
    limit: with scores near the threshold, low precision loses some and finds others."""
    max_keypoint_px_median: float = Field(gt=0)
    """Median distance of the same keypoint of people that both find, input pixels."""
    max_keypoint_px_p99: float | None = Field(None, gt=0)
    """99th percentile of it; null sets no limit. In low precision NMS at times keeps another of
    two nearly equal candidates, which moves that person's keypoints by pixels."""


class Budgets(Config):
    """One budget for every arithmetic."""

    fp32: ParityBudget = ParityBudget(
        max_ap_drop=0.001,
        max_unmatched=0.01,
        max_keypoint_px_median=0.01,
        max_keypoint_px_p99=0.1,
    )
    """A file outside this one fails the export; outside the others it is not shipped."""
    fp16: ParityBudget = ParityBudget(
        max_ap_drop=0.003,
        max_unmatched=0.01,
        max_keypoint_px_median=0.05,
        max_keypoint_px_p99=1.0,
    )
    """Half precision with float32 islands."""
    bf16: ParityBudget = ParityBudget(max_ap_drop=0.003, max_keypoint_px_median=0.5)
    """Half of float32's bits, chosen by the runtime."""
    int8: ParityBudget = ParityBudget(max_ap_drop=0.010, max_keypoint_px_median=1.0)
    """Quantised convolutions."""

    def of(self, arithmetic: Arithmetic) -> ParityBudget:
        """The budget of one arithmetic."""
        match arithmetic:
            case "fp32":
                return self.fp32
            case "fp16":
                return self.fp16
            case "bf16":
                return self.bf16
            case "int8":
                return self.int8


class ExportConfig(Config):
    """What is exported and how far it may be from torch."""

    opset: int = Field(18, ge=18, le=21)
    """ONNX operator set."""
    max_people: int = Field(200, gt=0)
    """Candidates kept before NMS in the raw form, and people kept at most in the complete form."""
    parity_images: int = Field(64, gt=0)
    """Validation images on which the exported model is compared with torch."""
    calibration_images: int = Field(64, gt=0)
    """Training images that set the ranges of the INT8 variant."""
    timing_runs: int = Field(20, gt=0)
    """Counted runs of every way to run the model, interleaved, where a host first opens the
    manifest; the export itself times nothing."""
    threads: int = Field(2, gt=0)
    """CPU threads of each runtime while it is held against torch."""
    budgets: Budgets = Budgets()
    """How far the exported model may be from torch."""


class BenchmarkConfig(Config):
    """How latency is measured."""

    images: int = Field(32, gt=0)
    """Validation images fed in turn."""
    warmup_runs: int = Field(5, ge=0)
    """Runs not counted."""
    runs: int = Field(40, gt=0)
    """Counted runs of each variant, interleaved."""
    threads: int = Field(2, gt=0)
    """CPU threads."""

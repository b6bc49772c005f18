"""Settings of export and of the latency benchmark."""

from __future__ import annotations

from pydantic import Field

from rtmo._config import Config


class ExportConfig(Config):
    """What is exported and how far it may be from torch."""

    opset: int = Field(18, ge=18, le=21)
    """ONNX operator set."""
    max_people: int = Field(200, gt=0)
    """Candidates kept before NMS in the raw form, and people kept at most in the complete form."""
    parity_images: int = Field(64, gt=0)
    """Validation images on which the exported model is compared with torch."""
    max_keypoint_error_px: float = Field(0.1, gt=0)
    """Largest allowed 99th percentile of keypoint distance to torch, input pixels."""
    max_count_difference: float = Field(0.01, ge=0, le=1)
    """Largest allowed share of people that only torch or only the exported model finds."""
    max_ap_drop: float = Field(0.001, ge=0, le=1)
    """Largest allowed AP below torch's on the same images (0..1)."""


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

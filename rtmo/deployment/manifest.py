"""What was exported, how equal it is to torch, and whether that is good enough."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from pydantic import Field

from rtmo._config import Config
from rtmo.deployment.build_engine import BatchProfile, RunStatus
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.metadata import Form
from rtmo.deployment.parity import ParityReport


class ParityError(RuntimeError):
    """An exported model is further from torch than the budget allows."""


class ExportedFile(Config):
    """One ONNX file."""

    sha256: str
    """Hash of the file."""
    size_bytes: int = Field(gt=0)
    """Size of the file."""
    form: Form
    """Whether NMS is inside."""
    precision: Literal["fp32"]
    """Of weights and arithmetic."""
    opset: int
    """ONNX operator set."""
    parity: ParityReport
    """Against torch on validation pictures."""
    ap_torch: float
    """AP of torch on the same pictures; -1 where nobody is annotated."""
    ap_exported: float
    """AP of this file on them."""

    def over_budget(self, budget: ExportConfig) -> list[str]:
        """Every figure that is worse than the budget, in words; empty when all are within.

        A single person may differ however few there are: a score can lie right at the threshold.
        """
        figures = self.parity
        found = figures.people_reference + figures.people_candidate
        unmatched = found - 2 * figures.people_matched
        drop = self.ap_torch - self.ap_exported
        problems = []
        if figures.keypoint_px_p99 > budget.max_keypoint_error_px:
            problems.append(
                f"keypoint distance p99 is {figures.keypoint_px_p99:.4f} px, allowed "
                f"{budget.max_keypoint_error_px} px"
            )
        if unmatched > max(1, budget.max_count_difference * found):
            problems.append(
                f"{unmatched} of {found} people are found by one of the two only, allowed "
                f"{budget.max_count_difference:.1%}"
            )
        if drop > budget.max_ap_drop:
            problems.append(f"AP falls by {drop:.4f}, allowed {budget.max_ap_drop}")
        return problems


class EngineFacts(Config):
    """A TensorRT engine that was built; the engine itself is a cache of one host."""

    status: Literal["built"] = "built"
    """Says which of the two it is in the JSON file."""
    package: str
    """tensorrt or tensorrt_rtx."""
    version: str
    """Its version."""
    profile: BatchProfile
    """Batch sizes it takes."""
    layer_precisions: dict[str, int]
    """Layers by type, as TensorRT understood the graph."""
    engine_bytes: int
    """Size of the engine."""


class TensorRtStatus(Config):
    """Whether an engine was built, and whether this host can run it."""

    build: EngineFacts | RunStatus
    """The engine, or why none was built."""
    run: RunStatus
    """Whether this host can run it."""


class Manifest(Config):
    """Everything about one export."""

    training_hash: str
    """Stage hash of the training that made the weights."""
    skeleton: str
    """Name of the skeleton."""
    size: str
    """RTMO size."""
    input_size: int
    """Side of the network input, pixels."""
    score_threshold: float
    """Default inside the complete form."""
    nms_iou: float
    """Default inside the complete form."""
    files: dict[str, ExportedFile]
    """File name -> facts."""
    tensorrt: TensorRtStatus
    """Engine of the raw form."""

    def require_within(self, budget: ExportConfig) -> None:
        """Check every file against the budget.

        Raises:
            ParityError: naming each file and figure that is worse.
        """
        problems = [
            f"{name}: {problem}"
            for name, file in self.files.items()
            for problem in file.over_budget(budget)
        ]
        if problems:
            raise ParityError("the export is not equal enough to torch: " + "; ".join(problems))


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

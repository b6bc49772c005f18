"""What was exported, how equal it is to torch, and whether that is good enough."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from rtmo._config import Config
from rtmo.deployment.check import Check
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.engine_facts import BatchProfile, RunStatus
from rtmo.deployment.metadata import Arithmetic, Form, Precision
from rtmo.deployment.variant_facts import Deviation, Island


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
    precision: Precision
    """Of weights and arithmetic."""
    opset: int
    """ONNX operator set."""
    check: Check
    """Against torch on validation pictures."""

    def over_budget(self, config: ExportConfig) -> list[str]:
        """Every figure that is worse than the budget of its precision, in words."""
        return self.check.over_budget(config.budgets.of(self.precision))


VariantRuntime = Literal["onnxruntime", "openvino", "tensorrt"]
"""What a file in lower precision is made for."""


class Variant(Config):
    """A file in lower precision, shipped if it is within its budget."""

    sha256: str
    """Hash of the file."""
    size_bytes: int = Field(gt=0)
    """Size of the file."""
    form: Form
    """Whether NMS is inside."""
    precision: Precision
    """Of weights and arithmetic outside the islands."""
    made_for: VariantRuntime
    """Which runtime it suits best."""
    checks: dict[str, Check]
    """What ran it -> how it compares with torch."""
    islands: dict[str, Island]
    """Parts of the graph that stay float32."""
    problems: tuple[str, ...]
    """Why it is not shipped; empty when it is."""
    deviation: Deviation | None
    """Where it leaves float32, for a variant that is not shipped; null for others."""


class Way(Config):
    """A runtime, a file and an arithmetic, tried on the CPU of the host that exported."""

    runtime: Literal["onnxruntime", "openvino"]
    """Which library runs it."""
    file: str
    """Path beside the manifest."""
    arithmetic: Arithmetic
    """What the network is computed in."""
    check: Check
    """Against torch on validation pictures."""
    problems: tuple[str, ...]
    """Figures outside the budget of its arithmetic; empty when it may be used."""

    @property
    def name(self) -> str:
        """For tables and timings."""
        return f"{self.runtime} {self.arithmetic} {self.file}"


class CpuWays(Config):
    """Ways to run the model on a CPU. Which is the fastest is the host's (`fastest`)."""

    threads: int
    """Of each runtime while it was held against torch."""
    timing_runs: int = Field(20, gt=0)
    """Counted runs of each way where a host times them."""
    ways: tuple[Way, ...]
    """All that were tried."""

    @model_validator(mode="before")
    @classmethod
    def _without_latency(cls, content: Any) -> Any:  # noqa: ANN401 - as it is in the file
        """Manifests of former versions have the exporting host's processor and times as well."""
        match content:
            case {"cpu": str(), "ways": [*ways], **rest}:
                return rest | {"ways": [_without(way, "p50_ms") for way in ways]}
            case _:
                return content

    def usable(self, runtimes: Container[str]) -> list[Way]:
        """The ways within their budgets among those of these runtimes, in the order tried."""
        return [way for way in self.ways if not way.problems and way.runtime in runtimes]


def _without(content: Any, key: str) -> Any:  # noqa: ANN401 - anything that JSON can hold
    """A JSON object without one of its keys; anything else as it is."""
    if not isinstance(content, dict):
        return content
    return {name: value for name, value in content.items() if name != key}


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
    """File name -> facts, of the float32 files."""
    variants: dict[str, Variant] = Field(default_factory=dict)
    """File name -> facts, of lower precisions; files that are not shipped do not exist."""
    cpu: CpuWays | None = None
    """How to run the model on a CPU; null where no way was tried."""
    tensorrt: dict[Precision, TensorRtStatus]
    """Engine of the raw form in every precision that is shipped."""

    def require_within(self, config: ExportConfig) -> None:
        """Check every float32 file against its budget.

        Raises:
            ParityError: naming each file and figure that is worse.
        """
        problems = [
            f"{name}: {problem}"
            for name, file in self.files.items()
            for problem in file.over_budget(config)
        ]
        if problems:
            raise ParityError("the export is not equal enough to torch: " + "; ".join(problems))


def file_sha256(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()

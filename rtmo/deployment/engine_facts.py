"""What is known about a TensorRT engine, apart from TensorRT and from ONNX."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from rtmo._config import Config
from rtmo.deployment.metadata import ModelMetadata


class BatchProfile(Config):
    """Batch sizes that one engine takes."""

    smallest: int = Field(1, gt=0)
    """Smallest batch."""
    usual: int = Field(8, gt=0)
    """Batch that the engine is tuned for."""
    largest: int = Field(32, gt=0)
    """Largest batch."""

    @model_validator(mode="after")
    def _check(self) -> BatchProfile:
        if not self.smallest <= self.usual <= self.largest:
            raise ValueError(
                f"a batch profile goes from small to large, got {self.smallest}, {self.usual}, "
                f"{self.largest}"
            )
        return self


class EngineReceipt(Config):
    """What was built, of what, by what."""

    package: str
    """tensorrt or tensorrt_rtx."""
    version: str
    """Version of it."""
    onnx_sha256: str
    """Hash of the ONNX file."""
    metadata: ModelMetadata
    """Of the ONNX file; an engine cannot say it itself."""
    profile: BatchProfile
    """Batch sizes it takes."""
    layer_precisions: dict[str, int]
    """Type of a layer's first output -> layers, as TensorRT understood the graph."""
    engine_bytes: int
    """Size of the engine file."""
    seconds: float
    """Time to parse and build."""


class RunStatus(Config):
    """Whether this host can load an engine, which takes a GPU that it fits."""

    status: Literal["available", "unavailable"]
    """`unavailable` is never a pass."""
    reason: str
    """Why not; empty when it can."""

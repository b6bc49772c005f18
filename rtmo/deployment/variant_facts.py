"""What is known about a variant in lower precision, apart from ONNX."""

from __future__ import annotations

from pydantic import Field

from rtmo._config import Config


class Island(Config):
    """A part of a lowered graph that stays float32."""

    reason: str
    """What it computes that the lower precision would spoil."""
    nodes: int = Field(gt=0)
    """Operators in it."""


class LayerDeviation(Config):
    """How far one value of a variant is from the same value in float32."""

    node: str
    """Name of the node that makes it: its module and the value."""
    operator: str
    """What the node does."""
    relative: float
    """Root mean square of the difference over that of the float32 value."""
    largest: float
    """Largest absolute difference."""


class Deviation(Config):
    """Where a variant leaves float32."""

    report: str
    """JSON file beside the manifest with every layer, in the order they run."""
    steepest: tuple[LayerDeviation, ...]
    """The layers where the relative difference grows most over the layer before, worst first."""

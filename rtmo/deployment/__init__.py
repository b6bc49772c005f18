"""Export, runtimes behind one predictor, parity and latency.

Importing this package imports no runtime, so that an ONNX model runs where torch is not installed;
the names below are loaded on first use. Everything else is imported from its module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtmo.deployment.metadata import ModelMetadata
    from rtmo.deployment.predictor import load_predictor
    from rtmo.deployment.runners import Predictor, UnavailableError

__all__ = ["ModelMetadata", "Predictor", "UnavailableError", "load_predictor"]

_HOMES = {
    "ModelMetadata": "rtmo.deployment.metadata",
    "Predictor": "rtmo.deployment.runners",
    "UnavailableError": "rtmo.deployment.runners",
    "load_predictor": "rtmo.deployment.predictor",
}


def __getattr__(name: str) -> object:
    """Import the module that defines `name`, then give it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

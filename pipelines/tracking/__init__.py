"""The only code that talks to MLflow: the store, runs, model versions, aliases.

Names are loaded on first use: `pipelines.tracking.address` must be importable without mlflow,
because the check whether anything is missing runs at every `make repro`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.tracking.reporter import MlflowReporter
    from pipelines.tracking.store import Tracking, open_tracking

__all__ = ["MlflowReporter", "Tracking", "open_tracking"]

_HOMES = {
    "MlflowReporter": "pipelines.tracking.reporter",
    "Tracking": "pipelines.tracking.store",
    "open_tracking": "pipelines.tracking.store",
}


def __getattr__(name: str) -> object:
    """PEP 562: import the module that defines `name`."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

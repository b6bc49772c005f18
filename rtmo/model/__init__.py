"""The RTMO network; names are loaded on first use so that configs stay free of torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtmo.model.build import build_rtmo
    from rtmo.model.rtmo import RTMO
    from rtmo.model.weights import load_weights

__all__ = ["RTMO", "build_rtmo", "load_weights"]

_HOMES = {
    "RTMO": "rtmo.model.rtmo",
    "build_rtmo": "rtmo.model.build",
    "load_weights": "rtmo.model.weights",
}


def __getattr__(name: str) -> object:
    """Import the module that defines `name`, then give it (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)

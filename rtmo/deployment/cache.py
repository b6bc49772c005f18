"""Where files are kept that are fetched, converted or built once per machine."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "RTMO_CACHE"
"""Environment variable: that folder."""


def cache_folder() -> Path:
    """RTMO_CACHE, or `rtmo` in the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rtmo"

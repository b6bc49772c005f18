"""The terms of a dataset."""

from __future__ import annotations

from typing import Literal

from rtmo._config import Config


class Licence(Config):
    """The terms of the data; they travel with it into every model trained on it."""

    name: str
    """Short name, as `CC BY 4.0`."""
    url: str
    """Where the terms are written."""
    commercial_use: Literal["yes", "no", "unknown"]
    """Whether the terms allow commercial use; unknown blocks promotion unless signed for."""

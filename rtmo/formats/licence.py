"""The terms of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
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


def combined_licence(licences: Sequence[Licence]) -> Licence:
    """The terms of something made from several datasets: all of them, the strictest use.

    Example:
        >>> free = Licence(name="CC0", url="https://a", commercial_use="yes")
        >>> combined_licence([free, Licence(name="NC", url="https://b", commercial_use="no")])
        Licence(name='CC0; NC', url='https://a https://b', commercial_use='no')
    """
    different = list(dict.fromkeys(licences))
    return Licence(
        name="; ".join(licence.name for licence in different),
        url=" ".join(licence.url for licence in different),
        commercial_use=min((one.commercial_use for one in different), key=_STRICTEST_FIRST.index),
    )


_STRICTEST_FIRST = ("no", "unknown", "yes")

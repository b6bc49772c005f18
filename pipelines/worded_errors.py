"""Errors whose message tells a person what to do: a traceback around it would only hide it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

NAMED_BY = ("pipelines.", "rtmo.", "dvc.", "__main__")
"""Us, DVC, and us in a module that runs as a program."""


def is_worded(error: Exception) -> bool:
    """Whether the error's class is one of ours or of DVC.

    Example:
        >>> from pipelines.params import ParamsError
        >>> is_worded(ParamsError("train.epochs is 'abc'")), is_worded(KeyError("epochs"))
        (True, False)
    """
    return type(error).__module__.startswith(NAMED_BY)


@contextmanager
def without_traceback() -> Iterator[None]:
    """Print a worded error and its notes, and exit with 1; other errors go their way."""
    try:
        yield
    except Exception as error:
        if not is_worded(error):
            raise
        lines = (f"error: {error}", *getattr(error, "__notes__", ()))
        sys.stderr.writelines(f"{line}\n" for line in lines)
        sys.exit(1)

"""Which errors a later try may not meet again: faults of network, server or machine.

Everything else is a fault of code or data (a NaN, an assertion, a bad file, too little memory) and
would cost the same hours again.
"""

from __future__ import annotations

import errno
import urllib.error

import httpx

TEMPORARY_ANSWERS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP: try again later."""
TEMPORARY_NUMBERS = frozenset(
    {
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EREMOTEIO,
        errno.ESTALE,
    }
)
"""The system: network and network file systems."""
TEMPORARY_WORDS = (
    "CUDA-capable device(s) is/are busy or unavailable",
    "CUDA driver initialization failed",
    "initialization error",
)
"""CUDA, which raises one class for everything: the device could not be had to begin with."""


def is_temporary(error: BaseException) -> bool:
    """Whether trying again may help.

    Example:
        >>> is_temporary(ConnectionResetError()), is_temporary(FloatingPointError("loss is nan"))
        (True, False)
        >>> is_temporary(RuntimeError("CUDA error: initialization error"))
        True
        >>> is_temporary(RuntimeError("CUDA error: out of memory"))
        False
    """
    match error:
        case (
            urllib.error.HTTPError(code=status)
            | httpx.HTTPStatusError(response=httpx.Response(status_code=status))
        ):
            return status in TEMPORARY_ANSWERS
        case ConnectionError() | TimeoutError() | urllib.error.URLError() | httpx.TransportError():
            return not isinstance(error, httpx.UnsupportedProtocol)
        case OSError(errno=number):
            return number in TEMPORARY_NUMBERS
        case RuntimeError():
            said = str(error)
            return "CUDA" in said and any(words in said for words in TEMPORARY_WORDS)
        case _:
            return False

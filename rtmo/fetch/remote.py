"""What a remote file is, how hard to try for it, and what its server answers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, TypeVar

import httpx
from pydantic import AfterValidator, Field

from rtmo._config import Config

logger = logging.getLogger(__name__)

REFUSALS = frozenset({400, 401, 403, 404, 405, 410, 416, 451})
"""HTTP answers that will not change by asking again soon."""

Result = TypeVar("Result")


def inside(path: str) -> str:
    """The path, if it stays inside the folder that it is relative to.

    Raises:
        ValueError: if it does not.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} must be a path inside its folder, with forward slashes")
    return path


RelativePath = Annotated[str, AfterValidator(inside)]


class RemoteFile(Config):
    """One file to download."""

    name: RelativePath
    """Its name in the folder it is fetched into."""
    urls: tuple[str, ...] = Field(min_length=1)
    """Where it may be fetched; tried in order."""
    bytes: int | None = Field(None, gt=0)
    """Its size; None where the publisher states none."""
    sha256: str | None = Field(None, pattern="^[0-9a-f]{8,64}$")
    """Checksum, or its beginning where the publisher states no more; None where nothing."""
    md5: str | None = Field(None, pattern="^[0-9a-f]{32}$")
    """Checksum, for publishers who state only this one."""


class FetchError(RuntimeError):
    """A file cannot be had, or is not the one expected; trying again will not help."""


class TransferError(ConnectionError):
    """Network or server failed too often in a row; what has come is kept for the next run."""


class FaultError(Exception):
    """One attempt failed in a way that another may not."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How hard the downloader tries."""

    attempts: int = 6
    """Faults in a row, without a byte between them, after which a file is given up for now."""
    first_pause_s: float = 1.0
    """Pause after the first fault; doubled after each further one."""
    timeout_s: float = 60.0
    """Silence after which a connection counts as broken."""
    files_at_once: int = 4
    """Files fetched side by side."""


def insist(
    url: str,
    attempt: Callable[[], Result],
    received: Callable[[], int],
    patience: Patience,
    stop: threading.Event,
) -> Result:
    """What the first successful attempt gives; one that brought something does not count.

    Args:
        url: what is asked, for messages.
        attempt: one request.
        received: bytes that have come by now.
        patience: how many attempts in a row may bring nothing, and the pauses between them.
        stop: cuts a pause short.

    Raises:
        TransferError: after too many faults in a row.
    """
    faults = 0
    while True:
        before = received()
        try:
            return attempt()
        except (httpx.TransportError, FaultError) as error:
            faults = 1 if received() > before else faults + 1
            if faults >= patience.attempts:
                raise TransferError(
                    f"failed {faults} times in a row, last with: {error}; "
                    f"{received()} bytes are kept, run again to continue"
                ) from error
            logger.warning("%s: %s; trying again", url, str(error) or type(error).__name__)
            stop.wait(patience.first_pause_s * 2 ** (faults - 1))


def require_content(response: httpx.Response) -> None:
    """Raise unless the server answers with a file or a part of it.

    Raises:
        FetchError: if it refuses.
        FaultError: if it may answer otherwise next time.
    """
    status = response.status_code
    if status in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
        return
    kind = FetchError if status in REFUSALS else FaultError
    raise kind(f"answers {status} {response.reason_phrase}")


def version_of(response: httpx.Response) -> str | None:
    """What tells this version of the remote file from another; None if the server does not say."""
    etag: str | None = response.headers.get("etag")
    if etag and not etag.startswith("W/"):
        return etag
    last_modified: str | None = response.headers.get("last-modified")
    return last_modified


def content_range(header: str) -> tuple[int, int | None]:
    """First byte and whole size from a Content-Range header.

    Raises:
        FaultError: if it is not of the form of RFC 9110, section 14.4.

    Example:
        >>> content_range("bytes 100-199/1000")
        (100, 1000)
    """
    try:
        unit, span = header.split(" ", 1)
        positions, total = span.split("/")
        start = int(positions.split("-")[0])
        size = None if total == "*" else int(total)
    except ValueError:
        raise FaultError(f"sends a part with Content-Range {header!r}") from None
    if unit != "bytes":
        raise FaultError(f"sends a part counted in {unit!r}")
    return start, size

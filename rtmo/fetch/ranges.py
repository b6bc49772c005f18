"""Reading parts of a large remote file by HTTP range requests (RFC 9110, section 14)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from rtmo.fetch.pages import is_web_page
from rtmo.fetch.remote import (
    FaultError,
    FetchError,
    Patience,
    Result,
    TransferError,
    content_range,
    insist,
    require_content,
    version_of,
)


@dataclass(frozen=True, slots=True)
class Look:
    """What the first byte of a remote file tells of the whole."""

    bytes: int | None
    """Its size; None where the server does not say."""
    version: str | None
    """The server's mark of this version; None where it has none."""
    has_parts: bool
    """Whether the server serves parts of it."""


def first_look(url: str, client: httpx.Client, patience: Patience) -> Look:
    """Ask for size and version of a file without fetching it.

    Raises:
        FetchError: if the server refuses.
        TransferError: if network or server failed too often in a row.
    """

    def attempt() -> Look:
        with client.stream("GET", url, headers=_headers(0, 1)) as response:
            require_content(response)
            if is_web_page(response):  # perhaps a form before the file
                return Look(None, None, has_parts=False)
            version = version_of(response)
            if response.status_code == httpx.codes.PARTIAL_CONTENT:
                _, size = content_range(response.headers.get("content-range", ""))
                return Look(size, version, has_parts=True)
            length = response.headers.get("content-length")
            return Look(int(length) if length else None, version, has_parts=False)

    return _insist(url, attempt, int, patience)


class RemoteBytes:
    """One remote file, read in spans; several threads may read at once.

    Every answer is compared with the first: a file that changes in between is an error, never a
    mixture of two versions.
    """

    def __init__(self, url: str, client: httpx.Client, patience: Patience) -> None:
        """Ask for size and version.

        Raises:
            FetchError: if the server refuses, or does not serve parts of files.
            TransferError: if network or server failed too often in a row.
        """
        self.url = url
        self._client = client
        self._patience = patience
        look = first_look(url, client, patience)
        if not look.has_parts:
            raise FetchError(f"{url} does not serve parts of a file (HTTP range requests)")
        if look.bytes is None:
            raise FetchError(f"{url} does not say how large the file is")
        self.size = look.bytes
        self.version = look.version

    def read(
        self, start: int, length: int, advance: Callable[[int], object] = lambda _: None
    ) -> bytes:
        """The bytes [start, start + length), or fewer at the end of the file.

        Args:
            start: of the span.
            length: of the span.
            advance: is told how many bytes have come, as they come.

        Raises:
            FetchError: if the server refuses, or the file is no longer the one first seen.
            TransferError: if network or server failed too often in a row.
        """
        end = min(start + length, self.size)
        content = bytearray()
        while start + len(content) < end:
            _insist(
                self.url,
                lambda: self._receive(start, end, content, advance),
                lambda: len(content),
                self._patience,
            )
        return bytes(content)

    def _receive(
        self, start: int, end: int, content: bytearray, advance: Callable[[int], object]
    ) -> None:
        """One request for what is still missing of a span."""
        offset = start + len(content)
        with self._client.stream("GET", self.url, headers=_headers(offset, end)) as response:
            require_content(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise FetchError("has stopped to serve parts of the file")
            begins, size = content_range(response.headers.get("content-range", ""))
            if (size, version_of(response)) != (self.size, self.version):
                raise FetchError("the file changed while it was being read; run again")
            if begins != offset:
                raise FaultError(f"sends from byte {begins}, asked for {offset}")
            for chunk in response.iter_raw():
                content += chunk[: end - start - len(content)]
                advance(len(chunk))
        if start + len(content) < end:
            raise FaultError(f"ended after {len(content)} of {end - start} bytes")


def _insist(
    url: str, attempt: Callable[[], Result], received: Callable[[], int], patience: Patience
) -> Result:
    try:
        return insist(url, attempt, received, patience, threading.Event())
    except (FetchError, TransferError) as error:
        raise type(error)(f"{url}: {error}") from error


def _headers(start: int, end: int) -> dict[str, str]:
    return {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}

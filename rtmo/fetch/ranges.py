"""Reading parts of a large remote file by HTTP range requests (RFC 9110, section 14)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import httpx

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
        self.size, self._version = self._insist(self._first_look, int)

    def read(self, start: int, length: int) -> bytes:
        """The bytes [start, start + length), or fewer at the end of the file.

        Raises:
            FetchError: if the server refuses, or the file is no longer the one first seen.
            TransferError: if network or server failed too often in a row.
        """
        end = min(start + length, self.size)
        content = bytearray()
        while start + len(content) < end:
            self._insist(lambda: self._receive(start, end, content), lambda: len(content))
        return bytes(content)

    def _insist(self, attempt: Callable[[], Result], received: Callable[[], int]) -> Result:
        try:
            return insist(self.url, attempt, received, self._patience, threading.Event())
        except (FetchError, TransferError) as error:
            raise type(error)(f"{self.url}: {error}") from error

    def _first_look(self) -> tuple[int, str | None]:
        with self._client.stream("GET", self.url, headers=_headers(0, 1)) as response:
            require_content(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise FetchError("does not serve parts of a file (HTTP range requests)")
            _, size = content_range(response.headers.get("content-range", ""))
            if size is None:
                raise FetchError("does not say how large the file is")
            return size, version_of(response)

    def _receive(self, start: int, end: int, content: bytearray) -> None:
        """One request for what is still missing of a span."""
        offset = start + len(content)
        with self._client.stream("GET", self.url, headers=_headers(offset, end)) as response:
            require_content(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                raise FetchError("has stopped to serve parts of the file")
            begins, size = content_range(response.headers.get("content-range", ""))
            if (size, version_of(response)) != (self.size, self._version):
                raise FetchError("the file changed while it was being read; run again")
            if begins != offset:
                raise FaultError(f"sends from byte {begins}, asked for {offset}")
            for chunk in response.iter_raw():
                content += chunk[: end - start - len(content)]
        if start + len(content) < end:
            raise FaultError(f"ended after {len(content)} of {end - start} bytes")


def _headers(start: int, end: int) -> dict[str, str]:
    return {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}

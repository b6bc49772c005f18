"""Downloading files: resumed, verified, several at once, tried again after faults of the network.

An unfinished file stays in the downloads folder as `<name>.part` beside a note of which version of
the remote file it is, and the next run continues it. A finished file found there is used as it is,
so a person may also put one there by hand.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

import httpx
from pydantic import AfterValidator, Field
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from rtmo._config import Config

logger = logging.getLogger(__name__)

SPARE_BYTES = 64 << 20
"""Room to leave on the disk besides the download."""
REFUSALS = frozenset({400, 401, 403, 404, 405, 410, 451})
"""HTTP answers that will not change by asking again soon."""


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} must be a path inside its folder, with forward slashes")
    return path


RelativePath = Annotated[str, AfterValidator(_inside)]


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


class _FaultError(Exception):
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


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """A complete file."""

    path: Path
    name: str
    url: str
    """Where it came from; `local` if it was there already."""
    bytes: int
    sha256: str
    is_verified: bool
    """Whether a checksum was stated, which then was the right one."""


def fetch_files(
    files: tuple[RemoteFile, ...], folder: Path, patience: Patience
) -> tuple[FetchedFile, ...]:
    """Bring every file into the folder; the result is in the order given.

    Raises:
        FetchError: if a file is not there, is not the one expected, or the disk is too small.
        TransferError: if network or server failed too often in a row; run again to continue.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _require_space(files, folder)
    stop = threading.Event()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=Console(stderr=True)) as progress,
        httpx.Client(timeout=patience.timeout_s, follow_redirects=True) as client,
        ThreadPoolExecutor(patience.files_at_once) as pool,
    ):
        jobs = [
            pool.submit(_Fetch(file, folder, client, patience, stop, progress).run)
            for file in files
        ]
        try:
            return tuple(job.result() for job in jobs)
        except BaseException:  # also an interrupt: the other files stop after their next chunk
            stop.set()
            raise


class _Fetch:
    """The fetching of one file."""

    def __init__(
        self,
        file: RemoteFile,
        folder: Path,
        client: httpx.Client,
        patience: Patience,
        stop: threading.Event,
        progress: Progress,
    ) -> None:
        self._file = file
        self._path = folder / file.name
        self._part = self._path.with_name(f"{self._path.name}.part")
        self._note = self._path.with_name(f"{self._path.name}.part.json")
        self._client = client
        self._patience = patience
        self._stop = stop
        self._progress = progress
        self._task = progress.add_task(file.name, total=file.bytes)

    def run(self) -> FetchedFile:
        """The file, from the first address that has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            return self._finished(self._path, "local")
        refusals = []
        for url in self._file.urls:
            try:
                self._transfer(url)
                fetched = self._finished(self._part, url)
            except FetchError as error:
                logger.warning("%s: %s", url, error)
                refusals.append(f"{url}: {error}")
                self._part.unlink(missing_ok=True)
                continue
            self._part.replace(self._path)
            self._note.unlink(missing_ok=True)
            return fetched
        raise FetchError(
            f"{self._file.name} cannot be had: {'; '.join(refusals)}. If you can get the file "
            f"another way, put it at {self._path} and run again"
        )

    def _transfer(self, url: str) -> None:
        """Receive the rest of the file; an attempt that brought something does not count."""
        faults = 0
        while True:
            before = _size(self._part)
            try:
                self._receive(url)
            except (httpx.TransportError, _FaultError) as error:
                faults = 1 if _size(self._part) > before else faults + 1
                if faults >= self._patience.attempts:
                    raise TransferError(
                        f"{url} failed {faults} times in a row, last with: {error}; "
                        f"{_size(self._part)} bytes are kept, run again to continue"
                    ) from error
                logger.warning("%s: %s; trying again", url, str(error) or type(error).__name__)
                self._stop.wait(self._patience.first_pause_s * 2 ** (faults - 1))
            else:
                return

    def _receive(self, url: str) -> None:
        """One request for what is still missing."""
        offset, version = self._resume_point(url)
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if version:
                headers["If-Range"] = version
        with self._client.stream("GET", url, headers=headers) as response:
            offset, total = self._accept(response, offset)
            note = {"url": url, "version": _version(response)}
            self._note.write_text(json.dumps(note))
            with self._part.open("r+b" if offset else "wb") as part:
                part.seek(offset)
                part.truncate()
                # As they come: gathered into larger pieces, the last one would be lost to a fault.
                for chunk in response.iter_raw():
                    if self._stop.is_set():
                        raise TransferError("stopped because another file failed")
                    part.write(chunk)
                    offset += len(chunk)
                    if total is not None and offset > total:
                        raise FetchError(f"sends more than the {total} bytes it announced")
                    self._progress.update(self._task, completed=offset, total=total)
        if total is not None and offset < total:
            raise _FaultError(f"ended after {offset} of {total} bytes")

    def _resume_point(self, url: str) -> tuple[int, str | None]:
        """Bytes that need not come again, and the version of the remote file they belong to."""
        if not (self._part.exists() and self._note.exists()):
            return 0, None
        note = json.loads(self._note.read_text())
        can_tell = note["version"] or self._file.sha256 or self._file.md5
        if note["url"] != url or not can_tell:
            return 0, None
        return _size(self._part), note["version"]

    def _accept(self, response: httpx.Response, offset: int) -> tuple[int, int | None]:
        """Where the body of the answer begins in the file, and the file's whole size."""
        status = response.status_code
        if status == httpx.codes.PARTIAL_CONTENT:
            start, total = _content_range(response.headers.get("content-range", ""))
            if start != offset:
                raise _FaultError(f"sends from byte {start}, asked for {offset}")
        elif status == httpx.codes.OK:
            length = response.headers.get("content-length")
            offset, total = 0, int(length) if length else None
        elif status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            self._part.unlink(missing_ok=True)
            raise _FaultError("the remote file is shorter than what has come; starting over")
        elif status in REFUSALS:
            raise FetchError(f"answers {status} {response.reason_phrase}")
        else:
            raise _FaultError(f"answers {status} {response.reason_phrase}")
        if response.headers.get("content-type", "").startswith("text/html"):
            raise FetchError("answers with a web page, perhaps about a quota or a confirmation")
        if total is not None and self._file.bytes not in (None, total):
            raise FetchError(
                f"offers {total} bytes, expected {self._file.bytes}: the file has changed"
            )
        return offset, total

    def _finished(self, path: Path, url: str) -> FetchedFile:
        """Compare size and checksums of a complete file."""
        size = _size(path)
        if self._file.bytes not in (None, size):
            raise FetchError(f"{path} has {size} bytes, expected {self._file.bytes}; delete it")
        sha256 = _digest(path, "sha256")
        expected = {"sha256": self._file.sha256, "md5": self._file.md5}
        for algorithm, digest in expected.items():
            if digest is None:
                continue
            received = sha256 if algorithm == "sha256" else _digest(path, algorithm)
            if not received.startswith(digest):
                raise FetchError(
                    f"{path.name} has {algorithm} {received}, expected {digest}: it was damaged "
                    "on the way or the file has changed"
                )
        is_verified = any(expected.values())
        if not is_verified:
            logger.warning(
                "%s: no checksum is stated for it; received %d bytes with sha256 %s",
                self._file.name,
                size,
                sha256,
            )
        self._progress.update(self._task, completed=size, total=size)
        return FetchedFile(self._path, self._file.name, url, size, sha256, is_verified)


def _require_space(files: tuple[RemoteFile, ...], folder: Path) -> None:
    missing = sum(
        (file.bytes or 0) - _size(folder / f"{file.name}.part")
        for file in files
        if not (folder / file.name).exists()
    )
    free = shutil.disk_usage(folder).free
    if missing + SPARE_BYTES > free:
        raise FetchError(
            f"{missing / 2**30:.1f} GiB are still to come and {free / 2**30:.1f} GiB are free "
            f"under {folder}"
        )


def _version(response: httpx.Response) -> str | None:
    """What tells this version of the remote file from another; None if the server does not say."""
    etag: str | None = response.headers.get("etag")
    if etag and not etag.startswith("W/"):
        return etag
    last_modified: str | None = response.headers.get("last-modified")
    return last_modified


def _content_range(header: str) -> tuple[int, int | None]:
    """First byte and whole size from a Content-Range header.

    Example:
        >>> _content_range("bytes 100-199/1000")
        (100, 1000)
    """
    try:
        unit, span = header.split(" ", 1)
        positions, total = span.split("/")
        start = int(positions.split("-")[0])
        size = None if total == "*" else int(total)
    except ValueError:
        raise _FaultError(f"sends a part with Content-Range {header!r}") from None
    if unit != "bytes":
        raise _FaultError(f"sends a part counted in {unit!r}")
    return start, size


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()

"""Downloading files: resumed, verified, several at once, tried again after faults of the network.

An unfinished file stays in the downloads folder as `<name>.part` beside a note of which version of
the remote file it is, and the next run continues it. A finished file found there is used as it is,
so a person may also put one there by hand. `<name>.received.json` says what was received: where no
checksum is stated, a later transfer must bring the same.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
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
from rtmo.fetch.pages import confirmation_address, is_web_page, words_of
from rtmo.fetch.remote import (
    REFUSALS,
    FaultError,
    FetchError,
    Patience,
    RemoteFile,
    TransferError,
    content_range,
    insist,
    require_content,
    version_of,
)

logger = logging.getLogger(__name__)

SPARE_BYTES = 64 << 20
"""Room to leave on the disk besides the download."""


LOCAL = "local"
"""Stands for the address of a file that was there already."""


class Received(Config):
    """What a transfer brought."""

    url: str
    version: str | None
    """The server's mark of this version of the file; None where it has none."""
    bytes: int
    sha256: str


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
    require_space(sum(_still_to_come(file, folder) for file in files), folder)
    stop = threading.Event()
    with (
        transfer_display() as progress,
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
        self._record = record_path(self._path)
        self._client = client
        self._patience = patience
        self._stop = stop
        self._progress = progress
        self._task = progress.add_task(file.name, total=file.bytes)

    def run(self) -> FetchedFile:
        """The file, from the first address that has it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists():
            return self._finished(self._path, LOCAL)
        failures: list[FetchError | TransferError] = []
        for url in self._file.urls:
            try:
                insist(
                    url,
                    partial(self._receive, url),
                    lambda: _size(self._part),
                    self._patience,
                    self._stop,
                )
                fetched = self._finished(self._part, url)
            except (FetchError, TransferError) as error:
                if self._stop.is_set():
                    raise
                if len(self._file.urls) > 1:
                    logger.warning("%s: %s", url, error)
                failures.append(type(error)(f"{url}: {error}"))
                if isinstance(error, FetchError):
                    self._part.unlink(missing_ok=True)
                continue
            self._part.replace(self._path)
            self._note.unlink(missing_ok=True)
            return fetched
        # One address that may answer later makes another run worth while.
        kind = TransferError if TransferError in map(type, failures) else FetchError
        raise kind(
            f"{self._file.name} cannot be had: {'; '.join(map(str, failures))}. If you can get the "
            f"file another way, put it at {self._path} and run again"
        )

    def _receive(self, url: str) -> None:
        """One request for what is still missing, or two where a page asks to confirm the first."""
        offset, version = self._resume_point(url)
        if offset and offset == self._file.bytes:
            return
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if version:
                headers["If-Range"] = version
        address = self._receive_from(url, url, headers)
        if address is not None and self._receive_from(address, url, headers) is not None:
            raise FetchError("asks again for a confirmation that was given")

    def _receive_from(self, address: str, url: str, headers: dict[str, str]) -> str | None:
        """Receive from an address; another address where the answer is a form that leads there."""
        with self._client.stream("GET", address, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._accept_end(response)
                return None
            if is_web_page(response) and response.status_code in REFUSALS:
                raise FetchError(f"answers {response.status_code}: {words_of(response)}")
            require_content(response)
            if is_web_page(response):
                return confirmation_address(response)
            offset, total = self._accept(response)
            note = {"url": url, "version": version_of(response)}
            self._note.write_text(json.dumps(note))
            self._store(response, offset, total)
        return None

    def _store(self, response: httpx.Response, offset: int, total: int | None) -> None:
        """Write the body of the answer to its place in the unfinished file."""
        self._progress.reset(self._task, completed=offset, total=total)
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
                self._progress.update(self._task, completed=offset)
        if total is not None and offset < total:
            raise FaultError(f"ended after {offset} of {total} bytes")

    def _resume_point(self, url: str) -> tuple[int, str | None]:
        """Bytes that need not come again, and the version of the remote file they belong to.

        With a stated checksum another address may finish what one began; without, only the same
        version of the same address.
        """
        if not (self._part.exists() and self._note.exists()):
            return 0, None
        note = json.loads(self._note.read_text())
        is_same = note["url"] == url
        if not (self._has_checksum or (is_same and note["version"])):
            return 0, None
        return _size(self._part), note["version"] if is_same else None

    def _accept(self, response: httpx.Response) -> tuple[int, int | None]:
        """Where the body of the answer begins in the file, and the file's whole size."""
        if response.status_code == httpx.codes.PARTIAL_CONTENT:
            offset, total = content_range(response.headers.get("content-range", ""))
            if offset != _size(self._part):
                raise FaultError(f"sends from byte {offset}, asked for {_size(self._part)}")
            self._require_same_version(response)
        else:
            length = response.headers.get("content-length")
            offset, total = 0, int(length) if length else None
        if total is not None:
            if self._file.bytes not in (None, total):
                raise FetchError(
                    f"offers {total} bytes, expected {self._file.bytes}: the file has changed"
                )
            require_space(total - offset, self._path.parent)
        return offset, total

    def _accept_end(self, response: httpx.Response) -> None:
        """An answer to a request for what follows the last byte that has come."""
        total = response.headers.get("content-range", "").removeprefix("bytes */")
        if total != str(_size(self._part)):
            self._part.unlink(missing_ok=True)
            raise FaultError("the remote file is shorter than what has come; starting over")

    def _require_same_version(self, response: httpx.Response) -> None:
        """A part of another version, from a server that ignores If-Range, is of no use."""
        note = json.loads(self._note.read_text())
        version = version_of(response)
        if note["version"] and version and note["version"] != version and not self._has_checksum:
            self._part.unlink()
            raise FaultError("the remote file has changed since the last request; starting over")

    @property
    def _has_checksum(self) -> bool:
        return bool(self._file.sha256 or self._file.md5)

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
                    f"{path} has {algorithm} {received}, expected {digest}: it was damaged on the "
                    "way or the file has changed; delete it"
                )
        is_verified = any(expected.values())
        if not is_verified:
            self._require_same_as_before(sha256)
            logger.warning(
                "%s: no checksum is stated for it; received %d bytes with sha256 %s",
                self._file.name,
                size,
                sha256,
            )
        self._write_record(url, size, sha256)
        self._progress.update(self._task, completed=size, total=size)
        return FetchedFile(self._path, self._file.name, url, size, sha256, is_verified)

    def _require_same_as_before(self, sha256: str) -> None:
        """Refuse another content than an earlier transfer brought."""
        record = read_record(self._path)
        if record is not None and record.sha256 != sha256:
            raise FetchError(
                f"{self._path.name} has sha256 {sha256}, received before: {record.sha256}; the "
                f"file has changed. If you want the new one, delete {self._record}"
            )

    def _write_record(self, url: str, size: int, sha256: str) -> None:
        former = read_record(self._path)
        if url == LOCAL and former is not None and former.sha256 == sha256:
            return
        note = json.loads(self._note.read_text()) if url != LOCAL else {"version": None}
        record = Received(url=url, version=note["version"], bytes=size, sha256=sha256)
        self._record.write_text(record.model_dump_json(indent=2) + "\n")


def read_record(path: Path) -> Received | None:
    """What is known of the transfer that brought a file; None where nothing is."""
    try:
        return Received.model_validate_json(record_path(path).read_bytes())
    except FileNotFoundError:
        return None


def record_path(path: Path) -> Path:
    """Where the record of a received file lies."""
    return path.with_name(f"{path.name}.received.json")


def transfer_display() -> Progress:
    """Progress of transfers on the terminal: bytes, rate, time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def require_space(missing: int, folder: Path) -> None:
    """Raise unless the disk has room for so many more bytes.

    Raises:
        FetchError: saying what is missing.
    """
    free = shutil.disk_usage(folder).free
    if missing + SPARE_BYTES > free:
        raise FetchError(
            f"{missing / 2**30:.1f} GiB are still to come and {free / 2**30:.1f} GiB are free "
            f"under {folder}"
        )


def _still_to_come(file: RemoteFile, folder: Path) -> int:
    if (folder / file.name).exists():
        return 0
    return (file.bytes or 0) - _size(folder / f"{file.name}.part")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()

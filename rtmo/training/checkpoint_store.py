"""Copies of resume checkpoints at a URL, so that another machine goes on with a run.

Any protocol of fsspec: `s3://bucket/runs`, `file:///mnt/share/runs`. One folder per run, as
on disk, with the same files: their checksum travels inside them and is verified on reading.
"""

from __future__ import annotations

import logging
import shutil
from threading import Thread
from typing import TYPE_CHECKING

from fsspec.core import url_to_fs

if TYPE_CHECKING:
    from pathlib import Path

KEEP = 2
"""Copies kept of a run; the older one is there in case the newer one is damaged."""
CHUNK_BYTES = 8 << 20
"""Read at a time while copying."""
LAST_COPY_S = 120.0
"""Wait so long for the last copy when a training ends; a preempted machine has no more."""

log = logging.getLogger(__name__)


class CheckpointStoreError(RuntimeError):
    """The store cannot be used; the message says why and what to do."""


class CheckpointStore:
    """The checkpoints of many runs at one URL."""

    def __init__(self, url: str) -> None:
        """Connect, and try to write.

        Raises:
            CheckpointStoreError: if the place does not exist, cannot be reached or not written to.
        """
        self.url = url
        try:
            self._files, root = url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
            self._root = root.rstrip("/")
            probe = f"{self._root}/.probe"
            self._files.pipe_file(probe, b"written by a training to see whether it may")
            self._files.rm_file(probe)
        except Exception as error:
            raise self._unusable(error) from error

    def put(self, path: Path) -> None:
        """Copy a checkpoint into the folder of its run; older ones but `KEEP` go.

        Under its name there is either nothing or the whole file.

        Raises:
            Exception: whatever the protocol raises; the copies made before are untouched.
        """
        folder = self._folder(path.parent)
        self._files.makedirs(folder, exist_ok=True)
        partial = f"{folder}/{path.name}.partial"
        with path.open("rb") as source, self._files.open(partial, "wb") as copy:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
        self._files.mv(partial, f"{folder}/{path.name}")
        for old in self._names(path.parent)[KEEP:]:
            self._files.rm_file(f"{folder}/{old}")

    def fetch_newer(self, run: Path) -> None:
        """Bring copies that are newer than every checkpoint in the folder `run` into it.

        Raises:
            CheckpointStoreError: if the store does not answer: to begin anew would lose work.
        """
        newest = max((file.name for file in run.glob("step-*.pt")), default="")
        try:
            for name in self._names(run):
                if name <= newest:
                    break
                run.mkdir(parents=True, exist_ok=True)
                partial = run / f"{name}.partial"
                self._files.get_file(f"{self._folder(run)}/{name}", str(partial))
                partial.replace(run / name)
                log.info("checkpoint %s comes from %s", name, self.url)
        except Exception as error:
            raise self._unusable(error) from error

    def clear(self, run: Path) -> None:
        """Remove all copies of a run.

        Raises:
            Exception: whatever the protocol raises.
        """
        folder = self._folder(run)
        if self._files.exists(folder):
            self._files.rm(folder, recursive=True)

    def _folder(self, run: Path) -> str:
        return f"{self._root}/{run.name}"

    def _names(self, run: Path) -> list[str]:
        """File names of the copies of a run, the newest first."""
        try:
            paths = self._files.ls(self._folder(run), detail=False)
        except FileNotFoundError:
            return []
        names = [path.rsplit("/", 1)[-1] for path in paths]
        return sorted((name for name in names if name.endswith(".pt")), reverse=True)

    def _unusable(self, error: Exception) -> CheckpointStoreError:
        return CheckpointStoreError(
            f"train.checkpoint_store {self.url} cannot be used ({type(error).__name__}: {error}). "
            "Its bucket or folder must exist and be writable, its protocol be installed (s3:// "
            "needs s3fs), address and secrets be in the environment (AWS_ENDPOINT_URL, "
            "AWS_ACCESS_KEY_ID, ...); null keeps checkpoints on this machine only"
        )


class BackgroundCopies:
    """Copies checkpoints to a store while training goes on; a failure is counted, not raised."""

    def __init__(self, store: CheckpointStore) -> None:
        self.failed = 0
        self._store = store
        self._thread: Thread | None = None
        self._waiting: Path | None = None

    def add(self, path: Path) -> None:
        """Begin to copy; while another copy is under way, only the newest waits for its turn."""
        if self._is_busy():
            self._waiting = path
            return
        self._waiting = None
        self._thread = Thread(target=self._copy, args=(path,), name="checkpoint copy", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the copy under way and make the one that waits, each for `LAST_COPY_S`."""
        self._join()
        if self._waiting is not None and not self._is_busy():
            self.add(self._waiting)
            self._join()
        if self._is_busy():
            log.warning("the last checkpoint is not yet in %s; not waiting longer", self._store.url)

    def clear(self, run: Path) -> None:
        """Remove the copies of a run whose result has been published."""
        self._waiting = None
        self._join()
        try:
            self._store.clear(run)
        except Exception as error:  # noqa: BLE001 - each protocol has errors of its own
            log.warning(
                "copies of finished run %s stay in %s: %s", run.name, self._store.url, error
            )

    def _is_busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join(LAST_COPY_S)

    def _copy(self, path: Path) -> None:
        try:
            self._store.put(path)
        except Exception as error:  # noqa: BLE001 - each protocol has errors of its own
            self.failed += 1
            log.warning(
                "checkpoint %s is not in %s (%s: %s); it is on this machine, and training goes on "
                "(%d copies failed so far)",
                path.name,
                self._store.url,
                type(error).__name__,
                error,
                self.failed,
            )

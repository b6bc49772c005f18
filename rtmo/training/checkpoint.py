"""Resume checkpoints: one folder per stage hash, held by one training at a time.

A file is the sha256 of its content followed by the content, so that a truncated or damaged file is
recognised before anything of it is used; `torch.load` itself does not check. Files are written
beside their place, flushed to disk and renamed.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import logging
import os
import pickle
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rtmo.training.checkpoint_store import BackgroundCopies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtmo.training.checkpoint_store import CheckpointStore

KEEP = 2
"""Checkpoints kept; the older one is there in case the newer one is damaged."""

_DIGEST_BYTES = hashlib.sha256().digest_size

log = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A checkpoint folder that cannot be used as it is."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a training has come."""

    step: int
    """Optimiser steps taken since the beginning."""
    epoch: int
    """Epoch the next step belongs to, 0-based."""
    batch: int
    """Micro-batches of that epoch already used."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a training needs to go on as if it had not been interrupted."""

    position: Position
    """Where to go on."""
    state: dict[str, Any]
    """Tensors, numbers, strings and containers of them; nothing that executes when loaded."""


class CheckpointFolder:
    """The checkpoints of one training run; made by `open_checkpoints`."""

    def __init__(
        self, path: Path, continue_from: Path | None, store: CheckpointStore | None
    ) -> None:
        self.path = path
        self._continue_from = continue_from
        self._store = store
        self._copies = None if store is None else BackgroundCopies(store)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write one checkpoint; it replaces all but the newest of the others.

        Where there is a store, a copy goes there in the background.

        Raises:
            OSError: disk full or not writable; the former checkpoints are untouched.
        """
        position = checkpoint.position
        where = {"step": position.step, "epoch": position.epoch, "batch": position.batch}
        content = {"position": where, "state": checkpoint.state}
        final = _write(self.path / f"step-{position.step:09d}.pt", content)
        for old in self._newest_first()[KEEP:]:
            old.unlink()
        if self._copies is not None:
            self._copies.add(final)
        return final

    def dump(self, name: str, state: dict[str, Any]) -> Path:
        """Keep a state for a person to look at; it is not resumed from."""
        return _write(self.path / f"{name}.pt", state)

    def clear(self) -> None:
        """Remove the checkpoints of a run whose result has been published."""
        for file in self._newest_first():
            file.unlink()
        if self._copies is not None:
            self._copies.clear(self.path)

    def finish_copies(self) -> None:
        """Wait until the newest checkpoint is in the store, or it is clear that it will not be."""
        if self._copies is not None:
            self._copies.finish()

    def load_latest(self) -> Checkpoint | None:
        """The newest readable checkpoint; None where there is no checkpoint at all.

        Where this run has none, the newest one of the run it continues on purpose. What a store
        has besides is fetched first.

        Raises:
            CheckpointError: if there are checkpoints and not one of them can be read, or if the run
                to be continued has none.
            CheckpointStoreError: if the store does not answer.
        """
        files = self._with_copies(self.path)
        if not files and self._continue_from is not None:
            files = self._with_copies(self._continue_from)
            if not files:
                raise CheckpointError(f"nothing to continue from in {self._continue_from}")
        for damaged, file in enumerate(files):
            try:
                checkpoint = _read(file)
            except (OSError, ValueError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
                log.warning("checkpoint %s cannot be used (%s)", file, error)
                continue
            if damaged:
                log.warning(
                    "%d damaged checkpoint(s) passed over in %s; training goes on from step %d",
                    damaged,
                    file.parent,
                    checkpoint.position.step,
                )
            return checkpoint
        if files:
            raise CheckpointError(
                f"none of the {len(files)} checkpoint(s) in {files[0].parent} can be read; delete "
                "that folder to train from the beginning"
            )
        return None

    def _with_copies(self, run: Path) -> list[Path]:
        """The checkpoints of a run, the newest first, after fetching what only the store has."""
        if self._store is not None:
            self._store.fetch_newer(run)
        return _checkpoints(run)

    def _newest_first(self) -> list[Path]:
        return _checkpoints(self.path)


@contextmanager
def open_checkpoints(
    path: Path, continue_from: Path | None = None, store: CheckpointStore | None = None
) -> Iterator[CheckpointFolder]:
    """The folder, locked while the context lasts; files of an interrupted write are removed.

    The lock belongs to the process: it goes when the process ends, however it ends.

    Args:
        path: folder of this run's checkpoints; made if absent.
        continue_from: folder of another run, read where this run has no checkpoint of its own.
        store: gets copies, and has those of runs begun on another machine.

    Raises:
        CheckpointError: if another process holds the folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    with (path / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise CheckpointError(
                f"another training (process {lock.read().strip() or 'unknown'}) works in {path}; "
                "wait for it or stop it"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        for partial in path.glob("*.partial"):
            partial.unlink()
        folder = CheckpointFolder(path, continue_from, store)
        try:
            yield folder
        finally:
            folder.finish_copies()


def write_atomically(final: Path, *parts: bytes | memoryview) -> None:
    """Write `parts` so that `final` is, at any moment, the former file or the whole new one."""
    partial = final.with_name(f"{final.name}.partial")
    try:
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    partial.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.pt"), reverse=True)


def _write(final: Path, content: dict[str, Any]) -> Path:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    payload = buffer.getbuffer()
    write_atomically(final, hashlib.sha256(payload).digest(), payload)
    return final


def _read(file: Path) -> Checkpoint:
    content = file.read_bytes()
    digest, payload = content[:_DIGEST_BYTES], memoryview(content)[_DIGEST_BYTES:]
    if hashlib.sha256(payload).digest() != digest:
        raise ValueError("its content does not match its checksum: truncated or damaged")
    loaded = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return Checkpoint(Position(**loaded["position"]), loaded["state"])

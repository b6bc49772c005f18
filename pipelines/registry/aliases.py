"""Moving the aliases: promote, challenge, rollback; every move is in the history.

Each move is written into the history before the first alias changes and marked done after the last
one. Whoever comes next finishes a move that was cut short, so a crash at any point ends in the
state before or after, never between.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pipelines.paths import Paths
from pipelines.tracking.moves import (
    Aliases,
    Move,
    MoveKind,
    append_move,
    mark_done,
    read_aliases,
    read_moves,
    write_aliases,
)
from pipelines.tracking.store import Tracking
from pipelines.tracking.versions import Version, get_version, has_files

logger = logging.getLogger(__name__)


class ReleaseError(RuntimeError):
    """An alias cannot be moved as asked; the message says why and what to do."""


@contextmanager
def release_lock(paths: Paths) -> Iterator[None]:
    """Held while versions are made and aliases moved; waits for another holder on this machine.

    It does not reach other hosts that share a server; there `promote(expected=...)` narrows the
    gap to the time between two requests.
    """
    file = paths.runs / "release.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another release on this machine to end")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield  # the lock ends when the file is closed, also by a crash


def settle(tracking: Tracking, name: str) -> Aliases:
    """Bring aliases and history into agreement, and say where the aliases are. Hold the lock.

    A move that was begun and not finished is finished. Aliases that somebody moved by other means
    stay where they are and are recorded.
    """
    log = read_moves(tracking, name)
    if log and not log[-1].is_done:
        write_aliases(tracking, name, log[-1].after)
        mark_done(tracking, log[-1])
    expected = log[-1].after if log else Aliases()
    found = read_aliases(tracking, name)
    if found != expected:
        why = "found moved by other means than this tool"
        move = append_move(
            tracking, name, "outside", before=expected, after=found, by="unknown", why=why
        )
        mark_done(tracking, move)
    return found


def promote(
    tracking: Tracking, name: str, number: int, *, expected: int | None, by: str, why: str
) -> Move | None:
    """Make a version champion; the champion before it becomes `previous`. Hold the lock.

    Args:
        tracking: the store.
        name: of the registered model.
        number: version to promote.
        expected: champion that the decision was made against.
        by: who.
        why: the reason, for the history.

    Returns:
        The move; None if the version is champion already.

    Raises:
        UnknownVersionError: if there is no such version.
        ReleaseError: if the champion is no longer the expected one, or the version has no files.
    """
    version = get_version(tracking, name, number)
    before = settle(tracking, name)
    if before.champion == number:
        return None
    _require_files(tracking, version)
    if before.champion != expected:
        raise ReleaseError(
            f"the champion of {name!r} is now version {before.champion}, not {expected}: someone "
            "else released meanwhile; compare with the new champion and promote again"
        )
    challenger = None if before.challenger == number else before.challenger
    after = Aliases(champion=number, previous=before.champion, challenger=challenger)
    return _carry_out(tracking, name, "promote", before, after, by=by, why=why)


def challenge(tracking: Tracking, name: str, number: int, *, by: str, why: str) -> Move | None:
    """Make a version challenger; None if it is challenger or champion already. Hold the lock."""
    get_version(tracking, name, number)
    before = settle(tracking, name)
    if number in (before.challenger, before.champion):
        return None
    after = replace(before, challenger=number)
    return _carry_out(tracking, name, "challenge", before, after, by=by, why=why)


def rollback(tracking: Tracking, name: str, *, by: str, why: str) -> Move:
    """Make the previous champion champion again. Hold the lock.

    A second rollback goes one champion further back, not to the one that was just rolled back.

    Raises:
        ReleaseError: if there is no previous champion, or it has no files.
        UnknownVersionError: if its version was deleted.
    """
    before = settle(tracking, name)
    if before.previous is None:
        raise ReleaseError(
            f"{name!r} has no previous champion to go back to; "
            "`rtmo-pipeline promote VERSION` makes any version champion"
        )
    _require_files(tracking, get_version(tracking, name, before.previous))
    line = line_after_rollback(champion_line(read_moves(tracking, name)), before.previous)
    older = line[-2] if len(line) > 1 else None
    after = replace(before, champion=before.previous, previous=older)
    return _carry_out(tracking, name, "rollback", before, after, by=by, why=why)


def restore(tracking: Tracking, name: str, after: Aliases, *, by: str, why: str) -> Move | None:
    """Set the aliases of a new store; None if they are so already. Hold the lock."""
    before = settle(tracking, name)
    if before == after:
        return None
    return _carry_out(tracking, name, "restore", before, after, by=by, why=why)


def champion_line(log: Sequence[Move]) -> tuple[int, ...]:
    """Champions in order of promotion, without those that were rolled back; the last one rules."""
    line: tuple[int, ...] = ()
    for move in log:
        champion = move.after.champion
        if champion is None or champion == move.before.champion:
            continue
        line = line_after_rollback(line, champion) if move.kind == "rollback" else (*line, champion)
    return line


def line_after_rollback(line: tuple[int, ...], target: int) -> tuple[int, ...]:
    """The line cut behind the last reign of `target` before the present one.

    Example:
        >>> line_after_rollback((1, 4, 2, 4, 5), 4)
        (1, 4, 2, 4)
        >>> line_after_rollback((5,), 4)
        (4,)
    """
    earlier = [index for index, number in enumerate(line[:-1]) if number == target]
    return line[: earlier[-1] + 1] if earlier else (target,)


def _require_files(tracking: Tracking, version: Version) -> None:
    """A champion without files would leave every application without a model."""
    if not has_files(tracking, version):
        raise ReleaseError(
            f"version {version.number} has no model files any more (`rtmo-pipeline collect` gave "
            "them up, or the artifact store lost them); check out the commit that has its training "
            "in dvc.lock, `dvc repro` there, and `register` stores them again"
        )


def _carry_out(
    tracking: Tracking,
    name: str,
    kind: MoveKind,
    before: Aliases,
    after: Aliases,
    *,
    by: str,
    why: str,
) -> Move:
    move = append_move(tracking, name, kind, before=before, after=after, by=by, why=why)
    write_aliases(tracking, name, after)
    mark_done(tracking, move)
    return replace(move, is_done=True)

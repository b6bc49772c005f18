"""What `rtmo-pipeline promote | rollback | history` do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.registry import aliases
from pipelines.registry.aliases import ReleaseError, release_lock
from pipelines.registry.ledger import append, last_ids, ledger_file, read_ledger
from pipelines.registry.promoters import require_promoter
from pipelines.registry.receipt import now
from pipelines.tracking.moves import Move, read_aliases, read_moves
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import get_version


def promote(paths: Paths, number: int, *, by: str, why: str) -> Move | None:
    """Make a version champion by a person's decision; None if it is champion already.

    A person may promote what the gate could not tell or found worse, not what it blocked: blockers
    are removed (a licence is signed for in params, say) and the model registered again.

    Raises:
        ReleaseError: if the gate blocked the version, `by` may not promote, or no reason is given.
        UnknownVersionError: if there is no such version.
    """
    tracking, name = _open(paths)
    _require_reason(why)
    require_promoter(load_params(paths.root).registration, by)
    tags = get_version(tracking, name, number).tags
    if tags.get("verdict") == "blocked":
        raise ReleaseError(
            f"the gate blocked version {number}: {tags.get('verdict_words')}. Remove the cause in "
            "params.yaml and run `dvc repro register`"
        )
    with release_lock(paths):
        file = ledger_file(paths, name)
        disagreeing = len(last_ids(read_ledger(file))) > 1
        champion = read_aliases(tracking, name).champion
        move = aliases.promote(tracking, name, number, expected=champion, by=by, why=why)
        if move is not None or disagreeing:
            _record(tracking, name, file, "promote", by=by, why=why)
        return move


def rollback(paths: Paths, *, by: str, why: str) -> Move:
    """Make the previous champion champion again.

    Raises:
        ReleaseError: if there is none, `by` may not promote, or no reason is given.
    """
    tracking, name = _open(paths)
    _require_reason(why)
    require_promoter(load_params(paths.root).registration, by)
    with release_lock(paths):
        file = ledger_file(paths, name)
        read_ledger(file)  # nothing moves that could not be written down
        move = aliases.rollback(tracking, name, by=by, why=why)
        _record(tracking, name, file, "rollback", by=by, why=why)
        return move


def history(paths: Paths) -> tuple[Move, ...]:
    """Every move of an alias, oldest first."""
    tracking, name = _open(paths)
    return read_moves(tracking, name)


def describe(move: Move) -> str:
    """One line for a person."""
    changes = [
        f"{alias} {_shown(getattr(move.before, alias))} -> {_shown(getattr(move.after, alias))}"
        for alias in ("champion", "previous", "challenger")
        if getattr(move.before, alias) != getattr(move.after, alias)
    ]
    ending = "" if move.is_done else " (begun, not finished)"
    return (
        f"{move.at:%Y-%m-%d %H:%M:%S} UTC  {move.kind}  {', '.join(changes)}  by {move.by}: "
        f"{move.why}{ending}"
    )


def _record(
    tracking: Tracking,
    name: str,
    file: Path,
    kind: Literal["promote", "rollback"],
    *,
    by: str,
    why: str,
) -> None:
    """Write who is champion now into the ledger."""
    now_set = read_aliases(tracking, name)
    if now_set.champion is None:
        return
    previous = None
    if now_set.previous is not None:
        previous = get_version(tracking, name, now_set.previous).content_hash
    champion = get_version(tracking, name, now_set.champion)
    append(file, kind, champion, previous, at=now(), by=by, why=why)


def _open(paths: Paths) -> tuple[Tracking, str]:
    name = load_params(paths.root).registration.name
    return open_tracking(paths), name


def _require_reason(why: str) -> None:
    if not why.strip():
        raise ReleaseError("say why: the reason stays in the history")


def _shown(number: int | None) -> str:
    return "-" if number is None else str(number)

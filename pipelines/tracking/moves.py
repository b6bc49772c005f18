"""Aliases of the registered model and the append-only log of every move of them.

One MLflow run per move, in an experiment of their own: visible in MLflow's pages, never rewritten,
and its status says whether the move was carried out (RUNNING: intended, FINISHED: done).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, cast

from mlflow.entities import Run, ViewType

from pipelines.tracking.store import Tracking, find_or_create_experiment

EXPERIMENT = "rtmo-releases"
"""MLflow experiment of the alias moves."""

MoveKind = Literal["challenge", "promote", "rollback", "restore", "outside"]


@dataclass(frozen=True, slots=True)
class Aliases:
    """Version numbers that the aliases point to; None where an alias is not set."""

    champion: int | None = None
    previous: int | None = None
    challenger: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """One entry of the log."""

    run_id: str
    sequence: int
    """1 for the first entry."""
    at: datetime
    kind: MoveKind
    """`restore`: by sync into a new store; `outside`: found moved by other means."""
    by: str
    why: str
    before: Aliases
    after: Aliases
    is_done: bool


def read_aliases(tracking: Tracking, name: str) -> Aliases:
    """Where the aliases point now; the registered model must exist."""
    found = tracking.client.get_registered_model(name).aliases
    return Aliases(**{alias: int(found[alias]) for alias in Aliases.__slots__ if alias in found})


def write_aliases(tracking: Tracking, name: str, aliases: Aliases) -> None:
    """Make the aliases so, one after the other; doing it again changes nothing.

    `previous` comes first and `champion` second: whenever this stops, the champion that an
    application reads is the former one or the new one, and the former one can be found.
    """
    for alias in ("previous", "champion", "challenger"):
        number = getattr(aliases, alias)
        if number is None:
            tracking.client.delete_registered_model_alias(name, alias)
        else:
            tracking.client.set_registered_model_alias(name, alias, str(number))


def append_move(
    tracking: Tracking,
    name: str,
    kind: MoveKind,
    *,
    before: Aliases,
    after: Aliases,
    by: str,
    why: str,
) -> Move:
    """Write the intention of a move into the log."""
    log = read_moves(tracking, name)
    sequence = log[-1].sequence + 1 if log else 1
    run = tracking.client.create_run(
        _experiment(tracking),
        run_name=f"{sequence:04d} {kind}",
        tags={
            "model": name,
            "sequence": str(sequence),
            "kind": kind,
            "by": by,
            "why": why,
            "before": json.dumps(asdict(before)),
            "after": json.dumps(asdict(after)),
        },
    )
    return _move(run)


def mark_done(tracking: Tracking, move: Move) -> None:
    """Note that the aliases are as the move wants them."""
    tracking.client.set_terminated(move.run_id, "FINISHED")


def read_moves(tracking: Tracking, name: str) -> tuple[Move, ...]:
    """The whole log, oldest first."""
    moves: list[Move] = []
    token = None
    while True:
        page = tracking.client.search_runs(
            [_experiment(tracking)],
            f"tags.model = '{name}'",
            ViewType.ACTIVE_ONLY,
            page_token=token,
        )
        moves.extend(map(_move, page))
        token = page.token
        if not token:
            return tuple(sorted(moves, key=lambda move: (move.sequence, move.at)))


def _experiment(tracking: Tracking) -> str:
    return find_or_create_experiment(tracking.client, EXPERIMENT, tracking.address)


def _move(run: Run) -> Move:
    tags = run.data.tags
    return Move(
        run_id=run.info.run_id,
        sequence=int(tags["sequence"]),
        at=datetime.fromtimestamp(run.info.start_time / 1000, UTC),
        kind=cast(MoveKind, tags["kind"]),
        by=tags["by"],
        why=tags["why"],
        before=Aliases(**json.loads(tags["before"])),
        after=Aliases(**json.loads(tags["after"])),
        is_done=run.info.status == "FINISHED",
    )

"""What a scheduled run does with its results: data, then the commit, then the aliases.

Before its first word to the git remote a run leaves a note under `runs/`. Should it be killed
there, or the remote take the branch and its answer be lost, the next run asks whether the branch
arrived: if so it promotes, if not it forgets. So what is promoted was pushed, and what was pushed
is promoted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipelines import delivery
from pipelines.delivery import Start
from pipelines.dvc_data import send_data
from pipelines.paths import Paths
from pipelines.registry.receipt import Receipt, read_receipt
from rtmo._config import Config


class Note(Config):
    """What a run is about to push and to promote."""

    remote: str
    branch: str | None
    """None if `dvc.lock` did not change, so nothing is pushed."""
    commit: str
    """The one that holds the run's `dvc.lock`."""
    receipt: Receipt | None
    """None if the run did not reach `register`."""


def publish(
    checkout: Paths, tree: Path, start: Start, branch: str, log: Callable[[str], None]
) -> str:
    """Push what was made in `tree`, then promote it if the gate says so.

    Args:
        checkout: where local state is kept.
        tree: worktree of the run.
        start: what it began with.
        branch: name for what it delivers.
        log: called with each line that DVC prints.

    Returns:
        What happened, in words.

    Raises:
        DataTransferError: if the data does not reach the DVC remote.
        NotDeliveredError: if the commit does not reach the git remote.
        ReleaseError: if somebody else promoted since the gate judged.
    """
    send_data(tree, log)
    delivery.require_unmoved(tree, start)
    commit = delivery.commit_lock(tree, f"dvc.lock of {branch}")
    note = Note(
        remote=start.remote,
        branch=branch if commit else None,
        commit=commit or start.commit,
        receipt=read_receipt(Paths(tree, checkout.state_root)),
    )
    _note_file(checkout).write_text(note.model_dump_json())
    if commit is None:
        return f"dvc.lock did not change; {_promote(checkout, note)}"
    delivery.push(tree, start, commit, branch)
    return f"pushed {branch}; {_promote(checkout, note)}"


def finish_earlier(checkout: Paths) -> str | None:
    """Promote what an earlier run pushed before it was cut short; None if none was.

    Raises:
        GitError: if the remote does not answer.
        ReleaseError: if somebody else promoted since the gate judged.
    """
    file = _note_file(checkout)
    if not file.exists():
        return None
    note = Note.model_validate_json(file.read_bytes())
    name = note.branch or "an earlier run"
    if note.branch is not None:
        arrived = delivery.remote_commit(checkout.root, note.remote, note.branch)
        if arrived != note.commit:
            file.unlink()
            return f"{name} never reached {note.remote!r}: not promoted"
    return f"{name} had been cut short: {_promote(checkout, note)}"


def _promote(checkout: Paths, note: Note) -> str:
    # Heavy, and most runs have nothing to do.
    from pipelines.registry.aliases import ReleaseError
    from pipelines.registry.commands import describe
    from pipelines.registry.deferred import carry_out
    from pipelines.tracking.versions import UnknownVersionError

    file = _note_file(checkout)
    if note.receipt is None:
        file.unlink()
        return "nothing to promote"
    tags = {"release.branch": note.branch or "", "release.commit": note.commit}
    try:
        move = carry_out(checkout, note.receipt, tags)
    except (ReleaseError, UnknownVersionError):  # the verdict no longer holds, nor will it
        file.unlink()
        raise
    file.unlink()
    verdict = f"version {note.receipt.version}: {note.receipt.verdict}, {note.receipt.words}"
    return f"{verdict}; {describe(move) if move else 'no alias to move'}"


def _note_file(checkout: Paths) -> Path:
    return checkout.runs / "worktrees" / "retrain.json"

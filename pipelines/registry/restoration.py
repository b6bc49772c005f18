"""Repeat a registration in a store that lacks it, as the receipt has it; the gate is not asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pipelines import dvc_graph
from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.registry.aliases import release_lock, restore, settle
from pipelines.registry.candidate import IncompleteWorkspaceError
from pipelines.registry.receipt import Receipt
from pipelines.registry.release import Registration, register_version, this_person
from pipelines.registry.workspace import read_registration
from pipelines.tracking.moves import Move, read_moves
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import describe_version, find_version


def restore_registration(paths: Paths, receipt: Receipt) -> tuple[str, ...]:
    """Make run, version and aliases; remarks on what cannot be restored from here.

    Raises:
        IncompleteWorkspaceError: if outputs are missing or are not those of the receipt.
    """
    inputs = dvc_graph.locked_stage_inputs(paths.root, "register")
    if inputs is None:
        raise IncompleteWorkspaceError("dvc.lock has no stage `register`; run `dvc repro`")
    tracking = open_tracking(paths)
    registration = read_registration(paths, load_params(paths.root), inputs, by=this_person())
    return restore_into(tracking, registration, receipt)


def restore_into(
    tracking: Tracking, registration: Registration, receipt: Receipt
) -> tuple[str, ...]:
    """See `restore_registration`.

    An alias is set only if it never was set in this store: which model is champion is the store's
    to say, and taking an alias away is a decision too.
    """
    if registration.candidate.content_hash != receipt.content_hash:
        raise IncompleteWorkspaceError(
            "the models in this workspace are not those of reports/register/receipt.json; "
            "`dvc repro` registers them, `dvc checkout` brings the former ones back"
        )
    with release_lock(registration.paths):
        return _restore(tracking, registration, receipt)


def _restore(tracking: Tracking, registration: Registration, receipt: Receipt) -> tuple[str, ...]:
    registration = replace(registration, lineage=receipt.lineage)
    version = register_version(tracking, registration)
    describe_version(
        tracking, version, {"verdict": receipt.verdict, "verdict_words": receipt.words}
    )
    why = (
        f"restored from the receipt of {receipt.by}, {receipt.at:%Y-%m-%d %H:%M} UTC; "
        f"{receipt.verdict}: {receipt.words}"
    )
    champion = None
    if receipt.champion is not None:
        champion = find_version(tracking, receipt.model, receipt.champion.content_hash)
    after = settle(tracking, receipt.model)
    log = read_moves(tracking, receipt.model)
    if champion is not None and not _was_ever_set("champion", log):
        after = replace(after, champion=champion.number)
    if receipt.is_challenger and not _was_ever_set("challenger", log):
        after = replace(after, challenger=version.number)
    restore(tracking, receipt.model, after, by=registration.by, why=why)
    if receipt.champion is None or champion is not None:
        return ()
    return (
        f"the champion was version {receipt.champion.version} of the former store (content "
        f"{receipt.champion.content_hash[:12]}, commit {receipt.champion.git_commit or 'unknown'}),"
        " which is not in this workspace: check that commit out, `dvc pull`, and sync there",
    )


def _was_ever_set(alias: Literal["champion", "challenger"], log: Sequence[Move]) -> bool:
    return any(getattr(move.after, alias) is not None for move in log)

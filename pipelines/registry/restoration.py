"""Repeat a registration in a store that lacks it, as the receipt has it; the gate is not asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipelines import dvc_graph
from pipelines.dvc_data import DataTransferError, restore_outputs
from pipelines.git_command import GitError
from pipelines.params import ParamsError, load_former_params, load_params
from pipelines.paths import Paths
from pipelines.registry.aliases import release_lock, restore, settle
from pipelines.registry.candidate import IncompleteWorkspaceError, read_former_candidate
from pipelines.registry.ledger import decided_since, ledger_file, read_ledger
from pipelines.registry.receipt import Receipt
from pipelines.registry.release import Registration, register_version, this_person
from pipelines.registry.workspace import read_registration
from pipelines.tracking.moves import Move, read_moves
from pipelines.tracking.runs import DATA_DIGEST_TAG
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import Version, describe_version, find_version
from pipelines.worktree import HistoryError, commits_with_training, worktree

logger = logging.getLogger(__name__)

KEPT_STAGES = ("train", "export", "evaluate", "reports/inspect/metrics.json")
"""Whose outputs DVC keeps and a registration reads."""


@dataclass(frozen=True, slots=True)
class Ruler:
    """Who should be champion."""

    content_hash: str
    stage_hash: str
    """Of its training; empty when not known."""
    described: str
    """For a remark."""
    lineage: Mapping[str, str]
    tags: Mapping[str, str]
    """The verdict on it, where known."""
    why: str
    """For the history."""


def restore_registration(paths: Paths, receipt: Receipt) -> tuple[str, ...]:
    """Make run, version and aliases; remarks on what cannot be restored from here.

    Raises:
        IncompleteWorkspaceError: if outputs are missing or are not those of the receipt.
        LedgerError: if the ledger cannot be read, or people disagree in it.
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
    ruler = find_ruler(registration.paths, receipt)
    with release_lock(registration.paths):
        return _restore(tracking, registration, receipt, ruler)


def find_ruler(paths: Paths, receipt: Receipt) -> Ruler | None:
    """The champion by the ledger, where people decided after the receipt, or by the receipt.

    Raises:
        LedgerError: if the ledger cannot be read, or people disagree in it.
    """
    decision = decided_since(read_ledger(ledger_file(paths, receipt.model)), receipt.ledger)
    if decision is not None:
        chosen = decision.champion
        tags = {"verdict": chosen.verdict, "verdict_words": chosen.words}
        return Ruler(
            chosen.content_hash,
            chosen.stage_hash,
            _described(chosen.version, chosen.content_hash, chosen.lineage.get("git.commit", "")),
            chosen.lineage,
            {key: value for key, value in tags.items() if value},
            f"restored from the ledger, {decision.kind} by {decision.by}, "
            f"{decision.at:%Y-%m-%d %H:%M} UTC: {decision.why}",
        )
    if receipt.champion is None:
        return None
    champion = receipt.champion
    return Ruler(
        champion.content_hash,
        champion.stage_hash,
        _described(champion.version, champion.content_hash, champion.git_commit),
        {"git.commit": champion.git_commit},
        {},
        f"restored from the receipt of {receipt.by}, {receipt.at:%Y-%m-%d %H:%M} UTC; "
        f"{receipt.verdict}: {receipt.words}",
    )


def _described(version: int, content_hash: str, commit: str) -> str:
    return (
        f"version {version} of the former store (content {content_hash[:12]}, "
        f"trained on commit {commit or 'unknown'})"
    )


def _restore(
    tracking: Tracking, registration: Registration, receipt: Receipt, ruler: Ruler | None
) -> tuple[str, ...]:
    registration = replace(registration, lineage=receipt.lineage)
    version = register_version(tracking, registration)
    describe_version(tracking, version, receipt.standing)
    after = settle(tracking, receipt.model)
    log = read_moves(tracking, receipt.model)
    remarks: tuple[str, ...] = ()
    why = f"restored from the receipt of {receipt.by}, {receipt.at:%Y-%m-%d %H:%M} UTC"
    if ruler is not None and not _was_ever_set("champion", log):
        why = ruler.why
        champion = find_version(tracking, receipt.model, ruler.content_hash)
        try:
            champion = champion or bring_back(tracking, registration, ruler)
            after = replace(after, champion=champion.number)
        except GitError as error:
            remarks = (f"the champion was {ruler.described}; {error}",)
    if receipt.is_challenger and not _was_ever_set("challenger", log):
        challenger = None if after.champion == version.number else version.number
        after = replace(after, challenger=challenger)
    restore(tracking, receipt.model, after, by=registration.by, why=why)
    return remarks


def bring_back(tracking: Tracking, registration: Registration, ruler: Ruler) -> Version:
    """Register the ruler again from the commit whose `dvc.lock` made it.

    Raises:
        GitError: if git has no such commit here, or DVC not its outputs.
    """
    paths = registration.paths
    problems = []
    for commit in commits_with_training(paths.root, ruler.stage_hash):
        with worktree(paths.root, commit) as tree:
            former = Paths(tree, paths.state_root)
            try:
                found = _former_registration(former, paths.root, registration.by)
            except (DataTransferError, IncompleteWorkspaceError, ParamsError) as error:
                problems.append(f"at {commit[:8]}: {error}")
                continue
            if found.candidate.content_hash != ruler.content_hash:
                problems.append(f"at {commit[:8]} its training was exported differently")
                continue
            lineage = {
                DATA_DIGEST_TAG: found.lineage[DATA_DIGEST_TAG],
                **{name: value for name, value in ruler.lineage.items() if value},
            }
            version = register_version(tracking, replace(found, lineage=lineage))
            describe_version(tracking, version, ruler.tags)
            return version
    found_words = "; ".join(problems) or "no commit here has a dvc.lock that made it"
    raise HistoryError(
        f"it cannot be brought back: {found_words}. `git fetch` the commit and `dvc pull` its "
        "outputs where they are, then sync again"
    )


def _former_registration(former: Paths, present: Path, by: str) -> Registration:
    inputs = dvc_graph.locked_stage_inputs(former.root, "register")
    if inputs is None:
        raise IncompleteWorkspaceError("dvc.lock has no stage `register`")
    params = load_former_params(former.root, present)
    gate = former.processed(params.data.dataset) / "gate"
    outputs = (*KEPT_STAGES, gate.relative_to(former.root).as_posix())
    restore_outputs(former.root, outputs, logger.info)
    return read_registration(former, params, inputs, by=by, read=read_former_candidate)


def _was_ever_set(alias: Literal["champion", "challenger"], log: Sequence[Move]) -> bool:
    return any(getattr(move.after, alias) is not None for move in log)

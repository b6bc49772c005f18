"""Carrying out a verdict later than it was given: a scheduled run promotes after its push."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.paths import Paths
from pipelines.registry.aliases import challenge, promote, release_lock
from pipelines.registry.gate import Verdict
from pipelines.registry.receipt import Receipt
from pipelines.tracking.moves import Move
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import describe_version, get_version


def carry_out(paths: Paths, receipt: Receipt, tags: Mapping[str, str]) -> Move | None:
    """Move the aliases as the receipt's verdict says; doing it again changes nothing.

    Args:
        paths: of the checkout; releases on this machine wait for each other there.
        receipt: what `register` wrote inside an experiment, where it moves no alias.
        tags: written on the version first.

    Returns:
        The move; None if the aliases are so already.

    Raises:
        ReleaseError: if the champion is no longer the one that the verdict was made against.
        UnknownVersionError: if the version was deleted meanwhile.
    """
    tracking = open_tracking(paths)
    verdict = Verdict(receipt.verdict, receipt.words)
    who_and_why = {"by": receipt.by, "why": f"{verdict.kind}: {verdict.words}"}
    with release_lock(paths):
        version = get_version(tracking, receipt.model, receipt.version)
        describe_version(tracking, version, tags)
        if not (verdict.promotes and receipt.gate_may_promote):
            return challenge(tracking, receipt.model, version.number, **who_and_why)
        expected = None if receipt.champion is None else receipt.champion.version
        return promote(tracking, receipt.model, version.number, expected=expected, **who_and_why)

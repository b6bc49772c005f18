"""Bring the MLflow store to what the workspace says: after `dvc pull`, with a new or wiped store.

DVC cannot see the store: with all outputs in place it calls everything up to date. So the store is
first asked cheaply, without mlflow, whether anything is missing, and filled only then.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.paths import Paths
from pipelines.registry.receipt import Receipt, read_receipt
from pipelines.tracking.address import store_address
from pipelines.tracking.glance import Wanted, missing_from_store


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What was done, in words."""

    restored: tuple[str, ...]
    """Empty if nothing was missing."""
    remarks: tuple[str, ...]
    """What this workspace cannot restore, and how to get it."""


def sync(paths: Paths) -> SyncReport:
    """Restore what the store lacks of this workspace's run, version and alias.

    Raises:
        StoreUnavailableError: if the store cannot be used.
        ReceiptError: if the receipt cannot be read.
        IncompleteWorkspaceError: if something is missing in the store and the outputs here are not
            those that were registered.
    """
    receipt = read_receipt(paths)
    if receipt is None:
        return SyncReport((), ("nothing was registered from this workspace yet: `dvc repro`",))
    missing = missing_from_store(store_address(paths), wanted_by(receipt))
    if not missing:
        return SyncReport((), ())
    # Everything heavy is imported only when there is something to do.
    from pipelines.registry.restoration import restore_registration

    return SyncReport(missing, restore_registration(paths, receipt))


def wanted_by(receipt: Receipt) -> Wanted:
    """What the store should hold after the registration that wrote the receipt."""
    return Wanted(receipt.model, receipt.stage_hash, receipt.content_hash, receipt.alias)

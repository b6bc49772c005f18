"""What may be removed from the disk: never what an aliased version or the workspace needs.

Kept are, with everything that `sync` and `reproduce` need of them:

- versions with an alias, the newest `retention.keep_versions`, as many of the last champions, the
  workspace's own, and who is champion by its receipt or by the ledger;
- what `dvc.lock` names in the workspace, in every worktree, at the end of every branch (also of the
  remotes, as last fetched), at every tag and in every DVC experiment;
- checkpoints and unfinished runs that are younger than `retention.keep_days`.

Of the rest, objects leave the DVC cache, versions give up their files and keep their record,
uploads go whose process died before it made a version of them, and unfinished runs are deleted as
MLflow deletes, to be restored or purged with its own commands. The DVC remote is left alone, and so
is a cache outside the checkout, which others may share.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines import dvc_data
from pipelines.git_command import git
from pipelines.params import RetentionConfig, load_params
from pipelines.paths import Paths
from pipelines.registry.aliases import champion_line, release_lock
from pipelines.registry.ledger import last_ids, ledger_file, read_ledger
from pipelines.registry.receipt import read_receipt
from pipelines.tracking.moves import read_moves
from pipelines.tracking.storage import remove_files, size_of_files, unfinished_runs
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.uploads import abandoned_uploads, discard_upload, size_of_upload
from pipelines.tracking.versions import Version, aliases_by_version, all_versions
from pipelines.worktree import commits_by_training

Subject = Literal["cache", "checkpoints", "model files", "upload", "run"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that nothing needs."""

    subject: Subject
    name: str
    """Object of the cache, folder, version number, id of a logged model or of a run."""
    bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What can go, and what was found besides."""

    items: tuple[Item, ...]
    kept: tuple[int, ...]
    """Versions that keep everything."""
    remarks: tuple[str, ...]

    def of(self, subject: Subject) -> tuple[Item, ...]:
        """Items of one kind."""
        return tuple(item for item in self.items if item.subject == subject)


def plan(paths: Paths) -> Plan:
    """Look what can go; removes nothing.

    Raises:
        GitError: if this is no git repository: its history says what is needed.
        DataTransferError: if DVC cannot read what some commit needs.
    """
    tracking = open_tracking(paths)
    params = load_params(paths.root)
    rules, model = params.retention, params.registration.name
    versions = all_versions(tracking, model)
    kept = kept_versions(paths, tracking, model, rules, versions) if versions else frozenset()
    commits, remarks = needed_commits(paths, model, [one for one in versions if one.number in kept])
    items: list[Item] = []
    if dvc_data.has_own_cache(paths.root):
        unused = dvc_data.unused_objects(paths.root, commits, worktrees(paths.root))
        items += [Item("cache", oid, size) for oid, size in unused.items()]
    else:
        remarks += ("the DVC cache lies outside this checkout; others may share it: left alone",)
    items += _old_checkpoints(paths, rules)
    for version in versions:
        size = 0 if version.number in kept else size_of_files(tracking, version)
        if size:
            items.append(Item("model files", str(version.number), size))
    items += [
        Item("upload", model_id, size_of_upload(tracking, model_id))
        for model_id in abandoned_uploads(tracking)
    ]
    items += [
        Item("run", run.info.run_id, 0)
        for run in unfinished_runs(tracking, older_than_days=rules.keep_days)
    ]
    return Plan(tuple(items), tuple(sorted(kept)), remarks)


def collect(paths: Paths) -> Plan:
    """Remove what `plan` finds; what that was. Waits for a release that is under way.

    Raises:
        GitError, DataTransferError: see `plan`; then nothing is removed.
    """
    with release_lock(paths):
        found = plan(paths)
        tracking = open_tracking(paths)
        dvc_data.remove_objects(paths.root, [item.name for item in found.of("cache")])
        for item in found.of("checkpoints"):
            shutil.rmtree(paths.runs / "checkpoints" / item.name)
        by_number = {
            str(version.number): version
            for version in all_versions(tracking, load_params(paths.root).registration.name)
        }
        for item in found.of("model files"):
            remove_files(tracking, by_number[item.name])
        for item in found.of("upload"):
            discard_upload(tracking, item.name)
        for item in found.of("run"):
            tracking.client.delete_run(item.name)
    return found


def kept_versions(
    paths: Paths,
    tracking: Tracking,
    model: str,
    rules: RetentionConfig,
    versions: Sequence[Version],
) -> frozenset[int]:
    """Numbers of the versions, oldest first, that keep their files and their data."""
    line = champion_line(read_moves(tracking, model))
    wanted = _content_wanted_here(paths, model)
    return frozenset(
        {
            *aliases_by_version(tracking, model),
            *(version.number for version in versions[-rules.keep_versions :]),
            *line[-rules.keep_versions :],
            *(version.number for version in versions if version.content_hash in wanted),
        }
    )


def _content_wanted_here(paths: Paths, model: str) -> set[str]:
    """Content hashes that this checkout speaks of: `sync` may be asked for them."""
    receipt, ledger = read_receipt(paths), read_ledger(ledger_file(paths, model))
    wanted = {ledger[one].champion.content_hash for one in last_ids(ledger)}
    if receipt is not None:
        wanted.add(receipt.content_hash)
        if receipt.champion is not None:
            wanted.add(receipt.champion.content_hash)
    return wanted


def needed_commits(
    paths: Paths, model: str, kept: list[Version]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Commits whose `dvc.lock` must stay whole, and remarks on versions that no commit has."""
    by_training = commits_by_training(paths.root)
    commits = set(git(paths.root, "for-each-ref", "--format=%(objectname)", "refs/remotes").split())
    trainings = {version.tags.get("stage_hash", ""): version.number for version in kept}
    remarks = []
    for stage_hash, number in trainings.items():
        if stage_hash in by_training:
            commits.update(by_training[stage_hash])
        else:
            remarks.append(
                f"no commit here has the training of version {number}: its data stays only while "
                "the workspace or a branch names it; was its dvc.lock committed and fetched?"
            )
    ledger, receipt = read_ledger(ledger_file(paths, model)), read_receipt(paths)
    elsewhere = [ledger[one].champion.stage_hash for one in last_ids(ledger)]
    if receipt is not None and receipt.champion is not None:
        elsewhere.append(receipt.champion.stage_hash)
    for stage_hash in elsewhere:  # champions that this store may lack
        commits.update(by_training.get(stage_hash, ()))
    return tuple(sorted(commits)), tuple(remarks)


def worktrees(root: Path) -> tuple[Path, ...]:
    """Other worktrees of the repository; they share its cache."""
    listed = git(root, "worktree", "list", "--porcelain").splitlines()
    folders = [Path(line.removeprefix("worktree ")) for line in listed if line[:9] == "worktree "]
    return tuple(
        folder
        for folder in folders
        if folder.resolve() != root.resolve() and (folder / "dvc.yaml").exists()
    )


def _old_checkpoints(paths: Paths, rules: RetentionConfig) -> Iterator[Item]:
    """Folders in which nothing was written for so long."""
    before = time.time() - rules.keep_days * 86_400
    for folder in sorted((paths.runs / "checkpoints").glob("*/")):
        files = [file.stat() for file in folder.rglob("*") if file.is_file()]
        if max((file.st_mtime for file in files), default=folder.stat().st_mtime) < before:
            yield Item("checkpoints", folder.name, sum(file.st_size for file in files))

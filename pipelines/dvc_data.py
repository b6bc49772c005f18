"""Data in and out of a checkout: its cache, worktrees on it, and the DVC remote."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from dvc.repo import Repo

from pipelines.dvc_command import run_dvc
from pipelines.git_command import git

LOCAL_SETTINGS = Path(".dvc") / "config.local"


class DataTransferError(RuntimeError):
    """DVC could not bring data here or to the remote."""


def add_worktree(root: Path, folder: Path, commit: str) -> None:
    """Check `commit` out in a new folder, on the cache of the checkout at `root`.

    Raises:
        GitError: if git cannot make it.
    """
    git(root, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    _share_cache(root, folder)


def _share_cache(root: Path, other: Path) -> None:
    """Let the checkout `other` use the cache of the one at `root`, and its local settings."""
    if (root / LOCAL_SETTINGS).exists():
        shutil.copy(root / LOCAL_SETTINGS, other / LOCAL_SETTINGS)
    with Repo(str(other)) as repo, repo.config.edit("local") as settings:
        settings["cache"]["dir"] = cache_folder(root)


def cache_folder(root: Path) -> str:
    """Where a checkout keeps its data; as a DVC remote it is one that others can pull from."""
    with Repo(str(root)) as repo:
        return str(repo.cache.local_cache_dir)


def restore_data(root: Path, log: Callable[[str], None]) -> None:
    """Bring what `dvc.lock` names into the workspace, from the cache and the remote if one is set.

    What is found nowhere is left out; the stage that makes it is then stale.

    Raises:
        DataTransferError: if DVC fails otherwise.
    """
    verb = "pull" if _has_remote(root) else "checkout"
    _transfer(root, [verb, "--allow-missing"], log)


def restore_outputs(root: Path, outputs: Sequence[str], log: Callable[[str], None]) -> None:
    """Bring some of what `dvc.lock` names into the workspace: files, or stages by name.

    Raises:
        DataTransferError: if one is in neither the cache nor the remote.
    """
    verb = "pull" if _has_remote(root) else "checkout"
    # One by one: given several, DVC 3.67 brings back some and says that all is well.
    for output in outputs:
        _transfer(root, [verb, "--force", output], log)


def send_data(root: Path, log: Callable[[str], None]) -> None:
    """Copy what `dvc.lock` names to the remote, if one is set.

    Raises:
        DataTransferError: if that fails.
    """
    if _has_remote(root):
        _transfer(root, ["push"], log)


def has_own_cache(root: Path) -> bool:
    """Whether the cache lies in the checkout, so that nobody else uses it."""
    with Repo(str(root)) as repo:
        return Path(repo.cache.local_cache_dir).resolve().is_relative_to(root.resolve())


def unused_objects(root: Path, commits: Sequence[str], others: Sequence[Path]) -> Mapping[str, int]:
    """Objects of the cache -> their bytes, of those that nothing here needs.

    Needed is what `dvc.lock` names in the workspace, in the worktrees `others`, in `commits`, and
    at every branch, tag and DVC experiment.

    Raises:
        DataTransferError: if one of these cannot be read.
    """
    try:
        with Repo(str(root)) as repo:
            everywhere = {"all_branches": True, "all_tags": True, "all_experiments": True}
            used = _ids(repo.used_objs(revs=list(commits), force=True, **everywhere))
            for other in others:
                with Repo(str(other)) as elsewhere:
                    used |= _ids(elsewhere.used_objs(force=True))
            cache = repo.cache.local
            return {
                oid: Path(cache.oid_to_path(oid)).stat().st_size
                for oid in cache.all()
                if oid not in used
            }
    except DvcException as error:
        raise DataTransferError(
            f"DVC cannot say what is needed, so nothing goes: {error}"
        ) from error


def remove_objects(root: Path, names: Sequence[str]) -> None:
    """Remove objects from the cache; a folder's listing before its files."""
    with Repo(str(root)) as repo, repo.lock:
        cache = repo.cache.local
        for name in sorted(names, key=lambda name: not name.endswith(".dir")):
            cache.delete(name)


def read_output(root: Path, commit: str, path: str) -> bytes | None:
    """A file that some stage made at a commit, from the cache or remote; None if it is nowhere."""
    try:
        with dvc.api.open(path, repo=str(root), rev=commit, mode="rb") as stream:
            content: bytes = stream.read()
    except (DvcException, OSError):
        return None
    return content


def _ids(used: Mapping[Any, Iterable[Any]]) -> set[str]:
    return {found.value for objects in used.values() for found in objects}


def _has_remote(root: Path) -> bool:
    with Repo(str(root)) as repo:
        return bool(repo.config["core"].get("remote"))


def _transfer(root: Path, arguments: list[str], log: Callable[[str], None]) -> None:
    ended = run_dvc(root, arguments, log)
    if ended.status:
        said = "\n".join(ended.last_lines)
        raise DataTransferError(
            f"`dvc {' '.join(arguments)}` failed, status {ended.status}; is the remote set right "
            f"(`dvc remote list`) and within reach? DVC says:\n{said}"
        )

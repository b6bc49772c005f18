"""Worktrees of former commits: the code and data that a model was made from."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.dvc_data import share_cache
from pipelines.dvc_graph import stage_hash_in


class HistoryError(LookupError):
    """Git does not have the commit that is needed; the message says what to do."""


def commits_with_training(root: Path, stage_hash: str) -> tuple[str, ...]:
    """Commits of all branches whose `dvc.lock` is that of the training, newest first.

    The commit in a model's lineage is the one it was trained on; its `dvc.lock` was committed
    afterwards, so git's history is asked.
    """
    listed = git(root, "log", "--all", "--format=%H", "--", "dvc.lock").split()
    return tuple(commit for commit in listed if _trains(root, commit, stage_hash))


def _trains(root: Path, commit: str, stage_hash: str) -> bool:
    try:
        lock = git(root, "show", f"{commit}:dvc.lock")
    except HistoryError:  # a commit that deletes it
        return False
    return stage_hash_in(lock, "train") == stage_hash


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """A checkout of `commit` on the same DVC cache, removed at the end, also after an error.

    Raises:
        HistoryError: if git cannot make it.
    """
    with tempfile.TemporaryDirectory(prefix="rtmo-worktree-") as folder:
        tree = Path(folder) / "checkout"
        git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            share_cache(root, tree)
            yield tree
        finally:
            git(root, "worktree", "remove", "--force", str(tree))


def git(root: Path, *arguments: str) -> str:
    """What a git command prints.

    Raises:
        HistoryError: if it fails, or git is not there.
    """
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
        )
    except FileNotFoundError:
        raise HistoryError("there is no git on this machine") from None
    except subprocess.CalledProcessError as error:
        raise HistoryError(f"`git {arguments[0]}` failed: {error.stderr.strip()}") from None
    return done.stdout

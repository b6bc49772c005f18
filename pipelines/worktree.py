"""Worktrees of former commits: the code and data that a model was made from."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.dvc_data import add_worktree
from pipelines.dvc_graph import stage_hash_in
from pipelines.git_command import GitError, git


class HistoryError(GitError):
    """Git does not have the commit that is needed; the message says what to do."""


def commits_with_training(root: Path, stage_hash: str) -> tuple[str, ...]:
    """Commits of all branches whose `dvc.lock` is that of the training, newest first.

    The commit in a model's lineage is the one it was trained on; its `dvc.lock` was committed
    afterwards, so git's history is asked.
    """
    return commits_by_training(root).get(stage_hash, ())


def commits_by_training(root: Path) -> dict[str, tuple[str, ...]]:
    """Stage hash of a training -> the commits whose `dvc.lock` has it, newest first."""
    found: dict[str, tuple[str, ...]] = {}
    for commit in git(root, "log", "--all", "--format=%H", "--", "dvc.lock").split():
        try:
            lock = git(root, "show", f"{commit}:dvc.lock")
        except GitError:  # a commit that deletes it
            continue
        stage_hash = stage_hash_in(lock, "train")
        if stage_hash is not None:
            found[stage_hash] = (*found.get(stage_hash, ()), commit)
    return found


@contextmanager
def worktree(root: Path, commit: str) -> Iterator[Path]:
    """A checkout of `commit` on the same DVC cache, removed at the end, also after an error.

    Raises:
        GitError: if git cannot make it.
    """
    with tempfile.TemporaryDirectory(prefix="rtmo-worktree-") as folder:
        tree = Path(folder) / "checkout"
        try:
            add_worktree(root, tree, commit)
            yield tree
        finally:
            if tree.exists():
                git(root, "worktree", "remove", "--force", str(tree))

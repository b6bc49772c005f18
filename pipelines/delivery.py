"""Git around a scheduled run: a worktree of a commit, one branch, one commit of `dvc.lock`.

A person's checkout is only read. The run works in a worktree under `runs/`; what it made reaches
others as a branch `retrain/<time>-<commit>` whose one commit changes `dvc.lock`. Nobody but people
merges it: until they do, a later run starts from that branch, so nothing is trained twice.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.dvc_data import add_worktree
from pipelines.git_command import GitError, git
from pipelines.paths import Paths

BRANCHES = "retrain"
"""Folder of the branches that runs deliver."""


class NotDeliveredError(RuntimeError):
    """The results of a run did not reach the remote, so nothing may be promoted."""


class AlreadyAtWorkError(RuntimeError):
    """Another scheduled run is at work in this checkout."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with."""

    remote: str
    """Name of the git remote."""
    branch: str
    """The branch that is kept up to date."""
    head: str
    """Its commit."""
    commit: str
    """The commit to work from: `head`, or the commit of an earlier run upon it."""
    awaiting_merge: str | None
    """The branch of that earlier run, which nobody has merged yet."""

    def new_branch(self) -> str:
        """A name for what this run delivers."""
        return f"{BRANCHES}/{datetime.now(UTC):%Y%m%d-%H%M%S}-{self.head[:8]}"


@contextmanager
def only_one(paths: Paths) -> Iterator[None]:
    """Held for as long as a scheduled run works in this checkout; ends with its process.

    Raises:
        AlreadyAtWorkError: if another one does.
    """
    file = worktree_folder(paths).with_suffix(".lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyAtWorkError(
                f"another scheduled run is at work in {paths.root}; the next one will see what is "
                "left to do"
            ) from None
        yield


def worktree_folder(paths: Paths) -> Path:
    """Where a scheduled run works; left there for a look until the next one begins."""
    return paths.runs / "worktrees" / "retrain"


def find_start(root: Path, remote: str, branch: str) -> Start:
    """Ask the remote where `branch` is, and whether an earlier run upon it awaits its merge.

    Raises:
        GitError: if the remote or its branch cannot be read.
    """
    ours = f"refs/remotes/{remote}"
    git(
        root,
        *("fetch", "--quiet", "--prune", remote),
        *(f"+refs/heads/{name}:{ours}/{name}" for name in (branch, f"{BRANCHES}/*")),
        remedy=f"`git remote -v` must show {remote!r} and it must have the branch {branch!r}",
    )
    head = git(root, "rev-parse", f"{ours}/{branch}")
    form = "--format=%(objectname) %(parent) %(refname:lstrip=3)"
    listed = git(root, "for-each-ref", "--sort=refname", form, f"{ours}/{BRANCHES}")
    earlier = [line.split() for line in listed.splitlines()]
    for commit, *parents, name in reversed(earlier):
        if parents == [head]:
            return Start(remote, branch, head, commit, name)
    return Start(remote, branch, head, head, None)


def make_worktree(paths: Paths, commit: str) -> Path:
    """A new worktree of `commit` in place of that of the run before, on the checkout's DVC cache.

    Raises:
        GitError: if git cannot make it.
    """
    folder = worktree_folder(paths)
    if folder.exists():
        shutil.rmtree(folder)
    git(paths.root, "worktree", "prune")
    add_worktree(paths.root, folder, commit)
    return folder


def require_deliverable(tree: Path, start: Start, branch: str) -> None:
    """Look whether the run will be able to commit and push, before it takes its hours.

    Raises:
        GitError: if it will not.
    """
    identity = "set user.name and user.email with `git config`"
    git(tree, "var", "GIT_COMMITTER_IDENT", remedy=identity)
    git(
        tree,
        *("push", "--quiet", "--dry-run", start.remote, f"{start.commit}:refs/heads/{branch}"),
        remedy=f"whoever runs this must be allowed to push to {start.remote!r} without a password "
        "prompt",
    )


def commit_lock(tree: Path, message: str) -> str | None:
    """One commit of `dvc.lock` and nothing else; its id, or None if nothing changed.

    Raises:
        GitError: if git refuses.
    """
    if not git(tree, "status", "--porcelain", "--", "dvc.lock"):
        return None
    git(tree, "add", "dvc.lock")
    git(tree, "commit", "--quiet", "-m", message, "--", "dvc.lock")
    return git(tree, "rev-parse", "HEAD")


def require_unmoved(tree: Path, start: Start) -> None:
    """Compare the remote's branch with what the run began with.

    Raises:
        NotDeliveredError: if it moved: the results belong to sources that are no longer wanted.
    """
    now = remote_commit(tree, start.remote, start.branch)
    if now != start.head:
        raise NotDeliveredError(
            f"{start.remote}/{start.branch} moved from {start.head[:8]} to {(now or 'nothing')[:8]}"
            " while the run was at work; nothing was pushed or promoted. Run `retrain` again: it "
            "works from the new commit and takes stages that this did not touch from DVC's cache"
        )


def push(tree: Path, start: Start, commit: str, branch: str) -> None:
    """Push `commit` as the new branch `branch`.

    Raises:
        NotDeliveredError: if it is not there afterwards.
    """
    try:
        git(tree, "push", "--quiet", start.remote, f"{commit}:refs/heads/{branch}")
    except GitError as error:
        raise NotDeliveredError(
            f"the branch {branch} could not be pushed to {start.remote!r}; nothing was promoted. "
            "Mend what git complains of and run `retrain` again: finished stages come out of DVC's "
            f"cache. {error}"
        ) from None


def remote_commit(root: Path, remote: str, branch: str) -> str | None:
    """The commit of a branch as the remote has it now; None if there is no such branch.

    Raises:
        GitError: if the remote does not answer.
    """
    said = git(root, "ls-remote", remote, f"refs/heads/{branch}")
    return said.split()[0] if said else None

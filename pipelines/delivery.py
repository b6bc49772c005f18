"""Git around a scheduled run: a worktree of a commit, one branch, one commit of `dvc.lock`.

A person's checkout is only read. The run works in a worktree under `runs/`; what it made reaches
others as a branch `retrain/<time>-<commit>` whose one commit changes `dvc.lock`. Nobody but people
merges it: until they do, a later run starts from that branch, so nothing is trained twice.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pipelines.dvc_data import share_cache
from pipelines.paths import Paths

BRANCHES = "retrain"
"""Folder of the branches that runs deliver."""


class GitError(RuntimeError):
    """Git cannot do what a scheduled run needs; the message says what to do."""


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
    _git(
        root,
        ["fetch", "--quiet", "--prune", remote]
        + [f"+refs/heads/{name}:{ours}/{name}" for name in (branch, f"{BRANCHES}/*")],
        f"`git remote -v` must show {remote!r} and it must have the branch {branch!r}",
    )
    head = _git(root, ["rev-parse", f"{ours}/{branch}"])
    form = "--format=%(objectname) %(parent) %(refname:lstrip=3)"
    listed = _git(root, ["for-each-ref", "--sort=refname", form, f"{ours}/{BRANCHES}"])
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
    _git(paths.root, ["worktree", "prune"])
    _git(paths.root, ["worktree", "add", "--quiet", "--detach", str(folder), commit])
    share_cache(paths.root, folder)
    return folder


def require_deliverable(tree: Path, start: Start, branch: str) -> None:
    """Look whether the run will be able to commit and push, before it takes its hours.

    Raises:
        GitError: if it will not.
    """
    _git(tree, ["var", "GIT_COMMITTER_IDENT"], "set user.name and user.email with `git config`")
    _git(
        tree,
        ["push", "--quiet", "--dry-run", start.remote, f"{start.commit}:refs/heads/{branch}"],
        f"whoever runs this must be allowed to push to {start.remote!r} without a password prompt",
    )


def commit_lock(tree: Path, message: str) -> str | None:
    """One commit of `dvc.lock` and nothing else; its id, or None if nothing changed.

    Raises:
        GitError: if git refuses.
    """
    if not _git(tree, ["status", "--porcelain", "--", "dvc.lock"]):
        return None
    _git(tree, ["add", "dvc.lock"])
    _git(tree, ["commit", "--quiet", "-m", message, "--", "dvc.lock"])
    return _git(tree, ["rev-parse", "HEAD"])


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
        _git(tree, ["push", "--quiet", start.remote, f"{commit}:refs/heads/{branch}"])
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
    said = _git(root, ["ls-remote", remote, f"refs/heads/{branch}"])
    return said.split()[0] if said else None


def _git(folder: Path, arguments: list[str], remedy: str = "") -> str:
    """Standard output of a git command; it never waits for somebody to type."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        words = _without_credentials(done.stderr.strip())
        raise GitError(f"`git {arguments[0]}` failed: {words}" + (f"; {remedy}" if remedy else ""))
    return done.stdout.strip()


def _without_credentials(text: str) -> str:
    """Git repeats the address of a remote, which may hold a password.

    Example:
        >>> _without_credentials("unable to access 'https://me:secret@host/x.git/'")
        "unable to access 'https://***@host/x.git/'"
    """
    return re.sub(r"//[^/@\s]+@", "//***@", text)

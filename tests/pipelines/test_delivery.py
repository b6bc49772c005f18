"""Scheduled runs and git, against a real bare repository that stands for the server."""

import os
import subprocess
from pathlib import Path

import pytest

from pipelines import delivery
from pipelines.delivery import AlreadyAtWorkError, NotDeliveredError
from pipelines.git_command import GitError
from pipelines.paths import Paths


@pytest.fixture
def checkout(tiny_repository: Path, remote: Path) -> Paths:
    return Paths(tiny_repository, tiny_repository)


def output(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def git(folder: Path, *arguments: str) -> str:
    return output(folder, "git", *arguments)


def colleague_pushes(checkout: Paths, branch: str = "main") -> str:
    """A commit upon origin/main that the checkout does not know of; its id."""
    other = checkout.root.parent / "colleague"
    git(checkout.root.parent, "clone", "-q", "remote.git", str(other))
    (other / "notes.md").write_text("news")
    git(other, "add", "notes.md")
    git(other, "commit", "-qm", "News")
    git(other, "push", "-q", "origin", f"HEAD:refs/heads/{branch}")
    return git(other, "rev-parse", "HEAD")


def begin(checkout: Paths) -> tuple[delivery.Start, Path]:
    start = delivery.find_start(checkout.root, "origin", "main")
    return start, delivery.make_worktree(checkout, start.commit)


def test_a_run_delivers_one_branch_with_one_commit_of_dvc_lock(checkout: Paths) -> None:
    start, tree = begin(checkout)
    (tree / "dvc.lock").write_text("stages: {}\n")
    (tree / "seed.txt").write_text("edited by a stage")
    branch = start.new_branch()
    commit = delivery.commit_lock(tree, "Retrain")
    assert commit is not None
    delivery.push(tree, start, commit, branch)
    assert delivery.remote_commit(checkout.root, "origin", branch) == commit
    assert git(tree, "show", "--format=%P", "--name-only", commit).split() == [
        start.head,
        "dvc.lock",
    ]


def test_the_checkout_of_a_person_is_not_touched(checkout: Paths) -> None:
    (checkout.root / "seed.txt").write_text("half an idea")
    colleague_pushes(checkout)
    before = git(checkout.root, "rev-parse", "HEAD"), git(checkout.root, "status", "--porcelain")
    _start, tree = begin(checkout)
    assert (tree / "notes.md").exists()
    assert (tree / "seed.txt").read_text() == "1"
    (checkout.root / ".git" / "info" / "exclude").write_text("/runs/\n")
    assert before == (
        git(checkout.root, "rev-parse", "HEAD"),
        git(checkout.root, "status", "--porcelain"),
    )


def test_the_next_run_starts_from_what_awaits_its_merge(checkout: Paths) -> None:
    start, tree = begin(checkout)
    (tree / "dvc.lock").write_text("stages: {}\n")
    commit = delivery.commit_lock(tree, "Retrain")
    assert commit is not None
    delivery.push(tree, start, commit, "retrain/1")
    again = delivery.find_start(checkout.root, "origin", "main")
    assert (again.head, again.commit, again.awaiting_merge) == (start.head, commit, "retrain/1")
    news = colleague_pushes(checkout)  # main goes another way
    later = delivery.find_start(checkout.root, "origin", "main")
    assert (later.commit, later.awaiting_merge) == (news, None)


def test_without_a_change_there_is_no_commit(checkout: Paths) -> None:
    _start, tree = begin(checkout)
    assert delivery.commit_lock(tree, "Retrain") is None


def test_a_moved_main_is_told_with_what_to_do(checkout: Paths) -> None:
    start, tree = begin(checkout)
    delivery.require_unmoved(tree, start)
    news = colleague_pushes(checkout)
    with pytest.raises(NotDeliveredError, match=rf"moved.*{news[:8]}.*Run `retrain` again"):
        delivery.require_unmoved(tree, start)


def test_a_branch_that_another_run_pushed_is_not_overwritten(checkout: Paths) -> None:
    start, tree = begin(checkout)
    theirs = colleague_pushes(checkout, "retrain/1")
    (tree / "dvc.lock").write_text("stages: {}\n")
    commit = delivery.commit_lock(tree, "Retrain")
    assert commit is not None
    with pytest.raises(NotDeliveredError, match=r"could not be pushed.*nothing was promoted"):
        delivery.push(tree, start, commit, "retrain/1")
    assert delivery.remote_commit(checkout.root, "origin", "retrain/1") == theirs


def test_a_remote_that_refuses_is_told_with_its_words(checkout: Paths, remote: Path) -> None:
    hook = remote / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho no entry >&2\nexit 1\n")
    hook.chmod(0o755)
    start, tree = begin(checkout)
    with pytest.raises(NotDeliveredError, match="no entry"):
        delivery.push(tree, start, start.commit, "retrain/1")


def test_a_run_that_could_not_deliver_is_not_begun(
    checkout: Paths, remote: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, tree = begin(checkout)
    delivery.require_deliverable(tree, start, "retrain/1")
    git(tree, "config", "remote.origin.pushurl", str(remote / "nowhere"))
    with pytest.raises(GitError, match="allowed to push"):
        delivery.require_deliverable(tree, start, "retrain/1")
    git(tree, "config", "--unset", "remote.origin.pushurl")
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name)
    git(tree, "config", "user.useConfigOnly", "true")
    monkeypatch.setenv("HOME", str(remote))
    with pytest.raises(GitError, match=r"user\.name"):
        delivery.require_deliverable(tree, start, "retrain/1")


def test_an_unknown_remote_is_told(checkout: Paths) -> None:
    with pytest.raises(GitError, match=r"`git remote -v` must show 'upstream'"):
        delivery.find_start(checkout.root, "upstream", "main")


def test_what_a_killed_run_left_is_replaced(checkout: Paths) -> None:
    start, tree = begin(checkout)
    (tree / "half").write_text("done")
    assert delivery.make_worktree(checkout, start.commit) == tree
    assert not (tree / "half").exists()


def test_the_worktree_uses_the_cache_and_settings_of_the_checkout(checkout: Paths) -> None:
    output(checkout.root, "dvc", "config", "--local", "core.remote", "ours")
    _start, tree = begin(checkout)
    assert output(tree, "dvc", "config", "cache.dir") == str(checkout.root / ".dvc/cache")
    assert output(tree, "dvc", "config", "core.remote") == "ours"


def test_only_one_scheduled_run_works_in_a_checkout(checkout: Paths) -> None:
    with (
        delivery.only_one(checkout),
        pytest.raises(AlreadyAtWorkError, match="at work"),
        delivery.only_one(checkout),
    ):
        pass
    with delivery.only_one(checkout):
        pass


def test_the_lock_ends_with_the_process_that_held_it(checkout: Paths) -> None:
    code = f"""
import pathlib, time
from pipelines import delivery
from pipelines.paths import Paths
root = pathlib.Path({str(checkout.root)!r})
with delivery.only_one(Paths(root, root)):
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen(["python", "-c", code], stdout=subprocess.PIPE, env=dict(os.environ))
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with delivery.only_one(checkout):
        pass

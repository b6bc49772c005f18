"""Scheduled runs against a real bare git remote, a real DVC remote and a real MLflow store."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import delivery, dvc_data, dvc_graph, retraining
from pipelines.delivery import NotDeliveredError
from pipelines.flows.retrain import RetrainReport, retrain
from pipelines.git_command import GitError
from pipelines.paths import Paths
from pipelines.tracking.moves import Aliases, read_aliases, read_moves
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import get_version

REGISTER_STAGE = """
  register:
    cmd: exec python register.py
    deps: [register.py, sum.json, host.json]
    outs:
      - reports/register/receipt.json: {cache: false}
  host:
    cmd: exec python -c "open('host.json', 'w').write('this one')"
    outs:
      - host.json: {cache: false}
"""
REGISTER = """
import datetime, os, pathlib
from pipelines.paths import repository_paths
from pipelines.registry.receipt import Receipt
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import create_version

paths = repository_paths()
tracking = open_tracking(paths)
package = pathlib.Path("package")
package.mkdir(exist_ok=True)
(package / "MLmodel").write_text("{}")
content = pathlib.Path("sum.json").read_text()
run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
version = create_version(
    tracking, "rtmo", package, content_hash=content, run_id=run_id, tags={}
).number
receipt = Receipt(
    model="rtmo", version=version, content_hash=content, stage_hash="s", verdict="first",
    words="it is the first", champion=None, is_challenger=False, by="tester",
    at=datetime.datetime.now(datetime.UTC), experiment=os.environ["DVC_EXP_NAME"], lineage={},
)
report = pathlib.Path("reports/register")
report.mkdir(parents=True, exist_ok=True)
(report / "receipt.json").write_text(receipt.model_dump_json())
"""
"""A stage that registers for real and takes its verdict out of the air."""


@pytest.fixture
def checkout(
    tiny_repository: Path, remote: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None
) -> Paths:
    """A person's checkout with a git remote, in which a scheduled run may begin."""
    monkeypatch.chdir(tiny_repository)
    for variable in ("DVC_ROOT", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI", "RTMO_WEBHOOK"):
        monkeypatch.delenv(variable, raising=False)
    (tiny_repository / ".git" / "info" / "exclude").write_text(
        "/runs/\n/mlflow.db\n/mlartifacts/\n"
    )
    return Paths(tiny_repository, tiny_repository)


def output(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def branches(remote: Path) -> list[str]:
    return output(remote, "git", "for-each-ref", "--format=%(refname:short)").split()


def commit(folder: Path) -> None:
    """Commit everything and push it to main."""
    output(folder, "git", "add", "-A")
    output(folder, "git", "commit", "-qm", "Change")
    output(folder, "git", "push", "-q", "origin", "HEAD:main")


def test_a_run_delivers_and_the_next_one_has_nothing_to_do(checkout: Paths, remote: Path) -> None:
    (checkout.root / "seed.txt").write_text("half an idea")
    report = retrain(target="sum")
    assert (report.outcome, report.ran) == ("delivered", ("draw", "sum"))
    main, branch = branches(remote)
    assert (main, branch.split("/")[0]) == ("main", "retrain")
    assert "sum:" in output(remote, "git", "show", f"{branch}:dvc.lock")
    assert not (checkout.root / "dvc.lock").exists()
    assert output(checkout.root, "git", "status", "--porcelain").strip() == "M seed.txt"
    again = retrain(target="sum")
    assert again.outcome == "nothing to do"
    assert branch in again.words
    assert branches(remote) == [main, branch]


@pytest.mark.slow
def test_what_has_changed_runs_again_and_what_has_not_comes_from_the_cache(
    checkout: Paths, remote: Path
) -> None:
    retrain(target="sum")
    (checkout.root / "notes.md").write_text("no stage reads this")
    commit(checkout.root)  # main moved on; the branch of the first run was never merged
    report = retrain(target="sum")
    assert (report.outcome, len(branches(remote))) == ("delivered", 3)
    (checkout.root / "sum.py").write_text((checkout.root / "sum.py").read_text() + "\n# new\n")
    commit(checkout.root)
    assert retrain(target="sum").outcome == "delivered"


@pytest.mark.slow
def test_data_is_pulled_before_and_pushed_after(
    checkout: Paths, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    output(checkout.root, "dvc", "remote", "add", "-d", "ours", str(store))
    commit(checkout.root)
    retrain(target="sum")
    assert list(store.rglob("*.dir"))
    # Another host: a clone of the branch, an empty cache, the same remotes.
    other = tmp_path / "other"
    output(tmp_path, "git", "clone", "-q", str(remote), str(other))
    monkeypatch.chdir(other)
    assert retrain(target="sum").outcome == "nothing to do"
    assert (delivery.worktree_folder(Paths(other, other)) / "drawn" / "a.txt").read_text() == "3"


@pytest.mark.slow
def test_another_host_runs_the_last_stage_and_this_one_gets_its_results(
    checkout: Paths, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two checkouts, two homes, two caches; all they share are the git and the DVC remote."""
    here = checkout.root
    for command in (("remote", "add", "-d", "store", str(tmp_path / "store")), ("repro", "draw")):
        output(here, sys.executable, "-m", "dvc", *command)
    dvc_data.send_data(here, print)
    commit(here)

    there = tmp_path / "there" / "checkout"
    monkeypatch.setenv("HOME", str(tmp_path / "there" / "home"))
    output(tmp_path, "git", "clone", "-q", str(remote), str(there))
    monkeypatch.chdir(there)
    report = retrain(target="sum")
    assert (report.outcome, report.ran) == ("delivered", ("sum",))  # `draw` came by pull

    (branch,) = (name for name in branches(remote) if name != "main")
    output(here, "git", "pull", "-q", "origin", branch)
    dvc_data.restore_data(here, print)
    assert (here / "sum.json").read_text() == '{"sum": 3}'
    assert dvc_graph.stale(here, "sum") == {}


@pytest.mark.slow
def test_a_failing_dvc_remote_ends_the_run_before_the_push(
    checkout: Paths, remote: Path, tmp_path: Path
) -> None:
    (tmp_path / "a file").write_text("no folder")
    output(checkout.root, "dvc", "remote", "add", "-d", "ours", str(tmp_path / "a file" / "store"))
    commit(checkout.root)
    with pytest.raises(dvc_data.DataTransferError, match="dvc remote list"):
        retrain(target="sum")
    assert branches(remote) == ["main"]


def with_register(checkout: Paths, register: str = REGISTER) -> None:
    with (checkout.root / "dvc.yaml").open("a") as stream:
        stream.write(REGISTER_STAGE)
    (checkout.root / "register.py").write_text(register)
    (checkout.root / ".gitignore").write_text("/package/\n/host.json\n/reports/\n/drawn\n")
    commit(checkout.root)


def champion(checkout: Paths) -> int | None:
    return read_aliases(open_tracking(checkout), "rtmo").champion


def test_the_model_is_promoted_after_the_push(checkout: Paths, remote: Path) -> None:
    with_register(checkout)
    report = retrain(target="register")
    assert "version 1: first" in report.words
    branch = branches(remote)[1]
    tracking = open_tracking(checkout)
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)
    tags = get_version(tracking, "rtmo", 1).tags
    assert tags["release.branch"] == branch
    assert tags["release.commit"] == output(remote, "git", "rev-parse", branch)
    # A checkout where the outputs of a host are missing is not stale for that.
    assert retrain(target="register").outcome == "nothing to do"
    assert len(read_moves(tracking, "rtmo")) == 1


MAIN_MOVES = """
import subprocess
subprocess.run("git commit -q --allow-empty -m News && git push -q origin HEAD:main", shell=True,
               check=True)
subprocess.run("git reset -q --hard HEAD~1", shell=True, check=True)
"""
REMOTE_CLOSES = """
import pathlib, subprocess
url = subprocess.run(["git", "remote", "get-url", "origin"], capture_output=True, text=True).stdout
hook = pathlib.Path(url.strip(), "hooks", "pre-receive")
hook.write_text("#!/bin/sh\\necho closed for the night >&2; exit 1\\n")
hook.chmod(0o755)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("meanwhile", "words"),
    [(MAIN_MOVES, "moved from"), (REMOTE_CLOSES, "closed for the night")],
)
def test_what_cannot_be_delivered_is_not_promoted(
    meanwhile: str, words: str, checkout: Paths, remote: Path
) -> None:
    with_register(checkout, meanwhile + REGISTER)
    with pytest.raises(NotDeliveredError, match=words):
        retrain(target="register")
    assert branches(remote) == ["main"]
    assert champion(checkout) is None
    (remote / "hooks" / "pre-receive").unlink(missing_ok=True)
    (checkout.root / "register.py").write_text(REGISTER)  # the night is over
    output(checkout.root, "git", "pull", "-q", "--rebase", "--autostash", "origin", "main")
    commit(checkout.root)
    report = retrain(target="register")
    assert report.outcome == "delivered"
    assert champion(checkout) is not None


@pytest.mark.slow
@pytest.mark.parametrize("arrived", [True, False])
def test_a_run_that_was_killed_at_the_push_is_finished_if_its_branch_arrived(
    arrived: bool, checkout: Paths, remote: Path
) -> None:
    with_register(checkout)
    closed = remote / "hooks" / "pre-receive"
    closed.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(GitError):
        retrain(target="register", remote="nowhere")
    closed.chmod(0o755)
    with pytest.raises(NotDeliveredError):
        retrain(target="register")
    closed.unlink()
    tree = delivery.worktree_folder(checkout)
    note = retraining.Note.model_validate_json(tree.with_name("retrain.json").read_bytes())
    if arrived:  # the remote took it, and its answer was lost
        output(tree, "git", "push", "-q", "origin", f"{note.commit}:refs/heads/{note.branch}")
    report = retrain(target="register")
    assert report.outcome == ("nothing to do" if arrived else "delivered")
    assert champion(checkout) == 1  # the same content is registered once
    assert not tree.with_name("retrain.json").exists()


def test_a_second_run_leaves_the_first_alone(checkout: Paths) -> None:
    with delivery.only_one(checkout):
        report: RetrainReport = retrain(target="sum")
    assert report.outcome == "already at work"

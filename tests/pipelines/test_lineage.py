"""Tags that say where a result comes from."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from pipelines.lineage import lineage


def test_commit_and_edits_are_told(tiny_repository: Path) -> None:
    tags = lineage(tiny_repository)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=tiny_repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert tags["git.commit"] == head.stdout.strip()
    assert tags["git.dirty"] == "no"
    (tiny_repository / "seed.txt").write_text("2")
    assert lineage(tiny_repository)["git.dirty"] == "yes"


def test_locks_are_told_by_their_hash(tiny_repository: Path) -> None:
    (tiny_repository / "requirements.lock").write_bytes(b"torch==2.13.0")
    tags = lineage(tiny_repository)
    assert tags["lock.environment"] == hashlib.sha256(b"torch==2.13.0").hexdigest()
    assert "lock.data" not in tags  # nothing ran yet


def test_outside_git_and_experiments_those_tags_are_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    tags = lineage(tmp_path)
    assert not tags.keys() & {"git.commit", "git.dirty", "dvc.experiment"}
    assert tags["cpu"]


def test_an_experiment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "brave-tit")
    assert lineage(tmp_path)["dvc.experiment"] == "brave-tit"

"""What people decided outlives the store, and who decided at once is told so."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.registry import commands
from pipelines.registry.ledger import (
    Ledger,
    LedgerError,
    append,
    decided_since,
    last_ids,
    ledger_file,
    read_ledger,
)
from pipelines.sync import sync
from pipelines.tracking.moves import read_aliases, read_moves
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import Version, all_versions, get_version

OFF_LEFT, GOOD = (12.0, 0.0), (0.0, 0.0)


def test_a_rollback_survives_the_loss_of_the_store(release, paths, git, lose_store):
    first = release(OFF_LEFT)
    assert release(GOOD).verdict == "better"
    commands.rollback(paths, by="bob", why="misses children")
    git(paths.root, "add", "releases")

    paths = lose_store(paths)
    report = sync(paths)
    assert report.remarks == (), report.remarks[0]
    tracking = open_tracking(paths)
    champion = get_version(tracking, "rtmo", read_aliases(tracking, "rtmo").champion)
    assert champion.content_hash == first.content_hash
    assert champion.tags["verdict"] == "first"
    assert champion.tags["git.commit"] == "c0ffee"
    (move,) = read_moves(tracking, "rtmo")
    assert "rollback by bob" in move.why
    assert "misses children" in move.why
    assert len(all_versions(tracking, "rtmo")) == 2
    assert "moved" not in git(paths.root, "worktree", "list").replace(str(paths.root), "")
    assert sync(paths).restored == ()


@pytest.mark.slow
def test_a_champion_made_in_another_commit_comes_back(release, paths, lose_store):
    champion = release(GOOD)
    assert release(OFF_LEFT).verdict == "worse"
    paths = lose_store(paths)
    assert sync(paths).remarks == ()
    tracking = open_tracking(paths)
    aliases = read_aliases(tracking, "rtmo")
    assert get_version(tracking, "rtmo", aliases.champion).content_hash == champion.content_hash
    assert get_version(tracking, "rtmo", aliases.challenger).content_hash != champion.content_hash


def test_a_registration_after_the_rollback_overrules_it(release, paths):
    release(OFF_LEFT)
    release(GOOD)
    commands.rollback(paths, by="bob", why="misses children")
    ledger = read_ledger(ledger_file(paths, "rtmo"))
    assert decided_since(ledger, ()) is not None
    assert decided_since(ledger, release((4.0, 0.0)).ledger) is None


def chosen(version: int) -> Version:
    return Version("rtmo", version, "run", {"content_hash": str(version), "model_id": "m"})


def decide(file: Path, version: int, by: str) -> None:
    append(file, "promote", chosen(version), None, at=datetime.now(UTC), by=by, why="because")


def test_two_people_at_once_are_told_and_a_third_line_decides(tmp_path):
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    decide(ours, 1, "ann")
    shutil.copy(ours, theirs)
    before = read_ledger(ours)
    decide(ours, 2, "ann")
    decide(theirs, 3, "bob")
    merged = dict.fromkeys([*ours.read_text().splitlines(), *theirs.read_text().splitlines()])
    ours.write_text("".join(f"{line}\n" for line in merged))  # as git's union merge does
    ledger: Ledger = read_ledger(ours)
    assert len(last_ids(ledger)) == 2
    with pytest.raises(LedgerError, match=r"(ann|bob) chose version .*; (ann|bob) chose"):
        decided_since(ledger, last_ids(before))
    decide(ours, 3, "eve")
    decision = decided_since(read_ledger(ours), ())
    assert decision is not None
    assert (decision.by, decision.champion.version) == ("eve", 3)


def test_a_damaged_ledger_is_refused(tmp_path):
    file = tmp_path / "rtmo.jsonl"
    for version in (1, 2):
        decide(file, version, "ann")
    good = file.read_text()
    file.write_text("<<<<<<< HEAD\n" + good)
    with pytest.raises(LedgerError, match=r"line 1 is no entry .* delete the marks"):
        read_ledger(file)
    file.write_text(good.splitlines()[1] + "\n")
    with pytest.raises(LedgerError, match="a line was changed or removed"):
        read_ledger(file)


def test_git_merges_the_ledger_by_keeping_both_lines(repository, git):
    found = git(repository, "check-attr", "merge", "releases/rtmo.jsonl")
    assert found.strip().endswith("union")

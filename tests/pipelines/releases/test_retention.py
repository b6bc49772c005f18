"""What `collect` removes is never what `sync`, `reproduce`, `rollback` or the workspace need."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipelines import retention
from pipelines.dvc_data import add_worktree, restore_outputs
from pipelines.paths import Paths
from pipelines.registry import commands
from pipelines.registry.aliases import ReleaseError
from pipelines.registry.restoration import KEPT_STAGES
from pipelines.reproduction import reproduce
from pipelines.sync import sync
from pipelines.tracking.liveness import PROCESS_TAG, this_process
from pipelines.tracking.moves import read_aliases
from pipelines.tracking.versions import COLLECTED_TAG, all_versions, get_version, has_files
from pipelines.worktree import commits_with_training, worktree

GATE = "data/processed/embedded/gate"


def keep_versions(paths: Paths, number: int) -> None:
    text = paths.params.read_text()
    paths.params.write_text(text.replace("keep_versions: 10", f"keep_versions: {number}"))


def bytes_on_disk(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "releases"), [(0, 4), (1, 7)])
def test_every_aliased_version_can_still_be_brought_back_and_made_again(
    release, paths, tracking, lose_store, seed, releases
):
    """Random models, so random verdicts; some promoted by hand against the gate."""
    rng = np.random.default_rng(seed)
    for number in range(1, releases + 1):
        release(tuple(float(off) for off in rng.permutation([0.0, *rng.uniform(1, 14, 1)])))
        if rng.random() < 0.3:
            commands.promote(paths, number, by="ann", why="looks better")
    keep_versions(paths, 1)
    aliases = read_aliases(tracking, "rtmo")
    before = bytes_on_disk(paths.root / ".dvc/cache"), bytes_on_disk(paths.root / "mlartifacts")

    found = retention.plan(paths)
    planned = sum(item.bytes for item in found.items)
    assert (planned > 0) == bool(found.items)
    assert before == (
        bytes_on_disk(paths.root / ".dvc/cache"),
        bytes_on_disk(paths.root / "mlartifacts"),
    )
    assert retention.collect(paths) == found
    left = bytes_on_disk(paths.root / ".dvc/cache") + bytes_on_disk(paths.root / "mlartifacts")
    assert sum(before) - left == planned
    assert retention.plan(paths).items == ()

    needed = {
        number for number in (aliases.champion, aliases.previous, aliases.challenger) if number
    }
    assert needed <= set(found.kept)
    for number in needed:
        version = get_version(tracking, "rtmo", number)
        assert has_files(tracking, version)
        commit = commits_with_training(paths.root, version.tags["stage_hash"])[0]
        with worktree(paths.root, commit) as tree:
            restore_outputs(tree, (*KEPT_STAGES, GATE), print)  # all that `sync` needs of it
    assert reproduce(paths, "models:/rtmo@champion", print).outcome == "identical"
    assert sync(lose_store(paths)).remarks == ()


def test_old_versions_give_up_their_files_and_keep_their_record(release, paths, tracking):
    release((12.0, 0.0))
    release((6.0, 0.0))
    release((0.0, 0.0))  # champion; version 2 is previous
    keep_versions(paths, 1)
    assert read_aliases(tracking, "rtmo").champion == 3
    found = retention.collect(paths)
    assert found.kept == (2, 3)
    assert [item.name for item in found.of("model files")] == ["1"]
    assert found.of("cache")
    gone = get_version(tracking, "rtmo", 1)
    assert not has_files(tracking, gone)
    assert {"verdict", COLLECTED_TAG} <= gone.tags.keys()
    assert len(all_versions(tracking, "rtmo")) == 3
    with pytest.raises(ReleaseError, match="version 1 has no model files any more"):
        commands.promote(paths, 1, by="ann", why="nostalgia")
    commands.rollback(paths, by="ann", why="misses children")
    with pytest.raises(ReleaseError, match="version 1 has no model files any more"):
        commands.rollback(paths, by="ann", why="further back")
    assert read_aliases(tracking, "rtmo").champion == 2

    release((12.0, 0.0))  # registered again, it has its files again
    back = get_version(tracking, "rtmo", 1)
    assert has_files(tracking, back)
    assert COLLECTED_TAG not in back.tags


def test_a_branch_a_tag_and_another_worktree_keep_their_data(release, paths, git, tmp_path):
    release((12.0, 0.0))
    release((6.0, 0.0))
    release((0.0, 0.0))
    keep_versions(paths, 1)
    first = git(paths.root, "rev-parse", "HEAD~2").strip()
    assert retention.plan(paths).of("cache")
    git(paths.root, "tag", "shown-to-a-customer", first)
    assert retention.plan(paths).of("cache") == ()
    git(paths.root, "tag", "-d", "shown-to-a-customer")
    add_worktree(paths.root, tmp_path / "other", first)
    assert retention.plan(paths).of("cache") == ()


def test_checkpoints_go_by_age_and_a_shared_cache_is_left_alone(release, paths, git, tmp_path):
    release((12.0, 0.0))
    for name, days in (("a" * 64, 1), ("b" * 64, 20)):
        file = paths.runs / "checkpoints" / name / "step-1.pt"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x" * 100)
        then = time.time() - days * 86_400
        os.utime(file, (then, then))
    (item,) = retention.plan(paths).of("checkpoints")
    assert (item.name, item.bytes) == ("b" * 64, 100)

    (paths.root / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'shared'}\n")
    found = retention.collect(paths)
    assert found.of("cache") == ()
    assert "others may share it: left alone" in " ".join(found.remarks)
    assert [folder.name for folder in (paths.runs / "checkpoints").iterdir()] == ["a" * 64]


KILLED = """
import os, pathlib, sys
from pipelines.paths import Paths
from pipelines.tracking.store import open_tracking
from pipelines.tracking.uploads import upload
root, package = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
tracking = open_tracking(Paths(root, root))
run = tracking.client.create_run(tracking.experiment_id)
upload(tracking, "rtmo", package, "0" * 64, run.info.run_id)
os.kill(os.getpid(), 9)
"""
"""A registration that dies between the end of its upload and the making of its version."""


@pytest.mark.slow
def test_an_upload_that_no_version_came_of_is_removed(release, paths, tracking, tmp_path):
    release((12.0, 0.0))
    (tmp_path / "MLmodel").write_text("x" * 1000)
    before = bytes_on_disk(paths.root / "mlartifacts")
    subprocess.run([sys.executable, "-c", KILLED, paths.root, tmp_path], check=False)
    unfinished = tracking.client.create_logged_model(  # of a process that lives
        tracking.experiment_id, name="rtmo", tags={PROCESS_TAG: this_process()}
    )
    (item,) = retention.plan(paths).of("upload")
    assert item.bytes == bytes_on_disk(paths.root / "mlartifacts") - before >= 1000
    assert retention.collect(paths).of("upload") == (item,)
    assert bytes_on_disk(paths.root / "mlartifacts") == before
    assert retention.plan(paths).of("upload") == ()
    left = tracking.client.search_logged_models([tracking.experiment_id])
    (version,) = all_versions(tracking, "rtmo")
    assert {model.model_id for model in left} == {unfinished.model_id, version.model_id}

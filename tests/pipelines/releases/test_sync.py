"""A store that lost things gets them back from the workspace, and only from what is there."""

import json
import shutil
import subprocess
import sys
from datetime import datetime

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.paths import Paths
from pipelines.registry.candidate import IncompleteWorkspaceError
from pipelines.registry.receipt import read_receipt, receipt_file
from pipelines.registry.release import register
from pipelines.serving.champion import predict_with_champion
from pipelines.stages.register import write_receipt
from pipelines.sync import sync
from pipelines.tracking.moves import Aliases, read_aliases, read_moves
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import all_versions, get_version

GOOD, BAD = (0.0, 0.0), (12.0, 12.0)

DVC_LOCK = """
schema: '2.0'
stages:
  convert:
    cmd: convert
    outs: [{path: data/processed/embedded/gate, md5: gate.dir}]
  register:
    cmd: register
    deps: [{path: data/processed/embedded/gate, md5: gate.dir}]
"""


@pytest.fixture
def registered(tracking, paths, make_workspace):
    """Register a model as the stage does, receipt included."""

    def run(model, **settings):
        (paths.root / "dvc.lock").write_text(DVC_LOCK)
        receipt = register(tracking, make_workspace(paths, model, **settings))
        folder = receipt_file(paths).parent
        folder.mkdir(parents=True, exist_ok=True)
        write_receipt(receipt, folder)
        return receipt

    return run


def without_store(paths: Paths) -> Paths:
    """The workspace as a colleague has it after `dvc pull`: everything but the store."""
    root = paths.root.with_name("colleague")
    shutil.copytree(
        paths.root, root, ignore=shutil.ignore_patterns("mlflow.db", "mlartifacts", "runs")
    )
    return Paths(root, root)


def test_a_wiped_store_gets_the_same_champion_back(paths, registered, tmp_path):
    before = registered(GOOD)
    paths = without_store(paths)
    report = sync(paths)
    assert report.restored == ("run", "version", "alias champion")
    assert report.remarks == ()
    tracking = open_tracking(paths)
    champion = read_aliases(tracking, "rtmo").champion
    version = get_version(tracking, "rtmo", champion)
    assert version.content_hash == before.content_hash
    assert version.tags["verdict"] == "first"
    assert version.tags["git.commit"] == "c0ffee"  # of the training, not of this checkout
    run = tracking.client.get_run(version.run_id)
    assert run.data.tags["stage_hash"] == before.stage_hash
    assert run.data.metrics["AP"] == 0.25
    (move,) = read_moves(tracking, "rtmo")
    assert move.kind == "restore"
    assert "restored from the receipt of tester@here" in move.why
    picture = tmp_path / "picture.jpg"
    picture.write_bytes((paths.processed("embedded") / "gate" / "images-00000.bin").read_bytes())
    assert len(predict_with_champion(paths, "rtmo", picture)["scores"]) == 2
    assert sync(paths).restored == ()


def test_registering_the_champion_again_does_not_lose_what_made_it_champion(
    paths, registered, tracking
):
    first = registered(GOOD)
    again = registered(GOOD)
    assert again.verdict == "same"
    tracking.client.delete_run(get_version(tracking, "rtmo", 1).run_id)
    assert sync(paths).restored == ("run",)
    assert get_version(tracking, "rtmo", 1).tags["verdict_words"] == first.words
    paths = without_store(paths)
    sync(paths)
    tags = get_version(open_tracking(paths), "rtmo", 1).tags
    assert (tags["verdict"], tags["verdict_words"]) == ("first", first.words)


def test_what_came_back_and_who_moved_what_are_also_for_programs(paths, registered, monkeypatch):
    registered(GOOD)
    paths = without_store(paths)
    (paths.root / "dvc.yaml").touch()
    monkeypatch.chdir(paths.root)

    def said(*words: str):
        return json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)

    assert said("sync") == {"restored": ["run", "version", "alias champion"], "remarks": []}
    (move,) = said("history")
    assert (move["kind"], move["after"]["champion"]) == ("restore", 1)
    assert datetime.fromisoformat(move["at"]).tzinfo is not None


def test_a_complete_store_is_left_alone_and_asked_without_heavy_imports(paths, registered):
    registered(GOOD)
    script = """
import sys
from pathlib import Path
from pipelines.paths import Paths
from pipelines.sync import sync
root = Path(sys.argv[1])
print(sync(Paths(root, root)))
print(sorted({"torch", "mlflow", "fiftyone", "prefect"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(paths.root)], capture_output=True, text=True
    )
    assert done.stdout == "SyncReport(restored=(), remarks=())\n[]\n", done.stderr


def test_without_a_receipt_there_is_nothing_to_restore(paths):
    report = sync(paths)
    assert report.restored == ()
    assert "dvc repro" in report.remarks[0]


def test_a_champion_from_another_workspace_is_named_and_not_invented(paths, registered):
    champion = registered(GOOD)
    challenger = registered(BAD)
    assert challenger.verdict == "worse"
    paths = without_store(paths)
    report = sync(paths)
    assert report.restored == ("run", "version", "alias challenger")
    assert champion.content_hash[:12] in report.remarks[0]
    assert "c0ffee" in report.remarks[0]
    tracking = open_tracking(paths)
    assert read_aliases(tracking, "rtmo") == Aliases(challenger=1)
    assert get_version(tracking, "rtmo", 1).content_hash == challenger.content_hash
    assert sync(paths).restored == ()


def test_what_the_store_says_of_the_champion_is_not_overruled(paths, registered, tracking):
    registered(GOOD)
    tracking.client.delete_registered_model_alias("rtmo", "champion")
    assert sync(paths).restored == ()
    assert read_aliases(tracking, "rtmo") == Aliases()


def test_a_lost_run_and_lost_files_come_back(paths, registered, tracking):
    registered(GOOD)
    version = get_version(tracking, "rtmo", 1)
    tracking.client.delete_run(version.run_id)
    shutil.rmtree(paths.root / "mlartifacts")
    assert sync(paths).restored == ("run", "files of the version")
    assert [found.number for found in all_versions(tracking, "rtmo")] == [1]
    assert sync(paths).restored == ()


def test_outputs_that_are_not_those_of_the_receipt_are_refused(paths, registered, make_workspace):
    registered(GOOD)
    paths = without_store(paths)
    make_workspace(paths, BAD)
    with pytest.raises(IncompleteWorkspaceError, match="not those of reports/register/receipt"):
        sync(paths)


def test_missing_outputs_are_named(paths, registered):
    registered(GOOD)
    paths = without_store(paths)
    (paths.exported / "rtmo.onnx").unlink()
    with pytest.raises(IncompleteWorkspaceError, match=r"rtmo.onnx does not exist; `dvc repro`"):
        sync(paths)


def test_the_receipt_reads_back(paths, registered):
    receipt = registered(GOOD)
    assert read_receipt(paths) == receipt
    assert "champion: version 1" in receipt.markdown()


def test_after_deleting_the_store_a_new_process_restores_it_in_place(paths, registered):
    before = registered(GOOD)
    paths.mlflow_database.unlink()
    shutil.rmtree(paths.root / "mlartifacts")
    script = """
import sys
from pathlib import Path
from pipelines.paths import Paths
from pipelines.sync import sync
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import get_version
paths = Paths(Path(sys.argv[1]), Path(sys.argv[1]))
assert sync(paths).restored and not sync(paths).restored
print(get_version(open_tracking(paths), "rtmo", 1).content_hash)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(paths.root)], capture_output=True, text=True
    )
    assert done.stdout.strip() == before.content_hash, done.stderr

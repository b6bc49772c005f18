"""Versions come whole or not at all, whoever else is at work and whenever someone dies."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from pipelines.registry.release import register, register_version
from pipelines.tracking.moves import Aliases, read_aliases, read_moves
from pipelines.tracking.versions import (
    UnknownVersionError,
    all_versions,
    ensure_registered_model,
    get_version,
    require_alias,
)

GOOD = (0.0, 0.0)

REGISTER = """
import os, pathlib, sys, time
from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.registry.candidate import read_candidate
from pipelines.registry.comparison import GateData
from pipelines.registry.release import Registration, register, register_version
from pipelines.tracking.store import open_tracking

root = pathlib.Path(sys.argv[1])
paths, params = Paths(root, root), load_params(root)
gate = GateData(paths.processed("embedded") / "gate", "md5.dir", params.evaluate)
registration = Registration(
    paths, params, read_candidate(paths), gate, {"git.commit": "c0ffee"}, "child", None
)
tracking = open_tracking(paths)
print("ready", flush=True)
sys.stdin.readline()
"""


def child(paths, ending: str) -> subprocess.Popen[str]:
    """A process that is ready to register what lies in the workspace."""
    process = subprocess.Popen(
        [sys.executable, "-c", REGISTER + ending, str(paths.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    return process


def test_two_registrations_at_once_end_in_one_version_and_one_move(tracking, paths, make_workspace):
    make_workspace(paths, GOOD)
    children = [child(paths, "print(register(tracking, registration).version)") for _ in range(2)]
    for process in children:
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=120) for process in children]
    assert [process.returncode for process in children] == [0, 0], answers
    (version,) = all_versions(tracking, "rtmo")
    assert [out.strip() for out, _ in answers] == [str(version.number)] * 2
    assert read_aliases(tracking, "rtmo") == Aliases(champion=version.number)
    assert [move.kind for move in read_moves(tracking, "rtmo")] == ["promote"]
    assert len(tracking.client.search_runs([tracking.experiment_id])) == 1


def test_a_crash_between_version_and_alias_is_finished_by_the_next_registration(
    tracking, paths, make_workspace
):
    workspace = make_workspace(paths, GOOD)
    process = child(paths, "register_version(tracking, registration); os.kill(os.getpid(), 9)")
    process.communicate("go\n", timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert read_aliases(tracking, "rtmo") == Aliases()
    receipt = register(tracking, workspace)
    assert receipt.version == 1
    assert receipt.verdict == "first"
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)


def test_an_upload_that_was_killed_is_cleared_away_and_no_version_points_to_it(
    tracking, paths, make_workspace
):
    make_workspace(paths, GOOD)
    upload = """
from pipelines.tracking.liveness import PROCESS_TAG, this_process
model = tracking.client.create_logged_model(
    tracking.experiment_id, name="rtmo", tags={PROCESS_TAG: this_process()}
)
tracking.client.log_model_artifact(model.model_id, str(paths.params))
"""
    process = child(paths, upload)
    process.communicate("go\n", timeout=60)
    assert len(tracking.client.search_logged_models([tracking.experiment_id])) == 1
    (half,) = (paths.root / "mlartifacts").rglob("params.yaml")
    register(tracking, make_workspace(paths, GOOD))
    assert not half.exists()  # MLflow deletes the record only
    (model,) = tracking.client.search_logged_models([tracking.experiment_id])
    assert str(model.status) == "READY"


def test_lost_files_of_a_version_are_uploaded_again(tracking, paths, make_workspace):
    workspace = make_workspace(paths, GOOD)
    register(tracking, workspace)
    shutil.rmtree(paths.root / "mlartifacts")
    register_version(tracking, workspace)
    (version,) = all_versions(tracking, "rtmo")
    files = tracking.client.list_logged_model_artifacts(version.model_id)
    assert {"MLmodel", "model_card.md", "model_card.json"} <= {item.path for item in files}


def test_an_unknown_version_names_those_there_are(tracking, paths, make_workspace):
    register(tracking, make_workspace(paths, GOOD))
    with pytest.raises(UnknownVersionError, match=r"no version 7 .* it has 1"):
        get_version(tracking, "rtmo", 7)


def test_without_a_champion_it_is_said_how_to_get_one(tracking, paths, make_workspace):
    with pytest.raises(UnknownVersionError, match="`dvc repro` registers a model"):
        require_alias(tracking, "rtmo", "champion")
    register_version(tracking, make_workspace(paths, GOOD))
    with pytest.raises(UnknownVersionError, match="`rtmo-pipeline promote 1 --why REASON`"):
        require_alias(tracking, "rtmo", "champion")


def test_a_version_made_by_other_means_is_refused_by_name(tracking):
    ensure_registered_model(tracking, "rtmo")
    tracking.client.create_model_version("rtmo", source="file:///somewhere")
    with pytest.raises(UnknownVersionError, match="version 1 of model 'rtmo' was not made by"):
        get_version(tracking, "rtmo", 1)
    assert all_versions(tracking, "rtmo") == ()


def test_mlflows_pages_say_what_a_version_is(tracking, paths, make_workspace):
    register(tracking, make_workspace(paths, GOOD))
    assert "`champion` is what applications get" in (
        tracking.client.get_registered_model("rtmo").description
    )
    said = tracking.client.get_model_version("rtmo", "1").description
    assert said.startswith("rtmo-t trained on embedded; on the gate split AP ")

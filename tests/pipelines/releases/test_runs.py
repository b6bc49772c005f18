import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.tracking import runs
from pipelines.tracking.liveness import PROCESS_TAG, this_process
from pipelines.tracking.reporter import MlflowReporter
from pipelines.tracking.store import Tracking

TAGS = {"dataset": "embedded", "data_digest": "0123456789abcdef" * 4}
PARAMS = {"train": {"optimizer": {"lr": 0.004}, "phases": [{"first_epoch": 0}]}}


def curve(tracking: Tracking, run_id: str, name: str) -> list[tuple[int, float]]:
    history = tracking.client.get_metric_history(run_id, name)
    return [(point.step, point.value) for point in history]


def interrupted_training(tracking: Tracking, losses: dict[int, float]) -> str:
    """Id of a run that got these points and was then stopped by Ctrl-C."""
    run_ids = []

    def train() -> None:
        with tracking.training_run("abc", PARAMS, TAGS) as reporter:
            run_ids.append(reporter.run_id)
            for step, loss in losses.items():
                reporter.log_metrics(step, {"loss": loss})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    return run_ids[0]


def test_a_run_holds_params_curves_pictures_and_the_data_version(
    tracking: Tracking, tmp_path: Path
) -> None:
    picture = tmp_path / "batch.png"
    picture.write_bytes(b"png")
    with tracking.training_run("abc", PARAMS, TAGS) as reporter:
        reporter.log_metrics(1, {"loss": 2.0, "AP": 0.1})
        reporter.log_metrics(2, {"loss": 1.0})
        reporter.log_image("batch", picture)
    run = tracking.client.get_run(reporter.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params == {
        "train.optimizer.lr": "0.004",
        "train.phases": '[{"first_epoch": 0}]',
    }
    assert curve(tracking, reporter.run_id, "loss") == [(1, 2.0), (2, 1.0)]
    assert run.data.tags["stage_hash"] == "abc"
    (dataset_input,) = run.inputs.dataset_inputs
    assert dataset_input.dataset.digest == TAGS["data_digest"][:36]
    stored = tracking.client.list_artifacts(reporter.run_id, "images")
    assert [item.path for item in stored] == ["images/batch.png"]


def test_a_resumed_training_continues_its_run_and_repeats_no_point(tracking: Tracking) -> None:
    first = interrupted_training(tracking, {1: 3.0, 2: 2.0})
    assert tracking.client.get_run(first).info.status == "KILLED"
    with tracking.training_run("abc", PARAMS, TAGS) as second:  # from the checkpoint of step 1
        second.log_metrics(2, {"loss": 2.0})
        second.log_metrics(3, {"loss": 1.0})
    assert second.run_id == first
    assert curve(tracking, first, "loss") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert tracking.client.get_run(first).info.status == "FINISHED"


def test_a_changed_setting_outside_the_stage_hash_does_not_stop_a_resumed_run(
    tracking: Tracking,
) -> None:
    with tracking.training_run("abc", {"register": {"floor_ap": 0.2}}, TAGS) as first:
        pass
    with tracking.training_run("abc", {"register": {"floor_ap": 0.3}}, TAGS):
        pass
    assert tracking.client.get_run(first.run_id).data.params == {"register.floor_ap": "0.2"}


def test_a_run_keeps_the_lineage_of_where_it_began(tracking: Tracking) -> None:
    with tracking.training_run("abc", {}, {**TAGS, "gpu": "H200"}) as first:
        pass
    run = runs.restore_run(
        tracking.client, tracking.experiment_id, "abc", {}, {**TAGS, "gpu": "none", "cpu": "x"}, ()
    )
    assert run.info.run_id == first.run_id
    assert (run.data.tags["gpu"], run.data.tags["cpu"]) == ("H200", "x")


def test_other_stage_hashes_get_runs_of_their_own(tracking: Tracking) -> None:
    with tracking.training_run("abc", {}, TAGS) as first:
        pass
    with tracking.training_run("abd", {}, TAGS) as second:
        pass
    assert first.run_id != second.run_id


def test_an_exception_in_training_ends_the_run_as_failed(tracking: Tracking) -> None:
    with pytest.raises(ZeroDivisionError), tracking.training_run("abc", {}, TAGS) as reporter:
        raise ZeroDivisionError
    assert tracking.client.get_run(reporter.run_id).info.status == "FAILED"


def test_a_run_whose_process_was_killed_is_closed_and_a_living_one_is_left(
    tracking: Tracking,
) -> None:
    client, experiment = tracking.client, tracking.experiment_id
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1)
    mark = json.loads(this_process())
    ghost = client.create_run(
        experiment, tags={PROCESS_TAG: json.dumps({**mark, "pid": child.pid, "started": 0})}
    )
    living = client.create_run(experiment, tags={PROCESS_TAG: this_process()})
    elsewhere = client.create_run(
        experiment, tags={PROCESS_TAG: json.dumps({**mark, "host": "another", "pid": 1})}
    )
    child.kill()
    child.wait()
    assert runs.close_ghosts(client, experiment) == 1
    status = [client.get_run(run.info.run_id).info.status for run in (ghost, living, elsewhere)]
    assert status == ["KILLED", "RUNNING", "RUNNING"]


def test_a_failing_store_in_mid_training_keeps_the_values_and_raises_nothing(
    tracking: Tracking, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tracking.client.create_run(tracking.experiment_id)
    reporter = MlflowReporter(tracking.client, run.info.run_id, {})
    reporter.log_metrics(1, {"loss": 3.0})
    database = tracking.address.sqlite_file
    assert database is not None
    away = tmp_path / "away.db"
    database.rename(away)
    database.mkdir()  # SQLite cannot open a folder
    assert tracking.client  # the pool keeps a connection: close it so that the next use fails
    tracking.client._tracking_client.store.engine.dispose()
    assert not reporter.flush()
    assert reporter.num_failures == 1
    assert "the training goes on" in caplog.text
    reporter.log_metrics(2, {"loss": 2.0})
    database.rmdir()
    away.rename(database)
    reporter.close("FINISHED")
    assert curve(tracking, run.info.run_id, "loss") == [(1, 3.0), (2, 2.0)]


def test_restoring_a_run_twice_fills_it_once(tracking: Tracking) -> None:
    points = [(10, {"loss": 2.0}), (20, {"loss": 1.0, "AP": 0.4})]
    arguments = (tracking.client, tracking.experiment_id, "abc", PARAMS, TAGS)
    first = runs.restore_run(*arguments, points).info.run_id
    run = runs.restore_run(*arguments, points)
    assert run.info.run_id == first
    assert curve(tracking, first, "loss") == [(10, 2.0), (20, 1.0)]
    assert run.info.status == "FINISHED"
    assert len(run.inputs.dataset_inputs) == 1


def test_restoring_completes_a_run_that_was_cut_short(tracking: Tracking) -> None:
    cut = interrupted_training(tracking, {10: 2.0})
    points = [(10, {"loss": 2.0}), (20, {"loss": 1.0})]
    arguments = (tracking.client, tracking.experiment_id, "abc", PARAMS, TAGS)
    assert runs.restore_run(*arguments, points).info.run_id == cut
    assert curve(tracking, cut, "loss") == [(10, 2.0), (20, 1.0)]
    assert tracking.client.get_run(cut).info.status == "FINISHED"

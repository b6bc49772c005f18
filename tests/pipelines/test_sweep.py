"""Two queued experiments side by side, each in a workspace of its own."""

import json

import pytest
from mlflow import MlflowClient

from tests.pipelines.test_whole import make_checkout, run

pytestmark = pytest.mark.slow

RATES = ("0.001", "0.0005")
DVC = ("python", "-m", "dvc")


def test_two_queued_experiments_run_in_parallel_up_to_evaluate(repository, tmp_path):
    folder = tmp_path / "checkout"
    folder.mkdir()
    make_checkout(repository, folder)
    run(folder, *DVC, "repro", "convert")
    run(folder, "git", "add", "-A")
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    run(folder, "git", *identity, "commit", "-qm", "Converted")

    params_before = (folder / "params.yaml").read_text()
    for rate in RATES:
        change = f"train.optimizer.lr={rate}"
        run(folder, *DVC, "exp", "run", "--queue", "-S", change, "-n", f"lr-{rate[2:]}", "evaluate")
    run(folder, *DVC, "queue", "start", "--jobs", "2")
    for rate in RATES:
        run(folder, *DVC, "queue", "logs", f"lr-{rate[2:]}", "--follow")
    status = run(folder, *DVC, "queue", "status")
    assert status.count("Success") == 2, status

    shown = json.loads(run(folder, *DVC, "exp", "show", "--json"))
    images_seen, rates = set(), {}
    for experiment in shown[1]["experiments"]:
        data = experiment["revs"][0]["data"]
        metrics = {path: entry.get("data", {}) for path, entry in data["metrics"].items()}
        images_seen.add(metrics["models/train/metrics.json"]["images_seen"])
        assert metrics["reports/train/timing.json"]["device_hours"] > 0
        assert "AP" in metrics["reports/evaluate/metrics.json"]
        params = data["params"]["params.yaml"]["data"]
        rates[experiment["name"]] = params["train"]["optimizer"]["lr"]
    assert rates == {"lr-001": 0.001, "lr-0005": 0.0005}

    # The runs outlive the workspaces: they are in the checkout's own store.
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = [one for one in client.search_runs(ids) if "images_seen" in one.data.metrics]
    assert len(runs) == 2
    assert {one.data.metrics["images_seen"] for one in runs} == images_seen
    assert all(one.data.metrics["device_hours"] > 0 for one in runs)
    assert (folder / "params.yaml").read_text() == params_before

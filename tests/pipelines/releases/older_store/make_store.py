"""Makes `mlflow-<version>.sql` with the MLflow that runs it; see README.md beside this file."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

MODEL = "rtmo"
LINEAGE = {"stage_hash": "5" * 64, "dataset": "embedded", "data_digest": "d" * 64}


def fill(client: MlflowClient) -> None:
    """One training, its model with a figure, and a version that is champion, tagged as ours are."""
    experiment = client.create_experiment(MODEL, artifact_location="file:///store/mlartifacts")
    run = client.create_run(experiment, tags=LINEAGE).info.run_id
    client.log_param(run, "train.seed", 0)
    client.log_batch(run, metrics=[Metric("AP", 0.1 * step, step, step) for step in range(3)])
    made = client.create_logged_model(experiment, name=MODEL, source_run_id=run)
    client.finalize_logged_model(made.model_id, "READY")
    client.log_metric(run, "gate.AP", 0.25, model_id=made.model_id)
    client.set_terminated(run, "FINISHED")
    client.create_registered_model(MODEL)
    tags = {**LINEAGE, "content_hash": "c" * 64, "model_id": made.model_id, "git.commit": "c0ffee"}
    version = client.create_model_version(
        MODEL, source="/store/mlartifacts/model", run_id=run, tags=tags, model_id=made.model_id
    )
    client.set_registered_model_alias(MODEL, "champion", version.version)


def main() -> None:
    """Write the dump beside this file."""
    # MLflow notes the working directory in the experiment that it always makes.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir("/"):
        file = Path(folder) / "mlflow.db"
        fill(MlflowClient(tracking_uri=f"sqlite:///{file}", registry_uri=f"sqlite:///{file}"))
        with closing(sqlite3.connect(file)) as database:
            dump = "\n".join(database.iterdump())
    Path(__file__).with_name(f"mlflow-{mlflow.__version__}.sql").write_text(f"{dump}\n")


if __name__ == "__main__":
    main()

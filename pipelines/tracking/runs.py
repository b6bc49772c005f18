"""Training runs: one per stage hash, continued after a kill, never left RUNNING for ever."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType

from pipelines.tracking.liveness import PROCESS_TAG, is_gone, this_process
from pipelines.tracking.reporter import MAX_METRICS_PER_REQUEST, MlflowReporter

STAGE_HASH_TAG = "stage_hash"
DATASET_TAG = "dataset"
DATA_DIGEST_TAG = "data_digest"
MAX_PARAMS_PER_REQUEST = 100  # MLflow's own limits
MAX_DIGEST_LENGTH = 36


@contextlib.contextmanager
def training_run(
    client: MlflowClient,
    experiment_id: str,
    stage_hash: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
) -> Iterator[MlflowReporter]:
    """The run tagged `stage_hash`, new or continued, RUNNING while the block lasts.

    Args:
        client: of the store.
        experiment_id: where runs are looked for and made.
        stage_hash: of the `train` stage: the run's only key.
        params: settings, nested as in `params.yaml`; those the run has already are left alone.
        tags: lineage; `dataset` and `data_digest` also become the run's MLflow dataset.
    """
    close_ghosts(client, experiment_id)
    run = find_or_create_run(client, experiment_id, stage_hash, tags)
    run_id = run.info.run_id
    client.set_tag(run_id, PROCESS_TAG, this_process())
    client.update_run(run_id, status="RUNNING")
    log_missing_params(client, run, params)
    log_dataset(client, run, tags)
    reporter = MlflowReporter(client, run_id, last_steps(client, run))
    status = "FAILED"
    try:
        yield reporter
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        reporter.close(status)


def find_run(client: MlflowClient, experiment_id: str, stage_hash: str) -> Run | None:
    """The oldest run with this stage hash, so that two makers at once agree on one."""
    found = client.search_runs(
        [experiment_id],
        f"tags.{STAGE_HASH_TAG} = '{stage_hash}'",
        ViewType.ACTIVE_ONLY,
        max_results=1,
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
    )
    return found[0] if found else None


def find_or_create_run(
    client: MlflowClient, experiment_id: str, stage_hash: str, tags: Mapping[str, str]
) -> Run:
    """The run with this stage hash; tags it has already stay: they tell where it began."""
    found = find_run(client, experiment_id, stage_hash)
    if found is None:
        key = {STAGE_HASH_TAG: stage_hash, PROCESS_TAG: this_process()}
        name = f"{tags.get(DATASET_TAG, 'train')}-{stage_hash[:8]}"
        made = client.create_run(experiment_id, tags={**tags, **key}, run_name=name)
        found = find_run(client, experiment_id, stage_hash)
        if found is None or found.info.run_id == made.info.run_id:
            return made
        client.delete_run(made.info.run_id)  # another process was quicker
    missing = [RunTag(key, value) for key, value in tags.items() if key not in found.data.tags]
    client.log_batch(found.info.run_id, tags=missing)
    return client.get_run(found.info.run_id)


def close_ghosts(client: MlflowClient, experiment_id: str) -> int:
    """End runs that are RUNNING in MLflow only, their process being gone; how many there were."""
    running = client.search_runs(
        [experiment_id], "attributes.status = 'RUNNING'", ViewType.ACTIVE_ONLY
    )
    ghosts = [run for run in running if is_gone(run.data.tags.get(PROCESS_TAG))]
    for run in ghosts:
        client.set_terminated(run.info.run_id, "KILLED")
    return len(ghosts)


def restore_run(
    client: MlflowClient,
    experiment_id: str,
    stage_hash: str,
    params: Mapping[str, object],
    tags: Mapping[str, str],
    curves: Iterable[tuple[int, Mapping[str, float]]],
) -> Run:
    """Bring the run of a finished training to what its outputs say.

    Args:
        client: of the store.
        experiment_id: where runs are looked for and made.
        stage_hash: of the `train` stage.
        params: settings, as for `training_run`.
        tags: lineage, as for `training_run`.
        curves: (step, values) in order of step; points the run has already are not repeated.
    """
    run = find_or_create_run(client, experiment_id, stage_hash, tags)
    run_id = run.info.run_id
    log_missing_params(client, run, params)
    log_dataset(client, run, tags)
    known = last_steps(client, run)
    now_ms = time.time_ns() // 1_000_000
    metrics = [
        Metric(name, value, now_ms, step)
        for step, values in curves
        for name, value in values.items()
        if step > known.get(name, -1)
    ]
    for first in range(0, len(metrics), MAX_METRICS_PER_REQUEST):
        client.log_batch(run_id, metrics=metrics[first : first + MAX_METRICS_PER_REQUEST])
    if run.info.status != "FINISHED":
        client.set_terminated(run_id, "FINISHED")
    return client.get_run(run_id)


def last_steps(client: MlflowClient, run: Run) -> dict[str, int]:
    """For each metric of the run, the last step that it has."""
    return {
        name: max(point.step for point in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }


def log_missing_params(client: MlflowClient, run: Run, params: Mapping[str, object]) -> None:
    """Write the settings the run does not have; MLflow refuses to change one."""
    missing = [
        Param(key, value) for key, value in flattened(params).items() if key not in run.data.params
    ]
    for first in range(0, len(missing), MAX_PARAMS_PER_REQUEST):
        client.log_batch(run.info.run_id, params=missing[first : first + MAX_PARAMS_PER_REQUEST])


def log_dataset(client: MlflowClient, run: Run, tags: Mapping[str, str]) -> None:
    """Name the data version in MLflow's own terms, once."""
    is_known = bool(run.inputs and run.inputs.dataset_inputs)
    if is_known or DATASET_TAG not in tags or DATA_DIGEST_TAG not in tags:
        return
    name = tags[DATASET_TAG]
    source = json.dumps({"dvc": Path("data", "processed", name).as_posix()})
    digest = tags[DATA_DIGEST_TAG][:MAX_DIGEST_LENGTH]
    dataset = Dataset(name=name, digest=digest, source_type="dvc", source=source)
    context = [InputTag("mlflow.data.context", "train")]
    client.log_inputs(run.info.run_id, [DatasetInput(dataset, context)])


def flattened(params: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted keys; lists as JSON.

    Example:
        >>> flattened({"train": {"lr": 0.004, "phases": [{"first_epoch": 0}]}})
        {'train.lr': '0.004', 'train.phases': '[{"first_epoch": 0}]'}
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{key}."))
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{key}"] = json.dumps(value)
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat

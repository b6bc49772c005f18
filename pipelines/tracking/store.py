"""Opening the MLflow store.

python -m pipelines.tracking.store      # what `services start` does before the MLflow server
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pipelines.paths import Paths, repository_paths
from pipelines.tracking.address import (
    StoreAddress,
    StoreUnavailableError,
    check_reachable,
    store_address,
)
from pipelines.tracking.reporter import MlflowReporter
from pipelines.tracking.runs import training_run
from pipelines.tracking.schema import bring_up_to_date

logger = logging.getLogger(__name__)
UPGRADED = "upgraded the MLflow store %s to the installed MLflow; as it was: %s"
EXPERIMENT = "rtmo"
"""MLflow experiment of the training runs."""

CLIENT_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow's defaults, 120 s and 7 retries, would hold up a training for many minutes.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""What MLflow's client reads from the environment; a value already set there stays."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """An open store."""

    client: MlflowClient
    address: StoreAddress
    experiment_id: str
    """Of the training runs and their models."""

    def training_run(
        self, stage_hash: str, params: Mapping[str, object], tags: Mapping[str, str]
    ) -> AbstractContextManager[MlflowReporter]:
        """The run of this training, new or continued; see `runs.training_run`."""
        return training_run(self.client, self.experiment_id, stage_hash, params, tags)


def open_tracking(paths: Paths) -> Tracking:
    """Open the store of `address.store_address`.

    A new SQLite file is made; one of an older MLflow is copied and upgraded.

    MLflow's process-wide settings (`mlflow.set_tracking_uri`, active runs) are left alone.

    Raises:
        StoreUnavailableError: within seconds, if the store cannot be used.
    """
    for name, value in CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    address = store_address(paths)
    check_reachable(address)
    try:
        with _one_at_a_time(paths), _quiet("mlflow.store.db.utils", "alembic"):
            copy = bring_up_to_date(address)
            client = MlflowClient(tracking_uri=address.uri, registry_uri=address.uri)
            experiment_id = find_or_create_experiment(client, EXPERIMENT, address)
    except MlflowException as error:
        raise StoreUnavailableError(
            f"MLflow cannot open its store {address.shown}: {error}"
        ) from error
    if copy is not None:
        logger.warning(UPGRADED, address.shown, copy)
    return Tracking(client, address, experiment_id)


def find_or_create_experiment(client: MlflowClient, name: str, address: StoreAddress) -> str:
    """Id of the experiment, made with our artifact folder if it is new."""
    found = client.get_experiment_by_name(name)
    if found is None:
        root = address.artifact_root
        try:
            return str(client.create_experiment(name, None if root is None else root.as_uri()))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)  # another process was quicker
    if found is None or found.lifecycle_stage != "active":
        raise StoreUnavailableError(
            f"the experiment {name!r} was deleted in {address.shown}; restore it with "
            f"`mlflow experiments restore` or remove it for good with `mlflow gc`"
        )
    return str(found.experiment_id)


@contextlib.contextmanager
def _one_at_a_time(paths: Paths) -> Iterator[None]:
    """Hold up other processes of this checkout: two that make the tables of a new file fail."""
    paths.runs.mkdir(parents=True, exist_ok=True)
    with (paths.runs / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep the named loggers below warnings silent: a new database announces each migration."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def main() -> None:
    """Bring the store that the services' MLflow server is told up to its version."""
    address = StoreAddress(os.environ["MLFLOW_BACKEND_STORE_URI"], None)
    try:
        check_reachable(address)
        with _one_at_a_time(repository_paths()), _quiet("alembic"):
            copy = bring_up_to_date(address)
    except StoreUnavailableError as error:
        sys.exit(str(error))
    if copy is not None:
        sys.stdout.write(f"{UPGRADED % (address.shown, copy)}\n")


if __name__ == "__main__":
    main()

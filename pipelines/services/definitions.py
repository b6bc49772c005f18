"""Which services there are, how each is started and how it says that it is well.

All listen on loopback. They are set by variables of their own and by none of ours:

- ports: PREFECT_SERVER_API_PORT, PREFECT_WORKER_WEBSERVER_PORT, MLFLOW_PORT;
- databases in place of SQLite: PREFECT_SERVER_DATABASE_CONNECTION_URL (`postgresql+asyncpg://...`)
  and MLFLOW_BACKEND_STORE_URI (`postgresql+psycopg://...`), one each;
- artifacts in place of a folder: MLFLOW_ARTIFACTS_DESTINATION (`s3://...`).

An address may hold a password, so it is handed over in the environment, where `ps` shows it not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.paths import Paths

HOST = "127.0.0.1"
WORK_POOL = "rtmo"
OWNER = "RTMO_SERVICES"
"""Variable that all processes of the services carry: the checkout they belong to."""
DEFAULTS = {
    "PREFECT_SERVER_API_PORT": "4200",
    "PREFECT_WORKER_WEBSERVER_PORT": "8080",
    "MLFLOW_PORT": "5000",
}


@dataclass(frozen=True, slots=True)
class Service:
    """One process that keeps running."""

    name: str
    command: tuple[str, ...]
    health: str
    """Address that answers 200 while it is well."""
    environment: Mapping[str, str]
    """Variables of all three; a password may be among them, so do not print it."""
    preparations: tuple[tuple[str, ...], ...] = ()
    """Commands to run first, while what it needs is up."""


def services_folder(paths: Paths) -> Path:
    """Where marks, logs and Prefect's own files are kept."""
    return paths.runs / "services"


def environment(paths: Paths) -> dict[str, str]:
    """Variables that the services run with, besides those of this process."""
    settings = {name: os.environ.get(name) or value for name, value in DEFAULTS.items()}
    prefect = f"http://{HOST}:{settings['PREFECT_SERVER_API_PORT']}/api"
    home = services_folder(paths) / "prefect"
    return {
        **settings,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))),
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(home),
        "PREFECT_API_URL": prefect,
        "PREFECT_SERVER_API_HOST": HOST,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": (
            os.environ.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS") or prefect.removesuffix("/api")
        ),
        # So that a restart does not forget who holds which device.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
            "prefect.server.concurrency.lease_storage.filesystem"
        ),
        "PREFECT_WORKER_WEBSERVER_HOST": HOST,
        "MLFLOW_BACKEND_STORE_URI": os.environ.get("MLFLOW_BACKEND_STORE_URI")
        or f"sqlite:///{paths.mlflow_database}",
        "MLFLOW_ARTIFACTS_DESTINATION": os.environ.get("MLFLOW_ARTIFACTS_DESTINATION")
        or str(paths.mlflow_database.with_name("mlartifacts")),
        "MLFLOW_TRACKING_URI": f"http://{HOST}:{settings['MLFLOW_PORT']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # seven more processes
        "RTMO_CHECKOUT": str(paths.root),
        OWNER: str(paths.root),
    }


def services(paths: Paths) -> tuple[Service, ...]:
    """All services in the order they are started in."""
    variables = environment(paths)
    prefect = (sys.executable, "-m", "prefect", "--no-prompt")
    worker_port = variables["PREFECT_WORKER_WEBSERVER_PORT"]
    hosts = f"{HOST}:*,localhost:*"
    return (
        Service(
            "prefect",
            (*prefect, "server", "start"),
            f"{variables['PREFECT_API_URL']}/health",
            variables,
        ),
        Service(
            "mlflow",
            (
                *(sys.executable, "-m", "mlflow", "server", "--host", HOST),
                *("--port", variables["MLFLOW_PORT"], "--workers", "1", "--allowed-hosts", hosts),
            ),
            f"{variables['MLFLOW_TRACKING_URI']}/health",
            variables,
            preparations=((sys.executable, "-m", "pipelines.tracking.store"),),
        ),
        Service(
            "worker",
            (*prefect, "worker", "start", "--pool", WORK_POOL, "--with-healthcheck"),
            f"http://{HOST}:{worker_port}/health",
            variables,
            preparations=(
                (sys.executable, "-m", "pipelines.flows.killed"),
                (*prefect, "work-pool", "create", "--overwrite", "--type", "process", WORK_POOL),
                (*prefect, "deploy", "--all"),
            ),
        ),
    )

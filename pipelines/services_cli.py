"""`rtmo-pipeline services`: what keeps running beside the pipeline."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from pipelines.params import load_params
from pipelines.paths import checkout

services = typer.Typer(
    name="services",
    help="Prefect server, worker and MLflow server, on loopback.",
    no_args_is_help=True,
)
Backup = Annotated[Path, typer.Argument(help="Folder of the backup.")]


@services.command("start")
def start_services() -> None:
    """Start what is not running, deploy the flows, and wait until all is well."""
    from pipelines.services.control import start

    start(checkout(), print)


@services.command("stop")
def stop_services() -> None:
    """Stop them with everything they started."""
    from pipelines.services.control import stop

    stop(checkout(), print)


@services.command("status")
def status_services(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Ask each how it is; exit status 1 unless all are well."""
    from pipelines.services.control import status as ask

    states = ask(checkout())
    if as_json:
        print(json.dumps([asdict(found) for found in states], indent=2))
    else:
        for found in states:
            print(f"{found.name}: {found.state} ({found.health})")
    if any(found.state != "well" for found in states):
        raise typer.Exit(1)


@services.command()
def announce() -> None:
    """Say that the dataset of params.yaml has a new version: the server starts `retrain`."""
    from pipelines.services.control import ServiceError, answers
    from pipelines.services.definitions import environment

    paths = checkout()
    dataset = load_params(paths.root).data.dataset
    api = os.environ.setdefault("PREFECT_API_URL", environment(paths)["PREFECT_API_URL"])
    if not answers(f"{api}/health"):  # Prefect itself logs that, and drops the event
        raise ServiceError(
            f"no Prefect server answers at {api}: `rtmo-pipeline services start` starts one, "
            "PREFECT_API_URL names another"
        )
    from pipelines.flows.events import announce_data

    announce_data(dataset)
    print(f"{dataset}: {api} knows that its data has changed")


@services.command("backup")
def backup_services(folder: Backup) -> None:
    """Save the databases and MLflow's artifacts; services may run."""
    from pipelines.services.stores import back_up

    print(f"saved {', '.join(back_up(checkout(), folder)) or 'nothing: there are no stores yet'}")


@services.command("restore")
def restore_services(folder: Backup) -> None:
    """Put a backup in place of the stores; stop the services first."""
    from pipelines.services.stores import restore

    print(f"restored {', '.join(restore(checkout(), folder))}")

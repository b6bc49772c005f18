"""Starting, watching and stopping the services; each is known by a mark under `runs/services`."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from pipelines.paths import Paths
from pipelines.services.definitions import (
    DEFAULTS,
    OWNER,
    Service,
    environment,
    services,
    services_folder,
)
from pipelines.services.prefect_database import CONNECTION_URL, provide_database
from rtmo._config import Config

START_PATIENCE_S = 240.0
"""A new database takes ten seconds on an idle machine."""
STOP_PATIENCE_S = 30.0
"""A worker ends its flows, they end DVC, and DVC's stage leaves its step."""
HEALTH_TIMEOUT_S = 5.0
POLL_S = 0.5


class ServiceError(RuntimeError):
    """A service does not start; the message holds its last words."""


class Mark(Config):
    """Which process is the service; ids are used again, so its start time is part of it."""

    pid: int
    started: float

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            found = psutil.Process(self.pid)
            is_same = abs(found.create_time() - self.started) < 1
            return found if is_same and found.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How one service is."""

    name: str
    state: Literal["well", "does not answer", "not running"]
    pid: int | None
    health: str
    """Where it was asked."""


def start(paths: Paths, log: Callable[[str], None]) -> None:
    """Start what is not running and wait until all are well.

    Raises:
        ServiceError: if one ends or does not become well; what runs by then stays. Also if both
            servers are given the same database.
    """
    services_folder(paths).mkdir(parents=True, exist_ok=True)
    _require_two_databases(environment(paths))
    provide_database({**os.environ, **environment(paths)})
    for service in services(paths):
        if _running(paths, service) is None:
            _require_free(service)
            for command in service.preparations:
                _prepare(paths, service, command)
            _launch(paths, service)
        _wait_until_well(paths, service)
        log(f"{service.name}: well")


def status(paths: Paths) -> tuple[ServiceState, ...]:
    """How each service is now."""
    found = []
    for service in services(paths):
        process = _running(paths, service)
        if process is None:
            found.append(ServiceState(service.name, "not running", None, service.health))
        else:
            state: Literal["well", "does not answer"] = (
                "well" if answers(service.health) else "does not answer"
            )
            found.append(ServiceState(service.name, state, process.pid, service.health))
    return tuple(found)


def running_prefect(paths: Paths) -> str | None:
    """Address of the Prefect server of `rtmo-pipeline services`, if it is well."""
    (server,) = (service for service in services(paths) if service.name == "prefect")
    is_well = _running(paths, server) is not None and answers(server.health)
    return server.environment["PREFECT_API_URL"] if is_well else None


def stop(paths: Paths, log: Callable[[str], None]) -> None:
    """Stop all, the last started first, with every process they started.

    A killed worker leaves its flows running, and a new one would leave them alone; they end here.
    """
    for service in reversed(services(paths)):
        process = _running(paths, service)
        if process is None:
            log(f"{service.name}: not running")
        else:
            _end([*process.children(recursive=True), process])
            log(f"{service.name}: stopped")
        _mark_file(paths, service).unlink(missing_ok=True)
    orphans = [one for one in psutil.process_iter() if _belongs_to(paths, one)]
    if orphans:
        _end(orphans)
        log(f"ended {len(orphans)} processes that a killed service had left")


def _running(paths: Paths, service: Service) -> psutil.Process | None:
    file = _mark_file(paths, service)
    if not file.exists():
        return None
    return Mark.model_validate_json(file.read_bytes()).process()


def _require_two_databases(variables: Mapping[str, str]) -> None:
    """Both keep the version of their tables under the same name."""
    prefect = os.environ.get(CONNECTION_URL, "").partition("://")[2]
    if prefect and prefect == variables["MLFLOW_BACKEND_STORE_URI"].partition("://")[2]:
        raise ServiceError(
            f"{CONNECTION_URL} and MLFLOW_BACKEND_STORE_URI name the same database; Prefect and "
            "MLflow need one each (`CREATE DATABASE prefect`)"
        )


def _require_free(service: Service) -> None:
    if answers(service.health):
        raise ServiceError(
            f"{service.health} is answered by a process that was not started here; stop it, or "
            f"choose other ports with {', '.join(DEFAULTS)}"
        )


def _prepare(paths: Paths, service: Service, command: tuple[str, ...]) -> None:
    with _log_file(paths, service).open("a") as output:
        done = subprocess.run(
            command,
            cwd=paths.root,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise ServiceError(_with_last_words(paths, service, f"`{' '.join(command[2:])}` failed"))


def _launch(paths: Paths, service: Service) -> None:
    """Start the service in a session of its own: it outlives this command."""
    with _log_file(paths, service).open("a") as output:
        child = subprocess.Popen(
            service.command,
            cwd=paths.root,
            env={**os.environ, **service.environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    mark = Mark(pid=child.pid, started=psutil.Process(child.pid).create_time())
    _mark_file(paths, service).write_text(mark.model_dump_json())


def _wait_until_well(paths: Paths, service: Service) -> None:
    deadline = time.monotonic() + START_PATIENCE_S
    while not answers(service.health):
        if _running(paths, service) is None:
            raise ServiceError(_with_last_words(paths, service, "ended"))
        if time.monotonic() > deadline:
            problem = f"does not answer at {service.health}"
            raise ServiceError(_with_last_words(paths, service, problem))
        time.sleep(POLL_S)


def answers(address: str) -> bool:
    """Whether a health address says 200."""
    try:
        with urllib.request.urlopen(address, timeout=HEALTH_TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _belongs_to(paths: Paths, process: psutil.Process) -> bool:
    try:
        return bool(process.environ().get(OWNER) == str(paths.root))
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def _end(family: list[psutil.Process]) -> None:
    """TERM to the oldest, which ends the rest in its own order; then to the rest; then KILL."""
    oldest = min(family, key=psutil.Process.create_time)
    _signal([oldest], psutil.Process.terminate)
    psutil.wait_procs([oldest], timeout=STOP_PATIENCE_S)
    for signal_one in (psutil.Process.terminate, psutil.Process.kill):
        alive = [one for one in family if one.is_running()]
        _signal(alive, signal_one)
        psutil.wait_procs(alive, timeout=STOP_PATIENCE_S)


def _signal(family: list[psutil.Process], signal_one: Callable[[psutil.Process], None]) -> None:
    for one in family:
        try:
            signal_one(one)
        except psutil.NoSuchProcess:
            continue


def last_words(name: str, problem: str, log: Path) -> str:
    """What is wrong with a service, with the end of its log."""
    last = log.read_text(errors="replace").splitlines()[-15:]
    return "\n".join((f"{name} {problem}; {log} ends with:", *last))


def _with_last_words(paths: Paths, service: Service, problem: str) -> str:
    return last_words(service.name, problem, _log_file(paths, service))


def _mark_file(paths: Paths, service: Service) -> Path:
    return services_folder(paths) / f"{service.name}.json"


def _log_file(paths: Paths, service: Service) -> Path:
    return services_folder(paths) / f"{service.name}.log"

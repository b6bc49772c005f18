"""A Prefect server that lives as long as one command.

Prefect starts one of its own where none is set, but late and dear: the command loads all of the
server's code to start it, waits for it idly, must linger at the end or lose its last records, and
leaves the server running if it is killed. This one starts while the command still imports, a new
one with a copy of a migrated database, and ends with it, however that ends.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines.paths import Paths
from pipelines.process import bound_to_this_process
from pipelines.services.control import START_PATIENCE_S, ServiceError, answers, last_words
from pipelines.services.definitions import HOST, services_folder
from pipelines.services.prefect_database import provide_database

TEMPORARY = "RTMO_TEMPORARY_SERVER"
"""Variable with the address of the temporary server while there is one."""
POLL_S = 0.05
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Deployments in the same database are the business of a server that lasts.
    **{
        f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false"
        for name in (
            "CANCELLATION_CLEANUP",
            "FOREMAN",
            "LATE_RUNS",
            "PAUSE_EXPIRATIONS",
            "SCHEDULER",
        )
    },
}


@dataclass(frozen=True, slots=True)
class TemporaryServer:
    """A server that was started and may not answer yet."""

    address: str
    """As PREFECT_API_URL takes it."""
    process: subprocess.Popen[bytes]
    log: Path

    def wait_until_well(self) -> None:
        """Return when it answers.

        Raises:
            ServiceError: if it ends or does not become well; with its last words.
        """
        deadline = time.monotonic() + START_PATIENCE_S
        while not answers(f"{self.address}/health"):
            if self.process.poll() is not None:
                raise ServiceError(last_words("the temporary Prefect server", "ended", self.log))
            if time.monotonic() > deadline:
                problem = f"does not answer at {self.address}"
                raise ServiceError(last_words("the temporary Prefect server", problem, self.log))
            time.sleep(POLL_S)


@contextmanager
def temporary_server(paths: Paths) -> Iterator[TemporaryServer]:
    """Start a server on a free port of loopback, with the database in PREFECT_HOME.

    It ends with the block, and with this process should that be killed.
    """
    with socket.create_server((HOST, 0)) as bound:
        port = bound.getsockname()[1]
    address = f"http://{HOST}:{port}/api"
    command = (
        *(sys.executable, "-m", "prefect", "--no-prompt", "server", "start", "--ui"),
        *("--host", HOST, "--port", str(port)),
    )
    log = services_folder(paths) / "temporary.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    provide_database(os.environ)
    with (
        log.open("w") as output,
        subprocess.Popen(
            bound_to_this_process(command),
            env={
                **os.environ,
                **SETTINGS,
                "PREFECT_API_URL": address,
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address.removesuffix("/api"),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C ends us first, and the end of the run is still noted
        ) as process,
    ):
        os.environ[TEMPORARY] = address
        try:
            yield TemporaryServer(address, process, log)
        finally:
            os.environ.pop(TEMPORARY, None)
            process.terminate()

"""A real PostgreSQL server in a folder of its own, on loopback and with a password."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

USER = "services"
PASSWORD = "s3cret"


@dataclass(frozen=True)
class Postgresql:
    """One that runs."""

    port: int

    def address(self, database: str, driver: str) -> str:
        """Of a database, as SQLAlchemy takes it; made if it is new."""
        place = f"{USER}:{PASSWORD}@127.0.0.1:{self.port}"
        with psycopg.connect(f"postgresql://{place}/postgres", autocommit=True) as connection:
            known = connection.execute("SELECT datname FROM pg_database").fetchall()
            if (database,) not in known:
                connection.execute(f"CREATE DATABASE {database}".encode())
        return f"postgresql+{driver}://{place}/{database}"


@contextmanager
def running_postgresql() -> Iterator[Postgresql]:
    """An empty server, until the block ends; skips where PostgreSQL is not installed."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs PostgreSQL (Debian package postgresql) under /usr/lib/postgresql")
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    try:
        if user:
            shutil.chown(folder, **user)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        data = folder / "data"
        access = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(folder / "password")]
        subprocess.run(
            [programs[-1] / "initdb", "-N", "-D", data, *access],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            **user,
        )
        place = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-k", str(folder)]
        command = [programs[-1] / "postgres", "-D", data, *place]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, **user) as server:
            try:
                wait_until_open(port, server)
                yield Postgresql(port)
            finally:
                server.send_signal(signal.SIGINT)  # TERM would wait for clients to leave
    finally:
        shutil.rmtree(folder)


def wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.poll() is None
        assert time.monotonic() < deadline
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)

"""The registry on a real PostgreSQL server, in a folder of its own."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.registry.deferred import carry_out
from pipelines.registry.release import register
from pipelines.tracking.moves import Aliases, read_aliases
from pipelines.tracking.store import open_tracking

pytestmark = pytest.mark.slow
PASSWORD = "s3cret"


@pytest.fixture
def postgresql() -> Iterator[str]:
    """Address of an empty database on a new server."""
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
        access = ["-U", "mlflow", "-A", "scram-sha-256", "--pwfile", str(folder / "password")]
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
                yield f"postgresql+psycopg://mlflow:{PASSWORD}@127.0.0.1:{port}/postgres"
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


def test_a_model_is_registered_and_promoted_there(
    postgresql: str, paths, make_workspace, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgresql)
    tracking = open_tracking(paths)
    receipt = register(tracking, make_workspace(paths, (0.0, 0.0), experiment="retrain/1"))
    carry_out(paths, receipt, {"release.branch": "retrain/1"})
    again = register(open_tracking(paths), make_workspace(paths, (0.0, 0.0)))
    assert (receipt.verdict, again.verdict) == ("first", "same")
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)
    assert PASSWORD not in caplog.text + receipt.model_dump_json()

"""The same against a real MLflow server."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from pipelines.paths import Paths
from pipelines.registry.release import register
from pipelines.tracking.address import StoreUnavailableError, store_address
from pipelines.tracking.glance import Wanted, missing_from_store
from pipelines.tracking.moves import Aliases, read_aliases
from pipelines.tracking.store import open_tracking

GOOD, OFF_LEFT = (0.0, 0.0), (12.0, 0.0)


@pytest.fixture
def server(paths: Paths, monkeypatch: pytest.MonkeyPatch):
    """A server on loopback with its own database, and the variable that names it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = paths.root / "server"
    folder.mkdir()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        cwd=folder,
        env=os.environ
        | {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(360):
            try:
                urllib.request.urlopen(f"{uri}/health", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "the server ended"
                time.sleep(0.5)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_gets_runs_versions_and_aliases_and_tells_what_it_lacks(
    server, paths, make_workspace
):
    address = store_address(paths)
    wanted = Wanted("rtmo", "0" * 64, "0" * 64, "champion")
    assert missing_from_store(address, wanted) == ("run", "version", "alias champion")
    tracking = open_tracking(paths)
    first = register(tracking, make_workspace(paths, OFF_LEFT))
    second = register(tracking, make_workspace(paths, GOOD))
    assert second.verdict == "better", second.words
    assert read_aliases(tracking, "rtmo") == Aliases(champion=2, previous=1)
    for receipt in (first, second):
        wanted = Wanted("rtmo", receipt.stage_hash, receipt.content_hash, "champion")
        assert missing_from_store(address, wanted) == ()
    wanted = Wanted("rtmo", "0" * 64, "0" * 64, "challenger")
    assert missing_from_store(address, wanted) == ("version", "alias challenger")


@pytest.mark.slow
def test_something_else_than_mlflow_at_the_address_is_named(server, paths, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/nothing-here")
    with pytest.raises(StoreUnavailableError, match="answers 404 to /health"):
        open_tracking(paths)

"""`rtmo-pipeline run` with a Prefect server of its own, in real processes."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import psutil
import pytest

from pipelines.paths import Paths
from pipelines.services.control import ServiceError
from pipelines.services.temporary import temporary_server

HOLDER = """
import sys, time
from pathlib import Path
from pipelines.paths import Paths
from pipelines.services.temporary import temporary_server
root = Path(sys.argv[1])
with temporary_server(Paths(root, root)) as server:
    print(server.process.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PREFECT_HOME without a database, and no server that is set."""
    folder = tmp_path / "prefect"
    monkeypatch.setenv("PREFECT_HOME", str(folder))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return folder


def run_command(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipelines.cli", "run", "sum"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def task_runs(home: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return database.execute("SELECT name, state_name FROM task_run ORDER BY created").fetchall()


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_with_a_server_of_its_own_is_recorded_whole(
    tiny_repository: Path, home: Path
) -> None:
    done = run_command(tiny_repository)
    assert "ran: draw, sum" in done.stdout, done.stderr
    assert "Error flushing" not in done.stderr
    assert task_runs(home) == [("draw", "Completed"), ("sum", "Completed")]
    (tiny_repository / "sum.py").write_text("raise SystemExit('no ink')")
    failed = run_command(tiny_repository)
    assert failed.returncode == 1
    assert "no ink" in failed.stderr
    assert sorted(task_runs(home)[2:]) == [("draw", "Completed"), ("sum", "Failed")]


@pytest.mark.slow
def test_a_web_page_of_another_origin_is_not_answered(tmp_path: Path, home: Path) -> None:
    with temporary_server(Paths(tmp_path, tmp_path)) as server:
        server.wait_until_well()
        ask = {"Access-Control-Request-Method": "POST"}
        evil = httpx.options(f"{server.address}/flows/", headers={"Origin": "http://evil", **ask})
        own_page = {"Origin": server.address.removesuffix("/api"), **ask}
        own = httpx.options(f"{server.address}/flows/", headers=own_page)
    assert (evil.status_code, own.status_code) == (400, 200)


def test_the_server_ends_with_a_killed_command(tmp_path: Path, home: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        supervisor = psutil.Process(int(holder.stdout.readline()))
        wait_until(lambda: len(supervisor.children()) == 1, 20)
        family = [supervisor, *supervisor.children()]
        os.kill(holder.pid, signal.SIGKILL)
    gone, alive = psutil.wait_procs(family, timeout=30)
    assert (len(gone), alive) == (2, [])


def test_a_server_that_does_not_start_says_why(tmp_path: Path, home: Path) -> None:
    home.write_text("no folder")
    with (
        temporary_server(Paths(tmp_path, tmp_path)) as server,
        pytest.raises(
            ServiceError, match=r"(?s)temporary.log ends with:.*unable to open database file"
        ),
    ):
        server.wait_until_well()

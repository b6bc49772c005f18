"""Backup and restore on real databases, and the services as a person starts and kills them."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from pipelines.paths import Paths
from pipelines.services import control
from pipelines.services.control import ServiceError
from pipelines.services.definitions import DEFAULTS, environment, services, services_folder
from pipelines.services.stores import StoreBackupError, back_up, restore
from tests.pipelines.postgresql_server import PASSWORD, Postgresql


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A checkout whose services would listen on free ports."""
    for name in ("PREFECT_HOME", "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in DEFAULTS]
    for name, bound in zip(DEFAULTS, sockets, strict=True):
        monkeypatch.setenv(name, str(bound.getsockname()[1]))
        bound.close()
    root = tmp_path / "checkout"
    root.mkdir()
    return Paths(root, root)


def write(database: Path, value: str) -> None:
    database.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE IF NOT EXISTS facts (value TEXT)")
        connection.execute("DELETE FROM facts")
        connection.execute("INSERT INTO facts VALUES (?)", (value,))


def read(database: Path) -> str:
    with closing(sqlite3.connect(database)) as connection:
        (value,) = connection.execute("SELECT value FROM facts").fetchone()
    return str(value)


@pytest.fixture
def stores(paths: Paths) -> tuple[Path, Path, Path]:
    """Both databases and one artifact, as of some moment."""
    prefect = services_folder(paths) / "prefect" / "prefect.db"
    artifact = paths.root / "mlartifacts" / "1" / "model.onnx"
    for database in (paths.mlflow_database, prefect):
        write(database, "then")
    artifact.parent.mkdir(parents=True)
    artifact.write_text("then")
    return paths.mlflow_database, prefect, artifact


def test_a_backup_brings_all_stores_back(paths, stores, tmp_path: Path) -> None:
    mlflow, prefect, artifact = stores
    saved = ("mlflow.db", "prefect.db", "mlartifacts")
    assert back_up(paths, tmp_path / "backup") == saved
    write(mlflow, "now")
    prefect.unlink()
    artifact.write_text("now")
    assert restore(paths, tmp_path / "backup") == saved
    assert (read(mlflow), read(prefect), artifact.read_text()) == ("then",) * 3
    assert read(mlflow.with_name("mlflow.db.before-restore")) == "now"


def test_a_backup_is_of_one_moment_while_somebody_writes(paths, stores, tmp_path: Path) -> None:
    with closing(sqlite3.connect(stores[0])) as writer:
        writer.execute("UPDATE facts SET value = 'not committed'")
        back_up(paths, tmp_path / "backup")
    assert read(tmp_path / "backup" / "mlflow.db") == "then"


def test_a_damaged_backup_changes_nothing(paths, stores, tmp_path: Path) -> None:
    back_up(paths, tmp_path / "backup")
    (tmp_path / "backup" / "prefect.db").write_bytes(b"SQLite format 3\x00" + bytes(500))
    write(stores[0], "now")
    with pytest.raises(StoreBackupError, match=r"prefect.db is damaged"):
        restore(paths, tmp_path / "backup")
    assert read(stores[0]) == "now"


def test_a_backup_is_never_mixed_with_another(paths, stores, tmp_path: Path) -> None:
    back_up(paths, tmp_path / "backup")
    with pytest.raises(StoreBackupError, match="is not empty"):
        back_up(paths, tmp_path / "backup")
    with pytest.raises(StoreBackupError, match="holds no backup"):
        restore(paths, tmp_path)


def test_a_database_server_has_tools_of_its_own(paths, tmp_path: Path, monkeypatch) -> None:
    uri = "postgresql+psycopg://me:s3cret@db/mlflow"
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", uri)
    with pytest.raises(StoreBackupError, match="pg_dump") as caught:
        back_up(paths, tmp_path / "backup")
    assert "s3cret" not in str(caught.value)
    commands = json.dumps(
        [[*service.command, *service.preparations] for service in services(paths)]
    )
    assert "s3cret" not in commands  # which `ps` shows to everybody
    assert environment(paths)["MLFLOW_BACKEND_STORE_URI"] == uri


def test_prefect_and_mlflow_may_not_share_a_database(paths, monkeypatch) -> None:
    place = "://me:s3cret@db/one"
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"postgresql+psycopg{place}")
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_CONNECTION_URL", f"postgresql+asyncpg{place}")
    with pytest.raises(ServiceError, match="need one each") as caught:
        control.start(paths, print)
    assert "s3cret" not in str(caught.value)


def test_all_listen_on_loopback(paths) -> None:
    assert all(service.health.startswith("http://127.0.0.1:") for service in services(paths))
    assert environment(paths)["PREFECT_SERVER_API_HOST"] == "127.0.0.1"


def test_no_page_of_another_origin_may_ask_the_prefect_server(paths) -> None:
    port = os.environ["PREFECT_SERVER_API_PORT"]
    allowed = environment(paths)["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert allowed == f"http://127.0.0.1:{port}"


def test_a_port_that_somebody_else_answers_on_is_told(paths, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "health").write_text("true")
    port = os.environ["PREFECT_SERVER_API_PORT"]
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", port]
    with subprocess.Popen(server, cwd=tmp_path, stderr=subprocess.DEVNULL) as other:
        try:
            wait_until(lambda: is_open(int(port)), 20)
            with pytest.raises(
                ServiceError, match=r"was not started here.*PREFECT_SERVER_API_PORT"
            ):
                control.start(paths, print)
        finally:
            other.kill()


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


LONG = """
import os, pathlib, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(900)"])
checkout = pathlib.Path(os.environ["DVC_ROOT"])
(checkout / "pids.unfinished").write_text(f"{os.getpid()} {helper.pid}")
(checkout / "pids.unfinished").rename(checkout / "pids")
time.sleep(900)
"""


@pytest.fixture
def checkout(
    tiny_repository: Path, remote: Path, repository: Path, paths: Paths
) -> Iterator[Paths]:
    """The tiny repository with our flows, whose first stage runs until it is killed."""
    (tiny_repository / "pipelines").symlink_to(repository / "pipelines")
    shutil.copy(repository / "prefect.yaml", tiny_repository)
    (tiny_repository / "draw.py").write_text(LONG)
    text = (tiny_repository / "dvc.yaml").read_text()
    supervised = "exec python -m pipelines.process python draw.py"
    (tiny_repository / "dvc.yaml").write_text(text.replace("exec python draw.py", supervised))
    for command in (["commit", "-qam", "Long"], ["push", "-q", "origin", "main"]):
        subprocess.run(["git", *command], cwd=tiny_repository, check=True)
    found = Paths(tiny_repository, tiny_repository)
    yield found
    control.stop(found, print)


def prefect(paths: Paths, *arguments: str) -> str:
    command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
    variables = os.environ | environment(paths)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return done.stdout


def states(paths: Paths) -> set[str]:
    """Of all runs; the table for people is cut to the width of a terminal."""
    return {
        run["state"]["name"] for run in json.loads(prefect(paths, "flow-run", "ls", "-o", "json"))
    }


def pids_of_stage(paths: Paths) -> list[int]:
    file = paths.root / "pids"
    wait_until(file.exists, 240)
    pids = [int(pid) for pid in file.read_text().split()]
    file.unlink()
    return pids


def are_gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) for pid in pids)


def kill(paths: Paths, name: str) -> None:
    mark = json.loads((services_folder(paths) / f"{name}.json").read_text())
    os.kill(mark["pid"], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_services_survive_kills_and_stop_without_leaving_anything(checkout: Paths) -> None:
    assert control.running_prefect(checkout) is None
    control.start(checkout, print)
    address = f"http://127.0.0.1:{os.environ['PREFECT_SERVER_API_PORT']}/api"
    assert control.running_prefect(checkout) == address
    retrain = ("deployment", "run", "retrain/retrain", "--param", "target=draw")
    prefect(checkout, *retrain)
    first = pids_of_stage(checkout)
    # Overlapping runs do not pile up.
    prefect(checkout, *retrain)
    wait_until(lambda: "Cancelled" in states(checkout), 120)
    # A killed server comes back and knows what it knew.
    kill(checkout, "prefect")
    wait_until(lambda: control.status(checkout)[0].state == "not running", 30)
    control.start(checkout, print)
    assert "Cancelled" in states(checkout)
    # A killed worker leaves its run, which ends with the services.
    kill(checkout, "worker")
    control.stop(checkout, print)
    assert are_gone(first)
    assert {service.state for service in control.status(checkout)} == {"not running"}
    ours = [one.pid for one in psutil.process_iter() if control._belongs_to(checkout, one)]
    assert ours == []
    # The next start says what became of the run.
    control.start(checkout, print)
    assert states(checkout) - {"Scheduled"} == {"Cancelled", "Crashed"}


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_prefect_and_mlflow_on_postgresql(
    checkout: Paths, postgresql: Postgresql, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = {
        "MLFLOW_BACKEND_STORE_URI": postgresql.address("mlflow", "psycopg"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql.address("prefect", "asyncpg"),
    }
    for name, address in stores.items():
        monkeypatch.setenv(name, address)
    control.start(checkout, print)
    prefect(checkout, "deployment", "run", "pipeline/pipeline", "--param", "target=other")
    wait_until(lambda: "Completed" in states(checkout), 240)
    control.stop(checkout, print)
    # What they know is there, and nowhere else.
    control.start(checkout, print)
    assert "Completed" in states(checkout)
    assert not checkout.mlflow_database.exists()
    assert list(services_folder(checkout).rglob("*.db")) == []
    for log in services_folder(checkout).glob("*.log"):
        assert PASSWORD not in log.read_text()

"""Stores whose tables are of another MLflow than the installed one."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.paths import Paths
from pipelines.registry.lookup import find_models
from pipelines.tracking.address import StoreUnavailableError, store_address
from pipelines.tracking.glance import Wanted, missing_from_store
from pipelines.tracking.store import open_tracking

OLDER = Path(__file__).with_name("older_store") / "mlflow-3.0.1.sql"
OLD_REVISION = "bda7b8c39065"


@pytest.fixture
def older(paths: Paths, repository: Path) -> Paths:
    """A checkout whose store MLflow 3.0.1 left."""
    paths.mlflow_database.unlink()
    with closing(sqlite3.connect(paths.mlflow_database)) as database:
        database.executescript(OLDER.read_text())
    shutil.copy(repository / "params.yaml", paths.params)
    return paths


def revision(file: Path) -> str:
    with closing(sqlite3.connect(file)) as database:
        return str(database.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def set_revision(file: Path, value: str) -> None:
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (value,))


def start_of_the_server(paths: Paths, monkeypatch) -> subprocess.CompletedProcess[str]:
    """What `services start` runs before MLflow's server."""
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{paths.mlflow_database}")
    command = [sys.executable, "-m", "pipelines.tracking.store"]
    return subprocess.run(command, cwd=paths.root, capture_output=True, text=True, check=False)


def test_an_older_store_is_copied_and_upgraded_and_answers(older: Paths, caplog) -> None:
    wanted = Wanted("rtmo", "5" * 64, "c" * 64, "champion")
    old = missing_from_store(store_address(older), wanted)
    (found,) = find_models(older, alias="champion")
    assert (found.version, found.commit, found.latest) == (1, "c0ffee", {"gate.AP": 0.25})
    assert find_models(older, "best AP") == (found,)
    assert missing_from_store(store_address(older), wanted) == old == ("files of the version",)
    before = older.mlflow_database.with_name(f"mlflow.db.before-upgrade-{OLD_REVISION}")
    assert revision(before) == OLD_REVISION != revision(older.mlflow_database)
    assert str(before) in caplog.text
    assert sorted(file.name for file in older.root.glob("mlflow.db*")) == [
        "mlflow.db",
        before.name,
    ]


def test_a_store_of_a_newer_mlflow_is_refused_and_left(paths: Paths) -> None:
    set_revision(paths.mlflow_database, "0123456789ab")
    content = paths.mlflow_database.read_bytes()
    with pytest.raises(StoreUnavailableError, match=r"of a newer MLflow than .*0123456789ab"):
        open_tracking(paths)
    assert paths.mlflow_database.read_bytes() == content


@pytest.mark.slow
def test_an_upgrade_that_fails_leaves_the_store_as_it_was(older: Paths) -> None:
    with closing(sqlite3.connect(older.mlflow_database)) as database, database:
        database.execute("CREATE TABLE evaluation_datasets (of_somebody_else)")
    content = older.mlflow_database.read_bytes()
    with pytest.raises(StoreUnavailableError, match=r"(?s)is as it was.*evaluation_datasets"):
        open_tracking(older)
    assert not older.mlflow_database.with_name("mlflow.db.unfinished").exists()
    assert older.mlflow_database.read_bytes() == content


@pytest.mark.slow
def test_the_server_of_the_services_gets_an_upgraded_store(older: Paths, monkeypatch) -> None:
    started = start_of_the_server(older, monkeypatch)
    assert f"as it was: {older.mlflow_database}.before-upgrade-{OLD_REVISION}" in started.stdout
    again = start_of_the_server(older, monkeypatch)
    assert (again.returncode, again.stdout) == (0, "")
    set_revision(older.mlflow_database, "0123456789ab")
    refused = start_of_the_server(older, monkeypatch)
    assert refused.returncode == 1
    assert "is of a newer MLflow than the installed" in refused.stderr

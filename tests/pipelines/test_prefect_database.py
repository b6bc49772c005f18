"""A new PREFECT_HOME starts from a copy of a migrated database, if there is one to copy."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pipelines.paths import Paths
from pipelines.services.prefect_database import (
    CONNECTION_URL,
    OLDER_CONNECTION_URL,
    make_template,
    prefect_home,
    provide_database,
)
from pipelines.services.temporary import temporary_server


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A small database in place of Prefect's: what is copied here is a file."""
    file = tmp_path / "template.db"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE facts AS SELECT 'migrated' AS value")
    return file


def content(home: Path) -> object:
    with closing(sqlite3.connect(home / "prefect.db")) as database:
        return database.execute("SELECT value FROM facts").fetchone()[0]


def test_a_new_home_gets_a_copy_of_its_own(tmp_path: Path, made: Path) -> None:
    variables = {"PREFECT_HOME": str(tmp_path / "home")}
    assert provide_database(variables, made)
    assert content(tmp_path / "home") == "migrated"
    with closing(sqlite3.connect(tmp_path / "home" / "prefect.db")) as database, database:
        database.execute("UPDATE facts SET value = 'used'")
    assert not provide_database(variables, made)
    assert content(tmp_path / "home") == "used"
    assert [file.name for file in (tmp_path / "home").iterdir()] == ["prefect.db"]
    assert provide_database({"PREFECT_HOME": str(tmp_path / "other")}, made)
    assert content(tmp_path / "other") == "migrated"


def test_of_many_at_once_one_makes_it(tmp_path: Path, made: Path) -> None:
    variables = {"PREFECT_HOME": str(tmp_path / "home")}
    with ThreadPoolExecutor(16) as threads:
        provided = list(threads.map(lambda _: provide_database(variables, made), range(64)))
    assert sum(provided) == 1
    assert content(tmp_path / "home") == "migrated"


@pytest.mark.parametrize("name", [CONNECTION_URL, OLDER_CONNECTION_URL])
def test_a_database_elsewhere_is_left_to_prefect(name: str, tmp_path: Path, made: Path) -> None:
    home = tmp_path / "home"
    assert not provide_database({"PREFECT_HOME": str(home), name: "postgresql://db/p"}, made)
    assert not home.exists()


def test_a_log_that_a_removed_database_left_is_not_replayed(tmp_path: Path, made: Path) -> None:
    (tmp_path / "prefect.db-wal").write_bytes(b"of another")
    assert not provide_database({"PREFECT_HOME": str(tmp_path)}, made)


def test_without_a_template_or_a_folder_prefect_does_as_ever(tmp_path: Path, made: Path) -> None:
    assert not provide_database({"PREFECT_HOME": str(tmp_path / "home")}, tmp_path / "none.db")
    assert not provide_database({"PREFECT_HOME": str(made)}, made)
    assert prefect_home({}) == Path("~/.prefect").expanduser()


@pytest.mark.slow
def test_prefects_own_server_takes_the_copy(tmp_path: Path, monkeypatch) -> None:
    made = tmp_path / "share" / "prefect.db"
    make_template(made)
    assert list(made.parent.iterdir()) == [made]
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    copied = tmp_path / "home" / "prefect.db"
    copied.write_bytes(made.read_bytes())
    number = copied.stat().st_ino
    with temporary_server(Paths(tmp_path, tmp_path)) as server:
        server.wait_until_well()
    assert copied.stat().st_ino == number
    assert schema(copied) == schema(made)
    with closing(sqlite3.connect(copied)) as database:
        assert database.execute("SELECT count(*) FROM block_type").fetchone()[0] > 0


def schema(file: Path) -> list[tuple[object, ...]]:
    """Tables, indexes and the migration they are of."""
    with closing(sqlite3.connect(file)) as database:
        named = "FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        objects = database.execute(f"SELECT name, sql {named}").fetchall()
        return [*objects, *database.execute("SELECT version_num FROM alembic_version")]

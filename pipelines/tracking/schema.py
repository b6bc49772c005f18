"""The tables of a store and the installed MLflow: an older SQLite store is copied and upgraded.

MLflow either refuses an older store or upgrades it without a copy, depending on which tables it
lacks; of a newer one it says that it is out of date. A database server is upgraded by whoever
keeps it: only they can save it first.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import mlflow
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import create_sqlalchemy_engine
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from pipelines.tracking.address import SERVER_SCHEMES, StoreAddress, StoreUnavailableError


def bring_up_to_date(address: StoreAddress) -> Path | None:
    """Upgrade an SQLite store of an older MLflow, after a copy of it was put beside it.

    A new store is left to MLflow, and a server (http) has its own.

    Returns:
        The copy; None if there was nothing to do.

    Raises:
        StoreUnavailableError: if the store is of a newer MLflow, is an older one on a database
            server, or cannot be upgraded; it is then as it was.
    """
    file = address.sqlite_file
    if address.scheme in SERVER_SCHEMES or (file is not None and not file.exists()):
        return None
    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    current = _revision(address)
    if current is None or current in scripts.get_heads():
        return None
    installed = f"the installed MLflow {version('mlflow')}"
    if current not in {script.revision for script in scripts.walk_revisions()}:
        raise StoreUnavailableError(
            f"the MLflow store {address.shown} is of a newer MLflow than {installed} (its tables "
            f"are of revision {current}). Install the MLflow that wrote it, or bring back "
            "what was saved before (`rtmo-pipeline services restore`)"
        )
    if file is None:
        raise StoreUnavailableError(
            f"the MLflow store {address.shown} is of an older MLflow than {installed}. Save it "
            "with the tools of its server (`pg_dump`), then run `mlflow db upgrade ADDRESS`"
        )
    return _upgrade(file, current)


def _revision(address: StoreAddress) -> str | None:
    """Of the tables that are there; None in an empty database."""
    engine: Engine = create_sqlalchemy_engine(address.uri)  # type: ignore[no-untyped-call]
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except SQLAlchemyError as error:
        problem = f"the MLflow store {address.shown} cannot be asked: {error}"
        raise StoreUnavailableError(problem) from None
    finally:
        engine.dispose()


def _upgrade(file: Path, current: str) -> Path:
    """A copy is upgraded and takes the place of the file, so there is no half of an upgrade."""
    before = file.with_name(f"{file.name}.before-upgrade-{current}")
    unfinished = file.with_name(f"{file.name}.unfinished")
    for copy in (before, unfinished):
        copy.unlink(missing_ok=True)  # of an attempt that failed
        with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    command = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{unfinished}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        unfinished.unlink()
        last = "\n".join(done.stderr.splitlines()[-5:])
        raise StoreUnavailableError(f"`mlflow db upgrade` failed; {file} is as it was:\n{last}")
    unfinished.replace(file)
    return before

"""Backup and restore of the stores: what the services know and DVC does not."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from pipelines.paths import Paths
from pipelines.services.control import status
from pipelines.services.definitions import environment
from pipelines.services.prefect_database import CONNECTION_URL

ARTIFACTS = "mlartifacts"


class StoreBackupError(RuntimeError):
    """A store cannot be saved or brought back; the message says what to do."""


def back_up(paths: Paths, folder: Path) -> tuple[str, ...]:
    """Save both databases, each as of one moment, and then MLflow's artifacts; services may run.

    Artifacts are never changed once written, so those saved after the database are all it names.

    Returns:
        What was saved.

    Raises:
        StoreBackupError: if the folder is not empty, or a store is none that we can copy.
    """
    if folder.exists() and any(folder.iterdir()):
        raise StoreBackupError(f"{folder} is not empty; name a new folder for each backup")
    databases = {name: file for name, file in _databases(paths).items() if file.exists()}
    artifacts = _artifacts(paths)
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in databases.items():
        with (
            closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(folder / name)) as copy,
        ):
            source.backup(copy)
    if not artifacts.is_dir():
        return tuple(databases)
    shutil.copytree(artifacts, folder / ARTIFACTS)
    return (*databases, ARTIFACTS)


def restore(paths: Paths, folder: Path) -> tuple[str, ...]:
    """Put a backup in place of the stores; what was there is kept beside it as `*.before-restore`.

    Returns:
        What was restored.

    Raises:
        StoreBackupError: if services run, or the backup is not whole.
    """
    running = [service.name for service in status(paths) if service.state != "not running"]
    if running:
        raise StoreBackupError(f"{', '.join(running)} runs; `rtmo-pipeline services stop` first")
    targets = {name: file for name, file in _databases(paths).items() if (folder / name).exists()}
    if not targets:
        raise StoreBackupError(f"{folder} holds no backup (none of {', '.join(_databases(paths))})")
    for name in targets:
        _require_whole(folder / name)
    for name, file in targets.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        _put_in_place(folder / name, file)
    if not (folder / ARTIFACTS).is_dir():
        return tuple(targets)
    _put_in_place(folder / ARTIFACTS, _artifacts(paths))
    return (*targets, ARTIFACTS)


def _databases(paths: Paths) -> Mapping[str, Path]:
    """Name in a backup -> SQLite file."""
    variables = environment(paths)
    default = f"sqlite:///{variables['PREFECT_HOME']}/prefect.db"
    return {
        "mlflow.db": _sqlite_file("MLflow", variables["MLFLOW_BACKEND_STORE_URI"]),
        "prefect.db": _sqlite_file("Prefect", os.environ.get(CONNECTION_URL) or default),
    }


def _sqlite_file(owner: str, uri: str) -> Path:
    scheme, _, file = uri.partition(":///")
    if scheme.partition("+")[0] != "sqlite":
        raise StoreBackupError(
            f"the {owner} store is {scheme.partition(':')[0]}, not SQLite: save it with the tools "
            "of its server (`pg_dump`, `pg_restore`)"
        )
    return Path(file)


def _artifacts(paths: Paths) -> Path:
    destination = environment(paths)["MLFLOW_ARTIFACTS_DESTINATION"]
    if "://" in destination:
        raise StoreBackupError(
            "MLflow's artifacts are in an object store; use its own versioning or replication"
        )
    return Path(destination)


def _require_whole(database: Path) -> None:
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        raise StoreBackupError(f"{database} is damaged ({said}); nothing was restored")


def _put_in_place(saved: Path, target: Path) -> None:
    """Copy beside the target, then rename twice, so there is no half of anything."""
    unfinished = target.with_name(f"{target.name}.unfinished")
    before = target.with_name(f"{target.name}.before-restore")
    for leftover in (unfinished, before):
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink(missing_ok=True)
    if saved.is_dir():
        shutil.copytree(saved, unfinished)
    else:
        shutil.copy(saved, unfinished)
    if target.exists():
        target.rename(before)
    for log in ("-wal", "-shm"):  # of the database that was there
        target.with_name(target.name + log).unlink(missing_ok=True)
    unfinished.rename(target)

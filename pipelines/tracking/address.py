"""Where the MLflow store is, and whether it answers. Imports no mlflow."""

from __future__ import annotations

import os
import socket
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from pipelines.paths import Paths
from pipelines.tracking import server

SQLITE_PREFIX = "sqlite:///"
SERVER_SCHEMES = ("http", "https")
DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class StoreUnavailableError(RuntimeError):
    """The MLflow store cannot be used; the message says which one, why and what to do."""


class StoreUnreachableError(StoreUnavailableError, ConnectionError):
    """No answer; a later try may help, so flows may try again."""


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store and where new experiments of ours put their artifacts."""

    uri: str
    """As MLflow takes it; may hold credentials, so print `shown` instead."""
    artifact_root: Path | None
    """Folder for artifacts; None where the server decides."""

    @property
    def shown(self) -> str:
        """The address without user name and password."""
        return without_credentials(self.uri)

    @property
    def scheme(self) -> str:
        """`sqlite`, `http`, `postgresql` …, without a driver such as `+psycopg`."""
        return urlsplit(self.uri).scheme.partition("+")[0]

    @property
    def sqlite_file(self) -> Path | None:
        """The database file of an SQLite store, else None."""
        if not self.uri.startswith(SQLITE_PREFIX):
            return None
        return Path(self.uri.removeprefix(SQLITE_PREFIX).partition("?")[0])


def store_address(paths: Paths) -> StoreAddress:
    """MLFLOW_TRACKING_URI if set, else `mlflow.db` at the root of the person's checkout.

    A store without a server keeps artifacts in `mlartifacts` beside the database (beside our own
    one for a database elsewhere); MLflow itself would put them under the working directory.
    """
    default_root = paths.mlflow_database.with_name("mlartifacts")
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        return StoreAddress(f"{SQLITE_PREFIX}{paths.mlflow_database}", default_root)
    address = StoreAddress(uri, default_root)
    if address.sqlite_file is not None:
        return StoreAddress(uri, address.sqlite_file.resolve().with_name("mlartifacts"))
    return StoreAddress(uri, None if address.scheme in SERVER_SCHEMES else default_root)


def without_credentials(uri: str) -> str:
    """The same address without what is between `//` and `@`.

    Example:
        >>> without_credentials("postgresql://me:secret@db:5432/mlflow")
        'postgresql://***@db:5432/mlflow'
    """
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, f"***@{host}", parts.path, parts.query, parts.fragment))


def check_reachable(address: StoreAddress, *, timeout_s: float = 3.0) -> None:
    """Ask the store for a sign of life before any work starts.

    MLflow's own client retries for minutes before it says anything.

    Raises:
        StoreUnavailableError: if nothing usable is there.
    """
    if address.sqlite_file is not None:
        _check_sqlite(address, address.sqlite_file)
    elif address.scheme in SERVER_SCHEMES:
        _check_server(address, timeout_s)
    elif address.scheme in DEFAULT_PORTS:
        _check_port(address, timeout_s)


def _check_server(address: StoreAddress, timeout_s: float) -> None:
    try:
        server.get(address.uri, "health", {}, timeout_s=timeout_s)
    except urllib.error.HTTPError as error:
        problem = f"answers {error.code} to /health; is it MLflow?"
        raise StoreUnavailableError(_explain(address, problem)) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise StoreUnreachableError(_explain(address, f"does not answer ({reason})")) from None


def _check_port(address: StoreAddress, timeout_s: float) -> None:
    parts = urlsplit(address.uri)
    place = (parts.hostname or "localhost", parts.port or DEFAULT_PORTS[address.scheme])
    try:
        socket.create_connection(place, timeout=timeout_s).close()
    except OSError as error:
        raise StoreUnreachableError(_explain(address, f"does not answer ({error})")) from None


def _check_sqlite(address: StoreAddress, file: Path) -> None:
    if not file.parent.is_dir():
        problem = f"lies in a folder that does not exist: {file.parent}"
        raise StoreUnavailableError(_explain(address, problem))
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise StoreUnavailableError(_explain(address, "cannot be written"))
    if file.exists() and file.stat().st_size > 0:
        with file.open("rb") as stream:
            if stream.read(16) != b"SQLite format 3\x00":
                raise StoreUnavailableError(_explain(address, "is not an SQLite database"))


def _explain(address: StoreAddress, problem: str) -> str:
    return (
        f"the MLflow store {address.shown} {problem}. Nothing was started. Start the server or "
        "mend the address in MLFLOW_TRACKING_URI; without that variable runs are kept in "
        "mlflow.db at the root of the repository"
    )

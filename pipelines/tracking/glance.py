"""Does the store hold a model's run, version and alias? Asked at every `make repro`.

Imports no mlflow: an SQLite file is read directly, a server gets two requests.
"""

from __future__ import annotations

import json
import sqlite3
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pipelines.tracking import server
from pipelines.tracking.address import (
    SERVER_SCHEMES,
    StoreAddress,
    StoreUnavailableError,
    check_reachable,
)

TIMEOUT_S = 5.0

RUN_QUERY = """
    SELECT 1 FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
    WHERE tags.key = 'stage_hash' AND tags.value = ?
      AND runs.lifecycle_stage = 'active' AND runs.status = 'FINISHED'
"""
VERSION_QUERY = """
    SELECT storage_location FROM model_versions AS v
    JOIN model_version_tags AS t ON t.name = v.name AND t.version = v.version
    WHERE v.name = ? AND t.key = 'content_hash' AND t.value = ? ORDER BY v.version
"""
ALIAS_QUERY = "SELECT 1 FROM registered_model_aliases WHERE name = ? AND alias = ?"
HISTORY_QUERY = """
    SELECT 1 FROM tags AS model JOIN tags AS after ON after.run_uuid = model.run_uuid
    WHERE model.key = 'model' AND model.value = ?
      AND after.key = 'after' AND after.value NOT LIKE ?
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the store should hold."""

    model: str
    """Name of the registered model."""
    stage_hash: str
    """Of the training run."""
    content_hash: str
    """Of the version."""
    alias: Literal["champion", "challenger"] | None
    """That was set when the version was registered, on whichever version."""


def missing_from_store(address: StoreAddress, wanted: Wanted) -> tuple[str, ...]:
    """What the store lacks, in words; empty if nothing.

    An alias that was taken away on purpose, as the history of moves shows, is not missing.

    Raises:
        StoreUnavailableError: if the store does not answer.
    """
    check_reachable(address)
    if address.sqlite_file is not None:
        return tuple(_missing_in_file(address.sqlite_file, wanted))
    if address.scheme in SERVER_SCHEMES:
        return tuple(_missing_on_server(address, wanted))
    return ("unknown without MLflow's client",)


def _missing_in_file(file: Path, wanted: Wanted) -> Iterator[str]:
    if not file.exists():
        yield from _everything(wanted)
        return
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as database:
        try:
            yield from _missing_in_database(database, wanted)
        except sqlite3.OperationalError:  # a database that MLflow has not filled yet
            yield from _everything(wanted)


def _missing_in_database(database: sqlite3.Connection, wanted: Wanted) -> Iterator[str]:
    def find(query: str, *values: str) -> tuple[Any, ...] | None:
        found: tuple[Any, ...] | None = database.execute(query, values).fetchone()
        return found

    if find(RUN_QUERY, wanted.stage_hash) is None:
        yield "run"
    version = find(VERSION_QUERY, wanted.model, wanted.content_hash)
    if version is None:
        yield "version"
    elif _is_gone_locally(version[0]):
        yield "files of the version"
    if wanted.alias is not None and find(ALIAS_QUERY, wanted.model, wanted.alias) is None:
        never_set = f'%"{wanted.alias}": null%'
        if find(HISTORY_QUERY, wanted.model, never_set) is None:
            yield f"alias {wanted.alias}"


def _is_gone_locally(location: str) -> bool:
    """Whether the location is a folder of this machine that no longer holds a model."""
    parts = urlsplit(location)
    return parts.scheme in ("", "file") and not Path(unquote(parts.path), "MLmodel").is_file()


def _missing_on_server(address: StoreAddress, wanted: Wanted) -> Iterator[str]:
    model = _ask(address, "registered-models/get", {"name": wanted.model})
    if model is None:
        yield from _everything(wanted)
        return
    query = {"filter": f"name = '{wanted.model}' and tag.content_hash = '{wanted.content_hash}'"}
    if not (_ask(address, "model-versions/search", query) or {}).get("model_versions"):
        yield "version"
    aliases = [item["alias"] for item in model["registered_model"].get("aliases", [])]
    if wanted.alias is not None and wanted.alias not in aliases:
        yield f"alias {wanted.alias}"


def _everything(wanted: Wanted) -> Iterator[str]:
    yield from ("run", "version")
    if wanted.alias is not None:
        yield f"alias {wanted.alias}"


def _ask(address: StoreAddress, path: str, query: Mapping[str, str]) -> Any | None:  # noqa: ANN401
    """The server's answer; None for "no such thing"."""
    try:
        body = server.get(address.uri, f"api/2.0/mlflow/{path}", query, timeout_s=TIMEOUT_S)
        return json.loads(body)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise StoreUnavailableError(
            f"the MLflow server {address.shown} answers {error.code} to {path}; if it asks for a "
            "login, set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        ) from None

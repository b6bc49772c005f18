"""Prefect's SQLite database as a new one is after its 113 migrations, made with the environment.

    python -m pipelines.services.prefect_database

They take nine seconds, which would otherwise be paid by the first run with every new PREFECT_HOME.
`tools/install` makes this template; without it, or with one of another version, Prefect migrates.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

CONNECTION_URL = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
OLDER_CONNECTION_URL = "PREFECT_API_DATABASE_CONNECTION_URL"


def prefect_home(variables: Mapping[str, str]) -> Path:
    """Where Prefect keeps its files with these environment variables."""
    return Path(variables.get("PREFECT_HOME") or "~/.prefect").expanduser()


def template() -> Path:
    """The template of the installed Prefect, which may not be there."""
    return Path(sys.prefix) / "share" / "rtmo" / f"prefect-{version('prefect')}.db"


def make_template(target: Path) -> None:
    """Have Prefect make and migrate an empty database; one file without a log beside it.

    Raises:
        subprocess.CalledProcessError: if Prefect cannot; it has said why.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder) / "prefect.db"
        subprocess.run(
            [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"],
            # A profile, a `.env` or a `prefect.toml` of the person who installs must not count.
            cwd=folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
                "PREFECT_HOME": folder,
                CONNECTION_URL: f"sqlite+aiosqlite:///{made}",
                "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            },
            stdout=subprocess.DEVNULL,
            check=True,
        )
        whole = Path(folder) / "whole.db"
        with closing(sqlite3.connect(made)) as database:
            database.execute("VACUUM INTO ?", (str(whole),))
        whole.replace(target)


def provide_database(variables: Mapping[str, str], made: Path | None = None) -> bool:
    """Put a copy of the template where a server with these variables would make a new database.

    Of two processes that do so at once, or beside a Prefect that makes its own, the first one wins.

    Args:
        variables: environment of the server.
        made: the template, else that of the installed Prefect.

    Returns:
        Whether it did: not if there is a database, another one is set, or there is no template.
    """
    made = made or template()
    home = prefect_home(variables)
    database = home / "prefect.db"
    # A write-ahead log of a database that somebody removed would be replayed into this one.
    present = any(home.glob("prefect.db*"))
    is_set = any(variables.get(name) for name in (CONNECTION_URL, OLDER_CONNECTION_URL))
    if present or is_set or not made.is_file():
        return False
    with contextlib.suppress(OSError):  # Prefect itself will say what is wrong with the folder
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as folder:
            copy = shutil.copyfile(made, Path(folder) / "prefect.db")
            database.hardlink_to(copy)  # fails if the name is taken by now
        return True
    return False


if __name__ == "__main__":
    make_template(template())

"""`rtmo-pipeline data`: where data comes from."""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.params import load_params
from pipelines.paths import checkout

data = typer.Typer(name="data", help="Where data comes from.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Where data comes from."""


@data.command()
def refresh(
    name: Annotated[
        str | None, typer.Argument(help="A file in sources/; data.dataset if left out.")
    ] = None,
) -> None:
    """Ask whether remote files changed; rewrite sources/NAME.json if so: a new data version."""
    from pipelines.refresh import refresh_source
    from rtmo.fetch import Patience

    paths = checkout()
    dataset = name or load_params(paths.root).data.dataset
    report = refresh_source(paths.source(dataset), paths.downloads(dataset), Patience())
    for line in report.changes:
        print(f"changed: {line}")
    for file in report.unchanged:
        print(f"unchanged: {file}")
    if report.changes:
        print(f"sources/{dataset}.json is rewritten: `dvc repro` makes the new data version")
    elif not report.unchanged:
        print(f"sources/{dataset}.json names nothing on the network")

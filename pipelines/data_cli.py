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
def delete(
    image: Annotated[list[int] | None, typer.Option(help="Id of a picture; repeatable.")] = None,
    person: Annotated[
        list[int] | None,
        typer.Option(help="Annotation id of a person: the pictures that show it go; repeatable."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="A file in sources/; data.dataset if left out.")
    ] = None,
) -> None:
    """Leave pictures out of the data from now on, and list the registered models that saw them."""
    from pipelines import deletion

    paths = checkout()
    params = load_params(paths.root)
    name = dataset or params.data.dataset
    done = deletion.delete(paths, params, name, images=image or (), people=person or ())
    print("\n".join(deletion.describe(done)))


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

"""The commands of `rtmo-pipeline` that ask the registry or move its aliases.

Nothing heavy is imported before a command needs it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from pipelines.paths import checkout

app = typer.Typer()
console = Console()

Number = Annotated[int, typer.Argument(help="Number of a version.")]
Why = Annotated[str, typer.Option(help="The reason; it stays in the history.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
SHOWN_ITEMS = 4
"""Of each kind of what `collect` removes."""
LISTED_FIGURES = ("gate.AP", "gate.AR", "gate.AP_hard", "latency_p50_ms")


@app.command()
def models(
    question: Annotated[
        str, typer.Argument(help='As "best AP_hard with latency_p50_ms below 5".')
    ] = "",
    alias: Annotated[str | None, typer.Option(help="champion, challenger, previous.")] = None,
    version: Annotated[int | None, typer.Option(help="Number of a version.")] = None,
    data_version: Annotated[str | None, typer.Option(help="Beginning of the digest.")] = None,
    commit: Annotated[str | None, typer.Option(help="Beginning of the git commit.")] = None,
    as_json: AsJson = False,
) -> None:
    """Registered models that fit everything given; all of them without a question."""
    from pipelines.registry.lookup import find_models

    found = find_models(
        checkout(), question, alias=alias, version=version, data_version=data_version, commit=commit
    )
    if as_json:
        print(json.dumps([asdict(model) for model in found], indent=2))
        return
    shown = [name for name in LISTED_FIGURES if any(name in model.latest for model in found)]
    table = Table("version", "aliases", "verdict", *shown, "data", "commit", box=None)
    for model in found:
        figures = [f"{model.latest[name]:.3f}" if name in model.latest else "" for name in shown]
        identity = (model.data_version[:12], model.commit[:12])
        aliases = ", ".join(model.aliases)
        table.add_row(str(model.version), aliases, model.verdict, *figures, *identity)
    console.print(table if found else "no model fits")


@app.command()
def diff(left: Number, right: Number, as_json: AsJson = False) -> None:
    """Code, data, settings, metrics, errors and latency of two versions, side by side."""
    from pipelines.registry.difference import diff as compare_versions

    rows = compare_versions(checkout(), left, right)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    table = Table("", "", f"version {left}", f"version {right}", box=None)
    for row in rows:
        table.add_row(row.subject, row.name, row.left, row.right if row.differs else "same")
    console.print(table)


@app.command()
def model_card(version: Number) -> None:
    """The model card of a version, as Markdown."""
    from pipelines.registry.difference import model_card as read_card

    print(read_card(checkout(), version))


@app.command(epilog="Example: rtmo-pipeline reproduce models:/rtmo@champion")
def reproduce(
    address: Annotated[str, typer.Argument(help="As models:/rtmo/7 or models:/rtmo@champion.")],
) -> None:
    """Train a version again from its commit and data, and compare; exit status 1 if it differs."""
    from pipelines.reproduction import reproduce as train_and_compare

    found = train_and_compare(checkout(), address, print)
    table = Table("metric", "registered", "now", box=None)
    for name, (before, now) in found.metrics.items():
        table.add_row(name, f"{before:.6f}", "same" if now == before else f"{now:.6f}")
    console.print(table)
    print(f"{found.outcome}: {found.words}")
    if found.outcome == "differs":
        raise typer.Exit(1)


class CollectStep(StrEnum):
    """What `collect` does."""

    PLAN = "plan"
    APPLY = "apply"


@app.command(epilog="Example: rtmo-pipeline collect plan")
def collect(
    step: Annotated[
        CollectStep, typer.Argument(help="plan: say what would go; apply: remove it.")
    ] = CollectStep.PLAN,
) -> None:
    """Give back disk space that nothing needs: cache, checkpoints, files of old versions.

    Never what a version with an alias, a branch, a tag or this workspace needs.
    """
    from pipelines import retention

    found = (
        retention.plan(checkout()) if step is CollectStep.PLAN else retention.collect(checkout())
    )
    table = Table("", "how many", Column("bytes", justify="right"), "which", box=None)
    for subject in ("cache", "checkpoints", "model files", "upload", "run"):
        items = found.of(subject)
        names = ", ".join(item.name[:12] for item in items[:SHOWN_ITEMS])
        more = ", ..." if len(items) > SHOWN_ITEMS else ""
        size = sum(item.bytes for item in items)
        table.add_row(subject, str(len(items)), f"{size:,}", names + more)
    console.print(table)
    total = sum(item.bytes for item in found.items)
    print(f"versions that keep everything: {', '.join(map(str, found.kept)) or 'none'}")
    for remark in found.remarks:
        print(remark)
    if step is CollectStep.PLAN:
        print(f"{total:,} bytes can go: `rtmo-pipeline collect apply`")
    else:
        print(f"{total:,} bytes removed")


@app.command()
def promote(version: Number, why: Why) -> None:
    """Make a version champion; whom it replaces becomes `previous`."""
    from pipelines.registry import commands
    from pipelines.registry.release import this_person

    move = commands.promote(checkout(), version, by=this_person(), why=why)
    print(commands.describe(move) if move else f"version {version} is champion already")


@app.command()
def rollback(why: Why) -> None:
    """Make the previous champion champion again."""
    from pipelines.registry import commands
    from pipelines.registry.release import this_person

    print(commands.describe(commands.rollback(checkout(), by=this_person(), why=why)))


@app.command()
def history(as_json: AsJson = False) -> None:
    """Every move of an alias: when, what, who, why."""
    from pipelines.registry import commands

    moves = commands.history(checkout())
    if as_json:
        print(json.dumps([asdict(move) for move in moves], default=datetime.isoformat, indent=2))
        return
    print("\n".join(map(commands.describe, moves)) or "no alias was moved yet")

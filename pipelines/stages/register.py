"""DVC stage `register`: the trained model becomes a version, and champion if the gate allows it."""

from __future__ import annotations

from pathlib import Path

import typer

from pipelines.registry.receipt import Receipt
from pipelines.registry.release import register, this_person
from pipelines.registry.workspace import read_registration
from pipelines.stage_run import stage_run
from pipelines.tracking import open_tracking
from pipelines.worded_errors import without_traceback


def write_receipt(receipt: Receipt, out: Path) -> None:
    """The receipt for `sync` and the verdict for a reader."""
    (out / "receipt.json").write_text(receipt.model_dump_json(indent=2) + "\n")
    (out / "verdict.md").write_text(receipt.markdown())


def main() -> None:
    """Command line; `dvc.yaml` is its caller."""
    with stage_run("register") as run, run.publish(run.paths.report("register")) as out:
        tracking = open_tracking(run.paths)
        registration = read_registration(run.paths, run.params, run.inputs, by=this_person())
        receipt = register(tracking, registration)
        write_receipt(receipt, out)
        typer.echo(receipt.markdown())


if __name__ == "__main__":
    with without_traceback():
        typer.run(main)

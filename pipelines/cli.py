"""`rtmo-pipeline`: the pipeline and the registry from the command line.

Nothing heavy is imported before a command needs it: a run with nothing to do takes a second.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, TypeGuard

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipelines import registry_cli
from pipelines.data_cli import data
from pipelines.params import load_params
from pipelines.paths import NotACheckoutError, checkout
from pipelines.services_cli import services
from pipelines.worded_errors import is_worded
from rtmo.formats.label_set import LabelFormat

app = typer.Typer(
    help=__doc__,
    epilog="Exit status: 0 done, 1 refused or something is wrong, 2 wrong usage or input that "
    "cannot be used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(data)
app.add_typer(services)
app.add_typer(registry_cli.app)  # without a name: its commands are commands of ours
console = Console()

WRONG_USAGE = (NotACheckoutError, LookupError, ValueError)
"""Of our errors, those that another command or another input mends."""

SHOWN_METRICS = ("AP", "AP50", "AR", "AP_easy", "AP_medium", "AP_hard")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Target = Annotated[str, typer.Argument(help="The last stage to bring up to date.")]


@app.command(epilog="Example: rtmo-pipeline run evaluate")
def run(target: Target = "register") -> None:
    """Bring a stage and all it needs up to date, as a Prefect flow.

    Uses the server in PREFECT_API_URL, else that of `rtmo-pipeline services`, else starts one.
    """
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    paths = checkout()
    from pipelines import dvc_graph

    dvc_graph.order(paths.root, target)  # an unknown stage is refused before a server starts
    from pipelines.flows.from_command import run_pipeline

    report = run_pipeline(paths, target)
    console.print(f"ran: {', '.join(report.ran) or 'nothing, all is up to date'}")


@app.command(epilog="Example: rtmo-pipeline stage convert")
def stage(name: Annotated[str, typer.Argument(help="A stage of dvc.yaml.")]) -> None:
    """Bring one stage up to date; what it needs must be."""
    from pipelines import dvc_repro

    outcome = dvc_repro.run_stage(checkout().root, name, print)
    console.print(f"{name}: {outcome.state}, {outcome.duration_s:.1f} s")


@app.command(epilog="Example: rtmo-pipeline preset rtmo-s-coco")
def preset(name: Annotated[str, typer.Argument(help="A file in presets/, without .yaml.")]) -> None:
    """Merge a published recipe into params.yaml and show what changes."""
    from pipelines.presets import apply_preset

    changed = apply_preset(checkout().root, name)
    print("\n".join(changed) or "params.yaml has these values already")


@app.command(epilog="Example: rtmo-pipeline fit-batch")
def fit_batch() -> None:
    """Find the largest train.micro_batch that this machine's memory holds; changes nothing.

    Takes a few steps of the training in params.yaml, on its converted dataset.
    """
    from pipelines.batch_advice import batch_advice

    print(batch_advice(checkout()))


@app.command(
    epilog="Example: rtmo-pipeline init --data export.zip --weights rtmo-s-body7 --licence ours:yes"
)
def init(  # noqa: PLR0913 - one argument per option
    data: Annotated[Path, typer.Option(help="Folder or zip archive of a labelling tool's export.")],
    name: Annotated[str | None, typer.Option(help="Of the dataset; from DATA if absent.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="Published model or file to begin with: rtmo-s-body7.")
    ] = None,
    keypoints: Annotated[
        str | None, typer.Option(help="Names in order, where the files have none: head,neck,...")
    ] = None,
    flip_pairs: Annotated[
        str | None, typer.Option(help="What changes places in a mirror: l_eye:r_eye,... or none.")
    ] = None,
    sigmas: Annotated[
        str | None, typer.Option(help="COCO's sigmas where not the default: head:0.05,...")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Terms of the pictures, as NAME:yes, NAME:no, NAME:unknown.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring own labels into the pipeline: COCO, CVAT, YOLO-pose or Label Studio keypoints.

    Looks at the pictures and labels, then writes sources/NAME.json and merges a recipe for
    fine-tuning into params.yaml. The last word of a licence says whether its terms allow
    commercial use; what is unknown keeps a model from becoming champion.
    """
    from pipelines import own_data

    paths = checkout()
    name = name or own_data.default_name(data)
    names = own_data.parse_names(keypoints)
    found = own_data.survey(data, name, names, own_data.parse_answers(flip_pairs, sigmas))
    if flip_pairs is None and not found.settled.skeleton.flip_pairs:
        flip_pairs = _ask(f"Flip pairs of {', '.join(found.settled.skeleton.keypoints)}", "none")
        found = own_data.survey(data, name, names, own_data.parse_answers(flip_pairs, sigmas))
    licence = licence or _ask("Terms of the pictures (NAME:yes|no|unknown)", "not stated:unknown")
    terms = own_data.parse_licence(licence)
    adoption = own_data.adopt(paths, found, name, terms, weights)
    if as_json:
        adoption.write()
        print(json.dumps({**found.summary(), **adoption.summary()}, indent=2))
        return
    print("\n".join(found.describe()))
    adoption.write()
    print(f"wrote {adoption.source_path}")
    print("\n".join(("params.yaml:", *(f"  {line}" for line in adoption.params.differences))))
    print("Next: dvc repro")


def _ask(question: str, default: str) -> str:
    """The answer of a person at a terminal; the default where nobody is."""
    return str(typer.prompt(question, default=default)) if sys.stdin.isatty() else default


@app.command(epilog="Example: rtmo-pipeline labels export.zip for-yolo/ --to yolo")
def labels(
    data: Annotated[Path, typer.Argument(help="Folder or zip archive of a labelling tool.")],
    out: Annotated[Path, typer.Argument(help="Folder to write to; must not exist.")],
    to: Annotated[LabelFormat, typer.Option(help="Format to write.")],
    keypoints: Annotated[
        str | None, typer.Option(help="Names in order, where the files have none.")
    ] = None,
    flip_pairs: Annotated[str | None, typer.Option(help="l_eye:r_eye,... or none.")] = None,
) -> None:
    """Write labels with their pictures in the format of another tool, and say what is lost."""
    from pipelines import own_data

    answers = own_data.parse_answers(flip_pairs, None)
    lost = own_data.translate(data, out, to, own_data.parse_names(keypoints), answers)
    print(f"wrote {out}")
    for words in lost:
        print(f"not in it: {words}")


@app.command(epilog="Example: rtmo-pipeline status")
def status(as_json: AsJson = False) -> None:
    """What is up to date, what is not and why; metrics; the last release."""
    from pipelines import dvc_graph

    paths = checkout()
    try:
        stale = dvc_graph.stale(paths.root)
    except dvc_graph.BusyError as busy:
        print(json.dumps({"busy": str(busy)}) if as_json else f"in progress: {busy}")
        return
    receipt = paths.report("register") / "receipt.json"
    said = json.loads(receipt.read_text()) if receipt.exists() else None
    if as_json:
        reasons = {name: list(stale.get(name, ())) for name in dvc_graph.order(paths.root)}
        stages = {name: {"stale": name in stale, "why": why} for name, why in reasons.items()}
        metrics = dict(dvc_graph.metrics(paths.root))
        print(json.dumps({"stages": stages, "metrics": metrics, "release": said}, indent=2))
        return
    table = Table("stage", "state", "why", box=None)
    for name in dvc_graph.order(paths.root):
        table.add_row(name, "stale" if name in stale else "fresh", "; ".join(stale.get(name, ())))
    console.print(table)
    for file, content in dvc_graph.metrics(paths.root).items():
        figures = {key: content.get(key) for key in SHOWN_METRICS}
        shown = [f"{key} {value:.3f}" for key, value in figures.items() if is_number(value)]
        if shown:
            console.print(f"{file}: {', '.join(shown)}")
    if said is not None:
        console.print(f"release: {said['model']} version {said['version']}: {said['words']}")


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a metric is one figure; some are groups of figures."""
    return isinstance(value, (int, float))


@app.command(epilog="Example: rtmo-pipeline doctor --json")
def doctor(as_json: AsJson = False) -> None:
    """Look for what is missing or wrong on this machine; exit status 1 if something is wrong."""
    from pipelines.doctor import examine

    findings = examine(checkout())
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        table = Table("subject", "state", Column(overflow="fold"), box=None)
        for finding in findings:
            table.add_row(finding.subject, finding.state, escape(finding.words))
        console.print(table)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: rtmo-pipeline sync")
def sync(as_json: AsJson = False) -> None:
    """Bring the MLflow store to what the last release here says; nothing missing, nothing done."""
    from pipelines.sync import sync as bring_up_to_date

    report = bring_up_to_date(checkout())
    if as_json:
        print(json.dumps(asdict(report), indent=2))
        return
    for line in (*(f"restored {what}" for what in report.restored), *report.remarks):
        console.print(line)


@app.command(epilog="Example: rtmo-pipeline inspect --tag-for-relabel 50")
def inspect(
    tag_for_relabel: Annotated[
        int | None,
        typer.Option(min=1, help="Write this many doubtful pictures for an annotation tool."),
    ] = None,
    take_corrections: Annotated[
        Path | None,
        typer.Option(help="COCO keypoints file that the annotation tool gave back."),
    ] = None,
    split: Annotated[
        Literal["train", "val", "gate"],
        typer.Option(help="Split of the pictures; on train the trained model is run first."),
    ] = "val",
) -> None:
    """Doubtful labels out to an annotation tool, corrections back in."""
    from pipelines import relabel

    paths = checkout()
    if (tag_for_relabel is None) == (take_corrections is None):
        raise typer.BadParameter("give one of --tag-for-relabel N and --take-corrections FILE")
    params = load_params(paths.root)
    if tag_for_relabel is not None:
        tagged = relabel.tag_for_relabel(paths, params, tag_for_relabel, split)
        for reason, count in tagged.reasons.most_common():
            print(f"{count:5d}  {reason}")
        print(f"{len(tagged.images)} pictures in {tagged.folder}; read reasons.md there")
    if take_corrections is not None:
        taken = relabel.take_corrections(paths, params, take_corrections, split)
        print(relabel.describe(taken))


@app.command(epilog="Example: rtmo-pipeline predict photo.jpg")
def predict(image: Annotated[Path, typer.Argument(help="JPEG or PNG file.")]) -> None:
    """People that the champion finds in one picture, as JSON in original-image pixels."""
    if not image.is_file():
        raise typer.BadParameter(f"there is no file {image}")
    from pipelines.serving.champion import predict_with_champion

    paths = checkout()
    name = load_params(paths.root).registration.name
    print(json.dumps(predict_with_champion(paths, name, image)))


@app.command(epilog="Example: rtmo-pipeline serve --port 5002")
def serve(
    model: Annotated[
        str | None,
        typer.Option(help="models:/NAME@ALIAS, file or folder; default: the champion."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to bind to.")] = 5002,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(help="Name of this server besides localhost; may be given again."),
    ] = None,
) -> None:
    """Answer pictures that are sent to POST /predict or POST /invocations, until stopped.

    GET /health says which model answers. The alias is followed without dropping a request. Limits
    are in the section `serve` of params.yaml.
    """
    from pipelines.serving.server import serve as answer_requests

    paths = checkout()
    params = load_params(paths.root)
    answer_requests(
        paths,
        model or f"models:/{params.registration.name}@champion",
        params.serve,
        host=host,
        port=port,
        allowed_hosts=allowed_host or (),
    )


def main() -> None:
    """Entry point: an error that tells a person what to do is shown without a traceback.

    Exit status 2 where something else has to be typed or given, as `rtmo` does; 1 otherwise.
    """
    try:
        app()
    except Exception as error:
        if not is_worded(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, WRONG_USAGE) else 1)


if __name__ == "__main__":
    main()

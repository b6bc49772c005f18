"""What a person sees on the page of a flow run: tables, pictures, where to look further."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from pipelines import dvc_graph
from pipelines.dvc_repro import StageOutcome
from pipelines.paths import Paths

PICTURE_WIDTH_PX = 900
"""Pictures are kept in Prefect's database."""
FIFTYONE_APP = "http://localhost:5151/datasets"


def show(paths: Paths, outcomes: Sequence[StageOutcome]) -> None:
    """Put stages, metrics, pictures of the stages that ran and places to look on the run's page."""
    root = paths.root
    create_table_artifact(
        key="stages",
        table=[
            {"stage": o.stage, "state": o.state, "seconds": round(o.duration_s, 1)}
            for o in outcomes
        ],
        description="What was fresh, ran or failed.",
    )
    create_table_artifact(
        key="metrics",
        table=[
            {"file": path, "metric": name, "value": value}
            for path, content in dvc_graph.metrics(root).items()
            for name, value in content.items()
            if isinstance(value, (int, float))
        ],
        description="As `dvc metrics show` has them.",
    )
    for path in dvc_graph.pictures(root, [o.stage for o in outcomes if o.state == "ran"]):
        name = path.relative_to(root).as_posix()
        create_image_artifact(
            image_url=data_url(path),
            key=re.sub(r"[^a-z0-9]+", "-", name.lower()),
            description=name,
        )
    create_markdown_artifact(
        key="places", markdown=places(paths), description="Where to look further."
    )


def data_url(picture: Path) -> str:
    """The picture itself as an address, small enough for a database.

    Raises:
        ValueError: if the file is no picture.
    """
    pixels = cv2.imread(str(picture))
    if pixels is None:
        raise ValueError(f"{picture} is no picture that OpenCV can read")
    height, width = pixels.shape[:2]
    if width > PICTURE_WIDTH_PX:
        size_wh = (PICTURE_WIDTH_PX, max(1, round(height * PICTURE_WIDTH_PX / width)))
        pixels = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".jpg", pixels)[1].tobytes()
    return f"data:image/jpeg;base64,{base64.b64encode(encoded).decode()}"


def places(paths: Paths) -> str:
    """Links and paths to what this run left, as Markdown."""
    lines = [f"- worktree: `{paths.root}`"]
    inspected = paths.report("inspect")
    status = inspected / "fiftyone" / "status.json"
    if status.exists():
        said = json.loads(status.read_text())
        name = said["dataset"]
        lines.append(
            f"- FiftyOne: [{name}]({FIFTYONE_APP}/{name}) while `fiftyone app launch {name}` runs"
            if said["status"] == "available"
            else f"- FiftyOne: no dataset ({said['reason']})"
        )
    reports = {
        "errors": inspected / "report.html",
        "exported models and engine": paths.exported / "manifest.json",
        "verdict": paths.report("register") / "verdict.md",
    }
    for words, file in reports.items():
        if file.exists():
            lines.append(f"- {words}: [`{file.relative_to(paths.root)}`]({file.as_uri()})")
    return "\n".join(lines)

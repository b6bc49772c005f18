"""The flows against a real Prefect server and a real DVC repository."""

import os
from pathlib import Path
from typing import Any

import pytest
from prefect.artifacts import Artifact

from pipelines import dvc_graph
from pipelines.dvc_command import NO_VARIABLES
from pipelines.dvc_graph import UnknownStageError
from pipelines.dvc_repro import StageFailedError
from pipelines.flows.pipeline import pipeline, run_stage


@pytest.fixture
def at_work(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Path:
    monkeypatch.chdir(tiny_repository)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tiny_repository


def states(outcomes: Any) -> dict[str, str]:
    return {outcome.stage: outcome.state for outcome in outcomes.stages}


def table(key: str) -> str:
    artifact = Artifact.get(key)
    assert artifact is not None
    return str(artifact.data)


def test_stages_run_in_the_order_of_the_graph_and_are_fresh_the_next_time(at_work: Path) -> None:
    assert states(pipeline(target="sum")) == {"draw": "ran", "sum": "ran"}
    assert states(pipeline(target="sum")) == {"draw": "fresh", "sum": "fresh"}
    assert dvc_graph.stale(at_work, "sum") == {}


def test_stages_and_metrics_are_shown_as_tables(at_work: Path) -> None:
    pipeline(target="sum")
    assert '"stage": "sum", "state": "ran"' in table("stages")
    assert '"metric": "sum", "value": 3' in table("metrics")


def test_pictures_and_places_to_look_are_shown(at_work: Path) -> None:
    drawing = "import cv2, numpy; cv2.imwrite('drawn.png', numpy.zeros((40, 1000, 3), 'uint8'))\n"
    (at_work / "draw.py").write_text(drawing)
    text = (at_work / "dvc.yaml").read_text().replace("outs: [drawn]", "plots: [drawn.png]")
    (at_work / "dvc.yaml").write_text(text)
    (at_work / "models" / "export").mkdir(parents=True)
    (at_work / "models" / "export" / "manifest.json").write_text("{}")
    status = at_work / "reports" / "inspect" / "fiftyone" / "status.json"
    status.parent.mkdir(parents=True)
    status.write_text('{"status": "available", "dataset": "ours-val", "reason": ""}')
    pipeline(target="draw")
    assert table("drawn-png").startswith("data:image/jpeg;base64,")
    shown = table("places")
    assert "[ours-val](http://localhost:5151/datasets/ours-val)" in shown
    assert "models/export/manifest.json" in shown


def test_a_failed_stage_ends_the_flow_is_named_and_is_not_tried_again(at_work: Path) -> None:
    (at_work / "draw.py").write_text("open('tries', 'a').write('x'); raise SystemExit('no ink')")
    with pytest.raises(StageFailedError, match="no ink"):
        pipeline(target="sum")
    assert '"stage": "draw", "state": "failed"' in table("stages")
    assert (at_work / "tries").read_text() == "x"
    assert not (at_work / "sum.json").exists()


def test_a_temporary_fault_is_tried_again(at_work: Path) -> None:
    code = (at_work / "draw.py").read_text()
    (at_work / "draw.py").write_text(
        f"""
import pathlib
if not pathlib.Path("tried").exists():
    pathlib.Path("tried").touch()
    raise SystemExit({os.EX_TEMPFAIL})
{code}"""
    )
    patient = run_stage.with_options(retry_delay_seconds=0)
    assert patient(at_work, "draw", NO_VARIABLES).state == "ran"


def test_an_unknown_target_is_refused(at_work: Path) -> None:
    with pytest.raises(UnknownStageError, match="no stage 'trian'"):
        pipeline(target="trian")

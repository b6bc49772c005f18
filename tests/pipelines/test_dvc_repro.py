"""One stage at a time, run by the real DVC."""

import pickle
from pathlib import Path

import pytest

from pipelines import dvc_graph, dvc_repro, process
from pipelines.dvc_repro import StageFailedError


def test_one_stage_runs_and_is_fresh_the_next_time(tiny_repository: Path) -> None:
    lines: list[str] = []
    assert dvc_repro.run_stage(tiny_repository, "draw", lines.append).state == "ran"
    assert dvc_repro.run_stage(tiny_repository, "sum", lines.append).state == "ran"
    assert "summed 3" in lines
    lines.clear()
    assert dvc_repro.run_stage(tiny_repository, "sum", lines.append).state == "fresh"
    assert lines == []


def test_a_failing_stage_gives_its_own_status_and_last_words(tiny_repository: Path) -> None:
    (tiny_repository / "draw.py").write_text("raise SystemExit('no pencil')")
    with pytest.raises(StageFailedError, match="no pencil") as caught:
        dvc_repro.run_stage(tiny_repository, "draw", [].append)
    assert caught.value.status == 1
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_stage_that_takes_too_long_is_ended_and_says_so(tiny_repository: Path) -> None:
    (tiny_repository / "draw.py").write_text(
        "import time; print('well', flush=True); time.sleep(600)"
    )
    text = (tiny_repository / "dvc.yaml").read_text()
    supervised = f"exec python {process.__file__} python draw.py\n    meta: {{timeout_min: 0.1}}"
    (tiny_repository / "dvc.yaml").write_text(text.replace("exec python draw.py", supervised))
    with pytest.raises(StageFailedError, match=r"well\nended after 0.1 minutes") as caught:
        dvc_repro.run_stage(tiny_repository, "draw", [].append)
    assert caught.value.status == process.TIMED_OUT
    assert dvc_graph.stale(tiny_repository, "draw") == {"draw": ("never ran",)}  # and no lock stuck

"""Our reading of DVC agrees with the real DVC."""

import subprocess
import time
from pathlib import Path

import pytest
from dvc.repo import Repo

from pipelines import dvc_graph, dvc_repro, process
from pipelines.dvc_graph import BusyError, UnknownStageError


def repro(folder: Path) -> None:
    subprocess.run(["dvc", "repro", "-q"], cwd=folder, check=True)


def test_the_stage_hash_is_the_same_before_during_and_after_the_run(tiny_repository: Path) -> None:
    before = dvc_graph.stage_hash(tiny_repository, "draw")
    assert dvc_graph.locked_stage_hash(tiny_repository, "draw") is None
    repro(tiny_repository)
    during = (tiny_repository / "drawn/stage_hash.txt").read_text()
    assert before == during == dvc_graph.locked_stage_hash(tiny_repository, "draw")
    assert dvc_graph.stage_hash(tiny_repository, "draw") == before


def test_a_stage_with_folder_dependencies_and_sections_of_params_agrees_too(
    tiny_repository: Path,
) -> None:
    repro(tiny_repository)
    now = dvc_graph.stage_inputs(tiny_repository, "sum")
    assert now == dvc_graph.locked_stage_inputs(tiny_repository, "sum")
    assert now.dependencies["drawn"].endswith(".dir")


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("seed.txt", "1", "2", ("seed.txt",)),
        ("params.yaml", "count: 3", "count: 4", ("draw.count",)),
        ("params.yaml", "unused: 1", "unused: 2", ()),
        ("dvc.yaml", "exec python draw.py", "exec python ./draw.py", ("cmd",)),
        ("draw.py", "3", "4", ("draw.py",)),
    ],
)
def test_the_stage_hash_changes_with_what_the_stage_is_made_from_and_nothing_else(
    file: str, old: str, new: str, changed: tuple[str, ...], tiny_repository: Path
) -> None:
    before = dvc_graph.stage_inputs(tiny_repository, "draw")
    path = tiny_repository / file
    path.write_text(path.read_text().replace(old, new))
    after = dvc_graph.stage_inputs(tiny_repository, "draw")
    assert before.changes(after) == changed
    assert (before.hash == after.hash) == (not changed)


def test_taking_a_hash_writes_nothing(tiny_repository: Path) -> None:
    dvc_graph.stage_hash(tiny_repository, "draw")
    done = subprocess.run(
        ["git", "status", "--porcelain"], cwd=tiny_repository, capture_output=True, check=True
    )
    assert done.stdout == b""


def test_an_unknown_stage_is_named_with_the_known_ones(tiny_repository: Path) -> None:
    with pytest.raises(UnknownStageError, match=r"no stage 'drow'.*draw, sum, other"):
        dvc_graph.stage_hash(tiny_repository, "drow")


def test_the_order_follows_the_graph_and_then_the_file(tiny_repository: Path) -> None:
    assert dvc_graph.order(tiny_repository) == ("draw", "sum", "other")
    assert dvc_graph.order(tiny_repository, "sum") == ("draw", "sum")
    assert dvc_graph.order(tiny_repository, "draw") == ("draw",)


def test_what_is_stale_is_told_with_its_reason(tiny_repository: Path) -> None:
    assert dvc_graph.stale(tiny_repository) == dict.fromkeys(
        ("draw", "sum", "other"), ("never ran",)
    )
    repro(tiny_repository)
    assert dvc_graph.stale(tiny_repository) == {}
    params = tiny_repository / "params.yaml"
    params.write_text(params.read_text().replace("count: 3", "count: 4"))
    assert dvc_graph.stale(tiny_repository) == {
        "draw": ("params.yaml: draw.count modified",),
        "sum": ("`draw` is stale",),
    }
    assert dvc_graph.stale(tiny_repository, "other") == {}


def test_work_of_another_dvc_is_reported_as_busy(tiny_repository: Path) -> None:
    with Repo(str(tiny_repository)) as other, other.lock, pytest.raises(BusyError, match="at work"):
        dvc_graph.stale(tiny_repository)


def test_the_data_digest_is_that_of_what_convert_wrote(tiny_repository: Path) -> None:
    assert dvc_graph.data_digest(tiny_repository) is None
    text = (tiny_repository / "dvc.yaml").read_text().replace("draw:", "convert:")
    (tiny_repository / "dvc.yaml").write_text(text)
    params = tiny_repository / "params.yaml"
    params.write_text(params.read_text() + "convert: 1\n")
    repro(tiny_repository)
    first = dvc_graph.data_digest(tiny_repository)
    (tiny_repository / "seed.txt").write_text("2")
    repro(tiny_repository)
    assert first is not None
    assert dvc_graph.data_digest(tiny_repository) != first


def test_a_stage_that_runs_elsewhere_is_reported_as_busy(tiny_repository: Path) -> None:
    slow = "import pathlib, time; pathlib.Path('begun').touch(); time.sleep(600)"
    (tiny_repository / "draw.py").write_text(slow)
    text = (tiny_repository / "dvc.yaml").read_text()
    supervised = f"exec python {process.__file__} python draw.py"
    (tiny_repository / "dvc.yaml").write_text(text.replace("exec python draw.py", supervised))
    other = subprocess.Popen(["dvc", "repro", "-q", "draw"], cwd=tiny_repository)
    try:
        while not (tiny_repository / "begun").exists():
            assert other.poll() is None
            time.sleep(0.05)
        with pytest.raises(BusyError):
            dvc_graph.stale(tiny_repository)
        with pytest.raises(BusyError):
            dvc_repro.run_stage(tiny_repository, "draw", [].append)
    finally:
        other.kill()
        other.wait()


def test_what_the_stages_need_is_read_from_dvc_yaml(repository: Path) -> None:
    needs = {
        stage: dvc_graph.stage_needs(repository, stage) for stage in dvc_graph.order(repository)
    }
    assert needs["train"] == dvc_graph.StageNeeds(limit_s=14 * 24 * 3600, device="gpu")
    assert needs["convert"].device is None
    assert all(0 < need.limit_s < float("inf") for need in needs.values())

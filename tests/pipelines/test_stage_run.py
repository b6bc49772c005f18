"""What a stage does around its work, in a real DVC repository."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines import dvc_graph
from pipelines.params import ParamsError
from pipelines.stage_run import InputsChangedError, StageRun, stage_run


@pytest.fixture
def at_work(tiny_repository: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny repository as working directory, with params that our schema knows."""
    params = (repository / "params.yaml").read_text()
    (tiny_repository / "params.yaml").write_text(params)
    text = (tiny_repository / "dvc.yaml").read_text()
    text = text.replace("draw.count, draw.rate", "train").replace(
        "params: [sum]", "params: [model]"
    )
    (tiny_repository / "dvc.yaml").write_text(text)
    monkeypatch.chdir(tiny_repository)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tiny_repository


def test_a_run_by_hand_knows_its_hash_paths_and_params(at_work: Path) -> None:
    with stage_run("draw") as run:
        assert run.hash == dvc_graph.stage_hash(at_work, "draw")
        assert run.paths.root == at_work
        assert run.params.model.size == "t"


def test_outputs_appear_whole_and_only_when_the_stage_succeeds(at_work: Path) -> None:
    final = at_work / "models" / "train"
    with stage_run("draw") as run, run.publish(final) as folder:
        (folder / "weights").write_text("1")
        assert not final.exists()
    assert (final / "weights").read_text() == "1"

    def fail(run: StageRun) -> None:
        with run.publish(final) as folder:
            (folder / "weights").write_text("2")
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck"), stage_run("draw") as run:
        fail(run)
    assert (final / "weights").read_text() == "1"
    assert [path.name for path in final.parent.iterdir()] == ["train"]


def test_what_a_killed_run_left_is_cleared_by_the_next(at_work: Path) -> None:
    left = at_work / "models" / ".train.unfinished"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    with stage_run("draw") as run, run.publish(at_work / "models" / "train") as folder:
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("seed.txt", "1", "2", "seed.txt changed"),
        ("params.yaml", "seed: 0", "seed: 1", "train changed"),
    ],
)
def test_an_edit_during_the_run_keeps_it_from_being_published(
    file: str, old: str, new: str, named: str, at_work: Path
) -> None:
    final = at_work / "models" / "train"

    def edited(run: StageRun) -> None:
        with run.publish(final):
            text = (at_work / file).read_text()
            (at_work / file).write_text(text.replace(old, new))

    with pytest.raises(InputsChangedError, match=named), stage_run("draw") as run:
        edited(run)
    assert not final.exists()


def test_an_edit_of_what_the_stage_does_not_read_is_no_matter(at_work: Path) -> None:
    with stage_run("draw") as run, run.publish(at_work / "models" / "train"):
        text = (at_work / "params.yaml").read_text()
        (at_work / "params.yaml").write_text(re.sub(r"worst_people: \d+", "worst_people: 9", text))
    assert (at_work / "models" / "train").is_dir()


def test_a_failure_says_how_to_get_the_former_outputs_back(at_work: Path) -> None:
    with pytest.raises(ValueError, match="bad") as caught, stage_run("draw"):
        raise ValueError("bad")
    assert "dvc checkout draw" in caught.value.__notes__[0]


def test_params_are_checked_before_any_work(at_work: Path) -> None:
    text = (at_work / "params.yaml").read_text()
    (at_work / "params.yaml").write_text(re.sub(r" epochs: \d+", " epochs: twelve", text))
    with pytest.raises(ParamsError, match=r"train.epochs is 'twelve'"), stage_run("draw"):
        shutil.rmtree(at_work)  # not reached


def test_a_fault_of_the_network_ends_with_the_status_that_is_tried_again(at_work: Path) -> None:
    with pytest.raises(SystemExit) as caught, stage_run("draw"):
        raise ConnectionResetError("gone")
    assert caught.value.code == os.EX_TEMPFAIL


@pytest.mark.parametrize("stage", ["train", "register"])
def test_a_stage_names_a_bad_setting_in_a_line_without_a_traceback(
    at_work: Path, repository: Path, stage: str
) -> None:
    params = at_work / "params.yaml"
    params.write_text(re.sub("(?m)^  epochs: .*$", "  epochs: abc", params.read_text()))
    done = subprocess.run(
        ["python", "-m", f"pipelines.stages.{stage}"],
        cwd=at_work,
        env={**os.environ, "PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    first, *rest = done.stderr.splitlines()
    assert first == "error: params.yaml: train.epochs is 'abc', expected a valid integer"
    assert all(line.startswith("DVC deletes a stage's outputs") for line in rest)

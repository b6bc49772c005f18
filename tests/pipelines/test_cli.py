"""The command line of the pipeline."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from pipelines.cli import app

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = {"torch", "mlflow", "fiftyone", "prefect", "lightning", "onnxruntime", "openvino"}


def pipeline_command(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pipelines.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def imported(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Top-level packages that Python reports to have imported."""
    lines = (line for line in done.stderr.splitlines() if line.startswith("import time:"))
    return {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in lines}


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.splitlines()
    return "\n".join(line for line in lines if not line.startswith("import time:"))


def test_the_commands_are_those_of_the_design() -> None:
    pipeline = "run stage data preset fit-batch init labels status sync doctor inspect"
    registry = "models diff model-card reproduce collect promote rollback history"
    running = "predict serve services"
    assert sorted(f"{pipeline} {registry} {running}".split()) == COMMANDS


@pytest.mark.parametrize("command", ["status", "sync", "doctor"])
def test_a_look_around_imports_nothing_heavy(command: str, repository: Path) -> None:
    done = pipeline_command([command], repository)
    assert "Traceback" not in done.stderr
    assert imported(done) & HEAVY == set()


def test_status_names_stale_stages_with_their_reason(tiny_repository: Path) -> None:
    pipeline_command(["stage", "draw"], tiny_repository)
    said = pipeline_command(["status"], tiny_repository).stdout
    assert "draw" in said
    assert "never ran" in said


def test_status_is_also_for_programs(tiny_repository: Path) -> None:
    pipeline_command(["stage", "draw"], tiny_repository)
    said = json.loads(pipeline_command(["status", "--json"], tiny_repository).stdout)
    assert said["stages"]["draw"] == {"stale": False, "why": []}
    assert said["stages"]["sum"]["why"] == ["never ran"]
    assert said["release"] is None


def test_one_stage_runs_with_its_own_words(tiny_repository: Path) -> None:
    assert "draw: ran" in pipeline_command(["stage", "draw"], tiny_repository).stdout
    assert "draw: fresh" in pipeline_command(["stage", "draw"], tiny_repository).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stage", "trian"], "error: no stage 'trian' in dvc.yaml; it has draw, sum, other"),
        (["preset", "rtmo-x"], "error: no preset 'rtmo-x'; there are "),
        (["init", "--data", "nowhere"], "error: nowhere is neither a folder nor a file"),
    ],
)
def test_a_mistake_is_answered_without_a_traceback(
    arguments: list[str], message: str, tiny_repository: Path
) -> None:
    done = pipeline_command(arguments, tiny_repository)
    assert done.returncode == 2  # wrong usage, as `rtmo` has it
    assert error_of(done).startswith(message)


def test_outside_a_checkout_the_way_there_is_told(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(repository))
    done = pipeline_command(["status"], tmp_path)
    assert done.returncode == 2
    assert "go to the repository root" in error_of(done)


def test_news_that_nobody_hears_are_an_error(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    done = pipeline_command(["services", "announce"], repository)
    assert done.returncode == 1
    assert error_of(done).startswith("error: no Prefect server answers at http://127.0.0.1:9/api")


def test_without_its_packages_the_command_says_what_to_install(repository: Path) -> None:
    command = [sys.executable, "-S", "-m", "pipelines", "status"]  # -S: no installed packages
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 2
    assert "which is not installed: " in done.stderr
    assert len(done.stderr.splitlines()) == 1

"""Local state survives DVC's experiments, which run in copies of the checkout."""

import subprocess
from pathlib import Path

import pytest

from pipelines.paths import Paths, repository_paths

DRAW = """
import pathlib
from pipelines.paths import repository_paths
paths = repository_paths()
pathlib.Path("drawn").mkdir()
pathlib.Path("drawn/a.txt").write_text("3")
paths.runs.mkdir(exist_ok=True)
(paths.runs / "root.txt").write_text(str(paths.root))
"""


def test_by_hand_everything_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    assert repository_paths() == Paths(tmp_path.resolve(), tmp_path.resolve())


def test_an_experiment_in_a_copy_reads_the_copy_and_keeps_state_in_the_checkout(
    tiny_repository: Path,
) -> None:
    (tiny_repository / "draw.py").write_text(DRAW)
    command = ["dvc", "exp", "run", "--temp", "-q", "-S", "draw.count=5", "draw"]
    subprocess.run(command, cwd=tiny_repository, check=True)
    root = Path((tiny_repository / "runs" / "root.txt").read_text())
    assert root.is_relative_to(tiny_repository / ".dvc" / "tmp" / "exps")
    assert not (tiny_repository / "drawn").exists()

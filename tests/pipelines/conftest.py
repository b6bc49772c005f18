"""A tiny repository with a real DVC pipeline."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.postgresql_server import Postgresql, running_postgresql

DVC_YAML = """
stages:
  draw:
    cmd: exec python draw.py
    deps: [draw.py, seed.txt]
    params: [draw.count, draw.rate]
    outs: [drawn]
  sum:
    cmd: exec python sum.py
    deps: [sum.py, drawn]
    params: [sum]
    metrics: [sum.json]
  other:
    cmd: exec python -c "print('nothing to see')"
    deps: [seed.txt]
"""
PARAMS_YAML = """
draw:
  count: 3   # how many
  rate: 4e-3
sum: {scale: 2.0, names: [a, b]}
unused: 1
"""
DRAW = """
import os, pathlib
from pipelines.dvc_graph import stage_hash
drawn = pathlib.Path("drawn")
drawn.mkdir()
(drawn / "a.txt").write_text("3")
(drawn / "stage_hash.txt").write_text(stage_hash(pathlib.Path.cwd(), os.environ["DVC_STAGE"]))
"""
SUM = """
import json, pathlib
text = pathlib.Path("drawn/a.txt").read_text()
pathlib.Path("sum.json").write_text(json.dumps({"sum": int(text)}))
print("summed", text)
"""


def run(command: list[str], folder: Path) -> str:
    """What the command printed; fails with it."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tiny_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `tiny_repository` is a copy of; making one takes two seconds."""
    folder = tmp_path_factory.mktemp("tiny") / "repository"
    folder.mkdir()
    files = {
        "dvc.yaml": DVC_YAML,
        "params.yaml": PARAMS_YAML,
        "draw.py": DRAW,
        "sum.py": SUM,
        "seed.txt": "1",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    dvc = [sys.executable, "-m", "dvc"]
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    run(["git", "init", "-q", "-b", "main"], folder)
    run([*dvc, "init", "-q"], folder)
    run([*dvc, "config", "core.analytics", "false"], folder)
    run(["git", "add", "-A"], folder)
    run(["git", *identity, "commit", "-qm", "Tiny"], folder)
    return folder


@pytest.fixture
def tiny_repository(
    tmp_path: Path, repository: Path, tiny_template: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A git and DVC repository with three stages of standard Python, never run and committed."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(repository))
    for variable in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{variable}_NAME", "Tester")
        monkeypatch.setenv(f"GIT_{variable}_EMAIL", "tester@example.org")
    return Path(shutil.copytree(tiny_template, tmp_path / "repository"))


@pytest.fixture
def remote(tiny_repository: Path, tmp_path: Path) -> Path:
    """A bare repository that `tiny_repository` has as `origin`, with its branch main."""
    folder = tmp_path / "remote.git"
    run(["git", "init", "-q", "--bare", "-b", "main", str(folder)], tmp_path)
    run(["git", "remote", "add", "origin", str(folder)], tiny_repository)
    run(["git", "push", "-q", "origin", "main"], tiny_repository)
    return folder


@pytest.fixture
def postgresql() -> Iterator[Postgresql]:
    """A new PostgreSQL server."""
    with running_postgresql() as server:
        yield server

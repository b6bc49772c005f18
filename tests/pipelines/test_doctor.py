"""The machine's doctor: what is missing, and what to do about it."""

import json
import socket
from pathlib import Path

import pytest

from pipelines.doctor import examine
from pipelines.paths import Paths


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    (tmp_path / "params.yaml").write_text((repository / "params.yaml").read_text())
    (tmp_path / "sources").mkdir()
    return tmp_path


def finding(root: Path, subject: str):
    (found,) = (one for one in examine(Paths(root, root)) if one.subject == subject)
    return found


def put_source(root: Path, repository: Path, address: str) -> None:
    content = json.loads((repository / "sources/coco.json").read_text())
    content["dataset"] = "embedded"
    for file in content["get"]["files"]:
        file["urls"] = [f"{address}/{file['name']}"]
    (root / "sources/embedded.json").write_text(json.dumps(content))


def test_other_versions_than_the_locked_are_named(root: Path) -> None:
    (root / "requirements.lock").write_text("# made\nnumpy==0.1\nnot-there==1 ; os_name == 'x'\n")
    found = finding(root, "versions")
    assert found.state == "problem"
    assert "1 differ from requirements.lock: numpy" in found.words
    assert "locked 0.1" in found.words


def test_a_server_that_is_silent_is_named_with_the_place_for_its_files(
    root: Path, repository: Path
) -> None:
    put_source(root, repository, "http://127.0.0.1:9")
    found = finding(root, "network")
    assert found.state == "problem"
    assert "no answer from 127.0.0.1" in found.words
    assert str(root / "runs/downloads/embedded") in found.words
    (root / "data/raw/embedded").mkdir(parents=True)
    assert finding(root, "network").state == "ok"


def test_a_server_that_answers_is_enough(root: Path, repository: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        put_source(root, repository, f"http://127.0.0.1:{server.getsockname()[1]}")
        assert finding(root, "network").state == "ok"


def test_a_store_that_is_away_is_a_problem(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = next(one for one in examine(Paths(root, root)) if "127.0.0.1:9" in one.words)
    assert (found.subject, found.state) == ("mlflow store", "problem")

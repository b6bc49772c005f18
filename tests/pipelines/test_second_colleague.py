"""docs/retraining.md, "A second colleague": two homes, a shared remote, the same champion."""

import re
from pathlib import Path

import pytest

from pipelines.paths import Paths
from pipelines.tour.copies import Copies, Copy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]
CHAMPION = """python -c "
from mlflow import MlflowClient
version = MlflowClient('sqlite:///mlflow.db').get_model_version_by_alias('rtmo', 'champion')
print(version.tags['content_hash'], version.tags['verdict'], version.tags['git.commit'])
" """


def commands(repository: Path) -> tuple[list[str], list[str]]:
    """Of the page: what is typed here, and there."""
    text = (repository / "docs/retraining.md").read_text().partition("## A second colleague")[2]
    here, there = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return here.splitlines(), there.splitlines()


def test_a_clone_has_the_same_champion_and_nothing_to_do(repository: Path, tmp_path: Path) -> None:
    copies = Copies(Paths(repository, repository), tmp_path)
    typed_here, typed_there = commands(repository)
    here = copies.tiny("here")
    here.run(f"git init -q --bare -b main {tmp_path / 'remote.git'}")
    here.run(f"git remote add origin {tmp_path / 'remote.git'}")
    here.run("dvc repro")
    for command in typed_here:
        here.run(command.replace("s3://bucket/rtmo", str(tmp_path / "store")))

    clone, enter, install, *rest = typed_there
    assert (enter, install) == ("cd rtmo", "make test")
    home = tmp_path / "another home"
    home.mkdir()
    elsewhere = {
        "HOME": str(home),
        "DVC_SITE_CACHE_DIR": str(home / "dvc"),
        "FIFTYONE_DATABASE_DIR": str(home / "fiftyone"),
    }
    here.run(f"cd '{home}' && " + clone.replace("ADDRESS", str(tmp_path / "remote.git")))
    there = Copy(home / "rtmo", copies.environment | elsewhere, [])
    said = [there.run(command) for command in rest]
    assert "restored alias champion" in " ".join(said[-2].split())
    assert "Data and pipelines are up to date" in said[-1]
    assert there.run(CHAMPION) == here.run(CHAMPION)
    assert there.run("git status --porcelain") == ""

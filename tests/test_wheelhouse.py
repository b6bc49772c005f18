"""`make wheelhouse`: what it gathers installs where there is no index."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.network]

PACKAGES = ("annotated-doc", "markdown-it-py", "mdurl", "typing_extensions")
"""Small ones, of which one needs another."""


def test_an_environment_is_made_of_the_wheels_alone(repository: Path, tmp_path: Path) -> None:
    locked = (repository / "requirements.lock").read_text().splitlines()
    chosen = [line for line in locked if line.split("==")[0].lower() in PACKAGES]
    assert len(chosen) == len(PACKAGES)
    (tmp_path / "lock").write_text("\n".join(chosen))
    house = tmp_path / "house"
    said = run(repository / "tools/wheelhouse", house, tmp_path / "lock", PYTHON=sys.executable)
    assert f"{len(PACKAGES)} wheels" in said
    assert sorted(path.suffix for path in house.iterdir()) == ["", "", ".lock", *[".whl"] * 4]
    run("sha256sum", "-c", "--quiet", "SHA256SUMS", cwd=house)

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv/bin/python"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(house), "PIP_CONFIG_FILE": os.devnull}
    run(python, "-m", "pip", "install", "-q", "-r", house / "requirements.lock", **offline)
    assert run(python, "-c", "import markdown_it; print(markdown_it.__name__)") == "markdown_it\n"
    with pytest.raises(AssertionError, match="No matching distribution"):
        run(python, "-m", "pip", "install", "-q", "idna", **offline)


def run(*command: object, cwd: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

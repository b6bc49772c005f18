"""The frame of `make tour`: verdicts, copies that lead nowhere else, a checkout left as found."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.paths import Paths
from pipelines.tour.__main__ import STEPS, differences, main, snapshot
from pipelines.tour.copies import Copies
from pipelines.tour.models import error_report_opens
from pipelines.tour.steps import NotHereError, PromiseError, Step, require, walk


@pytest.fixture
def copies(repository: Path, tmp_path: Path) -> Copies:
    return Copies(Paths(repository, repository), tmp_path)


def test_every_step_is_taken_whatever_became_of_the_ones_before(copies: Copies) -> None:
    copy = copies.sources("copy")

    def fails(_: Copies) -> str:
        copy.run("true")
        require([], "nothing was found")
        return "unreachable"

    def breaks(_: Copies) -> str:
        return copy.run("echo first; echo no such thing >&2; exit 3")

    def is_not_here(_: Copies) -> str:
        raise NotHereError("no GPU")

    def passes(_: Copies) -> str:
        return copy.refused("echo refused; false").strip()

    shows = (fails, breaks, is_not_here, passes)
    seen = walk([Step(show.__name__, show) for show in shows], copies, lambda _: None)
    assert [(one.verdict, one.words) for one in seen] == [
        ("FAIL", "nothing was found"),
        (
            "FAIL",
            "CommandError: `echo first; echo no such thing >&2; exit 3` ended with 3: "
            "first | no such thing",
        ),
        ("unavailable", "no GPU"),
        ("pass", "refused"),
    ]
    assert [one.commands for one in seen] == [
        ("true",),
        ("echo first; echo no such thing >&2; exit 3",),
        (),
        ("echo refused; false",),
    ]


def test_a_copy_runs_its_own_code_and_reaches_nobodys_stores(
    copies: Copies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://store.example.org")
    monkeypatch.setenv("RTMO_WEBHOOK", "https://chat.example.org")
    copy = copies.sources("copy")
    said = copy.run('python -c "import pipelines, rtmo; print(pipelines.__file__, rtmo.__file__)"')
    assert all(Path(file).is_relative_to(copy.folder) for file in said.split())
    assert "example.org" not in copy.run("env")
    assert copy.run("git remote; dvc remote list") == ""
    assert copy.run("git status --porcelain") == ""


def test_what_a_tour_changes_in_the_checkout_is_noticed(tmp_path: Path) -> None:
    for name in ("kept.txt", "changed.txt", "removed.txt", ".git/index", "rtmo/__pycache__/a.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    before = snapshot(tmp_path)
    assert set(before) == {"kept.txt", "changed.txt", "removed.txt"}
    (tmp_path / "changed.txt").write_text("after!")
    os.utime(tmp_path / "changed.txt", ns=(0, before["changed.txt"][1] + 1))
    (tmp_path / "removed.txt").unlink()
    (tmp_path / "made.txt").touch()
    (tmp_path / ".git/index").write_text("git was here")
    assert differences(before, snapshot(tmp_path)) == ["changed.txt", "made.txt", "removed.txt"]


def test_without_a_finished_repro_there_is_nothing_to_tour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "dvc.lock").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tour"])
    assert main() == 2
    said = capsys.readouterr().out
    assert "models/export/rtmo.onnx" in said
    assert "dvc.lock" not in said
    assert "`make repro`" in said


PAGE = '<html><body><img src="data:image/png;base64,AA=="><a href="https://x.org">x</a>{}</body>{}'


@pytest.mark.parametrize(
    ("body", "end", "complaint"),
    [
        ("", "</html>", None),
        ('<script src="https://cdn.example.org/x.js"></script>', "</html>", "asks for https://cdn"),
        ("<table>", "</html>", "never closed"),
        ("", "", "never closed: html"),
    ],
)
def test_an_error_report_that_needs_a_server_or_is_cut_off_is_seen(
    body: str, end: str, complaint: str | None, tmp_path: Path
) -> None:
    checkout = Paths(tmp_path, tmp_path)
    report = checkout.report("inspect") / "report.html"
    report.parent.mkdir(parents=True)
    report.write_text(PAGE.format(body, end))
    if complaint is None:
        assert "1 pictures inside" in error_report_opens(Copies(checkout, tmp_path))
    else:
        with pytest.raises(PromiseError, match=complaint):
            error_report_opens(Copies(checkout, tmp_path))


ALONE = ("unshare", "--net", "--map-root-user", "sh", "-c")


def without_network() -> tuple[str, str]:
    """What goes before a command to take the network from it, and why that cannot be had here."""
    if shutil.which("unshare") is None:
        return "", "needs unshare of util-linux"
    up = "ip link set lo up"
    tried = subprocess.run([*ALONE, up], capture_output=True, text=True, check=False)
    if tried.returncode:
        return "", f"no network namespace for users here: {tried.stderr.strip()}"
    return f"{shlex.join(ALONE)} '{up} && exec \"$@\"' tour ", ""


SOME_STEPS = """
import socket, tempfile
from pathlib import Path
from pipelines.paths import checkout
from pipelines.tour.__main__ import tell
from pipelines.tour.copies import Copies
from pipelines.tour.models import parity_tests_see_a_changed_constant as parity
from pipelines.tour.steps import Step, walk
from pipelines.tour.training import doctor_finds_exchanged_labels as doctor

try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except OSError as error:
    print(error.strerror)
with tempfile.TemporaryDirectory() as folder:
    walk((Step("doctor", doctor), Step("parity", parity)), Copies(checkout(), Path(folder)), tell)
"""


def test_steps_need_no_network(copies: Copies) -> None:
    alone, obstacle = without_network()
    if obstacle:
        pytest.skip(obstacle)
    checkout = copies.tiny("checkout")
    checkout.run("dvc repro convert")
    said = checkout.run(f"{alone} python -c {shlex.quote(SOME_STEPS)}")
    assert said.startswith("Network is unreachable\npass        doctor")
    assert "\npass        parity" in said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_tour_on_a_tiny_pipeline(copies: Copies) -> None:
    alone, _ = without_network()
    checkout = copies.tiny("checkout")
    checkout.run("dvc repro")
    said = checkout.run(f"{alone} python -m pipelines.tour || true")
    assert "FAIL" not in said.replace("0 FAIL", ""), said
    assert "The checkout is as it was found" in said
    assert [step.promise for step in STEPS if step.promise not in said] == []

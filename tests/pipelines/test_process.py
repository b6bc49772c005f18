"""Real processes, really killed: nothing of a supervised command outlives its caller."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines import process

SUPERVISOR = [sys.executable, str(Path(process.__file__))]
DVC_REPRO = [sys.executable, "-m", "dvc", "repro", "-q"]

STAGE = """
import os, pathlib, subprocess, sys, time
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path("pids.unfinished").write_text(f"{os.getpid()} {helper.pid}")
pathlib.Path("pids.unfinished").rename("pids")
time.sleep(600)
"""
"""A training with one helper process, like a data loader's worker."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "stage.py").write_text(STAGE)
    yield tmp_path
    for pid in stage_pids(tmp_path, wait_s=0):  # a failed test must not leave them either
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)


def stage_pids(folder: Path, wait_s: float = 20) -> list[int]:
    deadline = time.monotonic() + wait_s
    while not (folder / "pids").exists():
        if time.monotonic() > deadline:
            return []
        time.sleep(0.02)
    return [int(pid) for pid in (folder / "pids").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def all_end(pids: list[int], within_s: float = 15) -> bool:
    deadline = time.monotonic() + within_s
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, cwd=folder, start_new_session=True)


def start_dvc(folder: Path) -> subprocess.Popen[bytes]:
    """`dvc repro` of one stage that is supervised as ours are."""
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, cwd=folder, check=True)
    stage = " ".join(["exec", *SUPERVISOR, sys.executable, "stage.py"])
    (folder / "dvc.yaml").write_text(f"stages:\n  train:\n    cmd: {stage}\n")
    return start(DVC_REPRO, folder)


@pytest.mark.parametrize("status", [0, 3])
def test_the_exit_status_passes_through(status: int, tmp_path: Path) -> None:
    done = start([*SUPERVISOR, sys.executable, "-c", f"raise SystemExit({status})"], tmp_path)
    assert done.wait(20) == status


def test_a_command_ended_by_a_signal_is_reported_as_shells_do(tmp_path: Path) -> None:
    done = start([*SUPERVISOR, "sh", "-c", "kill -KILL $$"], tmp_path)
    assert done.wait(20) == 128 + signal.SIGKILL


def test_without_a_command_the_usage_is_shown(tmp_path: Path) -> None:
    assert start([*SUPERVISOR, "--caller", "1"], tmp_path).wait(20) == os.EX_USAGE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_supervisor_ends_the_command_and_its_helpers(
    number: signal.Signals, folder: Path
) -> None:
    supervisor = start([*SUPERVISOR, sys.executable, "stage.py"], folder)
    pids = stage_pids(folder)
    supervisor.send_signal(number)
    assert len(pids) == 2
    assert all_end(pids)
    assert supervisor.wait(20) != 0


def test_a_command_that_ignores_the_signal_is_killed_after_the_grace_period(folder: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(process.__file__).parent)!r})
from process import supervise
sys.exit(supervise(["sh", "-c", "trap '' TERM; echo $$ > pids; while :; do sleep 0.1; done"],
                   caller=os.getppid(), grace_s=0.5))
"""
    supervisor = start([sys.executable, "-c", code], folder)
    pids = stage_pids(folder)
    supervisor.terminate()
    assert all_end(pids, within_s=5)
    assert supervisor.wait(20) == 128 + signal.SIGKILL


def test_a_command_whose_time_is_up_is_ended_with_its_helpers(folder: Path) -> None:
    caller_code = f"""
import subprocess, sys
sys.path.insert(0, {str(Path(process.__file__).parent)!r})
from process import bound_to_this_process
done = subprocess.run(bound_to_this_process([sys.executable, "stage.py"], limit_s=2.0))
sys.exit(done.returncode)
"""
    assert start([sys.executable, "-c", caller_code], folder).wait(30) == process.TIMED_OUT
    pids = stage_pids(folder, wait_s=0)
    assert len(pids) == 2
    assert all_end(pids)


def test_helpers_left_behind_by_a_finished_command_are_ended(folder: Path) -> None:
    supervisor = start([*SUPERVISOR, "sh", "-c", "sleep 600 & echo $! > pids"], folder)
    assert supervisor.wait(20) == 0
    assert all_end(stage_pids(folder))


def test_a_killed_supervisor_takes_the_command_with_it(folder: Path) -> None:
    supervisor = start([*SUPERVISOR, sys.executable, "stage.py"], folder)
    stage, _helper = stage_pids(folder)
    supervisor.kill()
    supervisor.wait()
    assert all_end([stage])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_nothing_outlives_dvc(
    number: signal.Signals, shell: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path(shell).exists():
        pytest.skip(f"needs {shell}")
    monkeypatch.setenv("SHELL", shell)
    dvc = start_dvc(folder)
    pids = stage_pids(folder)
    assert len(pids) == 2
    dvc.send_signal(number)
    dvc.wait(20)
    assert all_end(pids)


def test_nothing_outlives_the_caller_of_dvc(folder: Path) -> None:
    caller_code = f"""
import subprocess, sys
sys.path.insert(0, {str(Path(process.__file__).parent)!r})
from process import bound_to_this_process
subprocess.run(bound_to_this_process({DVC_REPRO}))
"""
    start_dvc(folder).kill()  # makes the repository
    for pid in stage_pids(folder, wait_s=3):
        assert all_end([pid])
    (folder / "pids").unlink(missing_ok=True)
    caller = start([sys.executable, "-c", caller_code], folder)
    pids = stage_pids(folder)
    assert len(pids) == 2
    caller.kill()
    caller.wait()
    assert all_end(pids)

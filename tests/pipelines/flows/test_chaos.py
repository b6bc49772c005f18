"""Each component killed at each stage: nothing of ours is left, and the next run continues.

`make chaos` runs all of it; the default suite kills the flow itself.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL

from pipelines import dvc_graph, dvc_repro
from pipelines.flows.killed import settle

WAITS = """
import os, pathlib, subprocess, sys, time
if pathlib.Path("chaos").exists():
    helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    pathlib.Path("begun.unfinished").write_text(str(os.getpid()))
    pathlib.Path("begun.unfinished").rename("begun")
    time.sleep(600)
"""
"""What a stage does first while there is a file `chaos`: as a training with one data loader."""
FLOW = "from pipelines.flows.pipeline import pipeline; pipeline(target='sum')"
VICTIMS = {
    "flow": "-c from pipelines.flows.pipeline",
    "supervisor of dvc": "process.py --caller",
    "dvc": "-m dvc repro",
    "supervisor of the stage": "-m pipelines.process python",
    "stage": "python {script}",
}
"""Component -> a part of its command line that the components around it do not begin with."""


@pytest.fixture
def at_work(tiny_repository: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> Path:
    """The tiny repository with supervised stages that wait to be killed."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    text = (tiny_repository / "dvc.yaml").read_text()
    for script in ("draw.py", "sum.py"):
        code = (tiny_repository / script).read_text()
        (tiny_repository / script).write_text(WAITS + code)
        supervised = f"exec python -m pipelines.process python {script}"
        text = text.replace(f"exec python {script}", supervised)
    (tiny_repository / "dvc.yaml").write_text(text)
    return tiny_repository


@pytest.fixture
def flow(at_work: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts the flow in a process of its own; what a failed test leaves is ended."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", FLOW], cwd=at_work, env=environment, start_new_session=True
            )
        )
        return started[-1]

    yield start
    for process in (*those_in(at_work), *started):
        process.kill()


def those_in(folder: Path) -> list[psutil.Process]:
    """Living processes that work in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until(is_so: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def lineage_of(pid: int) -> list[psutil.Process]:
    """A process and all above it, itself first."""
    process = psutil.Process(pid)
    return [process, *process.parents()]


def kill_at(at_work: Path, flow, stage: str, victim: str, number: signal.Signals) -> None:
    """Send a signal to one component while `stage` runs, and wait until nothing is left."""
    (at_work / "chaos").touch()
    if stage == "sum":  # `draw` has to be done by then
        (at_work / "chaos").unlink()
        dvc_repro.run_stage(at_work, "draw", print)
        (at_work / "chaos").touch()
    running = flow()
    wait_until((at_work / "begun").exists, 90)
    part = VICTIMS[victim].format(script=f"{stage}.py")
    above = lineage_of(int((at_work / "begun").read_text()))
    candidates = [one for one in above if part in " ".join(one.cmdline())]
    candidates[0 if victim != "flow" else -1].send_signal(number)
    running.wait(90)
    wait_until(lambda: those_in(at_work) == [], 40)
    (at_work / "chaos").unlink()
    (at_work / "begun").unlink()


def last_state() -> str | None:
    """Of the run that began last, as the server has it."""
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
        return run.state_name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_flow_that_is_cancelled_or_killed(number, at_work: Path, flow) -> None:
    kill_at(at_work, flow, "draw", "flow", number)
    settle(print)  # TERM lets the run say so itself
    assert last_state() == "Crashed"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["draw", "sum"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_outlives_a_killed_component_and_the_next_run_continues(
    victim: str, stage: str, at_work: Path, flow
) -> None:
    kill_at(at_work, flow, stage, victim, signal.SIGKILL)
    assert "sum" in dvc_graph.stale(at_work, "sum")  # and no lock of DVC is stuck
    assert flow().wait(120) == 0
    assert dvc_graph.stale(at_work, "sum") == {}

"""Runs that a real Prefect server takes for running; some of their processes were killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.states import Cancelling, Pending, Running

from pipelines.flows.killed import PROCESS_LABEL, settle
from pipelines.tracking.liveness import this_process

MARK = """
import time
from pipelines.tracking.liveness import this_process
print(this_process(), flush=True)
time.sleep(600)
"""


@flow
def some_flow() -> None:
    """What the runs are runs of."""


@task
def some_task() -> None:
    """What one of them was at."""


@pytest.fixture
def make_run(prefect_server: None) -> Callable[..., UUID]:
    """Make an unfinished run with a mark."""

    def make(mark: str | None, state=Running) -> UUID:
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(some_flow, state=state())
            if mark is not None:
                client.update_flow_run_labels(run.id, {PROCESS_LABEL: mark})
        return run.id

    return make


@pytest.fixture(scope="module")
def mark_of_a_killed_process() -> str:
    with subprocess.Popen([sys.executable, "-c", MARK], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        mark = child.stdout.readline()
        child.kill()
    return mark


def state_of(run: UUID) -> str | None:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run).state_name


def test_only_runs_of_killed_processes_are_ended(make_run, mark_of_a_killed_process: str) -> None:
    elsewhere = json.dumps({**json.loads(mark_of_a_killed_process), "host": "another"})
    left = [make_run(mark) for mark in (this_process(), elsewhere, None)]
    crashed = make_run(mark_of_a_killed_process)
    cancelled = make_run(mark_of_a_killed_process, Cancelling)
    lines: list[str] = []
    assert settle(lines.append) == len(lines) == 2
    assert [state_of(run) for run in left] == ["Running"] * 3
    assert (state_of(crashed), state_of(cancelled)) == ("Crashed", "Cancelled")
    assert settle(lines.append) == 0


def test_a_run_that_never_began_is_ended_when_no_start_takes_as_long(make_run) -> None:
    starting, at_work = make_run(None, Pending), make_run(this_process(), Pending)
    assert settle(print) == 0
    assert settle(print, longest_start=timedelta(0)) == 1
    assert (state_of(starting), state_of(at_work)) == ("Crashed", "Pending")


def test_its_tasks_end_with_it(make_run, mark_of_a_killed_process: str) -> None:
    run = make_run(mark_of_a_killed_process)
    with get_client(sync_client=True) as client:
        made = client.create_task_run(some_task, run, dynamic_key="0", state=Running())
        settle(print)
        assert client.read_task_run(made.id).state_name == "Crashed"

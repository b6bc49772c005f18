"""Runs whose process was killed: nobody was left to say so, and the next one does.

    python -m pipelines.flows.killed      # what `rtmo-pipeline services start` does

Prefect's own means is an automation that calls a run crashed when its heartbeats stop. It would
also call a living one so, whose server was away or whose machine slept, and would free what it
holds. So each run is labelled with its process, and it is crashed when that process is gone. Who is
on another host is left to that host. A run that a worker submitted and that was killed before its
first line has no label yet; it is crashed when it has been Pending for longer than any start takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runtime import flow_run as this_run
from prefect.states import Cancelled, Crashed

from pipelines.notify import notify
from pipelines.tracking.liveness import is_gone, this_process

PROCESS_LABEL = "rtmo.process"
UNFINISHED = (StateType.PENDING, StateType.RUNNING, StateType.CANCELLING)
LONGEST_START = timedelta(minutes=15)
"""From the submission of a run to its first line; a flow's process imports for seconds."""
PAGE = 200
"""The most that the server gives at once."""


def begin() -> None:
    """What a flow does first: say which process it is, and settle runs that nobody ended."""
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(this_run.id, {PROCESS_LABEL: this_process()})
    settle(get_run_logger().info)


def settle(log: Callable[[str], None], longest_start: timedelta = LONGEST_START) -> int:
    """End every unfinished run that was killed, with its tasks.

    That is one whose process on this host is gone, and one without a process that was submitted
    more than `longest_start` ago. Hooks of the run are not called, its process would have; of a
    deployed one people are told here.

    Returns:
        How many there were.
    """
    with get_client(sync_client=True) as client:
        killed = [run for run in _unfinished(client) if _is_killed(run, longest_start)]
        for run in killed:
            _end(client, run)
            words = f"run {run.name} was killed; the next one continues"
            if run.deployment_id is None:
                log(words)
            else:
                notify(words, log)
    return len(killed)


def _is_killed(run: FlowRun, longest_start: timedelta) -> bool:
    mark = _process_of(run)
    if mark is not None or run.state is None or run.state.type != StateType.PENDING:
        return is_gone(mark)
    return datetime.now(UTC) - run.state.timestamp > longest_start


def _process_of(run: FlowRun) -> str | None:
    mark = run.labels.get(PROCESS_LABEL)
    return None if mark is None else str(mark)


def _unfinished(client: SyncPrefectClient) -> Iterator[FlowRun]:
    wanted = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=list(UNFINISHED)))
    )
    offset = 0
    while page := client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=offset):
        yield from page
        offset += len(page)


def _end(client: SyncPrefectClient, run: FlowRun) -> None:
    """`force`, as nobody is there whom the server's rules could ask; slots are given back."""
    words = "its process was killed; the next run continues"
    ending: State[None] = Crashed(message=words)
    if run.state_type == StateType.CANCELLING:
        ending = Cancelled(message=words)
    tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])))
    for task in tasks:
        if task.state is not None and not task.state.is_final():
            client.set_task_run_state(task.id, Crashed(message=words), force=True)
    client.set_flow_run_state(run.id, ending, force=True)


if __name__ == "__main__":
    settle(print)

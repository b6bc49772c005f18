"""The pipeline as a command runs it, on the Prefect server that is set, a running or an own one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.paths import Paths
from pipelines.services.control import running_prefect
from pipelines.services.temporary import temporary_server

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from pipelines.flows.pipeline import PipelineReport

RECORD_PATIENCE_S = 5.0
"""A server writes task runs about a second later than they happen."""
POLL_S = 0.1


def run_pipeline(paths: Paths, target: str) -> PipelineReport:
    """Bring `target` and all it needs up to date.

    Raises:
        ServiceError: if the temporary server does not start.
        UnknownStageError, StageFailedError, StoreUnavailableError: see `pipeline`.
    """
    address = PREFECT_API_URL.value() or running_prefect(paths)
    if address is None:
        return _run_with_temporary_server(paths, target)
    from pipelines.flows.pipeline import pipeline

    with temporary_settings({PREFECT_API_URL: address}):
        return pipeline(target)


def _run_with_temporary_server(paths: Paths, target: str) -> PipelineReport:
    with temporary_server(paths) as server:
        from pipelines.flows.pipeline import pipeline  # seconds, in which the server starts

        server.wait_until_well()
        with temporary_settings({PREFECT_API_URL: server.address}):
            state: State[Any] = pipeline(target, return_state=True)
            _wait_until_recorded(state, target)
            _send_the_rest()
            report: PipelineReport = state.result()
            return report


def _send_the_rest() -> None:
    """Let Prefect's background senders finish while the server is there.

    Left to the end of the process, they would try to reach the ended server for a minute.
    """
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for sender in (APILogWorker, EventsWorker):
        sender.drain_all(timeout=RECORD_PATIENCE_S)


def _wait_until_recorded(state: State[Any], target: str) -> None:
    """Leave the server the time to write the last task runs, which it loses if it ends before.

    They are all there when none is unfinished and, of a run that went well, there are as many as
    it had tasks, or, of one that failed, the failed task is among them.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    from pipelines.flows.pipeline import RELEASE_STAGE

    flow_run = state.state_details.flow_run_id
    assert isinstance(flow_run, UUID)
    expected = None
    if state.is_completed():
        expected = len(state.result().stages) + (target == RELEASE_STAGE)
    deadline = time.monotonic() + RECORD_PATIENCE_S
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
            )
            endings = [run.state for run in runs if run.state is not None and run.state.is_final()]
            is_whole = (
                any(not ending.is_completed() for ending in endings)
                if expected is None
                else len(endings) == expected
            )
            if is_whole and len(endings) == len(runs):
                return
            time.sleep(POLL_S)

"""The flow that walks DVC's graph: one task per stage, in the order DVC would run them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from pipelines import dvc_graph, dvc_repro
from pipelines.dvc_command import NO_VARIABLES
from pipelines.dvc_repro import StageFailedError, StageOutcome
from pipelines.flows import killed
from pipelines.flows.devices import device_slot
from pipelines.flows.pages import show
from pipelines.paths import Paths, repository_paths
from pipelines.stage_run import TEMPORARY_FAULT
from pipelines.sync import sync

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun


RELEASE_STAGE = "register"


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """What a run of the flow came to."""

    stages: tuple[StageOutcome, ...]
    """In the order they were walked; after a failed one there are no more."""

    @property
    def ran(self) -> tuple[str, ...]:
        """Stages that DVC ran."""
        return tuple(outcome.stage for outcome in self.stages if outcome.state == "ran")


def is_temporary_fault(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: the stage itself said so. A NaN or a bad file never does."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailedError) and error.status == TEMPORARY_FAULT


@task(
    task_run_name="{stage}",
    retries=2,
    retry_delay_seconds=[30, 300],
    retry_condition_fn=is_temporary_fault,
    cache_policy=NO_CACHE,  # DVC is the only cache
)
def run_stage(root: Path, stage: str, environment: Mapping[str, str]) -> StageOutcome:
    """Bring one stage up to date; DVC decides whether there is anything to do.

    A stage that needs a device waits for one that no other run holds.
    """
    log = get_run_logger().info
    if dvc_graph.stage_needs(root, stage).device is None or dvc_graph.is_fresh(root, stage):
        return dvc_repro.run_stage(root, stage, log, environment)
    with device_slot(log) as device:
        return dvc_repro.run_stage(root, stage, log, {**environment, **device})


@task(cache_policy=NO_CACHE)
def sync_store(paths: Paths) -> None:
    """Restore what a new or wiped MLflow store lacks: DVC cannot see that it is missing."""
    report = sync(paths)
    for line in (*(f"restored {what}" for what in report.restored), *report.remarks):
        get_run_logger().info(line)


@flow(name="pipeline", flow_run_name="{target}")
def pipeline(target: str = RELEASE_STAGE) -> PipelineReport:
    """Bring `target` and all it needs up to date, in the repository at the working directory.

    Raises:
        UnknownStageError: if there is no such stage.
        StageFailedError: if a stage fails; what came before it stays, what needs it is not run.
        StoreUnavailableError: if the MLflow store cannot be brought up to date.
    """
    killed.begin()
    paths = repository_paths()
    report = walk(paths, target, NO_VARIABLES)
    if target == RELEASE_STAGE:
        sync_store(paths)
    return report


def walk(paths: Paths, target: str, environment: Mapping[str, str]) -> PipelineReport:
    """Run the stages up to `target` in order, each with `environment`; see `pipeline`."""
    outcomes: list[StageOutcome] = []
    for stage in dvc_graph.order(paths.root, target):
        started = time.monotonic()
        state = run_stage(paths.root, stage, environment, return_state=True)
        if not state.is_completed():
            outcomes.append(StageOutcome(stage, "failed", time.monotonic() - started))
            show(paths, outcomes)
        outcomes.append(state.result())  # raises what the stage raised
    show(paths, outcomes)
    return PipelineReport(tuple(outcomes))

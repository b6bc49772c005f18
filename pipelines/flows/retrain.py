"""The scheduled flow: if anything has changed, run the pipeline, push its `dvc.lock`, promote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow, get_run_logger
from prefect.logging.loggers import flow_run_logger

from pipelines import delivery, dvc_data, dvc_graph
from pipelines.delivery import AlreadyAtWorkError
from pipelines.flows import killed
from pipelines.flows.pipeline import RELEASE_STAGE, sync_store, walk
from pipelines.notify import notify
from pipelines.paths import Paths, repository_paths
from pipelines.retraining import finish_earlier, publish

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State


@dataclass(frozen=True, slots=True)
class RetrainReport:
    """What a scheduled run came to."""

    outcome: Literal["nothing to do", "already at work", "delivered"]
    words: str
    """As people were told."""
    ran: tuple[str, ...] = ()
    """Stages that DVC ran."""


def tell(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Notify of a run that failed, crashed or was cancelled."""
    ending = f"{state.name}: {state.message}" if state.message else str(state.name)
    notify(f"retrain {ending}", flow_run_logger(flow_run, flow).error)


@flow(name="retrain", on_failure=[tell], on_crashed=[tell], on_cancellation=[tell])
def retrain(
    target: str = RELEASE_STAGE, remote: str = "origin", branch: str = "main"
) -> RetrainReport:
    """Bring the models of a branch up to date, in a worktree, without touching the checkout.

    Args:
        target: the last stage to bring up to date.
        remote: git remote to work from and to deliver to.
        branch: whose sources, params and code are wanted.

    Raises:
        GitError: if the remote cannot be read or will not take the results.
        DataTransferError: if data cannot be had from, or sent to, the DVC remote.
        StageFailedError: if a stage fails; nothing is pushed.
        NotDeliveredError: if `branch` moved meanwhile or the push failed; nothing is promoted.
        ReleaseError: if somebody else promoted meanwhile.
    """
    killed.begin()
    checkout = repository_paths()
    try:
        with delivery.only_one(checkout):
            return bring_up_to_date(checkout, target, remote, branch)
    except AlreadyAtWorkError as busy:
        get_run_logger().warning("not started: %s", busy)
        return RetrainReport("already at work", str(busy))


def bring_up_to_date(checkout: Paths, target: str, remote: str, branch: str) -> RetrainReport:
    """What `retrain` does while no other run is at work here."""
    log = get_run_logger()
    finished = finish_earlier(checkout)
    if finished:
        notify(f"retrain: {finished}", log.info)
    start = delivery.find_start(checkout.root, remote, branch)
    tree = delivery.make_worktree(checkout, start.commit)
    dvc_data.restore_data(tree, log.info)
    stale = dvc_graph.changed_sources(tree, target)
    if not stale:
        awaiting = f"; {start.awaiting_merge} awaits its merge" if start.awaiting_merge else ""
        words = f"nothing to do: {target} is up to date at {start.commit[:8]}{awaiting}"
        log.info(words)
        if target == RELEASE_STAGE:
            sync_store(checkout)
        return RetrainReport("nothing to do", words)
    for stage, reasons in stale.items():
        log.info("%s: %s", stage, "; ".join(reasons))
    new_branch = start.new_branch()
    delivery.require_deliverable(tree, start, new_branch)
    # As DVC has it for experiments outside the workspace: local state stays with the checkout, and
    # `register` judges but moves no alias.
    environment = {"DVC_ROOT": str(checkout.state_root), "DVC_EXP_NAME": new_branch}
    report = walk(Paths(tree, checkout.state_root), target, environment)
    done = publish(checkout, tree, start, new_branch, log.info)
    words = f"retrain: ran {', '.join(report.ran)}; {done}"
    notify(words, log.info)
    return RetrainReport("delivered", words, report.ran)

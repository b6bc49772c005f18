"""The scheduled flow: run the pipeline if anything it is made from has changed."""

from __future__ import annotations

from prefect import flow, get_run_logger

from pipelines import dvc_graph
from pipelines.dvc_graph import BusyError
from pipelines.flows.pipeline import RELEASE_STAGE, PipelineReport, pipeline, sync_store
from pipelines.paths import repository_paths


@flow(name="retrain")
def retrain(target: str = RELEASE_STAGE) -> PipelineReport:
    """Ask DVC what is stale (code, data, params); nothing: end without touching a GPU.

    A checkout in which DVC is at work is left alone: the run before this one has not ended.

    Raises:
        StageFailedError: see `pipeline`.
    """
    log = get_run_logger()
    try:
        stale = dvc_graph.stale(repository_paths().root, target)
    except BusyError as busy:
        log.warning("not started: %s", busy)
        return PipelineReport(())
    if not stale:
        log.info("nothing to do: %s is up to date", target)
        if target == RELEASE_STAGE:
            sync_store()
        return PipelineReport(())
    for stage, reasons in stale.items():
        log.info("%s: %s", stage, "; ".join(reasons))
    report = pipeline(target)
    log.info("ran %s", ", ".join(report.ran) or "nothing")
    return report

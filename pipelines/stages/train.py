"""DVC stage `train`: converted stores -> weights, model card, curves and a picture of a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import typer

from pipelines.dvc_graph import data_digest
from pipelines.lineage import lineage
from pipelines.params import MergedSet, load_params
from pipelines.paths import MERGED, repository_paths
from pipelines.stage_run import StageRun, stage_run
from pipelines.tracking import open_tracking
from pipelines.worded_errors import without_traceback
from rtmo.data.mixture import MergedStore
from rtmo.run.initial_weights import initial_weights
from rtmo.run.outputs import timing, write_json
from rtmo.run.recipe import Recipe, TrainingData
from rtmo.run.train import EXIT_INTERRUPTED, Surroundings, follow, stop_on_sigterm, train
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.checkpoint_store import CheckpointStore
from rtmo.training.loop import TrainingInterrupted
from rtmo.training.ranks import is_first, is_rank, start_ranks

MODULE = "pipelines.stages.train"
"""This file, for torchrun."""

log = logging.getLogger(__name__)


def training_data(processed: Path, merge: Sequence[MergedSet]) -> TrainingData:
    """The stores that `convert` wrote.

    Raises:
        StoreError: if one of them is missing or damaged.
    """
    merged = tuple(
        MergedStore(
            Store.open(processed / MERGED / other.dataset), other.sampling_factor, other.until_epoch
        )
        for other in merge
    )
    return TrainingData(Store.open(processed / "train"), Store.open(processed / "val"), merged)


def run_stage(run: StageRun, should_stop: Callable[[], bool]) -> None:
    """Train as `params.yaml` says, tracked in MLflow, and publish the outputs."""
    params, paths = run.params, run.paths
    initial = initial_weights(params.train, paths.root)
    recipe = Recipe(params.model, params.augment, params.train, run.hash, initial)
    data = training_data(paths.processed(params.data.dataset), params.data.merge)
    if not is_first():
        follow(data, recipe, should_stop)
        return
    settings = params.model_dump(mode="json", include={"data", "model", "augment", "train"})
    tags = lineage(paths.root) | {
        "dataset": params.data.dataset,
        "data_digest": data_digest(paths.root) or "unknown",
    }
    states = paths.runs / "checkpoints"
    former = None if params.train.resume_from is None else states / params.train.resume_from
    url = params.train.checkpoint_store
    store = None if url is None else CheckpointStore(url)
    with open_checkpoints(states / run.hash, former, store) as checkpoints:
        with (
            open_tracking(paths).training_run(run.hash, settings, tags) as reporter,
            run.publish(paths.trained) as out,
        ):
            surroundings = Surroundings(checkpoints, (reporter,), should_stop)
            result = train(data, out, recipe, surroundings)
        with run.publish(paths.report("train")) as reports:
            write_json(reports / "timing.json", timing(result))
        checkpoints.clear()


def main() -> None:
    """Command line; `dvc.yaml` or torchrun is its caller."""
    processes = load_params(repository_paths().root).train.processes
    if processes > 1 and not is_rank():
        raise SystemExit(start_ranks(MODULE, processes, interrupted=EXIT_INTERRUPTED))
    try:
        with stage_run("train") as run, stop_on_sigterm() as should_stop:
            run_stage(run, should_stop)
    except TrainingInterrupted as reason:
        log.warning("%s: run the stage again", reason)
        raise SystemExit(EXIT_INTERRUPTED) from reason


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO if is_first() else logging.WARNING, format="%(message)s")
    with without_traceback():
        typer.run(main)

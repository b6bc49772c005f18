"""DVC stage `train`: converted stores -> weights, model card, curves and a picture of a batch."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
import typer

from pipelines.dvc_graph import data_digest
from pipelines.initial_weights import initial_weights
from pipelines.lineage import lineage
from pipelines.params import load_params
from pipelines.paths import MERGED, repository_paths
from pipelines.stage_run import StageRun, stage_run
from pipelines.tracking import open_tracking
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import BatchLoader
from rtmo.data.mixture import MergedStore
from rtmo.deployment.official_files import fetch_official
from rtmo.deployment.runners import TorchPredictor
from rtmo.drawing import draw_people, mosaic_grid
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.predict import predict_store
from rtmo.formats.licence import combined_licence
from rtmo.model import build_rtmo
from rtmo.model.initialisation import calm_classifier
from rtmo.model.weights import load_for_training, save_weights
from rtmo.store import Store
from rtmo.training.checkpoint import CheckpointFolder, open_checkpoints
from rtmo.training.checkpoint_store import CheckpointStore
from rtmo.training.loop import Callbacks, FitResult, TrainingInterrupted, fit
from rtmo.training.phases import phase_at
from rtmo.training.ranks import is_first, is_rank, start_ranks
from rtmo.training.reporting import ConsoleReporter, Reporter

if TYPE_CHECKING:
    from pipelines.params import MergedSet
    from rtmo.data.config import AugmentConfig
    from rtmo.data.loader import Batch
    from rtmo.model.config import ModelConfig
    from rtmo.model.rtmo import RTMO
    from rtmo.skeleton import Skeleton
    from rtmo.training.config import TrainConfig

EXIT_INTERRUPTED = 85
"""Exit status after SIGTERM: the state is saved, running the stage again continues. HTCondor's
customary code for it; distinct from errors and from a death by signal (143)."""

MODULE = "pipelines.stages.train"
"""This file, for torchrun."""

SAMPLE_IMAGES = 8
"""Training pictures in `sample_batch.png`."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines the weights, beside the data."""

    model: ModelConfig
    augment: AugmentConfig
    train: TrainConfig
    stage_hash: str
    """Written into the weights; the key of everything this training leaves behind."""
    merge: tuple[MergedSet, ...] = ()
    """Sets to train on besides."""
    initial: Mapping[str, Any] | None = None
    """The weights it starts from, for the card: file, hash, licences."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a training keeps its state and tells of itself."""

    checkpoints: CheckpointFolder
    reporters: tuple[Reporter, ...]
    should_stop: Callable[[], bool]


def train(processed: Path, out: Path, recipe: Recipe, surroundings: Surroundings) -> FitResult:
    """Train on `processed/train` and merged sets, validate on `processed/val`, write to `out`.

    The weights are the best on validation.

    Nothing in `out` depends on the machine's speed or on paths: on a CPU the same recipe and data
    give the same bytes.

    Raises:
        ValueError: see `rtmo.training.loop.fit`.
        TrainingInterrupted: asked to stop; the state is in the checkpoint folder.
    """
    dataset, stores = training_set(processed, recipe)
    validation_store = Store.open(processed / "val")
    out.mkdir(parents=True, exist_ok=True)
    # Kept with the checkpoints while training, so that reporters find it when they write.
    picture = surroundings.checkpoints.path / "sample_batch.png"
    save_sample_batch(dataset, recipe.train, picture)
    for reporter in surroundings.reporters:
        reporter.log_image("sample_batch", picture)

    total_steps = sum(
        dataset.num_samples(epoch) // recipe.train.global_batch
        for epoch in range(recipe.train.epochs)
    )
    with ConsoleReporter(total_steps) as console:
        result = fit(
            initial_model(recipe, dataset.skeleton),
            dataset,
            recipe.train,
            Callbacks(
                validate=validator(validation_store, recipe),
                reporters=(console, *surroundings.reporters),
                show_step=console.show_step,
                should_stop=surroundings.should_stop,
            ),
            surroundings.checkpoints,
            recipe.augment.multiscale,
        )
    cost = {"images_seen": result.images_seen, "device_hours": device_hours(result)}
    for reporter in surroundings.reporters:
        reporter.log_metrics(result.steps, cost)
    shutil.copy(picture, out)
    write_outputs(out, recipe, stores, result)
    return result


def follow(processed: Path, recipe: Recipe, should_stop: Callable[[], bool]) -> None:
    """Train as one of the further processes: the first one validates, reports and writes.

    Raises:
        ValueError: see `rtmo.training.loop.fit`.
        TrainingInterrupted: asked to stop; the first process saved the state.
    """
    dataset, _ = training_set(processed, recipe)
    callbacks = Callbacks(
        validate=lambda _model: {},
        reporters=(),
        show_step=lambda _figures: None,
        should_stop=should_stop,
    )
    fit(
        initial_model(recipe, dataset.skeleton),
        dataset,
        recipe.train,
        callbacks,
        None,
        recipe.augment.multiscale,
    )


def training_set(processed: Path, recipe: Recipe) -> tuple[TrainingSet, list[Store]]:
    """The training split and merged sets as the recipe augments them, and their stores in order."""
    merged = [
        MergedStore(
            Store.open(processed / MERGED / other.dataset),
            other.sampling_factor,
            other.until_epoch,
        )
        for other in recipe.merge
    ]
    store = Store.open(processed / "train")
    dataset = TrainingSet(store, recipe.model.input_size, recipe.augment, recipe.train.seed, merged)
    return dataset, [store, *(other.store for other in merged)]


def initial_model(recipe: Recipe, skeleton: Skeleton) -> RTMO:
    """The model at step 0: drawn from the seed, then `init_weights` where given.

    Those may be of other keypoints: see `load_for_training`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        model = build_rtmo(recipe.model.size, skeleton)
    if recipe.train.classifier_init == "calm":
        calm_classifier(model)
    if recipe.train.init_weights is not None:
        path = Path(recipe.train.init_weights)
        if not path.suffix:
            path = fetch_official(recipe.train.init_weights)
        log.info("%s", load_for_training(model, path))
    return model


def validator(store: Store, recipe: Recipe) -> Callable[[RTMO], Mapping[str, float]]:
    """A function that scores a model on `store` as the `evaluate` stage will (SPEC section 6)."""
    settings = EvaluateConfig()
    annotations = store.to_coco()

    def validate(model: RTMO) -> Mapping[str, float]:
        predict = TorchPredictor(
            model,
            recipe.train.device,
            input_size=recipe.model.input_size,
            score_threshold=settings.score_threshold,
            nms_iou=settings.nms_iou,
        )
        found = predict_store(predict, store, settings.batch, lambda _done, _all: None)
        report = evaluate_keypoints(
            annotations,
            found,
            skeleton=store.skeleton,
            protocol=store.meta.protocol,
            evaluator=settings.evaluator,
        )
        return report.metrics

    return validate


def save_sample_batch(dataset: TrainingSet, config: TrainConfig, path: Path) -> None:
    """Draw the first pictures of the first epoch with their targets, as the network sees them."""
    count = min(SAMPLE_IMAGES, dataset.num_samples(0))
    loader = BatchLoader(dataset, micro_batch=count, workers=0, stall_s=config.loader_stall_s)
    batch = next(loader.epoch(0, phase_at(config.phases, 0).pipeline))
    pictures = [_draw(batch, row, dataset.skeleton) for row in range(len(batch.images))]
    if not cv2.imwrite(str(path), mosaic_grid(pictures)):
        raise OSError(f"cannot write {path}")


def _draw(batch: Batch, row: int, skeleton: Skeleton) -> np.ndarray:
    targets = batch.targets
    people = targets.is_person[row]
    labelled = targets.is_labelled[row][people].numpy()
    keypoints = np.dstack([targets.keypoints_xy[row][people].numpy(), 2 * labelled])
    image = np.ascontiguousarray(batch.images[row].permute(1, 2, 0).numpy())
    boxes_xyxy = targets.boxes_xyxy[row][people].numpy()
    drawn: np.ndarray = draw_people(image, keypoints, boxes_xyxy, skeleton)
    return drawn


def write_outputs(out: Path, recipe: Recipe, stores: Sequence[Store], result: FitResult) -> None:
    """Weights, model card, curves and metrics; `stores` were trained on, the main one first."""
    store, *merged = stores
    skeleton = store.skeleton
    inherited = [] if recipe.initial is None else recipe.initial["licences"]
    save_weights(
        result.best_weights,
        out / "weights.safetensors",
        {
            "format": "rtmo",
            "size": recipe.model.size,
            "input_size": str(recipe.model.input_size),
            "skeleton": skeleton.model_dump_json(),
            "stage_hash": recipe.stage_hash,
            "dataset": "+".join(one.meta.dataset for one in stores),
            "licence": combined_licence([one.meta.licence for one in stores]).model_dump_json(),
            "licences": json.dumps(
                [*(one.meta.licence.model_dump() for one in stores), *inherited]
            ),
        },
    )
    write_curves(out / "curves.csv", result.history)
    metrics = {
        "best_AP": result.best_ap,
        "best_epoch": result.best_epoch,
        "last_AP": result.history[-1]["AP"],
        "untrained_AP": result.history[0]["AP"],
        "steps": result.steps,
        "images_seen": result.images_seen,
        "skipped_steps": result.skipped_steps,
    }
    write_json(out / "metrics.json", metrics)
    card = {
        "model": f"rtmo-{recipe.model.size}",
        "input_size": recipe.model.input_size,
        "skeleton": skeleton.name,
        "dataset": store.meta.dataset,
        "licence": store.meta.licence.model_dump(),
        "initial": recipe.initial,
        "training_images": len(store),
        "merged": [
            settings.model_dump()
            | {
                "training_images": len(one),
                "unannotated": one.meta.unannotated,
                "licence": one.meta.licence.model_dump(),
            }
            for settings, one in zip(recipe.merge, merged, strict=True)
        ],
        "stage_hash": recipe.stage_hash,
        "seed": recipe.train.seed,
        "weights": f"moving average after epoch {result.best_epoch}, the best on validation",
        "validation": metrics,
        "train": recipe.train.model_dump(mode="json"),
        "augment": recipe.augment.model_dump(mode="json"),
    }
    write_json(out / "model_card.json", card)


def write_curves(path: Path, history: tuple[Mapping[str, float], ...]) -> None:
    """One row per epoch; a column is empty where an epoch has no such figure."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Readable JSON with a newline at its end."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def device_hours(result: FitResult) -> float:
    """Hours of a GPU, or of a process on CPUs, that the run took; former processes included."""
    return result.processes * sum(result.clock.seconds().values()) / 3600


def timing(result: FitResult) -> dict[str, float]:
    """Where the time went; differs from run to run, so it is kept apart from the outputs."""
    seconds = result.clock.seconds()
    total = sum(seconds.values())
    training = total - seconds["validation"]
    return {
        "total_s": total,
        "device_hours": device_hours(result),
        **{f"{name}_s": value for name, value in seconds.items()},
        "images_per_s": result.images_seen / training,
        "share_outside_forward_backward": 1 - seconds["forward_backward"] / total,
    }


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[], bool]]:
    """While the block lasts SIGTERM only sets the flag that the yielded function reads."""
    asked = False

    def ask(_signal: int, _frame: object) -> None:
        nonlocal asked
        asked = True

    former = signal.signal(signal.SIGTERM, ask)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGTERM, former)


def run_stage(run: StageRun, should_stop: Callable[[], bool]) -> None:
    """Train as `params.yaml` says, tracked in MLflow, and publish the outputs."""
    params, paths = run.params, run.paths
    initial = initial_weights(params.train, paths.root)
    recipe = Recipe(
        params.model, params.augment, params.train, run.hash, params.data.merge, initial
    )
    processed = paths.processed(params.data.dataset)
    if not is_first():
        follow(processed, recipe, should_stop)
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
            result = train(processed, out, recipe, surroundings)
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
    typer.run(main)

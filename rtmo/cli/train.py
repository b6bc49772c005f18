"""`rtmo train`: a training on COCO-format annotations, without DVC or any service."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtmo.cli.annotations import protocol_of, read_truth, skeleton_of
from rtmo.cli.interrupt import until_interrupted

if TYPE_CHECKING:
    from rtmo.formats.findings import Findings
    from rtmo.run.coco_data import CocoSplit
    from rtmo.run.recipe import Recipe, TrainingData
    from rtmo.run.recipe_file import RecipeSections
    from rtmo.training.config import TrainConfig

EXAMPLE = (
    "Example: rtmo train --recipe params.yaml --annotations train.json --images train/ "
    "--val-annotations val.json --val-images val/ --weights rtmo-s-body7 --out trained/"
)
WORK = ".training"
"""Folder in OUT of converted data and checkpoints; removed at the end."""


def train(  # noqa: PLR0913 - one argument per option
    recipe: Annotated[
        Path, typer.Option(help="YAML with sections model, augment, train: a params.yaml is one.")
    ],
    annotations: Annotated[Path, typer.Option(help="COCO or CrowdPose annotations to train on.")],
    images: Annotated[Path, typer.Option(help="Folder of their pictures.")],
    val_annotations: Annotated[Path, typer.Option(help="Annotations that choose the best epoch.")],
    val_images: Annotated[Path, typer.Option(help="Folder of their pictures.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, model card, curves, metrics.")],
    weights: Annotated[
        str | None, typer.Option(help="Weights file or published model to start from.")
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="Skeleton (JSON) of keypoints other than COCO's.")
    ] = None,
    auto_batch: Annotated[
        bool, typer.Option("--auto-batch", help="Take the largest micro-batch that memory holds.")
    ] = False,
) -> None:
    """Train, or fine-tune with --weights; after an interruption the same command goes on.

    All numbers are the recipe's; presets/ of the repository has those of every published model.
    Exit status 85 after Ctrl-C or SIGTERM: the state is saved.
    """
    from rtmo.run.coco_data import open_or_write
    from rtmo.run.recipe import Recipe, TrainingData
    from rtmo.run.recipe_file import read_recipe
    from rtmo.run.train import EXIT_INTERRUPTED

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)  # it tells every step
    if (out / "weights.safetensors").exists():
        raise ValueError(f"{out} holds a finished training; give another folder for --out")
    sections = _started_from(read_recipe(recipe), weights)
    _refuse_pipeline_settings(sections.train)
    splits = _splits((annotations, images), (val_annotations, val_images), skeleton)
    key = _key(sections, splits)
    work = out / WORK / key[:16]
    work.mkdir(parents=True, exist_ok=True)
    stores = []
    for split in splits:
        store, findings = open_or_write(split, work / split.name)
        _print_findings(split, findings)
        stores.append(store)
    initial = _initial(sections.train)
    found = Recipe(sections.model, sections.augment, sections.train, key, initial)
    data = TrainingData(stores[0], stores[1])
    if auto_batch:
        found = _with_largest_batch(found, data, work / "micro_batch")
    if not _train(data, found, out, work / "checkpoints"):
        raise typer.Exit(EXIT_INTERRUPTED)
    shutil.rmtree(out / WORK)


def _train(data: TrainingData, recipe: Recipe, out: Path, checkpoints: Path) -> bool:
    """Whether it came to its end."""
    from rtmo.run.train import Surroundings, stop_on_sigterm, train
    from rtmo.training.checkpoint import open_checkpoints
    from rtmo.training.loop import TrainingInterrupted

    with (
        open_checkpoints(checkpoints) as states,
        stop_on_sigterm() as is_terminated,
        until_interrupted() as is_interrupted,
    ):
        surroundings = Surroundings(states, (), lambda: is_terminated() or is_interrupted())
        try:
            result = train(data, out, recipe, surroundings)
        except TrainingInterrupted as reason:
            print(f"{reason}: give the same command again", file=sys.stderr)
            return False
    print(f"{out / 'weights.safetensors'}: AP {result.best_ap:.4f} after epoch {result.best_epoch}")
    return True


def _started_from(sections: RecipeSections, weights: str | None) -> RecipeSections:
    """The recipe, begun from a file or a published model if that is given."""
    from rtmo.run.initial_weights import sha256
    from rtmo.training.config import TrainConfig

    if weights is None:
        return sections
    is_file = Path(weights).suffix != ""
    if is_file and not Path(weights).is_file():
        raise FileNotFoundError(f"--weights: there is no file {weights}")
    settings = TrainConfig.model_validate(
        {
            **sections.train.model_dump(),
            "init_weights": weights,
            "init_weights_sha256": sha256(Path(weights)) if is_file else None,
        }
    )
    return sections.model_copy(update={"train": settings})


def _refuse_pipeline_settings(config: TrainConfig) -> None:
    if config.processes > 1 or config.resume_from is not None or config.checkpoint_store:
        raise ValueError(
            "train.processes above 1, train.resume_from and train.checkpoint_store are for the "
            "pipeline (`dvc repro`); take them out of the recipe"
        )


def _splits(
    train_files: tuple[Path, Path], val_files: tuple[Path, Path], skeleton: Path | None
) -> tuple[CocoSplit, CocoSplit]:
    """Both splits with one skeleton."""
    from rtmo.run.coco_data import CocoSplit

    for _, images in (train_files, val_files):
        if not images.is_dir():
            raise NotADirectoryError(f"{images} is no folder of pictures")
    truths = [read_truth(annotations) for annotations, _ in (train_files, val_files)]
    keypoints = [
        skeleton_of(truth, skeleton, annotations)
        for truth, (annotations, _) in zip(truths, (train_files, val_files), strict=True)
    ]
    if keypoints[0] != keypoints[1]:
        raise ValueError(
            f"{train_files[0]} has the keypoints of {keypoints[0].name}, {val_files[0]} those of "
            f"{keypoints[1].name}; both need the same"
        )
    return (
        CocoSplit("train", *train_files, keypoints[0], protocol_of(truths[0])),
        CocoSplit("val", *val_files, keypoints[1], protocol_of(truths[1])),
    )


def _key(sections: RecipeSections, splits: tuple[CocoSplit, CocoSplit]) -> str:
    """What this training is found again by."""
    parts = (sections.model_dump_json(), *(split.digest() for split in splits))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _initial(config: TrainConfig) -> dict[str, object] | None:
    from rtmo.run.initial_weights import initial_weights

    return initial_weights(config, Path.cwd())


def _print_findings(split: CocoSplit, findings: Findings) -> None:
    for problem, count in findings.counts.items():
        example = findings.examples[problem][0]
        print(
            f"{split.name}: {count} x {problem.label} ({problem.action}): {problem.rule} "
            f"First: {example}",
            file=sys.stderr,
        )


def _with_largest_batch(recipe: Recipe, data: TrainingData, chosen: Path) -> Recipe:
    """The recipe with the largest micro-batch that this machine's memory holds.

    `chosen` keeps the answer: a training that goes on has to take the same steps.
    """
    from rtmo.run.recipe import initial_model, training_set
    from rtmo.training.largest_batch import largest_batch

    if not chosen.exists():
        dataset = training_set(data, recipe)
        model = initial_model(recipe, dataset.skeleton)
        largest = largest_batch(model, dataset, recipe.train, recipe.augment.multiscale)
        if largest.micro_batch is None:
            raise ValueError("not even one picture fits into memory: use a smaller model or input")
        chosen.write_text(str(largest.micro_batch))
    found = int(chosen.read_text())
    print(
        f"micro-batch {found} of a global batch of {recipe.train.global_batch}; the learning rate "
        "belongs to the global batch and stays",
        file=sys.stderr,
    )
    return replace(recipe, train=recipe.train.model_copy(update={"micro_batch": found}))

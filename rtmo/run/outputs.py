"""What a finished training leaves: weights, model card, curves, metrics, and where time went."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rtmo.formats.licence import combined_licence
from rtmo.model.weights import save_weights

if TYPE_CHECKING:
    from rtmo.run.recipe import Recipe, TrainingData
    from rtmo.training.loop import FitResult


def write_outputs(out: Path, recipe: Recipe, data: TrainingData, result: FitResult) -> None:
    """Weights, model card, curves and metrics of a training on `data`."""
    store, stores = data.train, data.learnt
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
            {
                "dataset": other.store.meta.dataset,
                "sampling_factor": other.sampling_factor,
                "until_epoch": other.until_epoch,
                "training_images": len(other.store),
                "unannotated": other.store.meta.unannotated,
                "licence": other.store.meta.licence.model_dump(),
            }
            for other in data.merged
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

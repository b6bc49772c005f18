"""What a person is told about batch sizes on this machine: `rtmo-pipeline fit-batch`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.params import load_params
from pipelines.stages.train import training_data
from rtmo.run.recipe import Recipe, initial_model, training_set
from rtmo.training.largest_batch import HEADROOM, LargestBatch, largest_batch

if TYPE_CHECKING:
    from pipelines.paths import Paths
    from rtmo.training.config import TrainConfig

GIB = 2**30


def batch_advice(paths: Paths) -> str:
    """Measure, and say which micro-batch, accumulation and learning rate follow.

    Raises:
        StoreError: if the dataset is not converted.
        ValueError: see `rtmo.training.largest_batch.largest_batch`.
    """
    params = load_params(paths.root)
    recipe = Recipe(params.model, params.augment, params.train, stage_hash="")
    data = training_data(paths.processed(params.data.dataset), params.data.merge)
    dataset = training_set(data, recipe)
    model = initial_model(recipe, dataset.skeleton)
    found = largest_batch(model, dataset, params.train, params.augment.multiscale)
    head = (
        f"RTMO-{params.model.size} at {found.side} px, the largest side of the run, "
        f"in {params.train.precision}"
    )
    return "\n".join((head, *_memory(found), *_consequences(found, params.train)))


def _memory(found: LargestBatch) -> tuple[str, ...]:
    memory = found.memory
    if memory is None:
        return ("found by trying on the GPU",)
    return (
        f"{memory.per_picture / GIB:.2f} GiB per picture and {memory.fixed / GIB:.2f} GiB besides; "
        f"{memory.free / GIB:.1f} GiB are free, of which {HEADROOM:.0%} stay so",
    )


def _consequences(found: LargestBatch, config: TrainConfig) -> tuple[str, ...]:
    if found.micro_batch is None:
        return ("not even one picture fits: use a smaller model or input_size",)
    accumulated = config.global_batch // config.processes // found.micro_batch
    return (
        f"train.micro_batch: {found.micro_batch} (now {config.micro_batch})",
        f"train.global_batch {config.global_batch} = {accumulated} accumulated x "
        f"{found.micro_batch} pictures x {config.processes} process(es)",
        f"train.optimizer.lr {config.optimizer.lr:g} belongs to the global batch, which stays. For "
        f"another global batch B use {config.optimizer.lr:g} x B / {config.global_batch} (linear "
        "scaling), and so for min_lr",
        "Batch norms see one micro-batch; below 8 pictures their statistics get rough. On a CPU "
        "the largest micro-batch is seldom faster than a smaller one",
    )

"""What determines the weights of a training, and what it makes of that: data, model, validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rtmo.data.dataset import ReadImage, TrainingSet
from rtmo.deployment.official_files import fetch_official
from rtmo.deployment.runners import TorchPredictor
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.predict import predict_store
from rtmo.model import build_rtmo
from rtmo.model.initialisation import calm_classifier
from rtmo.model.weights import load_for_training
from rtmo.store import Store

if TYPE_CHECKING:
    from rtmo.data.config import AugmentConfig
    from rtmo.data.mixture import MergedStore
    from rtmo.model.config import ModelConfig
    from rtmo.model.rtmo import RTMO
    from rtmo.skeleton import Skeleton
    from rtmo.training.config import TrainConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines the weights, beside the data."""

    model: ModelConfig
    augment: AugmentConfig
    train: TrainConfig
    stage_hash: str
    """Written into the weights; the key of everything this training leaves behind."""
    initial: Mapping[str, Any] | None = None
    """The weights it starts from, for the card: file, hash, licences."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Converted stores."""

    train: Store
    """The training split."""
    validation: Store
    """The split that chooses the best epoch."""
    merged: tuple[MergedStore, ...] = ()
    """Sets to train on besides."""

    @property
    def learnt(self) -> tuple[Store, ...]:
        """All that is trained on, the main store first."""
        return (self.train, *(other.store for other in self.merged))


def training_set(
    data: TrainingData, recipe: Recipe, read_image: ReadImage = Store.read_image
) -> TrainingSet:
    """The training split and merged sets as the recipe augments them."""
    size, seed = recipe.model.input_size, recipe.train.seed
    return TrainingSet(data.train, size, recipe.augment, seed, data.merged, read_image)


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

"""Everything together can learn: eight drawn pictures by heart, from random weights."""

import pytest
import torch

from rtmo.data.config import AugmentConfig, HsvConfig, LetterboxConfig
from rtmo.data.dataset import TrainingSet
from rtmo.deployment.runners import TorchPredictor
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.predict import predict_store
from rtmo.formats.coco import read_coco
from rtmo.formats.findings import Findings
from rtmo.losses.config import LossConfig
from rtmo.model import build_rtmo
from rtmo.model.initialisation import calm_classifier
from rtmo.skeleton import COCO17
from rtmo.store import Licence, Store, StoreMeta, write_store
from rtmo.synthetic.annotations import coco_annotations
from rtmo.synthetic.config import SyntheticConfig
from rtmo.synthetic.generate import generate
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import (
    CosineSegment,
    EmaConfig,
    OptimizerConfig,
    Phase,
    TrainConfig,
)
from rtmo.training.loop import Callbacks, fit

SIDE, STEPS = 160, 500
UNCHANGED = AugmentConfig(
    letterbox=LetterboxConfig(shift=0.0, scale=(1.0, 1.0), rotation_deg=0.0),
    hsv=HsvConfig(hue=0, saturation=0, value=0),
    flip_prob=0.0,
)
PHASES = (
    Phase(
        pipeline="letterbox",
        first_epoch=0,
        loss=LossConfig(bbox_l1=1, mle=0.3, oks=20, min_priors=4, sigma_scale=3),
    ),
    Phase(
        pipeline="letterbox",
        first_epoch=STEPS // 2,
        loss=LossConfig(bbox_l1=1, mle=1, oks=10, min_priors=3, proxy_target="dcc"),
    ),
)


@pytest.fixture
def eight(tmp_path) -> Store:
    """Eight pictures with one to three people of some size."""
    config = SyntheticConfig(
        num_images={"train": 8},
        people_weights=(0, 2, 1, 1),
        crowd_weight=0,
        person_height=(0.6, 1.0),
        distant_people_prob=0,
        crowd_region_prob=0,
    )
    images = list(generate(config, "train"))
    records = read_coco(coco_annotations(images), COCO17, Findings())
    pixels = {image.image_id: image.jpeg for image in images}
    meta = StoreMeta(
        dataset="eight",
        split="train",
        protocol="coco",
        skeleton=COCO17,
        licence=Licence(name="none", url="https://example.org", commercial_use="yes"),
    )
    write_store(tmp_path / "store", meta, [(record, pixels[record.id]) for record in records])
    return Store.open(tmp_path / "store")


def average_precision(model, store: Store) -> float:
    predict = TorchPredictor(model, "cpu", input_size=SIDE)
    found = predict_store(predict, store, 8, lambda _done, _all: None)
    report = evaluate_keypoints(store.to_coco(), found, skeleton=COCO17, protocol="coco")
    return report.metrics["AP"]


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart(eight, tmp_path):
    config = TrainConfig(
        epochs=STEPS,
        micro_batch=8,
        global_batch=8,
        device="cpu",
        precision="bf16-mixed",
        optimizer=OptimizerConfig(
            lr=1.3e-3,
            encoder_lr_factor=1.0,
            clip_norm=5.0,
            warmup_epochs=20,
            min_lr=1e-5,
            cosines=(CosineSegment(first_epoch=20, period_epochs=STEPS, last_epoch=STEPS),),
        ),
        ema=EmaConfig(momentum=0.05, gamma=20),
        phases=PHASES,
        validate_every_epochs=STEPS,
        checkpoint_every_steps=STEPS,
    )
    torch.manual_seed(0)
    model = build_rtmo("t")
    calm_classifier(model)
    before = average_precision(model, eight)
    callbacks = Callbacks(
        validate=lambda averaged: {"AP": average_precision(averaged, eight)},
        reporters=(),
        show_step=lambda _figures: None,
        should_stop=lambda: False,
    )
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        dataset = TrainingSet(eight, SIDE, UNCHANGED, 0)
        result = fit(model, dataset, config, callbacks, checkpoints)
    assert before < 0.01
    assert result.best_ap >= 0.95

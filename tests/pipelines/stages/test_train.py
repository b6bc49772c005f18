import csv
import json
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from pipelines.stages.train import training_data
from rtmo.data.config import AugmentConfig
from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.model.config import ModelConfig
from rtmo.model.weights import load_model, read_metadata
from rtmo.run.outputs import timing
from rtmo.run.recipe import Recipe
from rtmo.run.sample_batch import save_sample_batch
from rtmo.run.train import Surroundings, train
from rtmo.skeleton import CROWDPOSE14
from rtmo.store import Licence, StoreMeta
from rtmo.store_writer import write_store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, TrainConfig

RECIPE = Recipe(
    model=ModelConfig(size="t", input_size=64),
    augment=AugmentConfig(),
    train=TrainConfig(
        epochs=2,
        micro_batch=2,
        global_batch=4,
        cpu_threads=1,
        device="cpu",
        optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
        validate_every_epochs=2,
        checkpoint_every_steps=100,
    ),
    stage_hash="0123abcd",
)


@pytest.fixture(scope="module")
def processed(tmp_path_factory):
    """Stores `train` and `val` with 14 keypoints: the stage is not written for one skeleton."""
    folder = tmp_path_factory.mktemp("processed")
    for split, count in (("train", 6), ("val", 2)):
        meta = StoreMeta(
            dataset="tiny",
            split=split,
            protocol="coco",
            skeleton=CROWDPOSE14,
            licence=Licence(name="CC0", url="https://example.org", commercial_use="yes"),
        )
        write_store(folder / split, meta, (record(index) for index in range(count)))
    return folder


def record(index):
    image = np.random.default_rng(index).integers(0, 255, (80, 60, 3), dtype=np.uint8)
    keypoints = tuple(float(n) for k in range(14) for n in (10 + 2 * k, 12 + 4 * k, 2))
    person = PersonRecord(
        id=index + 1,
        box_xywh=(8.0, 10.0, 34.0, 60.0),
        keypoints=keypoints,
        num_keypoints=14,
        is_crowd=False,
        area=1500.0,
        segmentation=None,
    )
    picture = ImageRecord(
        id=index + 1,
        file_name=f"{index}.jpg",
        height=80,
        width=60,
        crowd_index=None,
        is_turned=False,
        people=(person,),
    )
    return picture, cv2.imencode(".jpg", image)[1].tobytes()


class Pictures:
    def __init__(self):
        self.seen = {}
        self.last_metrics = {}

    def log_metrics(self, _step, metrics):
        self.last_metrics = dict(metrics)

    def log_image(self, name, path):
        self.seen[name] = path.read_bytes()


def test_own_faces_are_blurred_in_the_sample_batch_and_nowhere_else(tmp_path, caplog):
    kept = {}
    for pictures in ("public", "own"):
        processed = tmp_path / pictures / "processed"
        for split in ("train", "val"):
            meta = StoreMeta(
                dataset="crowd",
                split=split,
                protocol="coco",
                skeleton=CROWDPOSE14,
                licence=Licence(name="CC0", url="https://example.org", commercial_use="yes"),
                pictures=pictures,
            )
            write_store(processed / split, meta, [two_people(index) for index in range(1, 9)])
        picture = tmp_path / f"{pictures}.png"
        large = replace(RECIPE, model=ModelConfig(size="t", input_size=256))
        save_sample_batch(training_data(processed, ()), large, picture)
        kept[pictures] = num_magenta(cv2.imread(str(picture)))
        run(processed, tmp_path / pictures)
    assert kept["public"] > 500
    assert kept["own"] == 0
    public, own = (
        load_model(tmp_path / pictures / "out" / "weights.safetensors").state_dict()
        for pictures in ("public", "own")
    )
    assert all(torch.equal(public[name], own[name]) for name in public)
    assert "could not be blurred" not in caplog.text


def two_people(index):
    """Somebody annotated, and somebody of whom only the box is: heads green and magenta.

    The second is no training target, so after augmentation nothing tells where the face is.
    """
    image = np.full((240, 200, 3), 128, np.uint8)
    y, x = np.mgrid[:240, :200]
    checks = np.where(((x // 6 + y // 6) % 2)[..., None], (0, 230, 0), (230, 0, 230))
    for centre in ((50, 42), (150, 38)):
        head = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < 15**2
        image[head] = checks[head]
    places = {"top_head": (50, 26), "neck": (50, 60)}
    keypoints = tuple(
        float(n)
        for k, name in enumerate(CROWDPOSE14.keypoints)
        for n in (*places.get(name, (20 + 4 * k, 90 + 9 * k)), 2)
    )
    people = tuple(
        PersonRecord(
            id=2 * index + number,
            box_xywh=box,
            keypoints=points,
            num_keypoints=labelled,
            is_crowd=False,
            area=9000.0,
            segmentation=None,
        )
        for number, (box, points, labelled) in enumerate(
            [
                ((15.0, 20.0, 70.0, 200.0), keypoints, 14),
                ((115.0, 8.0, 70.0, 200.0), (0.0,) * 42, 0),
            ]
        )
    )
    picture = ImageRecord(
        id=index,
        file_name=f"{index}.jpg",
        height=240,
        width=200,
        crowd_index=None,
        is_turned=False,
        people=people,
    )
    return picture, cv2.imencode(".png", image)[1].tobytes()


def num_magenta(image):
    """Pixels of the magenta that only heads have, also where another picture shines through."""
    blue, green, red = image.astype(int).transpose(2, 0, 1)
    return int((np.minimum(blue, red) - green > 60).sum())


def run(processed, folder):
    reporter = Pictures()
    with open_checkpoints(folder / "checkpoints") as checkpoints:
        surroundings = Surroundings(checkpoints, (reporter,), lambda: False)
        result = train(training_data(processed, ()), folder / "out", RECIPE, surroundings)
    return result, reporter


def test_two_runs_write_the_same_bytes_and_everything_the_pipeline_reads(processed, tmp_path):
    result, reporter = run(processed, tmp_path / "1")
    run(processed, tmp_path / "2")
    first, second = tmp_path / "1" / "out", tmp_path / "2" / "out"
    names = sorted(file.name for file in first.iterdir())
    assert names == [
        "curves.csv",
        "metrics.json",
        "model_card.json",
        "sample_batch.png",
        "weights.safetensors",
    ]
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name

    metadata = read_metadata(first / "weights.safetensors")
    assert metadata["stage_hash"] == "0123abcd"
    assert metadata["dataset"] == "tiny"
    assert json.loads(metadata["licence"])["name"] == "CC0"
    assert load_model(first / "weights.safetensors").skeleton == CROWDPOSE14

    rows = list(csv.DictReader((first / "curves.csv").open()))
    assert [row["epoch"] for row in rows] == ["0.0", "1.0", "2.0"]
    assert rows[0]["AP"] == "0.0"
    assert rows[1]["AP"] == ""
    metrics = json.loads((first / "metrics.json").read_text())
    assert (metrics["steps"], metrics["images_seen"], metrics["untrained_AP"]) == (2, 8, 0.0)
    assert reporter.seen["sample_batch"] == (first / "sample_batch.png").read_bytes()

    cost = reporter.last_metrics
    assert cost["images_seen"] == 8
    assert 0 < cost["device_hours"] <= timing(result)["device_hours"]

    seconds = timing(result)
    assert seconds["images_per_s"] > 0
    assert 0 < seconds["share_outside_forward_backward"] < 1


ASKED = """
import os, signal
from rtmo.run.train import stop_on_sigterm
with stop_on_sigterm() as should_stop:
    assert not should_stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert should_stop()
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_sigterm_only_asks_the_training_to_stop_and_ends_the_process_afterwards():
    # A process of its own, which the second signal ends.
    done = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGTERM, done.stderr

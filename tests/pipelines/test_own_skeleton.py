"""Somebody's own keypoints, nine of them, from a folder to a scored model."""

import csv
import json

import numpy as np
import pytest

from pipelines.sources.schema import Source
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from pipelines.stages.evaluate import evaluate, score
from pipelines.stages.train import training_data
from rtmo.data.config import AugmentConfig, HsvConfig
from rtmo.data.dataset import TrainingSet
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.impact import impact
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.taxonomy import classify
from rtmo.fetch import Patience
from rtmo.formats.coco import write_coco
from rtmo.model.config import ModelConfig
from rtmo.model.weights import load_model
from rtmo.run.recipe import Recipe
from rtmo.run.train import Surroundings, train
from rtmo.skeleton import Skeleton
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import OptimizerConfig, TrainConfig

ROBOT = {
    "name": "robot",
    "keypoints": [
        "antenna",
        "port_lens",
        "starboard_lens",
        "core",
        "port_claw",
        "starboard_claw",
        "port_track",
        "starboard_track",
        "hook",
    ],
    "flip_pairs": [[1, 2], [4, 5], [6, 7]],
    "limbs": [[0, 3], [1, 2], [3, 4], [3, 5], [3, 6], [3, 7], [3, 8]],
    "sigmas": [0.02, 0.03, 0.03, 0.1, 0.06, 0.06, 0.09, 0.09, 0.05],
}
SKELETON = Skeleton.model_validate_json(json.dumps(ROBOT))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("robots")


@pytest.fixture
def processed(folder, picture_file, random_records):
    """The converted set; made once."""
    out = folder / "processed"
    if out.exists():
        return out
    splits = {}
    for split, count in (("train", 12), ("val", 6)):
        records = random_records(count, SKELETON, seed=count)
        (folder / "own" / split).mkdir(parents=True)
        for record in records:
            content = picture_file(record.height, record.width, record.id + 1000 * count)
            (folder / "own" / split / record.file_name).write_bytes(content)
        document = json.dumps(write_coco(records, SKELETON))
        (folder / "own" / f"{split}.json").write_text(document)
        splits[split] = {"images": {"path": split}, "annotations": {"path": f"{split}.json"}}
    source = Source.model_validate_json(
        json.dumps(
            {
                "dataset": "robots",
                "about": "A team's own.",
                "format": "coco",
                "skeleton": ROBOT,
                "licence": {"name": "Own", "url": "", "commercial_use": "yes"},
                "get": {"kind": "folder", "path": "own"},
                "splits": splits,
            }
        )
    )
    (folder / "raw").mkdir()
    download(source, folder / "raw", root=folder, downloads=folder, patience=Patience())
    out.mkdir()
    convert(source, folder / "raw", out, gate_fraction=0.2)
    return out


def test_the_store_has_the_skeleton_as_it_was_written(processed):
    for split in ("train", "val", "gate"):
        store = Store.open(processed / split)
        assert store.skeleton == SKELETON
        assert store.column("keypoints").shape[1:] == (9, 3)
        assert store.to_coco()["categories"][0]["keypoints"] == ROBOT["keypoints"]


def test_a_mirrored_sample_swaps_its_own_pairs(processed):
    still = {"hsv": HsvConfig(hue=0, saturation=0, value=0)}
    store = Store.open(processed / "train")
    straight, mirrored = (
        TrainingSet(store, 64, AugmentConfig(flip_prob=prob, **still), 0).samples(
            0, [1], "letterbox"
        )[0]
        for prob in (0.0, 1.0)
    )
    order = [0, 2, 1, 3, 5, 4, 7, 6, 8]
    expected = straight.labels.keypoints_xy[:, order] * [-1, 1] + [63, 0]
    np.testing.assert_allclose(mirrored.labels.keypoints_xy, expected, atol=1e-4)
    np.testing.assert_array_equal(
        mirrored.labels.is_labelled, straight.labels.is_labelled[:, order]
    )


def test_training_and_evaluation_work_on_nine_keypoints(processed, tmp_path):
    recipe = Recipe(
        model=ModelConfig(size="t", input_size=64),
        augment=AugmentConfig(),
        train=TrainConfig(
            epochs=1,
            micro_batch=2,
            global_batch=2,
            cpu_threads=1,
            device="cpu",
            optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
            validate_every_epochs=1,
            checkpoint_every_steps=100,
        ),
        stage_hash="0123abcd",
    )
    with open_checkpoints(tmp_path / "checkpoints") as checkpoints:
        train(
            training_data(processed, ()),
            tmp_path,
            recipe,
            Surroundings(checkpoints, (), lambda: False),
        )
    weights = tmp_path / "weights.safetensors"
    assert load_model(weights).skeleton == SKELETON

    out = tmp_path / "evaluated"
    out.mkdir()
    config = EvaluateConfig(score_threshold=0.001, bootstrap_samples=100)
    evaluate(weights, processed, out, config)
    detections = json.loads((out / "detections.json").read_text())
    assert detections
    assert {len(found["keypoints"]) for found in detections} == {27}
    rows = list(csv.DictReader((out / "keypoints.csv").open()))
    assert [row["keypoint"] for row in rows] == ROBOT["keypoints"]


def results(store, offset):
    """Every annotated person found, off by `offset` times sqrt(area) along x."""
    found = []
    for row in store.to_coco()["annotations"]:
        points = np.reshape(row["keypoints"], (9, 3)).astype(float)
        points[:, 0] += offset * np.sqrt(row["area"])
        found.append(
            {
                "image_id": row["image_id"],
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "score": 0.9,
                "bbox": row["bbox"],
            }
        )
    return found


def test_its_own_sigmas_decide_the_score(processed):
    store = Store.open(processed / "val")
    assert score(store, results(store, 0), "pycocotools").metrics["AP"] == pytest.approx(1)
    # OKS of an equal offset at every labelled keypoint: the mean of exp(-offset^2 / 8 sigma^2).
    fine, coarse = (
        score(store, results(store, offset), "pycocotools").metrics["AP"] for offset in (0.03, 0.3)
    )
    assert 0 < fine < 1
    assert coarse == 0


def test_its_errors_are_told_apart(processed):
    store = Store.open(processed / "val")
    truth = read_ground_truth(store.to_coco(), SKELETON, "coco")
    found = read_detections(results(store, 0.03), truth, SKELETON)
    errors = classify(truth, found, SKELETON)
    assert impact(truth, found, errors, SKELETON)

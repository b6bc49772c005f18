"""The stage `evaluate` with a real network of random weights."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from pipelines.stages.evaluate import evaluate
from rtmo.evaluation.config import EvaluateConfig
from rtmo.model import build_rtmo
from rtmo.model.weights import save_weights
from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.store import Store
from rtmo.store_writer import write_store

FILES = {
    "detections.json",
    "metrics.json",
    "intervals.json",
    "keypoints.csv",
    "gate_detections.json",
    "gate_metrics.json",
    "pr_curves.csv",
    "oks_histogram.png",
}
CONFIG = EvaluateConfig(batch=2, score_threshold=0.005, nms_iou=0.65, bootstrap_samples=100)


def weights(path: Path, skeleton) -> Path:
    torch.manual_seed(0)
    metadata = {
        "format": "rtmo",
        "size": "t",
        "input_size": "96",
        "skeleton": skeleton.model_dump_json(),
        "stage_hash": "0" * 64,
        "dataset": "tiny",
        "licence": "{}",
    }
    save_weights(build_rtmo("t", skeleton), path, metadata)
    return path


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("weights") / "weights.safetensors", COCO17)


def test_a_second_run_gives_the_same_bytes(untrained: Path, processed: Path, tmp_path: Path):
    for run in ("first", "second"):
        (tmp_path / run).mkdir()
        evaluate(untrained, processed, tmp_path / run, CONFIG)
    first = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "second").iterdir()}
    assert set(first) == FILES
    assert first == second


def test_metrics_are_flat_and_detections_belong_to_their_split(
    untrained: Path, processed: Path, tmp_path: Path
):
    evaluate(untrained, processed, tmp_path, CONFIG)
    for prefix in ("", "gate_"):
        metrics = json.loads((tmp_path / f"{prefix}metrics.json").read_text())
        assert list(metrics) == [
            *("AP", "AP50", "AP75", "APM", "APL"),
            *("AR", "AR50", "AR75", "ARM", "ARL"),
        ]
    gate = json.loads((tmp_path / "gate_detections.json").read_text())
    assert gate, "an untrained network at a threshold this low finds something"
    assert {row["image_id"] for row in gate} <= {200, 201, 202}


def test_a_model_that_finds_nobody_is_scored_zero(untrained: Path, processed: Path, tmp_path: Path):
    report = evaluate(untrained, processed, tmp_path, EvaluateConfig(score_threshold=0.9))
    assert report.num_detections == 0
    assert report.metrics["AP"] == 0.0
    assert json.loads((tmp_path / "detections.json").read_text()) == []


def test_an_empty_gate_gives_empty_files(untrained: Path, processed: Path, tmp_path: Path):
    shutil.copytree(processed / "val", tmp_path / "processed" / "val")
    meta = Store.open(processed / "gate").meta
    write_store(tmp_path / "processed" / "gate", meta, [])
    evaluate(untrained, tmp_path / "processed", tmp_path, CONFIG)
    assert json.loads((tmp_path / "gate_detections.json").read_text()) == []
    assert json.loads((tmp_path / "gate_metrics.json").read_text()) == {}


def test_a_model_of_another_skeleton_is_refused(processed: Path, tmp_path: Path):
    other = weights(tmp_path / "weights.safetensors", CROWDPOSE14)
    with pytest.raises(ValueError, match=r"model finds skeleton 'crowdpose14', .* 'coco17'"):
        evaluate(other, processed, tmp_path, CONFIG)

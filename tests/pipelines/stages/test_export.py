"""The export and benchmark stages on a small store and an untrained network."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from pipelines.stages.benchmark import benchmark, plot_latency
from pipelines.stages.export import export
from rtmo.deployment.config import BenchmarkConfig, Budgets, ExportConfig, ParityBudget
from rtmo.deployment.manifest import Manifest, ParityError, file_sha256
from rtmo.deployment.runners import TorchPredictor
from rtmo.evaluation.config import EvaluateConfig
from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.model import build_rtmo
from rtmo.model.weights import save_weights
from rtmo.skeleton import COCO17
from rtmo.store import Licence, Store, StoreMeta
from rtmo.store_writer import write_store
from rtmo.structures import Poses

INPUT_SIZE = 128
THRESHOLDS = EvaluateConfig(score_threshold=0.5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """RTMO-t that finds many people in anything: its class and size biases are raised."""
    torch.manual_seed(0)
    model = build_rtmo("t")
    with torch.no_grad():
        for level in model.head.levels:
            level.out_cls.bias.zero_()
            level.out_box.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 1.5]))
    path = tmp_path_factory.mktemp("train") / "weights.safetensors"
    save_weights(model, path, {"input_size": str(INPUT_SIZE), "stage_hash": "b" * 64})
    return path


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [cv2.blur(rng.integers(0, 256, (96, 128, 3), np.uint8), (5, 5)) for _ in range(3)]


def person(annotation_id: int, poses: Poses, row: int) -> PersonRecord:
    x1, y1, x2, y2 = poses.boxes_xyxy[row].tolist()
    points = np.concatenate([poses.keypoints_xy[row], np.full((17, 1), 2)], axis=1)
    return PersonRecord(
        id=annotation_id,
        box_xywh=(x1, y1, x2 - x1, y2 - y1),
        keypoints=tuple(points.ravel().tolist()),
        num_keypoints=17,
        is_crowd=False,
        area=(x2 - x1) * (y2 - y1),
        segmentation=None,
    )


@pytest.fixture(scope="module")
def validation(weights, pictures, tmp_path_factory) -> Store:
    """A split whose annotations are what torch finds in its pictures."""
    from rtmo.model.weights import load_model

    predict = TorchPredictor(
        load_model(weights), "cpu", input_size=INPUT_SIZE, score_threshold=0.5, max_people=10
    )
    files = [cv2.imencode(".png", picture)[1].tobytes() for picture in pictures]
    records = [
        ImageRecord(
            id=image_id,
            file_name=f"{image_id}.png",
            height=96,
            width=128,
            crowd_index=None,
            is_turned=False,
            people=tuple(person(100 * image_id + row, poses, row) for row in range(len(poses))),
        )
        for image_id, poses in enumerate(predict(pictures), start=1)
    ]
    assert all(record.people for record in records)
    meta = StoreMeta(
        dataset="noise",
        split="val",
        protocol="coco",
        skeleton=COCO17,
        licence=Licence(name="none", url="", commercial_use="yes"),
    )
    folder = tmp_path_factory.mktemp("processed") / "val"
    write_store(folder, meta, zip(records, files, strict=True))
    return Store.open(folder)


def run_export(weights: Path, validation: Store, out: Path, config: ExportConfig) -> Manifest:
    out.mkdir(parents=True)
    return export(
        weights,
        validation,
        validation,
        out,
        config=config,
        thresholds=THRESHOLDS,
        engines=out.parent / "engines",
    )


@pytest.fixture(scope="module")
def exported(weights, validation, tmp_path_factory) -> tuple[Path, Manifest]:
    out = tmp_path_factory.mktemp("stage") / "export"
    return out, run_export(
        weights, validation, out, ExportConfig(parity_images=2, calibration_images=2, timing_runs=2)
    )


def test_both_forms_are_written_and_described(exported):
    out, manifest = exported
    assert sorted(path.name for path in out.iterdir()) == [
        "rtmo-raw.onnx",
        "rtmo.onnx",
        "variants",
    ]
    assert manifest.training_hash == "b" * 64
    for name, file in manifest.files.items():
        assert file.sha256 == file_sha256(out / name)
        assert file.opset == 18
        check = file.check
        assert check.parity.images == 2
        assert check.parity.people_matched > 5
        assert check.ap_torch > 0.5
        assert check.ap_exported == pytest.approx(check.ap_torch, abs=0.001)
    assert manifest.score_threshold == 0.5


def test_the_thresholds_of_evaluation_are_the_defaults_of_the_file(exported):
    out, _ = exported
    session = onnxruntime.InferenceSession(out / "rtmo.onnx")
    assert session.get_modelmeta().custom_metadata_map["score_threshold"] == "0.5"


def test_the_manifest_is_json_that_reads_back(exported):
    _, manifest = exported
    text = manifest.model_dump_json(indent=2)
    assert Manifest.model_validate_json(text) == manifest
    assert json.loads(text)["tensorrt"]["fp32"]["run"]["status"] in ("available", "unavailable")


def test_variants_exist_exactly_if_they_are_within_budget(exported):
    out, manifest = exported
    assert len(manifest.variants) == 4
    for name, variant in manifest.variants.items():
        assert (out / name).exists() == (not variant.problems)
        if variant.problems:
            assert (out / variant.deviation.report).exists()
        else:
            assert variant.sha256 == file_sha256(out / name)


def test_every_way_to_run_on_this_cpu_names_a_file_that_is_there(exported):
    out, manifest = exported
    assert {way.runtime for way in manifest.cpu.ways} == {"onnxruntime", "openvino"}
    assert all((out / way.file).exists() for way in manifest.cpu.ways)
    assert [way.arithmetic for way in manifest.cpu.usable(["onnxruntime"])] == ["fp32"]


@pytest.mark.slow
def test_a_second_export_gives_the_same_bytes(exported, weights, validation, tmp_path):
    out, manifest = exported
    config = ExportConfig(parity_images=2, calibration_images=2, timing_runs=2)
    again = run_export(weights, validation, tmp_path / "export", config)
    assert again.model_dump_json() == manifest.model_dump_json()
    names = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert names
    for name in names:
        assert (tmp_path / "export" / name).read_bytes() == (out / name).read_bytes(), name


def test_tensorrt_says_what_it_built_or_why_it_did_not(exported):
    _, manifest = exported
    status = manifest.tensorrt["fp32"]
    if status.run.status == "unavailable":
        assert status.run.reason
    if status.build.status == "built":
        assert status.build.engine_bytes > 0


def test_a_model_outside_the_budget_fails_the_stage_with_the_figures(exported):
    manifest = exported[1]
    nothing = ParityBudget(max_ap_drop=0, max_keypoint_px_median=1, max_keypoint_px_p99=1e-9)
    strict = ExportConfig(budgets=Budgets(fp32=nothing))
    with pytest.raises(ParityError, match=r"rtmo\.onnx: keypoint distance p99 is .* px, allowed"):
        manifest.require_within(strict)


def test_lost_people_and_lost_ap_are_named(exported):
    file = exported[1].files["rtmo.onnx"]
    fewer = file.check.parity.model_copy(update={"people_candidate": 0, "people_matched": 0})
    worse = {"parity": fewer, "ap_exported": 0.0, "ar_exported": 0.0}
    file = file.model_copy(update={"check": file.check.model_copy(update=worse)})
    people, unmatched, precision, recall = file.over_budget(ExportConfig())
    assert people.startswith("0 people are found, torch finds")
    assert "found by one of the two only" in unmatched
    assert "AP falls" in precision
    assert "AR falls" in recall


def test_latency_of_all_variants_is_measured_and_drawn(exported, weights, validation, tmp_path):
    out, _ = exported
    models = {"torch": weights, "onnx": out / "rtmo.onnx", "onnx-raw": out / "rtmo-raw.onnx"}
    config = BenchmarkConfig(images=2, warmup_runs=1, runs=3, threads=1)
    report = benchmark(models, validation, config=config)
    assert set(report.latency) == set(models)
    assert report.images == 2
    plot_latency(report, tmp_path / "latency.png")
    assert cv2.imread(str(tmp_path / "latency.png")) is not None

"""Ways to run an export on a CPU."""

import pytest

from rtmo.deployment import UnavailableError, load_predictor
from rtmo.deployment.check import Accuracy, Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.engine_facts import RunStatus
from rtmo.deployment.manifest import CpuWays, Manifest, TensorRtStatus
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.parity import parity
from rtmo.deployment.runners import TorchPredictor
from rtmo.deployment.ways import Route, try_routes

INPUT_SIZE = 224


@pytest.fixture(scope="module")
def ways(exported, model, pictures) -> CpuWays:
    torch = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=0.2, max_people=200)
    reference = Reference(torch, pictures, lambda poses: Accuracy(0.5, 0.5 + 0 * len(poses)))
    routes = [
        Route("onnxruntime", "rtmo.onnx", "fp32"),
        Route("openvino", "rtmo.onnx", "fp32"),
    ]
    config = ExportConfig(timing_runs=3, threads=1)
    return try_routes(exported["complete"].parent, routes, reference, pictures, config)


def test_every_way_is_timed_and_held_against_torch(ways):
    assert [way.runtime for way in ways.ways] == ["onnxruntime", "openvino"]
    for way in ways.ways:
        assert way.p50_ms > 0
        assert way.check.parity.people_matched > 10
        assert way.problems == ()


def test_the_best_way_is_the_fastest_that_agrees_and_can_be_run(ways):
    slow, fast = (
        way.model_copy(update={"p50_ms": p50})
        for way, p50 in zip(ways.ways, (20.0, 10.0), strict=True)
    )
    both = ways.model_copy(update={"ways": (slow, fast)})
    assert both.best({"onnxruntime", "openvino"}) == fast
    assert both.best({"onnxruntime"}) == slow
    wrong = ways.model_copy(update={"ways": (slow, fast.model_copy(update={"problems": ("x",)}))})
    assert wrong.best({"onnxruntime", "openvino"}) == slow
    assert wrong.best({"openvino"}) is None


def manifest_file(folder, cpu: CpuWays | None):
    nothing = RunStatus(status="unavailable", reason="no TensorRT in this test")
    manifest = Manifest(
        training_hash="a",
        skeleton="coco17",
        size="t",
        input_size=INPUT_SIZE,
        score_threshold=0.1,
        nms_iou=0.65,
        files={},
        cpu=cpu,
        tensorrt={"fp32": TensorRtStatus(build=nothing, run=nothing)},
    )
    path = folder / "manifest.json"
    path.write_text(manifest.model_dump_json())
    return path


def test_a_manifest_opens_as_its_best_way(ways, exported, pictures):
    openvino = ways.model_copy(update={"ways": (ways.ways[1],)})
    path = manifest_file(exported["complete"].parent, openvino)
    predictor = load_predictor(path, score_threshold=0.2)
    assert isinstance(predictor, OpenVinoPredictor)
    onnx = OnnxPredictor(exported["complete"], "cpu", score_threshold=0.2)
    report = parity(onnx, predictor, pictures)
    assert report.people_matched == report.people_reference > 10
    with pytest.raises(UnavailableError, match="CPU"):
        load_predictor(path, "cuda")


def test_a_manifest_without_ways_is_unavailable_and_other_json_is_refused(tmp_path):
    with pytest.raises(UnavailableError, match="names no way"):
        load_predictor(manifest_file(tmp_path, None))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="not a manifest"):
        load_predictor(tmp_path / "other.json")


def test_openvino_computes_in_the_type_that_was_asked_for(exported):
    assert OpenVinoPredictor(exported["raw"]).float_type == "f32"
    try:
        lower = OpenVinoPredictor(exported["raw"], float_type="bf16")
    except UnavailableError as error:
        pytest.skip(str(error))
    assert lower.float_type == "bf16"

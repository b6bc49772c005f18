"""Ways to run an export on a CPU."""

import numpy as np
import pytest
from pydantic import ValidationError

from rtmo.deployment import UnavailableError, load_predictor
from rtmo.deployment.check import Accuracy, Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.engine_facts import RunStatus
from rtmo.deployment.fastest import Choice
from rtmo.deployment.manifest import CpuWays, Manifest, TensorRtStatus
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.parity import parity
from rtmo.deployment.runners import TorchPredictor
from rtmo.deployment.ways import Route, try_routes

INPUT_SIZE = 224
KINDS = (OnnxPredictor, OpenVinoPredictor)


@pytest.fixture(scope="module")
def ways(exported, model, pictures) -> CpuWays:
    torch = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=0.2, max_people=200)
    reference = Reference(torch, pictures, lambda poses: Accuracy(0.5, 0.5 + 0 * len(poses)))
    routes = [
        Route("onnxruntime", "rtmo.onnx", "fp32"),
        Route("openvino", "rtmo.onnx", "fp32"),
    ]
    config = ExportConfig(timing_runs=3, threads=1)
    return try_routes(exported["complete"].parent, routes, reference, config)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Timings of this test alone."""
    monkeypatch.setenv("RTMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ways"


def test_every_way_is_held_against_torch(ways):
    assert [way.runtime for way in ways.ways] == ["onnxruntime", "openvino"]
    for way in ways.ways:
        assert way.check.parity.people_matched > 10
        assert way.problems == ()


def test_ways_that_do_not_agree_or_cannot_be_run_here_are_not_usable(ways):
    good, bad = ways.ways[0], ways.ways[1].model_copy(update={"problems": ("x",)})
    both = ways.model_copy(update={"ways": (good, bad)})
    assert both.usable({"onnxruntime", "openvino"}) == [good]
    assert both.usable({"openvino"}) == []


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


def test_the_first_opening_times_all_ways_and_the_next_one_reads_that(
    ways, exported, cache, caplog
):
    path = manifest_file(exported["complete"].parent, ways)
    load_predictor(path, threads=1)
    assert "timing 2 ways" in caplog.text
    (kept,) = cache.iterdir()
    choice = Choice.model_validate_json(kept.read_text())
    assert set(choice.usable) == {way.name for way in ways.ways}
    assert all(way.p50_ms > 0 for way in choice.ways)
    kinds = {way.name: kind for way, kind in zip(ways.ways, KINDS, strict=True)}
    for order in (choice.ways, choice.ways[::-1]):
        kept.write_text(choice.model_copy(update={"ways": order}).model_dump_json())
        caplog.clear()
        assert isinstance(load_predictor(path, threads=1), kinds[order[0].name])
        assert "timing" not in caplog.text


def test_timings_are_taken_again_for_other_threads_another_manifest_or_a_damaged_file(
    ways, exported, cache
):
    folder = exported["complete"].parent
    path = manifest_file(folder, ways)
    load_predictor(path, threads=1)
    (kept,) = cache.iterdir()
    kept.write_text("{")
    load_predictor(path, threads=1)
    assert Choice.model_validate_json(kept.read_text()).usable
    load_predictor(path, threads=2)
    assert len(list(cache.iterdir())) == 2
    path = manifest_file(folder, ways.model_copy(update={"timing_runs": 2}))
    load_predictor(path, threads=1)
    assert len(list(cache.iterdir())) == 3


def test_a_cache_that_cannot_be_written_only_warns(ways, exported, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RTMO_CACHE", str(tmp_path / "file"))
    path = manifest_file(exported["complete"].parent, ways)
    assert load_predictor(path, threads=1).score_threshold == 0.1
    assert "cannot be written" in caplog.text


def test_a_manifest_without_ways_is_unavailable_and_other_json_is_refused(tmp_path):
    with pytest.raises(UnavailableError, match="names no way"):
        load_predictor(manifest_file(tmp_path, None))
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="not a manifest"):
        load_predictor(tmp_path / "other.json")


def test_a_manifest_of_a_former_version_is_read_without_its_times(ways):
    former = ways.model_dump(mode="json")
    del former["timing_runs"]
    former["cpu"] = "some processor"
    for way in former["ways"]:
        way["p50_ms"] = 12.5
    assert CpuWays.model_validate(former).ways == ways.ways
    with pytest.raises(ValidationError):
        CpuWays.model_validate({**former, "ways": ["no way"]})


def test_openvino_computes_in_the_type_that_was_asked_for(exported, pixels):
    try:
        lower = OpenVinoPredictor(exported["raw"], float_type="bf16")
    except UnavailableError as error:
        pytest.skip(str(error))
    people = OpenVinoPredictor(exported["raw"]).infer(pixels[:1])[0]
    fewer_bits = lower.infer(pixels[:1])[0]
    assert len(people.scores)
    assert not np.array_equal(people.scores, fewer_bits.scores)

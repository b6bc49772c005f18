"""TensorRT engines, built for real where a TensorRT package is installed."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtmo.deployment import UnavailableError, load_predictor
from rtmo.deployment.build_engine import (
    EngineBuildError,
    build_engine,
    cached_engine,
    run_status,
)
from rtmo.deployment.engine_facts import BatchProfile
from rtmo.deployment.int8 import write_int8
from rtmo.deployment.metadata import MetadataError, ModelMetadata
from rtmo.deployment.precision import write_fp16
from rtmo.skeleton import COCO17

PROFILE = BatchProfile(smallest=1, usual=2, largest=4)

trt = pytest.importorskip("tensorrt_rtx", reason="needs tensorrt_rtx")


@pytest.fixture(scope="module")
def engine(exported, tmp_path_factory):
    return cached_engine(exported["raw"], tmp_path_factory.mktemp("engines"), PROFILE)


def test_the_raw_form_builds_with_a_range_of_batch_sizes(engine):
    path, receipt = engine
    assert receipt.package == "tensorrt_rtx"
    assert receipt.engine_bytes == path.stat().st_size > 1_000_000
    assert receipt.profile == PROFILE


def test_the_engine_has_the_precision_of_the_graph(engine):
    precisions = engine[1].layer_precisions
    assert precisions["FLOAT"] > 100
    assert not {"HALF", "BF16", "INT8"} & set(precisions)


def test_a_half_precision_file_gives_a_half_precision_engine(exported, engine, tmp_path):
    write_fp16(exported["raw"], tmp_path / "rtmo-raw-fp16.onnx")
    half = build_engine(tmp_path / "rtmo-raw-fp16.onnx", tmp_path / "model.engine", PROFILE)
    assert half.layer_precisions["HALF"] > 200
    assert half.metadata.precision == "fp16"
    assert half.engine_bytes < 0.7 * engine[1].engine_bytes


def test_an_int8_file_gives_an_engine_with_all_its_quantised_layers(exported, pixels, tmp_path):
    write_int8(exported["raw"], tmp_path / "rtmo-raw-int8.onnx", [pixels], "int8")
    built = build_engine(tmp_path / "rtmo-raw-int8.onnx", tmp_path / "model.engine", PROFILE)
    assert built.layer_precisions["INT8"] > 30


def test_a_file_that_is_not_of_the_precision_it_says_is_refused(exported, tmp_path):
    model = onnx.load(exported["raw"])
    for item in model.metadata_props:
        if item.key == "precision":
            item.value = "fp16"
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(EngineBuildError, match=r"precision fp16.*type FLOAT, expected HALF"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")


def test_an_engine_without_its_receipt_is_refused(engine, tmp_path):
    (tmp_path / "model.engine").write_bytes(b"")
    with pytest.raises(MetadataError, match="receipt"):
        load_predictor(tmp_path / "model.engine")


def test_an_engine_is_built_once_per_file_and_profile(engine, exported):
    path, receipt = engine
    written = path.stat().st_mtime_ns
    assert cached_engine(exported["raw"], path.parent, PROFILE) == (path, receipt)
    assert path.stat().st_mtime_ns == written


def test_running_without_a_gpu_is_unavailable_with_the_reason(engine):
    status = run_status(engine[0])
    if status.status == "available":
        pytest.skip("this host can run the engine")
    assert "cannot load the engine here" in status.reason
    with pytest.raises(UnavailableError, match="cannot load the engine here"):
        load_predictor(engine[0])


def test_the_complete_form_is_refused_before_tensorrt_sees_it(exported, tmp_path):
    with pytest.raises(ValueError, match=r"NonMaxSuppression.*raw form"):
        build_engine(exported["complete"], tmp_path / "model.engine")


def test_a_file_without_metadata_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(MetadataError):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")


def test_what_is_no_onnx_file_is_refused(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no protobuf at all")
    with pytest.raises(ValueError, match="not an ONNX file"):
        build_engine(tmp_path / "model.onnx", tmp_path / "model.engine")


def raw_file(path: Path, nodes: list[onnx.NodeProto], **constants: np.ndarray) -> Path:
    """A file that says it is of the raw form, with any graph from `input` to `dets`."""
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 64, 64])
    dets = helper.make_tensor_value_info("dets", TensorProto.INT64, None)
    initialisers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", [pixels], [dets], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=64, form="raw")
    for key, value in metadata.to_properties().items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def test_an_operator_that_tensorrt_cannot_parse_is_named(tmp_path):
    nodes = [helper.make_node("Det", ["input"], ["dets"], name="strange")]
    path = raw_file(tmp_path / "model.onnx", nodes)
    with pytest.raises(EngineBuildError, match=r"cannot parse .*operator Det.*strange"):
        build_engine(path, tmp_path / "model.engine")


def test_an_operator_that_parses_and_does_not_build_is_named(tmp_path):
    nodes = [
        helper.make_node("Reshape", ["input", "boxes_shape"], ["boxes"]),
        helper.make_node("Reshape", ["input", "scores_shape"], ["pixels"]),
        helper.make_node("ReduceMax", ["pixels", "last"], ["scores"], keepdims=0),
        helper.make_node(
            "NonMaxSuppression", ["boxes", "scores", "most", "iou"], ["dets"], name="suppress"
        ),
    ]
    path = raw_file(
        tmp_path / "model.onnx",
        nodes,
        boxes_shape=np.array([0, -1, 4]),
        scores_shape=np.array([0, 1, -1, 4]),
        last=np.array([3]),
        most=np.array([10]),
        iou=np.array([0.5], np.float32),
    )
    with pytest.raises(EngineBuildError, match=r"cannot build .*operator NonMaxSuppression"):
        build_engine(path, tmp_path / "model.engine")
    assert not (tmp_path / "model.engine").exists()


def test_a_batch_profile_goes_from_small_to_large():
    with pytest.raises(ValueError, match="small to large"):
        BatchProfile(smallest=4, usual=2, largest=8)

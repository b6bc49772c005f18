"""Files in lower precision: what is lowered, what stays float32, and how they are judged."""

import json
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.parser import parse_model

from rtmo.deployment.check import Accuracy, Reference
from rtmo.deployment.config import Budgets, ExportConfig, ParityBudget
from rtmo.deployment.deviation import layer_deviations, steepest
from rtmo.deployment.half_precision import round_like_half, to_half
from rtmo.deployment.int8 import KEPT_FLOAT, QUANTISED, write_int8
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.precision import ISLANDS, NETWORK, write_fp16
from rtmo.deployment.runners import TorchPredictor
from rtmo.deployment.score_correction import correct_scores, shift_of
from rtmo.deployment.variants import make_variants

INPUT_SIZE = 224
STRICT = ParityBudget(max_ap_drop=0, max_keypoint_px_median=1e-9)
LOOSE = ParityBudget(
    max_ap_drop=1, max_recall_drop=1, max_count_difference=1, max_keypoint_px_median=100
)


@pytest.fixture(scope="module")
def fp16(exported, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("fp16")
    files = {form: folder / path.name for form, path in exported.items()}
    for form, path in files.items():
        write_fp16(exported[form], path)
    return files


@pytest.fixture(scope="module")
def reference(model, pictures) -> Reference:
    torch = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=0.2, max_people=200)
    return Reference(torch, pictures, lambda poses: Accuracy(0.5, 0.5 + 0 * len(poses)))


def types_by_node(path: Path) -> dict[str, set[int]]:
    """Floating types that the nodes of a file write; sizes and indices are left out."""
    graph = shape_inference.infer_shapes(onnx.load(path), strict_mode=True).graph
    types = {item.name: item.type.tensor_type.elem_type for item in graph.value_info}
    floating = {TensorProto.FLOAT, TensorProto.FLOAT16}
    written = {
        node.name: {types[name] for name in node.output if name in types} & floating
        for node in graph.node
        if node.op_type not in ("Cast", "Constant")
    }
    return {name: kinds for name, kinds in written.items() if kinds}


@pytest.mark.parametrize("form", ["complete", "raw"])
def test_network_is_half_and_coordinates_are_float_in_the_fp16_file(fp16, form):
    written = types_by_node(fp16[form])
    network = {name: types for name, types in written.items() if name.startswith(NETWORK)}
    islands = {name: types for name, types in written.items() if name not in network}
    assert len(network) > 200
    assert set.union(*network.values()) == {TensorProto.FLOAT16}
    assert set.union(*islands.values()) == {TensorProto.FLOAT}
    assert all(name.startswith(tuple(ISLANDS)) for name in islands)


def test_an_island_is_left_by_casts_only_where_it_begins(fp16):
    casts = [node for node in onnx.load(fp16["raw"]).graph.node if node.name.endswith("/float")]
    # Class scores, boxes, visibility and pose vectors leave the head; nothing else does.
    assert len(casts) == 4


def test_the_fp16_file_finds_the_people_of_the_float32_file(fp16, reference):
    for path in fp16.values():
        predictor = OnnxPredictor(path, "cpu", score_threshold=0.2)
        assert predictor.metadata.precision == "fp16"
        check = reference.check(predictor)
        assert check.parity.people_matched > 10
        assert not check.over_budget(
            LOOSE.model_copy(update={"max_count_difference": 0.1, "max_keypoint_px_median": 0.1})
        )


def small_model(scale: float) -> onnx.ModelProto:
    """input -> Mul by a weight -> Mul by its inverse -> output."""
    nodes = [
        helper.make_node("Mul", ["input", "large"], ["between"], name="backbone/between"),
        helper.make_node("Mul", ["between", "small"], ["after"], name="backbone/after"),
        helper.make_node("Identity", ["after"], ["output"], name="out"),
    ]
    values = {"large": np.float32([scale]), "small": np.float32([1 / scale])}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(value, name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, value: float) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    result: np.ndarray = session.run(None, {"input": np.full(2, value, np.float32)})[0]
    return result


def test_the_rounding_twin_shows_the_overflow_that_a_cpu_hides():
    model = small_model(1000.0)
    # 100 * 1000 is above 65504, the largest float16.
    assert np.isinf(run(round_like_half(model, lambda _: True), 100.0)).all()
    assert run(round_like_half(model, lambda node: "after" in node.name), 100.0) == pytest.approx(
        100, rel=2e-3
    )
    assert np.isfinite(run(to_half(model, lambda node: "after" in node.name), 1.0)).all()


@pytest.fixture(scope="module")
def int8(exported, pixels, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "rtmo-raw-int8.onnx"
    islands = write_int8(exported["raw"], path, [pixels], "int8")
    assert set(islands) >= {*KEPT_FLOAT, "dcc", "/"}
    return path


def test_exactly_the_listed_convolutions_are_quantised(int8):
    graph = onnx.load(int8).graph
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Conv":
            is_quantised = node.input[1] in makers  # otherwise its weight is a float32 constant
            assert is_quantised == any(fnmatch(node.name, part) for part in QUANTISED), node.name


def test_the_int8_file_for_tensorrt_is_symmetric(int8):
    graph = onnx.load(int8).graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    zeros = [stored[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"]
    assert len(zeros) > 30
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)


def constants(graph: onnx.GraphProto, names: list[str]) -> list[np.ndarray]:
    stored = {item.name: item for item in graph.initializer}
    return [numpy_helper.to_array(stored[name]) for name in names]


def convolution_means(values, weight, bias) -> np.ndarray:
    """Mean of every channel that a convolution of stride 2 and kernel 3 gives."""
    arguments = (torch.from_numpy(np.array(part)) for part in (values, weight, bias))
    return torch.nn.functional.conv2d(*arguments, stride=2, padding=1).mean((0, 2, 3)).numpy()


def test_biases_take_out_what_rounding_adds_to_a_channel(exported, int8, pixels):
    import onnxruntime

    source, lowered = onnx.load(exported["raw"]), onnx.load(int8).graph
    makers = {name: node for node in lowered.node for name in node.output}
    exact = next(node for node in source.graph.node if node.name == "backbone.stage1.0.0/conv2d_1")
    node = next(node for node in lowered.node if node.name == exact.name)
    weight, bias = constants(source.graph, exact.input[1:])
    stored, scales = constants(lowered, makers[node.input[1]].input[:2])
    step, _zero = constants(lowered, makers[node.input[0]].input[1:])
    (corrected,) = constants(lowered, node.input[2:])
    source.graph.output.append(
        helper.make_tensor_value_info(exact.input[0], TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(source.SerializeToString())
    (values,) = session.run([exact.input[0]], {"input": pixels})
    rounded = (np.rint(values / step).clip(-128, 127) * step).astype(np.float32)
    lower = stored.astype(np.float32) * scales.reshape(-1, 1, 1, 1)
    wanted = convolution_means(values, weight, bias)
    before = np.abs(convolution_means(rounded, lower, bias) - wanted).mean()
    after = np.abs(convolution_means(rounded, lower, corrected) - wanted).mean()
    # What is left is at the edges, where the kernel meets padding.
    assert after < 0.2 * before


def score_biases(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    stored = {item.name: item for item in model.graph.initializer}
    return {
        node.name: stored[node.input[2]]
        for node in model.graph.node
        if node.op_type == "Conv" and ".out_cls" in node.name
    }


def shifted_scores(source: Path, shift: float) -> onnx.ModelProto:
    model = onnx.load(source)
    for bias in score_biases(model).values():
        values = numpy_helper.to_array(bias) + np.float32(shift)
        bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    return model


def test_a_shift_of_all_scores_is_taken_back(exported, pixels):
    shifted = shifted_scores(exported["raw"], 0.25)
    correct_scores(shifted, exported["raw"], [pixels[:1], pixels[1:]])
    wanted = score_biases(onnx.load(exported["raw"]))
    assert len(wanted) == 2
    for name, bias in score_biases(shifted).items():
        assert numpy_helper.to_array(bias) == pytest.approx(
            numpy_helper.to_array(wanted[name]), abs=1e-5
        )


def test_a_score_convolution_without_a_bias_gets_one(exported, pixels):
    shifted = shifted_scores(exported["raw"], 0.0)
    wanted = {name: numpy_helper.to_array(bias) for name, bias in score_biases(shifted).items()}
    for node in shifted.graph.node:
        if node.name in wanted:
            del node.input[2]
    correct_scores(shifted, exported["raw"], [pixels])
    for name, bias in score_biases(shifted).items():
        assert numpy_helper.to_array(bias) == pytest.approx(wanted[name], abs=1e-5)


def test_a_blur_of_scores_leaves_the_number_of_people():
    rng = np.random.default_rng(0)
    # As around a threshold: three quarters fewer candidates with every logit more.
    exact = (-2 + rng.exponential(1 / 1.5, 400_000)).astype(np.float32)
    blurred = exact + rng.normal(0, 0.2, exact.size).astype(np.float32)
    wanted = (exact > 0).sum()
    assert (blurred > 0).sum() > 1.03 * wanted
    assert (blurred - shift_of(blurred, exact) > 0).sum() == pytest.approx(wanted, rel=0.01)


def test_without_doubtful_people_scores_stay(exported, pixels, tmp_path):
    sure = tmp_path / "sure.onnx"
    onnx.save(shifted_scores(exported["raw"], 30.0), sure)  # every score is 1
    lowered = shifted_scores(sure, 0.25)
    correct_scores(lowered, sure, [pixels])
    for name, bias in score_biases(lowered).items():
        before = score_biases(onnx.load(sure))[name]
        assert numpy_helper.to_array(bias) == numpy_helper.to_array(before) + np.float32(0.25)


def test_the_layer_where_a_variant_goes_wrong_is_named(exported, pixels, tmp_path):
    model = onnx.load(exported["raw"])
    bad = next(
        node
        for node in model.graph.node
        if node.op_type == "Conv" and node.name.startswith("neck.lateral.1")
    )
    for item in model.graph.initializer:
        if item.name == bad.input[1]:
            item.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(item), item.name))
    onnx.save(model, tmp_path / "bad.onnx")
    layers = layer_deviations(exported["raw"], tmp_path / "bad.onnx", pixels[:1])
    first = next(layer for layer in layers if layer.relative > 1e-3)
    assert first.node == bad.name
    assert steepest(layers, 1)[0].relative > 0.1
    assert sum(layer.relative == 0 for layer in layers) > 20


def test_a_layer_that_overflows_is_in_the_report(tmp_path):
    for name, factor in (("reference", 1.0), ("variant", 2.0)):
        model = parse_model(
            f"""<ir_version: 9, opset_import: ["" : 18]>
            graph (float[1, 4] input) => (float[1, 4] out) <float factor = {{{factor}}}> {{
                logits = Mul (input, factor)
                sizes = Exp (logits)
                out = Neg (sizes)
            }}"""
        )
        onnx.save(onnx.shape_inference.infer_shapes(model), tmp_path / f"{name}.onnx")
    pixels = np.array([[-1, 0, 1, 100]], dtype=np.float32)  # exp(100) is over float32 already
    (layer,) = layer_deviations(tmp_path / "reference.onnx", tmp_path / "variant.onnx", pixels)
    assert layer.operator == "Exp"
    assert layer.relative < 1  # both overflow there
    pixels[0, 3] = 60
    (layer,) = layer_deviations(tmp_path / "reference.onnx", tmp_path / "variant.onnx", pixels)
    assert layer.largest == pytest.approx(np.finfo(np.float32).max, rel=1e-6)


def test_variants_within_budget_are_kept_and_others_give_way_to_a_report(
    exported, reference, pixels, tmp_path
):
    config = ExportConfig(budgets=Budgets(fp16=LOOSE, int8=STRICT))
    variants = make_variants(tmp_path, exported, reference, [pixels], config)
    assert sorted(path.name for path in (tmp_path / "variants").iterdir()) == [
        "rtmo-fp16.onnx",
        "rtmo-int8-cpu.layers.json",
        "rtmo-raw-fp16.onnx",
        "rtmo-raw-int8.layers.json",
    ]
    shipped = variants["variants/rtmo-raw-fp16.onnx"]
    assert shipped.problems == ()
    assert shipped.islands["dcc"].nodes > 50
    refused = variants["variants/rtmo-raw-int8.onnx"]
    assert "keypoint distance median" in refused.problems[0]
    report = json.loads((tmp_path / refused.deviation.report).read_text())
    assert {row["operator"] for row in report} >= {"Conv", "MatMul"}
    assert refused.deviation.steepest[0].node in {row["node"] for row in report}


def test_int8_does_not_depend_on_how_calibration_pictures_are_batched(exported, pixels, tmp_path):
    whole, uneven = tmp_path / "whole.onnx", tmp_path / "uneven.onnx"
    write_int8(exported["raw"], whole, [pixels], "uint8")
    write_int8(exported["raw"], uneven, [pixels[:2], pixels[2:]], "uint8")
    assert whole.read_bytes() == uneven.read_bytes()

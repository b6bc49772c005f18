"""The exported files against torch, on a real network."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from rtmo.deployment.export_onnx import export_onnx
from rtmo.deployment.metadata import ModelMetadata, metadata_from_properties
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.parity import match_people
from rtmo.deployment.postprocess import InputPeople
from rtmo.deployment.runners import TorchPredictor
from rtmo.model.rtmo import RTMO
from rtmo.skeleton import COCO17, CROWDPOSE14

INPUT_SIZE = 224

# float32 rounding of two runtimes; SPEC section 10, trap 17 gives at most 0.035 px at the 99.9th
# percentile for the same network in two precisions.
KEYPOINT_PX = 0.1
SCORE = 1e-4


def same_people(ours: InputPeople, theirs: InputPeople) -> None:
    assert len(ours) == len(theirs)
    rows, columns = match_people(ours, theirs)
    assert len(rows) == len(ours)
    a, b = ours[rows], theirs[columns]
    np.testing.assert_allclose(a.scores, b.scores, atol=SCORE)
    np.testing.assert_allclose(a.keypoint_scores, b.keypoint_scores, atol=SCORE)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.01)
    distances = np.linalg.norm(a.keypoints_xy - b.keypoints_xy, axis=-1)
    assert np.quantile(distances, 0.99, method="lower") < KEYPOINT_PX


@pytest.mark.parametrize("threshold", [0.1, 0.2])
def test_the_complete_form_finds_the_people_that_torch_finds(model, exported, pixels, threshold):
    ours = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=threshold)
    theirs = OnnxPredictor(exported["complete"], "cpu", score_threshold=threshold)
    found = ours.infer(pixels)
    assert min(len(people) for people in found) > 3
    for a, b in zip(found, theirs.infer(pixels), strict=True):
        same_people(a, b)


def test_the_raw_form_with_nms_outside_finds_the_people_that_torch_finds(model, exported, pixels):
    ours = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=0.1)
    theirs = OnnxPredictor(exported["raw"], "cpu", score_threshold=0.1)
    for a, b in zip(ours.infer(pixels), theirs.infer(pixels), strict=True):
        same_people(a, b)


def test_a_batch_gives_what_its_images_give_alone(exported, pixels):
    predictor = OnnxPredictor(exported["complete"], "cpu", score_threshold=0.2)
    together = predictor.infer(pixels)
    alone = [predictor.infer(pixels[i : i + 1])[0] for i in range(len(pixels))]
    assert len({len(people) for people in together}) > 1, "images must differ in people"
    for a, b in zip(together, alone, strict=True):
        same_people(a, b)


def test_more_than_fifty_people_are_kept(exported, pixels):
    predictor = OnnxPredictor(exported["complete"], "cpu", score_threshold=0.01, nms_iou=0.9)
    assert max(len(people) for people in predictor.infer(pixels)) > 50


def test_nobody_is_empty_poses_and_one_padding_row_in_the_file(exported, pixels, pictures):
    predictor = OnnxPredictor(exported["complete"], "cpu", score_threshold=0.999)
    for poses in predictor(pictures):
        assert len(poses) == 0
        assert poses.keypoints_xy.shape == (0, 17, 2)
    session = onnxruntime.InferenceSession(exported["complete"])
    threshold = np.array([0.999], dtype=np.float32)
    dets, keypoints = session.run(None, {"input": pixels, "score_threshold": threshold})
    assert dets.shape == (3, 1, 5)
    assert keypoints.shape == (3, 1, 17, 3)
    assert not dets.any()
    assert not keypoints.any()


def test_torch_finds_nobody_above_the_highest_score(model, pictures):
    predictor = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=0.999)
    assert [len(poses) for poses in predictor(pictures)] == [0, 0, 0]


def test_the_only_required_input_is_the_image_and_thresholds_are_overridable(exported, pixels):
    session = onnxruntime.InferenceSession(exported["complete"])
    assert [item.name for item in session.get_inputs()] == ["input"]
    assert [item.name for item in session.get_outputs()] == ["dets", "keypoints"]
    overridable = {item.name for item in session.get_overridable_initializers()}
    assert overridable == {"score_threshold", "nms_iou", "max_people"}

    def count(**overrides: float) -> int:
        feeds = {name: np.array([value], np.float32) for name, value in overrides.items()}
        dets = session.run(["dets"], {"input": pixels, **feeds})[0]
        return int((dets[..., 4] > 0).sum())

    assert count(score_threshold=0.3) < count() < count(score_threshold=0.01)
    assert count(nms_iou=0.2) < count() < count(nms_iou=0.95)
    few = session.run(["dets"], {"input": pixels, "max_people": np.array([3], np.int64)})[0]
    assert few.shape == (3, 3, 5)


def test_people_come_best_first(exported, pixels):
    for people in OnnxPredictor(exported["complete"], "cpu").infer(pixels):
        assert (np.diff(people.scores) <= 0).all()


@pytest.mark.parametrize("form", ["complete", "raw"])
def test_the_file_says_what_it_is(exported, form):
    properties = {item.key: item.value for item in onnx.load(exported[form]).metadata_props}
    metadata = metadata_from_properties(properties, "file")
    assert metadata == ModelMetadata(
        skeleton=COCO17,
        input_size=INPUT_SIZE,
        form=form,
        size="t",
        training_hash="a" * 64,
        dataset="formula",
    )


@pytest.mark.parametrize("form", ["complete", "raw"])
def test_the_file_has_standard_operators_only_and_nothing_unused(model, exported, form):
    proto = onnx.load(exported[form])
    assert {entry.domain for entry in proto.opset_import} == {""}
    used = {name for node in proto.graph.node for name in node.input}
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    assert set(stored) <= used
    training_only = sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if "proxy" in name or "sigma" in name
    )
    weights = sum(parameter.numel() for parameter in model.parameters())
    numbers = sum(int(np.prod(tensor.dims)) for tensor in stored.values())
    # Folding removes norms and 1x1 branches; position tables and priors come on top.
    assert training_only > 0
    assert numbers < weights - training_only + 100_000


@pytest.mark.parametrize("form", ["complete", "raw"])
def test_the_file_tells_nothing_about_the_machine_that_wrote_it(exported, form):
    content = exported[form].read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).resolve().parents[3]).encode() not in content


@pytest.mark.parametrize(
    ("form", "sides"),
    [("complete", ["height", "width"]), ("raw", [INPUT_SIZE, INPUT_SIZE])],
)
def test_the_raw_form_has_one_input_size_and_the_complete_form_any(exported, form, sides):
    shape = onnx.load(exported[form]).graph.input[0].type.tensor_type.shape.dim
    assert [axis.dim_param or axis.dim_value for axis in shape] == ["batch", 3, *sides]


def test_a_model_of_another_skeleton_is_refused(model, tmp_path):
    metadata = ModelMetadata(skeleton=CROWDPOSE14, input_size=INPUT_SIZE, form="complete")
    with pytest.raises(ValueError, match=r"coco17.*crowdpose14"):
        export_onnx(model, tmp_path / "model.onnx", metadata)


@pytest.mark.slow
@pytest.mark.parametrize("opset", [20, 21])
def test_later_operator_sets_give_the_same_people(model: RTMO, pixels, tmp_path, opset):
    metadata = ModelMetadata(skeleton=COCO17, input_size=INPUT_SIZE, form="complete")
    path = tmp_path / "model.onnx"
    export_onnx(model, path, metadata, opset=opset)
    assert onnx.load(path).opset_import[0].version == opset
    ours = TorchPredictor(model, "cpu", input_size=INPUT_SIZE, score_threshold=0.2)
    theirs = OnnxPredictor(path, "cpu", score_threshold=0.2)
    for a, b in zip(ours.infer(pixels), theirs.infer(pixels), strict=True):
        same_people(a, b)

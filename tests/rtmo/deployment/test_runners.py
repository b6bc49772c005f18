"""One predictor interface over every runtime."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.official_layout import write_official_layout
from rtmo.deployment import UnavailableError, load_predictor
from rtmo.deployment.export_onnx import openvino_from_onnx
from rtmo.deployment.metadata import MetadataError
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.parity import parity
from rtmo.deployment.runners import TorchPredictor
from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.structures import Poses

INPUT_SIZE = 224


def same_poses(a: Poses, b: Poses) -> None:
    assert len(a) == len(b)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=0.05)


def test_one_picture_gives_poses_and_a_list_gives_a_list(exported, pictures):
    predict = load_predictor(exported["complete"], "cpu", score_threshold=0.2)
    together = predict(pictures)
    assert isinstance(together, list)
    assert predict([]) == []
    for picture, poses in zip(pictures, together, strict=True):
        same_poses(predict(picture), poses)


@pytest.mark.parametrize("form", ["complete", "raw"])
def test_weights_and_onnx_files_give_the_same_poses(weights, exported, pictures, form):
    torch = load_predictor(weights, "cpu", 0.2)
    onnx_file = load_predictor(exported[form], "cpu", 0.2)
    assert torch.skeleton == onnx_file.skeleton == COCO17
    found = torch(pictures)
    assert sum(len(poses) for poses in found) > 5
    for a, b in zip(found, onnx_file(pictures), strict=True):
        same_poses(a, b)


@pytest.fixture(scope="module")
def openvino_files(exported, tmp_path_factory) -> dict[str, Path]:
    """Both forms converted to OpenVINO."""
    folder = tmp_path_factory.mktemp("openvino")
    files = {form: folder / f"{form}.xml" for form in exported}
    for form, path in files.items():
        openvino_from_onnx(exported[form], path, OnnxPredictor(exported[form], "cpu").metadata)
    return files


@pytest.mark.parametrize("form", ["complete", "raw"])
def test_openvino_finds_the_people_that_onnx_runtime_finds(
    exported, openvino_files, pictures, form
):
    onnx_file = OnnxPredictor(exported[form], "cpu", score_threshold=0.2)
    openvino = load_predictor(openvino_files[form], score_threshold=0.2)
    assert isinstance(openvino, OpenVinoPredictor)
    assert openvino.metadata == onnx_file.metadata
    report = parity(onnx_file, openvino, pictures)
    assert report.people_matched > 5
    assert report.unmatched_share == 0
    assert report.keypoint_px_p99 < 0.1


SIGNAL_AFTER_OPENVINO = """
import faulthandler, os, signal, sys
from pathlib import Path
import numpy as np
from rtmo.deployment.openvino_runner import OpenVinoPredictor
faulthandler.enable()
first, second = (OpenVinoPredictor(Path(sys.argv[1])) for _ in range(2))
for predictor in (first, second):
    predictor(np.zeros((64, 64, 3), np.uint8))
del predictor, first, second
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_handled_after_predictors_of_openvino_came_and_went(openvino_files):
    command = [sys.executable, "-c", SIGNAL_AFTER_OPENVINO, openvino_files["complete"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.parametrize("first", [1, 3], ids=["one picture first", "a batch first"])
def test_inputs_of_every_shape_find_the_same_people_in_openvino(
    exported, openvino_files, pictures, first
):
    onnx_file = load_predictor(exported["complete"], "cpu", 0.2, padding="stride")
    openvino = load_predictor(openvino_files["complete"], score_threshold=0.2, padding="stride")
    square, wide = pictures[2], pictures[0]
    assert square.shape[0] == square.shape[1] != wide.shape[0]
    for batch in ([square] * first, [square], [wide], [square] * 2, [wide] * 3, [square] * first):
        for a, b in zip(onnx_file(batch), openvino(batch), strict=True):
            same_poses(a, b)


def test_a_file_that_openvino_cannot_run_is_named(exported, tmp_path):
    model = onnx.load(exported["complete"])
    node = next(
        node for node in model.graph.node if node.op_type == "Conv" and "stage4" in node.name
    )
    node.input[0] = "input"
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ValueError, match=r"odd.onnx .* OpenVINO"):
        OpenVinoPredictor(tmp_path / "odd.onnx")(np.zeros((64, 64, 3), np.uint8))


@pytest.mark.parametrize("thresholds", [{"score_threshold": 0.05}, {"nms_iou": 0.3}])
def test_openvino_takes_any_thresholds(exported, openvino_files, pictures, thresholds):
    onnx_file = load_predictor(exported["complete"], "cpu", **thresholds)
    report = parity(onnx_file, load_predictor(openvino_files["complete"], **thresholds), pictures)
    assert report.unmatched_share == 0
    usual = parity(load_predictor(exported["complete"], "cpu"), onnx_file, pictures)
    assert usual.people_reference != usual.people_candidate


@pytest.mark.parametrize("thresholds", [{"score_threshold": 0.05}, {"nms_iou": 0.5}])
def test_thresholds_that_a_foreign_file_has_baked_in_are_not_ignored(
    exported, tmp_path, thresholds
):
    model = onnx.load(exported["complete"])
    for node in model.graph.node:
        node.name = node.name.replace("keep/", "their/")
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="baked in"):
        OpenVinoPredictor(tmp_path / "foreign.onnx", **thresholds)
    assert OpenVinoPredictor(tmp_path / "foreign.onnx", score_threshold=0.3)


def test_openvino_trims_padding_where_the_file_has_dynamic_sides(
    exported, openvino_files, pictures
):
    onnx_file = load_predictor(exported["complete"], "cpu", 0.2, padding="stride")
    openvino = load_predictor(openvino_files["complete"], score_threshold=0.2, padding="stride")
    wide = [picture[: picture.shape[0] // 2] for picture in pictures]
    found = onnx_file(wide)
    assert sum(map(len, found)) > 5
    for a, b in zip(found, openvino(wide), strict=True):
        same_poses(a, b)


def test_onnx_prediction_needs_no_torch(exported, pictures, tmp_path):
    np.save(tmp_path / "picture.npy", pictures[0])
    program = (
        "import sys, numpy as np\n"
        "from rtmo.deployment import load_predictor\n"
        "import rtmo.cli\n"
        "assert 'onnxruntime' not in sys.modules\n"
        "predict = load_predictor(sys.argv[1])\n"
        "print(len(predict(np.load(sys.argv[2]))))\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "assert 'onnx' not in sys.modules, 'onnx was imported'\n"
    )
    command = [sys.executable, "-c", program, exported["complete"], tmp_path / "picture.npy"]
    root = Path(__file__).resolve().parents[3]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) > 0


def test_importing_the_package_imports_no_runtime():
    program = (
        "import sys, rtmo.deployment\n"
        "assert not {'torch', 'onnx', 'onnxruntime', 'openvino'} & set(sys.modules)\n"
    )
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
        np.zeros((8, 8, 3), np.uint16),
        np.full((8, 8, 3), np.nan, np.float32),
        "photo.jpg",
    ],
)
def test_what_is_no_bgr_picture_is_refused_with_what_was_given(exported, picture):
    predict = load_predictor(exported["complete"])
    with pytest.raises(ValueError, match=r"must be .*got"):
        predict([picture])


def test_a_missing_file_and_another_suffix_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        load_predictor(tmp_path / "model.onnx")
    (tmp_path / "model.pt").touch()
    with pytest.raises(ValueError, match="suffix"):
        load_predictor(tmp_path / "model.pt")


@pytest.mark.parametrize("keep", [0, 100, 10_000])
def test_a_damaged_onnx_file_is_refused(exported, tmp_path, keep):
    path = tmp_path / "model.onnx"
    path.write_bytes(exported["complete"].read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"model\.onnx"):
        load_predictor(path)


@pytest.mark.parametrize("keep", [0, 100, 1_000_000])
def test_damaged_weights_are_refused(weights, tmp_path, keep):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        load_predictor(path)


def test_a_damaged_openvino_file_is_refused(tmp_path):
    (tmp_path / "model.xml").write_text("<net>")
    with pytest.raises(ValueError, match="not a readable OpenVINO model"):
        load_predictor(tmp_path / "model.xml")


@pytest.fixture(scope="module")
def official_file(model, tmp_path_factory) -> Path:
    """The same weights in the layout of mmdeploy: one picture, 50 people, no metadata."""
    path = tmp_path_factory.mktemp("official") / "model.onnx"
    write_official_layout(model, path, INPUT_SIZE, score_threshold=0.1, nms_iou=0.65)
    return path


def test_a_file_without_metadata_needs_an_explicit_skeleton(official_file):
    with pytest.raises(MetadataError, match="skeleton="):
        load_predictor(official_file)
    with pytest.raises(MetadataError, match="17 keypoints"):
        load_predictor(official_file, skeleton=CROWDPOSE14)


def test_the_official_layout_gives_the_people_of_ours(exported, official_file, pictures):
    official = load_predictor(official_file, "cpu", 0.2, skeleton=COCO17)
    found = official(pictures)
    assert sum(len(poses) for poses in found) > 5
    for theirs, ours in zip(
        found, load_predictor(exported["complete"], "cpu", 0.2)(pictures), strict=True
    ):
        same_poses(theirs, ours)


def test_another_skeleton_than_the_file_names_is_refused(exported):
    with pytest.raises(MetadataError, match=r"coco17.*crowdpose14"):
        load_predictor(exported["complete"], skeleton=CROWDPOSE14)


def test_a_foreign_network_with_other_outputs_is_refused(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "relu.onnx")
    with pytest.raises(MetadataError, match="fixed square"):
        load_predictor(tmp_path / "relu.onnx", skeleton=COCO17)


def test_a_gpu_that_is_not_there_is_an_error_and_not_a_quiet_cpu(exported, weights):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this host has a CUDA device")
    with pytest.raises(UnavailableError, match="cuda"):
        load_predictor(exported["complete"], "cuda")
    with pytest.raises(UnavailableError, match="cuda"):
        load_predictor(weights, "cuda")
    with pytest.raises(UnavailableError, match=r"'tensorrt' was asked for.*onnxruntime-gpu"):
        load_predictor(exported["complete"], "tensorrt")
    with pytest.raises(UnavailableError, match=r"a provider of ONNX Runtime.*give the ONNX file"):
        load_predictor(weights, "tensorrt")


def test_the_model_in_memory_is_left_as_it_is(model, pictures):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    TorchPredictor(model, "cpu", input_size=INPUT_SIZE)(pictures)
    assert model.training
    assert all(bool((tensor == before[name]).all()) for name, tensor in model.state_dict().items())
    model.eval()


@pytest.fixture(scope="module")
def oblong(formula) -> list[np.ndarray]:
    """Pictures whose trimmed inputs have three sizes; the last fits the square exactly."""
    sizes = ((100, 224), (224, 96), (300, 400), (100, 224), (224, 224))
    images = formula.image("oblong", 416, 416, len(sizes)).transpose(0, 2, 3, 1).astype(np.uint8)
    return [
        np.ascontiguousarray(image[:h, :w]) for image, (h, w) in zip(images, sizes, strict=True)
    ]


def test_trimmed_pictures_give_the_same_poses_in_torch_and_onnx_alone_and_in_a_list(
    weights, exported, oblong
):
    torch = load_predictor(weights, "cpu", 0.2, padding="stride")
    onnx_file = load_predictor(exported["complete"], "cpu", 0.2, padding="stride")
    inputs = [torch.framing.fit(picture).input_hw for picture in oblong]
    assert inputs == [(128, 224), (224, 96), (192, 224), (128, 224), (224, 224)]
    assert torch.framing.groups(oblong) == [[0, 3], [1], [2], [4]]
    found = onnx_file(oblong)
    assert sum(len(poses) for poses in found) > 5
    for picture, together, reference in zip(oblong, found, torch(oblong), strict=True):
        same_poses(together, onnx_file(picture))
        same_poses(together, reference)


def test_a_picture_of_the_inputs_own_shape_is_not_changed_by_trimming(weights, oblong):
    square, trimmed = (
        load_predictor(weights, "cpu", 0.2, padding=padding) for padding in ("square", "stride")
    )
    same_poses(square(oblong[-1]), trimmed(oblong[-1]))


def test_files_of_one_input_size_refuse_trimmed_pictures(exported, openvino_files):
    with pytest.raises(ValueError, match="224x224 only"):
        load_predictor(exported["raw"], padding="stride")
    with pytest.raises(ValueError, match=r"3,224,224\] only"):
        load_predictor(openvino_files["raw"], padding="stride")


def test_a_batch_of_different_input_sizes_is_refused_with_what_to_do(weights, oblong):
    framing = load_predictor(weights, "cpu", padding="stride").framing
    with pytest.raises(ValueError, match=r"Framing\.groups"):
        framing.prepare(oblong)

"""The `rtmo` command, run as a person runs it."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtmo import cli
from rtmo.deployment.metadata import ModelMetadata
from rtmo.skeleton import COCO17


@pytest.fixture
def rtmo(monkeypatch, capsys):
    """Run `rtmo ARGUMENTS`; gives (exit status, standard output, standard error)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["rtmo", *(str(argument) for argument in arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An ONNX file that finds the same two people in every picture: a real graph of constants."""
    dets = np.array([[[8, 8, 40, 56, 0.9], [20, 10, 60, 60, 0.4]]], np.float32)
    keypoints = np.zeros((1, 2, 17, 3), np.float32) + np.float32([30, 30, 0.8])
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 64, 64])
    outputs = [
        helper.make_tensor_value_info("dets", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, None),
    ]
    nodes = [
        helper.make_node("ReduceMax", ["input"], ["zero"], keepdims=0, name="zero_of_pixels"),
        helper.make_node("Mul", ["zero", "nothing"], ["none"]),
        helper.make_node("Add", ["none", "dets_value"], ["dets"]),
        helper.make_node("Add", ["none", "keypoints_value"], ["keypoints"]),
    ]
    values = {"dets_value": dets, "keypoints_value": keypoints, "nothing": np.float32(0)}
    initialisers = [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    graph = helper.make_graph(nodes, "two_people", [pixels], outputs, initialisers)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=64, form="complete")
    for key, value in metadata.to_properties().items():
        proto.metadata_props.add(key=key, value=value)
    path = tmp_path_factory.mktemp("model") / "two.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.jpg"
    cv2.imwrite(str(path), np.full((48, 64, 3), 90, np.uint8))
    return path


def test_a_photo_says_how_many_people_it_has(rtmo, model, photo):
    assert rtmo("predict", photo, "--weights", model) == (0, "photo.jpg: 2 people\n", "")


def test_json_is_a_coco_result_list_in_picture_pixels(rtmo, model, photo):
    status, out, _ = rtmo("predict", photo, "--weights", model, "--json")
    assert status == 0
    first, second = json.loads(out)
    assert (first["image_id"], first["category_id"], first["file_name"]) == (1, 1, "photo.jpg")
    assert first["score"] > second["score"]
    # A 64 x 48 picture lies 8 pixels below the top of the 64 x 64 input, scale 1.
    assert first["bbox"] == pytest.approx([8, 0, 32, 48])
    assert first["keypoints"][:3] == pytest.approx([30, 22, 0.8])


def test_drawn_pictures_and_poses_are_written(rtmo, model, photo, tmp_path):
    out = tmp_path / "out"
    status, _, err = rtmo("predict", photo, "--weights", model, "--out", out)
    assert (status, err) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["photo.jpg", "poses.json"]
    assert len(json.loads((out / "poses.json").read_text())) == 2
    assert cv2.imread(str(out / "photo.jpg")).std() > cv2.imread(str(photo)).std()


def test_a_folder_numbers_its_pictures_by_name(rtmo, model, photo):
    cv2.imwrite(str(photo.with_name("another.png")), np.zeros((20, 30), np.uint8))
    status, out, _ = rtmo("predict", photo.parent, "--weights", model, "--json")
    assert status == 0
    names = {result["image_id"]: result["file_name"] for result in json.loads(out)}
    assert names == {1: "another.png", 2: "photo.jpg"}


def test_a_threshold_leaves_people_out(rtmo, model, photo):
    _, out, _ = rtmo("predict", photo, "--weights", model, "--score-threshold", 0.5)
    assert out == "photo.jpg: 1 person\n"


def test_a_threshold_that_no_score_can_have_is_refused(rtmo, model, photo):
    status, out, err = rtmo("predict", photo, "--weights", model, "--score-threshold", 50)
    assert (status, out) == (2, "")
    assert "less than or equal to" in err


def test_pictures_are_never_overwritten_by_drawings(rtmo, model, photo):
    before = photo.read_bytes()
    status, _, err = rtmo("predict", photo, "--weights", model, "--out", photo.parent)
    assert status == 2
    assert "overwritten" in err
    assert photo.read_bytes() == before


def damaged(photo: Path, model: Path, what: str) -> tuple[Path, Path]:
    """A photo and a model, one of them spoiled."""
    folder = photo.parent
    if what == "missing picture":
        return folder / "none.jpg", model
    if what == "missing model":
        return photo, folder / "none.onnx"
    if what == "truncated picture":
        photo.write_bytes(photo.read_bytes()[:-20])
        return photo, model
    if what == "text as picture":
        photo.write_text("a thousand words")
        return photo, model
    spoiled = folder / ("model.txt" if what == "wrong suffix" else "model.onnx")
    spoiled.write_bytes(model.read_bytes()[:200])
    return photo, spoiled


@pytest.mark.parametrize(
    "what",
    [
        "missing picture",
        "missing model",
        "truncated picture",
        "text as picture",
        "wrong suffix",
        "corrupt model",
    ],
)
def test_a_bad_input_is_one_message_and_status_2(rtmo, model, photo, what):
    picture, weights = damaged(photo, model, what)
    status, out, err = rtmo("predict", picture, "--weights", weights)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert len(err.splitlines()) < 24
    assert "Traceback" not in err


@pytest.fixture
def coco_files(tmp_path) -> tuple[Path, Path]:
    """One annotated person, and a detection that is exactly it."""
    keypoints = np.stack([np.arange(17) * 3, np.arange(17) * 2, np.full(17, 2)], axis=1)
    person = {
        "id": 1,
        "image_id": 5,
        "category_id": 1,
        "keypoints": keypoints.ravel().tolist(),
        "num_keypoints": 17,
        "bbox": [0, 0, 48, 48],
        "area": 2304,
        "iscrowd": 0,
    }
    truth = {
        "images": [{"id": 5, "width": 64, "height": 64, "file_name": "5.jpg"}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}],
    }
    found = {key: person[key] for key in ("image_id", "category_id", "keypoints", "bbox")}
    annotations, detections = tmp_path / "truth.json", tmp_path / "found.json"
    annotations.write_text(json.dumps(truth))
    detections.write_text(json.dumps([found | {"score": 0.9}]))
    return detections, annotations


def test_a_perfect_result_scores_1(rtmo, coco_files):
    detections, annotations = coco_files
    arguments = ("evaluate", "--detections", detections, "--annotations", annotations)
    status, out, _ = rtmo(*arguments, "--json")
    assert status == 0
    assert json.loads(out)["AP"] == pytest.approx(1)
    status, out, _ = rtmo(*arguments)
    assert status == 0
    assert "coco protocol, 1 images, 1 people" in out


@pytest.mark.parametrize("content", ["", "{}", "[{}]", "not json"])
def test_a_result_file_that_is_none_is_refused(rtmo, coco_files, content):
    detections, annotations = coco_files
    detections.write_text(content)
    status, _, err = rtmo("evaluate", "--detections", detections, "--annotations", annotations)
    assert status == 2
    assert "Traceback" not in err


def test_bench_compares_two_models_in_turns(rtmo, model, photo):
    arguments = ("bench", model, "--pictures", photo, "--compare", model, "--runs", 3)
    status, out, err = rtmo(*arguments, "--warmup-runs", 0, "--batch", 1)
    assert (status, err) == (0, "")
    assert "times as long as the baseline (95 %: " in out
    assert out.count("pictures/s in batches of 1") == 2


def test_bench_measures_accuracy_of_the_same_files_and_plots_it(rtmo, model, truth, tmp_path):
    options = ("--annotations", truth, "--plot", tmp_path / "plot.png")
    few = ("--runs", 2, "--warmup-runs", 0, "--batch", 1)
    status, out, err = rtmo("bench", model, "--pictures", tmp_path, *few, *options, "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report["AP"] == {"model": pytest.approx(1.0)}
    assert report["files"] == {"model": str(model)}
    assert len(report["totals_ms"]["model"]) == 2
    assert report["batches"]["pictures_per_second"]["model"] > 0
    assert cv2.imread(str(tmp_path / "plot.png")).shape[1] == 840
    status, _, err = rtmo("bench", model, "--pictures", tmp_path, *few, *options[2:])
    assert status == 2
    assert "needs --annotations" in err


def test_export_of_a_missing_file_is_refused(rtmo, tmp_path):
    status, _, err = rtmo("export", "--weights", tmp_path / "none", "--out", tmp_path / "out")
    assert status == 2
    assert "there is no file" in err


@pytest.mark.parametrize("command", [(), ("predict",), ("evaluate",), ("export",), ("bench",)])
def test_every_command_has_help(rtmo, command):
    status, out, _ = rtmo(*command, "--help")
    assert status == 0
    assert "Usage" in out


@pytest.fixture
def truth(tmp_path) -> Path:
    """Annotations of one picture a.jpg beside them, with the person that the model finds."""
    cv2.imwrite(str(tmp_path / "a.jpg"), np.full((64, 64, 3), 90, np.uint8))
    person = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [8, 8, 32, 48],
        "area": 800.0,
        "num_keypoints": 17,
        "keypoints": [30, 30, 2] * 17,
    }
    images = [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 64}]
    path = tmp_path / "truth.json"
    categories = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]
    path.write_text(
        json.dumps({"images": images, "annotations": [person], "categories": categories})
    )
    return path


def test_verify_weights_measures_on_a_persons_own_copy(rtmo, model, truth, tmp_path):
    arguments = ("verify-weights", model, "--annotations", truth, "--images", tmp_path)
    status, out, _ = rtmo(*arguments, "--json")
    assert status == 0
    assert json.loads(out)["measured"]["AP"] == pytest.approx(1.0)
    assert json.loads(out)["published"] == {}
    (tmp_path / "a.jpg").unlink()
    status, _, err = rtmo(*arguments)
    assert status == 2
    assert "image 7: there is no readable picture" in err

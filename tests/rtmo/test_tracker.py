"""People who cross in a drawn video keep their ids; a graph that sees colours finds them."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtmo.deployment.metadata import ModelMetadata
from rtmo.skeleton import COCO17
from rtmo.structures import Poses
from rtmo.tracker import LIFESPAN_S, PeopleTracker

ROOT = Path(__file__).resolve().parents[2]
SIDE, WIDTH, HEIGHT = 128, 16, 56
FRAMES, FPS = 60, 20.0
BLUE_THEN_RED = (0.25, 0.75)
"""Keypoint scores by which the graph tells who is who."""


@pytest.fixture(scope="module", autouse=True)
def library():
    pytest.importorskip("edgefirst.tracker", reason="needs edgefirst-tracker (rtmo[track])")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Finds a blue and a red person by the middle of what can be seen of them.

    The score is the visible share, so a person who is hidden fades and is gone.
    """
    grid = np.arange(SIDE, dtype=np.float32)
    half = np.array([-WIDTH / 2, -HEIGHT / 2, WIDTH / 2, HEIGHT / 2], np.float32)
    constants = {
        "x_grid": np.broadcast_to(grid, (1, 1, SIDE, SIDE)).copy(),
        "y_grid": np.broadcast_to(grid[:, None], (1, 1, SIDE, SIDE)).copy(),
        "least": np.float32(100),
        "area": np.float32(1.1 * WIDTH * HEIGHT * 155),
        "some": np.float32(1),
        "half": half[None, None],
        "sides": np.array([2, 3], np.int64),
        "who": np.array(BLUE_THEN_RED, np.float32)[None, :, None, None].repeat(17, 2),
        "points_shape": np.array([1, 2, 17, 2], np.int64),
        "axis_2": np.array([2], np.int64),
    }

    def node(kind: str, inputs: str, output: str, **attributes):
        return helper.make_node(kind, inputs.split(), [output], **attributes)

    nodes = [
        helper.make_node("Split", ["input"], ["blue", "green", "red"], axis=1, num_outputs=3),
        node("Sub", "blue red", "blueness"),
        node("Sub", "red blue", "redness"),
        node("Concat", "blueness redness", "colours", axis=1),
        node("Sub", "colours least", "above"),
        node("Relu", "above", "masks"),
        node("ReduceSum", "masks sides", "sums", keepdims=0),
        node("Add", "sums some", "counts"),
        *(
            one
            for axis in "xy"
            for one in (
                node("Mul", f"masks {axis}_grid", f"{axis}_masks"),
                node("ReduceSum", f"{axis}_masks sides", f"{axis}_sums", keepdims=0),
                node("Div", f"{axis}_sums counts", f"{axis}_flat"),
                node("Unsqueeze", f"{axis}_flat axis_2", axis),
            )
        ),
        node("Concat", "x y", "centres", axis=2),
        node("Concat", "x y x y", "corners", axis=2),
        node("Add", "corners half", "boxes"),
        node("Div", "sums area", "shares"),
        node("Unsqueeze", "shares axis_2", "scores"),
        node("Concat", "boxes scores", "dets", axis=2),
        node("Unsqueeze", "centres axis_2", "centres_4"),
        node("Expand", "centres_4 points_shape", "points"),
        node("Concat", "points who", "keypoints", axis=3),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, [1, 2, 5]),
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, [1, 2, 17, 3]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=SIDE, form="complete")
    for key, value in metadata.to_properties().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    path = tmp_path_factory.mktemp("model") / "colours.onnx"
    onnx.save(proto, path)
    return path


@pytest.fixture
def crossing(tmp_path) -> Path:
    """Two people walk towards each other; the red one passes in front of the blue one."""
    path = tmp_path / "crossing.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (SIDE, SIDE))
    for x in np.linspace(15, SIDE - 15, FRAMES):
        frame = np.full((SIDE, SIDE, 3), 60, np.uint8)
        for centre, colour, y in ((x, (255, 0, 0), 62), (SIDE - x, (0, 0, 255), 64)):
            size = np.array([WIDTH, HEIGHT])
            corner = (np.array([centre, y]) - size / 2).round().astype(int)
            cv2.rectangle(frame, corner, corner + size, colour, cv2.FILLED)
        writer.write(frame)
    writer.release()
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-c", "from rtmo.cli import main; main()", "predict", *arguments)
    return subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_people_who_cross_in_a_video_keep_their_ids(model, crossing, tmp_path):
    done = run(crossing, "--weights", model, "--track", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    people = json.loads((tmp_path / "out" / "poses.json").read_text())
    ids = {
        who: {person["track_id"] for person in people if person["keypoints"][2] == who}
        for who in BLUE_THEN_RED
    }
    assert len(people) < 2 * FRAMES, "nobody was ever hidden"
    assert sorted(map(list, ids.values())) == [[1], [2]]
    capture = cv2.VideoCapture(str(tmp_path / "out" / "crossing.mp4"))
    assert capture.read()[0]


def test_pictures_have_no_tracks(model, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    done = run(tmp_path / "a.png", "--weights", model, "--track")
    assert done.returncode == 2
    assert "--track needs a video" in done.stderr


def person(x: float, score: float = 0.9) -> Poses:
    return Poses(
        np.array([[x, 10, x + 40, 110]], np.float32),
        np.array([score], np.float32),
        np.zeros((1, 17, 2), np.float32),
        np.zeros((1, 17), np.float32),
    )


NOBODY = Poses(np.zeros((0, 4)), np.zeros(0), np.zeros((0, 17, 2)), np.zeros((0, 17)))


def test_a_person_is_remembered_for_a_time_and_not_for_frames():
    for fps in (10.0, 50.0):
        tracker = PeopleTracker(fps)
        assert tracker.update(person(100)) == [1]
        for _ in range(int(0.8 * LIFESPAN_S * fps)):
            assert tracker.update(NOBODY) == []
        assert tracker.update(person(102)) == [1]
        for _ in range(int(1.5 * LIFESPAN_S * fps)):
            tracker.update(NOBODY)
        assert tracker.update(person(102)) == [2]


def test_a_doubtful_person_continues_a_track_and_begins_none():
    tracker = PeopleTracker(25.0)
    assert tracker.update(person(100, score=0.15)) == [None]
    assert tracker.update(person(100)) == [1]
    assert tracker.update(person(101, score=0.15)) == [1]

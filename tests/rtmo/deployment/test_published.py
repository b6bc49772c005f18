"""A published model by its name, from a server: converted once, the fastest way remembered."""

import dataclasses
import functools
import hashlib
import json
import logging
import re
import shutil
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import onnx
import pytest

from rtmo.deployment import load_predictor, official_files
from rtmo.deployment.cache import cache_folder
from rtmo.deployment.official_files import OFFICIAL_FILES, OfficialOnnx
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.parity import parity
from rtmo.deployment.runners import TorchPredictor
from rtmo.model.mmpose_checkpoint import save_official

pytestmark = pytest.mark.slow
NAME = "rtmo-t-test"
SIDE = 416


@pytest.fixture(scope="module")
def served(model, tmp_path_factory):
    """Folder of a server with a checkpoint of the published layout, and its catalogue entry."""
    folder = tmp_path_factory.mktemp("served")
    path = folder / "model.pth"
    save_official(model, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"rtmo-t_test-416x416-{digest[:8]}_20231211.pth"
    path.rename(folder / name)
    return folder, dataclasses.replace(OFFICIAL_FILES["rtmo-t-body7"], file=name, onnx=None)


@contextmanager
def catalogue(served, cache, requests):
    """The server runs and `rtmo-t-test` is published."""
    folder, entry = served

    class Handler(SimpleHTTPRequestHandler):
        def log_request(self, *_):
            requests.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with pytest.MonkeyPatch.context() as patch, ThreadingHTTPServer(("127.0.0.1", 0), handler) as s:
        thread = threading.Thread(target=s.serve_forever, daemon=True)
        thread.start()
        patch.setenv("RTMO_MIRROR", f"http://127.0.0.1:{s.server_port}")
        patch.setenv("RTMO_CACHE", str(cache))
        patch.setattr(official_files, "ADDRESS", "http://127.0.0.1:9/")
        patch.setattr(official_files, "OFFICIAL_FILES", {**OFFICIAL_FILES, NAME: entry})
        yield
        s.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def first_use(served, tmp_path_factory):
    """What a first use leaves in the cache, says, and asks the server for."""
    cache, requests, said = tmp_path_factory.mktemp("first") / "cache", [], []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("rtmo.deployment")
    logger.addHandler(handler)
    with catalogue(served, cache, requests):
        load_predictor(NAME, "cpu")
    logger.removeHandler(handler)
    return cache, requests, said


@pytest.fixture
def used(first_use, served, tmp_path):
    """A copy of the cache after a first use, with the server; requests from here on."""
    shutil.copytree(first_use[0], tmp_path / "cache")
    requests = []
    with catalogue(served, tmp_path / "cache", requests):
        yield requests


def remembered():
    (file,) = (cache_folder() / "fastest").iterdir()
    return file, json.loads(file.read_text())


def forget_torch(monkeypatch):
    """As if torch were not installed."""
    monkeypatch.setitem(sys.modules, "torch", None)


def test_a_first_use_converts_compares_and_times(first_use):
    cache, requests, said = first_use
    assert len(requests) == 1
    assert said[0] == f"first use of {NAME} on this machine: its weights are converted"
    assert re.search(rf"{NAME} is ready after \d+ s: .* this machine will use", said[1])
    (file,) = (cache / "fastest").iterdir()
    ways = {way["name"]: way["problem"] for way in json.loads(file.read_text())["ways"]}
    assert ways == {"torch": "", "ONNX Runtime": "", "OpenVINO": ""}
    assert len([path for path in (cache / "converted").rglob("*") if path.is_file()]) == 1


def test_later_uses_open_what_was_fastest_and_find_what_torch_finds(used, model, pictures, caplog):
    kinds = {
        "torch": TorchPredictor,
        "ONNX Runtime": OnnxPredictor,
        "OpenVINO": OpenVinoPredictor,
    }
    _, choice = remembered()
    predict = load_predictor(NAME, "cpu")
    assert type(predict) is kinds[choice["ways"][0]["name"]]
    assert caplog.text == ""
    assert used == []
    torch = TorchPredictor(model, "cpu", input_size=SIDE)
    # People of nearly equal score may change places, so they are paired by their boxes.
    report = parity(torch, predict, pictures)
    assert report.people_reference > 0
    assert report.unmatched_share == 0
    # In float32 a bin of two nearly equal ones may win: a few keypoints move by 0.1 px.
    assert report.keypoint_px_p99 < 0.05


def test_the_remembered_order_decides_and_what_does_not_open_is_passed_by(used, caplog):
    file, choice = remembered()
    order = {"OpenVINO": 1.0, "torch": 2.0, "ONNX Runtime": 3.0}
    choice["ways"] = [{"name": name, "p50_ms": ms, "problem": ""} for name, ms in order.items()]
    file.write_text(json.dumps(choice))
    assert type(load_predictor(NAME, "cpu")).__name__ == "OpenVinoPredictor"
    assert type(load_predictor(NAME, "cpu", nms_iou=0.5)).__name__ == "OpenVinoPredictor"
    (converted,) = (cache_folder() / "converted").rglob("*.onnx")
    content = converted.read_bytes()
    converted.write_bytes(b"damaged")
    assert type(load_predictor(NAME, "cpu")).__name__ == "TorchPredictor"
    assert "OpenVINO is not used" in caplog.text
    converted.write_bytes(content)
    trimmed = load_predictor(NAME, "cpu", padding="stride")
    assert trimmed.framing.padding == "stride"
    assert len([*(cache_folder() / "fastest").iterdir()]) == 2


def test_another_version_of_a_runtime_is_timed_again(used, caplog):
    file, choice = remembered()
    choice["host"]["versions"]["onnxruntime"] = "1.0"
    file.write_text(json.dumps(choice))
    load_predictor(NAME, "cpu")
    assert "this machine will use" in caplog.text
    assert "is converted" not in caplog.text


def test_without_torch_the_converted_file_goes_on_being_used(used, monkeypatch):
    forget_torch(monkeypatch)
    predict = load_predictor(NAME, "cpu")
    assert type(predict).__name__ in {"OnnxPredictor", "OpenVinoPredictor"}


@pytest.fixture
def deployed(exported, served, tmp_path):
    """An archive of the published deployment's layout: one side, and no word about itself."""
    folder, entry = served
    proto = onnx.load(exported["complete"])
    del proto.metadata_props[:]
    for axis in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_value = 224
    del proto.graph.input[1:]
    content = proto.SerializeToString()
    (folder / "onnx_sdk").mkdir(exist_ok=True)
    archive = folder / "onnx_sdk" / entry.file.replace(".pth", ".zip")
    with zipfile.ZipFile(archive, "w") as written:
        written.writestr("rtmo/end2end.onnx", content)
    entry = dataclasses.replace(entry, onnx=OfficialOnnx(hashlib.sha256(content).hexdigest()))
    with catalogue((folder, entry), tmp_path / "cache", []):
        yield


def test_without_torch_the_published_file_runs_in_the_faster_runtime(
    deployed, exported, pictures, monkeypatch
):
    forget_torch(monkeypatch)
    predict = load_predictor(NAME, "cpu")
    _, choice = remembered()
    assert {way["name"]: way["problem"] for way in choice["ways"]} == {
        "ONNX Runtime, published file": "",
        "OpenVINO, published file": "",
    }
    report = parity(OnnxPredictor(exported["complete"], "cpu"), predict, pictures)
    assert report.people_reference > 0
    assert report.unmatched_share == 0
    assert report.keypoint_px_p99 < 0.05

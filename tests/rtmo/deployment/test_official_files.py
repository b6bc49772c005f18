"""The catalogue of published weights, and a model of it from a server to people in a picture."""

import dataclasses
import functools
import hashlib
import re
import shutil
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from rtmo.deployment import UnavailableError, load_predictor, official_files
from rtmo.deployment.cache import cache_folder
from rtmo.deployment.official_files import (
    OFFICIAL_FILES,
    OfficialOnnx,
    fetch_official,
    fetch_official_onnx,
    official_file,
)
from rtmo.fetch import FetchError, Patience, TransferError
from rtmo.model.build import build_rtmo
from rtmo.model.mmpose_checkpoint import save_official

PATIENCE = Patience(attempts=1, timeout_s=2.0)


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A server beside the official one, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("RTMO_MIRROR", f"http://127.0.0.1:{httpd.server_port}")
        monkeypatch.setenv("RTMO_CACHE", str(tmp_path / "cache"))
        # The official address is out of reach in a test.
        monkeypatch.setattr(official_files, "ADDRESS", "http://127.0.0.1:9/")
        yield folder
        httpd.shutdown()
        thread.join()


@pytest.fixture
def published(mirror, monkeypatch):
    """A file of the published layout on the mirror, with a checksum of its own: `rtmo-t-test`."""
    torch.manual_seed(0)
    model = build_rtmo("t")
    path = mirror / "model.pth"
    save_official(model, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"rtmo-t_test-416x416-{digest[:8]}_20231211.pth"
    path.rename(mirror / name)
    entry = dataclasses.replace(OFFICIAL_FILES["rtmo-t-body7"], file=name)
    monkeypatch.setattr(official_files, "OFFICIAL_FILES", {**OFFICIAL_FILES, "rtmo-t-test": entry})
    return model


def test_every_name_is_a_preset_of_the_same_size(repository):
    presets = {path.stem for path in (repository / "presets").glob("*.yaml")}
    assert set(OFFICIAL_FILES) <= presets
    for name, entry in OFFICIAL_FILES.items():
        assert name.split("-")[1] == entry.size
        assert f"{entry.input_size}x{entry.input_size}" in entry.file


def test_checksums_agree_with_the_names():
    for entry in OFFICIAL_FILES.values():
        assert len(entry.sha256_start) in (8, 64)
        assert f"-{entry.sha256_start[:8]}_" in entry.file


def test_a_fetched_file_is_kept(published, mirror):
    first = fetch_official("rtmo-t-test", PATIENCE)
    next(mirror.iterdir()).unlink()
    assert fetch_official("rtmo-t-test", PATIENCE) == first


def test_another_content_is_refused(published, mirror, caplog):
    next(mirror.iterdir()).write_bytes(b"something else")
    with pytest.raises(TransferError, match=r"127\.0\.0\.1:9"):  # the official address comes next
        fetch_official("rtmo-t-test", PATIENCE)
    assert re.search(r"has sha256 .*, expected .{8}: it was damaged", caplog.text)
    assert not list(cache_folder().glob("*.pth"))


def test_a_file_that_cannot_be_had_says_where_to_put_it(mirror, tmp_path):
    with pytest.raises(TransferError, match="failed 1 times in a row"):
        fetch_official("rtmo-s-coco", PATIENCE)
    expected = tmp_path / "cache" / OFFICIAL_FILES["rtmo-s-coco"].file
    expected.write_bytes(b"not the published file")
    with pytest.raises(FetchError, match=r"expected 8db55a59"):
        fetch_official("rtmo-s-coco", PATIENCE)


def test_without_a_network_address_checksum_and_place_are_told(mirror, tmp_path):
    with pytest.raises(TransferError) as told:
        fetch_official("rtmo-s-body7", PATIENCE)
    entry = OFFICIAL_FILES["rtmo-s-body7"]
    for fact in (f"http://127.0.0.1:9/{entry.file}", entry.sha256, str(tmp_path / "cache")):
        assert fact in str(told.value)


@pytest.fixture
def deployed(mirror, monkeypatch) -> bytes:
    """An archive of the published deployment on the mirror, of a model `rtmo-t-test`."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["input"], ["zero"], keepdims=0),
            helper.make_node("Mul", ["zero", "nothing"], ["none"]),
            helper.make_node("Add", ["none", "dets_value"], ["dets"]),
            helper.make_node("Add", ["none", "keypoints_value"], ["keypoints"]),
        ],
        "one_person",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 64, 64])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["batch", "n", 5]),
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["batch", "n", 17, 3]),
        ],
        [
            numpy_helper.from_array(np.float32(0), "nothing"),
            numpy_helper.from_array(np.float32([[[8, 8, 40, 56, 0.9]]]), "dets_value"),
            numpy_helper.from_array(np.full((1, 1, 17, 3), 0.8, np.float32), "keypoints_value"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content = proto.SerializeToString()
    entry = dataclasses.replace(
        OFFICIAL_FILES["rtmo-t-body7"], onnx=OfficialOnnx(hashlib.sha256(content).hexdigest())
    )
    (mirror / "onnx_sdk").mkdir()
    path = mirror / "onnx_sdk" / entry.file.replace(".pth", ".zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("2023/rtmo/end2end.onnx", content)
    monkeypatch.setattr(official_files, "OFFICIAL_FILES", {**OFFICIAL_FILES, "rtmo-t-test": entry})
    return content


def test_without_torch_a_name_becomes_the_published_onnx_file(deployed, mirror, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    predict = load_predictor("rtmo-t-test", "cpu")
    poses = predict(np.zeros((48, 64, 3), np.uint8))
    assert len(poses) == 1
    assert predict.skeleton == OFFICIAL_FILES["rtmo-t-body7"].skeleton
    shutil.rmtree(mirror / "onnx_sdk")
    for archive in cache_folder().rglob("*.zip"):
        archive.unlink()
    assert fetch_official_onnx("rtmo-t-test", PATIENCE).read_bytes() == deployed


def test_another_onnx_file_than_the_published_one_is_refused(deployed, mirror):
    (path,) = (mirror / "onnx_sdk").iterdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rtmo/end2end.onnx", b"another")
    with pytest.raises(FetchError, match=r"with sha256 .*, expected .*; delete it and run again"):
        fetch_official_onnx("rtmo-t-test", PATIENCE)


def test_without_torch_weights_say_how_to_convert_them(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "own.safetensors").write_bytes(b"")
    with pytest.raises(UnavailableError, match=r"needs torch.*rtmo export --weights own"):
        load_predictor(tmp_path / "own.safetensors")
    with pytest.raises(ValueError, match=r"torch weights only.*run rtmo-t-body7, rtmo-s-body7"):
        load_predictor("rtmo-m-coco")


def test_an_unknown_name_gets_the_likely_one():
    with pytest.raises(ValueError, match="did you mean rtmo-s-coco"):
        official_file("rtmo-s-cocoo")

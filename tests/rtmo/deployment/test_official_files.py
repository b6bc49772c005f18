"""The catalogue of published weights, and a model of it from a server to people in a picture."""

import dataclasses
import functools
import hashlib
import re
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch

from rtmo.deployment import load_predictor, official_files
from rtmo.deployment.official_files import OFFICIAL_FILES, fetch_official, official_file
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
    assert set(OFFICIAL_FILES) == presets
    for name, entry in OFFICIAL_FILES.items():
        assert name.split("-")[1] == entry.size
        assert f"{entry.input_size}x{entry.input_size}" in entry.file


def test_checksums_agree_with_the_names():
    for entry in OFFICIAL_FILES.values():
        assert len(entry.sha256_start) in (8, 64)
        assert f"-{entry.sha256_start[:8]}_" in entry.file


def test_a_name_becomes_a_predictor(published, mirror):
    predict = load_predictor("rtmo-t-test", "cpu", score_threshold=0.001)
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert predict(image).keypoints_xy.shape[1:] == (17, 2)
    assert predict.framing.input_size == 416


def test_a_fetched_file_is_kept(published, mirror):
    first = fetch_official("rtmo-t-test", PATIENCE)
    next(mirror.iterdir()).unlink()
    assert fetch_official("rtmo-t-test", PATIENCE) == first


def test_another_content_is_refused(published, mirror, caplog):
    next(mirror.iterdir()).write_bytes(b"something else")
    with pytest.raises(TransferError, match=r"127\.0\.0\.1:9"):  # the official address comes next
        fetch_official("rtmo-t-test", PATIENCE)
    assert re.search(r"has sha256 .*, expected .{8}: it was damaged", caplog.text)
    assert not list(official_files.cache_folder().glob("*.pth"))


def test_a_file_that_cannot_be_had_says_where_to_put_it(mirror, tmp_path):
    with pytest.raises(TransferError, match="failed 1 times in a row"):
        fetch_official("rtmo-s-coco", PATIENCE)
    expected = tmp_path / "cache" / OFFICIAL_FILES["rtmo-s-coco"].file
    expected.write_bytes(b"not the published file")
    with pytest.raises(FetchError, match=r"expected 8db55a59"):
        fetch_official("rtmo-s-coco", PATIENCE)


def test_an_unknown_name_gets_the_likely_one():
    with pytest.raises(ValueError, match="did you mean rtmo-s-coco"):
        official_file("rtmo-s-cocoo")

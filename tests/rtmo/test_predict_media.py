"""`rtmo predict` on videos, streams and things that are no pictures."""

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtmo.deployment.media import DrawnVideo, open_media
from rtmo.deployment.metadata import ModelMetadata
from rtmo.skeleton import COCO17

ROOT = Path(__file__).resolve().parents[2]
PREDICT = (sys.executable, "-c", "from rtmo.cli import main; main()", "predict")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """An ONNX file that finds the same person in every picture: a real graph of constants."""
    values = {
        "dets": np.array([[[8, 8, 40, 56, 0.9]]], np.float32),
        "keypoints": np.zeros((1, 1, 17, 3), np.float32) + np.float32([30, 30, 0.8]),
    }
    pixels = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 64, 64])
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_value"], [name]) for name in values],
        "one_person",
        [pixels],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in values],
        [numpy_helper.from_array(value, f"{name}_value") for name, value in values.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=64, form="complete")
    for key, value in metadata.to_properties().items():
        proto.metadata_props.add(key=key, value=value)
    path = tmp_path_factory.mktemp("model") / "one.onnx"
    onnx.save(proto, path)
    return path


def write_video(path: Path, frames: int, size_wh: tuple[int, int] = (64, 48)) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, size_wh)
    for number in range(frames):
        writer.write(np.full((size_wh[1], size_wh[0], 3), 10 * number % 256, np.uint8))
    writer.release()
    return path


def count_frames(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*PREDICT, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_video_gives_a_drawn_video_and_a_result_list(model, tmp_path):
    clip = write_video(tmp_path / "clip.avi", 7)
    out = tmp_path / "out"
    done = predict(clip, "--weights", model, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{clip}: 7 frames, 7 people in all\n"
    assert sorted(path.name for path in out.iterdir()) == ["clip.mp4", "poses.json"]
    results = json.loads((out / "poses.json").read_text())
    assert [result["image_id"] for result in results] == list(range(1, 8))
    assert count_frames(out / "clip.mp4") == 7
    drawn = open_media(str(out / "clip.mp4"))
    assert (drawn.count, drawn.video_fps) == (7, 10.0)
    assert next(drawn.frames)[1].std() > 5, "something is drawn on the even grey"


def test_a_stream_is_read_from_its_address(tmp_path):
    write_video(tmp_path / "clip.mp4", 4)
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        media = open_media(f"http://127.0.0.1:{server.server_address[1]}/clip.mp4")
        assert [name for name, _ in media.frames] == ["clip.mp4"] * 4
        server.shutdown()


def test_interrupting_leaves_complete_files(model, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", 4000)
    out = tmp_path / "out"
    command = [*PREDICT, clip, "--weights", model, "--out", out]
    running = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / "part-clip.mp4").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert "what is written is complete" in errors, errors
    assert sorted(path.name for path in out.iterdir()) == ["clip.mp4", "poses.json"]
    results = json.loads((out / "poses.json").read_text())
    assert 0 < len(results) < 4000
    assert count_frames(out / "clip.mp4") == len(results)


def test_frames_that_change_their_size_keep_the_videos(tmp_path):
    with DrawnVideo(tmp_path / "a.mkv", 5.0) as video:
        for height, width in ((48, 64), (96, 128)):
            video.write(np.zeros((height, width, 3), np.uint8))
    frames = [frame.shape for _, frame in open_media(str(tmp_path / "a.mp4")).frames]
    assert frames == [(48, 64, 3)] * 2


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is huge and is not."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


GIF = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00"
BAD_SOURCES = {
    "empty.jpg": b"",
    "text.jpg": b"a thousand words",
    "animation.jpg": GIF,
    "broken.gif": GIF,
    "huge.png": png_of_size(60_000, 60_000),
    "noise.mp4": bytes(range(256)) * 8,
    "empty.mp4": b"",
}


@pytest.mark.parametrize("name", BAD_SOURCES)
def test_what_is_no_picture_or_video_is_one_clear_error(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(BAD_SOURCES[name])
    with pytest.raises(ValueError, match=name):
        next(open_media(str(path)).frames)


@pytest.mark.parametrize("source", ["97", "http://127.0.0.1:9/none.mp4"])
def test_a_camera_or_stream_that_is_not_there_is_one_clear_error(source):
    with pytest.raises(ValueError, match="camera that is connected"):
        open_media(source)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((40, 50), 90, np.uint8),
        np.full((40, 50, 4), 90, np.uint8),
        np.full((40, 50, 3), 40_000, np.uint16),
    ],
    ids=["grey", "RGBA", "16 bits"],
)
def test_files_of_other_pixel_kinds_become_ordinary_pictures(pixels, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)
    ((_, picture),) = open_media(str(tmp_path / "a.png")).frames
    assert (picture.shape, picture.dtype) == ((40, 50, 3), np.uint8)

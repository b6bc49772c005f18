"""The HTTP server over real sockets: batches, limits, nonsense, moved aliases, the end."""

import base64
import contextlib
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import httpx
import numpy as np
import onnx
import pytest
import uvicorn
from onnx import TensorProto, helper, numpy_helper

from pipelines.params import ServeConfig
from pipelines.registry import commands
from pipelines.registry.release import register
from pipelines.serving.app import build_app
from pipelines.serving.models import (
    Alias,
    LiveModel,
    ModelAddressError,
    open_file,
    parse_address,
)
from pipelines.serving.server import LOOPBACK_HOSTS, UnnamedHostError, hosts_of
from rtmo.deployment import load_predictor
from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import ModelMetadata
from rtmo.deployment.postprocess import to_lists
from rtmo.skeleton import COCO17

INPUT_SIZE = 64
CONFIG = ServeConfig(
    max_batch=4,
    max_wait_ms=20,
    max_waiting=64,
    max_body_mb=2,
    max_pictures=6,
    max_megapixels=1,
    body_timeout_s=20,
    poll_s=0.1,
    stop_timeout_s=20,
)
Served = Callable[..., contextlib.AbstractContextManager[str]]


@pytest.fixture(scope="session")
def shade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose people lie further right the brighter a picture is.

    The keypoints' scores are 1 / (pictures in the batch), so an answer tells how large it was.
    """
    path = tmp_path_factory.mktemp("shade") / "rtmo.onnx"
    people = np.zeros((1, 2, 17, 3), np.float32)
    people[..., :2] = np.linspace(4, 20, 17)[:, None]
    boxes = np.array([[[4, 4, 20, 20, 0.9], [4, 30, 20, 46, 0.8]]], np.float32)
    constants = {
        "boxes": boxes,
        "people": people,
        "box_move": np.array([[[0.1, 0, 0.1, 0, 0]]], np.float32),
        "point_move": np.array([[[[0.1, 0, 0]]]], np.float32),
        "point_share": np.array([[[[0, 0, 1]]]], np.float32),
        "two": np.array([1, 2], np.int64),
        "three": np.array([1, 2, 3], np.int64),
        "pixel_axes": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("ReduceMean", ["input", "pixel_axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "two"], ["mean_3"]),
        helper.make_node("Unsqueeze", ["mean", "three"], ["mean_4"]),
        helper.make_node("Mul", ["mean_3", "box_move"], ["boxes_by"]),
        helper.make_node("Add", ["boxes", "boxes_by"], ["dets"]),
        helper.make_node("Shape", ["input"], ["count"], start=0, end=1),
        helper.make_node("Cast", ["count"], ["count_float"], to=TensorProto.FLOAT),
        helper.make_node("Reciprocal", ["count_float"], ["share"]),
        helper.make_node("Mul", ["share", "point_share"], ["shares"]),
        helper.make_node("Mul", ["mean_4", "point_move"], ["points_by"]),
        helper.make_node("Add", ["people", "points_by"], ["moved"]),
        helper.make_node("Add", ["moved", "shares"], ["keypoints"]),
    ]
    shape = ["B", 3, INPUT_SIZE, INPUT_SIZE]
    graph = helper.make_graph(
        nodes,
        "shade",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["B", 2, 5]),
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["B", 2, 17, 3]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=INPUT_SIZE, form="complete")
    for key, value in metadata.to_properties().items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@contextlib.contextmanager
def serving(live: LiveModel, alias: Alias | None = None, **settings: float) -> Iterator[str]:
    """A server on a free port of loopback; its address."""
    config = CONFIG.model_copy(update=settings)
    app = build_app(live, alias, config, LOOPBACK_HOSTS)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        try:
            wait_until_ready(address, thread.is_alive)
            yield address
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def address(shade: Path) -> Iterator[str]:
    with serving(LiveModel(open_file(shade))) as found:
        yield found


def wait_until_ready(address: str, is_running: Callable[[], bool]) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{address}/health/ready").status_code == 200:
                return
        assert is_running()
        time.sleep(0.05)
    raise TimeoutError(address)


def picture(level: int, size_hw: tuple[int, int] = (60, 80)) -> np.ndarray:
    return np.full((*size_hw, 3), level, np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def form(*files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("pictures", (f"{place}.png", content)) for place, content in enumerate(files)]


def rows(*files: bytes) -> dict:
    return {"inputs": [{"image": base64.b64encode(content).decode()} for content in files]}


def points(people: list[dict]) -> np.ndarray:
    return np.array([person["keypoints"] for person in people]).reshape(-1, 17, 3)


def test_a_form_of_pictures_gets_a_coco_document(address, shade):
    levels = (0, 100, 200)
    sent = form(*(png(picture(level)) for level in levels))
    answer = httpx.post(f"{address}/predict", files=sent)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["categories"][0]["keypoints"] == list(COCO17.keypoints)
    assert content["images"][2] == {"id": 3, "file_name": "2.png", "width": 80, "height": 60}
    assert content["model"]["version"] is None
    predict = load_predictor(shade)
    for number, level in enumerate(levels, start=1):
        people = [one for one in content["annotations"] if one["image_id"] == number]
        alone = predict(picture(level))
        assert np.allclose(points(people)[..., :2], alone.keypoints_xy, atol=2e-3)
        assert np.allclose([one["score"] for one in people], alone.scores)
        assert np.allclose([one["bbox"][:2] for one in people], alone.boxes_xyxy[:, :2], atol=2e-3)


def test_rows_get_what_mlflows_server_answers(address, shade):
    answer = httpx.post(f"{address}/invocations", json=rows(png(picture(50))))
    (found,) = answer.json()["predictions"]
    assert found == to_lists(load_predictor(shade)(picture(50)))
    as_records = {"dataframe_records": rows(png(picture(50)))["inputs"]}
    assert httpx.post(f"{address}/invocations", json=as_records).json() == answer.json()


def test_requests_at_the_same_time_share_batches_and_keep_their_own_people(address, shade):
    predict = load_predictor(shade)
    alone = {level: predict(picture(level)) for level in range(0, 250, 5)}

    def ask(level: int) -> np.ndarray:
        answer = httpx.post(f"{address}/predict", files=form(png(picture(level))), timeout=60)
        assert answer.status_code == 200, answer.text
        return points(answer.json()["annotations"])

    with ThreadPoolExecutor(16) as clients:
        found = dict(zip(alone, clients.map(ask, alone), strict=True))
    for level, poses in alone.items():
        assert np.allclose(found[level][..., :2], poses.keypoints_xy, atol=2e-3), level
    batches = {round(1 / found[level][0, 0, 2]) for level in found}
    assert max(batches) > 1, "no two pictures went together"
    assert max(batches) <= CONFIG.max_batch


def test_kinds_of_pixels_are_taken_as_their_8_bit_colours(address):
    def people(pixels: np.ndarray) -> list[dict]:
        answer = httpx.post(f"{address}/predict", files=form(png(pixels)))
        assert answer.status_code == 200, answer.text
        return answer.json()["annotations"]

    plain = people(picture(100))
    assert people(picture(100)[..., 0]) == plain, "grey"
    assert people(np.dstack([picture(100), np.full((60, 80), 7, np.uint8)])) == plain, "RGBA"
    assert people(picture(100).astype(np.uint16) * 257) == plain, "16 bits"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(1000))
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


GIF = b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02D\x01\x00;"
WRONG_FILES = {
    "nothing": (b"", 400, "0 bytes"),
    "text": (b"what a picture", 400, "JPEG, PNG, WEBP, BMP"),
    "half a JPEG": (jpeg()[:1500], 400, "cut off"),
    "half a PNG": (png(picture(9))[:-20], 400, "cut off"),
    "a JPEG's first bytes": (jpeg()[:12], 400, "not a picture"),
    "a GIF bomb": (GIF, 400, "JPEG, PNG, WEBP, BMP"),
    "2 megapixels": (png(picture(9, (1000, 2000))), 413, "2000 x 1000"),
    "a PNG bomb": (bomb(60000, 60000), 413, "scale it down"),
    "a damaged PNG": (bomb(100, 100), 400, "not a picture"),
    "too long for OpenCV": (png(picture(9, (1, 33000))), 400, "too long"),
}


@pytest.mark.parametrize(("content", "status", "words"), WRONG_FILES.values(), ids=WRONG_FILES)
def test_a_file_that_is_no_picture_is_refused_by_name(address, content, status, words):
    for path, how in (
        ("predict", {"files": form(png(picture(1)), content)}),
        ("invocations", {"json": rows(png(picture(1)), content)}),
    ):
        answer = httpx.post(f"{address}/{path}", **how)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]
        assert ("1.png" if path == "predict" else "row 1") in answer.json()["error"]
    assert httpx.post(f"{address}/predict", files=form(png(picture(1)))).status_code == 200


AS_JSON = {"content-type": "application/json"}
AS_FORM = {"content-type": "multipart/form-data; boundary=b"}
WRONG_BODIES = {
    "no type": (b"x", {}, 415, "no stated type"),
    "a bare picture": (jpeg(), {"content-type": "image/jpeg"}, 415, "multipart/form-data"),
    "no JSON": (b"{", AS_JSON, 400, "not JSON"),
    "NaN": (b'{"inputs": [{"image": NaN}]}', AS_JSON, 400, "NaN"),
    "deep JSON": (b"[" * 500_000, AS_JSON, 400, "not JSON"),
    "no text": (b"\xff\xfe", AS_JSON, 400, "not JSON"),
    "a list": (b"[]", AS_JSON, 400, "inputs"),
    "no rows": (b'{"inputs": []}', AS_JSON, 400, "one row or more"),
    "a number": (b'{"inputs": [{"image": 3}]}', AS_JSON, 400, "row 0"),
    "no object": (b'{"inputs": ["x"]}', AS_JSON, 400, "row 0"),
    "no base64": (b'{"inputs": [{"image": "%%"}]}', AS_JSON, 400, "base64"),
    "foreign letters": ('{"inputs": [{"image": "ü"}]}'.encode(), AS_JSON, 400, "base64"),
    "seven rows": (json.dumps(rows(*[b"x"] * 7)).encode(), AS_JSON, 413, "7 pictures"),
    "no boundary": (b"x", {"content-type": "multipart/form-data"}, 400, "boundary"),
    "no form": (b"hello", AS_FORM, 400, "form"),
    "a form of nothing": (b"--b--\r\n", AS_FORM, 400, "no complete file"),
    "half a form": (
        b'--b\r\nContent-Disposition: form-data; name="p"; filename="p.png"\r\n\r\nPNG',
        AS_FORM,
        400,
        "no complete file",
    ),
}


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"), WRONG_BODIES.values(), ids=WRONG_BODIES
)
def test_a_body_that_is_not_what_is_expected_is_refused(address, body, headers, status, words):
    answer = httpx.post(f"{address}/predict", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert httpx.get(f"{address}/health").status_code == 200


def test_too_many_files_are_refused(address):
    answer = httpx.post(f"{address}/predict", files=form(*[png(picture(1))] * 7))
    assert (answer.status_code, "6" in answer.json()["error"]) == (400, True)


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(address):
    declared = httpx.post(f"{address}/predict", content=bytes(2_000_001), headers=AS_JSON)
    assert declared.status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(100_000)

    in_chunks = httpx.post(f"{address}/predict", content=chunks(), headers=AS_JSON)
    assert in_chunks.status_code == 413
    assert "more than 2000000 bytes" in in_chunks.json()["error"]
    assert httpx.get(f"{address}/health").status_code == 200


def test_a_name_that_is_not_ours_is_refused(address):
    for host in ("evil.example", "evil.example:5002", "localhost.evil.example", ""):
        answer = httpx.get(f"{address}/health", headers={"host": host})
        assert answer.status_code == 421, host
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:80"):
        assert httpx.get(f"{address}/health", headers={"host": host}).status_code == 200, host


def test_unknown_paths_and_methods_say_so_in_json(address):
    assert httpx.get(f"{address}/nothing").json() == {"error": "Not Found"}
    assert httpx.get(f"{address}/predict").status_code == 405
    assert "/predict" in httpx.get(f"{address}/openapi.json").json()["paths"]


@contextlib.contextmanager
def half_a_request(address: str) -> Iterator[socket.socket]:
    """A connection that promises a body and does not send it."""
    port = int(address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000\r\n\r\n{"
        )
        time.sleep(0.3)
        yield connection


def test_a_full_server_says_when_to_come_back(shade):
    with serving(LiveModel(open_file(shade)), max_waiting=1) as address:
        send = form(png(picture(1)))
        with half_a_request(address):
            full = httpx.post(f"{address}/predict", files=send)
            assert full.status_code == 503
            assert int(full.headers["retry-after"]) > 0
            assert "1 requests" in full.json()["error"]
            assert httpx.get(f"{address}/health").status_code == 200
        time.sleep(0.2)
        assert httpx.post(f"{address}/predict", files=send).status_code == 200
        too_many = httpx.post(f"{address}/predict", files=send * 2)
        assert (too_many.status_code, "pictures" in too_many.json()["error"]) == (503, True)


def test_a_body_that_does_not_come_is_not_waited_for(shade):
    with (
        serving(LiveModel(open_file(shade)), body_timeout_s=0.2) as address,
        half_a_request(address) as connection,
    ):
        answer = connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"1 bytes did" in answer


def test_a_network_that_fails_is_an_internal_error_and_the_server_goes_on(shade):
    """The graph takes inputs of one size; a framing of another makes ONNX Runtime refuse them."""
    good = open_file(shade)
    live = LiveModel(good)
    with serving(live, max_wait_ms=0) as address:
        good.predictor.framing = Framing(INPUT_SIZE * 2)
        broken = httpx.post(f"{address}/predict", files=form(png(picture(1))))
        assert broken.status_code == 500
        assert "log" in broken.json()["error"]
        good.predictor.framing = Framing(INPUT_SIZE)
        assert httpx.post(f"{address}/predict", files=form(png(picture(1)))).status_code == 200


def test_a_moved_alias_answers_without_a_lost_request(tracking, paths, make_workspace):
    first, second = (12.0, 0.0), (0.0, 12.0)
    register(tracking, make_workspace(paths, first))
    register(tracking, make_workspace(paths, second))
    alias = Alias(paths, "rtmo", "champion")
    live = LiveModel(alias.open())
    answers: list[tuple[int, int, float]] = []
    is_over = threading.Event()

    def ask(address: str) -> None:
        while not is_over.is_set():
            answer = httpx.post(f"{address}/predict", files=form(png(picture(1, (128, 128)))))
            content = answer.json()
            x = points(content["annotations"])[0, 0, 0]
            answers.append((answer.status_code, content["model"]["version"], float(x)))

    with serving(live, alias) as address, ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(ask, address) for _ in range(4)]
        time.sleep(0.5)
        commands.promote(paths, 2, by="tester", why="to see it answer")
        try:
            for _ in range(200):
                if answers[-1][1] == 2:
                    break
                time.sleep(0.05)
        finally:
            is_over.set()
        for done in asked:
            done.result()
        health = httpx.get(f"{address}/health").json()
    assert {status for status, _, _ in answers} == {200}
    assert {(version, x) for _, version, x in answers} == {(1, 20.0), (2, 8.0)}
    assert health["model"]["version"] == 2
    assert len(health["model"]["content_hash"]) == 64
    assert health["reload_problem"] is None


def test_a_version_that_cannot_be_opened_leaves_the_former_one_answering(
    tracking, paths, make_workspace
):
    register(tracking, make_workspace(paths, (12.0, 0.0)))
    alias = Alias(paths, "rtmo", "champion")
    live = LiveModel(alias.open())
    with serving(live, alias) as address:
        tracking.client.delete_registered_model_alias("rtmo", "champion")
        for _ in range(100):
            if problem := httpx.get(f"{address}/health").json()["reload_problem"]:
                break
            time.sleep(0.05)
        assert "no champion" in problem
        answer = httpx.post(f"{address}/predict", files=form(png(picture(1))))
        assert answer.json()["model"]["version"] == 1
        tracking.client.set_registered_model_alias("rtmo", "champion", "1")
        for _ in range(100):
            if httpx.get(f"{address}/health").json()["reload_problem"] is None:
                return
            time.sleep(0.05)
        pytest.fail("it does not recover")


def test_addresses_of_models(paths, shade, tmp_path):
    assert parse_address("models:/rtmo@champion", paths) == Alias(paths, "rtmo", "champion")
    assert parse_address(str(shade.parent), paths) == parse_address(str(shade), paths) == shade
    for wrong in ("models:/rtmo/3", "models:/@x", str(tmp_path), "no.onnx"):
        with pytest.raises(ModelAddressError, match="models:/"):
            parse_address(wrong, paths)


def test_beyond_loopback_a_server_must_be_named():
    assert hosts_of("127.0.0.1", ()) == hosts_of("localhost", ()) == LOOPBACK_HOSTS
    with pytest.raises(UnnamedHostError, match="--allowed-host"):
        hosts_of("0.0.0.0", ())
    assert hosts_of("0.0.0.0", ["Poses.example:80"]) == LOOPBACK_HOSTS | {"poses.example"}


def test_the_command_answers_and_finishes_what_it_began_when_told_to_stop(repository, shade):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "pipelines.cli", "serve", "--model", str(shade)]
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=repository,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    try:
        wait_until_ready(address, lambda: server.poll() is None)
        body = json.dumps(rows(png(picture(1)))).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body[:9])
            time.sleep(0.3)
            server.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            connection.sendall(body[9:])
            answer = io.BytesIO()
            while part := connection.recv(65536):
                answer.write(part)
        assert answer.getvalue().startswith(b"HTTP/1.1 200"), answer.getvalue()
        assert server.wait(20) in (0, -signal.SIGTERM)
    finally:
        server.kill()
        words = server.communicate()[1].decode()
    assert "Traceback" not in words

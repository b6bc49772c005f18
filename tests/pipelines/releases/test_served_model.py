"""The registered model works where nothing of this repository is."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.registry.release import register
from pipelines.serving.champion import predict_with_champion
from pipelines.tracking.versions import UnknownVersionError

GOOD = (0.0, 0.0)

ASK = """
import json, sys
import mlflow
import numpy as np
model = mlflow.pyfunc.load_model("models:/rtmo@champion")
text, pixels = model.predict([{"image": sys.argv[1]}, {"image": np.zeros((128, 96, 3), np.uint8)}])
import rtmo
print(json.dumps({"text": text, "pixels": pixels, "rtmo": rtmo.__file__,
                  "torch": "torch" in sys.modules}))
"""


@pytest.fixture
def outside(paths, tmp_path: Path) -> dict[str, str]:
    """An environment that knows the store and nothing of the checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    store = f"sqlite:///{paths.mlflow_database}"
    return kept | {"MLFLOW_TRACKING_URI": store, "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    cv2.imwrite(str(path), np.full((128, 128, 3), 128, np.uint8))
    return path


def test_the_champion_loads_in_a_new_process_from_another_folder(
    tracking, paths, make_workspace, outside, picture, tmp_path
):
    register(tracking, make_workspace(paths, GOOD))
    encoded = base64.b64encode(picture.read_bytes()).decode()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", ASK, encoded],
        cwd=elsewhere,
        env=outside,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert len(answer["text"]["scores"]) == len(answer["pixels"]["scores"]) == 2
    assert np.array(answer["text"]["keypoints"]).shape == (2, 17, 3)
    assert np.allclose(answer["text"]["boxes_xyxy"][0], [8, 16, 52, 112], atol=1e-3)
    assert Path(answer["rtmo"]).parent.parent.name == "code", "the model carries the library"
    assert not answer["torch"]


def test_the_champion_answers_for_one_picture(tracking, paths, make_workspace, picture):
    with pytest.raises(UnknownVersionError, match="no champion"):
        predict_with_champion(paths, "rtmo", picture)
    register(tracking, make_workspace(paths, GOOD))
    answer = predict_with_champion(paths, "rtmo", picture)
    assert len(answer["scores"]) == 2


@pytest.mark.slow
def test_mlflows_own_server_answers_with_the_champion_and_refuses_nonsense(
    tracking, paths, make_workspace, picture, outside
):
    register(tracking, make_workspace(paths, GOOD))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
            *("--model-uri", "models:/rtmo@champion", "--port", str(port)),
        ],
        # MLflow starts `uvicorn` by its bare name.
        env={**outside, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{outside['PATH']}"},
        cwd=paths.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/ping", server)
        encoded = base64.b64encode(picture.read_bytes()).decode()
        answer = post(f"{url}/invocations", {"inputs": [{"image": encoded}]})
        assert len(answer["predictions"][0]["scores"]) == 2
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(f"{url}/invocations", {"inputs": [{"image": "no picture"}]})
        assert refused.value.code == 400
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=20)


def wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    for _ in range(360):
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert server.poll() is None, server.communicate()[1].decode()
            time.sleep(0.5)
        else:
            return
    raise TimeoutError(url)


def post(url: str, content: object) -> dict:
    body = json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())

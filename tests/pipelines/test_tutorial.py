"""docs/own-data.md, command by command: a CVAT archive of nine keypoints becomes a champion."""

import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import pytest
import torch

from pipelines.tour.copies import copy_sources, set_params
from rtmo.formats.labels import write_labels
from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.model.build import build_rtmo
from rtmo.model.weights import save_weights
from rtmo.skeleton import COCO17, Skeleton
from rtmo.synthetic import generate
from rtmo.synthetic.config import SyntheticConfig

pytestmark = pytest.mark.slow

NINE = Skeleton(
    name="nine",
    keypoints=("head", *(f"{s}_{p}" for p in ("hand", "hip", "knee", "foot") for s in ("l", "r"))),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8)),
    limbs=((3, 5), (5, 7), (4, 6), (6, 8)),
    sigmas=(0.072,) * 9,
)
COCO_PLACES = (0, 9, 10, 11, 12, 13, 14, 15, 16)
TINY = {
    "model": {"input_size": 96},
    "train": {
        "epochs": 2,
        "validate_every_epochs": 1,
        "optimizer": {"cosines": []},
        "phases": [{"first_epoch": 0, "pipeline": "letterbox"}],
    },
    "export": {"parity_images": 4},
    "benchmark": {"images": 4, "runs": 3},
    "evaluate": {"bootstrap_samples": 100},
    "register": {
        "bootstrap_samples": 100,
        "floor_ap": 0.0,
        "max_latency_ratio": 100.0,
        "allow_licences": ["weights coco.safetensors"],  # the tutorial says so
    },
}
"""What makes the recipe take seconds; the tutorial's commands stay as they are."""


def record(image) -> ImageRecord:
    """A drawn picture, labelled with nine of its keypoints."""
    people = []
    for number, person in enumerate(p for p in image.people if not p.is_crowd):
        numbers = [float(value) for place in COCO_PLACES for value in person.coco_keypoints[place]]
        people.append(
            PersonRecord(
                id=100 * image.image_id + number,
                box_xywh=tuple(float(side) for side in person.box_xywh),
                keypoints=tuple(numbers),
                num_keypoints=sum(v > 0 for v in numbers[2::3]),
                is_crowd=False,
                area=float(person.area),
                segmentation=None,
            )
        )
    size = (image.height, image.width)
    return ImageRecord(image.image_id, image.file_name, *size, None, False, tuple(people))


@pytest.fixture(scope="module")
def checkout(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh checkout with an export of CVAT, a photo and weights of COCO's keypoints in it."""
    folder = tmp_path_factory.mktemp("tutorial") / "checkout"
    copy_sources(repository, folder)
    (folder / "dvc.lock").unlink(missing_ok=True)
    images = list(
        generate(SyntheticConfig(seed=1, num_images={"all": 50}, width=128, height=96), "all")
    )
    records = [record(image) for image in images]
    written = write_labels({"train": records}, NINE, "cvat")
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        for name, content in written.documents.items():
            archive.writestr(name, content)
        for image in images:
            archive.writestr(written.pictures[image.file_name], image.jpeg)
    (folder / "photo.jpg").write_bytes(images[0].jpeg)
    torch.manual_seed(0)
    save_weights(build_rtmo("t", COCO17), folder / "coco.safetensors", {"input_size": "96"})
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "Start")):
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def commands(repository: Path) -> list[str]:
    """The tutorial's commands, with weights that need no network and a free port."""
    text = (repository / "docs/own-data.md").read_text()
    block = re.search(r"## Five commands.*?```console\n(.*?)```", text, re.DOTALL)
    assert block is not None
    return block[1].replace("rtmo-s-body7", "coco.safetensors").splitlines()


def environment(folder: Path) -> dict[str, str]:
    """This environment's programs and this checkout's code."""
    inherited = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"PATH": path, "PYTHONPATH": str(folder), "DVC_NO_ANALYTICS": "1"}


def words_of(command: str) -> list[str]:
    """Its arguments; our own command runs from the checkout and not from where it is installed."""
    program, *arguments = shlex.split(command)
    if program == "rtmo-pipeline":
        return [sys.executable, "-m", "pipelines.cli", *arguments]
    return [program, *arguments]


def run(folder: Path, command: str) -> str:
    done = subprocess.run(
        words_of(command), cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.mark.timeout(1200)
def test_the_tutorial_ends_with_a_champion_that_answers(checkout: Path, repository: Path) -> None:
    init, repro, status, predict, serve = commands(repository)
    said = run(checkout, init)
    assert "skeleton mine: head, l_hand, r_hand" in said
    assert 'data.dataset: "embedded" -> "mine"' in said
    set_params(checkout, TINY)
    run(checkout, repro)
    assert "up to date" in run(checkout, repro)
    receipt = json.loads((checkout / "reports/register/receipt.json").read_text())
    assert receipt["verdict"] == "first", receipt["words"]
    assert "release: rtmo version 1" in run(checkout, status)
    answer = json.loads(run(checkout, predict))
    assert set(answer) == {"boxes_xyxy", "scores", "keypoints"}
    assert answered(checkout, serve)["keypoints"] == pytest.approx(answer["keypoints"])


def answered(folder: Path, serve: str):
    """What the server says of the photo."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [*words_of(serve), "--port", str(port)],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    image = base64.b64encode((folder / "photo.jpg").read_bytes()).decode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": [{"image": image}]}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        for _ in range(240):
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.load(response)["predictions"][0]
            except OSError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.5)
        pytest.fail("the server did not answer in two minutes")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()

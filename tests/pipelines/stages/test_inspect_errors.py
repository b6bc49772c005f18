"""The stage `inspect` on detections whose errors are known, with FiftyOne's real database."""

import base64
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipelines.registry.reference import NoReference, Reference
from pipelines.stages.inspect_errors import inspect_errors
from rtmo.evaluation.config import InspectConfig
from rtmo.store import Store

NOBODY = NoReference(reason="there is no champion yet")
CONFIG = InspectConfig(worst_people=3, fiftyone_images=100)


@pytest.fixture(scope="module")
def report(processed: Path, detections: Path, fiftyone_database: None, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    inspect_errors(processed / "val", detections, folder, CONFIG, folder / "shown" / "v1", NOBODY)
    return folder


def test_planted_errors_are_counted(report: Path):
    metrics = json.loads((report / "metrics.json").read_text())
    assert (metrics["people"], metrics["found"], metrics["missed"]) == (8, 4, 4)
    assert metrics["background"] == 1
    assert metrics["keypoints"]["swap"] == pytest.approx(1 / 17)
    assert metrics["keypoints"]["good"] == pytest.approx(16 / 17)
    assert metrics["gain_alone"]["missed"] > 0
    assert metrics["AP_in_turn"]["missed"] == pytest.approx(1.0)


def test_the_page_loads_nothing_from_outside(report: Path):
    page = (report / "report.html").read_text()
    targets = re.findall(r"""(?:src|href)=["']?([^"'> ]+)|url\(([^)]+)\)""", page)
    assert targets
    assert all("".join(target).startswith("data:") for target in targets)
    assert "http" not in page


def test_the_page_shows_the_worst_people_and_names_each_keypoint(report: Path):
    page = (report / "report.html").read_text()
    assert page.count("<figure>") == 3 + 4 + 1  # worst, missed, background
    assert "left_wrist: swap" in page
    assert "dataset tiny-val-v1 (5 images)" in page


@pytest.fixture(scope="module")
def compared(processed: Path, detections: Path, fiftyone_database: None, tmp_path_factory) -> Path:
    """The same against a champion that finds the people the model misses, and only them."""
    store = Store.open(processed / "val")
    found = [
        {
            "image_id": int(store.image_ids[row]),
            "category_id": 1,
            "keypoints": people.keypoints[1].astype(float).ravel().tolist(),
            "score": 0.8,
        }
        for row in range(len(store))
        if len(people := store.people(row))
    ]
    folder = tmp_path_factory.mktemp("compared")
    champion = Reference(name="version 3", detections=tuple(found))
    inspect_errors(processed / "val", detections, folder, CONFIG, folder / "v2", champion)
    return folder


def test_the_page_compares_with_the_champion(compared: Path):
    page = (compared / "report.html").read_text()
    assert "Against the champion, version 3" in page
    assert "4 people became right" in page
    assert "4 became wrong" in page
    assert page.count("<figure>") == 3 + 4 + 1 + 4 + 4
    metrics = json.loads((compared / "metrics.json").read_text())
    assert metrics["champion"]["became_wrong"] == 4
    assert metrics["champion"]["rates"]["swap_rate"] == 0.0
    assert metrics["rates"]["swap_rate"] == pytest.approx(1 / 17)
    assert json.loads((compared / "champion.json").read_text())["name"] == "version 3"


def test_without_a_champion_the_page_says_why(report: Path):
    page = (report / "report.html").read_text()
    assert "Nothing is compared with a champion: there is no champion yet." in page
    assert "Against the champion" not in page


def pictures(folder: Path) -> list[np.ndarray]:
    """Every picture of the page, and the contact sheet."""
    coded = re.findall(r"data:image/jpeg;base64,([^\"]+)", (folder / "report.html").read_text())
    in_page = [
        cv2.imdecode(np.frombuffer(base64.b64decode(one), np.uint8), cv2.IMREAD_COLOR)
        for one in coded
    ]
    return [*in_page, cv2.imread(str(folder / "worst_people.png"))]


@pytest.mark.usefixtures("fiftyone_database")
def test_faces_are_blurred_in_every_picture_unless_the_data_are_public(
    processed: Path, detections: Path, tmp_path: Path
):
    shutil.copytree(processed / "val", tmp_path / "val")
    meta = tmp_path / "val" / "meta.json"
    seen = {}
    for kind in ("own", "public"):
        content = json.loads((processed / "val" / "meta.json").read_text())
        meta.write_text(json.dumps({**content, "pictures": kind}))
        out = tmp_path / kind
        out.mkdir()
        inspect_errors(tmp_path / "val", detections, out, CONFIG, out / "v1", NOBODY)
        seen[kind] = pictures(out)
        words = "are blurred around nose, eyes and ears"
        assert (words in (out / "report.html").read_text()) == (kind == "own")
    assert len(seen["own"]) == len(seen["public"]) == 3 + 4 + 1 + 1
    for blurred, sharp in zip(seen["own"], seen["public"], strict=True):
        assert blurred.shape == sharp.shape
        assert (cv2.absdiff(blurred, sharp).max(axis=2) > 3).mean() > 0.02


def test_pictures_can_be_opened(report: Path):
    for name in ("errors.png", "worst_people.png"):
        assert cv2.imread(str(report / name)) is not None, name


def test_fiftyone_is_exported_without_images(report: Path):
    assert {path.name for path in (report / "fiftyone").iterdir()} == {
        "evaluations",
        "metadata.json",
        "samples.json",
        "status.json",
    }
    status = json.loads((report / "fiftyone" / "status.json").read_text())
    assert status["status"] == "available"


def test_without_a_database_the_rest_is_written_and_the_reason_is_told(
    processed: Path, detections: Path, repository: Path, tmp_path: Path
):
    command = (
        "from pathlib import Path\n"
        "from pipelines.stages.inspect_errors import inspect_errors\n"
        "from pipelines.registry.reference import NoReference\n"
        "from rtmo.evaluation.config import InspectConfig\n"
        f"inspect_errors(Path({str(processed / 'val')!r}), Path({str(detections)!r}),\n"
        f"    Path({str(tmp_path)!r}), InspectConfig(), Path({str(tmp_path / 'shown')!r}),\n"
        "    NoReference(reason='none'))\n"
    )
    nobody_listens = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"
    subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "FIFTYONE_DATABASE_URI": nobody_listens},
        cwd=repository,
        check=True,
    )
    status = json.loads((tmp_path / "fiftyone" / "status.json").read_text())
    assert status["status"] == "unavailable"
    assert "does not start or answer" in status["reason"]
    assert status["reason"] in html.unescape((tmp_path / "report.html").read_text())
    assert json.loads((tmp_path / "metrics.json").read_text())["missed"] == 4


@pytest.mark.usefixtures("fiftyone_database")
def test_no_detections_give_an_honest_report(processed: Path, tmp_path: Path):
    empty = tmp_path / "detections.json"
    empty.write_text("[]")
    inspect_errors(processed / "val", empty, tmp_path, CONFIG, tmp_path / "shown" / "v1", NOBODY)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["AP"], metrics["found"], metrics["missed"]) == (0.0, 0, 8)


def test_detections_of_another_dataset_are_refused(
    processed: Path, detections: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match="images that the annotation file does not name"):
        inspect_errors(processed / "gate", detections, tmp_path, CONFIG, tmp_path / "shown", NOBODY)


def test_a_file_that_is_no_result_list_is_refused(processed: Path, tmp_path: Path):
    wrong = tmp_path / "detections.json"
    wrong.write_text('{"images": []}')
    with pytest.raises(ValueError, match="holds a dict, expected a list of COCO results"):
        inspect_errors(processed / "val", wrong, tmp_path, CONFIG, tmp_path / "shown", NOBODY)


def test_a_split_in_which_nobody_has_keypoints_is_refused(
    processed: Path, detections: Path, tmp_path: Path
):
    folder = tmp_path / "val"
    shutil.copytree(processed / "val", folder)
    counts = np.load(folder / "num_keypoints.npy")
    np.save(folder / "num_keypoints.npy", np.zeros_like(counts))
    with pytest.raises(ValueError, match="all have num_keypoints 0 or iscrowd 1"):
        inspect_errors(folder, detections, tmp_path, CONFIG, tmp_path / "shown", NOBODY)


@pytest.mark.usefixtures("fiftyone_database")
def test_people_without_keypoints_are_neither_found_nor_missed(
    processed: Path, detections: Path, tmp_path: Path
):
    folder = tmp_path / "val"
    shutil.copytree(processed / "val", folder)
    counts = np.load(folder / "num_keypoints.npy")
    counts[1::2] = 0  # everybody whom the detections miss
    np.save(folder / "num_keypoints.npy", counts)
    inspect_errors(folder, detections, tmp_path, CONFIG, tmp_path / "shown" / "v1", NOBODY)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["people"], metrics["found"], metrics["missed"]) == (4, 4, 0)
    assert "Missed people" in (tmp_path / "report.html").read_text()

"""The stage `inspect` on detections whose errors are known, with FiftyOne's real database."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from pipelines.stages.inspect_errors import inspect_errors
from rtmo.evaluation.config import InspectConfig

CONFIG = InspectConfig(worst_people=3, fiftyone_images=100)


@pytest.fixture(scope="module")
def report(processed: Path, detections: Path, fiftyone_database: None, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    inspect_errors(processed / "val", detections, folder, CONFIG, folder / "shown" / "v1")
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


def test_pictures_can_be_opened(report: Path):
    for name in ("errors.png", "worst_people.png"):
        assert cv2.imread(str(report / name)) is not None, name


def test_fiftyone_is_exported_without_images(report: Path):
    assert {path.name for path in (report / "fiftyone").iterdir()} == {
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
        "from rtmo.evaluation.config import InspectConfig\n"
        f"inspect_errors(Path({str(processed / 'val')!r}), Path({str(detections)!r}),\n"
        f"    Path({str(tmp_path)!r}), InspectConfig(), Path({str(tmp_path / 'shown')!r}))\n"
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
    inspect_errors(processed / "val", empty, tmp_path, CONFIG, tmp_path / "shown" / "v1")
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (metrics["AP"], metrics["found"], metrics["missed"]) == (0.0, 0, 8)


def test_detections_of_another_dataset_are_refused(
    processed: Path, detections: Path, tmp_path: Path
):
    with pytest.raises(ValueError, match="images that the annotation file does not name"):
        inspect_errors(processed / "gate", detections, tmp_path, CONFIG, tmp_path / "shown")


def test_a_file_that_is_no_result_list_is_refused(processed: Path, tmp_path: Path):
    wrong = tmp_path / "detections.json"
    wrong.write_text('{"images": []}')
    with pytest.raises(ValueError, match="holds a dict, expected a list of COCO results"):
        inspect_errors(processed / "val", wrong, tmp_path, CONFIG, tmp_path / "shown")

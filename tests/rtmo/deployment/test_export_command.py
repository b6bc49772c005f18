"""`rtmo export` in lower precisions, on weights by formula."""

import json
import sys

import cv2
import onnx
import pytest

from rtmo import cli


@pytest.fixture
def export(monkeypatch, capsys, weights, tmp_path):
    """Run `rtmo export OPTIONS`; gives (exit status, standard output, standard error)."""

    def run(*options: object) -> tuple[int, str, str]:
        command = ("rtmo", "export", "--weights", weights, "--out", tmp_path / "out", *options)
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def photos(pictures, tmp_path):
    """A folder of pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    return folder


@pytest.mark.slow
def test_half_precision_is_written_compared_and_kept(export, photos, tmp_path):
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 50, 90]}
    person |= {"area": 900.0, "num_keypoints": 17, "keypoints": [30, 30, 2] * 17}
    truth = tmp_path / "truth.json"
    images = [{"id": 1, "file_name": "0.png", "width": 224, "height": 160}]
    categories = [{"id": 1, "name": "person", "keypoints": [], "skeleton": []}]
    content = {"images": images, "annotations": [person], "categories": categories}
    truth.write_text(json.dumps(content))
    status, out, err = export("--precision", "fp16", "--pictures", photos, "--annotations", truth)
    assert (status, err) == (0, "")
    for name in ("rtmo-fp16", "rtmo-raw-fp16"):
        file = tmp_path / "out" / "variants" / f"{name}.onnx"
        line = next(line for line in out.splitlines() if str(file) in line)
        if "not kept" in line:
            assert not file.exists()
            assert file.with_suffix(".layers.json").exists()
        else:
            stored = {item.data_type for item in onnx.load(file).graph.initializer}
            assert onnx.TensorProto.FLOAT16 in stored
    assert "int8" not in out


@pytest.mark.slow
def test_int8_takes_its_ranges_from_the_calibration_pictures(export, photos, tmp_path):
    status, out, err = export("--precision", "int8", "--pictures", photos, "--calibration", photos)
    assert status == 0
    assert "AP and AR are not compared" in err
    verdicts = [line for line in out.splitlines() if ", int8, for" in line]
    assert len(verdicts) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--precision", "fp16"], "--pictures"),
        (["--precision", "int8", "--pictures", "."], "--calibration"),
        (["--calibration", "."], "go together"),
    ],
)
def test_what_a_precision_needs_is_said_before_all_else(export, options, words, tmp_path):
    status, _, err = export(*options)
    assert status == 2
    assert words in err
    assert not (tmp_path / "out").exists()

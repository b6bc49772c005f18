"""Reading picture files."""

import cv2
import numpy as np
import pytest

from rtmo.deployment.pictures import PictureError, find_pictures, is_cut_off, read_picture


def picture(channels: int = 3, kind: type = np.uint8) -> np.ndarray:
    rng = np.random.default_rng(0)
    shape = (48, 64, channels) if channels > 1 else (48, 64)
    return (rng.random(shape) * np.iinfo(kind).max).astype(kind)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("colour.jpg", picture()),
        ("grey.jpg", picture(1)),
        ("grey.png", picture(1)),
        ("transparent.png", picture(4)),
        ("deep.png", picture(3, np.uint16)),
    ],
)
def test_every_usual_picture_becomes_bgr_bytes(tmp_path, name, image):
    cv2.imwrite(str(tmp_path / name), image)
    read = read_picture(tmp_path / name)
    assert read.shape == (48, 64, 3)
    assert read.dtype == np.uint8


@pytest.mark.parametrize("name", ["cut.jpg", "cut.png"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_a_picture_that_is_cut_off_is_refused(tmp_path, name, share):
    path = tmp_path / name
    cv2.imwrite(str(path), picture())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PictureError, match="cut off"):
        read_picture(path)


def test_the_end_of_an_embedded_thumbnail_is_not_the_end_of_the_picture():
    content = cv2.imencode(".jpg", picture())[1].tobytes()
    thumbnail = b"\xff\xe1" + (2 + 4).to_bytes(2, "big") + b"\xff\xd8\xff\xd9"
    whole = content[:2] + thumbnail + content[2:]
    assert not is_cut_off(whole)
    assert is_cut_off(whole[: len(whole) // 2])


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\xff\xd8", b"GIF89a"])
def test_what_is_no_picture_is_refused(tmp_path, content):
    path = tmp_path / "file.jpg"
    path.write_bytes(content)
    with pytest.raises(PictureError):
        read_picture(path)


def test_a_missing_picture_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no picture"):
        read_picture(tmp_path / "none.jpg")
    with pytest.raises(FileNotFoundError, match="no picture or folder"):
        find_pictures(tmp_path / "none")


def test_pictures_of_a_folder_come_by_name_and_nothing_else_does(tmp_path):
    for name in ("b.jpg", "a.PNG", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in find_pictures(tmp_path)] == ["a.PNG", "b.jpg"]
    assert find_pictures(tmp_path / "b.jpg") == [tmp_path / "b.jpg"]


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(PictureError, match="no pictures"):
        find_pictures(tmp_path)

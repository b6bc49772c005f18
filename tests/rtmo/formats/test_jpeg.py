"""Headers of JPEG and PNG files."""

import cv2
import numpy as np
import pytest

from rtmo.formats.jpeg import JpegError, read_header


def jpeg(height=30, width=50, **options):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    flags = [value for pair in options.items() for value in (getattr(cv2, pair[0]), pair[1])]
    return cv2.imencode(".jpg", pixels, flags)[1].tobytes()


def with_orientation(content, value, *, order):
    def number(size, what):
        return what.to_bytes(size, order)

    entry = number(2, 0x0112) + number(2, 3) + number(4, 1) + number(2, value) + b"\0\0"
    tiff = (b"MM" if order == "big" else b"II") + number(2, 42) + number(4, 8) + number(2, 1)
    exif = b"Exif\0\0" + tiff + entry + b"\0\0\0\0"
    return content[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + content[2:]


@pytest.mark.parametrize("progressive", [0, 1])
def test_size_and_end_are_read(progressive):
    header = read_header(jpeg(IMWRITE_JPEG_PROGRESSIVE=progressive))
    assert header.stored_hw == (30, 50)
    assert header.orientation == 1
    assert header.is_complete


def test_size_and_end_of_a_png_file_are_read():
    content = cv2.imencode(".png", np.zeros((30, 50, 3), np.uint8))[1].tobytes()
    header = read_header(content)
    assert (header.stored_hw, header.orientation, header.is_complete) == ((30, 50), 1, True)
    assert not read_header(content[:-12]).is_complete


@pytest.mark.parametrize("order", ["big", "little"])
def test_orientation_is_read_in_both_byte_orders(order):
    header = read_header(with_orientation(jpeg(), 6, order=order))
    assert header.orientation == 6
    assert header.turned_hw == (50, 30)


def test_an_impossible_orientation_is_upright():
    assert read_header(with_orientation(jpeg(), 77, order="big")).orientation == 1


@pytest.mark.parametrize("part", [0.3, 0.9, 0.999])
def test_a_truncated_file_lacks_its_end(part):
    content = jpeg(120, 160)
    assert not read_header(content[: int(len(content) * part)]).is_complete


def test_bytes_after_the_end_are_allowed():
    assert read_header(jpeg() + b"\0" * 100).is_complete


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff\xd8", b"\xff\xd8\xff\xe0\x00\x04ab"])
def test_other_bytes_are_refused(content):
    with pytest.raises(JpegError):
        read_header(content)


def test_every_official_jpeg_has_the_annotated_size(shared):
    paths = sorted((shared / "real/coco-original").rglob("*.jpg"))
    assert len(paths) == 28
    for path in paths:
        header = read_header(path.read_bytes())
        assert header.stored_hw == cv2.imread(str(path), cv2.IMREAD_IGNORE_ORIENTATION).shape[:2]
        assert header.is_complete

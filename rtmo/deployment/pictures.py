"""Picture files -> BGR uint8 arrays, with errors instead of half-grey pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
"""Picture files that are looked for in folders."""

GIF_START = b"GIF8"
JPEG_START, JPEG_END, JPEG_SCAN = b"\xff\xd8", b"\xff\xd9", b"\xda"
PNG_START, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


class PictureError(ValueError):
    """A file is not a picture that can be used."""


def find_pictures(source: Path) -> list[Path]:
    """The picture itself, or the pictures of a folder by name.

    Raises:
        FileNotFoundError: if there is nothing at that path.
        PictureError: if it is a folder without pictures.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"there is no picture or folder {source}")
    pictures = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    if not pictures:
        raise PictureError(f"folder {source} has no pictures ({', '.join(SUFFIXES)})")
    return pictures


def spread(available: int, wanted: int) -> list[int]:
    """Places spread evenly over a list: all of them if there are no more than wanted."""
    count = min(available, wanted)
    places: list[int] = np.linspace(0, available - 1, count).round().astype(int).tolist()
    return places


def read_picture(path: Path) -> NDArray[Any]:
    """A picture as (H, W, 3) uint8 BGR, upright by its EXIF orientation.

    Grey pictures get three equal channels, transparency is dropped, 16 bits become 8.

    Raises:
        FileNotFoundError: if there is no such file.
        PictureError: if the file is cut off or is not a picture.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no picture {path}")
    content = path.read_bytes()
    if content.startswith(GIF_START):
        raise PictureError(
            f"{path} is a GIF, which may hold many frames; name it .gif to have it read as a video"
        )
    return decode_picture(content, str(path))


def decode_picture(content: bytes, source: str) -> NDArray[Any]:
    """A picture as `read_picture` gives it, from the content of its file.

    Args:
        content: encoded picture.
        source: what to call it in messages.

    Raises:
        PictureError: if it is cut off or is not a picture.
    """
    if is_cut_off(content):
        raise PictureError(
            f"{source} is cut off: its end marker is missing after {len(content)} bytes; "
            "copy or download it again"
        )
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureError(
            f"{source} ({len(content)} bytes) is refused by OpenCV: {error.err or error}; it is "
            "empty, damaged, or has more pixels than OpenCV takes (2^30)"
        ) from error
    if image is None:
        raise PictureError(f"{source} is not a picture that OpenCV can read ({len(content)} bytes)")
    return image


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG or PNG file ends too early. OpenCV would fill the rest with grey and go on."""
    if content.startswith(JPEG_START):
        return content.find(JPEG_END, _first_scan(content)) < 0
    if content.startswith(PNG_START):
        return PNG_END not in content
    return False


def _first_scan(content: bytes) -> int:
    """Offset of the first scan of a JPEG file: an embedded thumbnail before it has its own end."""
    offset = len(JPEG_START)
    while content[offset : offset + 1] == b"\xff":
        kind = content[offset + 1 : offset + 2]
        if kind == JPEG_SCAN:
            break
        length = int.from_bytes(content[offset + 2 : offset + 4], "big")
        offset += 1 if kind == b"\xff" else 2 + length  # 0xff may be repeated as a filler
    return offset

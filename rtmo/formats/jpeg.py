"""What a JPEG or PNG file says about itself, without decoding it.

Source: ITU-T T.81 annex B (markers); CIPA DC-008 (EXIF), section 4.6; ISO/IEC 15948 (PNG).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

START = b"\xff\xd8"
END = b"\xff\xd9"
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
SCAN_MARKER = 0xDA
EXIF_MARKER = 0xE1
ORIENTATION_TAG = 0x0112
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
"""Signature, then length and name of the chunk that begins with width and height."""
PNG_END = b"IEND"


class JpegError(ValueError):
    """The bytes are neither a JPEG nor a PNG file."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Size and orientation of a picture file."""

    stored_hw: tuple[int, int]
    """Height and width of the stored pixels."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 is upright, and always so in PNG. 5 to 8 lie on their side."""
    is_complete: bool
    """Whether the end marker is there."""

    @property
    def turned_hw(self) -> tuple[int, int]:
        """Height and width of the picture once the orientation is applied."""
        height, width = self.stored_hw
        return (width, height) if self.orientation >= 5 else (height, width)


def read_header(content: bytes) -> JpegHeader:
    """Size, orientation and completeness of a JPEG or PNG file.

    Raises:
        JpegError: if the file begins as neither or ends before its size is told.
    """
    if content.startswith(PNG_START) and len(content) >= len(PNG_START) + 8:
        width, height = struct.unpack_from(">II", content, len(PNG_START))
        return JpegHeader((height, width), orientation=1, is_complete=PNG_END in content[-12:])
    if not content.startswith(START):
        raise JpegError(f"begins with {content[:4]!r}, not as a JPEG or PNG")
    orientation = 1
    position = len(START)
    while position + 4 <= len(content):
        if content[position] != 0xFF:
            raise JpegError(f"has no marker at byte {position}")
        marker = content[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", content, position + 2)
        segment = content[position + 4 : position + 2 + length]
        if marker == EXIF_MARKER and segment.startswith(b"Exif\0\0"):
            orientation = _orientation(segment[6:])
        if marker in FRAME_MARKERS and len(segment) >= 5:
            height, width = struct.unpack_from(">HH", segment, 1)
            return JpegHeader((height, width), orientation, _ends(content))
        if marker == SCAN_MARKER or length < 2:
            break
        position += 2 + length
    raise JpegError("ends before its frame header")


def _ends(content: bytes) -> bool:
    # Cameras append padding or further pictures, so the end marker need not be at the very end;
    # an EXIF thumbnail has one too, but before the picture's own scans.
    return content.rfind(END) > content.rfind(bytes((0xFF, SCAN_MARKER)))


def _orientation(tiff: bytes) -> int:
    """Orientation tag of the first directory; 1 where it is missing or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return 1
    (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
    if offset + 2 > len(tiff):
        return 1
    (entries,) = struct.unpack_from(f"{order}H", tiff, offset)
    for entry in range(offset + 2, min(offset + 2 + 12 * entries, len(tiff) - 11), 12):
        tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == ORIENTATION_TAG:
            return value if 1 <= value <= 8 else 1
    return 1

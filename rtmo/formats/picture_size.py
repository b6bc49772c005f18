"""Height and width of a picture as a person sees it, from its first bytes where they say so."""

from __future__ import annotations

import cv2
import numpy as np

from rtmo.formats.jpeg import PNG_START, START, read_header
from rtmo.formats.records import FormatError


def picture_size(content: bytes, name: str) -> tuple[int, int]:
    """Height and width with the EXIF orientation applied, as browsers and labelling tools do.

    Raises:
        FormatError: if the bytes are no picture; `name` is named in it.
    """
    if content.startswith((START, PNG_START)):
        try:
            return read_header(content).turned_hw
        except ValueError as error:
            raise FormatError(f"{name} {error}") from None
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        raise FormatError(f"{name} is no picture that can be read ({len(content)} bytes)")
    return image.shape[0], image.shape[1]

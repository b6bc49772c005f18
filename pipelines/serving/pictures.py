"""Pictures out of a request: as files of a form, or as base64 text in JSON."""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

from numpy.typing import NDArray
from PIL import Image
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from pipelines.serving.limits import RefusedError
from rtmo.deployment.pictures import PictureError, decode_picture

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Pictures that are taken; each holds one (of an animated one, the first counts)."""
FORM, JSON = "multipart/form-data", "application/json"
ROWS = ("inputs", "dataframe_records")
"""What MLflow's server calls its rows."""


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A picture as it came, not decoded."""

    name: str
    """Of the file, or the place in the list: for answers and errors."""
    content: bytes


async def read_form(request: Request, max_pictures: int) -> list[SentPicture]:
    """The files of a form, whatever their fields are called.

    Raises:
        RefusedError: if it is damaged, or has no file or too many.
    """
    try:
        async with request.form(max_files=max_pictures, max_fields=max_pictures) as form:
            files = [item for _, item in form.multi_items() if isinstance(item, UploadFile)]
            sent = [
                SentPicture(file.filename or f"picture {place}", await file.read())
                for place, file in enumerate(files, start=1)
            ]
    except FormParserError as error:
        raise _bad(f"the form cannot be read: {error}") from None
    if not sent:
        raise _bad(
            "the form has no complete file; send one or more, as in `curl -F pictures=@photo.jpg`"
        )
    return sent


def read_rows(body: bytes, max_pictures: int) -> list[SentPicture]:
    """The pictures of a JSON body in the shape of MLflow's: `{"inputs": [{"image": BASE64}]}`.

    Raises:
        RefusedError: naming the row that is wrong.
    """
    try:
        content = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise _bad(f"the body is not JSON: {error}") from None
    rows = _rows(content)
    if len(rows) > max_pictures:
        raise _too_much(f"{len(rows)} pictures were sent, at most {max_pictures} are taken at once")
    return [SentPicture(f"row {place}", _bytes(row, place)) for place, row in enumerate(rows)]


def open_picture(sent: SentPicture, max_pixels: int) -> NDArray[Any]:
    """Decode a picture that its header says to be small enough.

    Returns:
        BGR uint8 (H, W, 3), upright. Grey gets three channels, transparency goes, 16 bits become 8.

    Raises:
        RefusedError: if it is no picture, is cut off or has too many pixels.
    """
    width, height = _size_wh(sent, max_pixels)
    if width * height > max_pixels:
        raise _too_much(
            f"{sent.name} has {width} x {height} pixels, at most {max_pixels} are taken; scale it "
            "down"
        )
    try:
        return decode_picture(sent.content, sent.name)
    except PictureError as error:
        raise _bad(str(error)) from None


def _size_wh(sent: SentPicture, max_pixels: int) -> tuple[int, int]:
    """Width and height in the header; nothing is decoded."""
    try:
        with Image.open(io.BytesIO(sent.content), formats=FORMATS) as header:
            return header.size
    except Image.DecompressionBombError:
        raise _too_much(f"{sent.name} has more than {max_pixels} pixels; scale it down") from None
    except (OSError, ValueError):
        raise _bad(
            f"{sent.name} ({len(sent.content)} bytes) is not a picture of a kind that is taken: "
            f"{', '.join(FORMATS)}"
        ) from None


def _rows(content: object) -> Sequence[object]:
    """The list of rows under either of its names."""
    if isinstance(content, dict):
        for key in ROWS:
            if isinstance(content.get(key), list) and content[key]:
                return list(content[key])
    raise _bad(
        'expected {"inputs": [{"image": BASE64}, ...]} with one row or more; dataframe_records is '
        "taken for inputs"
    )


def _bytes(row: object, place: int) -> bytes:
    image = row.get("image") if isinstance(row, dict) else None
    if not isinstance(image, str):
        raise _bad(
            f"row {place}: expected an object whose `image` is base64 text of a picture file, got "
            f"{type(row if image is None else image).__name__}"
        )
    try:
        return base64.b64decode(image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _bad(f"row {place}: image is not base64 text ({error})") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


def _bad(sentence: str) -> RefusedError:
    return RefusedError(HTTPStatus.BAD_REQUEST, sentence)


def _too_much(sentence: str) -> RefusedError:
    return RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence)

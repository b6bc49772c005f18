"""Where pictures come from, and where drawn ones go: files, folders, videos, cameras, streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from rtmo.deployment.pictures import PictureError, find_pictures, read_picture

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".gif")
"""Files that are read as videos."""
UNKNOWN_FPS = 25.0
"""Rate of a drawn video whose source does not say its own; cameras often do not."""

Picture = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Media:
    """Pictures in order. Each is read when it is asked for."""

    frames: Iterator[tuple[str, Picture]]
    """File name and BGR picture; every frame of a video has the video's name."""
    count: int | None
    """How many there are; None when that is known only at the end (cameras, streams)."""
    video_fps: float | None
    """Frames per second of a video; None for separate pictures."""


def open_media(source: str) -> Media:
    """Open a picture, a folder of pictures, a video file, a camera (`0`) or a stream (a URL).

    Raises:
        FileNotFoundError: if there is nothing of that name.
        PictureError: if it is a folder without pictures, or a video that cannot be opened.
    """
    path = Path(source)
    if "://" in source:
        return _video(source, source.rstrip("/").rsplit("/", 1)[-1])
    if source.isdecimal() and not path.exists():
        return _video(int(source), f"camera-{source}")
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return _video(str(path), path.name)
    pictures = find_pictures(path)
    return Media(((file.name, read_picture(file)) for file in pictures), len(pictures), None)


def without_password(source: str) -> str:
    """A source as it may be shown: addresses without user name and password.

    Example:
        >>> without_password("rtsp://me:secret@host:554/door")
        'rtsp://host:554/door'
        >>> without_password("clip.mp4")
        'clip.mp4'
    """
    scheme, separator, rest = source.partition("://")
    if not separator:
        return source
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _video(source: str | int, name: str) -> Media:
    capture = cv2.VideoCapture(source)
    is_read, first = capture.read()
    if not is_read:
        capture.release()
        raise PictureError(
            f"OpenCV cannot read a frame of {without_password(str(source))}; is it a video that is "
            "complete, a camera that is connected, or an address that can be reached?"
        )
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Media(
        _frames(capture, name, first),
        count if count > 0 else None,
        fps if 0 < fps < 1000 else UNKNOWN_FPS,
    )


def _frames(capture: cv2.VideoCapture, name: str, first: Picture) -> Iterator[tuple[str, Picture]]:
    try:
        is_read, frame = True, first
        while is_read:
            yield name, frame
            is_read, frame = capture.read()
    finally:
        capture.release()


class ResultList:
    """A JSON list written entry by entry, so that an endless stream needs no memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._separator = "["

    def add(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Append entries."""
        for entry in entries:
            self._file.write(self._separator + json.dumps(entry))
            self._separator = ", "

    def finish(self) -> None:
        """End the list; it is JSON from here on."""
        self._file.write("[]\n" if self._separator == "[" else "]\n")


class DrawnVideo:
    """A video file that has its name only when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        """The file is an .mp4, whatever the source was; its size is that of the first frame."""
        self.path = path.with_suffix(".mp4")
        self._part = self.path.with_name(f"part-{self.path.name}")
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def write(self, frame: NDArray[np.uint8]) -> None:
        """Append a frame; one of another size than the first is resized.

        Raises:
            OSError: if this OpenCV cannot write such a video.
        """
        if self._writer is None:
            self._size_wh = (frame.shape[1], frame.shape[0])
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._part), codec, self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write the video {self._part}")
        if (frame.shape[1], frame.shape[0]) != self._size_wh:
            frame = cv2.resize(frame, self._size_wh).astype(np.uint8)
        self._writer.write(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Complete the file; what was written before an error is kept."""
        if self._writer is not None:
            self._writer.release()
            self._part.replace(self.path)

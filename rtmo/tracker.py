"""Ids that stay with the people of a video from frame to frame (docs/decisions/tracking.md)."""

from __future__ import annotations

import numpy as np

from rtmo.structures import Poses

CONFIDENT = 0.3
"""A person that scores above this begins a track; one below only continues a track."""
MIN_IOU = 0.1
"""Overlap of a box with where its track is expected to be."""
BLEND = 0.5
"""How far a track follows its newest box; of the values tried the one with fewer switches."""
LIFESPAN_S = 1.5
"""How long a person may be hidden."""
NS = 1_000_000_000


class TrackerMissingError(RuntimeError):
    """The tracker library is not installed; the message says how to have it."""


class PeopleTracker:
    """ByteTrack over boxes: overlap with a Kalman filter's forecast, confident people first."""

    def __init__(self, fps: float) -> None:
        """Begin a video.

        Args:
            fps: frames per second; a hidden person is remembered for a time, not for frames.

        Raises:
            TrackerMissingError: if edgefirst-tracker is not installed.
        """
        try:
            from edgefirst.tracker import ByteTrack
        except ModuleNotFoundError:
            raise TrackerMissingError(
                "ids need edgefirst-tracker, which is not installed: pip install 'rtmo[track]'"
            ) from None
        self._tracker = ByteTrack(
            high_conf=CONFIDENT, iou=MIN_IOU, update=BLEND, lifespan_ns=round(LIFESPAN_S * NS)
        )
        self._frame_ns = round(NS / fps)
        self._now_ns = 0
        self._ids: dict[str, int] = {}

    def update(self, poses: Poses) -> list[int | None]:
        """The ids of the people of the next frame, from 1 in the order of appearance.

        None for who is too doubtful to begin a track.
        """
        self._now_ns += self._frame_ns
        tracks = self._tracker.update(
            np.ascontiguousarray(poses.boxes_xyxy, np.float32),
            np.ascontiguousarray(poses.scores, np.float32),
            np.zeros(len(poses), np.uint64),  # one class
            self._now_ns,
        )
        return [
            None if track is None else self._ids.setdefault(track.uuid, len(self._ids) + 1)
            for track in tracks
        ]

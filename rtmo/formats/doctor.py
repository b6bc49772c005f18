"""The dataset doctor: does a picture fit its record, and what in a record is worth knowing."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import cv2
import numpy as np

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.jpeg import JpegError, JpegHeader, read_header
from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

FACE = ("eye", "ear")
TORSO = ("shoulder", "hip")
TAKEN_AHEAD = 8
"""Pictures per core that are read before the one that is due."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def check_pictures(
    pictures: Iterable[tuple[ImageRecord, bytes]], skeleton: Skeleton, findings: Findings
) -> Iterator[tuple[ImageRecord, bytes]]:
    """Every picture that can be used, in order, with its repaired record.

    Args:
        pictures: records with their JPEG or PNG files.
        skeleton: of their people.
        findings: gets what is wrong.
    """
    for repaired, content, found in _in_order(_check, pictures):
        findings.merge(found)
        if repaired is not None:
            examine(repaired, skeleton, findings)
            yield repaired, content


def _check(picture: tuple[ImageRecord, bytes]) -> tuple[ImageRecord | None, bytes, Findings]:
    """The repaired record, its file and what was found wrong with it."""
    record, content = picture
    findings = Findings()
    return check_picture(record, content, findings), content, findings


def _in_order(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """As `map`, with a thread per core: decoding a JPEG does not hold Python's lock.

    Only a few items are taken ahead of the one that is due, so that a large dataset stays on disk.
    """
    cores = os.cpu_count() or 1
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(cores) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > TAKEN_AHEAD * cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def check_picture(record: ImageRecord, jpeg: bytes, findings: Findings) -> ImageRecord | None:
    """The record with the picture's true size; None when the picture cannot be used."""
    where = f"image {record.id} ({record.file_name})"
    try:
        header = read_header(jpeg)
    except JpegError as error:
        findings.add(Problem.IMAGE_UNREADABLE, f"{where} {error}")
        return None
    if not header.is_complete:
        findings.add(Problem.IMAGE_TRUNCATED, where)
        return None
    # An eighth of the size: every byte is still read, at two thirds of the time.
    flags = cv2.IMREAD_REDUCED_GRAYSCALE_8
    if cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags) is None:
        findings.add(Problem.IMAGE_UNREADABLE, f"{where} does not decode")
        return None
    return _with_true_size(record, header, where, findings)


def _with_true_size(
    record: ImageRecord, header: JpegHeader, where: str, findings: Findings
) -> ImageRecord:
    annotated_hw = (record.height, record.width)
    if header.orientation != 1:
        is_turned = header.turned_hw == annotated_hw != header.stored_hw
        findings.add(Problem.IMAGE_TURNED if is_turned else Problem.IMAGE_ROTATED, where)
        if is_turned:
            return replace(record, is_turned=True)
    if annotated_hw == header.stored_hw:
        return record
    height, width = header.stored_hw
    if 0 not in annotated_hw:  # a missing size was counted when the file was read
        example = f"{where}: {record.width}x{record.height}, stored {width}x{height}"
        findings.add(Problem.IMAGE_SIZE_WRONG, example)
    return replace(record, height=height, width=width)


def examine(record: ImageRecord, skeleton: Skeleton, findings: Findings) -> None:
    """Count boxes and keypoints outside the picture, empty people, crowds, mixed left and right."""
    face, torso = _pairs(skeleton, FACE), _pairs(skeleton, TORSO)
    for person in record.people:
        where = f"annotation {person.id} of image {record.id}"
        if person.is_crowd:
            findings.add(Problem.CROWD, where)
        elif person.num_keypoints == 0:
            findings.add(Problem.ZERO_KEYPOINTS, where)
        x, y, width, height = person.box_xywh
        if width <= 0 or height <= 0:
            findings.add(Problem.BOX_EMPTY, f"{where}: {width:g}x{height:g}")
        elif x < 0 or y < 0 or x + width > record.width or y + height > record.height:
            findings.add(Problem.BOX_OUTSIDE, where)
        if _reaches_outside(person, record):
            findings.add(Problem.KEYPOINT_OUTSIDE, where)
        if _left_right_disagree(person, face, torso):
            findings.add(Problem.LEFT_RIGHT, where)


def _reaches_outside(person: PersonRecord, record: ImageRecord) -> bool:
    numbers = person.keypoints
    return any(
        v > 0 and not (0 <= x <= record.width and 0 <= y <= record.height)
        for x, y, v in zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True)
    )


def _pairs(skeleton: Skeleton, parts: tuple[str, ...]) -> list[tuple[int, int]]:
    """Flip pairs (left, right) whose names end in one of the parts."""
    return [
        (left, right) if skeleton.keypoints[left].startswith("left") else (right, left)
        for left, right in skeleton.flip_pairs
        if skeleton.keypoints[left].endswith(parts)
    ]


def _left_right_disagree(
    person: PersonRecord, face: list[tuple[int, int]], torso: list[tuple[int, int]]
) -> bool:
    """Whether every labelled pair of the face runs one way and every pair of the torso the other.

    One of the two must have its names swapped, or the person looks over a shoulder.
    """
    face_ways, torso_ways = _ways(person, face), _ways(person, torso)
    return (
        len(torso_ways) == len(torso) > 0
        and len(set(face_ways)) == 1
        and len(set(torso_ways)) == 1
        and face_ways[0] != torso_ways[0]
    )


def _ways(person: PersonRecord, pairs: list[tuple[int, int]]) -> list[bool]:
    """For each pair with both ends labelled: whether the left one is further right."""
    numbers = person.keypoints
    return [
        numbers[3 * left] > numbers[3 * right]
        for left, right in pairs
        if numbers[3 * left + 2] > 0 and numbers[3 * right + 2] > 0
    ]

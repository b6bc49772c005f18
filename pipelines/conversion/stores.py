"""Records and their pictures, checked by the dataset doctor, into the store of a split."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from pipelines.sources.archives import Pictures, open_pictures
from pipelines.sources.schema import SplitLocations
from rtmo.formats.doctor import check_picture, examine
from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import ImageRecord
from rtmo.skeleton import Skeleton
from rtmo.store import StoreMeta, write_store

TAKEN_AHEAD = 8
"""Pictures per core that are read before the one that is due."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def write_split(
    folder: Path,
    meta: StoreMeta,
    raw: Path,
    locations: SplitLocations | None,
    records: list[ImageRecord],
    findings: Findings,
) -> None:
    """Write the store of one split; without records, an empty store.

    Args:
        folder: the store, which must not exist.
        meta: what the store says of itself.
        raw: folder of the raw data.
        locations: where its pictures lie; None with no records.
        records: what to write, in this order.
        findings: gets what the doctor finds wrong.
    """
    if not records or locations is None:
        write_store(folder, meta, ())
        return
    if locations.images is None:
        for record in records:
            examine(record, meta.skeleton, findings)
        write_store(folder, meta, ((record, None) for record in records))
        return
    with open_pictures(raw, locations.images) as pictures:
        shown = track(records, folder.name, console=Console(stderr=True))
        write_store(folder, meta, _checked(shown, pictures, meta.skeleton, findings))


def _checked(
    records: Iterable[ImageRecord], pictures: Pictures, skeleton: Skeleton, findings: Findings
) -> Iterator[tuple[ImageRecord, bytes]]:
    """Every picture that is there and can be read, with its people."""
    there = _read_pictures(records, pictures, findings)
    for repaired, jpeg, found in _in_order(_check, there):
        findings.merge(found)
        if repaired is not None:
            examine(repaired, skeleton, findings)
            yield repaired, jpeg


def _read_pictures(
    records: Iterable[ImageRecord], pictures: Pictures, findings: Findings
) -> Iterator[tuple[ImageRecord, bytes]]:
    for record in records:
        if record.file_name in pictures:
            yield record, pictures.read(record.file_name)
        else:
            findings.add(Problem.IMAGE_FILE_MISSING, f"image {record.id} ({record.file_name})")


def _check(picture: tuple[ImageRecord, bytes]) -> tuple[ImageRecord | None, bytes, Findings]:
    """The repaired record, its JPEG and what was found wrong with it."""
    record, jpeg = picture
    findings = Findings()
    return check_picture(record, jpeg, findings), jpeg, findings


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

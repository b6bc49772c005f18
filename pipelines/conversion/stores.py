"""Records and their pictures, checked by the dataset doctor, into the store of a split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import track

from pipelines.sources.archives import Pictures, open_pictures
from pipelines.sources.schema import SplitLocations
from rtmo.formats.doctor import check_pictures, examine
from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import ImageRecord
from rtmo.store import StoreMeta
from rtmo.store_writer import write_store


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
        there = _read_pictures(shown, pictures, findings)
        write_store(folder, meta, check_pictures(there, meta.skeleton, findings))


def _read_pictures(
    records: Iterable[ImageRecord], pictures: Pictures, findings: Findings
) -> Iterator[tuple[ImageRecord, bytes]]:
    for record in records:
        if record.file_name in pictures:
            yield record, pictures.read(record.file_name)
        else:
            findings.add(Problem.IMAGE_FILE_MISSING, f"image {record.id} ({record.file_name})")

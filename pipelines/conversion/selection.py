"""Which pictures a split gets: not the deleted ones, not those that another split tests on.

Pictures are known by their content, so that a copy under another name or id is still the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.sources.archives import open_pictures
from pipelines.sources.deletions import Deletions
from pipelines.sources.schema import SPLITS, Source, Split, SplitLocations
from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import ImageRecord
from rtmo.formats.splits import Fingerprint, choose_gate


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Deleted pictures of an annotation file."""

    ids: frozenset[int]
    content: frozenset[Fingerprint]
    """Of all deleted pictures, to be left out under whatever id."""


def delete_pictures(
    source: Source,
    raw: Path,
    records: dict[Split, list[ImageRecord]],
    deletions: Deletions | None,
) -> frozenset[Fingerprint]:
    """Take deleted pictures out of every split.

    Args:
        source: the set.
        raw: folder of its raw data.
        records: of every split; changed in place.
        deletions: what people deleted; None for nothing.

    Returns:
        The content of the deleted pictures, for `Unwanted` of other sets.
    """
    chosen = {
        split: [record for record in records[split] if record.id in deleted_ids(deletions, split)]
        for split in source.splits
    }
    content = frozenset(
        fingerprint
        for split, locations in source.splits.items()
        for fingerprint in _fingerprints(raw, locations, chosen[split]).values()
    )
    for split, locations in source.splits.items():
        unwanted = Unwanted(deleted_ids(deletions, split), content)
        records[split] = without_deleted(raw, locations, records[split], unwanted)
    return content


def deleted_ids(deletions: Deletions | None, split: Split) -> frozenset[int]:
    """Image ids that were deleted from a split's annotation file."""
    return frozenset(() if deletions is None else deletions.images.get(split, ()))


def without_deleted(
    raw: Path, locations: SplitLocations, records: list[ImageRecord], unwanted: Unwanted
) -> list[ImageRecord]:
    """Records but for those whose picture was deleted."""
    fingerprints = _fingerprints(raw, locations, records) if unwanted.content else {}
    return [
        record
        for record in records
        if record.id not in unwanted.ids and fingerprints.get(record.id) not in unwanted.content
    ]


def locations_of(source: Source, split: Split) -> SplitLocations | None:
    """Where the records of a split lie; those of a gate without files were taken out of train."""
    return source.splits.get(split) or source.splits.get("train")


def held_out_pictures(
    source: Source, raw: Path, records: dict[Split, list[ImageRecord]]
) -> set[Fingerprint]:
    """Content of the pictures of val and gate."""
    return {
        fingerprint
        for split in SPLITS[1:]
        for fingerprint in _fingerprints(raw, locations_of(source, split), records[split]).values()
    }


def without_held_out(
    held_out: set[Fingerprint],
    raw: Path,
    locations: SplitLocations,
    records: list[ImageRecord],
    findings: Findings,
) -> list[ImageRecord]:
    """Training records but for those whose picture is held out."""
    if not held_out:
        return records
    fingerprints = _fingerprints(raw, locations, records)
    leaked = {image_id for image_id, value in fingerprints.items() if value in held_out}
    for record in records:
        if record.id in leaked:
            findings.add(Problem.LEAKED, f"image {record.id} ({record.file_name})")
    return [record for record in records if record.id not in leaked]


def take_gate(
    raw: Path,
    locations: SplitLocations,
    records: dict[Split, list[ImageRecord]],
    gate_fraction: float,
) -> None:
    """Move part of the training pictures to the gate, those of the lowest content hash."""
    fingerprints = _fingerprints(raw, locations, records["train"])
    chosen = choose_gate(fingerprints.values(), gate_fraction)
    gate = {image_id for image_id, value in fingerprints.items() if value in chosen}
    records["gate"] = [record for record in records["train"] if record.id in gate]
    records["train"] = [record for record in records["train"] if record.id not in gate]


def _fingerprints(
    raw: Path, locations: SplitLocations | None, records: list[ImageRecord]
) -> dict[int, Fingerprint]:
    """Content fingerprint by image id, of the pictures that are there."""
    if locations is None or locations.images is None:
        return {}
    with open_pictures(raw, locations.images) as pictures:
        return {
            record.id: pictures.fingerprint(record.file_name)
            for record in records
            if record.file_name in pictures
        }

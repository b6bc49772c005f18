"""DVC stage `convert`: raw archives -> one store per split, with the dataset doctor's report."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipelines.paths import MERGED
from pipelines.sources.archives import Pictures, open_pictures
from pipelines.sources.deletions import Deletions, load_deletions
from pipelines.sources.reading import (
    corrections_digest,
    load_corrections,
    num_counted,
    read_records,
)
from pipelines.sources.schema import Source, SourceError, Split, SplitLocations, load_source
from pipelines.stage_run import stage_run
from rtmo._config import Config
from rtmo.formats.corrections import (
    Correction,
    CorrectionCounts,
    Corrections,
    apply_corrections,
    count_corrections,
)
from rtmo.formats.doctor import check_picture, examine
from rtmo.formats.findings import Action, Findings, Problem
from rtmo.formats.licence import Licence
from rtmo.formats.mapping import keypoint_mapping, map_keypoints
from rtmo.formats.records import ImageRecord
from rtmo.formats.splits import Fingerprint, choose_gate
from rtmo.skeleton import Skeleton
from rtmo.store import Store, StoreMeta, write_store

SPLITS: tuple[Split, ...] = ("train", "val", "gate")
TAKEN_AHEAD = 8
"""Pictures per core that are read before the one that is due."""

NOTHING_DELETED: Mapping[str, Deletions] = MappingProxyType({})

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Unwanted:
    """Deleted pictures of an annotation file."""

    ids: frozenset[int]
    content: frozenset[Fingerprint]
    """Of all deleted pictures, to be left out under whatever id."""


class ProblemReport(Config):
    """One kind of finding in one split."""

    count: int
    action: Action
    rule: str
    """What was done about it, in words."""
    examples: tuple[str, ...]
    """The first few cases."""


class SplitReport(Config):
    """What one store holds and what was found on the way."""

    pictures_in_file: int
    """Listed in the annotation file; for train and gate that is their common file."""
    pictures: int
    people: int
    """Annotated people and crowd regions."""
    people_with_keypoints: int
    labelled_keypoints: int
    problems: dict[str, ProblemReport]


class MergedReport(Config):
    """What the store of a merged set holds."""

    format: str
    skeleton: str
    """Its own, before its keypoints were mapped to those of the main dataset."""
    unannotated: tuple[str, ...]
    """Keypoints of the main dataset that it does not have; they teach no visibility."""
    licence: Licence
    train: SplitReport


class ConvertReport(Config):
    """What `report.json` says."""

    dataset: str
    format: str
    skeleton: str
    licence: Licence
    missing_splits: tuple[str, ...]
    """Splits that the source does not have; their stores are empty."""
    deleted: dict[str, int]
    """Pictures of each annotation file that were left out because people deleted them."""
    splits: dict[str, SplitReport]
    merged: dict[str, MergedReport]
    """By name of the merged set."""


def convert(
    source: Source,
    raw: Path,
    out: Path,
    *,
    gate_fraction: float,
    merged: Sequence[Source] = (),
    corrections: Corrections | None = None,
    deletions: Mapping[str, Deletions] = NOTHING_DELETED,
) -> ConvertReport:
    """Write one store per split into `out`, one per merged set into `out/merged`, `report.json`.

    What people corrected replaces what the annotation files of the main set say; each store's meta
    tells how much. Pictures that people deleted are left out, by their ids and by their bytes:
    a copy under another id, or in a merged set, goes too. `deletions` are by name of the set.

    A training picture whose bytes are also those of a validation or gate picture is dropped, from
    merged sets too (several were made from COCO's pictures). Without a gate split of its own,
    `gate_fraction` of the training pictures become the gate, those with the lowest content hash:
    which ones they are does not depend on names or order.

    Raises:
        FormatError: if an annotation file is not what the source file says, corrections name
            pictures or people that it does not have, or a merged set has no keypoint in common
            with the main one.
        SourceError: if the raw data is incomplete, or a split has no person to learn from.
    """
    findings = {split: Findings() for split in SPLITS}
    records: dict[Split, list[ImageRecord]] = {split: [] for split in SPLITS}
    corrected = corrections.splits if corrections else {}
    _require_known_splits(source, corrected)
    for split, locations in source.splits.items():
        read = read_records(source, raw, locations, findings[split])
        made = corrected.get(split, ())
        records[split] = apply_corrections(read, made, num_counted=num_counted(source))
    in_file = {split: len(records[split]) for split in SPLITS}
    gone = _delete(source, raw, records, deletions.get(source.dataset))
    deleted = {split: in_file[split] - len(records[split]) for split in source.splits}
    if "train" in source.splits:
        held_out = _held_out(source, raw, records)
        records["train"] = _without(
            held_out, raw, source.splits["train"], records["train"], findings["train"]
        )
    if "train" in source.splits and "gate" not in source.splits:
        in_file["gate"] = in_file["train"]
        _take_gate(raw, source.splits["train"], records, gate_fraction)
    reports = {}
    for split in SPLITS:
        where = _locations(source, split)
        # A gate that is taken out of train comes from its annotation file.
        made = corrected.get(split if split in source.splits else "train", ())
        counts = _corrections_in(made, records[split])
        meta = _store_meta(source, split).model_copy(update={"corrections": counts})
        _write_split(out / split, meta, raw, where, records[split], findings[split])
        reports[split] = _report(Store.open(out / split), in_file[split], findings[split])
        if split in source.splits:
            _require_people(source, split, reports[split])
    (out / MERGED).mkdir()
    # Never an empty folder: DVC warns of one at every command.
    names = [other.dataset for other in merged]
    (out / MERGED / "sets.json").write_text(json.dumps(names) + "\n")
    held_out = _held_out(source, raw, records) if merged else set()
    report = ConvertReport(
        dataset=source.dataset,
        format=source.format,
        skeleton=source.keypoints.name,
        licence=source.licence,
        missing_splits=tuple(split for split in ("train", "val") if split not in source.splits),
        deleted=deleted,
        splits=reports,
        merged={
            other.dataset: _convert_merged(
                other,
                raw / MERGED / other.dataset,
                out / MERGED,
                source.keypoints,
                held_out,
                Unwanted(_ids_of(deletions.get(other.dataset), "train"), gone),
            )
            for other in merged
        },
    )
    (out / "report.json").write_text(report.model_dump_json(indent=2) + "\n")
    return report


def _convert_merged(
    source: Source,
    raw: Path,
    out: Path,
    target: Skeleton,
    held_out: set[Fingerprint],
    unwanted: Unwanted,
) -> MergedReport:
    """The training split of a merged set as a store `out/<name>` with the target's keypoints."""
    locations = source.splits.get("train")
    if locations is None or locations.images is None:
        raise SourceError(
            f"data.merge names {source.dataset}, but sources/{source.dataset}.json has no training "
            f"pictures (its splits are {', '.join(source.splits)})"
        )
    mapping = keypoint_mapping(source.keypoints, target)
    findings = Findings()
    records = read_records(source, raw, locations, findings)
    in_file = len(records)
    records = _wanted(raw, locations, records, unwanted)
    records = [
        map_keypoints(record, mapping, target.num_keypoints)
        for record in _without(held_out, raw, locations, records, findings)
    ]
    unannotated = tuple(
        name for index, name in enumerate(target.keypoints) if index not in mapping.values()
    )
    meta = _store_meta(source, "train").model_copy(
        update={"skeleton": target, "unannotated": unannotated}
    )
    folder = out / source.dataset
    _write_split(folder, meta, raw, locations, records, findings)
    report = _report(Store.open(folder), in_file, findings)
    _require_people(source, "train", report)
    return MergedReport(
        format=source.format,
        skeleton=source.keypoints.name,
        unannotated=unannotated,
        licence=source.licence,
        train=report,
    )


def _delete(
    source: Source,
    raw: Path,
    records: dict[Split, list[ImageRecord]],
    deletions: Deletions | None,
) -> frozenset[Fingerprint]:
    """Take deleted pictures out of every split; their content."""
    chosen = {
        split: [record for record in records[split] if record.id in _ids_of(deletions, split)]
        for split in source.splits
    }
    content = frozenset(
        fingerprint
        for split, locations in source.splits.items()
        for fingerprint in _fingerprints(raw, locations, chosen[split]).values()
    )
    for split, locations in source.splits.items():
        unwanted = Unwanted(_ids_of(deletions, split), content)
        records[split] = _wanted(raw, locations, records[split], unwanted)
    return content


def _ids_of(deletions: Deletions | None, split: Split) -> frozenset[int]:
    return frozenset(() if deletions is None else deletions.images.get(split, ()))


def _wanted(
    raw: Path, locations: SplitLocations, records: list[ImageRecord], unwanted: Unwanted
) -> list[ImageRecord]:
    """Records but for those whose picture was deleted."""
    fingerprints = _fingerprints(raw, locations, records) if unwanted.content else {}
    return [
        record
        for record in records
        if record.id not in unwanted.ids and fingerprints.get(record.id) not in unwanted.content
    ]


def _locations(source: Source, split: Split) -> SplitLocations | None:
    """Where the records of a split lie; those of a gate without files were taken out of train."""
    return source.splits.get(split) or source.splits.get("train")


def _held_out(
    source: Source, raw: Path, records: dict[Split, list[ImageRecord]]
) -> set[Fingerprint]:
    """Content of the pictures of val and gate."""
    return {
        fingerprint
        for split in SPLITS[1:]
        for fingerprint in _fingerprints(raw, _locations(source, split), records[split]).values()
    }


def _without(
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


def _take_gate(
    raw: Path,
    locations: SplitLocations,
    records: dict[Split, list[ImageRecord]],
    gate_fraction: float,
) -> None:
    """Move part of the training pictures to the gate."""
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


def _store_meta(source: Source, split: Split) -> StoreMeta:
    return StoreMeta(
        dataset=source.dataset,
        split=split,
        protocol=source.protocol,
        skeleton=source.keypoints,
        licence=source.licence,
        pictures=source.pictures,
    )


def _corrections_in(
    corrections: Sequence[Correction], records: Sequence[ImageRecord]
) -> CorrectionCounts | None:
    """What was corrected in these records."""
    here = {record.id for record in records}
    made = [correction for correction in corrections if correction.image_id in here]
    return count_corrections(made, corrections_digest(made)) if made else None


def _require_known_splits(source: Source, corrected: Collection[Split]) -> None:
    for split in corrected:
        if split not in source.splits:
            raise SourceError(
                f"the corrections of {source.dataset} name the split {split}, which has no "
                f"annotation file of its own; there are {', '.join(source.splits)}"
            )


def _write_split(
    folder: Path,
    meta: StoreMeta,
    raw: Path,
    locations: SplitLocations | None,
    records: list[ImageRecord],
    findings: Findings,
) -> None:
    """Write the store of one split; without records, an empty store."""
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


def _report(store: Store, in_file: int, findings: Findings) -> SplitReport:
    labelled = store.column("keypoints")[:, :, 2] > 0
    return SplitReport(
        pictures_in_file=in_file,
        pictures=len(store),
        people=store.num_people,
        people_with_keypoints=int(labelled.any(axis=1).sum()),
        labelled_keypoints=int(labelled.sum()),
        problems={
            problem.label: ProblemReport(
                count=findings.counts[problem],
                action=problem.action,
                rule=problem.rule,
                examples=tuple(findings.examples[problem]),
            )
            for problem in Problem
            if findings.counts[problem]
        },
    )


def _require_people(source: Source, split: Split, report: SplitReport) -> None:
    if report.people_with_keypoints:
        return
    found = {label: problem.count for label, problem in report.problems.items()}
    raise SourceError(
        f"split {split} of {source.dataset} has {report.pictures} usable pictures of "
        f"{report.pictures_in_file} and no person with a labelled keypoint. Found on the way: "
        f"{found or 'nothing wrong'}. Look at the paths in sources/{source.dataset}.json"
    )


def report_table(report: ConvertReport) -> Table:
    """The report for a person: one row per kind of finding, one column per split."""
    table = Table(title=f"{report.dataset}: {report.format}, {report.skeleton}")
    table.add_column("")
    for split in SPLITS:
        table.add_column(split, justify="right")
    table.add_column("done")
    table.add_column("rule")
    parts = [report.splits[split] for split in SPLITS]
    table.add_row("pictures in the file", *(str(part.pictures_in_file) for part in parts))
    table.add_row("pictures", *(str(part.pictures) for part in parts))
    table.add_row("people and crowd regions", *(str(part.people) for part in parts))
    table.add_row("people with keypoints", *(str(part.people_with_keypoints) for part in parts))
    table.add_section()
    for problem in Problem:
        found = [part.problems.get(problem.label) for part in parts]
        if any(found):
            counts = (str(one.count) if one else "" for one in found)
            table.add_row(problem.label, *counts, problem.action, problem.rule)
    return table


def merged_table(report: ConvertReport) -> Table:
    """The merged sets for a person: one row each."""
    table = Table(title=f"merged with {report.dataset} for training")
    for title in ("", "format", "pictures", "people with keypoints", "found", "never annotated"):
        table.add_column(title)
    for name, merged in report.merged.items():
        found = (f"{label} {one.count}" for label, one in merged.train.problems.items())
        table.add_row(
            name,
            merged.format,
            str(merged.train.pictures),
            str(merged.train.people_with_keypoints),
            ", ".join(found),
            ", ".join(merged.unannotated),
        )
    return table


def main() -> None:
    """Command line; `dvc.yaml` is its caller."""
    with stage_run("convert") as run:
        data = run.params.data
        source = load_source(run.paths.source(data.dataset))
        merged = [load_source(run.paths.source(other.dataset)) for other in data.merge]
        corrections = load_corrections(run.paths.corrections(data.dataset), data.dataset)
        raw = run.paths.raw(data.dataset)
        with run.publish(run.paths.processed(data.dataset)) as out:
            report = convert(
                source,
                raw,
                out,
                gate_fraction=data.gate_fraction,
                merged=merged,
                corrections=corrections,
                deletions={
                    each.dataset: load_deletions(run.paths.deletions(each.dataset), each.dataset)
                    for each in (source, *merged)
                },
            )
    Console().print(report_table(report))
    if report.merged:
        Console().print(merged_table(report))


if __name__ == "__main__":
    typer.run(main)

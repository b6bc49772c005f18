"""DVC stage `convert`: raw archives -> one store per split, with the dataset doctor's report."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipelines.sources.archives import Pictures, open_pictures, read_annotations
from pipelines.sources.schema import Source, SourceError, Split, SplitLocations, load_source
from pipelines.stage_run import stage_run
from rtmo._config import Config
from rtmo.formats.coco import read_coco
from rtmo.formats.crowdpose import read_crowdpose
from rtmo.formats.doctor import check_picture, examine
from rtmo.formats.findings import Action, Findings, Problem
from rtmo.formats.licence import Licence
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.formats.splits import Fingerprint, choose_gate
from rtmo.skeleton import Skeleton
from rtmo.store import Store, StoreMeta, write_store

SPLITS: tuple[Split, ...] = ("train", "val", "gate")
TAKEN_AHEAD = 8
"""Pictures per core that are read before the one that is due."""

Item = TypeVar("Item")
Result = TypeVar("Result")


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


class ConvertReport(Config):
    """What `report.json` says."""

    dataset: str
    format: str
    skeleton: str
    licence: Licence
    missing_splits: tuple[str, ...]
    """Splits that the source does not have; their stores are empty."""
    splits: dict[str, SplitReport]


def convert(source: Source, raw: Path, out: Path, *, gate_fraction: float) -> ConvertReport:
    """Write one store per split into `out`, and `report.json`.

    A training picture whose bytes are also those of a validation or gate picture is dropped.
    Without a gate split of its own, `gate_fraction` of the training pictures become the gate, those
    with the lowest content hash: which ones they are does not depend on names or order.

    Raises:
        FormatError: if an annotation file is not what the source file says.
        SourceError: if the raw data is incomplete, or a split has no person to learn from.
    """
    findings = {split: Findings() for split in SPLITS}
    records: dict[Split, list[ImageRecord]] = {split: [] for split in SPLITS}
    for split, locations in source.splits.items():
        records[split] = _read_records(source, raw, locations, findings[split])
    in_file = {split: len(records[split]) for split in SPLITS}
    _drop_leaks(source, raw, records, findings["train"])
    if "train" in source.splits and "gate" not in source.splits:
        in_file["gate"] = in_file["train"]
        _take_gate(raw, source.splits["train"], records, gate_fraction)
    reports = {}
    for split in SPLITS:
        _write_split(source, split, raw, records[split], findings[split], out)
        reports[split] = _report(Store.open(out / split), in_file[split], findings[split])
        if split in source.splits:
            _require_people(source, split, reports[split])
    report = ConvertReport(
        dataset=source.dataset,
        format=source.format,
        skeleton=source.keypoints.name,
        licence=source.licence,
        missing_splits=tuple(split for split in ("train", "val") if split not in source.splits),
        splits=reports,
    )
    (out / "report.json").write_text(report.model_dump_json(indent=2) + "\n")
    return report


def _read_records(
    source: Source, raw: Path, locations: SplitLocations, findings: Findings
) -> list[ImageRecord]:
    """The annotation file of one split."""
    content = read_annotations(raw, locations.annotations)
    try:
        document = json.loads(content)
    except ValueError as error:
        raise FormatError(
            f"{locations.annotations.path} is no JSON file ({error}); was it cut short?"
        ) from None
    read = read_coco if source.format == "coco" else read_crowdpose
    return read(document, source.keypoints, findings)


def _drop_leaks(
    source: Source, raw: Path, records: dict[Split, list[ImageRecord]], findings: Findings
) -> None:
    """Drop from train what is also in another split, by content."""
    others = [split for split in ("val", "gate") if split in source.splits]
    held_out = {
        fingerprint
        for split in others
        for fingerprint in _fingerprints(raw, source.splits[split], records[split]).values()
    }
    if "train" not in source.splits or not held_out:
        return
    fingerprints = _fingerprints(raw, source.splits["train"], records["train"])
    leaked = {image_id for image_id, value in fingerprints.items() if value in held_out}
    for record in records["train"]:
        if record.id in leaked:
            findings.add(Problem.LEAKED, f"image {record.id} ({record.file_name})")
    records["train"] = [record for record in records["train"] if record.id not in leaked]


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
    raw: Path, locations: SplitLocations, records: list[ImageRecord]
) -> dict[int, Fingerprint]:
    """Content fingerprint by image id, of the pictures that are there."""
    if locations.images is None:
        return {}
    with open_pictures(raw, locations.images) as pictures:
        return {
            record.id: pictures.fingerprint(record.file_name)
            for record in records
            if record.file_name in pictures
        }


def _write_split(
    source: Source,
    split: Split,
    raw: Path,
    records: list[ImageRecord],
    findings: Findings,
    out: Path,
) -> None:
    """Write the store of one split; an absent split becomes an empty store."""
    meta = StoreMeta(
        dataset=source.dataset,
        split=split,
        protocol=source.format,
        skeleton=source.keypoints,
        licence=source.licence,
    )
    if not records:
        write_store(out / split, meta, ())
        return
    locations = source.splits.get(split) or source.splits["train"]  # a gate taken out of train
    if locations.images is None:
        for record in records:
            examine(record, source.keypoints, findings)
        write_store(out / split, meta, ((record, None) for record in records))
        return
    with open_pictures(raw, locations.images) as pictures:
        shown = track(records, split, console=Console(stderr=True))
        checked = _checked(shown, pictures, source.keypoints, findings)
        write_store(out / split, meta, checked)


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


def main() -> None:
    """Command line; `dvc.yaml` is its caller."""
    with stage_run("convert") as run:
        data = run.params.data
        source = load_source(run.paths.source(data.dataset))
        raw = run.paths.raw(data.dataset)
        with run.publish(run.paths.processed(data.dataset)) as out:
            report = convert(source, raw, out, gate_fraction=data.gate_fraction)
    Console().print(report_table(report))


if __name__ == "__main__":
    typer.run(main)

"""DVC stage `convert`: raw archives -> one store per split, with the dataset doctor's report."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import typer
from rich.console import Console

from pipelines.conversion.report import (
    ConvertReport,
    MergedReport,
    SplitReport,
    merged_table,
    report_table,
    split_report,
)
from pipelines.conversion.selection import (
    Unwanted,
    delete_pictures,
    deleted_ids,
    held_out_pictures,
    locations_of,
    take_gate,
    without_deleted,
    without_held_out,
)
from pipelines.conversion.stores import write_split
from pipelines.paths import MERGED
from pipelines.sources.deletions import Deletions, load_deletions
from pipelines.sources.reading import (
    corrections_digest,
    load_corrections,
    num_counted,
    read_records,
)
from pipelines.sources.schema import SPLITS, Source, SourceError, Split, load_source
from pipelines.stage_run import stage_run
from pipelines.worded_errors import without_traceback
from rtmo.formats.corrections import (
    Correction,
    CorrectionCounts,
    Corrections,
    apply_corrections,
    count_corrections,
)
from rtmo.formats.findings import Findings
from rtmo.formats.mapping import keypoint_mapping, map_keypoints
from rtmo.formats.records import ImageRecord
from rtmo.formats.splits import Fingerprint
from rtmo.skeleton import Skeleton
from rtmo.store import Store, StoreMeta

NOTHING_DELETED: Mapping[str, Deletions] = MappingProxyType({})


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
    gone = delete_pictures(source, raw, records, deletions.get(source.dataset))
    deleted = {split: in_file[split] - len(records[split]) for split in source.splits}
    if "train" in source.splits:
        held_out = held_out_pictures(source, raw, records)
        records["train"] = without_held_out(
            held_out, raw, source.splits["train"], records["train"], findings["train"]
        )
    if "train" in source.splits and "gate" not in source.splits:
        in_file["gate"] = in_file["train"]
        take_gate(raw, source.splits["train"], records, gate_fraction)
    reports = {}
    for split in SPLITS:
        where = locations_of(source, split)
        # A gate that is taken out of train comes from its annotation file.
        made = corrected.get(split if split in source.splits else "train", ())
        counts = _corrections_in(made, records[split])
        meta = _store_meta(source, split).model_copy(update={"corrections": counts})
        write_split(out / split, meta, raw, where, records[split], findings[split])
        reports[split] = split_report(Store.open(out / split), in_file[split], findings[split])
        if split in source.splits:
            _require_people(source, split, reports[split])
    (out / MERGED).mkdir()
    # Never an empty folder: DVC warns of one at every command.
    names = [other.dataset for other in merged]
    (out / MERGED / "sets.json").write_text(json.dumps(names) + "\n")
    held_out = held_out_pictures(source, raw, records) if merged else set()
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
                Unwanted(deleted_ids(deletions.get(other.dataset), "train"), gone),
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
    records = without_deleted(raw, locations, records, unwanted)
    records = [
        map_keypoints(record, mapping, target.num_keypoints)
        for record in without_held_out(held_out, raw, locations, records, findings)
    ]
    unannotated = tuple(
        name for index, name in enumerate(target.keypoints) if index not in mapping.values()
    )
    meta = _store_meta(source, "train").model_copy(
        update={"skeleton": target, "unannotated": unannotated}
    )
    folder = out / source.dataset
    write_split(folder, meta, raw, locations, records, findings)
    report = split_report(Store.open(folder), in_file, findings)
    _require_people(source, "train", report)
    return MergedReport(
        format=source.format,
        skeleton=source.keypoints.name,
        unannotated=unannotated,
        licence=source.licence,
        train=report,
    )


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


def _require_people(source: Source, split: Split, report: SplitReport) -> None:
    if report.people_with_keypoints:
        return
    found = {label: problem.count for label, problem in report.problems.items()}
    raise SourceError(
        f"split {split} of {source.dataset} has {report.pictures} usable pictures of "
        f"{report.pictures_in_file} and no person with a labelled keypoint. Found on the way: "
        f"{found or 'nothing wrong'}. Look at the paths in sources/{source.dataset}.json"
    )


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
    with without_traceback():
        typer.run(main)

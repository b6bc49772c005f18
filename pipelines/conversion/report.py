"""What a conversion found and did: counts of every split, and tables for a person."""

from __future__ import annotations

from rich.table import Table

from pipelines.sources.schema import SPLITS
from rtmo._config import Config
from rtmo.formats.findings import Action, Findings, Problem
from rtmo.formats.licence import Licence
from rtmo.store import Store


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


def split_report(store: Store, in_file: int, findings: Findings) -> SplitReport:
    """Counts of a written store, with what was found on the way.

    Args:
        store: the split as it was written.
        in_file: pictures that its annotation file lists.
        findings: what was wrong with them.
    """
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

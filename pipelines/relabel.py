"""From doubtful labels to an annotation tool, and from there back into the data.

`tag_for_relabel` writes what a tool imports; `take_corrections` turns what it gives back into
`sources/corrections/<dataset>.json`, which `convert` applies.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.params import Params
from pipelines.paths import Paths
from pipelines.sources.reading import load_corrections, read_records
from pipelines.sources.schema import SourceError, Split, load_source
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.suspects import Suspicion, by_image, suspicions
from rtmo.evaluation.taxonomy import Outcome, classify
from rtmo.formats.coco import write_coco
from rtmo.formats.corrections import Correction, Corrections
from rtmo.formats.findings import Findings
from rtmo.formats.relabelled import derive_corrections, read_relabelled
from rtmo.store import Store

SPLIT: Split = "val"
"""The split that is inspected: the one the model has detections on and was not trained with."""

Results = Sequence[Mapping[str, Any]]
"""A COCO result list."""


class RelabelError(ValueError):
    """There is nothing to tag, or corrections cannot be taken; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """What was written for the annotation tool."""

    folder: Path
    images: tuple[tuple[int, tuple[Suspicion, ...]], ...]
    """Index in the split and the suspicions, the strongest first."""

    @property
    def reasons(self) -> Counter[str]:
        """How often which reason stands first."""
        return Counter(those[0].reason.value for _, those in self.images)


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a corrected file."""

    path: Path
    """The corrections file of the dataset."""
    corrections: tuple[Correction, ...]
    """All of the split, old and new."""
    is_new: bool
    """Whether the file changed."""


def tag_for_relabel(paths: Paths, params: Params, count: int) -> Tagged:
    """Write the `count` most doubtful pictures of the validation split for an annotation tool.

    Into `runs/relabel/<dataset>-<split>/`, laid out as annotation tools read COCO:
    `annotations/person_keypoints_<split>.json` with the ids of the dataset, `images/`, and beside
    them `reasons.md`. Faces are not blurred: who labels has to see them.

    Raises:
        RelabelError: if the split has no detections yet.
        StoreError: if it was not converted yet.
    """
    dataset = params.data.dataset
    store = Store.open(paths.processed(dataset) / SPLIT)
    found = _results(paths.report("evaluate") / "detections.json")
    images = doubtful_images(store, found, _champion_results(paths))[:count]
    folder = paths.runs / "relabel" / f"{dataset}-{SPLIT}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "annotations").mkdir(parents=True)
    rows = {row for row, _ in images}
    document = write_coco(
        (record for row, record in enumerate(store.records()) if row in rows), store.skeleton
    )
    for annotation in document["annotations"]:  # tools expect both keys
        annotation.setdefault("segmentation", [])
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    annotations = folder / "annotations" / f"person_keypoints_{SPLIT}.json"
    annotations.write_text(json.dumps(document) + "\n")
    (folder / "reasons.md").write_text(_reasons(store, images), encoding="utf-8")
    for row in sorted(rows):
        picture = folder / "images" / store.file_name(row)
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_bytes(store.image_bytes(row).tobytes())
    return Tagged(folder, images)


def doubtful_images(
    store: Store, results: Results, champion: Results | None = None
) -> tuple[tuple[int, tuple[Suspicion, ...]], ...]:
    """Images with doubtful labels, the most doubtful first, each with its reasons.

    Args:
        store: the labelled split.
        results: the model's detections on it.
        champion: another model's detections, to learn where the two disagree.
    """
    truth = read_ground_truth(store.to_coco(), store.skeleton, store.meta.protocol)
    outcomes = []
    for one in (results,) if champion is None else (results, champion):
        found = read_detections(one, truth, store.skeleton)
        outcomes.append(Outcome(found, classify(truth, found, store.skeleton)))
    return tuple(by_image(suspicions(truth, outcomes[0], store.skeleton, *outcomes[1:])))


def take_corrections(paths: Paths, params: Params, file: Path) -> Taken:
    """Take what an annotation tool gave back into the corrections of the dataset.

    The file is compared with the publisher's annotations; its pictures' former corrections are
    replaced, those of others stay. `dvc repro` then makes the new data version.

    Raises:
        FormatError: if the file is not of this dataset, or names pictures or people unknown to it.
        RelabelError: if the file is not JSON.
        SourceError: if the raw annotations are not there.
    """
    dataset = params.data.dataset
    source = load_source(paths.source(dataset))
    if SPLIT not in source.splits:
        raise SourceError(f"{dataset} has no split {SPLIT}; it has {', '.join(source.splits)}")
    relabelled = read_relabelled(_json(file), source.keypoints)
    published = read_records(source, paths.raw(dataset), source.splits[SPLIT], Findings())
    path = paths.corrections(dataset)
    former = load_corrections(path, dataset)
    made = derive_corrections(published, relabelled, former.splits.get(SPLIT, ()))
    splits = {**former.splits, SPLIT: made}
    corrections = Corrections(dataset=dataset, splits={k: v for k, v in splits.items() if v})
    if corrections != former:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(corrections.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return Taken(path, made, is_new=corrections != former)


def describe(taken: Taken) -> str:
    """What was taken, and what to do next."""
    counts = Counter(correction.action for correction in taken.corrections)
    people = ", ".join(f"{counts[action]} {action}" for action in ("changed", "added", "removed"))
    if not taken.is_new:
        return f"{taken.path} says that already ({people})"
    return f"{taken.path}: {people}. Commit it; `dvc repro` makes the new data version"


def _champion_results(paths: Paths) -> Results | None:
    """What the champion found, if `inspect` compared with one."""
    path = paths.report("inspect") / "champion.json"
    if not path.exists():
        return None
    content = json.loads(path.read_bytes())
    results: Results | None = content.get("detections")
    return results


def _results(path: Path) -> Results:
    try:
        results: Results = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise RelabelError(
            f"{path} does not exist: labels are doubted where a model contradicts them; run "
            "`dvc repro evaluate` first"
        ) from None
    return results


def _json(file: Path) -> Any:  # noqa: ANN401
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise RelabelError(f"{file} does not exist") from None
    except ValueError as error:
        raise RelabelError(
            f"{file} is not JSON ({error}); a zip from an annotation tool has to be unpacked, the "
            "file is annotations/person_keypoints_*.json in it"
        ) from None


def _reasons(store: Store, images: Sequence[tuple[int, tuple[Suspicion, ...]]]) -> str:
    """The tagged pictures for a reader, as Markdown."""
    ids = store.column("annotation_ids")
    lines = [
        f"# {store.meta.dataset}, {store.meta.split}: {len(images)} pictures to look at",
        "",
        "The model contradicts these labels. It may be wrong: change a label only if the picture "
        "says so.",
        "",
        "| picture | annotation | doubt | why | figures |",
        "|---|---|---|---|---|",
    ]
    for row, those in images:
        for one in those:
            person = "" if one.person is None else ids[one.person]
            lines.append(
                f"| {store.file_name(row)} | {person} | {one.strength:.2f} | {one.reason.value} "
                f"| {one.detail} |"
            )
    return "\n".join(lines) + "\n"

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

from rich.console import Console
from rich.progress import Progress

from pipelines.params import Params
from pipelines.paths import Paths
from pipelines.sources.reading import load_corrections, read_records
from pipelines.sources.schema import SourceError, Split, load_source
from rtmo.deployment import load_predictor
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.predict import predict_store
from rtmo.evaluation.suspects import Suspicion, by_image, suspicions
from rtmo.evaluation.taxonomy import Outcome, classify
from rtmo.formats.coco import write_coco
from rtmo.formats.corrections import Correction, Corrections
from rtmo.formats.findings import Findings
from rtmo.formats.relabelled import derive_corrections, read_relabelled
from rtmo.store import Store

DETECTIONS: dict[Split, str] = {"val": "detections.json", "gate": "gate_detections.json"}
"""What `evaluate` wrote, by split; on the training split the model is asked when it is needed."""

LEARNT = (
    "The model was trained with these labels. A wrong label that it has learnt by heart does not "
    "show here; what it contradicts all the same has a high loss, because the label is wrong or "
    "because the picture is hard."
)
"""What the reader of doubts about the training split has to know."""

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
    """All of the annotation file, old and new."""
    is_new: bool
    """Whether the file changed."""


def tag_for_relabel(paths: Paths, params: Params, count: int, split: Split = "val") -> Tagged:
    """Write the `count` most doubtful pictures of a split for an annotation tool.

    The model's detections are those of `evaluate`; on the training split it is run now. The
    champion is known on the validation split only. See `write_doubtful`.

    Raises:
        RelabelError: if the split has no pictures or no detections yet, or there is no model, or it
            finds another skeleton.
        StoreError: if the split was not converted yet, or has no pixels.
    """
    store = Store.open(paths.processed(params.data.dataset) / split)
    if not len(store):
        raise RelabelError(
            f"{store.folder} has no pictures; look at the convert stage's report, or ask for "
            "another split with --split"
        )
    if split == "train":
        found = _ask_the_model(paths, params, store)
    else:
        found = _results(paths.report("evaluate") / DETECTIONS[split])
    champion = _champion_results(paths) if split == "val" else None
    return write_doubtful(paths, store, doubtful_images(store, found, champion)[:count])


def write_doubtful(
    paths: Paths, store: Store, images: tuple[tuple[int, tuple[Suspicion, ...]], ...]
) -> Tagged:
    """Write pictures of a split with what is doubtful in each.

    Into `runs/relabel/<dataset>-<split>/`, laid out as annotation tools read COCO:
    `annotations/person_keypoints_<split>.json` with the ids of the dataset, `images/`, and beside
    them `reasons.md`. Faces are not blurred: who labels has to see them.
    """
    split = store.meta.split
    folder = paths.runs / "relabel" / f"{store.meta.dataset}-{split}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "annotations").mkdir(parents=True)
    rows = {row for row, _ in images}
    document = write_coco(
        (record for row, record in enumerate(store.records()) if row in rows), store.skeleton
    )
    for annotation in document["annotations"]:  # tools expect both keys
        annotation.setdefault("segmentation", [])
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    annotations = folder / "annotations" / f"person_keypoints_{split}.json"
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


def take_corrections(paths: Paths, params: Params, file: Path, split: Split = "val") -> Taken:
    """Take what an annotation tool gave back into the corrections of the dataset.

    Corrections are kept by annotation file: those of a gate that `convert` took out of train are
    train's. The file is compared with the publisher's annotations; its pictures' former corrections
    are replaced, those of others stay. `dvc repro` then makes the new data version.

    Raises:
        FormatError: if the file is not of this dataset, or names pictures or people unknown to it.
        RelabelError: if the file is not JSON.
        SourceError: if the raw annotations are not there.
    """
    dataset = params.data.dataset
    source = load_source(paths.source(dataset))
    if split == "gate" and "gate" not in source.splits:
        split = "train"
    if split not in source.splits:
        raise SourceError(f"{dataset} has no split {split}; it has {', '.join(source.splits)}")
    relabelled = read_relabelled(_json(file), source.keypoints)
    published = read_records(source, paths.raw(dataset), source.splits[split], Findings())
    path = paths.corrections(dataset)
    former = load_corrections(path, dataset)
    made = derive_corrections(published, relabelled, former.splits.get(split, ()))
    splits = {**former.splits, split: made}
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


def _ask_the_model(paths: Paths, params: Params, store: Store) -> Results:
    """What the trained weights find on a split, as `evaluate` would."""
    weights = paths.trained / "weights.safetensors"
    if not weights.exists():
        raise RelabelError(
            f"{weights} does not exist: labels are doubted where a model contradicts them; run "
            "`dvc repro train` first"
        )
    config = params.evaluate
    predict = load_predictor(
        weights, score_threshold=config.score_threshold, nms_iou=config.nms_iou
    )
    if predict.skeleton != store.skeleton:
        raise RelabelError(
            f"{weights} finds skeleton {predict.skeleton.name!r}, {store.folder} is annotated with "
            f"{store.skeleton.name!r}; run `dvc repro train` on this dataset first"
        )
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"detect {store.meta.split}", total=len(store))
        return predict_store(
            predict, store, config.batch, lambda done, _: progress.update(task, completed=done)
        )


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
        *((LEARNT, "") if store.meta.split == "train" else ()),
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

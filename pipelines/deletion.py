"""Pictures deleted from a dataset by image or person id, and the models that saw them.

A person cannot be cut out of a picture: with a person go the pictures that show that annotation.
`sources/deletions/<dataset>.json` says which pictures are gone; `convert` leaves them out, under
any id and in merged sets too where they have the same bytes. The publisher's archives stay what
they are, in `data/raw`, DVC's cache and its remote.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines import dvc_graph
from pipelines.dvc_data import read_output
from pipelines.params import Params
from pipelines.paths import MERGED, Paths
from pipelines.sources.deletions import Deletions, load_deletions
from pipelines.sources.reading import load_corrections
from pipelines.sources.schema import Split, load_source
from pipelines.tracking.runs import DATA_DIGEST_TAG, DATASET_TAG
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import aliases_by_version, all_versions
from pipelines.worktree import commits_by_training
from rtmo.store import Store

ROLES: Mapping[Split, str] = {"train": "trained on", "val": "validated on", "gate": "judged on"}
"""What a version did with a picture of a split."""

ReadIds = Callable[[str], "np.ndarray | None"]
"""Image ids of a store, by its folder in the processed dataset; None if there is none."""


class DeletionError(ValueError):
    """A picture or person cannot be found; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Witness:
    """A registered version that saw a deleted picture, or of which nobody can tell."""

    version: int
    aliases: tuple[str, ...]
    how: tuple[str, ...]
    """As "trained on"; what is missing to tell where nobody can."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was deleted."""

    path: Path
    """The file of deletions."""
    images: Mapping[Split, tuple[int, ...]]
    """What was asked for, by the split of the annotation file."""
    is_new: bool
    """Whether the file changed."""
    witnesses: tuple[Witness, ...]


def delete(
    paths: Paths, params: Params, dataset: str, *, images: Sequence[int], people: Sequence[int]
) -> Deletion:
    """Leave pictures out of a dataset from now on; `dvc repro` makes the new data version.

    Corrections that people made in these pictures are removed from their file as well.

    Args:
        paths: of the checkout, with the converted dataset in place.
        params: its settings.
        dataset: the main dataset or a merged set.
        images: ids as in the annotation file.
        people: annotation ids; the pictures that show them go.

    Raises:
        DeletionError: if an id is unknown, or two annotation files have it.
        StoreError: if the dataset was not converted yet.
    """
    if not images and not people:
        raise DeletionError("give at least one --image ID or --person ID")
    source = load_source(paths.source(dataset))
    file_splits = {split: split if split in source.splits else "train" for split in ROLES}
    processed = paths.processed(params.data.dataset)
    stores = [
        (file_splits[split], Store.open(processed / folder))
        for split, folder in store_folders(params.data.dataset, dataset).items()
    ]
    former = load_deletions(paths.deletions(dataset), dataset)
    found = find_pictures(stores, former, images, people)
    deletions = former.joined(found)
    if deletions != former:
        _write(paths.deletions(dataset), deletions)
    _remove_corrections(paths, dataset, deletions)
    return Deletion(
        path=paths.deletions(dataset),
        images=found,
        is_new=deletions != former,
        witnesses=witnesses(paths, params, dataset, found, file_splits),
    )


def find_pictures(
    stores: Sequence[tuple[Split, Store]],
    former: Deletions,
    images: Sequence[int],
    people: Sequence[int],
) -> dict[Split, tuple[int, ...]]:
    """Ids of the pictures, by the split of the annotation file they are in.

    Args:
        stores: of the dataset, each with the split of its annotation file.
        former: pictures that were deleted before; asking for them again is no mistake.
        images: ids of pictures.
        people: annotation ids.

    Raises:
        DeletionError: if an id is unknown, or two annotation files have it.
    """
    found: dict[Split, set[int]] = {}
    for image in images:
        splits = {split for split, store in stores if image in store.image_ids}
        splits |= {split for split, ids in former.images.items() if image in ids}
        found.setdefault(_the_one(splits, f"picture {image}", former.dataset), set()).add(image)
    for person in people:
        shown = {
            (split, int(image))
            for split, store in stores
            for image in np.repeat(store.image_ids, store.people_per_image)[
                store.column("annotation_ids") == person
            ]
        }
        split = _the_one({split for split, _ in shown}, f"person {person}", former.dataset)
        found.setdefault(split, set()).update(image for _, image in shown)
    return {split: tuple(sorted(ids)) for split, ids in found.items()}


def store_folders(main: str, dataset: str) -> dict[Split, str]:
    """Where the stores of a dataset lie in the processed main dataset."""
    if dataset == main:
        return {split: split for split in ROLES}
    return {"train": f"{MERGED}/{dataset}"}


def witnesses(
    paths: Paths,
    params: Params,
    dataset: str,
    images: Mapping[Split, Sequence[int]],
    file_splits: Mapping[Split, Split],
) -> tuple[Witness, ...]:
    """Versions whose data had one of the pictures, oldest first, and those nobody can tell of.

    Each is asked of the data version it was made with: the workspace's, or out of DVC's cache or
    remote at the commit of its training.
    """
    tracking = open_tracking(paths)
    versions = all_versions(tracking, params.registration.name)
    aliases = aliases_by_version(tracking, params.registration.name) if versions else {}
    commits = commits_by_training(paths.root) if versions else {}
    data_here = dvc_graph.data_digest(paths.root)
    found = []
    for version in versions:
        main = version.tags.get(DATASET_TAG, "")
        processed = f"data/processed/{main}"
        how: tuple[str, ...]
        history = commits.get(version.tags.get("stage_hash", ""), ())
        if data_here is not None and version.tags.get(DATA_DIGEST_TAG) == data_here:
            read = _ids_in_workspace(paths.processed(main))
        elif history:
            read = _ids_at(paths.root, history[0], processed)
        else:
            how = ("not known: no commit here has its training",)
            found.append(Witness(version.number, aliases.get(version.number, ()), how))
            continue
        ids = {split: read(folder) for split, folder in store_folders(main, dataset).items()}
        how = tuple(
            ROLES[split]
            for split, there in ids.items()
            if there is not None and np.isin(images.get(file_splits[split], ()), there).any()
        )
        if all(there is None for there in ids.values()) and main == dataset:
            how = ("not known: its data is in neither the cache nor the remote",)
        if how:
            found.append(Witness(version.number, aliases.get(version.number, ()), how))
    return tuple(found)


def describe(deletion: Deletion) -> Iterable[str]:
    """What was deleted, who saw it, and what to do next."""
    if not deletion.is_new:
        yield f"{deletion.path} names these pictures already"
    for split, ids in deletion.images.items():
        yield f"{split}: pictures {', '.join(map(str, ids))} are left out from now on"
    for witness in deletion.witnesses:
        names = f" ({', '.join(witness.aliases)})" if witness.aliases else ""
        yield f"version {witness.version}{names}: {', '.join(witness.how)}"
    if not deletion.witnesses:
        yield "no registered version saw them"
    yield f"Commit {deletion.path.name}; `dvc repro` makes the new data version"
    yield (
        "The archives in data/raw, the DVC cache and its remote, and former data versions still "
        "hold the pictures: see docs/registry.md"
    )


def _the_one(splits: set[Split], what: str, dataset: str) -> Split:
    if len(splits) == 1:
        return next(iter(splits))
    if not splits:
        raise DeletionError(
            f"the converted dataset {dataset!r} has no {what}; ids are those of its annotation "
            "file. If it was never converted or another dataset is meant, see data.dataset"
        )
    raise DeletionError(
        f"{what} is in the annotation files of {' and '.join(sorted(splits))}, which may be two: "
        f"write the id under the right split of sources/deletions/{dataset}.json by hand"
    )


def _write(path: Path, deletions: Deletions) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(deletions.model_dump_json(indent=1) + "\n", encoding="utf-8")


def _remove_corrections(paths: Paths, dataset: str, deletions: Deletions) -> None:
    former = load_corrections(paths.corrections(dataset), dataset)
    kept = {
        split: tuple(
            one for one in made if one.image_id not in set(deletions.images.get(split, ()))
        )
        for split, made in former.splits.items()
    }
    now = former.model_copy(
        update={"splits": {split: made for split, made in kept.items() if made}}
    )
    if now != former:
        paths.corrections(dataset).write_text(now.model_dump_json(indent=1) + "\n")


def _ids_in_workspace(processed: Path) -> ReadIds:
    def read(folder: str) -> np.ndarray | None:
        file = processed / folder / "image_ids.npy"
        return np.load(file) if file.exists() else None

    return read


def _ids_at(root: Path, commit: str, processed: str) -> ReadIds:
    def read(folder: str) -> np.ndarray | None:
        content = read_output(root, commit, f"{processed}/{folder}/image_ids.npy")
        return None if content is None else np.load(io.BytesIO(content))

    return read

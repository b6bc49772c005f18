"""Datasets that are not downloaded: a local folder or the generator, as archives like the rest."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from pathlib import Path

from pipelines.sources.archives import write_archive
from pipelines.sources.schema import Folder, Location, Source, SourceError
from rtmo.synthetic import coco_annotations, crowdpose_annotations, generate
from rtmo.synthetic.config import SyntheticConfig

Members = dict[str, bytes | Path]
"""Content of an archive by member name."""


def pack_folder(source: Source, folder: Path, out: Path) -> None:
    """Pack a folder in the official layout into the archives that the source file names.

    Raises:
        SourceError: if the folder lacks pictures or an annotation file.
    """
    if not folder.is_dir():
        raise SourceError(
            f"{folder} does not exist; sources/{source.dataset}.json takes the dataset from there: "
            f"{_contents(source)}"
        )
    archives: defaultdict[str, Members] = defaultdict(dict)
    for split, locations in source.splits.items():
        annotations = folder / locations.annotations.path
        documents = [annotations] if annotations.is_file() else sorted(annotations.glob("*.json"))
        if not documents:
            raise SourceError(
                f"{annotations}, the annotations of split {split}, does not exist; "
                f"put into {folder}: {_contents(source)}"
            )
        for document in documents:
            name = document.relative_to(folder).as_posix()
            _put(archives, out, locations.annotations, name, document)
        if locations.images is None:
            continue
        pictures = folder / locations.images.path
        files = sorted(path for path in pictures.rglob("*") if path.is_file())
        if not files:
            raise SourceError(f"{pictures} has no pictures for split {split}")
        for file in files:
            _put(archives, out, locations.images, file.relative_to(folder).as_posix(), file)
    _write(archives, out)


def _contents(source: Source) -> str:
    return source.get.contents if isinstance(source.get, Folder) else "its pictures and annotations"


def draw_dataset(source: Source, config: SyntheticConfig, out: Path) -> None:
    """Draw the embedded dataset into the archives that the source file names."""
    annotate = coco_annotations if source.format == "coco" else crowdpose_annotations
    archives: defaultdict[str, Members] = defaultdict(dict)
    for split, locations in source.splits.items():
        images = list(generate(config, split))
        if locations.images is not None:
            for image in images:
                name = f"{locations.images.path}/{image.file_name}"
                _put(archives, out, locations.images, name, image.jpeg)
        document = json.dumps(annotate(images), separators=(",", ":")).encode()
        _put(archives, out, locations.annotations, locations.annotations.path, document)
    _write(archives, out)


def _put(
    archives: defaultdict[str, Members],
    out: Path,
    location: Location,
    name: str,
    content: bytes | Path,
) -> None:
    """Note a file for its archive, or write it at once where it belongs to none."""
    if location.archive is not None:
        archives[location.archive][name] = content
        return
    target = out / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        target.write_bytes(content)
    else:
        shutil.copyfile(content, target)


def _write(archives: defaultdict[str, Members], out: Path) -> None:
    for name, members in archives.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_archive(path, sorted(members.items()))

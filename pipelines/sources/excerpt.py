"""A small part of a large dataset: some pictures and their annotations, out of archives on servers.

Which pictures is a matter of their names alone: those with the lowest sha256 among the pictures
that show a person with keypoints. A larger number therefore takes the same ones and more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from pipelines.sources.archives import LARGEST_ANNOTATIONS, LARGEST_PICTURE
from pipelines.sources.remote_zip import RemoteZip
from pipelines.sources.schema import Excerpt, RemoteArchive, Source, SourceError
from rtmo._config import Config
from rtmo.fetch import (
    FetchError,
    Patience,
    RemoteBytes,
    TransferError,
    inside,
    require_space,
    transfer_display,
)

logger = logging.getLogger(__name__)

RECEIPT = "excerpt.json"
WHOLE = "whole"
"""Folder of the annotation files as published, so that another number of pictures is soon taken."""


class Receipt(Config):
    """What a complete excerpt holds; written last."""

    get: Excerpt
    """What was asked for."""
    files: dict[str, int]
    """CRC-32 by path."""


def fetch_excerpt(source: Source, excerpt: Excerpt, folder: Path, patience: Patience) -> None:
    """Bring pictures and annotations into the folder, in the layout of the source.

    What is there already is not fetched again, so a broken run is continued; a complete excerpt
    needs no network. Pictures of none of the splits are deleted.

    Raises:
        SourceError: if an archive or annotation file is not what the source file says.
        FetchError: if an archive cannot be had or changes while it is read.
        TransferError: if network or server failed too often in a row; run again to continue.
    """
    if _is_complete(excerpt, folder):
        logger.info("%s is complete", folder)
        return
    (folder / RECEIPT).unlink(missing_ok=True)
    files: dict[str, int] = {}
    with _open_archives(excerpt, patience) as archives:
        for split, locations in source.splits.items():
            images, annotations = locations.images, locations.annotations
            # The schema sees to it that every part of an excerpt lies in an archive.
            assert images is not None
            assert images.archive is not None
            assert annotations.archive is not None
            path, whole = annotations.path, folder / WHOLE
            _bring(archives[annotations.archive], [path], whole, LARGEST_ANNOTATIONS, patience)
            document = _read_document(whole / path)
            chosen = choose_pictures(document, excerpt.num_images[split], path)
            small = json.dumps(_reduced(document, chosen), separators=(",", ":")).encode()
            _write(folder / path, small)
            files[path] = zlib.crc32(small)
            members = [f"{images.path}/{name}" for name in chosen]
            files |= _bring(archives[images.archive], members, folder, LARGEST_PICTURE, patience)
    _keep_only(files, folder)
    receipt = Receipt(get=excerpt, files=files)
    (folder / RECEIPT).write_text(receipt.model_dump_json(indent=2) + "\n")


def choose_pictures(document: dict[str, Any], count: int, path: str) -> list[str]:
    """File names of the pictures to take, in the order of their hashes.

    Raises:
        SourceError: if the document is no COCO keypoint annotation file, or lists too few pictures
            of people.
    """
    try:
        with_people = {
            person["image_id"]
            for person in document["annotations"]
            if person.get("num_keypoints", 0) > 0 and not person.get("iscrowd", 0)
        }
        names = [
            inside(image["file_name"]) for image in document["images"] if image["id"] in with_people
        ]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise SourceError(f"{path} is no COCO keypoint annotation file: {error!r}") from None
    if len(names) < count:
        raise SourceError(
            f"num_images asks for {count} pictures of people, {path} lists {len(names)}"
        )
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())[:count]


def _reduced(document: dict[str, Any], chosen: list[str]) -> dict[str, Any]:
    """The annotation document of the chosen pictures only."""
    names = set(chosen)
    images = [image for image in document["images"] if image["file_name"] in names]
    ids = {image["id"] for image in images}
    annotations = [one for one in document["annotations"] if one["image_id"] in ids]
    return document | {"images": images, "annotations": annotations}


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise SourceError(f"{path} is no JSON file ({error})") from None
    if not isinstance(document, dict):
        raise SourceError(f"{path} holds a {type(document).__name__}, expected an object")
    return document


def _bring(
    archive: RemoteZip, names: list[str], folder: Path, largest: int, patience: Patience
) -> dict[str, int]:
    """Fetch what is missing of the named members into the folder; CRC-32 of each by name."""
    infos = [archive.info(name) for name in names]
    missing = [info for info in infos if _crc32(folder / info.filename) != info.CRC]
    folder.mkdir(parents=True, exist_ok=True)
    require_space(sum(info.file_size for info in missing), folder)
    shown = names[0] if len(names) == 1 else f"{len(missing)} members"
    with transfer_display() as progress, ThreadPoolExecutor(patience.files_at_once) as pool:
        total = sum(info.compress_size for info in missing)
        advance = partial(progress.advance, progress.add_task(shown, total=total))

        def fetch(name: str) -> None:
            _write(folder / name, archive.read(name, largest, advance))

        jobs = [pool.submit(fetch, info.filename) for info in missing]
        try:
            for job in jobs:
                job.result()
        except BaseException:  # also an interrupt: what has not begun is left for the next run
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {info.filename: info.CRC for info in infos}


@contextmanager
def _open_archives(excerpt: Excerpt, patience: Patience) -> Iterator[dict[str, RemoteZip]]:
    """The archives by name, each from the first address that has it."""
    with httpx.Client(timeout=patience.timeout_s, follow_redirects=True) as client:
        yield {
            archive.name: RemoteZip(_open(archive, client, patience))
            for archive in excerpt.archives
        }


def _open(archive: RemoteArchive, client: httpx.Client, patience: Patience) -> RemoteBytes:
    failures: list[FetchError | TransferError] = []
    for url in archive.urls:
        try:
            remote = RemoteBytes(url, client, patience)
        except (FetchError, TransferError) as error:
            failures.append(error)
            continue
        found = (remote.size, remote.version)
        version = archive.version if url == archive.urls[0] else None
        expected = (archive.bytes or remote.size, version or remote.version)
        if found == expected:
            return remote
        failures.append(
            FetchError(
                f"{url} offers {found[0]} bytes of version {found[1]}, expected {expected[0]} of "
                f"{expected[1]}: the file has changed; `rtmo-pipeline data refresh` takes it as it "
                "is now"
            )
        )
    kind = TransferError if TransferError in map(type, failures) else FetchError
    raise kind(f"no part of {archive.name} can be had: {'; '.join(map(str, failures))}")


def _keep_only(files: Iterable[str], folder: Path) -> None:
    """Delete what an excerpt with other pictures left behind."""
    keep = {folder / path for path in files}
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path not in keep and not path.is_relative_to(folder / WHOLE):
            path.unlink()


def _is_complete(excerpt: Excerpt, folder: Path) -> bool:
    try:
        receipt = Receipt.model_validate_json((folder / RECEIPT).read_bytes())
    except (FileNotFoundError, ValidationError):
        return False
    return receipt.get == excerpt and all(
        _crc32(folder / path) == crc for path, crc in receipt.files.items()
    )


def _crc32(path: Path) -> int | None:
    return zlib.crc32(path.read_bytes()) if path.is_file() else None


def _write(path: Path, content: bytes) -> None:
    """Write a file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)

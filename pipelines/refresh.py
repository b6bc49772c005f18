"""Did the files of a source change where they come from? Then its source file is written anew.

A whole file counts as changed when its content did: size and checksum, which stand in the source
file. Its server's mark of a version (ETag, Last-Modified) only saves the transfer: the mark that
came with the last one is beside the finished download. Of an archive that is never fetched whole,
size and mark are all there is to compare, so both stand in the source file.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from pipelines.sources.schema import Excerpt, Files, RemoteArchive, Source, load_source
from rtmo.fetch import (
    FetchedFile,
    FetchError,
    Look,
    Patience,
    RemoteFile,
    fetch_files,
    first_look,
    read_record,
    record_path,
)

FACTS = ("name", "urls", "bytes", "version", "sha256", "md5")
"""Keys of a remote file in the order in which they are written."""

Facts = dict[str, Any]
"""What is to be written of a file; empty where nothing changed."""


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What asking every remote file of a source brought."""

    dataset: str
    changes: tuple[str, ...]
    """One line per changed file, what was stated and what is found; the source file has it now."""
    unchanged: tuple[str, ...]
    """Names of the other files."""


def refresh_source(path: Path, downloads: Path, patience: Patience) -> RefreshReport:
    """Ask every remote file of a source file; rewrite it if one of them changed.

    A new content is fetched into `downloads`, where the `download` stage finds it. The rewritten
    source file is a new data version: DVC sees its stages as stale.

    Args:
        path: the source file.
        downloads: the folder in which the `download` stage keeps this dataset's files.
        patience: how hard to try.

    Raises:
        SourceError: if the source file cannot be used.
        FetchError: if a file cannot be had; nothing is written then.
        TransferError: if network or server failed too often in a row; run again to continue.
    """
    source = load_source(path)
    document = json.loads(path.read_text())
    if not isinstance(source.get, (Files, Excerpt)):
        return RefreshReport(source.dataset, (), ())
    changes, unchanged = [], []
    with httpx.Client(timeout=patience.timeout_s, follow_redirects=True) as client:
        for entry, remote in _entries(source.get, document["get"]):
            url, look = _look(remote, client, patience)
            if isinstance(remote, RemoteArchive):
                facts = _archive_facts(remote, url, look)
            elif _seems_unchanged(remote, url, look, downloads):
                facts = {}
            else:
                facts = _content_facts(remote, downloads, patience)
            if facts:
                changes.append(f"{remote.name}: {_difference(entry, facts)}")
                _rewrite(entry, facts)
            else:
                unchanged.append(remote.name)
    if changes:
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        Source.model_validate_json(text, strict=True)
        unfinished = path.with_name(f"{path.name}.part")
        unfinished.write_text(text)
        unfinished.replace(path)
    return RefreshReport(source.dataset, tuple(changes), tuple(unchanged))


def _entries(
    get: Files | Excerpt, document: dict[str, Any]
) -> list[tuple[Facts, RemoteFile | RemoteArchive]]:
    """Each remote file as it is written and as it is read."""
    if isinstance(get, Files):
        return list(zip(document["files"], get.files, strict=True))
    return list(zip(document["archives"], get.archives, strict=True))


def _look(
    remote: RemoteFile | RemoteArchive, client: httpx.Client, patience: Patience
) -> tuple[str, Look]:
    """The first address that answers, and what it says of the file."""
    failures = []
    for url in remote.urls:
        try:
            return url, first_look(url, client, patience)
        except FetchError as error:
            failures.append(str(error))
    raise FetchError(f"{remote.name} cannot be asked: {'; '.join(failures)}")


def _archive_facts(archive: RemoteArchive, url: str, look: Look) -> Facts:
    """What is another now; a mark of a version is one of the first address."""
    facts: Facts = {}
    if look.bytes not in (None, archive.bytes):
        facts["bytes"] = look.bytes
    if url == archive.urls[0] and look.version not in (None, archive.version):
        facts["version"] = look.version
    return facts


def _content_facts(file: RemoteFile, downloads: Path, patience: Patience) -> Facts:
    """What is another now, by the content."""
    fetched = _fetch_anew(file, downloads, patience)
    facts: Facts = {"bytes": fetched.bytes, "sha256": fetched.sha256}
    if file.md5 is not None:
        with fetched.path.open("rb") as content:
            facts["md5"] = hashlib.file_digest(content, "md5").hexdigest()
    is_stated = (
        file.bytes == fetched.bytes
        and (file.sha256 or file.md5) is not None
        and fetched.sha256.startswith(file.sha256 or "")
        and file.md5 == facts.get("md5")
    )
    return {} if is_stated else facts


def _seems_unchanged(file: RemoteFile, url: str, look: Look, downloads: Path) -> bool:
    """Whether everything is stated and nothing that the server says contradicts it."""
    if file.bytes is None or (file.sha256 or file.md5) is None or look.bytes != file.bytes:
        return False
    record = read_record(downloads / file.name)
    if record is None or record.url != url:
        return True
    # A refresh that failed later may have brought another content than is stated.
    is_stated = record.sha256.startswith(file.sha256 or "")
    return is_stated and look.version == record.version


def _fetch_anew(file: RemoteFile, downloads: Path, patience: Patience) -> FetchedFile:
    """Bring the present content, whatever is stated, to where the `download` stage looks for it."""
    unstated = RemoteFile(name=file.name, urls=file.urls)
    folder = downloads / "refresh"
    (fetched,) = fetch_files((unstated,), folder, patience)
    target = downloads / file.name
    former = read_record(target)
    if not (target.exists() and former is not None and former.sha256 == fetched.sha256):
        target.parent.mkdir(parents=True, exist_ok=True)
        fetched.path.replace(target)
    else:
        fetched.path.unlink()
    record_path(fetched.path).replace(record_path(target))
    return FetchedFile(
        target, fetched.name, fetched.url, fetched.bytes, fetched.sha256, is_verified=False
    )


def _rewrite(entry: Facts, facts: Facts) -> None:
    known = entry | facts
    entry.clear()
    entry.update({name: known[name] for name in FACTS if name in known})


def _difference(entry: Facts, facts: Facts) -> str:
    """What was stated and what is found."""
    return ", ".join(
        f"{name} {entry[name]} -> {value}" if name in entry else f"{name} {value}"
        for name, value in facts.items()
        if entry.get(name) != value
    )

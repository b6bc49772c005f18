"""Raw data as archives: writing zip files that are the same every time, reading any zip safely."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from pipelines.sources.schema import TAR, Location, SourceError

FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time a zip file can hold."""
LARGEST_PICTURE = 256 << 20
"""Bytes; a larger member is refused rather than read into memory."""
LARGEST_ANNOTATIONS = 4 << 30


def write_archive(path: Path, members: Iterable[tuple[str, bytes | Path]]) -> None:
    """Write a zip file of (name, content or file) pairs, stored and not compressed.

    The bytes depend on names, contents and order only. JPEGs do not compress further, and a stored
    member can be read without a copy.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name, FIXED_TIME)
            info.external_attr = 0o644 << 16
            if isinstance(content, bytes):
                archive.writestr(info, content)
                continue
            info.file_size = content.stat().st_size
            with content.open("rb") as source, archive.open(info, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


class Pictures:
    """The pictures of one split, read by the names that its annotations use."""

    def __init__(self, archive: zipfile.ZipFile | Path, folder: str) -> None:
        self._archive = archive
        self._folder = PurePosixPath(folder)

    def __contains__(self, file_name: str) -> bool:
        return self._find(file_name) is not None

    def fingerprint(self, file_name: str) -> tuple[int, int]:
        """Size and CRC-32 of a picture's bytes, from the archive's directory or the file.

        Raises:
            KeyError: if there is no such picture.
        """
        found = self._find(file_name)
        if isinstance(found, zipfile.ZipInfo):
            return found.file_size, found.CRC
        content = self.read(file_name)
        return len(content), zlib.crc32(content)

    def read(self, file_name: str) -> bytes:
        """The picture's file.

        Raises:
            KeyError: if there is no such picture.
            SourceError: if it is too large to be one, or damaged in the archive.
        """
        found = self._find(file_name)
        if found is None:
            raise KeyError(file_name)
        size = found.file_size if isinstance(found, zipfile.ZipInfo) else found.stat().st_size
        if size > LARGEST_PICTURE:
            raise SourceError(f"{file_name} has {size} bytes, too many for a picture")
        if isinstance(found, Path):
            return found.read_bytes()
        assert isinstance(self._archive, zipfile.ZipFile)
        return _read_member(self._archive, found)

    def _find(self, file_name: str) -> zipfile.ZipInfo | Path | None:
        relative = self._folder / file_name
        if ".." in relative.parts or relative.is_absolute():
            raise SourceError(f"file_name {file_name!r} points outside the folder of the pictures")
        if isinstance(self._archive, zipfile.ZipFile):
            return self._archive.NameToInfo.get(str(relative))
        path = self._archive / relative
        return path if path.is_file() else None


@contextmanager
def open_pictures(raw: Path, location: Location) -> Iterator[Pictures]:
    """The pictures at a location under a dataset's raw folder.

    Raises:
        SourceError: if the archive is missing or is no zip file.
    """
    if location.archive is None:
        yield Pictures(raw, location.path)
        return
    with _open_archive(raw / location.archive) as archive:
        yield Pictures(archive, location.path)


def annotation_files(raw: Path, location: Location) -> list[Location]:
    """The annotation files at a location: itself, or the JSON files if it is a folder.

    Raises:
        SourceError: if it is a folder without such files.
    """
    if location.path.endswith(".json"):
        return [location]
    folder = PurePosixPath(location.path)
    if location.archive is None:
        names = [path.relative_to(raw).as_posix() for path in (raw / folder).glob("*.json")]
    else:
        with _open_archive(raw / location.archive) as archive:
            paths = map(PurePosixPath, archive.namelist())
            names = [str(path) for path in paths if path.match("*.json") and path.parent == folder]
    if not names:
        where = location.archive or raw
        raise SourceError(f"{where} has no JSON files in {folder}; run `dvc repro download`")
    return [location.model_copy(update={"path": name}) for name in sorted(names)]


def read_annotations(raw: Path, location: Location) -> bytes:
    """The annotation file at a location.

    Raises:
        SourceError: if it is not there.
    """
    if location.archive is None:
        path = raw / location.path
        if not path.is_file():
            raise _missing(path)
        return path.read_bytes()
    if location.archive.endswith(TAR):
        return _read_from_tar(raw / location.archive, location.path)
    with _open_archive(raw / location.archive) as archive:
        info = archive.NameToInfo.get(location.path)
        if info is None:
            raise _no_member(location.archive, location.path, archive.namelist())
        if info.file_size > LARGEST_ANNOTATIONS:
            raise SourceError(f"{location.path} has {info.file_size} bytes, too many to read")
        return _read_member(archive, info)


def _read_from_tar(path: Path, name: str) -> bytes:
    try:
        with tarfile.open(path) as archive:
            # Some programs begin every name with "./".
            members = {str(PurePosixPath(member.name)): member for member in archive.getmembers()}
            if name not in members:
                raise _no_member(path.name, name, members)
            if members[name].size > LARGEST_ANNOTATIONS:
                raise SourceError(f"{name} has {members[name].size} bytes, too many to read")
            file = archive.extractfile(members[name])
            if file is None:
                raise SourceError(f"{name} is no file in {path.name}")
            return file.read()
    except FileNotFoundError:
        raise _missing(path) from None
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(
            f"{path} is no tar file ({error}); delete it and download again"
        ) from None


def _no_member(archive: str, name: str, names: Iterable[str]) -> SourceError:
    documents = [other for other in names if other.endswith(".json")]
    return SourceError(f"{archive} has no member {name}; its JSON files are {documents[:9]}")


def _missing(path: Path) -> SourceError:
    return SourceError(f"{path} is missing; run `dvc repro download`")


def _open_archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except zipfile.BadZipFile as error:
        raise SourceError(
            f"{path} is no zip file ({error}); delete it and download again"
        ) from None


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    try:
        return archive.read(info)
    except (zipfile.BadZipFile, EOFError) as error:
        raise SourceError(
            f"{info.filename} is damaged in {archive.filename} ({error}); download it again"
        ) from None

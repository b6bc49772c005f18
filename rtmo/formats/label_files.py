"""A folder or a zip archive of labels and pictures, read by the paths of its files.

Nothing is unpacked, so no name in an archive can reach outside it.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path, PurePosixPath

from rtmo.formats.records import FormatError
from rtmo.formats.splits import Fingerprint

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
LARGEST_FILE = 1 << 30
"""Bytes; a larger file is refused rather than read into memory."""


class LabelFiles:
    """What a labelling tool exported, as files by path with forward slashes.

    Hidden files and those that macOS adds to archives are left out.
    """

    def __init__(self, path: Path) -> None:
        """Look at a folder or a zip archive.

        Raises:
            FormatError: if it is neither, or names a file outside itself.
        """
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        if path.is_dir():
            found = (p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        elif path.is_file():
            self._archive = _open(path)
            found = (info.filename for info in self._archive.infolist() if not info.is_dir())
        else:
            raise FormatError(f"{path} is neither a folder nor a file")
        self.names = tuple(sorted(name for name in found if not _is_hidden(name)))
        outside = [name for name in self.names if name.startswith("/") or ".." in name.split("/")]
        if outside:
            raise FormatError(f"{path} has a file {outside[0]!r} that points outside; refused")
        self._by_basename: defaultdict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._by_basename[PurePosixPath(name).name].append(name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_basename.get(PurePosixPath(name).name, ())

    @property
    def pictures(self) -> tuple[str, ...]:
        """Paths of the files that are pictures by their suffix."""
        return tuple(name for name in self.names if is_picture(name))

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FormatError: if it is damaged or too large.
            KeyError: if there is none of that path.
        """
        if name not in self:
            raise KeyError(name)
        if self._archive is None:
            size = (self.path / name).stat().st_size
        else:
            size = self._archive.getinfo(name).file_size
        if size > LARGEST_FILE:
            raise FormatError(f"{name} in {self.path} has {size} bytes, too many to read")
        if self._archive is None:
            return (self.path / name).read_bytes()
        try:
            return self._archive.read(name)
        except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
            raise FormatError(
                f"{name} in {self.path} cannot be read ({error}); export it again, without a "
                "password"
            ) from None

    def fingerprint(self, name: str) -> Fingerprint:
        """Size and CRC-32 of a file, from the archive's directory or its bytes."""
        if self._archive is not None:
            info = self._archive.getinfo(name)
            return info.file_size, info.CRC
        content = self.read(name)
        return len(content), zlib.crc32(content)

    def locate(self, name: str, subset: str = "") -> str | None:
        """The file that an annotation means by `name`; None if there is none.

        Tools write names relative to folders of theirs, so the file with the longest end of the
        path in common is meant; of several, the one in a folder called `subset`.

        Raises:
            FormatError: if more than one file could be meant.
        """
        wanted = [
            part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")
        ]
        candidates = self._by_basename.get(wanted[-1], []) if wanted else []
        common = {n: _common_end(wanted, n.split("/")) for n in candidates}
        found = [n for n, length in common.items() if length == max(common.values())]
        if len(found) > 1:
            found = [n for n in found if subset in PurePosixPath(n).parts] or found
        if len(found) > 1:
            raise FormatError(
                f"picture {name!r} may be any of {found[:4]} in {self.path}; export with folders, "
                "or give the pictures names of their own"
            )
        return found[0] if found else None

    def place(self, name: str, subset: str = "") -> str:
        """As `locate`; what is not there keeps its name, less what leads outside."""
        return self.locate(name, subset) or "/".join(_inner_parts(name))

    def digest(self, names: Iterable[str]) -> str:
        """One sha256 over paths, sizes and checksums of some of the files."""
        lines = (f"{name}\0{self.fingerprint(name)}\n" for name in sorted(set(names)))
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def is_picture(name: str) -> bool:
    """Whether the suffix is that of a picture."""
    return PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES


def _inner_parts(name: str) -> list[str]:
    r"""Parts of a path that somebody wrote.

    Example:
        >>> _inner_parts("../images\\a.jpg"), _inner_parts("/home/me/./a.jpg")
        (['images', 'a.jpg'], ['home', 'me', 'a.jpg'])
    """
    return [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]


def _common_end(first: list[str], second: list[str]) -> int:
    """Number of parts that two paths have in common at their ends.

    Example:
        >>> _common_end(["home", "day", "a.jpg"], ["day", "a.jpg"])
        2
    """
    pairs = zip(reversed(first), reversed(second), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part != ".." and part.startswith((".", "__MACOSX")) for part in parts)


def _open(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise FormatError(
            f"{path} is no zip archive ({error}); give the folder with labels and pictures, or the "
            "archive that the labelling tool exported"
        ) from None

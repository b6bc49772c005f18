"""Members of a large zip file on a server, without fetching the rest of it.

The directory at the end of the file says where each member lies (ZIP64 included; `zipfile` reads
it through ranges). Each member is then one request, checked against its CRC-32.
Source: APPNOTE.TXT 6.3.10, sections 4.3.7 (local header) and 4.3.12 (directory).
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable

from pipelines.sources.schema import SourceError
from rtmo.fetch import RemoteBytes, TransferError

LARGEST_DIRECTORY = 256 << 20
"""Bytes; COCO's largest archive has 118,288 members and a directory of about 10 MB."""
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, and the lengths of name and extra field."""
MOST_AROUND_MEMBER = LOCAL_HEADER.size + 2 * 0xFFFF + 24
"""Header, name and extra field before the bytes of a member, and a data descriptor after them."""


class RemoteZip:
    """The members of a zip file that is read in ranges; several threads may read at once."""

    def __init__(self, remote: RemoteBytes) -> None:
        """Read the directory.

        Raises:
            SourceError: if the file is no zip file.
            FetchError: see `RemoteBytes.read`; also TransferError.
        """
        self._remote = remote
        try:
            with zipfile.ZipFile(_Reader(remote)) as archive:
                self._infos = dict(archive.NameToInfo)
                starts = [info.header_offset for info in archive.infolist()]
                self._starts = sorted((*starts, archive.start_dir))
        except (zipfile.BadZipFile, NotImplementedError, struct.error) as error:
            # zipfile takes a broken connection for a broken file.
            if isinstance(error.__context__, TransferError):
                raise error.__context__ from None
            raise SourceError(f"{remote.url} is no zip file ({error})") from None

    def info(self, name: str) -> zipfile.ZipInfo:
        """What the directory says of a member.

        Raises:
            SourceError: if there is no such member.
        """
        if name not in self._infos:
            raise SourceError(f"{self._remote.url} has no member {name}")
        return self._infos[name]

    def read(
        self, name: str, largest: int, advance: Callable[[int], object] = lambda _: None
    ) -> bytes:
        """The content of a member; `advance` is told of bytes as they come.

        Raises:
            SourceError: if it is not there, has more than `largest` bytes, is damaged or packed in
                a way other than zip's usual two.
            FetchError: see `RemoteBytes.read`; also TransferError.
        """
        info = self.info(name)
        if info.file_size > largest:
            raise SourceError(f"{name} has {info.file_size} bytes, expected at most {largest}")
        if not 0 <= info.header_offset < self._starts[-1]:
            raise SourceError(f"{self._remote.url} has no room for {name} before its directory")
        # A member ends before the next one, or the directory, begins.
        end = self._starts[bisect_right(self._starts, info.header_offset)]
        length = min(end - info.header_offset, info.compress_size + MOST_AROUND_MEMBER)
        try:
            content = _unpack(self._remote.read(info.header_offset, length, advance), info)
        except (struct.error, zlib.error, ValueError) as error:
            raise SourceError(f"{name} is damaged in {self._remote.url} ({error})") from None
        return content


def _unpack(span: bytes, info: zipfile.ZipInfo) -> bytes:
    """Content of the member whose local header the span begins with.

    Raises:
        ValueError: if it is not the member that the directory describes.
    """
    signature, name_length, extra_length = LOCAL_HEADER.unpack_from(span)
    if signature != b"PK\3\4":
        raise ValueError(f"its header begins with {signature!r}")
    start = LOCAL_HEADER.size + name_length + extra_length
    packed = span[start : start + info.compress_size]
    if info.compress_type == zipfile.ZIP_STORED:
        content = packed
    elif info.compress_type == zipfile.ZIP_DEFLATED:
        # One byte more than announced is enough to notice that there is more.
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, info.file_size + 1)
    else:
        raise ValueError(f"it is compressed by method {info.compress_type}")
    if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
        raise ValueError(
            f"{len(content)} bytes with CRC-32 {zlib.crc32(content):08x}, the directory says "
            f"{info.file_size} with {info.CRC:08x}"
        )
    return content


class _Reader(io.RawIOBase):
    """A remote file as `zipfile` wants one, to read the directory."""

    def __init__(self, remote: RemoteBytes) -> None:
        self._remote = remote
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._remote.size}
        position = origin[whence] + offset
        if position < 0:
            raise OSError(f"position {position} is before the file")
        self._position = position
        return position

    def read(self, size: int | None = -1) -> bytes:
        left = max(self._remote.size - self._position, 0)
        length = left if size is None or size < 0 else min(size, left)
        if length > LARGEST_DIRECTORY:
            raise zipfile.BadZipFile(f"a directory of {length} bytes")
        content = self._remote.read(self._position, length)
        self._position += len(content)
        return content

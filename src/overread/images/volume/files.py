"""The bytes of volumes: a regular file within the limits, inflated to what its header declares and no further."""

from __future__ import annotations

import bz2
import zlib
from pathlib import Path
from typing import Any

from overread.errors import ImageError, checked
from overread.images import archives
from overread.images.address import Address
from overread.images.image import Limits, read_bytes

#: The longest header in front of the voxels.
HEADER_BYTES = 4 << 20
_CHUNK = 1 << 16  # compressed bytes inflated at once
_MEMBERS = 100_000  # of one file, each with at least a few bytes
_SLACK = 1 << 16  # bytes behind the voxels that are looked over
_GZIP = b"\x1f\x8b"


@checked
def address_bytes(address: Address, limits: Limits) -> bytes:
    """The bytes of the file, or of the member of a zip archive, that an address names."""
    if not address.entry:
        return read_bytes(address.path, limits=limits)
    return member_bytes(address.path, address.entry, limits)


@checked
def member_bytes(path: str, entry: str, limits: Limits) -> bytes:
    """The bytes of a member of a zip archive, no larger than a file may be."""
    return archives.read_member(path, entry, limits)


@checked
def head_bytes(address: Address, limits: Limits, count: int) -> bytes:
    """The first ``count`` bytes of what an address names, without reading the rest where that can be avoided."""
    path = Path(address.path)
    if address.entry or not path.is_file():
        return address_bytes(address, limits)[:count]
    with path.open("rb") as handle:
        return handle.read(count)


@checked
def neighbour_bytes(address: Address, name: str, limits: Limits) -> bytes:
    """The bytes of a file that a header points to: only a plain name in the header's own folder is followed.

    Raises :class:`ImageError` for folders, links and headers within an archive.
    """
    if name in ("", ".", "..") or not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        raise ImageError(
            "the header points to a file outside of its folder",
            todo="put the file with the voxels beside the header, under a plain name",
        )
    if address.entry:
        raise ImageError("a header apart from its voxels is not read from an archive", todo="extract it")
    path = Path(address.path).with_name(name)
    if path.is_symlink():
        raise ImageError("the file with the voxels is a link", todo="put the file itself beside the header")
    if not path.exists():
        raise ImageError("the file with the voxels is missing", todo="put it beside the header")
    return read_bytes(path, limits=limits)


@checked
def start_of(data: bytes, count: int) -> bytes:
    """The first ``count`` bytes, inflated where they are gzip; fewer where there are no more.

    >>> import gzip
    >>> start_of(gzip.compress(b"12345"), 3), start_of(b"12345", 3)
    (b'123', b'123')
    """
    if data[:2] != _GZIP:
        return data[:count]
    try:
        return zlib.decompressobj(31).decompress(data, count)
    except zlib.error as error:
        raise ImageError("the file is damaged", given="gzip that cannot be inflated") from error


@checked
def inflated(data: bytes, coding: str, start: int, count: int, *, on: bool = False) -> memoryview:
    """``count`` bytes from ``start`` on, of bytes that are ``raw``, ``gzip`` (or zlib) or ``bzip2``.

    Nothing is inflated beyond but a few bytes, to get to the checksum; with ``on`` not even these, since more follows.
    Raises :class:`ImageError` if the bytes end before, go on where they should not, or are damaged.
    """
    whole = (
        memoryview(data) if coding == "raw" else _inflate(data, coding, start + count, 0 if on else _SLACK)
    )
    part = whole[start : start + count]
    if len(part) != count:
        raise ImageError("the file is cut off", given=f"{len(part):,} of {count:,} bytes of voxels")
    return part


def _inflate(data: bytes, coding: str, count: int, slack: int) -> memoryview:
    """The first ``count`` inflated bytes, or fewer; a file may be several members in a row."""
    found, rest = bytearray(), memoryview(data)
    for _ in range(_MEMBERS):
        if len(found) >= count or not rest:
            break
        try:
            rest = _member(rest, coding, count + slack, found)
        except (zlib.error, OSError, EOFError, ValueError) as error:
            raise ImageError("the file is damaged", given=f"{coding} that cannot be inflated") from error
        if slack and len(found) == count + slack:
            raise ImageError("the file holds more than its header announces", given=f"over {count:,} bytes")
    return memoryview(found)[:count]


def _member(data: memoryview, coding: str, most: int, found: bytearray) -> memoryview:
    """Inflate one member into ``found``, up to ``most`` bytes in all, and return what stands behind it.

    Of one that reaches ``most`` the end is not looked for.
    """
    inflater = _inflater(coding)
    for at in range(0, len(data), _CHUNK):
        found += inflater.decompress(data[at : at + _CHUNK], most - len(found))
        if len(found) >= most:
            return data[:0]
        if inflater.eof:  # the checksum was right
            return data[min(at + _CHUNK, len(data)) - len(inflater.unused_data) :]
    raise ImageError("the file is cut off", given=f"{len(found):,} bytes inflated, and no end")


def _inflater(coding: str) -> Any:
    return bz2.BZ2Decompressor() if coding == "bzip2" else zlib.decompressobj(47)  # zlib or gzip, by its head

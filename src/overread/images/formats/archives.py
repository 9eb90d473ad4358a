"""Zip archives of images: listed and read, never extracted; refused whole if anything in them is not plain.

A name that leads elsewhere, a link, two names that one file system would take for one, a member that is encrypted or
shares its bytes with another, and more members, bytes or a better compression than the limits allow: each refuses
the archive before a byte is inflated. Overlaps: Fifield 2019, "A better zip bomb". Layout: PKWARE APPNOTE 6.3.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from overread.core.errors import ImageError, checked, require
from overread.images.address import Address
from overread.images.dicom.elements import open_regular
from overread.images.image import BROKEN, LIMITS, Limits, Recent, file_key, read_bytes


@dataclass(frozen=True)
class ArchiveLimits:
    """What is refused before inflating.

    More ``members`` than this, or ``total_bytes`` of all of them or ``member_bytes`` of one; and a member or an
    archive that grows by more than ``ratio`` (deflate reaches 1,032) to more than ``small_bytes``: below that a good
    ratio is a black image, above it a bomb.
    """

    members: int = 200_000
    total_bytes: int = 2**36
    member_bytes: int = 2**31
    ratio: float = 200.0
    small_bytes: int = 2**26

    def __post_init__(self) -> None:
        for field in fields(self):
            require(getattr(self, field.name) > 0, f"{field.name} must be positive", given=getattr(self, field.name))


#: The limits where none are given.
ARCHIVE_LIMITS = ArchiveLimits()

_END, _END_64, _LOCATOR_64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY = 46  # bytes of a central directory entry without its name (APPNOTE 4.3.12)
_LOCAL = 30  # bytes of a local header without its name (4.3.7)
_DRIVE = re.compile(r"[A-Za-z]:")
_BROKEN = (*BROKEN, zipfile.LargeZipFile)


@checked
def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file begins as a zip archive does; False for everything that cannot be opened."""
    try:
        with open_regular(path) as handle:
            return handle.read(4) in (b"PK\x03\x04", _END)
    except (ImageError, OSError):
        return False


@checked
def members(path: str | os.PathLike[str], *, limits: ArchiveLimits = ARCHIVE_LIMITS) -> list[str]:
    """The names of the files in a zip archive, in its own order, folders left out.

    Raises :class:`ImageError`, which names no member, where the archive is damaged or anything in it is not plain.
    """
    return [info.filename for info in _opened(path, limits).infos.values()]


@checked
def read_member(
    path: str | os.PathLike[str], name: str, limits: Limits = LIMITS, *, archive: ArchiveLimits = ARCHIVE_LIMITS
) -> bytes:
    """The bytes of one member; at most its stated size is inflated, and its checksum must be right.

    ``limits`` are those of the image: its ``file_bytes`` cap the member. Raises :class:`ImageError` as
    :func:`members` does, and where there is no such member, it is too large or it is damaged.
    """
    opened = _opened(path, archive)
    info = opened.info(name)
    if info.file_size > limits.file_bytes:
        raise ImageError("a member of the archive is larger than the limit", given=f"{info.file_size:,} bytes",
                         todo=f"read it with Limits(file_bytes=…), now {limits.file_bytes:,}")  # fmt: skip
    try:
        with opened.file.open(info) as member:
            data = member.read(info.file_size + 1)
    except _BROKEN as error:
        raise _damaged(error) from error
    if len(data) != info.file_size:
        raise ImageError("a member of the archive is cut off", given=f"{len(data):,} bytes")
    return data


@checked
def open_member(path: str | os.PathLike[str], name: str, limits: ArchiveLimits = ARCHIVE_LIMITS) -> io.BufferedReader:
    """One member as a file that seeks; what is not asked for is not inflated. Raises as :func:`read_member` does.

    The checksum is not checked before the end is read: for headers only.
    """
    archive = _opened(path, limits)
    info = archive.info(name)
    try:
        return io.BufferedReader(_Member(archive.file.open(info), info.file_size))  # type: ignore[arg-type]
    except _BROKEN as error:
        raise _damaged(error) from error


class _Member(io.RawIOBase):
    """A member whose inflated beginning is kept, so that going back costs nothing."""

    def __init__(self, stream: Any, size: int) -> None:
        self._stream, self._size, self._at = stream, size, 0
        self._kept = bytearray()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        try:
            while len(self._kept) < stop and (more := self._stream.read(1 << 16)):
                self._kept += more
        except _BROKEN as error:
            raise _damaged(error) from error
        data = self._kept[self._at : stop]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


# -- the bytes of what an address names -----------------------------------------------------------------------------


@checked
def address_bytes(address: Address, limits: Limits) -> bytes:
    """The bytes of the file, or of the member of a zip archive, that an address names."""
    if not address.entry:
        return read_bytes(address.path, limits=limits)
    return read_member(address.path, address.entry, limits)


@checked
def head_bytes(address: Address, limits: Limits, count: int) -> bytes:
    """The first ``count`` bytes of what an address names, without reading the rest where that can be avoided."""
    if address.entry:
        return address_bytes(address, limits)[:count]
    return read_bytes(address.path, limits=limits, most=count)


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


# -- an archive that was checked, and stays open ------------------------------------------------------------------


class _Archive:
    """An open archive and the files in it by name. A zip file may be read from several threads."""

    def __init__(self, path: str, limits: ArchiveLimits) -> None:
        handle = open_regular(path)
        try:
            _check_claims(handle, limits)
            self.file = zipfile.ZipFile(handle)
        except _BROKEN as error:
            handle.close()
            raise _damaged(error) from error
        except ImageError:
            handle.close()
            raise
        infos = self.file.infolist()
        _check(infos, self.file.start_dir, limits)
        self.infos = {info.filename: info for info in infos if not info.filename.endswith("/")}

    def info(self, name: str) -> zipfile.ZipInfo:
        """The member's entry."""
        if name not in self.infos:
            raise ImageError("there is no such member in the archive", given=f"{len(self.infos):,} members")
        return self.infos[name]


_OPEN: Recent[_Archive] = Recent(4)


def _opened(path: str | os.PathLike[str], limits: ArchiveLimits) -> _Archive:
    """The checked archive, one of the last four; a file that changed, or a forked process, opens it anew."""
    return _OPEN.get((os.getpid(), file_key(path), limits), lambda: _Archive(os.fspath(path), limits))


def _damaged(error: BaseException) -> ImageError:
    reason = "a password is needed" if "password" in str(error) else type(error).__name__
    return ImageError("the archive is damaged or not a zip archive", given=reason)


# -- checks --------------------------------------------------------------------------------------------------------


def _refuse(what: str, count: int, total: int, todo: str = "ask its sender for a plain zip archive") -> ImageError:
    return ImageError(f"the archive is refused: {what}", given=f"{count:,} of {total:,} members", todo=todo)


def _check_claims(handle: io.FileIO, limits: ArchiveLimits) -> None:
    """Refuse too many members before a list of them is made (APPNOTE 4.3.14 to 4.3.16)."""
    size = handle.seek(0, os.SEEK_END)
    at = max(0, size - (1 << 16) - 22)
    handle.seek(at)
    tail = handle.read(size - at)
    end = len(tail) - 22 if tail[-22:-18] == _END and tail[-2:] == b"\0\0" else tail.rfind(_END)
    if end < 0 or end + 22 > len(tail):
        raise ImageError("this is not a zip archive, or it is cut off", given=f"{size:,} bytes")
    count, directory = struct.unpack("<HL", tail[end + 10 : end + 16])
    if tail[max(0, end - 20) : end][:4] == _LOCATOR_64:
        stated = struct.unpack("<Q", tail[end - 12 : end - 4])[0]
        for place in (stated, at + end - 76):  # readers differ in which of the two they believe
            count, directory = _claims_64(handle, place, (count, directory))
    most = limits.members
    if count > most or directory > most * (_ENTRY + 512):
        given = f"{count:,} members, {directory:,} bytes of names"
        raise ImageError("the archive has more members than the limit", given=given, todo=_raise("members", most))
    if directory < count * _ENTRY or directory > size:
        raise ImageError("the archive is damaged", given=f"{count:,} members in {directory:,} bytes")


def _claims_64(handle: io.FileIO, at: int, claims: tuple[int, int]) -> tuple[int, int]:
    """Count of members and bytes of the directory from the ZIP64 record, where there is one."""
    handle.seek(min(max(at, 0), 2**62))
    record = handle.read(56)
    if len(record) < 56 or record[:4] != _END_64:
        return claims
    count, directory = struct.unpack("<QQ", record[32:48])
    return max(count, claims[0] % 0xFFFF), max(directory, claims[1] % 0xFFFFFFFF)


def _raise(name: str, now: float) -> str:
    return f"read it with ArchiveLimits({name}=…), now {now:,}"


def _check(infos: list[zipfile.ZipInfo], directory: int, limits: ArchiveLimits) -> None:
    """Refuse the archive whole if one member is not plain, or they are too much."""
    if len(infos) > limits.members:
        raise _refuse("it has more members than the limit", len(infos), len(infos), _raise("members", limits.members))
    faults: list[tuple[str, Sequence[object]]] = [
        ("names that lead out of it", [i for i in infos if _leads_out(i.orig_filename)]),
        ("links or devices in it", [i for i in infos if not _is_plain(i)]),
        ("encrypted members", [i for i in infos if i.flag_bits & 0x41]),
        ("a compression that is not read", [i for i in infos if i.compress_type not in (0, 8)]),
        ("names that are the same on some systems", _same(infos)),
        ("members that share their bytes", _overlapping(infos, directory)),
    ]
    for what, found in faults:
        if found:
            raise _refuse(what, len(found), len(infos))
    _check_sizes(infos, limits)


def _leads_out(name: str) -> bool:
    """Whether a name is not a plain relative path with slashes."""
    parts = name.removesuffix("/").split("/")
    odd = "\\" in name or not name.isprintable() or _DRIVE.match(name)
    return bool(odd) or any(part.strip(" ") in ("", ".", "..") for part in parts)


def _is_plain(info: zipfile.ZipInfo) -> bool:
    """A file or a folder; the upper half of the attributes are those of Unix, 0 where the maker knew none."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    return kind in (0, stat.S_IFDIR if info.filename.endswith("/") else stat.S_IFREG)


def _same(infos: list[zipfile.ZipInfo]) -> list[str]:
    """Names that are equal without case and in one Unicode normal form."""
    seen: set[str] = set()
    twice = []
    for info in infos:
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", info.filename).casefold()).rstrip("/")
        if name in seen:
            twice.append(name)
        seen.add(name)
    return twice


def _overlapping(infos: list[zipfile.ZipInfo], directory: int) -> list[int]:
    """Starts of members, or of the directory, before the end of the one before, by the sizes that are stated."""
    spans = sorted((i.header_offset, _LOCAL + len(i.orig_filename) + i.compress_size) for i in infos)
    spans.append((directory, 0))
    return [second for (first, length), (second, _) in pairwise(spans) if first + length > second]


def _check_sizes(infos: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    largest, total = max((i.file_size for i in infos), default=0), sum(i.file_size for i in infos)
    if largest > limits.member_bytes or total > limits.total_bytes:
        given = f"{total:,} bytes, the largest member {largest:,}"
        todo = _raise("total_bytes=…, member_bytes", limits.total_bytes) + f" and {limits.member_bytes:,}"
        raise ImageError("the archive is refused: it inflates to more than the limit", given=given, todo=todo)
    packed = sum(i.compress_size for i in infos)
    pairs = [(total, packed), *((i.file_size, i.compress_size) for i in infos)]
    worst = max((size / max(small, 1) for size, small in pairs if size > limits.small_bytes), default=0.0)
    if worst > limits.ratio:
        raise ImageError("the archive is refused: it grows too much when inflated", given=f"{worst:,.0f} times",
                         todo=_raise("ratio", limits.ratio))  # fmt: skip

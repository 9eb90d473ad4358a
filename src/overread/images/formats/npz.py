"""Rows of arrays in ``.npz`` files, one at a time: the whole array is never in memory.

An address is ``file.npz#array/row``. Stored members are mapped; deflated ones are inflated forward in
blocks, with a copy of the inflater's state kept every few megabytes, so that rows in order cost their own
bytes and a jump costs at most one such stretch. Pickled (object) arrays are refused.
"""

from __future__ import annotations

import bisect
import os
import re
import struct
import tokenize
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked, nearest
from overread.core.files import sha256
from overread.images.image import Recent, file_key

_ADDRESS = re.compile(r"(?s)(.+\.npz)#([^#/]+)/(\d{1,15})\Z", re.IGNORECASE)
_BLOCK = 1 << 20  # bytes of rows inflated at once
_STRETCH = 16 << 20  # bytes between two kept states of the inflater
_CHUNK = 1 << 16  # compressed bytes read at once


@checked
def is_address(text: str) -> bool:
    """Whether ``text`` names a row of an array.

    >>> is_address("lungs.npz#train_images/12"), is_address("lungs.png")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


@checked
def short_name(source: str) -> str:
    """The name of a file without its folder, with the row where there is one.

    >>> short_name("data/lungs.npz#train_images/12")
    'lungs.npz#train_images/12'
    """
    match = _ADDRESS.match(source)
    return Path(source).name if match is None else f"{Path(match[1]).name}#{match[2]}/{match[3]}"


@checked
def digest(row: NDArray[Any]) -> str:
    """SHA-256 of a row: its type, shape and bytes."""
    head = f"{row.dtype.str}{row.shape}".encode()
    return sha256(head + np.ascontiguousarray(row).tobytes())


@checked
def read_row(address: str, pixels: int) -> NDArray[Any]:
    """The row that ``address`` names, a copy. Raises :class:`ImageError`; ``pixels`` caps the values in a row."""
    member, name, row = _named(address)
    if not 0 <= row < member.shape[0]:
        raise ImageError(f"the array {name} has no row {row}", given=f"{member.shape[0]} rows")
    if prod(member.shape[1:]) > pixels:
        raise ImageError("a row of the array is larger than the limit", given=f"shape {member.shape[1:]}")
    return member.row(row)


@checked
def row_shape(address: str) -> tuple[int, ...]:
    """The shape of the rows of the array that ``address`` names, from its header. Raises :class:`ImageError`."""
    return _named(address)[0].shape[1:]


def _named(address: str) -> tuple[_Member, str, int]:
    """The array that an address names, its name and the row."""
    match = _ADDRESS.match(address)
    if match is None:
        raise ImageError("this is not the address of a row", given=Path(address).name, todo="write file.npz#array/row")
    path, name = match[1], match[2]
    # A file that changed, or a forked process, opens it anew.
    return _OPEN.get((os.getpid(), file_key(path), name), lambda: _Member(path, name)), name, int(match[3])


class _Member:
    """One array of an archive, open for reading rows from any thread."""

    def __init__(self, path: str, name: str) -> None:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
            if f"{name}.npy" not in names:
                known = [n.removesuffix(".npy") for n in names if n.isprintable()]
                raise ImageError(f"there is no array {name!r}", todo=nearest(name, known))
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as member:
                self.shape, self.dtype, self._head = _npy_header(member, info.file_size)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ImageError("the compression of the archive is not read", todo="save it with numpy.savez_compressed")
        self.path, self._info = path, info
        self._start = _payload_start(path, info)
        self._row_bytes = prod(self.shape[1:]) * self.dtype.itemsize
        self._blocks: Recent[bytes] = Recent(8)
        self._rows_per_block = max(1, _BLOCK // self._row_bytes)
        stored = info.compress_type == zipfile.ZIP_STORED
        self._map = np.memmap(path, np.uint8, "r", self._start, (info.file_size,)) if stored else None
        self._stream = None if stored else _Inflater(path, self._start, info.compress_size)

    def row(self, index: int) -> NDArray[Any]:
        block, within = divmod(index, self._rows_per_block)
        data = self._block(block)
        flat = np.frombuffer(data, self.dtype, prod(self.shape[1:]), within * self._row_bytes)
        return flat.reshape(self.shape[1:]).astype(self.dtype.newbyteorder("="))

    def _block(self, block: int) -> bytes:
        """Rows of a block, from the few last used."""
        start = block * self._rows_per_block
        rows = min(self._rows_per_block, self.shape[0] - start)
        return self._blocks.get(block, lambda: self._read(self._head + start * self._row_bytes, rows * self._row_bytes))

    def _read(self, start: int, count: int) -> bytes:
        if self._map is not None:
            return self._map[start : start + count].tobytes()
        assert self._stream is not None
        data = self._stream.read(start, count)
        if self._stream.crc_of(self._info.file_size) not in (None, self._info.CRC):
            raise ImageError("the archive is damaged", given="its checksum does not match")
        return data


_OPEN: Recent[_Member] = Recent(8)


def _npy_header(member: Any, size: int) -> tuple[tuple[int, ...], np.dtype, int]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, fortran, dtype = read(member)
    except tokenize.TokenError as error:  # of numpy's parser, which is no ValueError
        raise ImageError("the header of the array is damaged") from error
    head = member.tell()
    if dtype.hasobject or dtype.kind not in "buif" or (fortran and len(shape) > 1):
        raise ImageError("the array is not one of plain numbers in C order", given=f"{dtype}, Fortran order {fortran}")
    if len(shape) < 3 or min(shape) < 1 or head + prod(shape) * dtype.itemsize != size:
        raise ImageError("the array does not hold images, or is cut off", given=f"shape {shape}")
    return shape, dtype, head


def _payload_start(path: str, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin: after its local header (PKWARE APPNOTE 4.3.7)."""
    with open(path, "rb") as handle:
        handle.seek(info.header_offset)
        head = handle.read(30)
    if len(head) < 30 or head[:4] != b"PK\x03\x04":
        raise ImageError("the archive is damaged", given="no local header")
    name, extra = struct.unpack("<HH", head[26:30])
    return int(info.header_offset + 30 + name + extra)


class _Inflater:
    """Reads stretches of a deflated stream; forward is cheap, backward restarts from the nearest kept state."""

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - lives as long as the reader
        self._start, self._size = start, size
        # Kept states: (inflated bytes, compressed bytes used, inflater).
        self._kept: list[tuple[int, int, Any]] = [(0, 0, zlib.decompressobj(-zlib.MAX_WBITS))]
        self._at, self._used, self._inflater = 0, 0, self._kept[0][2].copy()
        self._crc, self._crc_at = 0, 0

    def __del__(self) -> None:
        self._file.close()

    def crc_of(self, size: int) -> int | None:
        """The checksum, once all ``size`` bytes have gone by."""
        return self._crc if self._crc_at == size else None

    def read(self, start: int, count: int) -> bytes:
        """Inflated bytes start … start+count."""
        best = bisect.bisect_right([at for at, _, _ in self._kept], start) - 1
        if not self._at <= start or self._kept[best][0] > self._at:
            self._at, self._used, kept = self._kept[best]
            self._inflater = kept.copy()
        while self._at < start:
            self._advance(min(start - self._at, _BLOCK))
        return self._advance(count)

    def _advance(self, count: int) -> bytes:
        parts, missing = [], count
        while missing:
            pending = self._inflater.unconsumed_tail
            if not pending:
                self._file.seek(self._start + self._used)
                pending = self._file.read(min(_CHUNK, self._size - self._used))
                self._used += len(pending)
            part = self._inflater.decompress(pending, missing)
            if not part and not pending:
                raise ImageError("the archive is cut off", given=f"{self._at + count - missing:,} bytes of the array")
            parts.append(part)
            missing -= len(part)
        return self._account(b"".join(parts))

    def _account(self, data: bytes) -> bytes:
        """Move on: checksum what is seen for the first time, keep a state at every stretch."""
        stop = self._at + len(data)
        if self._at <= self._crc_at < stop:
            self._crc = zlib.crc32(memoryview(data)[self._crc_at - self._at :], self._crc)
            self._crc_at = stop
        self._at = stop
        if stop >= self._kept[-1][0] + _STRETCH:
            self._kept.append((stop, self._used, self._inflater.copy()))
        return data

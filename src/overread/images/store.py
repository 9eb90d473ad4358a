"""Decode once into a memory-mapped store; every epoch then reads pixels, never files.

A store is a folder named by the digests of the images and the geometry of the preprocessing:

- ``images.bin``: the rows, raw, one after another
- ``journal.bin``: a 16-byte record per finished row (row, checksum, state, checksum of the record), appended while
  packing, so that a killed process goes on where it stopped
- ``index.json``: published when all rows are there: digests, checksums, what failed

Rows are checksummed when a store is opened and rebuilt where they do not match, so nothing waits for the disk while
packing: what a power cut took is decoded again. A lock lets one process pack while others wait for the result. Images
are decoded in processes of their own, which write each row into its place.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, UnavailableError, checked, require
from overread.core.files import cores, fingerprint, folder_lock, read_json, sha256, write_json
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained
from overread.images.preprocess import Preprocess, _load, geometry
from overread.images.read import LIMITS, Limits, content_digest

_RECORD = struct.Struct("<IIII")
_GOOD = 1  # the state of a row in the journal; those that failed are not in it
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Pack:
    """Prepared images on disk.

    ``images``: read-only memory map (N, H, W, C) or (N, D, H, W, C), uint8 or uint16, in the order of the addresses.
    ``digests``: SHA-256 of the bytes each came from, ``""`` where the file could not be read. ``failed``: row →
    message, for rows of zeros. ``rebuilt``: how many damaged rows were decoded again when it was opened.
    """

    folder: Path
    images: NDArray[Any]
    digests: tuple[str, ...]
    failed: dict[int, str]
    rebuilt: int

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class _Request:
    """What is to be packed: everything the steps share."""

    addresses: tuple[str, ...]
    digests: tuple[str, ...]
    preprocess: Preprocess
    folder: Path
    workers: int
    progress: Progress
    limits: Limits

    @cached_property
    def row_bytes(self) -> int:
        return prod(self.preprocess.shape) * self.preprocess.dtype.itemsize


@checked
def pack(
    addresses: Sequence[str],
    preprocess: Preprocess,
    cache: Path,
    *,
    digests: Sequence[str] | None = None,
    threads: int = 0,
    progress: Progress = silent,
    limits: Limits = LIMITS,
) -> Pack:
    """Decode and resize the images at ``addresses`` into a store under ``cache``, or open the one that is there.

    ``addresses``: paths, or rows of arrays ``file.npz#array/row``. ``digests``: SHA-256 of each file's bytes where it
    is known (``""``: unknown). ``threads``: processes that decode, 0 = all cores; the store is the same for any
    number. An image that cannot be read, or that crashes its process (see :mod:`overread.core.sandbox`), becomes a row
    of zeros and an entry in ``failed``, without its name.

    Raises :class:`UnavailableError` if the disk is too small, :class:`InputError` if a file changes meanwhile.
    """
    require(threads >= 0, "threads must not be negative", given=threads)
    require(len(addresses) > 0, "there is nothing to pack", given="no images")
    given = f"{len(digests or ())} for {len(addresses)}"
    require(digests is None or len(digests) == len(addresses), "one digest per image is needed", given=given)
    workers = threads or cores()
    known = _digests(addresses, digests or [""] * len(addresses), workers, progress, limits)
    shape = geometry(preprocess)
    folder = cache / f"pack-{fingerprint([_FORMAT, sha256(' '.join(known).encode()), shape])}"
    request = _Request(tuple(addresses), tuple(known), shape, folder, workers, progress, limits)
    with folder_lock(folder, wait=-1.0):
        return _open(request) if (folder / "index.json").exists() else _build(request)


def _digests(
    addresses: Sequence[str], known: Sequence[str], workers: int, progress: Progress, limits: Limits
) -> list[str]:
    found = list(known)
    missing = [i for i, digest in enumerate(known) if not digest]
    tasks = ((addresses[i],) for i in missing)
    with closing(contained(_digest, tasks, common=(limits,), workers=workers)) as digests:
        for done, (i, digest) in enumerate(zip(missing, digests), 1):
            found[i] = digest if isinstance(digest, str) else ""
            progress("hashing images", done, len(missing))
    return found


def _digest(address: str, limits: Limits) -> str:
    """The digest, or ``""``: what is missing fails by itself when it is decoded."""
    try:
        return content_digest(address, limits=limits)
    except ImageError:
        return ""


# -- building --------------------------------------------------------------------------------------------


def _build(request: _Request) -> Pack:
    _require_space(request)
    done, failed = _resume(request), {}
    todo = [i for i in range(len(request.addresses)) if i not in done]
    with open(request.folder / "journal.bin", "ab", buffering=0) as journal:
        for row, crc, error in _written(request, todo, "packing images"):
            done[row] = crc
            if error:
                failed[row] = error
            else:
                journal.write(_record(row, crc))
    _publish(request, [done[i] for i in range(len(request.addresses))], failed)
    (request.folder / "journal.bin").unlink(missing_ok=True)
    return _opened(request, failed, 0)


def _require_space(request: _Request) -> None:
    """Raise unless the disk holds the rows and a hundredth more, minus what is there already."""
    need = len(request.addresses) * request.row_bytes * 101 // 100
    rows = request.folder / "images.bin"
    have = rows.stat().st_blocks * 512 if rows.exists() and hasattr(rows.stat(), "st_blocks") else 0
    free = shutil.disk_usage(request.folder).free
    if need - have > free:
        given = f"{need / 1e9:.1f} GB needed, {free / 1e9:.1f} GB free"
        todo = "free some space, choose another cache, or a smaller image size"
        raise UnavailableError("the disk is too small for the packed images", given=given, todo=todo)


def _record(row: int, crc: int) -> bytes:
    head = struct.pack("<III", row, crc, _GOOD)
    return head + struct.pack("<I", zlib.crc32(head))


def _resume(request: _Request) -> dict[int, int]:
    """Rows that a killed process finished, by the journal, whose bytes match: row → checksum."""
    journal, rows = request.folder / "journal.bin", request.folder / "images.bin"
    if not (journal.exists() and rows.exists()):
        journal.unlink(missing_ok=True)
        return {}
    claimed = dict(_records(journal.read_bytes(), len(request.addresses)))
    with open(rows, "rb") as handle:
        kept = {row: crc for row, crc in claimed.items() if _crc_at(handle, row, request.row_bytes) == crc}
    journal.write_bytes(b"".join(_record(row, crc) for row, crc in kept.items()))  # without a torn end
    return kept


def _records(data: bytes, rows: int) -> Iterator[tuple[int, int]]:
    for at in range(0, len(data) - _RECORD.size + 1, _RECORD.size):
        row, crc, state, check = _RECORD.unpack_from(data, at)
        if check == zlib.crc32(data[at : at + 12]) and state == _GOOD and row < rows:
            yield row, crc


def _crc_at(handle: BinaryIO, row: int, row_bytes: int) -> int:
    handle.seek(row * row_bytes)
    data = handle.read(row_bytes)
    return zlib.crc32(data) if len(data) == row_bytes else -1


def _publish(request: _Request, checksums: Sequence[int], failed: dict[int, str]) -> None:
    about = {"format": _FORMAT, "preprocess": request.preprocess, "digests": list(request.digests)}
    messages = {str(row): message for row, message in sorted(failed.items())}
    write_json(request.folder / "index.json", about | {"crc32": list(checksums), "failed": messages})


# -- decoding --------------------------------------------------------------------------------------------


def _written(request: _Request, todo: Sequence[int], what: str) -> Iterator[tuple[int, int, str]]:
    """Decode rows and write them, in order: row, checksum, error. A few are under way at a time, so memory stays flat."""
    path = request.folder / "images.bin"
    path.touch()
    with open(path, "r+b", buffering=0) as handle:
        handle.truncate(len(request.addresses) * request.row_bytes)
    about = (request.preprocess, request.limits, str(path.resolve()))
    tasks = ((row, request.addresses[row], request.digests[row]) for row in todo)
    with closing(contained(_write_row, tasks, common=about, workers=request.workers)) as found:
        for done, (row, made) in enumerate(zip(todo, found), 1):
            if isinstance(made, ImageError):  # it cost its process: written here, as nothing
                nothing = bytes(request.row_bytes)
                _put(path, row, nothing)
                yield row, zlib.crc32(nothing), made.reason or str(made)
            else:
                yield row, int(made["crc"]), str(made["error"])
            request.progress(what, done, len(todo))


def _write_row(
    row: int, address: str, digest: str, preprocess: Preprocess, limits: Limits, path: str
) -> dict[str, Any]:
    """In a process of its own: decode one row and write it into its place, while it is still in the cache."""
    data: bytes | memoryview
    try:
        pixels, found = _load(address, preprocess, limits)
    except ImageError as error:
        data, wrong = bytes(prod(preprocess.shape) * preprocess.dtype.itemsize), error.reason or str(error)
    else:
        if found != digest:
            raise InputError("an image changed while it was being packed", given=f"image {row + 1}", todo="run again")
        data, wrong = np.ascontiguousarray(pixels).reshape(-1).view(np.uint8).data, ""
    _put(Path(path), row, data)
    return {"crc": zlib.crc32(data), "error": wrong}


def _put(path: Path, row: int, data: bytes | memoryview) -> None:
    todo = "free some space and run again: it goes on where it stopped"
    try:
        with open(path, "r+b", buffering=0) as handle:
            handle.seek(row * len(data))
            written = handle.write(data)
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise UnavailableError("the packed images cannot be written", given=reason, todo=todo) from fault
    if written != len(data):
        given = f"{written:,} of {len(data):,} bytes of a row"
        raise UnavailableError("the packed images cannot be written", given=given, todo=todo)


# -- opening ---------------------------------------------------------------------------------------------


def _open(request: _Request) -> Pack:
    """Open a finished store: check every row, decode again those that do not match and those that had failed."""
    index = _read_index(request)
    if index is None:
        (request.folder / "index.json").unlink()
        return _build(request)
    checksums, failed = index
    bad, before = _damaged(request, checksums), dict(failed)
    if again := sorted({*bad, *failed}):
        for row, crc, error in _written(request, again, "rebuilding images"):
            checksums[row] = crc
            failed.pop(row, None)
            if error:
                failed[row] = error
        if bad or failed != before:
            _publish(request, checksums, failed)
    return _opened(request, failed, len(bad))


def _read_index(request: _Request) -> tuple[list[int], dict[int, str]] | None:
    """Checksums and failures, or None where the index is damaged."""
    try:
        index = read_json(request.folder / "index.json")
        checksums = [int(crc) for crc in index["crc32"]]
        failed = {int(row): str(message) for row, message in index["failed"].items()}
    except (InputError, KeyError, TypeError, ValueError, AttributeError):
        return None
    return (checksums, failed) if len(checksums) == len(request.addresses) else None


def _damaged(request: _Request, checksums: Sequence[int]) -> list[int]:
    rows = request.folder / "images.bin"
    if not rows.exists():
        return list(range(len(checksums)))
    step = max(1, (8 << 20) // request.row_bytes)
    check = partial(_check_part, rows, request.row_bytes, checksums, step)
    bad: list[int] = []
    with ThreadPoolExecutor(request.workers, thread_name_prefix="pack") as pool:
        for done, part in enumerate(pool.map(check, range(0, len(checksums), step)), 1):
            bad += part
            request.progress("checking images", min(done * step, len(checksums)), len(checksums))
    return bad


def _check_part(path: Path, row_bytes: int, checksums: Sequence[int], step: int, start: int) -> list[int]:
    with open(path, "rb") as handle:
        stop = min(start + step, len(checksums))
        return [row for row in range(start, stop) if _crc_at(handle, row, row_bytes) != checksums[row]]


def _opened(request: _Request, failed: dict[int, str], rebuilt: int) -> Pack:
    shape = (len(request.addresses), *request.preprocess.shape)
    images = np.memmap(request.folder / "images.bin", request.preprocess.dtype, "r", shape=shape)
    return Pack(request.folder, images, request.digests, dict(sorted(failed.items())), rebuilt)

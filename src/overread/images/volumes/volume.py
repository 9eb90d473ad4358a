"""Read a volume: NIfTI, NRRD, MetaImage, a DICOM series, a DICOM film, or a row of an array, to one convention.

What comes out is a :class:`Volume`: voxels[k, j, i] from inferior to superior, posterior to anterior, left to right,
and an affine to RAS mm (see :mod:`.grid`). Formats are told by content. As an image, a volume is the stack of
its axial planes from below upwards, each as a radiologist sees it: anterior on top, the patient's right on the left.
"""

from __future__ import annotations

import bz2
import os
import threading
import zlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.files import sha256
from overread.images.address import Address, file_of, parse
from overread.images.formats import npz
from overread.images.formats.archives import address_bytes, head_bytes, neighbour_bytes
from overread.images.formats.signatures import sniff, start_of
from overread.images.image import BEYOND, LIMITS, Limits, broken_as, file_key
from overread.images.volumes import grid, stack
from overread.images.volumes.grid import FLAT, Volume
from overread.images.volumes.volume_headers import HEAD, NIFTI_HEAD, Plan, decoded, meta_plan, nifti_plan, nrrd_plan


@checked
def read_volume(address: Address | str | os.PathLike[str], *, limits: Limits = LIMITS) -> Volume:
    """The whole volume that an address names, whatever plane it asks for.

    A file, a member of an archive, ``folder/first.dcm#series``, or ``file.npz#array/row`` (which has no place in space:
    1 mm, axes as they are). Raises :class:`ImageError` for what is missing, cut off, damaged, too large, coloured or not
    finite; the message does not name the file.
    """
    address = address if isinstance(address, Address) else parse(os.fspath(address))
    return _read(address, limits)[0]


def _read(address: Address, limits: Limits) -> tuple[Volume, str]:
    """The volume and its format."""
    with broken_as("the volume is damaged"):
        volume, kind = _stored(address, limits)
        return grid.without_nan(volume, address.nan), kind


def _stored(address: Address, limits: Limits) -> tuple[Volume, str]:
    if npz.is_address(address.path):
        return _of_array(address.path, limits), "array"
    if address.series:
        return stack.read_series(address, limits), "DICOM"
    data = address_bytes(address, limits)
    kind = sniff(data)
    if kind == "DICOM":
        return stack.read_film(data, limits), kind
    return _of_file(data, kind, address, limits), kind


def _of_array(path: str, limits: Limits) -> Volume:
    row = npz.read_row(path, limits.pixels)
    digest = npz.digest(row)
    if row.ndim == 4 and row.shape[-1] == 1:
        row = row[..., 0]
    if row.ndim != 3:
        raise ImageError("a row of the array is not a volume", given=f"shape {row.shape}")
    limits.check(row.shape[1], row.shape[2], row.shape[0])
    upright = row[:, ::-1, ::-1]  # the row is the image: its planes are already as they are looked at
    return grid.canonical(upright, np.eye(4), ("an array has no place in space: 1 mm, RAS assumed",), digest)


def _of_file(data: bytes, kind: str, address: Address, limits: Limits) -> Volume:
    plan = _plan(data, kind, limits)
    payload, digest = data, sha256(data)
    if plan.beside:
        payload = neighbour_bytes(address, plan.beside, limits)
        digest = stack.digest_of_files([digest, sha256(payload)])
    return grid.canonical(decoded(plan, _voxel_bytes(plan, payload)), plan.affine, plan.notes, digest)


def _plan(data: bytes, kind: str, limits: Limits) -> Plan:
    """What the header says, from the first bytes of a file, as they are stored."""
    if kind == "NIfTI":
        plan = nifti_plan(start_of(data, NIFTI_HEAD), limits)
        plan = replace(plan, coding="gzip" if data[:2] == b"\x1f\x8b" else "raw")
    elif kind in ("NRRD", "MetaImage"):
        plan = (nrrd_plan if kind == "NRRD" else meta_plan)(data[:HEAD], limits)
    else:
        raise ImageError("this is not a volume", given=kind, todo="leave out the plane")
    grid.check_memory(plan.memory, limits)
    return plan


def _voxel_bytes(plan: Plan, data: bytes) -> memoryview:
    """The bytes of the first volume."""
    total = plan.bytes * plan.volumes
    start = len(data) - total if plan.start == -1 else plan.start
    if start < 0 or (plan.coding == "raw" and len(data) < start + plan.skip + total):
        raise ImageError("the file is cut off", given=f"{len(data):,} bytes, voxels take {total:,}")
    if plan.coding == "raw":
        return inflated(data, "raw", start + plan.skip, plan.bytes)
    return inflated(data[start:], plan.coding, plan.skip, plan.bytes, on=plan.volumes > 1)


# -- coded voxels, inflated to what their header declares and no further ---------------------------------


_CHUNK = 1 << 16  # compressed bytes inflated at once
_MEMBERS = 100_000  # of one file, each with at least a few bytes
_SLACK = 1 << 16  # bytes behind the voxels that are looked over


@checked
def inflated(data: bytes, coding: str, start: int, count: int, *, on: bool = False) -> memoryview:
    """``count`` bytes from ``start`` on, of bytes that are ``raw``, ``gzip`` (or zlib) or ``bzip2``.

    Nothing is inflated beyond but a few bytes, to get to the checksum; with ``on`` not even these, since more follows.
    Raises :class:`ImageError` if the bytes end before, go on where they should not, or are damaged.
    """
    whole = memoryview(data) if coding == "raw" else _inflate(data, coding, start + count, 0 if on else _SLACK)
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
            rest = _inflate_member(rest, coding, count + slack, found)
        except (zlib.error, OSError, EOFError, ValueError) as error:
            raise ImageError("the file is damaged", given=f"{coding} that cannot be inflated") from error
        if slack and len(found) == count + slack:
            raise ImageError("the file holds more than its header announces", given=f"over {count:,} bytes")
    return memoryview(found)[:count]


def _inflate_member(data: memoryview, coding: str, most: int, found: bytearray) -> memoryview:
    """Inflate one member into ``found``, up to ``most`` bytes in all, and return what stands behind it.

    Of one that reaches ``most`` the end is not looked for.
    """
    inflater: Any = bz2.BZ2Decompressor() if coding == "bzip2" else zlib.decompressobj(47)  # zlib or gzip by its head
    for at in range(0, len(data), _CHUNK):
        found += inflater.decompress(data[at : at + _CHUNK], most - len(found))
        if len(found) >= most:
            return data[:0]
        if inflater.eof:  # the checksum was right
            return data[min(at + _CHUNK, len(data)) - len(inflater.unused_data) :]
    raise ImageError("the file is cut off", given=f"{len(found):,} bytes inflated, and no end")


# -- without the voxels ----------------------------------------------------------------------------------


@checked
def geometry_of(
    address: Address | str | os.PathLike[str], limits: Limits = LIMITS
) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Voxels and mm between them, both (k, j, i), of the :class:`Volume` that would be read, from headers only.

    Raises :class:`ImageError` as :func:`read_volume` does, for headers.
    """
    address = address if isinstance(address, Address) else parse(os.fspath(address))
    with broken_as("the volume is damaged"):
        if npz.is_address(address.path):
            k, j, i = _of_array(address.path, limits).voxels.shape
            return (k, j, i), (1.0, 1.0, 1.0)
        if address.series:
            shape, affine = stack.series_grid(address, limits)
        else:
            head = head_bytes(address, limits, 4096)
            kind = sniff(head)
            if kind in ("NRRD", "MetaImage"):
                head = head_bytes(address, limits, HEAD)
            if kind == "DICOM":
                shape, affine = stack.film_grid(address_bytes(address, limits), limits)
            else:
                plan = _plan(head, kind, limits)
                shape, affine = plan.shape, plan.affine
        return grid.canonical_shape(shape, affine), grid.spacing_of(grid.canonical_affine(shape, affine))


@checked
def digest_of(address: Address, limits: Limits = LIMITS) -> str:
    """The digest that :func:`read_image_of` would report, without decoding."""
    if npz.is_address(address.path):
        return _of_plane(npz.digest(npz.read_row(address.path, limits.pixels)), address)
    if address.series:
        return _of_plane(stack.digest_of_files([sha256(data) for data in stack.series_bytes(address, limits)]), address)
    data = address_bytes(address, limits)
    kind, digests = sniff(data), [sha256(data)]
    if kind in ("NRRD", "MetaImage"):
        beside = _plan(data, kind, limits).beside
        digests += [sha256(neighbour_bytes(address, beside, limits))] if beside else []
    return _of_plane(stack.digest_of_files(digests), address)


def _of_plane(digest: str, address: Address) -> str:
    """Two planes of one volume are two images."""
    fragment = str(replace(address, path="", entry="", series=False))
    return sha256(f"{digest}{fragment}".encode()) if address.plane else digest


# -- as an image -----------------------------------------------------------------------------------------


@checked
def read_image_of(
    address: Address, limits: Limits = LIMITS, window: str = "", spacing: tuple[float, ...] = ()
) -> tuple[NDArray[Any], tuple[str, ...], str, str]:
    """Pixels, notes, digest and format of a volume (D, H, W, 1) or of one of its planes (H, W, 1).

    uint16 by a ``window`` (see :func:`.parse_window`) or between percentiles; 8 bits and maps of labels as they are.
    ``spacing``: mm (k, j, i) to resample to before. The last volumes are kept, so that planes in a row decode once.
    Raises :class:`ImageError` as :func:`read_volume` does.
    """
    volume, kind, ends = _kept(address, limits, window, spacing)
    digest = _of_plane(volume.digest, address)
    about: tuple[str, ...] = ()
    if address.plane:
        seen = grid.plane(volume, address.plane, address.at, address.point, address.side, address.pixel)  # type: ignore[arg-type]
        about = (f"{address.plane} plane", *_beyond(volume, address))
    elif FLAT in volume.notes:  # an image, in whatever plane it lies
        seen = np.take(volume.voxels, 0, volume.voxels.shape.index(1))[::-1, ::-1]
    else:
        seen = volume.voxels[:, ::-1, ::-1]
    pixels, note = grid.grey(volume, seen, window, ends)
    return np.ascontiguousarray(pixels)[..., None], (*volume.notes, *about, note), digest, kind


def _beyond(volume: Volume, address: Address) -> tuple[str, ...]:
    """A note of how much of a square lies outside of the volume; nothing where it does not."""
    if address.point is None or not address.side:
        return ()
    share = grid.beyond(volume, address.plane, address.point, address.side)  # type: ignore[arg-type]
    return (f"{BEYOND}{max(share, 0.01):.0%} of the square, filled with its lowest value",) if share else ()


_Entry = tuple[Volume, str, tuple[float, float] | None]
_KEPT: OrderedDict[tuple[Any, ...], _Entry] = OrderedDict()
_KEPT_BYTES = 1 << 30
_LOCK, _READING = threading.Lock(), tuple(threading.Lock() for _ in range(16))


def _kept(address: Address, limits: Limits, window: str, spacing: tuple[float, ...]) -> _Entry:
    """The volume, its format and its black and white. Kept if a plane is asked for: others will be."""
    if not address.plane:
        return _entry(address, limits, window, spacing)
    key = (*_identity(address), limits, window, spacing)
    with _READING[hash(key) % len(_READING)]:  # who asks for the same volume waits; others do not
        with _LOCK:
            found = _KEPT.get(key)
            if found is not None:
                _KEPT.move_to_end(key)
        if found is None:
            found = _entry(address, limits, window, spacing)
            with _LOCK:
                _KEPT[key] = found
                while len(_KEPT) > 4 or sum(entry[0].voxels.nbytes for entry in _KEPT.values()) > _KEPT_BYTES:
                    if len(_KEPT) == 1:
                        break
                    _KEPT.popitem(last=False)
    return found


def _identity(address: Address) -> tuple[Any, ...]:
    """What changes when a file, or a folder with a series, does."""
    path, times = Path(file_of(address.path)), []
    with suppress(ImageError):  # reading says what is wrong
        times = [file_key(place) for place in ([path, path.parent] if address.series else [path])]
    return (os.getpid(), os.path.abspath(address.path), address.entry, address.series, address.nan, *times)


def _entry(address: Address, limits: Limits, window: str, spacing: tuple[float, ...]) -> _Entry:
    volume, kind = _read(address, limits)
    ends = grid.levels(volume, window)
    return (grid.resample(volume, spacing) if spacing else volume), kind, ends

"""Volumes in one convention: voxels[k, j, i] and an affine to RAS millimetres, axes closest to the patient's.

RAS: x grows to the patient's right, y to the anterior, z to the superior side. DICOM, NRRD and MetaImage count x and
y the other way round (LPS, PS3.3 C.7.6.2.1.1). Voxels are only permuted and flipped to get there, never
interpolated, so the affine of an oblique scan stays oblique.
"""

from __future__ import annotations

import bz2
import zlib
from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked, require
from overread.images.address import Address
from overread.images.formats import archives
from overread.images.image import Limits, read_bytes

#: LPS to RAS and back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TINY, _HUGE = 1e-6, 1e6  # mm; a voxel outside is a damaged header
#: A note of files that hold one plane only: they are images rather than volumes.
FLAT = "one plane, not a volume"


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with a place in the patient.

    ``voxels``: (K, J, I), from inferior to superior, posterior to anterior, left to right; uint8, int16, uint16 or
    float32, finite. ``affine``: (4, 4), from (i, j, k) to RAS mm. ``notes``: what was converted or assumed.
    ``digest``: SHA-256 of the bytes of the file or files.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
    digest: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        require(self.voxels.ndim == 3, "a volume has three axes", given=self.voxels.shape)
        require(self.affine.shape == (4, 4), "an affine has 4 x 4 numbers", given=self.affine.shape)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels in mm along (k, j, i)."""
        return spacing_of(self.affine)


@dataclass(frozen=True)
class Plan:
    """What a header says of voxels that have not been read yet.

    ``shape``: voxels along the stored axes (i, j, k), i fastest. ``affine``: from these to RAS mm. ``dtype`` with its
    byte order; the value of a voxel is ``slope`` × stored + ``intercept``. ``start``: bytes before the coded voxels
    (-1: they end the file); ``skip``: inflated bytes before the voxels; ``volumes`` in the file, of which the first is
    read; ``coding``: raw, gzip or bzip2; ``beside``: the name of the file with the voxels, "" for the same.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    dtype: np.dtype[Any]
    start: int = 0
    skip: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    volumes: int = 1
    coding: str = "raw"
    beside: str = ""
    notes: tuple[str, ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes of the voxels of one volume, as stored."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def memory(self) -> int:
        """Bytes that one volume takes when it is read."""
        return self.bytes if (self.slope, self.intercept) == (1, 0) else max(self.bytes, 4 * prod(self.shape))


@checked
def spacing_of(affine: NDArray[np.float64]) -> tuple[float, float, float]:
    """Distance of neighbouring voxels in mm along (k, j, i).

    >>> spacing_of(np.diag([0.5, 0.7, 3.0, 1.0]))
    (3.0, 0.7, 0.5)
    """
    i, j, k = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return k, j, i


@checked
def usable(affine: NDArray[np.float64]) -> bool:
    """Whether an affine is finite, of sensible scale, and spans space."""
    if not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < _TINY or lengths.max() > _HUGE:
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


@checked
def closest(affine: NDArray[np.float64]) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Which stored axis runs closest to x, y and z of RAS, and which of these run backwards.

    >>> closest(np.diag([-1.0, -1.0, 2.0, 1.0]))
    ((0, 1, 2), (True, True, False))
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    i, j, k = max(permutations(range(3)), key=lambda order: sum(abs(cosines[x, a]) for x, a in enumerate(order)))
    x, y, z = (bool(cosines[x, a] < 0) for x, a in enumerate((i, j, k)))
    return (i, j, k), (x, y, z)


@checked
def canonical_shape(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> tuple[int, int, int]:
    """(K, J, I) of the volume that :func:`canonical` makes of voxels stored as (i, j, k)."""
    x, y, z = (shape[axis] for axis in closest(affine)[0])
    return z, y, x


@checked
def canonical_affine(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine of the volume that :func:`canonical` makes."""
    axes, backwards = closest(affine)
    turned = np.eye(4)
    turned[:3, 3] = affine[:3, 3]
    for x, (axis, flipped) in enumerate(zip(axes, backwards)):
        turned[:3, x] = -affine[:3, axis] if flipped else affine[:3, axis]
        turned[:3, 3] += affine[:3, axis] * (shape[axis] - 1) * flipped
    return turned


@checked
def canonical(
    voxels: NDArray[Any], affine: NDArray[np.float64], notes: tuple[str, ...] = (), digest: str = ""
) -> Volume:
    """Voxels (k, j, i) of any orientation as a :class:`Volume`, only permuted and flipped.

    Raises :class:`ImageError` for NaN or infinite voxels.
    """
    axes, backwards = closest(affine)
    k, j, i = voxels.shape
    turned = voxels.transpose([2 - axis for axis in reversed(axes)])
    turned = turned[tuple(slice(None, None, -1 if flipped else None) for flipped in reversed(backwards))]
    return Volume(narrow(turned), canonical_affine((i, j, k), affine), notes, digest)


@checked
def narrow(voxels: NDArray[Any]) -> NDArray[Any]:
    """Voxels as uint8, int16 or uint16 where these hold integers exactly, else as float32.

    Raises :class:`ImageError` for NaN, infinity and what float32 does not hold.

    >>> narrow(np.array([[[-3, 40_000]]], np.int64)).dtype
    dtype('float32')
    """
    if not voxels.size:
        raise ImageError("the volume has no voxels", given=f"shape {voxels.shape}")
    if voxels.dtype.kind == "f":
        return _finite(voxels)
    kept = (np.uint8, np.int16, np.uint16)
    if voxels.dtype in kept:
        return voxels
    low, high = int(voxels.min()), int(voxels.max())
    for kind in kept:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return voxels.astype(kind)
    return voxels.astype(np.float32)


def _finite(voxels: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):
        single = voxels.astype(np.float32, copy=False)
    for plane in single:
        if not np.isfinite(plane).all():
            raise ImageError("the image holds NaN or infinite pixels")
    return single


@checked
def decoded(plan: Plan, raw: bytes | memoryview) -> NDArray[Any]:
    """Voxels (k, j, i) from the bytes of one volume, scaled by slope and intercept."""
    stored = np.frombuffer(raw, plan.dtype).reshape(plan.shape[::-1])
    stored = stored.astype(plan.dtype.newbyteorder("="), copy=False)
    if plan.slope == 1 and plan.intercept == 0:
        return stored
    with np.errstate(over="ignore", invalid="ignore"):
        values = stored.astype(np.float32)
        values *= np.float32(plan.slope)
        values += np.float32(plan.intercept)
    return values


@checked
def check_shape(shape: tuple[int, ...], limits: Limits) -> None:
    """Raise :class:`ImageError` for sizes below 1 or beyond the limits, before anything is allocated."""
    if min(shape, default=0) < 1:
        raise ImageError("the header gives a size that cannot be", given=" x ".join(map(str, shape))[:80])
    i, j, k = (*shape, 1, 1)[:3]
    limits.check(j, i, k)


@checked
def check_memory(size: int, limits: Limits) -> None:
    """Raise :class:`ImageError` for voxels of more bytes than the limit of pixels leaves, at two bytes each."""
    if size > 2 * limits.pixels:
        raise ImageError(
            "the voxels take more memory than the limit",
            given=f"{size:,} bytes",
            todo=f"read it with Limits(pixels=…), now {limits.pixels:,} of two bytes each",
        )


# -- the bytes of volumes: a regular file within the limits, inflated to what its header declares and no further ---


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

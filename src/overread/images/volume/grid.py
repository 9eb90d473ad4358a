"""Volumes in one convention: voxels[k, j, i] and an affine to RAS millimetres, axes closest to the patient's.

RAS: x grows to the patient's right, y to the anterior, z to the superior side. DICOM, NRRD and MetaImage count x and
y the other way round (LPS, PS3.3 C.7.6.2.1.1). Voxels are only permuted and flipped to get there, never
interpolated, so the affine of an oblique scan stays oblique.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import ImageError, checked, require
from overread.images.image import Limits

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
    i, j, k = max(
        permutations(range(3)), key=lambda order: sum(abs(cosines[x, a]) for x, a in enumerate(order))
    )
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

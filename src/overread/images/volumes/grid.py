"""Volumes in one convention: voxels[k, j, i] and an affine to RAS millimetres, axes closest to the patient's.

RAS: x grows to the patient's right, y to the anterior, z to the superior side. DICOM, NRRD and MetaImage count x and
y the other way round (LPS, PS3.3 C.7.6.2.1.1). Voxels are only permuted and flipped to get there, never
interpolated, so the affine of an oblique scan stays oblique. Planes and cubes follow the voxel axes; there every
interpolation is linear along one axis after the other; where it shrinks, the weights widen with the step, so that each
voxel counts. Outside of the volume stands its smallest value (:func:`beyond` says of how much).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked, require
from overread.images.address import PLANES
from overread.images.conversions import FULL, Window, between, parse_window, windowed
from overread.images.image import Limits, finite

#: LPS to RAS and back.
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TINY, _HUGE = 1e-6, 1e6  # mm; a voxel outside is a damaged header
#: A note of files that hold one plane only: they are images rather than volumes.
FLAT = "one plane, not a volume"
Point = tuple[float, float, float]
Plane = Literal["axial", "coronal", "sagittal"]
#: The longest side of a plane in pixels.
LONGEST = 4096
#: Share of its values that a volume without a window leaves out, dark and bright.
TAIL = 0.5
SAMPLE = 1 << 24
#: An integer volume with at most so many different values, none below 0, is a map of labels.
LABELS = 32
_SAME = 0.01  # spacings that differ by less are equal
_AXIS = {name: axis for axis, name in enumerate(PLANES)}  # axial: k, coronal: j, sagittal: i


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
    """Voxels (k, j, i) of any orientation as a :class:`Volume`, only permuted and flipped; see :func:`without_nan`."""
    axes, backwards = closest(affine)
    k, j, i = voxels.shape
    turned = voxels.transpose([2 - axis for axis in reversed(axes)])
    turned = turned[tuple(slice(None, None, -1 if flipped else None) for flipped in reversed(backwards))]
    return Volume(narrow(turned), canonical_affine((i, j, k), affine), notes, digest)


@checked
def narrow(voxels: NDArray[Any]) -> NDArray[Any]:
    """Voxels as uint8, int16 or uint16 where these hold integers exactly, else as float32 (what that does not hold is infinite).

    Raises :class:`ImageError` where there are none.

    >>> narrow(np.array([[[-3, 40_000]]], np.int64)).dtype
    dtype('float32')
    """
    if not voxels.size:
        raise ImageError("the volume has no voxels", given=f"shape {voxels.shape}")
    if np.issubdtype(voxels.dtype, np.floating):
        with np.errstate(over="ignore", invalid="ignore"):
            return voxels.astype(np.float32, copy=False)
    kept = (np.uint8, np.int16, np.uint16)
    if voxels.dtype in kept:
        return voxels
    low, high = int(voxels.min()), int(voxels.max())
    for kind in kept:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return voxels.astype(kind)
    return voxels.astype(np.float32)


@checked
def without_nan(volume: Volume, nan: str = "") -> Volume:
    """The volume with finite voxels: those that are NaN, as programs write outside of the brain, at the lowest value where
    ``nan`` is ``lowest``, and a note of how many. Raises :class:`ImageError` for others, for infinity, and for nothing but NaN.
    """
    if not np.issubdtype(volume.voxels.dtype, np.floating):
        return volume
    missing = np.isnan(volume.voxels)
    count = int(np.count_nonzero(missing))
    if not count:
        return replace(volume, voxels=finite(volume.voxels))
    if nan != "lowest" or count == missing.size:
        raise ImageError("voxels of the volume are NaN", given=f"{count:,} of {missing.size:,}",
                         todo="where they mean that nothing is there, --nan-voxels lowest takes them for the lowest value")  # fmt: skip
    lowest = volume.voxels[~missing].min()
    note = f"{count:,} of {missing.size:,} voxels are NaN, taken for the lowest value, {lowest:g}"
    return replace(volume, voxels=finite(np.where(missing, lowest, volume.voxels)), notes=(*volume.notes, note))


@checked
def check_memory(size: int, limits: Limits) -> None:
    """Raise :class:`ImageError` for voxels of more bytes than a quarter of the memory: they are stored, scaled, turned
    and brought to grey.
    """
    if 4 * size > limits.memory:
        given = f"4 x {size:,} bytes"
        todo = f"read it with Limits(memory=…), now {limits.memory:,} bytes"
        raise ImageError("the voxels take more memory than the limit", given=given, todo=todo)


# -- resampling ------------------------------------------------------------------------------------------


@checked
def resample(volume: Volume, spacing: float | Sequence[float]) -> Volume:
    """The volume at another spacing in mm, one number or (k, j, i), around the same centre.

    float32, or the volume itself where nothing changes. The size is rounded, the spacing exact. Raises
    :class:`ImageError` if that takes more than 4,096 voxels along an axis.
    """
    wanted = (float(spacing),) * 3 if isinstance(spacing, (int, float)) else tuple(map(float, spacing))
    require(len(wanted) == 3 and min(wanted) > 0, "spacing is one number of mm, or three", given=spacing)
    if np.allclose(wanted, volume.spacing, rtol=1e-6):
        return volume
    sizes = [max(1, round(n * old / new)) for n, old, new in zip(volume.voxels.shape, volume.spacing, wanted)]
    middle = [(n - 1) / 2 for n in volume.voxels.shape]
    return _cut(volume, middle, wanted, sizes)


def _cut(volume: Volume, middle: Sequence[float], spacing: Sequence[float], sizes: Sequence[int]) -> Volume:
    """A box of ``sizes`` voxels of ``spacing`` mm around ``middle``, all (k, j, i), middle in old voxels."""
    if max(sizes) > LONGEST:
        raise ImageError("the spacing is too fine for this volume", given=f"{max(sizes):,} voxels along an axis")
    voxels, affine = volume.voxels, volume.affine.copy()
    steps = [new / old for new, old in zip(spacing, volume.spacing)]
    for axis in sorted(range(3), key=lambda axis: sizes[axis] / volume.voxels.shape[axis]):  # shrink first
        voxels = _along(voxels, axis, middle[axis], sizes[axis], steps[axis])
    first = [m - (n - 1) / 2 * step for m, n, step in zip(middle, sizes, steps)]
    affine[:3, 3] += volume.affine[:3, :3] @ first[::-1]
    affine[:3, :3] *= steps[::-1]
    return replace(volume, voxels=voxels.astype(np.float32, copy=False), affine=affine)


def _along(voxels: NDArray[Any], axis: int, middle: float, size: int, step: float) -> NDArray[Any]:
    """``size`` voxels, ``step`` apart, around ``middle`` of an axis, linear; outside of it the smallest value."""
    have = voxels.shape[axis]
    at = middle + (np.arange(size) - (size - 1) / 2) * step
    inside = (at >= -0.5 - 1e-6) & (at <= have - 0.5 + 1e-6)
    if step < 1 + 1e-6 and np.allclose(at, np.rint(at), atol=1e-6):
        found = np.take(voxels, np.clip(np.rint(at), 0, have - 1).astype(np.int64), axis)
    else:
        weights = _weights(have, np.clip(at, 0, have - 1), max(1.0, step))
        found = np.moveaxis(np.tensordot(weights, voxels.astype(np.float32), (1, axis)), 0, axis)
    if not inside.all():
        np.moveaxis(found, axis, 0)[~inside] = voxels.min()
    return found


def _weights(have: int, at: NDArray[np.floating[Any]], width: float) -> NDArray[np.float32]:
    """(places, have) weights of a triangle of that half width around each place; rows add up to 1."""
    weights = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(have)[None]) / width)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


# -- planes and cubes ------------------------------------------------------------------------------------


@checked
def plane(
    volume: Volume,
    name: Plane,
    at: int | None = None,
    point: Point | None = None,
    side: float = 0.0,
    pixel: float = 0.0,
) -> NDArray[Any]:
    """One plane (H, W), as a radiologist sees it, with square pixels of the finer of its two spacings.

    ``axial``: anterior on top; ``coronal``: superior on top; both with the patient's right on the left; ``sagittal``:
    superior on top, anterior on the left. ``at``: its number from the inferior, posterior or left side, from 0; or the
    plane through ``point`` (x, y, z in mm, RAS), there cut to a square with a ``side`` in mm where that is above 0, of
    pixels of ``pixel`` mm where that is above 0; or the middle one. Values as in the volume where pixels were square already, else float32.

    Raises :class:`ImageError` for a plane or a point outside of the volume.
    """
    require(at is None or point is None, "give at or point, not both", given=at)
    require(side >= 0 and (side == 0 or point is not None), "a side is not negative and needs a point", given=side)
    require(pixel >= 0 and (pixel == 0 or side > 0), "a pixel is not negative and needs a side", given=pixel)
    axis = _AXIS[name]
    places = None if point is None else _place(volume, point)
    flat = np.take(volume.voxels, _number(volume, name, at, places), axis)
    rest = [other for other in range(3) if other != axis]
    spacing = [volume.spacing[other] for other in rest]
    pixel = _pixel(flat.shape, spacing, side, pixel)
    middle = [(n - 1) / 2 for n in flat.shape] if side == 0 or places is None else [places[other] for other in rest]
    for row, (step, centre) in enumerate(zip((pixel / old for old in spacing), middle)):
        have = flat.shape[row]
        size = max(1, round(side / pixel)) if side else have if abs(step - 1) < _SAME else max(1, round(have / step))
        if side or size != have:
            flat = _along(flat, row, centre, size, step)
    return flat[::-1, ::-1]


def _pixel(shape: Sequence[int], spacing: Sequence[float], side: float, asked: float) -> float:
    """Side of a pixel in mm: as asked for, else the finer spacing, or coarser where the plane would be too long."""
    fine = asked or min(spacing)
    if side > LONGEST * fine:
        raise ImageError("the square is too large", given=f"side {side:.6g} mm, pixels of {fine:.4g} mm")
    return max(fine, max(n * mm for n, mm in zip(shape, spacing)) / LONGEST) if side == 0 else fine


@checked
def beyond(volume: Volume, name: Plane, point: Point, side: float) -> float:
    """The share of the square around ``point`` in this plane that lies outside of the volume, 0 … 1."""
    places = _place(volume, point)
    within = 1.0
    for axis in (other for other in range(3) if other != _AXIS[name]):
        have, half = volume.voxels.shape[axis], side / volume.spacing[axis] / 2
        low, high = max(places[axis] - half, -0.5), min(places[axis] + half, have - 0.5)
        within *= (high - low) / (2 * half)
    return 0.0 if within > 1 - _TINY else 1 - within


def _number(volume: Volume, name: Plane, at: int | None, places: Sequence[float] | None) -> int:
    """The number of the plane that is meant. Raises if there is none."""
    have = volume.voxels.shape[_AXIS[name]]
    if places is not None:
        return min(max(round(places[_AXIS[name]]), 0), have - 1)
    number = have // 2 if at is None else at
    if not 0 <= number < have:
        raise ImageError(f"the volume has no such {name} plane", given=f"{number}, of {have} from 0")
    return number


def _place(volume: Volume, point: Point) -> tuple[float, float, float]:
    """Where a point (x, y, z in mm, RAS) lies, in voxels (k, j, i). Raises if that is outside."""
    place = np.linalg.solve(volume.affine, [*point, 1.0])[2::-1]
    sizes = np.array(volume.voxels.shape)
    if not np.isfinite(place).all() or (place < -0.5 - 1e-6).any() or (place > sizes - 0.5 + 1e-6).any():
        middle = (volume.affine @ [*((sizes[::-1] - 1) / 2), 1.0])[:3]
        asked, at = (", ".join(f"{x:.6g}" for x in places) for places in (point, middle))
        given = f"{asked} mm, the middle of the volume is at {at}"
        todo = "give x, y, z in mm: to the right, anterior, superior"
        raise ImageError("the point lies outside of the volume", given=given, todo=todo)
    k, j, i = place.tolist()
    return k, j, i


@checked
def three_views(volume: Volume, point: Point | None = None) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The axial, coronal and sagittal :func:`plane` through a point in mm, or through the middle."""
    axial, coronal, sagittal = (plane(volume, name, point=point) for name in PLANES)  # type: ignore[arg-type]
    return axial, coronal, sagittal


@checked
def patch(volume: Volume, point: Point, side: float) -> Volume:
    """A cube with a ``side`` in mm around ``point`` (x, y, z in mm, RAS), its voxels cubes of the finest spacing.

    Raises :class:`ImageError` for a point outside of the volume, or a cube of more than 512 voxels a side.
    """
    require(side > 0, "side must be above 0 mm", given=side)
    fine = min(volume.spacing)
    size = max(1, round(side / fine))
    if size > 512:
        raise ImageError("the cube is too large", given=f"{size:,} voxels a side", todo="give a smaller side")
    return _cut(volume, _place(volume, point), (fine,) * 3, (size,) * 3)


@checked
def centre_of(mask: Volume) -> Point:
    """The centre (x, y, z in mm, RAS) of the largest piece of what is not 0. Voxels that touch by a corner are one
    piece.

    Raises :class:`ImageError` for an empty mask.
    """
    from scipy import ndimage

    pieces, count = ndimage.label(mask.voxels != 0, np.ones((3, 3, 3)))
    if not count:
        raise ImageError("the mask is empty", todo="leave the row out, or give a point")
    largest = int(np.argmax(np.bincount(pieces.ravel())[1:])) + 1
    place = ndimage.center_of_mass(pieces == largest)
    x, y, z, _ = (mask.affine @ [*place[::-1], 1.0]).tolist()
    return x, y, z


# -- grey values -----------------------------------------------------------------------------------------


@checked
def levels(volume: Volume, window: str = "") -> tuple[float, float] | None:
    """Black and white of a whole volume: the 0.5 and 99.5 percentile, or the ends for the window ``full``.

    Percentiles are exact, for floats up to 16 million voxels and of every n-th above. None where a window says it, or
    values stay as they are: those of 8 bits, which are to be seen rather than measured, and a map of labels: integers,
    none negative, at most 32 different ones.
    """
    chosen = parse_window(window)
    if chosen == FULL:
        return _range(volume)
    if chosen is not None or volume.voxels.dtype == np.uint8:
        return None
    if np.issubdtype(volume.voxels.dtype, np.floating):
        few = volume.voxels.flat[:: 1 + volume.voxels.size // SAMPLE]
        low, high = np.percentile(few, [TAIL, 100 - TAIL]).tolist()
    else:
        first, counts = _counts(volume.voxels)
        if first >= 0 and np.count_nonzero(counts) <= LABELS:
            return None
        low, high = (first + _percentile(counts, q) for q in (TAIL, 100 - TAIL))
    return (low, high) if low < high else _range(volume)


def _range(volume: Volume) -> tuple[float, float]:
    return float(volume.voxels.min()), float(volume.voxels.max())


def _counts(voxels: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """The smallest of integer voxels, and how often it and each of those above stand there."""
    low, high = int(voxels.min()), int(voxels.max())
    counts = np.zeros(high - low + 1, np.int64)
    for part in voxels:
        counts += np.bincount((part.astype(np.int32) - low).ravel(), minlength=len(counts))
    return low, counts


def _percentile(counts: NDArray[np.int64], q: float) -> float:
    """The q-th percentile of the values 0, 1, 2 … that stand so often, between two of them linearly."""
    upto = np.cumsum(counts)
    place = q / 100 * (int(upto[-1]) - 1)
    below, above = np.searchsorted(upto, [np.floor(place), np.ceil(place)], "right").tolist()
    return float(below + (above - below) * (place % 1))


@checked
def grey(
    volume: Volume, values: NDArray[Any], window: str = "", ends: tuple[float, float] | None = None
) -> tuple[NDArray[Any], str]:
    """Values of a volume, or of a plane of it, as uint16 from black to white, or as they are; a note says which.

    By a ``window`` (see :func:`.parse_window`), else between the ``ends`` that :func:`levels` gave for the whole
    volume.
    """
    chosen = parse_window(window)
    if ends is None and (chosen is None or volume.voxels.dtype == np.uint8):
        whole = np.rint(values) if np.issubdtype(values.dtype, np.floating) else values
        note = f"window {window} not applied: 8 bits are no physical values" if chosen else "values as stored"
        return whole.astype(np.uint8 if whole.max() < 256 else np.uint16), note
    shades = np.empty(values.shape, np.uint16)
    for part, shade in zip(values, shades):  # one after another: on the way there they are in double precision
        unit = between(part, *ends) if ends else windowed(part, chosen or FULL)
        shade[...] = np.rint(unit * 65535)
    return shades, _note(chosen, ends)


def _note(chosen: Window | None, ends: tuple[float, float] | None) -> str:
    if ends is None:
        return f"window {chosen.centre:g}/{chosen.width:g}" if chosen else ""
    tail = "" if chosen == FULL else f", the {TAIL:g} and {100 - TAIL:g} percentile"
    return f"from {ends[0]:g} to {ends[1]:g}{tail}"


@checked
def scaled(volume: Volume, window: str = "") -> NDArray[Any]:
    """Voxels (K, J, I) as uint16 by a window, or between percentiles; 8 bits and maps of labels stay as they are."""
    return grey(volume, volume.voxels, window, levels(volume, window))[0]

"""What a network is to say of each place of a tile, made of its label image; pure functions of arrays.

All targets of a tile lie in one array (channels, H / stride, W / stride), in the order of
:class:`~overread.networks.instance_heads.Layout`: maps with a value for each pixel take ``stride``² channels each; after
them stand the weights of the pixels, where the loss wants them, and the maps with a value for each place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.networks.instance_heads import Layout

#: How wide the peak of the heat at a centre is, in radii of the object.
PEAK = 0.35
#: The least and the largest distance in pixels that a ray is followed.
NEAREST, FARTHEST = 0.5, 192
_STEP = 2  # pixels; what a ray overshoots is taken back by half of it


@dataclass(frozen=True)
class Places:
    """Where the targets of a layout lie: slices of channels.

    ``pixels`` (P·s²), ``weights`` (s² or none), ``heat`` (1), ``geometry`` (offsets or rays), ``radius`` (1), ``kind`` (1).
    """

    pixels: slice
    weights: slice
    heat: slice
    geometry: slice
    radius: slice
    kind: slice
    channels: int


@checked
def places_of(layout: Layout, *, weighted: bool = False) -> Places:
    """The channels of the targets of a layout; ``weighted``: with a weight for each pixel."""
    area, at, found = layout.stride**2, 0, list[slice]()
    apart = layout.geometry > 0
    for width in (
        layout.pixels * area,
        area * weighted,
        int(apart),
        max(layout.geometry - 1, 0),
        int(apart),
        int(layout.classes > 1),
    ):
        found.append(slice(at, at + width))
        at += width
    pixels, weights, heat, geometry, radius, kind = found
    return Places(pixels, weights, heat, geometry, radius, kind, at)


@checked
def targets(
    labels: NDArray[np.int32], layout: Layout, *, kinds: Sequence[int] = (), boundary: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """The targets (channels, h, w) of a label image (H, W) whose sides are multiples of the stride.

    ``kinds``: (K,) which class each label is, for layouts of several classes; −1 where unknown. ``boundary``: w0 and σ of
    the weights of pixels between objects that nearly touch, see :func:`border_weights`.
    """
    step = layout.stride
    require(labels.shape[0] % step == 0 and labels.shape[1] % step == 0, "the sides of a tile are multiples of the stride",
            given=f"{labels.shape} of {step}")  # fmt: skip
    labels, names = _consecutive(labels)
    pixels = [(labels > 0).astype(np.float32)]
    if layout.head == "boundary":
        pixels.append(rims(labels).astype(np.float32))
    if boundary is not None:
        pixels.append(border_weights(labels, *boundary))
    parts = [_folded(np.stack(pixels), step)]
    grid = labels[::step, ::step]
    if layout.geometry:
        rows, columns, radius = _centres(labels)
        down, right = (
            rows[grid] - _middle(labels.shape[0], step)[:, None],
            columns[grid] - _middle(labels.shape[1], step)[None],
        )
        inside = grid > 0
        heat = np.where(inside, np.exp(-(down**2 + right**2) / (2 * (PEAK * radius[grid]) ** 2)), 0)
        geometry = np.stack([down, right]) * inside if layout.head == "offsets" else rays(labels, layout.rays, step)
        parts += [each.astype(np.float32) for each in (heat[None], geometry, np.where(inside, radius[grid], 0)[None])]
    if layout.classes > 1:
        table = np.array([-1, *(kinds[name - 1] if name <= len(kinds) else -1 for name in names)], np.float32)
        parts.append(table[grid][None])
    return np.concatenate(parts).astype(np.float32)


@checked
def rims(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(H, W) pixels of objects beside which, along a row or column, lies something else."""
    found = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    found[:, 1:] |= across
    found[:, :-1] |= across
    found[1:] |= down
    found[:-1] |= down
    return found & (labels > 0)


@checked
def border_weights(labels: NDArray[np.int32], weight: float = 10.0, sigma: float = 5.0) -> NDArray[np.float32]:
    """(H, W) 1 + w0 · exp(−(d1 + d2)² / 2σ²) on the background, 1 in objects; d1, d2: pixels to the two nearest objects.

    Ronneberger 2015, equation 2, with 1 for the weights of both classes. Beyond 4σ of an object it counts as far away.
    """
    reach = int(np.ceil(4 * sigma))
    near = np.full((2, *labels.shape), np.float32(4 * sigma))
    for name, (top, left, bottom, right) in enumerate(_boxes(labels), 1):
        box = np.s_[max(top - reach, 0) : bottom + reach, max(left - reach, 0) : right + reach]
        away = cv2.distanceTransform((labels[box] != name).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        first, second = near[0][box], near[1][box]
        second[...] = np.minimum(second, np.maximum(first, away))
        first[...] = np.minimum(first, away)
    found = weight * np.exp(-((near[0] + near[1]) ** 2) / (2 * sigma**2))
    return np.where(labels > 0, 1, 1 + np.where(near[1] < 4 * sigma, found, 0)).astype(np.float32)


@checked
def rays(labels: NDArray[np.int32], count: int, step: int = 1) -> NDArray[np.float32]:
    """(count, h, w) pixels from each place to where its object ends, along rays at equal angles from the columns on.

    A place is the middle of ``step`` × ``step`` pixels, of the object of its first pixel; 0 where there is none. Rays
    end at the border of the image (Schmidt 2018). Exact to half a pixel: they are followed in steps of 2 and back.
    """
    _height, width = labels.shape
    margin = FARTHEST + 2
    wide = width + 2 * margin
    flat = np.pad(labels, margin, constant_values=-1).ravel()
    grid = labels[::step, ::step]
    ys, xs = np.nonzero(grid)
    own = grid[ys, xs].astype(flat.dtype)
    middle = (step - 1) / 2
    angles = np.arange(count) * (2 * np.pi / count)
    down, right = np.sin(angles), np.cos(angles)
    start = ((ys * step + margin) * wide + xs * step + margin).astype(np.int32)
    at, ray, name = (
        np.repeat(start, count),
        np.tile(np.arange(count, dtype=np.int16), len(start)),
        np.repeat(own, count),
    )
    found, going = np.zeros(len(at), np.float32), np.arange(len(at), dtype=np.int32)
    first, which, mine = at, ray, name
    for far in range(_STEP, FARTHEST, _STEP):
        there = np.rint(middle + far * down).astype(np.int32) * wide + np.rint(middle + far * right).astype(np.int32)
        inside = flat[first + there[which]] == mine
        found[going[~inside]] = far
        going, first, which, mine = going[inside], first[inside], which[inside], mine[inside]
        if not len(going):
            break
    found[going] = FARTHEST
    back = found - _STEP / 2
    place = np.rint(middle + back * down[ray]).astype(np.int32) * wide + np.rint(middle + back * right[ray]).astype(
        np.int32
    )
    found = np.where(flat[at + place] == name, back + 0.5, back - 0.5)
    made = np.zeros((count, *grid.shape), np.float32)
    made[:, ys, xs] = np.maximum(found.reshape(-1, count), NEAREST).T
    return made


def _consecutive(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels without gaps, and the names that they had; quicker than sorting."""
    there = np.bincount(labels.ravel(), minlength=1) > 0
    there[0] = False
    names = np.flatnonzero(there)
    place = np.zeros(len(there), np.int32)
    place[names] = np.arange(1, len(names) + 1)
    return place[labels], names


def _centres(labels: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Row and column of the centre of gravity of each label, and the radius of a disc of its area; 0 first: nothing."""
    flat, (height, width) = labels.ravel(), labels.shape
    area = np.maximum(np.bincount(flat), 1)
    rows = np.bincount(flat, np.repeat(np.arange(height, dtype=np.float64), width)) / area
    columns = np.bincount(flat, np.tile(np.arange(width, dtype=np.float64), height)) / area
    return rows, columns, np.maximum(np.sqrt(area / np.pi), 2.0)


def _middle(side: int, step: int) -> NDArray[np.float64]:
    return np.arange(0, side, step, dtype=np.float64) + (step - 1) / 2


def _boxes(labels: NDArray[np.int32]) -> list[tuple[int, int, int, int]]:
    from scipy.ndimage import find_objects

    return [(down.start, right.start, down.stop, right.stop) for down, right in find_objects(labels)]


def _folded(maps: NDArray[np.float32], step: int) -> NDArray[np.float32]:
    """(P, H, W) → (P·step², h, w): the pixels of a place one after the other, as ``pixel_shuffle`` unfolds them."""
    count, height, width = maps.shape
    parts = maps.reshape(count, height // step, step, width // step, step)
    return parts.transpose(0, 2, 4, 1, 3).reshape(count * step * step, height // step, width // step)

"""Classical descriptors: what an image is like before anything is learned, in some hundred numbers.

Histograms of grey and colour, statistics of intensity, size and form of what is bright, local binary patterns
(Ojala 2002, doi:10.1109/TPAMI.2002.1017623), the gist of a scene (Oliva & Torralba 2001, doi:10.1023/A:1011139631724)
and histograms of oriented gradients (Dalal & Triggs 2005, doi:10.1109/CVPR.2005.177). Of a volume, texture is taken
from its three mean projections, the rest from all voxels. Histograms are given as square roots of their shares, so
that a linear classifier compares them by Hellinger's distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import fft

from overread.core.errors import checked, one_of, require

_Floats = NDArray[np.float32]

_GREY_BINS, _COLOUR_BINS, _HUES, _SATURATIONS = 32, 16, 8, 4
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_GRID = 3
#: Flat images are looked at with sides of at most so many pixels.
_SIDE = 128
#: (points, radius) of the local binary patterns.
_CIRCLES = ((8, 1), (16, 2), (24, 3))
#: Sides of the image that GIST and HOG see, in pixels, and orientations by scale, finest first.
_SMALL, _ORIENTATIONS, _BLOCKS = 64, (8, 8, 4), 4
_PADDING, _LOCAL_CYCLES = 16, 4.0
_CELL, _ANGLES, _CLIP = 16, 9, 0.2
_AT_A_TIME = 64


@checked
def describe(
    images: NDArray[Any], names: Iterable[str] = (), *, rows: NDArray[np.int64] | None = None, threads: int = 1
) -> NDArray[np.float32]:
    """Descriptors (N, F), finite, of images (N, H, W, C) or volumes (N, D, H, W, C), uint8 or uint16.

    ``names`` of :data:`DESCRIPTORS`, all by default, in their order there; ``rows`` of the images, all by default.
    The same numbers whatever the number of ``threads``. F depends on the shape of an image alone.

    >>> describe(np.zeros((2, 32, 32, 1), np.uint8), ["intensity"]).shape
    (2, 19)
    """
    require(images.dtype in (np.uint8, np.uint16), "pixels must be uint8 or uint16", given=images.dtype)
    require(images.ndim in (4, 5), "images are (N, H, W, C), volumes (N, D, H, W, C)", given=images.shape)
    wanted = {one_of(name, DESCRIPTORS, "the descriptor") for name in names} or set(DESCRIPTORS)
    made = [function for name, function in DESCRIPTORS.items() if name in wanted]
    rows = np.arange(len(images)) if rows is None else rows
    parts = np.array_split(rows, max(1, -(-len(rows) // _AT_A_TIME), min(threads, len(rows))))
    one = partial(_described, images, made)
    if threads <= 1 or len(parts) == 1:
        found = list(map(one, parts))
    else:
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(one, parts))
    return np.concatenate(found)


def _described(images: NDArray[Any], made: list[Callable[[_Floats], _Floats]], rows: NDArray[np.int64]) -> _Floats:
    if not len(rows):
        blank = np.zeros((1, *images.shape[1:]), images.dtype)
        return _described(blank, made, np.zeros(1, np.int64))[:0]
    some = images[rows]
    scale = _SIDE / max(images.shape[1:-1])
    if images.ndim == 4 and scale < 1:
        some = _resized(some, *(max(1, round(side * scale)) for side in images.shape[1:3]))
    x = some.astype(np.float32) / np.float32(np.iinfo(images.dtype).max)
    return np.concatenate([function(x) for function in made], axis=1).astype(np.float32)


# -- the descriptors: (n, [D,] H, W, C) on the scale 0 … 1 to (n, F) -------------------------------------------------


def _colour(x: _Floats) -> _Floats:
    """Histograms of grey, of each channel, and of hue with saturation."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    parts = [_histogram(_grey(flat), _GREY_BINS)]
    if x.shape[-1] == 3:
        parts += [_histogram(flat[..., channel], _COLOUR_BINS) for channel in range(3)]
        hue, saturation, _ = np.moveaxis(cv2.cvtColor(flat, cv2.COLOR_RGB2HSV), -1, 0)
        cell = _binned(hue / 360, _HUES) * _SATURATIONS + _binned(saturation, _SATURATIONS)
        parts.append(_counted(cell, _HUES * _SATURATIONS))
    return np.concatenate(parts, axis=1)


def _intensity(x: _Floats) -> _Floats:
    """Of each channel mean, deviation, skewness, quantiles, and the means of a grid of places."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    mean, deviation = flat.mean(axis=1), flat.std(axis=1)
    skewness = ((flat - mean[:, None]) ** 3).mean(axis=1) / np.maximum(deviation, 1e-3) ** 3
    quantiles = np.quantile(flat, _QUANTILES, axis=1).transpose(1, 0, 2)
    sides = x.shape[1:-1]
    grid = x
    for axis, side in enumerate(sides, start=1):
        edges = np.linspace(0, side, _GRID + 1).astype(int)
        grid = np.stack([grid.take(range(low, max(high, low + 1)), axis).mean(axis=axis)
                         for low, high in zip(np.minimum(edges[:-1], side - 1), edges[1:])], axis=axis)  # fmt: skip
    return np.concatenate([mean, deviation, skewness, *(part.reshape(len(x), -1) for part in (quantiles, grid))], 1)


def _size(x: _Floats) -> _Floats:
    """Of what is brighter and what is darker than Otsu's threshold: share, centre, spread, and the length of their border.

    The spread are the square roots of the eigenvalues of the coordinates' covariance, in sides of the image.
    """
    grey = _grey(x)
    return np.stack([_form(each) for each in grey])


def _form(grey: _Floats) -> _Floats:
    histogram = np.bincount(_binned(grey, 256).ravel(), minlength=256)
    bright = grey > (_otsu(histogram) + 1) / 256
    border = np.mean([np.diff(bright, axis=axis).mean() if grey.shape[axis] > 1 else 0.0 for axis in range(grey.ndim)])
    places = [(np.arange(side) + 0.5) / side for side in grey.shape]
    numbers = [border]
    for mask in (bright, ~bright):
        inside = mask.sum()
        if not inside:
            numbers += [0.0, *[0.5] * grey.ndim, *[0.0] * grey.ndim]
            continue
        marginal = [mask.sum(axis=tuple(set(range(grey.ndim)) - {axis})) for axis in range(grey.ndim)]
        centre = [float(count @ place / inside) for count, place in zip(marginal, places)]
        spread = np.zeros((grey.ndim, grey.ndim))
        for a in range(grey.ndim):
            for b in range(a, grey.ndim):
                left, right = places[a] - centre[a], places[b] - centre[b]
                joint = mask.sum(axis=tuple(set(range(grey.ndim)) - {a, b})) if a != b else np.diag(marginal[a])
                spread[a, b] = spread[b, a] = left @ joint @ right / inside
        widths = np.sqrt(np.maximum(np.linalg.eigvalsh(spread), 0))
        numbers += [inside / mask.size, *centre, *widths]
    return np.array(numbers, np.float32)


def _otsu(histogram: NDArray[np.int64]) -> int:
    """The last bin of the darker class: the largest variance between the classes (Otsu 1979)."""
    share = histogram / histogram.sum()
    below, first = np.cumsum(share), np.cumsum(share * np.arange(len(share)))
    between = (first[-1] * below - first) ** 2 / np.maximum(below * (1 - below), 1e-12)
    return int(between.argmax())


def _texture(x: _Floats, one: Callable[[_Floats], _Floats]) -> _Floats:
    """``one``, of grey planes (n, h, w), of images; of volumes, of each of the three mean projections."""
    grey = _grey(x)
    planes = [grey] if grey.ndim == 3 else [grey.mean(axis=axis) for axis in (1, 2, 3)]
    return np.concatenate([one(np.ascontiguousarray(plane)) for plane in planes], axis=1)


def _lbp(planes: _Floats) -> _Floats:
    """Shares of the rotation-invariant uniform patterns at three radii."""
    return np.concatenate([np.stack([_counted(uniform_patterns(plane, *circle)[None], circle[0] + 2)[0]
                                     for plane in planes]) for circle in _CIRCLES], axis=1)  # fmt: skip


@checked
def uniform_patterns(plane: NDArray[np.float32], points: int, radius: float) -> NDArray[np.uint8]:
    """The pattern (h, w) of each pixel: LBP riu2 of Ojala 2002, equation 9.

    The number of neighbours on the circle that are no darker, where these are one arc (at most two changes), else
    ``points`` + 1. Neighbours between pixels are interpolated linearly; beyond the border the last pixel is repeated.
    """
    angle = 2 * np.pi * np.arange(points) / points
    margin = int(np.ceil(radius)) + 1
    wide = cv2.copyMakeBorder(plane, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    height, width = plane.shape
    brighter = np.empty((points, height, width), np.bool_)
    for k, (down, across) in enumerate(zip(np.round(-radius * np.sin(angle), 5), np.round(radius * np.cos(angle), 5))):
        top, left = int(np.floor(down)), int(np.floor(across))
        part = wide[margin + top : margin + top + height + 1, margin + left : margin + left + width + 1]
        y, x = np.float32(down - top), np.float32(across - left)
        mixed = part[:-1] + (part[1:] - part[:-1]) * y if y else part[:-1]
        value = mixed[:, :-1] + (mixed[:, 1:] - mixed[:, :-1]) * x if x else mixed[:, :-1]
        np.greater_equal(value, plane - np.float32(1e-6), out=brighter[k])
    ones = brighter.sum(axis=0, dtype=np.uint8)
    changes = (brighter[0] != brighter[-1]).astype(np.uint8)
    for before, after in pairwise(brighter):
        changes += before != after
    return np.where(changes <= 2, ones, np.uint8(points + 1))


def _gist(planes: _Floats) -> _Floats:
    """The mean energy of each of 20 Gabor filters in each of 4 × 4 blocks."""
    small = _whitened(_padded(_resized(planes, _SMALL, _SMALL) * 255))
    spectrum = fft.fft2(small)[:, None] * _gabor(_SMALL + 2 * _PADDING)  # (n, filters, s, s)
    energy = np.abs(fft.ifft2(spectrum))[..., _PADDING:-_PADDING, _PADDING:-_PADDING]
    side = _SMALL // _BLOCKS
    blocks = energy.reshape(*energy.shape[:2], _BLOCKS, side, _BLOCKS, side).mean(axis=(3, 5))
    return np.asarray(blocks.reshape(len(planes), -1), np.float32)


def _padded(planes: _Floats) -> _Floats:
    return np.pad(planes, ((0, 0), (_PADDING, _PADDING), (_PADDING, _PADDING)), mode="symmetric")


def _whitened(planes: _Floats) -> _Floats:
    """Local contrast normalised: what is coarser than four cycles an image is removed, and the rest divided by its
    local deviation (the prefilter of Oliva & Torralba's code)."""
    pass_low = _low_pass(planes.shape[-1])
    logarithm = np.log1p(planes)
    high = logarithm - fft.ifft2(fft.fft2(logarithm) * pass_low).real
    local = np.sqrt(np.abs(fft.ifft2(fft.fft2(high**2) * pass_low).real))
    return np.asarray(high / (0.2 + local), np.float32)


@cache
def _low_pass(side: int) -> _Floats:
    cycles = fft.fftfreq(side) * side
    deviation = _LOCAL_CYCLES / np.sqrt(np.log(2))
    return np.exp(-(cycles[:, None] ** 2 + cycles[None] ** 2) / deviation**2).astype(np.float32)


@cache
def _gabor(side: int) -> _Floats:
    """(filters, side, side) transfer functions of log-spaced Gabor filters, as in Oliva & Torralba's ``createGabor``."""
    cycles = fft.fftfreq(side).astype(np.float64) * side
    radius, angle = np.hypot(cycles[:, None], cycles[None]), np.arctan2(cycles[:, None], cycles[None])
    filters = []
    for scale, count in enumerate(_ORIENTATIONS):
        centre, width = 0.3 / 1.85**scale, 16 * count**2 / 32**2
        for k in range(count):
            turned = angle + np.pi * k / count
            turned = (turned + np.pi) % (2 * np.pi) - np.pi
            filters.append(np.exp(-10 * 0.35 * (radius / side / centre - 1) ** 2 - 2 * width * np.pi * turned**2))
    return np.stack(filters).astype(np.float32)


def _hog(planes: _Floats) -> _Floats:
    """Histograms of oriented gradients of 4 × 4 cells in 3 × 3 overlapping blocks, normalised by L2 with clipping."""
    small = _resized(planes, _SMALL, _SMALL)
    down, across = np.zeros_like(small), np.zeros_like(small)
    down[:, 1:-1], across[:, :, 1:-1] = small[:, 2:] - small[:, :-2], small[:, :, 2:] - small[:, :, :-2]
    angle = np.degrees(np.arctan2(down, across)) % 180
    place, cells = np.minimum((angle / (180 / _ANGLES)).astype(np.int64), _ANGLES - 1), _SMALL // _CELL
    at = np.arange(_SMALL) // _CELL
    index = (np.arange(len(small))[:, None, None] * cells**2 + at[:, None] * cells + at[None]) * _ANGLES + place
    strength = np.bincount(index.ravel(), np.hypot(down, across).ravel(), minlength=len(small) * cells**2 * _ANGLES)
    histogram = strength.reshape(len(small), cells, cells, _ANGLES) / _CELL**2
    blocks = np.concatenate([histogram[:, r : r + cells - 1, c : c + cells - 1] for r in (0, 1) for c in (0, 1)], -1)
    unit = blocks / np.sqrt((blocks**2).sum(-1, keepdims=True) + 1e-10)
    unit = np.minimum(unit, _CLIP)
    unit = unit / np.sqrt((unit**2).sum(-1, keepdims=True) + 1e-10)
    return np.asarray(unit.reshape(len(small), -1), np.float32)


#: The descriptors by name: functions of (n, [D,] H, W, C) float32 on the scale 0 … 1.
DESCRIPTORS: dict[str, Callable[[_Floats], _Floats]] = {
    "colour": _colour, "intensity": _intensity, "size": _size,
    "lbp": partial(_texture, one=_lbp), "gist": partial(_texture, one=_gist), "hog": partial(_texture, one=_hog),
}  # fmt: skip


# -- what they share --------------------------------------------------------------------------------------------------


def _grey(x: _Floats) -> _Floats:
    """Luminance (…,) of (…, C), ITU-R BT.601."""
    return x[..., 0] if x.shape[-1] == 1 else np.asarray(x @ np.array([0.299, 0.587, 0.114], np.float32))


def _binned(values: _Floats, bins: int) -> NDArray[np.int64]:
    return np.minimum((values * bins).astype(np.int64), bins - 1)


def _histogram(values: _Floats, bins: int) -> _Floats:
    """(n, bins) of values (n, m) from 0 to 1."""
    return _counted(_binned(values, bins), bins)


def _counted(cells: NDArray[Any], bins: int) -> _Floats:
    """(n, bins) square roots of the shares of whole numbers (n, …) below ``bins``."""
    flat = cells.reshape(len(cells), -1).astype(np.int64) + np.arange(len(cells))[:, None] * bins
    counts = np.bincount(flat.ravel(), minlength=len(cells) * bins).reshape(len(cells), bins)
    return np.sqrt(counts / flat.shape[1]).astype(np.float32)


def _resized(planes: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """(n, h, w[, C]) to (n, height, width[, C]), by area where it shrinks."""
    if planes.shape[1:3] == (height, width):
        return planes
    small = planes.shape[1] < height or planes.shape[2] < width
    how = cv2.INTER_LINEAR if small else cv2.INTER_AREA
    made = np.stack([cv2.resize(plane, (width, height), interpolation=how) for plane in planes])
    return made.reshape(len(planes), height, width, *planes.shape[3:])  # OpenCV drops a single channel

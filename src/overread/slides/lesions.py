"""From a heat map to lesions: its highest places, each with what lies around it put aside, and the regions above a threshold."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from overread.core.errors import checked, require

__all__ = ["COLUMNS", "NO_LESION", "UNJUDGED", "found_lesions", "lowest_code", "regions_above", "windowed"]

#: What is told of a lesion that was found: its place and area in microns, and the probability at that place.
COLUMNS = ("x", "y", "score", "area")
#: In place of the number of the true lesion that a place lies on: on what is not judged, on none.
UNJUDGED, NO_LESION = -2, -1
#: Rows whose means are taken together.
_ROWS = 1024
#: Candidates that are looked at together.
_TOGETHER = 1 << 16
#: Cells that touch at a corner are one region.
_NEIGHBOURS = np.ones((3, 3), np.int8)


@checked
def lowest_code(least: float, bits: int) -> int:
    """The lowest code of a heat map that stands for a probability of at least ``least``, which may be rounded by a thousandth of
    the step between two codes: a threshold that was written down keeps the cell that it was chosen by. 1 is the code of 0.

    >>> lowest_code(0.5, 8), lowest_code(0.0, 8), lowest_code(1.0, 16)
    (128, 1, 65535)
    """
    if 1 < least <= np.nextafter(1.0, 2.0):  # what tuning slides choose where false places reach 1: nothing does
        return int(2**bits)
    require(0 <= least <= 1, "a threshold of a heat map must lie in 0 … 1", given=least)
    return 1 + int(np.ceil(least * (2**bits - 2) - 1e-3))


@checked
def windowed(codes: NDArray[np.unsignedinteger], window: int) -> NDArray[np.unsignedinteger]:
    """Codes (H, W) in place of those of a heat map: of each cell the mean over those that were looked at in the square of ``window``
    cells a side around it, rounded; 0 where nobody looked. A place of tissue that is none is seldom bright alone: a lesion is.

    >>> windowed(np.array([[0, 11, 0], [31, 21, 1]], np.uint8), 3).tolist()
    [[0, 16, 0], [21, 16, 11]]
    """
    require(window >= 1 and window % 2 == 1, "a window has an odd number of cells a side", given=window)
    if window == 1:
        return codes
    made, arm = np.zeros_like(codes), window // 2
    for top in range(0, codes.shape[0], _ROWS):
        first, rows = max(0, top - arm), min(_ROWS, codes.shape[0] - top)
        part = codes[first : top + rows + arm]
        sums, many = _in_squares(part, arm), _in_squares((part > 0).astype(np.int64), arm)
        there = slice(top - first, top - first + rows)
        mean = np.rint(sums[there] / np.maximum(many[there], 1)).astype(codes.dtype)
        made[top : top + rows] = np.where(codes[top : top + rows] > 0, mean, 0)
    return made


def _in_squares(values: NDArray[np.integer], arm: int) -> NDArray[np.int64]:
    """The sums (H, W) over squares that reach ``arm`` cells each way."""
    height, width = values.shape
    total = np.zeros((height + 1, width + 1), np.int64)
    np.cumsum(np.cumsum(values, axis=0, dtype=np.int64), axis=1, out=total[1:, 1:])
    rows, columns = np.arange(height), np.arange(width)
    top, bottom = np.maximum(rows - arm, 0), np.minimum(rows + arm + 1, height)
    left, right = np.maximum(columns - arm, 0), np.minimum(columns + arm + 1, width)
    return np.asarray(total[bottom][:, right] - total[top][:, right] - total[bottom][:, left] + total[top][:, left])


@checked
def found_lesions(
    codes: NDArray[np.unsignedinteger], *, cell: float, radius: float, least: float, origin: tuple[float, float] = (0.0, 0.0),
    most: int = 0, region_least: float = float("nan"),
) -> pd.DataFrame:  # fmt: skip
    """The lesions of a heat map: the highest cell, then the highest of those farther than ``radius`` from it, and so on
    while they reach ``least`` (Liu 2017, arXiv:1703.02442, section 3, where the radius is 6 cells and ``least`` .5).

    ``codes`` (H, W), uint8 or uint16: 0 where nobody looked, else 1 + p × (2^bits − 2); ``cell`` and ``radius`` in µm, from
    centre to centre. Of cells with one code that comes first whose neighbourhood holds the most (squares within the radius,
    :func:`sides_around`: the middle of a plateau), then the upper, then the left one, so that the order is that of places alone. Gives :data:`COLUMNS`, the
    highest first: ``x``, ``y`` the centre of the cell in µm, ``score`` 0 … 1, and ``area`` in µm² of the region of cells
    of at least ``region_least`` (NaN: ``least``) that it lies in, which several lesions may share; of one below, its own cell. ``most`` (0: all): so many of them, the highest. Memory: some 40 bytes a cell.
    """
    require(codes.ndim == 2 and codes.dtype in (np.uint8, np.uint16), "a heat map holds codes of 8 or 16 bits, (H, W)",
            given=f"{codes.dtype}, {codes.shape}")  # fmt: skip
    require(
        cell > 0 and radius >= 0, "the side of a cell must be above 0, and a radius not below", given=(cell, radius)
    )
    require(most >= 0, "a number of lesions must not be negative", given=most)
    bits = 8 * codes.dtype.itemsize
    lowest = lowest_code(least, bits)
    places = _peaks(codes, lowest, radius / cell, most)
    row, column = np.divmod(places, max(1, codes.shape[1]))
    region = regions_above(codes, least if np.isnan(region_least) else region_least)
    at = region[row, column]
    cells = np.where(at > 0, np.bincount(region.ravel(), minlength=1)[at], 1)
    scores = (codes[row, column].astype(np.float64) - 1) / (2**bits - 2)
    return pd.DataFrame({"x": origin[0] + (column + 0.5) * cell, "y": origin[1] + (row + 0.5) * cell,
                         "score": scores, "area": cells * cell**2})  # fmt: skip


@checked
def regions_above(codes: NDArray[np.unsignedinteger], least: float) -> NDArray[np.int32]:
    """The connected regions (H, W) of cells of at least ``least``, numbered from 1 from the upper left; 0 elsewhere."""
    region, _ = ndimage.label(codes >= lowest_code(least, 8 * codes.dtype.itemsize), _NEIGHBOURS)
    return region.astype(np.int32)


def _peaks(codes: NDArray[np.unsignedinteger], lowest: int, reach: float, most: int) -> NDArray[np.int64]:
    """The flat places of the peaks, the highest first; ``reach``: the radius in cells; ``most``: of how many (0: all)."""
    height, width = codes.shape
    gone, disc, found = np.zeros(codes.shape, bool), _disc(reach), list[int]()
    if most:  # each puts aside no more cells than a disc holds: these lie among so many of the highest
        above = np.cumsum(np.bincount(codes.ravel())[::-1])[::-1]  # cells of at least each code
        enough = np.flatnonzero(above >= most * int(disc.sum()))
        lowest = max(lowest, int(enough[-1])) if len(enough) else lowest
    order = _ranked(codes, lowest, int(reach))
    arm = len(disc) // 2
    for start in range(0, len(order), _TOGETHER):
        part = order[start : start + _TOGETHER]
        for place in part[~gone.ravel()[part]].tolist():
            row, column = divmod(place, width)
            if gone[row, column]:
                continue
            found.append(place)
            top, left = max(0, row - arm), max(0, column - arm)
            bottom, right = min(height, row + arm + 1), min(width, column + arm + 1)
            if len(found) == most:
                return np.array(found, np.int64)
            at, across = top - row + arm, left - column + arm
            gone[top:bottom, left:right] |= disc[at : at + bottom - top, across : across + right - left]
    return np.array(found, np.int64)


def _ranked(codes: NDArray[np.unsignedinteger], lowest: int, arm: int) -> NDArray[np.int64]:
    """The flat places of the cells of at least ``lowest``: by code, then by what their neighbourhood holds, then by place."""
    places = np.flatnonzero(codes >= lowest)
    flat = codes.ravel()[places].astype(np.int64)
    row, column = np.divmod(places, max(1, codes.shape[1]))
    around = _around(codes, row, column, min(arm, max(codes.shape)))
    order = np.lexsort((-around, -flat))  # stable: of equal ones in the order of their places
    return places[order]


def _around(codes: NDArray[np.unsignedinteger], row: NDArray[np.int64], column: NDArray[np.int64], arm: int) -> NDArray[np.int64]:  # fmt: skip
    """What lies around some cells, the nearer the more: the sums of the codes in squares of :func:`sides_around` cells."""
    height, width = codes.shape
    total = np.zeros((height + 1, width + 1), np.int64)
    np.cumsum(codes, axis=0, dtype=np.int64, out=total[1:, 1:])
    np.cumsum(total[1:, 1:], axis=1, out=total[1:, 1:])
    found = np.zeros(len(row), np.int64)
    for each in sides_around(arm):
        top, bottom = np.maximum(row - each, 0), np.minimum(row + each + 1, height)
        left, right = np.maximum(column - each, 0), np.minimum(column + each + 1, width)
        found += total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return found


@checked
def sides_around(arm: int) -> list[int]:
    """How far the squares around a cell reach, in cells each way: up to ``arm``, some eight of them.

    >>> sides_around(3), sides_around(0), sides_around(20)
    ([1, 2, 3], [], [1, 4, 6, 9, 12, 15, 17, 20])
    """
    return np.unique(np.rint(np.linspace(1, arm, min(arm, 8))).astype(np.int64)).tolist() if arm else []


def _disc(reach: float) -> NDArray[np.bool_]:
    """Which cells of a square lie within ``reach`` cells of its middle."""
    arm = int(reach * (1 + 1e-9))
    away = np.arange(-arm, arm + 1) ** 2
    return away[:, None] + away[None] <= (reach * (1 + 1e-9)) ** 2

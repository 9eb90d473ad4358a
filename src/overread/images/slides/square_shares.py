"""How much of a square lies in a mask: any number of squares of any size and place, by one table of sums."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require


@checked
def summed(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The sums (H + 1, W + 1) of all cells above and left of each corner of a mask (H, W) (Crow 1984, "Summed-area tables")."""
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    np.cumsum(mask, axis=0, out=table[1:, 1:])
    np.cumsum(table[1:, 1:], axis=1, out=table[1:, 1:])
    return table


@checked
def shares(table: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64], side: float) -> NDArray[np.float64]:  # fmt: skip
    """The share of each square that the mask covers: of ``side`` cells, centred at ``x`` and ``y`` (N,) in cells; (N,).

    Exact also for squares that begin within a cell, since the sum is bilinear there. What lies beyond the mask is empty.

    >>> shares(summed(np.array([[True, False]])), np.array([0.5, 1.0]), np.array([0.5, 0.5]), 1.0).tolist()
    [1.0, 0.5]
    """
    require(side > 0, "the side of a square must be above 0", given=side)
    half = side / 2
    total = _at(table, x + half, y + half) - _at(table, x - half, y + half)
    total = total - _at(table, x + half, y - half) + _at(table, x - half, y - half)
    return np.clip(total / side**2, 0.0, 1.0)


def _at(table: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum up to a place that may lie within a cell."""
    height, width = table.shape[0] - 1, table.shape[1] - 1
    x, y = np.clip(x, 0, width), np.clip(y, 0, height)
    left, top = (np.minimum(np.floor(v).astype(np.int64), top - 1) for v, top in ((x, width), (y, height)))
    across, down = x - left, y - top
    upper = table[top, left] * (1 - across) + table[top, left + 1] * across
    lower = table[top + 1, left] * (1 - across) + table[top + 1, left + 1] * across
    return np.asarray(upper * (1 - down) + lower * down)

"""Images of small objects, shown larger: a place of the network's answer stands for some pixels, and an object that has
hardly more is neither found nor told from its neighbour.

How large the objects of an image are is known of training images from their masks; of a new one it is asked of the
network itself, which looks at a part of the image first, as Cellpose does (Stringer 2021, "size model").
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.cells.tiled import Source
from overread.core.errors import checked, require

#: Pixels across that the median object of an image is brought to, and the steps of a magnification.
ACROSS, STEP = 28.0, 0.25
#: The most that an image is enlarged where nothing else is asked.
MOST = 3.0
#: Pixels that an image may be across once it is enlarged: what is cut at once are bands as wide as it, and memory has a bound.
WIDEST = 24_000
#: Rows that are enlarged at once.
_ROWS = 64


@checked
def magnification(across: float, most: float) -> float:
    """How many times an image is enlarged whose median object is ``across`` pixels across: in quarters, 1 … ``most``.

    1 where the size is not known.

    >>> magnification(14.0, 3.0), magnification(60.0, 3.0), magnification(4.0, 3.0), magnification(float("nan"), 3.0)
    (2.0, 1.0, 3.0, 1.0)
    """
    if not across > 0 or most <= 1:
        return 1.0
    return float(np.clip(round(ACROSS / across / STEP) * STEP, 1.0, most))


@checked
def widest(width: int, most: float) -> float:
    """The most that an image of this width is enlarged, in quarters, ``most`` where it is not wide.

    >>> widest(1_000, 3.0), widest(10_000, 3.0), widest(20_000, 3.0)
    (3.0, 2.25, 1.0)
    """
    return float(np.clip(np.floor(WIDEST / width / STEP) * STEP, 1.0, most))


@checked
def median_across(areas: NDArray[np.integer]) -> float:
    """The median diameter of discs of these areas, in pixels; areas of 0 do not count, NaN where there is no other.

    >>> round(median_across(np.array([0, 314, 314])), 1)
    20.0
    """
    held = areas[areas > 0]
    return float(np.sqrt(4 / np.pi * np.median(held))) if len(held) else float("nan")


@dataclass(frozen=True, eq=False)
class Enlarged:
    """An image at ``times`` its size, between its pixels a straight line; each row is the same whatever is read with it."""

    source: Source
    times: float

    def __post_init__(self) -> None:
        require(self.times >= 1, "an image is enlarged at least once", given=self.times)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.source.size
        return round(height * self.times), round(width * self.times)

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Pixels (bottom − top, W, C)."""
        width, made = self.size[1], []
        for first in range(top, bottom, _ROWS):  # as numbers with fractions a whole band would be some GB
            made.append(self._between(first, min(first + _ROWS, bottom), width))
        return made[0] if len(made) == 1 else np.concatenate(made)

    def _between(self, top: int, bottom: int, width: int) -> NDArray[Any]:
        height = self.source.size[0]
        at = np.clip((np.arange(top, bottom) + 0.5) * (height / self.size[0]) - 0.5, 0, height - 1)
        first = np.floor(at).astype(np.int64)
        above, below = int(first[0]), min(int(first[-1]) + 2, height)
        held = self.source.rows(above, below)
        wide = cv2.resize(held.astype(np.float32), (width, below - above), interpolation=cv2.INTER_LINEAR)
        wide = wide.reshape(below - above, width, held.shape[2])
        share = (at - first).astype(np.float32)[:, None, None]
        low, high = wide[first - above], wide[np.minimum(first + 1, height - 1) - above]
        return np.rint(low + (high - low) * share).astype(held.dtype)

    def smaller(self, write: Callable[[int, NDArray[np.int32]], None]) -> Callable[[int, NDArray[np.int32]], None]:
        """A ``write(first row, labels)`` for labels of the enlarged image, which hands on those of the image itself."""
        height, width = self.source.size
        rows, columns = (places_of(side, self.times) for side in (height, width))

        def written(top: int, labels: NDArray[np.int32]) -> None:
            own = np.flatnonzero((rows >= top) & (rows < top + len(labels)))
            if len(own):
                write(int(own[0]), np.ascontiguousarray(labels[rows[own] - top][:, columns]))

        return written


@checked
def enlarged(source: Source, times: float) -> Source:
    """An image at ``times`` its size; itself where that is 1."""
    return Enlarged(source, times) if times > 1 else source


@checked
def places_of(side: int, times: float) -> NDArray[np.int64]:
    """Of each pixel of a side the one of the enlarged side that lies over its middle, (side,).

    >>> places_of(3, 2.0).tolist()
    [1, 3, 5]
    """
    return ((np.arange(side) + 0.5) * (round(side * times) / side)).astype(np.int64)


@checked
def enlarged_labels(labels: NDArray[Any], times: float) -> NDArray[Any]:
    """Labels (H, W) at ``times`` their size: each pixel has the label of the one it lies in."""
    if times == 1:
        return labels
    sides = [(side, round(side * times)) for side in labels.shape]
    return labels[np.ix_(*(((np.arange(new) + 0.5) * (side / new)).astype(np.int64) for side, new in sides))]


@dataclass(frozen=True, eq=False)
class Middle:
    """The middle of an image, of at most ``side`` pixels along each of its sides."""

    source: Source
    side: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        height, width = self.source.size
        return min(height, self.side), min(width, self.side)

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Pixels (bottom − top, W, C)."""
        (height, width), (all_rows, all_columns) = self.size, self.source.size
        down, right = (all_rows - height) // 2, (all_columns - width) // 2
        return self.source.rows(down + top, down + bottom)[:, right : right + width]

"""Shapes that annotation files describe objects by, each drawn into the pixels of its image: polygons, boxes, run lengths.

Coordinates are those of COCO: x to the right, y down, and the first pixel covers 0 … 1 in both. A pixel belongs to a shape
when its centre does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.phrases import count
from overread.images.outlines.raster import Patch

#: No image within the limits is as wide; what lies farther out is no coordinate.
_FARTHEST = 1e7
#: Corners of one polygon, and runs of one object.
MOST_CORNERS, MOST_RUNS = 1_000_000, 10_000_000
CUT = "reaching beyond the image, cut at its border"


class Shape(Protocol):
    """One object, however it is described."""

    def patch(self, size: tuple[int, int], name: str) -> Patch:
        """Its pixels in an image of this height and width."""
        ...


@dataclass(frozen=True, eq=False)
class Polygons:
    """The union of ``rings`` (n, 2), corners as x and y, without what lies in ``holes``."""

    rings: tuple[NDArray[np.float64], ...]
    holes: tuple[NDArray[np.float64], ...] = ()

    def patch(self, size: tuple[int, int], name: str) -> Patch:
        """Its pixels in an image of this height and width."""
        corners = np.concatenate(self.rings)
        low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
        left, top = (int(max(0, v)) for v in low)
        right, bottom = int(min(size[1], high[0])), int(min(size[0], high[1]))
        out = bool((low < 0).any() or high[0] > size[1] or high[1] > size[0])
        if right <= left or bottom <= top:
            return Patch(0, 0, np.zeros((0, 0), bool), name)
        mask = np.zeros((bottom - top, right - left), bool)
        for ring in self.rings:
            _fill(mask, ring - (left, top), True)
        for hole in self.holes:
            _fill(mask, hole - (left, top), False)
        return Patch(top, left, mask, name, CUT if out and mask.any() else "")


@dataclass(frozen=True)
class Box:
    """A rectangle that stands for the ellipse within it, since no cell fills its corners."""

    left: float
    top: float
    right: float
    bottom: float

    def patch(self, size: tuple[int, int], name: str) -> Patch:
        """The ellipse's pixels in an image of this height and width."""
        left, top = int(max(0, np.floor(self.left))), int(max(0, np.floor(self.top)))
        right, bottom = int(min(size[1], np.ceil(self.right))), int(min(size[0], np.ceil(self.bottom)))
        out = self.left < 0 or self.top < 0 or self.right > size[1] or self.bottom > size[0]
        if right <= left or bottom <= top:
            return Patch(0, 0, np.zeros((0, 0), bool), name)
        y, x = np.arange(top, bottom)[:, None] + 0.5, np.arange(left, right) + 0.5
        wide, high = max(self.right - self.left, 1e-9) / 2, max(self.bottom - self.top, 1e-9) / 2
        inside = ((x - self.left - wide) / wide) ** 2 + ((y - self.top - high) / high) ** 2 <= 1
        return Patch(top, left, inside, name, CUT if out and inside.any() else "")


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs of pixels: ``starts`` from 0 and ``lengths`` (n,), counted down the columns or along the ``rows``.

    ``size``: the height and width that they were counted in, where that is known.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: bool = False
    size: tuple[int, int] | None = None

    def patch(self, size: tuple[int, int], name: str) -> Patch:
        """Its pixels in an image of this height and width; raises :class:`ImageError` where the runs do not fit it."""
        if self.size is not None and self.size != size:
            raise ImageError("run lengths are of another size than the image", given=f"{self.size[1]} × {self.size[0]} for {size[1]} × {size[0]} pixels")  # fmt: skip
        ends, pixels = self.starts + self.lengths, size[0] * size[1]
        if len(ends) and (int(ends.max()) > pixels or int(self.starts.min()) < 0 or int(self.lengths.min()) < 0):
            raise ImageError("run lengths reach beyond the image", given=f"pixel {int(ends.max()):,} of {pixels:,}",
                             todo="see that they belong to this image")  # fmt: skip
        many = int(self.lengths.sum())
        if many > pixels:
            raise ImageError("run lengths of one object overlap", given=f"{many:,} pixels of {pixels:,}")
        flat = np.repeat(self.starts - (np.cumsum(self.lengths) - self.lengths), self.lengths) + np.arange(many)
        columns, rows = np.divmod(flat, size[0])
        if self.rows:
            rows, columns = np.divmod(flat, size[1])
        if not many:
            return Patch(0, 0, np.zeros((0, 0), bool), name)
        top, left = int(rows.min()), int(columns.min())
        mask = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), bool)
        mask[rows - top, columns - left] = True
        return Patch(top, left, mask, name)


@dataclass(frozen=True, eq=False)
class ImageShapes:
    """What an annotation file holds of one image: each shape with its class, and the ``size`` that the file says.

    A shape that could not be read is its error, which is raised when the image is asked for.
    """

    shapes: tuple[tuple[Shape | ImageError, str], ...] = ()
    size: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> set[str]:
        """The classes of its objects."""
        return {name for _, name in self.shapes}

    @property
    def told(self) -> tuple[str, ...]:
        """What is to be said of them: the notes, and how many are boxes."""
        boxes = sum(isinstance(shape, Box) for shape, _ in self.shapes)
        return (
            *self.notes,
            *([f"{count(boxes, 'box stands', 'boxes stand')} for the ellipse within"] if boxes else []),
        )

    def patches(self, size: tuple[int, int], rows: bool | None = None) -> Iterator[Patch]:
        """Each object's pixels in an image of this size; ``rows``: run lengths go along rows, if that is said."""
        if rows is None and size[0] != size[1]:
            self._require_columns(size)
        for shape, name in self.shapes:
            if isinstance(shape, ImageError):
                raise shape
            turned = isinstance(shape, Runs) and shape.size is None and rows is not None
            yield (replace(shape, rows=rows) if turned else shape).patch(size, name)  # type: ignore[type-var]

    def _require_columns(self, size: tuple[int, int]) -> None:
        """Refuse run lengths of unknown direction that fall apart down the columns and hold together along the rows."""
        runs = [shape for shape, _ in self.shapes if isinstance(shape, Runs) and shape.size is None and not shape.rows][
            :20
        ]
        apart = [[_pieces(replace(shape, rows=way).patch(size, "").pixels) for shape in runs] for way in (False, True)]
        if runs and sum(apart[0]) > 3 * sum(apart[1]):
            raise ImageError("the run lengths go along rows rather than down columns", given=f"{sum(apart[0]):,} pieces against {sum(apart[1]):,}",
                             todo="write #order=rows behind the file")  # fmt: skip


def _pieces(pixels: NDArray[np.bool_]) -> int:
    from scipy import ndimage

    return int(ndimage.label(pixels)[1])


def _fill(mask: NDArray[np.bool_], corners: NDArray[np.float64], value: bool) -> None:
    from skimage.draw import polygon

    rows, columns = polygon(
        corners[:, 1] - 0.5, corners[:, 0] - 0.5, mask.shape
    )  # its pixels have whole numbers as centres
    mask[rows, columns] = value


@checked
def ring_of(corners: Sequence[Any]) -> NDArray[np.float64]:
    """Corners (n, 2) from ``x, y, x, y …`` or pairs. Raises :class:`ImageError` for fewer than three, or no numbers."""
    if len(corners) > 2 * MOST_CORNERS:
        raise ImageError("a polygon has too many corners", given=f"{len(corners):,}")
    try:
        found = np.asarray(corners, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError("the corners of a polygon are numbers", given=str(error)[:80]) from error
    if found.ndim not in (1, 2) or found.size % 2 or (found.ndim == 2 and found.shape[1] != 2):
        raise ImageError("a polygon has an x and a y for each corner", given=f"{found.size:,} numbers")
    found = found.reshape(-1, 2)
    if len(found) < 3:
        raise ImageError("a polygon has at least three corners", given=f"{len(found)}")
    _require_near(found)
    return found


def _require_near(values: NDArray[np.float64]) -> None:
    if not np.isfinite(values).all() or float(np.abs(values).max(initial=0)) > _FARTHEST:
        raise ImageError("a coordinate is no number of pixels", given="NaN, infinity or beyond ten million")


@checked
def box_of(left: Any, top: Any, right: Any, bottom: Any) -> Box:
    """A box from its sides. Raises :class:`ImageError` for what is no number, or turned round."""
    try:
        sides = [float(value) for value in (left, top, right, bottom)]
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError("the sides of a box are numbers", given=str((left, top, right, bottom))[:80]) from error
    _require_near(np.array(sides))
    if sides[2] < sides[0] or sides[3] < sides[1]:
        raise ImageError("a box ends before it begins", given=str(tuple(sides))[:80])
    return Box(*sides)


@checked
def counts_of(text: str) -> list[int]:
    """The counts of a compressed run length of COCO (``rleFrString``): five bits a character, the third on less the one two before.

    Raises :class:`ImageError` for characters that are none of its own, and for more counts than an image can have.

    >>> counts_of("61X1")
    [6, 1, 40]
    """
    if len(text) > 4 * MOST_RUNS:
        raise ImageError("a run length is too long", given=f"{len(text):,} characters")
    counts: list[int] = []
    at = 0
    data = text.encode("ascii", "replace")
    while at < len(data):
        value, shift, more = 0, 0, True
        while more:
            if at >= len(data) or shift > 40:
                raise ImageError("a compressed run length is cut off or damaged", given=f"{len(text):,} characters")
            part = data[at] - 48
            if not 0 <= part < 64:
                raise ImageError("a compressed run length holds a strange character", given=repr(chr(data[at])))
            value |= (part & 0x1F) << shift
            more, at, shift = bool(part & 0x20), at + 1, shift + 5
            if not more and part & 0x10:
                value |= -1 << shift
        if len(counts) > 2:
            value += counts[-2]
        counts.append(value)
    return counts


@checked
def runs_of_counts(counts: Iterable[int], size: tuple[int, int]) -> Runs:
    """Runs down the columns from COCO's counts, of the background and of the object by turns. Raises :class:`ImageError`
    where they do not add up to the pixels of ``size``."""
    try:
        lengths = np.asarray(list(counts), np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageError("the counts of a run length are whole numbers", given=str(error)[:80]) from error
    if lengths.ndim != 1 or len(lengths) > MOST_RUNS or (lengths < 0).any() or (lengths > size[0] * size[1]).any():
        raise ImageError("the counts of a run length are not valid", given=f"{lengths.size:,} counts")
    if int(lengths.sum()) != size[0] * size[1]:
        raise ImageError("the counts of a run length do not add up to the image", given=f"{int(lengths.sum()):,} for {size[1]} × {size[0]} pixels")  # fmt: skip
    starts = np.cumsum(lengths) - lengths
    return Runs(starts[1::2], lengths[1::2], False, size)


@checked
def runs_of_pairs(text: str, *, rows: bool = False) -> Runs:
    """Runs from ``start length start length …``, starts from 1, as Kaggle writes them; blank is an object without pixels.

    Raises :class:`ImageError` for what is no pairs of whole numbers.
    """
    if len(text) > 16 * MOST_RUNS:
        raise ImageError("a run length is too long", given=f"{len(text):,} characters")
    words = text.split()
    if len(words) % 2 or not all(word.isdecimal() and len(word) < 16 for word in words):
        strange = next((word for word in words if not word.isdecimal()), f"{len(words)} numbers")
        raise ImageError("run lengths are pairs of a start and a length", given=strange[:40])
    pairs = np.array(words, np.int64).reshape(-1, 2)
    return Runs(pairs[:, 0] - 1, pairs[:, 1], rows)

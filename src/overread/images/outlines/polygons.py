"""From a label image to polygons: exact along the edges of pixels, as files of other programs need them, or smooth to look at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require

#: A closed line (P, 2) of (x, y) in pixels, the last point joined to the first; pixel (0, 0) lies between (0, 0) and (1, 1).
Ring: TypeAlias = NDArray[np.int64]
#: A piece of an object: its outer ring, with a positive area by :func:`ring_area`, then its holes, with negative ones.
Polygon: TypeAlias = tuple[Ring, ...]

#: The neighbours (down, right) of a pixel towards which an edge of it is a boundary, and the corner at which that edge
#: starts when it is followed with the pixel on its right; in the order of :data:`_COURSES`.
_EDGES = (((-1, 0), (0, 0)), ((0, 1), (1, 0)), ((1, 0), (1, 1)), ((0, -1), (0, 1)))
#: How an edge goes (x, y): to the right, down, to the left, up.
_COURSES = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])


@checked
def object_polygons(labels: NDArray[np.integer]) -> Iterator[tuple[int, tuple[Polygon, ...]]]:
    """Each object of a label image (H, W), 0 for background, with its pieces, in the order of the labels.

    Pixels that touch at a corner only are two pieces; a ring never touches itself, so that the polygons are valid as
    OGC 06-103r4 (6.1.11) wants them. The areas of the rings sum to the number of pixels. Raises :class:`ArgumentError`
    for an image that is not flat.
    """
    require(labels.ndim == 2, "a label image has two axes", given=labels.shape)
    return _each(labels)


def _each(labels: NDArray[np.integer]) -> Iterator[tuple[int, tuple[Polygon, ...]]]:
    from scipy import ndimage

    for number, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is not None:
            rows, columns = place
            mask = labels[place] == number
            yield number, tuple(_pieces(mask, columns.start, rows.start))


@checked
def ring_area(ring: NDArray[np.number]) -> float:
    """The area of a closed line (P, 2) by the shoelace formula: positive where it turns from x to y, as outer rings do.

    >>> ring_area(np.array([[0, 0], [2, 0], [2, 1], [0, 1]]))
    2.0
    """
    x, y = np.asarray(ring, np.float64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


@checked
def smooth_ring(ring: NDArray[np.integer]) -> NDArray[np.float64]:
    """A ring (P, 2) with its corners cut half a pixel from each, as marching squares would draw the mask: to look at.

    >>> smooth_ring(np.array([[0, 0], [1, 0], [1, 1], [0, 1]])).tolist()
    [[0.5, 0.0], [1.0, 0.5], [0.5, 1.0], [0.0, 0.5]]
    """
    here = np.asarray(ring, np.float64)
    after = np.roll(here, -1, axis=0) - here
    step = after / np.maximum(np.abs(after).sum(axis=1, keepdims=True), 1)
    cut = np.stack([here + step / 2, here + after - step / 2], axis=1).reshape(-1, 2)
    cut = cut[(cut != np.roll(cut, 1, axis=0)).any(axis=1)]  # an edge of one pixel is cut to one point
    return _straightened(cut)


def _straightened(ring: NDArray[Any]) -> NDArray[Any]:
    """Without points on the line between their neighbours."""
    before, after = ring - np.roll(ring, 1, axis=0), np.roll(ring, -1, axis=0) - ring
    turns = before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]
    return ring[turns] if turns.any() else ring


def _pieces(mask: NDArray[np.bool_], left: int, top: int) -> Iterator[Polygon]:
    """The pieces of one object from its mask (h, w), the largest first."""
    from scipy import ndimage

    piece, many = ndimage.label(mask)  # pixels that share an edge
    rings: list[list[Ring]] = [[] for _ in range(many)]
    for ring, of in _loops(mask, piece):
        rings[of - 1].append(ring + (left, top))
    ordered = [tuple(sorted(held, key=ring_area, reverse=True)) for held in rings]
    yield from sorted(ordered, key=lambda polygon: -ring_area(polygon[0]))


def _loops(mask: NDArray[np.bool_], piece: NDArray[np.integer]) -> Iterator[tuple[Ring, int]]:
    """Closed lines along the edges of pixels, with the object on their right, and the piece that they bound."""
    padded, (height, width) = np.pad(mask, 1), mask.shape
    starts, courses, of = [], [], []
    for course, ((down, right), start) in enumerate(_EDGES):
        beyond = padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        y, x = np.nonzero(mask & ~beyond)
        starts.append(np.stack([x + start[0], y + start[1]], axis=1))
        courses.append(np.full(len(x), course))
        of.append(piece[y, x])
    begin, way, bounded = np.concatenate(starts), np.concatenate(courses), np.concatenate(of)
    after = _successors(begin, way, (height, width)).tolist()
    points, left = begin.tolist(), np.ones(len(begin), bool)
    for first in range(len(begin)):
        if left[first]:
            line, edge = [], first
            while left[edge]:
                left[edge] = False
                line.append(tuple(points[edge]))
                edge = after[edge]
            for loop in _simple(line):
                yield _straightened(np.array(loop, np.int64)), int(bounded[first])


def _successors(start: NDArray[np.int64], course: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Of each edge that which goes on from its end: to the right where there are two, along the same pixel."""
    leaving = np.full((shape[0] + 1, shape[1] + 1, 4), -1)
    leaving[start[:, 1], start[:, 0], course] = np.arange(len(start))
    at = start + _COURSES[course]
    options = [leaving[at[:, 1], at[:, 0], (course + turn) % 4] for turn in (1, 0, 3)]
    return np.where(options[0] >= 0, options[0], np.where(options[1] >= 0, options[1], options[2]))


def _simple(line: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """A closed line that may pass a point twice, as lines that do not."""
    held: list[tuple[int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for point in line:
        if point in seen:
            place = seen[point]
            yield held[place:]
            for gone in held[place + 1 :]:
                del seen[gone]
            del held[place + 1 :]
        else:
            seen[point] = len(held)
            held.append(point)
    yield held

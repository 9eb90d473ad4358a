"""What counts as one lesion when a search for lesions is judged: the regions of CAMELYON16's own evaluation.

After ``evaluation_FROC.py`` of the challenge (Ehteshami Bejnordi et al. 2017, JAMA 318:2199, supplement): outlines grow by
37.5 µm to each side (75 µm, about five tumour cells, on their axis), what then touches is one region, its holes are filled,
and a region whose longer axis is below 275 µm holds isolated tumour cells: fewer than 200 µm before it grew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.outlines.outline_shapes import Polygons
from overread.images.outlines.raster import Patch

#: Microns of a pixel of the challenge's masks: level 5 of slides of 0.243 µm a pixel.
JUDGED_MPP = 0.243 * 2**5
#: Microns by which outlines grow, both sides together, and the axis below which a region is isolated tumour cells.
GROWTH, ISOLATED = 75.0, 275.0
#: Cells over which outlines that lie near each other may span: some 64 × 64 mm.
_MOST_CELLS = 2**26


@dataclass(frozen=True, eq=False)
class JudgedRegion:
    """One region: its ``mask`` (h, w) in cells of ``JUDGED_MPP``, where it begins (``left``, ``top``, µm), its longer axis
    ``major`` (µm, grown), the positions of its ``outlines``, and whether it is ``isolated`` tumour cells."""

    left: float
    top: float
    mask: NDArray[np.bool_]
    major: float
    outlines: tuple[int, ...]

    @property
    def isolated(self) -> bool:
        """Whether it is isolated tumour cells, which are not judged."""
        return self.major < ISOLATED

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of its cells (x, y), µm."""
        rows, columns = np.nonzero(self.mask)
        return self.left + (float(columns.mean()) + 0.5) * JUDGED_MPP, self.top + (float(rows.mean()) + 0.5) * JUDGED_MPP  # fmt: skip

    def holds(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which points (N,), µm, lie in it: (N,)."""
        column, row = np.floor((x - self.left) / JUDGED_MPP), np.floor((y - self.top) / JUDGED_MPP)
        found = (row >= 0) & (column >= 0) & (row < self.mask.shape[0]) & (column < self.mask.shape[1])
        found[found] = self.mask[row[found].astype(np.int64), column[found].astype(np.int64)]
        return found


@checked
def judged_regions(
    outlines: Sequence[tuple[NDArray[np.float64], Sequence[NDArray[np.float64]]]],
) -> tuple[JudgedRegion, ...]:
    """The regions of outlines, each a ring (P, 2) and its holes in microns; in the order of their first outline.

    Source: ``computeEvaluationMask`` and ``computeITCList`` of CAMELYON16. Every outline is in a region, also one that is
    smaller than a cell, and in several where it has lobes with less than a cell between them. Raises :class:`ImageError` for
    outlines that span more than any slide does.
    """
    if not outlines:
        return ()
    boxes = _boxes(outlines)
    found = [each for near in _near(boxes) for each in _regions(near, boxes, outlines)]
    return tuple(sorted(found, key=lambda region: region.outlines))


@checked
def refuse_too_wide(outlines: Sequence[tuple[NDArray[np.float64], Sequence[NDArray[np.float64]]]]) -> None:
    """Raise :class:`ImageError` for the outlines that :func:`judged_regions` would, without drawing any."""
    if not outlines:
        return
    boxes = _boxes(outlines)
    if math.prod(_cells(boxes).tolist()) > _MOST_CELLS:  # all together: else no few of them span more
        for near in _near(boxes):
            _extent(boxes[near])


def _boxes(outlines: Sequence[tuple[NDArray[np.float64], Sequence[NDArray[np.float64]]]]) -> NDArray[np.float64]:
    """(N, 4) left, top, right and bottom of the cells that each outline may grow into, µm."""
    margin = GROWTH / 2 + 2 * JUDGED_MPP
    return np.array([(*ring.min(axis=0) - margin, *ring.max(axis=0) + margin) for ring, _ in outlines])


def _first(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """The first cell (x, y) of what boxes span."""
    return np.floor(boxes[:, :2].min(axis=0) / JUDGED_MPP).astype(np.int64)


def _cells(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many cells (x, y) boxes span together."""
    return np.ceil(boxes[:, 2:].max(axis=0) / JUDGED_MPP).astype(np.int64) - _first(boxes)


def _extent(boxes: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first cell of outlines that lie near each other, and how many they span."""
    first, size = _first(boxes), _cells(boxes)
    if math.prod(size.tolist()) > _MOST_CELLS:
        raise ImageError("outlines span more than a slide does", given=f"{size[0] * JUDGED_MPP / 1000:,.0f} × {size[1] * JUDGED_MPP / 1000:,.0f} mm", todo="see that they are in pixels of the finest level")  # fmt: skip
    return first, size


def _regions(
    near: NDArray[np.int64], boxes: NDArray[np.float64], outlines: Sequence[tuple[NDArray[np.float64], Sequence[NDArray[np.float64]]]]
) -> list[JudgedRegion]:  # fmt: skip
    """The regions of outlines that lie near each other."""
    from scipy import ndimage
    from skimage.measure import label, regionprops

    first, size = _extent(boxes[near])
    mask = np.zeros((int(size[1]), int(size[0])), bool)
    place: dict[int, Patch] = {}
    for at in near.tolist():
        ring, holes = outlines[at]
        patch = Polygons((ring / JUDGED_MPP - first,), tuple(hole / JUDGED_MPP - first for hole in holes)).patch(mask.shape, "")  # fmt: skip
        mask[patch.slices] |= patch.pixels
        if not patch.pixels.any():  # smaller than a cell: that of its first corner
            column, row = np.clip(np.floor(ring[0] / JUDGED_MPP).astype(np.int64) - first, 0, size - 1)
            patch = Patch(int(row), int(column), np.ones((1, 1), bool), "")
            mask[patch.slices] = True
        place[at] = patch
    grown = ndimage.distance_transform_edt(~mask) < GROWTH / 2 / JUDGED_MPP
    labels = label(ndimage.binary_fill_holes(grown), connectivity=2)
    of = {at: set(np.unique(labels[patch.slices][patch.pixels]).tolist()) for at, patch in place.items()}
    found = []
    for each in regionprops(labels):
        mine = tuple(sorted(at for at, numbers in of.items() if each.label in numbers))
        top, left, _, _ = each.bbox
        corner = (first + (left, top)) * JUDGED_MPP
        found.append(JudgedRegion(float(corner[0]), float(corner[1]), each.image, float(each.axis_major_length) * JUDGED_MPP, mine))  # fmt: skip
    return found


def _near(boxes: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Positions of boxes (left, top, right, bottom) that touch each other, set by set."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    order = np.argsort(boxes[:, 0], kind="stable")
    sorted_ = boxes[order]
    beyond = np.searchsorted(sorted_[:, 0], sorted_[:, 2], side="right")
    ones, twos = [], []
    for at, last in enumerate(beyond.tolist()):
        others = np.arange(at + 1, last)
        touch = others[(sorted_[others, 1] <= sorted_[at, 3]) & (sorted_[others, 3] >= sorted_[at, 1])]
        ones.append(np.full(len(touch), order[at]))
        twos.append(order[touch])
    one, two = np.concatenate(ones), np.concatenate(twos)
    links = coo_array((np.ones(len(one)), (one, two)), shape=(len(boxes),) * 2)
    _, of = connected_components(links, directed=False)
    together = np.argsort(of, kind="stable")
    return np.split(together, np.flatnonzero(np.diff(of[together])) + 1)

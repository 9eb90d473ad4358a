"""Objects out of what a network says of an image: pure functions of arrays, without torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.networks.instance_heads import Cutting, Layout

#: How far a star is enlarged before what is no foreground is taken away from it.
_GROWN = 1.15


@dataclass(frozen=True, eq=False)
class Maps:
    """What a network says of an image or a band of one.

    ``pixels`` (P, H, W): probabilities in 255ths, uint8. ``places`` (Q, h, w) float16: heat, offsets or rays, classes;
    a place for ``stride`` × ``stride`` pixels, so that h = ⌈H / stride⌉.
    """

    pixels: NDArray[np.uint8]
    places: NDArray[np.float16]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def rows(self, top: int, bottom: int, stride: int) -> Maps:
        """The band of rows ``top`` … ``bottom`` in pixels; ``top`` is a multiple of the stride."""
        return Maps(self.pixels[:, top:bottom], self.places[:, top // stride : -(-bottom // stride)])


@checked
def cut(maps: Maps, layout: Layout, cutting: Cutting) -> NDArray[np.int32]:
    """The objects (H, W) in what is said of an image: 0 the background, 1 … K.

    What is smaller than ``cutting.minimum`` is left out; of an object in several pieces the largest stays.
    """
    require(len(maps.pixels) == layout.pixels and len(maps.places) == layout.places, "the maps are not those of the layout",
            given=f"{len(maps.pixels)} and {len(maps.places)} for {layout}")  # fmt: skip
    return _whole(_CUTS[layout.head](maps, layout, cutting), cutting.minimum)


def foreground_of(maps: Maps, cutting: Cutting) -> NDArray[np.bool_]:
    """(H, W) which pixels are of some object."""
    return maps.pixels[0] >= max(1, round(cutting.foreground * 255))


def _connected(maps: Maps, layout: Layout, cutting: Cutting) -> NDArray[np.int32]:
    """The connected parts of the foreground, by sides."""
    return _components(foreground_of(maps, cutting))


def _within_rims(maps: Maps, layout: Layout, cutting: Cutting) -> NDArray[np.int32]:
    """The connected parts of the foreground within the rims, grown over it by a watershed."""
    from skimage.segmentation import watershed

    there = foreground_of(maps, cutting)
    seeds = _components(there & (maps.pixels[1] <= round(cutting.centre * 255)))
    sizes = np.bincount(seeds.ravel())
    small = sizes < max(4, cutting.minimum // 4)
    small[0] = False
    seeds[small[seeds]] = 0
    steep = maps.pixels[1].astype(np.int32) - maps.pixels[0]
    return np.asarray(watershed(steep, seeds, mask=there, compactness=cutting.compactness), np.int32)


def _by_offsets(maps: Maps, layout: Layout, cutting: Cutting) -> NDArray[np.int32]:
    """Each place goes to the centre that is nearest to where it points."""
    rows, columns = peaks(maps.places[0], cutting)
    height, width = maps.size
    h, w = maps.places.shape[1:]
    if not len(rows):
        return np.zeros((height, width), np.int32)
    empty = np.ones((h, w), np.uint8)
    empty[rows, columns] = 0
    _, nearest = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    names = np.zeros(int(nearest.max()) + 1, np.int32)
    names[nearest[rows, columns]] = np.arange(1, len(rows) + 1)
    owner = names[nearest]
    offsets = maps.places[1:3].astype(np.float32) / layout.stride
    down = np.clip(np.rint(np.arange(h, dtype=np.float32)[:, None] + offsets[0]), 0, h - 1).astype(np.intp)
    right = np.clip(np.rint(np.arange(w, dtype=np.float32)[None] + offsets[1]), 0, w - 1).astype(np.intp)
    voted = owner[down, right]
    return _unfolded(voted, layout.stride, (height, width)) * foreground_of(maps, cutting)


def _by_stars(maps: Maps, layout: Layout, cutting: Cutting) -> NDArray[np.int32]:
    """Stars around the peaks, the surest on top, each only where there is foreground."""
    rows, columns = peaks(maps.places[0], cutting)
    heat = maps.places[0, rows, columns].astype(np.float32)
    rays = np.maximum(maps.places[1 : 1 + layout.rays, rows, columns].astype(np.float32).T, 0.5)  # (n, rays)
    middle = (layout.stride - 1) / 2
    y, x = (each.astype(np.float64) * layout.stride + middle for each in (rows, columns))
    kept = np.flatnonzero(surest(y, x, rays, heat, cutting.apart))
    angles = np.arange(layout.rays) * (2 * np.pi / layout.rays)
    made = np.zeros(maps.size, np.int32)
    for name, star in enumerate(kept[np.argsort(heat[kept], kind="stable")], 1):
        grown = rays[star] * _GROWN
        corners = np.stack([x[star] + grown * np.cos(angles), y[star] + grown * np.sin(angles)], axis=1)
        cv2.fillPoly(made, [np.rint(corners * 16).astype(np.int32)], int(name), shift=4)
    return made * foreground_of(maps, cutting)


_CUTS: dict[str, Callable[[Maps, Layout, Cutting], NDArray[np.int32]]] = {
    "sigmoid": _connected, "boundary": _within_rims, "offsets": _by_offsets, "stars": _by_stars,
}  # fmt: skip


@checked
def peaks(heat: NDArray[np.float16], cutting: Cutting) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the places that say most within ``cutting.apart`` places (of stars: 1), and enough; of a
    plateau the first."""
    reach = max(1, round(cutting.apart)) if cutting.apart >= 1 else 1
    said = heat.astype(np.float32)
    window = (
        cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        if reach > 1
        else np.ones((3, 3), np.uint8)
    )
    highest = (said >= cv2.dilate(said, window)) & (said > cutting.centre)
    _, parts = cv2.connectedComponents(highest.astype(np.uint8), connectivity=8)
    rows, columns = np.nonzero(highest)
    _, first = np.unique(parts[rows, columns], return_index=True)
    first = np.sort(first)
    return rows[first], columns[first]


@checked
def surest(
    y: NDArray[np.float64], x: NDArray[np.float64], rays: NDArray[np.float32], heat: NDArray[np.float32], share: float
) -> NDArray[np.bool_]:
    """(n,) which stars stay: none whose centre lies within ``share`` of the rays of a surer one that stays."""
    from scipy.spatial import cKDTree

    kept = np.ones(len(y), bool)
    if len(y) < 2 or share <= 0:
        return kept
    points = np.stack([y, x], axis=1)
    reach = float(rays.max()) * share
    pairs = cKDTree(points).query_pairs(min(reach, 400.0), output_type="ndarray")
    first, second = pairs[:, 0], pairs[:, 1]
    swapped = heat[second] > heat[first]
    sure, other = np.where(swapped, second, first), np.where(swapped, first, second)
    way = points[other] - points[sure]
    angle = np.arctan2(way[:, 0], way[:, 1]) % (2 * np.pi) / (2 * np.pi) * rays.shape[1]
    below = np.floor(angle).astype(np.int64) % rays.shape[1]
    part = angle - np.floor(angle)
    length = rays[sure, below] * (1 - part) + rays[sure, (below + 1) % rays.shape[1]] * part
    inside = np.hypot(way[:, 0], way[:, 1]) < share * length
    sure, other = sure[inside], other[inside]
    for place in np.lexsort((sure, -heat[sure])):  # the surest first; few pairs are left
        if kept[sure[place]]:
            kept[other[place]] = False
    return kept


@checked
def kinds_of(labels: NDArray[np.int32], maps: Maps, layout: Layout) -> NDArray[np.float64]:
    """(K, classes) the sum over the places of each object of its log probabilities of classes, and so votes for them."""
    from scipy.special import log_softmax

    count = int(labels.max(initial=0))
    if layout.classes == 1 or not count:
        return np.zeros((count, layout.classes))
    said = log_softmax(maps.places[layout.geometry :].astype(np.float64), axis=0)
    grid = labels[:: layout.stride, :: layout.stride].ravel()
    return np.stack([np.bincount(grid, each.ravel(), count + 1)[1:] for each in said], axis=1)


def _components(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.asarray(cv2.connectedComponents(mask.astype(np.uint8), connectivity=4, ltype=cv2.CV_32S)[1], np.int32)


def _unfolded(places: NDArray[np.int32], stride: int, size: tuple[int, int]) -> NDArray[np.int32]:
    made = np.repeat(np.repeat(places, stride, axis=0), stride, axis=1) if stride > 1 else places
    return made[: size[0], : size[1]]


def _whole(labels: NDArray[np.int32], minimum: int) -> NDArray[np.int32]:
    """Objects of one piece each, none smaller than ``minimum``, numbered anew in the order of their first pixels."""
    from skimage.measure import label

    pieces = label(labels, background=0, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    if len(sizes) == 1:
        return np.zeros(labels.shape, np.int32)
    owner = np.zeros(len(sizes), np.int64)
    owner[pieces.ravel()] = labels.ravel()
    largest = np.lexsort((np.arange(len(sizes)), -sizes, owner))
    first = np.ones(len(sizes), bool)
    first[1:] = owner[largest][1:] != owner[largest][:-1]
    kept = np.zeros(len(sizes), bool)
    kept[largest[first]] = True
    kept &= sizes >= max(minimum, 1)
    kept[0] = False
    names = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return names[pieces]

"""Outlines as a file holds them: rings in pixels of a slide's level 0, with the names of their groups; and their geometry."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.images.outlines.polygons import ring_area

#: Pairs of edges that are compared when a ring is asked whether it crosses itself; beyond, nobody knows.
_MOST_PAIRS = 20_000_000


@dataclass(frozen=True, eq=False)
class DrawnOutline:
    """One outline: ``ring`` (N, 2) as x and y in pixels of level 0, its ``holes``, and its ``groups`` from the inner to the
    outer, without blank ones."""

    ring: NDArray[np.float64]
    groups: tuple[str, ...] = ()
    holes: tuple[NDArray[np.float64], ...] = ()


@dataclass(frozen=True, eq=False)
class DrawnOutlines:
    """What a file holds, and what is to be said of it."""

    outlines: tuple[DrawnOutline, ...]
    notes: tuple[str, ...] = ()


@checked
def inside(points: NDArray[np.number], ring: NDArray[np.number]) -> NDArray[np.bool_]:
    """Which points (N, 2) lie in a ring (P, 2), by the even-odd rule: (N,).

    >>> inside(np.array([[1.0, 1.0], [3.0, 1.0]]), np.array([[0, 0], [2, 0], [2, 2], [0, 2]])).tolist()
    [True, False]
    """
    from skimage.measure import points_in_poly

    low, high = ring.min(axis=0), ring.max(axis=0)
    found = ((points >= low) & (points <= high)).all(axis=1)
    if found.any():
        origin = np.asarray(ring[0], np.float64)  # slides are wide: from a corner of the ring
        found[found] = points_in_poly(points[found] - origin, ring - origin)
    return np.asarray(found)


@checked
def overlap(one: NDArray[np.number], other: NDArray[np.number]) -> bool:
    """Whether two rings (P, 2) have a corner of one in the other: rings that cross without one are not found."""
    apart = (one.min(axis=0) > other.max(axis=0)).any() or (one.max(axis=0) < other.min(axis=0)).any()
    return not apart and bool(inside(one, other).any() or inside(other, one).any())


@checked
def meet(one: NDArray[np.number], other: NDArray[np.number]) -> bool:
    """Whether the areas of two rings (P, 2) may have a part in common: told by their corners, also those of equal rings, and by
    edges that cross; True for rings too long to compare."""
    if (one.min(axis=0) >= other.max(axis=0)).any() or (one.max(axis=0) <= other.min(axis=0)).any():
        return False
    if len(one) * len(other) > _MOST_PAIRS:
        return True
    if inside(one, other).any() or inside(other, one).any() or inside(np.array([centroid(one)]), other).any():
        return True
    a, b = (np.repeat(np.asarray(ring, np.float64), len(other), axis=0) for ring in (one, np.roll(one, -1, axis=0)))
    c, d = (np.tile(np.asarray(ring, np.float64), (len(one), 1)) for ring in (other, np.roll(other, -1, axis=0)))
    return bool(_cross(a, b, c, d).any())


@checked
def clipped(ring: NDArray[np.number], sides: NDArray[np.float64]) -> NDArray[np.float64]:
    """What of a ring (P, 2) lies within 0 … ``sides`` (2,): (Q, 2), of no corner where nothing does.

    Source: Sutherland and Hodgman 1974, "Reentrant polygon clipping", Comm. ACM 17:32. Parts that it falls into are joined
    along the border, which encloses nothing.
    """
    points = np.asarray(ring, np.float64)
    for axis in (0, 1):
        for sign, edge in ((1.0, 0.0), (-1.0, -float(sides[axis]))):  # keeps sign · value ≥ edge
            before = np.roll(points, 1, axis=0)
            now, was = sign * points[:, axis] - edge, sign * before[:, axis] - edge
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.where((now >= 0) != (was >= 0), was / (was - now), 0.0)[:, None]
            crossing = before + share * (points - before)
            crossing[:, axis] = sign * edge
            both = np.stack([crossing, points], axis=1).reshape(-1, 2)
            points = both[np.stack([(now >= 0) != (was >= 0), now >= 0], axis=1).reshape(-1)]
            if not len(points):
                return points
    return points


@checked
def crosses_itself(ring: NDArray[np.number]) -> bool | None:
    """Whether two edges of a closed line (P, 2) cross, other than at a shared corner; None for one too long to tell.

    >>> crosses_itself(np.array([[0, 0], [2, 2], [2, 0], [0, 2]])), crosses_itself(np.array([[0, 0], [2, 0], [2, 2]]))
    (True, False)
    """
    start = np.asarray(ring, np.float64)
    end = np.roll(start, -1, axis=0)
    moves = (start != end).any(axis=1)
    start, end = start[moves], end[moves]
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.argsort(low[:, 0], kind="stable")
    start, end, low, high = start[order], end[order], low[order], high[order]
    last = np.searchsorted(low[:, 0], high[:, 0], side="right")  # edges i + 1 … last − 1 begin before edge i ends
    many = np.maximum(last - np.arange(len(start)) - 1, 0)
    stop = np.cumsum(many)
    if len(stop) and int(stop[-1]) > _MOST_PAIRS:
        return None
    at = 0
    while at < len(many):  # about a million pairs at a time
        beyond = max(at + 1, int(np.searchsorted(stop, stop[at] - many[at] + 1_000_000)))
        one = np.repeat(np.arange(at, beyond), many[at:beyond])
        two = one + 1 + np.arange(len(one)) - np.repeat(stop[at:beyond] - many[at:beyond] - (stop[at] - many[at]), many[at:beyond])  # fmt: skip
        near = (low[one, 1] <= high[two, 1]) & (high[one, 1] >= low[two, 1])
        if _cross(start[one[near]], end[one[near]], start[two[near]], end[two[near]]).any():
            return True
        at = beyond
    return False


def _cross(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64], d: NDArray[np.float64]) -> NDArray[np.bool_]:  # fmt: skip
    """Whether edges a–b and c–d cross within both of them."""

    def side(p: NDArray[np.float64], q: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
        return (q[:, 0] - p[:, 0]) * (r[:, 1] - p[:, 1]) - (q[:, 1] - p[:, 1]) * (r[:, 0] - p[:, 0])

    return np.asarray((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0))


@checked
def centroid(ring: NDArray[np.number]) -> tuple[float, float]:
    """The centre of gravity of the area in a closed line (P, 2); the mean of its corners where it has none."""
    points = np.asarray(ring, np.float64)
    origin = points[0]
    x, y = (points - origin).T
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    area = ring_area(points - origin)
    if abs(area) < 1e-9:
        return float(points[:, 0].mean()), float(points[:, 1].mean())
    middle = [((v + np.roll(v, -1)) * cross).sum() / (6 * area) for v in (x, y)]
    return float(origin[0] + middle[0]), float(origin[1] + middle[1])


@checked
def longest_chord(ring: NDArray[np.number]) -> float:
    """The greatest distance between two corners (P, 2), by way of their convex hull."""
    import cv2
    from scipy.spatial.distance import pdist

    points = np.asarray(ring - ring[0], np.float32)
    hull = cv2.convexHull(points)[:, 0]
    return float(pdist(hull).max()) if len(hull) > 1 else 0.0

"""Which predicted object is which true one: by overlap, or by the distance of centres; what was missed, merged and split.

A match of two objects is a pair of an optimal assignment: as many pairs as can be above the threshold, and of those the
ones with the largest overlaps (or the smallest distances). Above an IoU of one half an object has at most one partner, so
nothing has to be chosen there. Only pairs that touch are looked at, so an image may hold 100,000 objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from overread.core.display import Shown
from overread.core.errors import InputError, checked, require
from overread.core.phrases import count
from overread.images.outlines.outlines import Outlines
from overread.stats.arrays import Floats, Integers
from overread.stats.overlap import Instances

__all__ = ["CentreMatch", "InstanceMatch", "assigned", "centres", "match_centres", "match_instances", "matched"]

TrueStatus = Literal["hit", "miss", "merged", "split"]
PredictedStatus = Literal["hit", "false", "merge", "split"]


@dataclass(frozen=True, eq=False)
class InstanceMatch(Shown):
    """The objects of one image, true (T,) and predicted (P,), and which are one.

    ``instances``: pixels of each and of each pair that touches; ``pairs`` (M, 2): which true object (its place, from 0)
    is which predicted one; ``iou`` (M,) of each; ``threshold`` that they exceed. ``true_classes`` and
    ``predicted_classes``: ``""`` where an object has none.
    """

    instances: Instances
    pairs: Integers
    iou: Floats
    threshold: float
    true_classes: tuple[str, ...] = field(default=(), compare=False)
    predicted_classes: tuple[str, ...] = field(default=(), compare=False)

    def __str__(self) -> str:
        return (
            f"{count(self.hits, 'hit')}, {self.missed:,} missed, {self.false:,} false at IoU above {self.threshold:g}"
        )

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row an object: ``side`` (truth or predicted), ``object`` (its number), ``class``, ``pixels``, ``status``, and of a
        hit the ``partner`` and the ``iou`` (blank without one)."""
        found = []
        for side, place, status, classes in (
            ("truth", 0, self.true_status, self.true_classes),
            ("predicted", 1, self.predicted_status, self.predicted_classes),
        ):
            names, others = (self.instances.true_names, self.instances.predicted_names)[:: 1 if place == 0 else -1]
            pixels = (self.instances.true, self.instances.predicted)[place]
            partner, iou = np.full(len(names), None, object), np.full(len(names), math.nan)
            partner[self.pairs[:, place]] = others[self.pairs[:, 1 - place]]
            iou[self.pairs[:, place]] = self.iou
            held = {
                "side": side,
                "object": names,
                "class": list(classes) or "",
                "pixels": pixels,
                "status": list(status),
            }
            found.append(pd.DataFrame(held).assign(partner=partner, iou=iou))
        return pd.concat(found, ignore_index=True)

    @property
    def hits(self) -> int:
        """True objects that were found."""
        return len(self.pairs)

    @property
    def missed(self) -> int:
        """True objects without a match: misses, merged and split ones."""
        return len(self.instances.true) - self.hits

    @property
    def false(self) -> int:
        """Predicted objects without a match."""
        return len(self.instances.predicted) - self.hits

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where nothing was predicted."""
        return _share(self.hits, len(self.instances.predicted))

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN without a true object."""
        return _share(self.hits, len(self.instances.true))

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); NaN where there is no object on either side."""
        return _share(2 * self.hits, len(self.instances.true) + len(self.instances.predicted))

    @property
    def ap(self) -> float:
        """TP / (TP + FP + FN); NaN where there is no object on either side."""
        return _share(self.hits, self.hits + self.missed + self.false)

    @cached_property
    def partner(self) -> Integers:
        """(T,) the predicted object that is each true one, −1 for none."""
        found = np.full(len(self.instances.true), -1)
        found[self.pairs[:, 0]] = self.pairs[:, 1]
        return found

    @property
    def true_status(self) -> tuple[TrueStatus, ...]:
        """(T,) ``hit``; else ``merged``, where more than half of it lies in a predicted object with others; else ``split``,
        where it holds more than half of several predicted ones; else ``miss``."""
        return tuple(_status(self.instances, self.pairs[:, 0], ("hit", "miss", "merged", "split")))  # type: ignore[arg-type]

    @property
    def predicted_status(self) -> tuple[PredictedStatus, ...]:
        """(P,) ``hit``; else ``split``, where it is one of several pieces of a true object; else ``merge``, where it holds
        several true ones; else ``false``."""
        found = _status(self.instances.swapped, self.pairs[:, 1], ("hit", "false", "split", "merge"))
        return tuple(found)  # type: ignore[arg-type]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _status(found: Instances, matched: Integers, words: tuple[str, str, str, str]) -> list[str]:
    """Of the true objects of ``found``: matched, nothing of it, inside one with others, holding several."""
    hit, none, inside, several = words
    status = np.full(len(found.true), none, object)
    status[found.held[1] >= 2] = several
    swallowed = (2 * found.shared > found.true[found.rows]) & (found.held[0][found.columns] >= 2)
    status[found.rows[swallowed]] = inside
    status[matched] = hit
    return [str(word) for word in status]


@checked
def match_instances(
    truth: Outlines | NDArray[Any], predicted: Outlines | NDArray[Any], *, iou: float = 0.5, of: str = ""
) -> InstanceMatch:
    """Match the objects of two label images by optimal assignment: pairs whose intersection over union exceeds ``iou``.

    ``truth`` and ``predicted``: outlines, or labels (H, W) or (D, H, W) of whole numbers, 0 for the background. ``iou`` in
    0 … 1, exceeded strictly (Caicedo et al. 2019; Kirillov et al. 2019). ``of``: the objects of a class alone, so that a
    hit has the right one. Raises :class:`InputError` where the two differ in size.

    >>> found = match_instances(np.array([[1, 1, 0, 2, 2]]), np.array([[7, 7, 7, 7, 7]]))
    >>> found.true_status, found.predicted_status
    (('merged', 'merged'), ('merge',))
    """
    require(0 <= iou < 1, "an IoU to exceed lies from 0 to below 1", given=iou)
    (a, kinds), (b, others) = _labels(truth), _labels(predicted)
    if a.shape != b.shape:
        raise InputError("the two label images differ in size", given=f"{a.shape} and {b.shape}")
    found = Instances.of(a, b)
    classes = _named(kinds, found.true_names), _named(others, found.predicted_names)
    if of:
        inside = [np.array([name == of for name in held], bool) for held in classes]
        found = found.only(*inside)
        classes = _named(kinds, found.true_names), _named(others, found.predicted_names)
    return matched(found, iou, *classes)


@checked
def matched(
    found: Instances, iou: float = 0.5, true_classes: tuple[str, ...] = (), predicted_classes: tuple[str, ...] = ()
) -> InstanceMatch:
    """As :func:`match_instances`, of objects whose overlaps are known."""
    twentieths = round(20 * iou)
    good = found.matched(twentieths) if twentieths == 20 * iou else found.iou > iou  # exact, where it can be
    places = np.flatnonzero(good)
    kept = places if iou >= 0.5 else places[assigned(found.rows[places], found.columns[places], found.iou[places])]
    kept = kept[np.argsort(found.rows[kept], kind="stable")]
    pairs = np.column_stack((found.rows[kept], found.columns[kept])).astype(np.int64)
    return InstanceMatch(found, pairs, found.iou[kept], float(iou), true_classes, predicted_classes)


def _labels(given: Outlines | NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    if isinstance(given, Outlines):
        return given.labels, given.classes
    whole = given.dtype.kind in "iub" and given.ndim in (2, 3) and (not given.size or int(given.min()) >= 0)
    require(whole, "labels are whole numbers from 0 on, (H, W) or (D, H, W)", given=f"{given.dtype} {given.shape}")
    return (given.astype(np.uint8) if given.dtype == bool else given), ()


def _named(classes: tuple[str, ...], names: Integers) -> tuple[str, ...]:
    """The classes of the objects that are there, by their numbers."""
    return tuple(classes[name - 1] for name in names) if classes else ()


def assigned(rows: Integers, columns: Integers, gain: Floats) -> Integers:
    """Positions (M,) of an optimal assignment among K possible pairs: as many as can be, and then the largest gain.

    ``rows`` and ``columns`` (K,) say who may go with whom, ``gain`` (K,) in 0 … 1 how well. Each connected group of pairs
    is solved by itself (Crouse 2016, in SciPy), a large one as a sparse graph (Jonker & Volgenant 1987).
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not len(rows):
        return np.empty(0, np.int64)
    width = int(rows.max()) + 1
    nodes = width + int(columns.max()) + 1
    _, group = connected_components(
        coo_array((np.ones(len(rows)), (rows, columns + width)), (nodes, nodes)), directed=False
    )
    of = group[rows]
    order = np.argsort(of, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(of[order]) != 0))
    kept: list[Integers] = []
    for places in np.split(order, starts[1:]):
        if len(places) == 1:
            kept.append(places)
            continue
        kept.append(places[_solved(rows[places], columns[places], gain[places])])
    return np.concatenate(kept).astype(np.int64)


#: Numbers of a dense matrix of an assignment, at most.
DENSE = 1 << 22


def _solved(rows: Integers, columns: Integers, gain: Floats) -> Integers:
    """:func:`assigned` of one connected group."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import min_weight_full_bipartite_matching

    r, i = np.unique(rows, return_inverse=True)
    c, j = np.unique(columns, return_inverse=True)
    worth = 1 + gain / (2 * min(len(r), len(c)))  # no overlap is worth a pair
    if len(r) * len(c) <= DENSE:
        score, which = np.zeros((len(r), len(c))), np.full((len(r), len(c)), -1)
        score[i, j], which[i, j] = worth, np.arange(len(rows))
        found = which[linear_sum_assignment(score, maximize=True)]
        return np.asarray(found[found >= 0], np.int64)
    alone = np.arange(len(r))  # each may stay alone, which costs more than any pair
    costs = coo_array((np.append(2 - worth, np.full(len(r), 3.0)), (np.append(i, alone), np.append(j, len(c) + alone))),
                      (len(r), len(c) + len(r)))  # fmt: skip
    mine, theirs = min_weight_full_bipartite_matching(costs.tocsr())
    place = {(a, b): k for k, (a, b) in enumerate(zip(i.tolist(), j.tolist()))}
    return np.array([place[pair] for pair in zip(mine.tolist(), theirs.tolist()) if pair[1] < len(c)], np.int64)


# -- by the distance of centres -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CentreMatch:
    """Which predicted point is which true one: ``pairs`` (M, 2), ``distance`` (M,), of ``true`` and ``predicted`` points."""

    pairs: Integers
    distance: Floats
    true: int
    predicted: int

    @property
    def hits(self) -> int:
        """True points that were found."""
        return len(self.pairs)

    @property
    def precision(self) -> float:
        """TP / (TP + FP); NaN where nothing was predicted."""
        return _share(self.hits, self.predicted)

    @property
    def recall(self) -> float:
        """TP / (TP + FN); NaN without a true point."""
        return _share(self.hits, self.true)

    @property
    def f1(self) -> float:
        """2·TP / (2·TP + FP + FN); NaN where there is no point on either side."""
        return _share(2 * self.hits, self.true + self.predicted)


@checked
def match_centres(truth: ArrayLike, predicted: ArrayLike, distance: float) -> CentreMatch:
    """Match points by optimal assignment: as many pairs as lie at most ``distance`` apart, and of those the nearest.

    ``truth`` (T, D) and ``predicted`` (P, D) coordinates, and ``distance`` > 0, in one unit. Raises
    :class:`ArgumentError` for other shapes and for points that are not finite.

    >>> match_centres([[0, 0], [5, 5]], [[0, 1], [9, 9]], 2).f1
    0.5
    """
    from scipy.spatial import cKDTree

    require(math.isfinite(distance) and distance > 0, "a distance is a number above 0", given=distance)
    a, b = (_points(x, name) for x, name in ((truth, "truth"), (predicted, "predicted")))
    if not (len(a) and len(b)):
        return CentreMatch(np.empty((0, 2), np.int64), np.empty(0), len(a), len(b))
    require(a.shape[1] == b.shape[1], "points need as many coordinates", given=f"{a.shape[1]} and {b.shape[1]}")
    near = cKDTree(a).sparse_distance_matrix(cKDTree(b), distance, output_type="ndarray")
    rows, columns, apart = near["i"].astype(np.int64), near["j"].astype(np.int64), near["v"].astype(np.float64)
    kept = assigned(rows, columns, 1 - apart / distance)
    kept = kept[np.argsort(rows[kept], kind="stable")]
    return CentreMatch(np.column_stack((rows[kept], columns[kept])), apart[kept], len(a), len(b))


def _points(given: ArrayLike, name: str) -> Floats:
    points = np.asarray(given, np.float64)
    points = points.reshape(0, 2) if not points.size else points
    require(
        points.ndim == 2 and bool(np.isfinite(points).all()), f"{name} must be finite points (N, D)", given=points.shape
    )
    return points


@checked
def centres(labels: NDArray[Any]) -> Floats:
    """(K, D) the mean place of the pixels of each object of a label image, in the order of their numbers, from 0.

    >>> centres(np.array([[1, 1, 0], [0, 0, 4]])).tolist()
    [[0.0, 0.5], [1.0, 2.0]]
    """
    inside = labels > 0
    where = np.nonzero(inside)
    _, which = np.unique(labels[inside], return_inverse=True)
    many = np.bincount(which)
    sums = [np.bincount(which, axis) for axis in where]
    return np.column_stack(sums) / many[:, None] if len(many) else np.empty((0, labels.ndim))

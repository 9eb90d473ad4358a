"""How far a drawn outline is the true one: overlap, distance, and instances found, merged and split.

Label images hold 0 for the background and one whole number for each instance. What lies above 0 is the
foreground, so a mask is a label image with one instance. All need the same shape, in two or three dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import Booleans, Integers, Patients
from overread.stats.estimate import Estimate
from overread.stats.regression import means_over_images, one_image
from overread.stats.resample import Scale

#: For Python alone: no command draws outlines yet.
__all__ = [
    "average_precision_over_iou", "dice", "hausdorff", "jaccard", "mean_overlap", "merges_and_splits", "overlap",
    "panoptic_quality",
]  # fmt: skip

#: Intersection over union that a match must exceed, in twentieths: .50, .55 … .95.
TWENTIETHS = tuple(range(10, 20))
AP = "average precision, IoU .5–.95"
#: What :func:`overlap` gives, in its order, and the scale of the interval of each one's mean.
METRICS: dict[str, Scale] = {
    "dice": "share",
    "jaccard": "share",
    "hausdorff 95 %": "positive",
    AP: "share",
    "panoptic quality": "share",
    "segmentation quality": "share",
    "recognition quality": "share",
    "merges": "positive",
    "splits": "positive",
}
NOTHING = "both images are empty"
ONE_EMPTY = "one of the two images is empty"


@dataclass(frozen=True, eq=False)
class Instances:
    """Which true instance overlaps which predicted one: pixels of each, and of each pair that touches."""

    true: Integers  # (T,) pixels
    predicted: Integers  # (P,)
    rows: Integers  # (K,) which true instance of each pair,
    columns: Integers  # (K,) which predicted one,
    shared: Integers  # (K,) and the pixels of both

    @classmethod
    def of(cls, truth: Integers, predicted: Integers) -> Instances:
        """From two label images of one shape."""
        (names, rows), (others, columns) = (np.unique(x, return_inverse=True) for x in (truth, predicted))
        pairs, counts = np.unique(rows.ravel() * len(others) + columns.ravel(), return_counts=True)
        rows, columns = pairs // len(others), pairs % len(others)
        sizes = np.bincount(rows, counts).astype(np.int64), np.bincount(columns, counts).astype(np.int64)
        real, drawn = names > 0, others > 0
        both = real[rows] & drawn[columns]
        ranks = np.cumsum(real) - 1, np.cumsum(drawn) - 1
        return cls(sizes[0][real], sizes[1][drawn], ranks[0][rows[both]], ranks[1][columns[both]], counts[both])

    @cached_property
    def union(self) -> Integers:
        """(K,) pixels of either."""
        return self.true[self.rows] + self.predicted[self.columns] - self.shared

    def matched(self, twentieths: int = 10) -> Booleans:
        """(K,) whether intersection over union exceeds so many twentieths; from one half on, one to one."""
        return self.shared * 20 > twentieths * self.union

    @property
    def reason(self) -> str:
        """The reason why nothing can be said of instances; empty if it can."""
        return "" if len(self.true) + len(self.predicted) else NOTHING


@checked
def dice(truth: ArrayLike, predicted: ArrayLike) -> Estimate:
    """Dice's coefficient of two foregrounds: 2·|A∩B| / (|A| + |B|).

    ``truth`` and ``predicted`` label images (H, W) or (D, H, W). Dice 1945. Undefined where both are empty.

    >>> dice([[1, 1], [0, 0]], [[1, 0], [0, 0]]).value
    0.6666666666666666
    """
    both, either, total = _pixels(*_pair(truth, predicted))
    return one_image("dice", 2 * both / total if either else math.nan, NOTHING)


@checked
def jaccard(truth: ArrayLike, predicted: ArrayLike) -> Estimate:
    """Intersection over union of two foregrounds.

    Arguments as :func:`dice`. Jaccard 1912. Undefined where both are empty.

    >>> jaccard([[1, 1], [0, 0]], [[1, 0], [0, 0]]).value
    0.5
    """
    both, either, _ = _pixels(*_pair(truth, predicted))
    return one_image("jaccard", both / either if either else math.nan, NOTHING)


def _pixels(truth: Integers, predicted: Integers) -> tuple[int, int, int]:
    """Pixels of both foregrounds, of either, and their sum."""
    a, b = truth > 0, predicted > 0
    both, total = int((a & b).sum()), int(a.sum()) + int(b.sum())
    return both, total - both, total


@checked
def hausdorff(
    truth: ArrayLike, predicted: ArrayLike, *, spacing: Sequence[float] | None = None, share: float = 0.95
) -> Estimate:
    """The distance within which a ``share`` of each foreground's border lies from the other's border.

    Arguments as :func:`dice`; ``spacing`` in mm per axis, in the order of the axes, or None for pixels. Of the
    distances from each border pixel to the nearest of the other border, the quantile of either direction; the larger of
    the two (Huttenlocher et al. 1993). ``share`` 1 is the Hausdorff distance itself. A border pixel has a neighbour
    along an axis that is background, or lies at the edge of the image. Undefined where one is empty.

    >>> hausdorff([[1, 0, 0, 0]], [[0, 0, 0, 1]], spacing=(1, 0.5)).value
    1.5
    """
    require(0 < share <= 1, "share must lie above 0 and at most at 1", given=share)
    a, b = (x > 0 for x in _pair(truth, predicted))
    steps = _spacing(spacing, a.ndim)
    name = "hausdorff" if share == 1 else f"hausdorff {100 * share:g} %"
    if not (a.any() and b.any()):
        return one_image(name, math.nan, ONE_EMPTY if a.any() or b.any() else NOTHING)
    a, b = (x[_box(a | b)] for x in (a, b))  # beyond both lies no border
    return one_image(name, _farthest(_border(a), _border(b), steps, share), "")


def _spacing(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    steps = tuple(float(step) for step in spacing) if spacing is not None else (1.0,) * axes
    good = len(steps) == axes and all(math.isfinite(step) and step > 0 for step in steps)
    require(good, "spacing must be one positive number per axis", given=f"{steps}, {axes} axes")
    return steps


def _box(mask: Booleans) -> tuple[slice, ...]:
    """The smallest box around ``mask``, one pixel wider where there is room: its edge is the image's, or empty."""
    found = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        used = np.flatnonzero(mask.any(axis=others))
        found.append(slice(max(int(used[0]) - 1, 0), int(used[-1]) + 2))
    return tuple(found)


def _border(mask: Booleans) -> Booleans:
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


def _farthest(a: Booleans, b: Booleans, steps: tuple[float, ...], share: float) -> float:
    from scipy.ndimage import distance_transform_edt

    apart = (distance_transform_edt(~there, sampling=steps)[here] for here, there in ((a, b), (b, a)))
    return max(float(np.quantile(distances, share)) for distances in apart)


@checked
def average_precision_over_iou(truth: ArrayLike, predicted: ArrayLike) -> Estimate:
    """Instances found: the mean of TP / (TP + FP + FN) over intersections over union .5, .55 … .95.

    Arguments as :func:`dice`. An instance is found where its intersection over union with a predicted one
    exceeds the threshold (Caicedo et al. 2019, the 2018 Data Science Bowl). Undefined where both are empty.

    >>> average_precision_over_iou([[1, 1, 1, 1]], [[1, 1, 1, 0]]).value
    0.5
    """
    return one_image(AP, _precision(Instances.of(*_pair(truth, predicted))), NOTHING)


def _precision(found: Instances) -> float:
    if found.reason:
        return math.nan
    hits = np.array([found.matched(t).sum() for t in TWENTIETHS])
    return float((hits / (len(found.true) + len(found.predicted) - hits)).mean())


@checked
def panoptic_quality(truth: ArrayLike, predicted: ArrayLike) -> tuple[Estimate, Estimate, Estimate]:
    """Panoptic quality, and its factors: segmentation quality × recognition quality.

    Arguments as :func:`dice`. Matches have an intersection over union above one half; segmentation quality is
    their mean, recognition quality TP / (TP + FP/2 + FN/2) (Kirillov et al. 2019). Undefined where both
    are empty, segmentation quality also without a match.

    >>> [round(e.value, 3) for e in panoptic_quality([[1, 1, 0, 2]], [[3, 3, 3, 0]])]
    [0.444, 0.667, 0.667]
    """
    values = _panoptic(Instances.of(*_pair(truth, predicted)))
    none = NOTHING if math.isnan(values[0]) else "no instance is matched"
    return tuple(one_image(m, v, none) for m, v in zip(list(METRICS)[4:7], values))  # type: ignore[return-value]


def _panoptic(found: Instances) -> tuple[float, float, float]:
    if found.reason:
        return math.nan, math.nan, math.nan
    good = found.matched()
    hits, ious = int(good.sum()), float((found.shared[good] / found.union[good]).sum())
    half = (len(found.true) + len(found.predicted)) / 2  # TP + FP/2 + FN/2
    return ious / half, ious / hits if hits else math.nan, hits / half


@checked
def merges_and_splits(truth: ArrayLike, predicted: ArrayLike) -> tuple[Estimate, Estimate]:
    """True instances drawn as one, and true instances drawn as several: how many too few, how many too many.

    Arguments as :func:`dice`. A predicted instance that holds more than half of each of k ≥ 2 true ones counts
    k − 1 merges; a true one that holds more than half of each of k ≥ 2 predicted ones counts k − 1 splits.
    Undefined where both are empty.

    >>> [e.value for e in merges_and_splits([[1, 1, 0, 2, 2]], [[1, 1, 1, 1, 1]])]
    [1.0, 0.0]
    """
    merged, split = _merged(Instances.of(*_pair(truth, predicted)))
    return one_image("merges", merged, NOTHING), one_image("splits", split, NOTHING)


def _merged(found: Instances) -> tuple[float, float]:
    if found.reason:
        return math.nan, math.nan
    inside = 2 * found.shared > found.true[found.rows], 2 * found.shared > found.predicted[found.columns]
    held = np.bincount(found.columns[inside[0]]), np.bincount(found.rows[inside[1]])
    return float(np.maximum(held[0] - 1, 0).sum()), float(np.maximum(held[1] - 1, 0).sum())


@checked
def overlap(truth: ArrayLike, predicted: ArrayLike, *, spacing: Sequence[float] | None = None) -> list[Estimate]:
    """All of :data:`METRICS` of one image, without intervals: one image has none.

    Arguments as :func:`dice` and :func:`hausdorff`.

    >>> [e.metric for e in overlap([[1]], [[1]]) if e.value == 1][:2]
    ['dice', 'jaccard']
    """
    a, b = _pair(truth, predicted)
    return [
        dice(a, b),
        jaccard(a, b),
        hausdorff(a, b, spacing=spacing),
        average_precision_over_iou(a, b),
        *panoptic_quality(a, b),
        *merges_and_splits(a, b),
    ]


@checked
def mean_overlap(
    truths: Sequence[ArrayLike],
    predicted: Sequence[ArrayLike],
    patients: Patients = None,
    *,
    spacings: Sequence[Sequence[float]] | None = None,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """Every metric of :func:`overlap`, its mean over images with an interval over patients.

    ``truths`` and ``predicted`` N label images, pair by pair of one shape; ``patients`` (N,) or None;
    ``spacings`` N times mm per axis, or None for pixels. Images where a metric is undefined are left out of
    its mean and counted in its method.

    >>> found = mean_overlap([[[1, 1]]] * 3, [[[1, 1]], [[1, 0]], [[0, 1]]], resamples=200)
    >>> found[0].metric, round(found[0].value, 3)
    ('dice', 0.778)
    """
    require(len(truths) == len(predicted), "each image needs its truth", given=f"{len(truths)}, {len(predicted)}")
    steps = spacings if spacings is not None else [None] * len(truths)
    require(len(steps) == len(truths), "each image needs its spacing", given=f"{len(steps)}, {len(truths)}")
    each = [overlap(a, b, spacing=s) for a, b, s in zip(truths, predicted, steps)]
    return means_over_images(METRICS, each, patients, level=level, of=of, resamples=resamples, seed=seed)


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[Integers, Integers]:
    a, b = _labels(truth, "truth"), _labels(predicted, "predicted")
    require(a.shape == b.shape, "both images must have one shape", given=f"{a.shape}, {b.shape}")
    return a, b


def _labels(image: ArrayLike, name: str) -> Integers:
    given = np.asarray(image)
    require(given.ndim in (2, 3), f"{name} must be an image (H, W) or (D, H, W)", given=given.shape)
    good = (given.dtype == bool or np.issubdtype(given.dtype, np.integer)) and (given.size == 0 or given.min() >= 0)
    require(good, f"{name} must hold whole numbers from 0 on", given=given.dtype, todo="0 is the background")
    return given.astype(np.int64)

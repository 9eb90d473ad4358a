"""How far a drawn outline is the true one: overlap, distance, and instances found, merged and split.

Label images hold 0 for the background and one whole number for each instance. What lies above 0 is the
foreground, so a mask is a label image with one instance. All need the same shape, in two or three dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import Booleans, Floats, Integers, Patients
from overread.stats.estimate import Estimate
from overread.stats.regression import means_over_images, one_image
from overread.stats.resample import Scale

#: For Python alone: the commands judge whole tables (:mod:`overread.evaluation.instances`).
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
    true_names: Integers  # (T,) the number of each in its label image, ascending
    predicted_names: Integers  # (P,)

    @classmethod
    def of(cls, truth: NDArray[Any], predicted: NDArray[Any]) -> Instances:
        """From two label images of one shape, in strips of rows: memory stays bounded, however large they are."""
        (names, sizes), (others, drawn) = _sizes(truth), _sizes(predicted)
        pairs: list[Integers] = []
        counts: list[Integers] = []
        for strip in _strips(truth):
            a, b = truth[strip], predicted[strip]
            both = (a > 0) & (b > 0)
            code = np.searchsorted(names, a[both]) * len(others) + np.searchsorted(others, b[both])
            found = np.unique(code, return_counts=True)
            pairs.append(found[0].astype(np.int64))
            counts.append(found[1].astype(np.int64))
        met, which = np.unique(np.concatenate(pairs), return_inverse=True)
        shared = np.bincount(which.ravel(), np.concatenate(counts), len(met)).astype(np.int64)
        width = max(len(others), 1)
        return cls(sizes, drawn, met // width, met % width, shared, names, others)

    def only(self, true: Booleans, predicted: Booleans) -> Instances:
        """Of the true (T,) and the predicted (P,) instances where these are true: those of a class, say."""
        kept = true[self.rows] & predicted[self.columns]
        ranks = np.cumsum(true) - 1, np.cumsum(predicted) - 1
        return Instances(
            self.true[true], self.predicted[predicted], ranks[0][self.rows[kept]], ranks[1][self.columns[kept]],
            self.shared[kept], self.true_names[true], self.predicted_names[predicted],
        )  # fmt: skip

    @property
    def swapped(self) -> Instances:
        """With the truth as the prediction."""
        return Instances(self.predicted, self.true, self.columns, self.rows, self.shared, self.predicted_names, self.true_names)  # fmt: skip

    @cached_property
    def iou(self) -> Floats:
        """(K,) intersection over union of each pair."""
        return np.asarray(self.shared / self.union, np.float64)

    @cached_property
    def held(self) -> tuple[Integers, Integers]:
        """(P,) how many true instances lie by more than half in each predicted one; (T,) how many predicted in each true."""
        inside = 2 * self.shared > self.true[self.rows], 2 * self.shared > self.predicted[self.columns]
        merged = np.bincount(self.columns[inside[0]], minlength=len(self.predicted))
        return merged.astype(np.int64), np.bincount(self.rows[inside[1]], minlength=len(self.true)).astype(np.int64)

    @property
    def merges(self) -> int:
        """How many true instances too few were drawn, where several lie in one."""
        return int(np.maximum(self.held[0] - 1, 0).sum())

    @property
    def splits(self) -> int:
        """How many predicted instances too many were drawn, where several lie in one."""
        return int(np.maximum(self.held[1] - 1, 0).sum())

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


#: Pixels of a strip of rows.
STRIP = 1 << 22


def _strips(image: NDArray[Any]) -> list[slice]:
    rows = max(1, STRIP // max(image[:1].size, 1))
    return [slice(start, start + rows) for start in range(0, max(len(image), 1), rows)]


def _sizes(image: NDArray[Any]) -> tuple[Integers, Integers]:
    """The numbers of a label image that are not 0, ascending, and the pixels of each."""
    few = image.size > 0 and int(image.max()) <= 4 * image.size + 1000
    if few:
        counts = np.zeros(int(image.max()) + 1, np.int64)
        for strip in _strips(image):
            counts += np.bincount(image[strip].ravel(), minlength=len(counts))
        names = np.flatnonzero(counts[1:]) + 1
        return names.astype(np.int64), counts[names]
    names, counts = np.unique(image, return_counts=True)
    return names[names > 0].astype(np.int64), counts[names > 0].astype(np.int64)


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


def _pixels(truth: NDArray[Any], predicted: NDArray[Any]) -> tuple[int, int, int]:
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
def border_distances(truth: Booleans, predicted: Booleans, share: float = 0.95) -> tuple[float, float]:
    """How far the borders of two masks lie apart, in pixels: the mean over the border pixels of both, and the ``share``.

    The mean of the distance from each border pixel of either to the nearest of the other (the average symmetric surface
    distance: Heimann et al. 2009, eq. 6); and, as :func:`hausdorff`, the larger of the two quantiles. ``truth`` and
    ``predicted`` (H, W) or (D, H, W), small, as a pair of instances is; a pixel at their edge is of the border.

    >>> border_distances(np.array([[1, 0, 0]], bool), np.array([[0, 0, 1]], bool))
    (2.0, 2.0)
    """
    from scipy.spatial import cKDTree

    require(bool(truth.any() and predicted.any()), "both masks need a pixel")
    a, b = (np.argwhere(_border(mask)).astype(np.float64) for mask in (truth, predicted))
    one, other = cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]
    mean = (one.sum() + other.sum()) / (len(one) + len(other))
    return float(mean), max(_quantile(one, share), _quantile(other, share))


def _quantile(values: Floats, share: float) -> float:
    """As NumPy's, which takes ten times as long for the border of a small instance."""
    ordered, place = np.sort(values), share * (len(values) - 1)
    low = int(place)
    return float(ordered[low] + (place - low) * (ordered[min(low + 1, len(values) - 1)] - ordered[low]))


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
    hits, ious = int(good.sum()), float(found.iou[good].sum())
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
    return (math.nan, math.nan) if found.reason else (float(found.merges), float(found.splits))


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


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    a, b = _labels(truth, "truth"), _labels(predicted, "predicted")
    require(a.shape == b.shape, "both images must have one shape", given=f"{a.shape}, {b.shape}")
    return a, b


def _labels(image: ArrayLike, name: str) -> NDArray[Any]:
    given = np.asarray(image)
    require(given.ndim in (2, 3), f"{name} must be an image (H, W) or (D, H, W)", given=given.shape)
    good = (given.dtype == bool or np.issubdtype(given.dtype, np.integer)) and (given.size == 0 or given.min() >= 0)
    require(good, f"{name} must hold whole numbers from 0 on", given=given.dtype, todo="0 is the background")
    return given.astype(np.uint8) if given.dtype == bool else given

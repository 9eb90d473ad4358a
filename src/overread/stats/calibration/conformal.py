"""Sets of classes that hold the truth as often as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, one_of, require
from overread.stats.arrays import Booleans, Floats, Integers, Patients, class_numbers, distinct, numbers, patient_codes
from overread.stats.calibration.reliability import require_probabilities
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion
from overread.stats.resample import bootstrapped, mean_statistic

METHODS = ("lac", "aps")
#: Two sums of the same probabilities in another order differ by less.
ROUNDING = 1e-12


@dataclass(frozen=True)
class ConformalSets:
    """Thresholds learned on tuning data: a class is in the set of a case if its score is at most its threshold.

    ``thresholds``: per group of ``groups`` (one nameless group where there are none) one per class, infinite
    where the tuning data are too few to leave any class out. Plain fields: saved and read back as they are.
    """

    method: str
    level: float
    groups: tuple[str, ...]
    thresholds: tuple[tuple[float, ...], ...]

    @checked
    def sets(self, probability: ArrayLike, groups: ArrayLike | None = None) -> Booleans:
        """(N, C): which classes are in the set of each case. A case whose probabilities are not finite gets all.

        ``probability`` (N, C), ``groups`` (N,) if the thresholds were fitted by group. Raises
        :class:`ArgumentError` for another number of classes, or for a group without thresholds.
        """
        chances = _table(probability)
        classes = len(self.thresholds[0])
        require(chances.shape[1] == classes, f"there must be {classes} classes", given=chances.shape[1])
        which = _rows_of(groups, self.groups, len(chances), "sets")
        limit = np.array(self.thresholds)[which] + ROUNDING
        inside = ~(_scores(chances, self.method) > limit)  # NaN is not greater
        inside[~np.isfinite(chances).all(axis=1)] = True
        return inside


@checked
def fit_sets(
    truth: ArrayLike,
    probability: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.9,
    method: str = "lac",
    by_class: bool = False,
    groups: ArrayLike | None = None,
) -> ConformalSets:
    """Split-conformal sets that hold the true class of a new patient's image with chance ``level`` or more.

    Fit on tuning data: ``truth`` (N,) class numbers, ``probability`` (N, C), ``patients`` (N,) or None. ``method``:
    "lac", 1 − p of the class (Sadinle, Lei & Wasserman 2019), the smallest sets; or "aps", the sum of all p at least as
    large (Romano, Sesia & Candès 2020, without randomisation), which adapt to the case and are never empty. The
    threshold is the ⌈(K+1)·level⌉-th smallest score of K patients (Vovk et al. 2005); where patients repeat, each
    counts once (Dunn, Wasserman & Ramdas 2023, pooled). ``by_class`` promises the level within each class, ``groups``
    (N,) within each group. Raises :class:`ArgumentError` for class numbers or probabilities out of range.

    >>> fitted = fit_sets([0, 1, 0, 1], [[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]], level=0.8)
    >>> fitted.sets([[0.95, 0.05], [0.5, 0.5], [0.62, 0.38]]).tolist()
    [[True, False], [False, False], [True, False]]
    """
    chances = _table(probability)
    count, classes = chances.shape
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    require_probabilities(chances)
    score = _scores(chances, one_of(method, METHODS, "method"))
    actual = class_numbers(truth, classes)
    require(len(actual) == count, "truth and probability must be equally long", given=(len(actual), count))
    codes = patient_codes(patients, count)
    names = ("",) if groups is None else tuple(sorted({str(g) for g in np.asarray(groups).tolist()}))
    which = _rows_of(groups, names, count, "sets")
    own = score[np.arange(count), actual]
    alike = [actual == k for k in range(classes)] if by_class else [np.ones(count, bool)]
    rows = [[(which == group) & one for one in alike] for group in range(len(names))]
    found = (tuple(_threshold(own[r], codes[r], level) for r in row) for row in rows)
    return ConformalSets(method, level, names, tuple(row if by_class else row * classes for row in found))


def _table(probability: ArrayLike) -> Floats:
    given = np.asarray(probability, np.float64)
    require(given.ndim == 2, "probability must have two dimensions, cases and classes", given=given.shape)
    return given


def _rows_of(groups: ArrayLike | None, names: tuple[str, ...], count: int, fitted: str) -> Integers:
    """(N,) the row of each case's group among ``names``."""
    if groups is None:
        require(names == ("",), f"the {fitted} were fitted by group", todo="give the group of each case")
        return np.zeros(count, np.int64)
    given = [str(g) for g in np.asarray(groups).tolist()]
    require(len(given) == count, "there must be one group per case", given=(len(given), count))
    unknown = sorted(set(given) - set(names))
    require(not unknown, "groups without tuning data", given=", ".join(unknown[:5]))
    number = {name: k for k, name in enumerate(names)}
    return np.fromiter((number[g] for g in given), np.int64, count)


def _scores(chances: Floats, method: str) -> Floats:
    """(N, C): how strange each class would be."""
    if method == "lac":
        return 1 - chances
    order = np.argsort(-chances, axis=1, kind="stable")
    ranked = np.take_along_axis(chances, order, axis=1)
    total = np.cumsum(ranked, axis=1)
    for k in range(ranked.shape[1] - 2, -1, -1):  # equal probabilities enter together
        total[:, k] = np.where(ranked[:, k] == ranked[:, k + 1], total[:, k + 1], total[:, k])
    score = np.empty_like(total)
    np.put_along_axis(score, order, total, axis=1)
    return score


def _threshold(score: Floats, codes: Integers, level: float) -> float:
    """The finite-sample quantile: infinite where the patients are too few."""
    if not len(score):
        return math.inf
    order = np.argsort(score, kind="stable")
    held = np.cumsum(1 / np.bincount(codes)[codes[order]])  # patients whose share of scores is at most this
    reached = np.flatnonzero(held >= level * (distinct(codes) + 1) - 1e-9)
    return float(score[order[reached[0]]]) if len(reached) else math.inf


@checked
def set_coverage(
    truth: ArrayLike,
    sets: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """How often sets hold the truth, how large they are, how often they hold one class, or none.

    ``truth`` (N,) class numbers, ``sets`` (N, C) 0/1, ``patients`` (N,) or None. Shares are
    :func:`overread.stats.proportions.proportion`; the mean size has a patient bootstrap. Undefined without cases.

    >>> [(e.metric, e.value) for e in set_coverage([0, 1], [[1, 1], [0, 1]])][:2]
    [('set coverage', 1.0), ('set size', 1.5)]
    """
    inside = _table(sets) != 0
    actual = class_numbers(truth, inside.shape[1])
    require(len(actual) == len(inside), "truth and probability must be equally long", given=(len(actual), len(inside)))
    codes = patient_codes(patients, len(actual))
    size = inside.sum(axis=1)
    shares = {
        "set coverage": inside[np.arange(len(actual)), actual],
        "sets of one class": size == 1,
        "empty sets": size == 0,
    }
    found = [proportion(good, codes, level=level, metric=m, of=of) for m, good in shares.items()]
    if not len(actual):
        return [found[0], undefined("set size", "no cases", of=of), *found[1:]]
    mean = mean_statistic("set size", size.astype(np.float64), codes, int(codes.max()) + 1, of=of)
    return [found[0], *bootstrapped(mean, codes, level=level, resamples=resamples, seed=seed), *found[1:]]


# -- intervals around a predicted number that hold the truth as often as promised ---------------------------------


@dataclass(frozen=True)
class ConformalIntervals:
    """Half-widths learned on tuning data: predicted ± ``half_widths`` of the case's group holds the truth.

    ``groups``: one nameless group where there are none. A half-width is infinite where the tuning data are too few.
    """

    level: float
    groups: tuple[str, ...]
    half_widths: tuple[float, ...]

    @checked
    def width(self, count: int, groups: ArrayLike | None = None) -> Floats:
        """(N,) the half-width of each of ``count`` cases. Raises :class:`ArgumentError` for an unknown group."""
        return np.array(self.half_widths)[_rows_of(groups, self.groups, count, "intervals")]


@checked
def fit_intervals(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.9,
    groups: ArrayLike | None = None,
) -> ConformalIntervals:
    """Split-conformal intervals: predicted ± a quantile of |truth − predicted| (Lei et al. 2018, algorithm 2).

    Fit on tuning data: ``truth`` and ``predicted`` (N,) finite, in one unit, ``patients`` (N,) or None, ``groups`` (N,)
    for a width per group. The width is the ⌈(K+1)·level⌉-th smallest residual of K patients; where patients repeat, all
    their images are used and each patient counts once, as in :func:`overread.stats.calibration.conformal.fit_sets`,
    which does the work: an interval is the set of one class whose strangeness is the residual. Holds for an image of a
    new patient. Raises :class:`ArgumentError` for numbers that are not finite.

    >>> fit_intervals([1, 2, 3, 4], [1.5, 2, 3.25, 3], level=0.6).half_widths
    (0.5,)
    """
    true = numbers(truth, name="truth")
    residual = np.abs(true - numbers(predicted, len(true), "predicted"))
    require(bool(np.isfinite(residual).all()), "truth and predicted must be finite")
    widest = float(residual.max(initial=0.0)) or 1.0
    closeness = (1 - residual / widest)[:, None]
    found: ConformalSets = fit_sets(np.zeros(len(true)), closeness, patients, level=level, method="lac", groups=groups)
    return ConformalIntervals(level, found.groups, tuple(row[0] * widest for row in found.thresholds))


@checked
def interval_coverage(
    truth: ArrayLike,
    predicted: ArrayLike,
    half_width: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> list[Estimate]:
    """How often predicted ± ``half_width`` (N,) holds the truth, and how wide that is on average.

    ``truth`` and ``predicted`` (N,), ``patients`` (N,) or None. A prediction that is not finite holds nothing. The
    width was fixed on tuning data: it has no interval. Undefined without cases.

    >>> [e.value for e in interval_coverage([1, 2], [1.5, 4], [1, 1])]
    [0.5, 2.0]
    """
    true = numbers(truth, name="truth")
    middle = numbers(predicted, len(true), "predicted")
    half = numbers(half_width, len(true), "half_width")
    codes = patient_codes(patients, len(true))
    with np.errstate(invalid="ignore"):
        inside = np.abs(true - middle) <= half * (1 + 1e-12)
    held = proportion(inside, codes, level=level, metric="interval coverage", of=of)
    if not len(true) or not np.isfinite(half).all():
        reason = "too few tuning patients for this level: the intervals have no ends" if len(true) else "no cases"
        return [held, undefined("interval width", reason, of=of, images=held.images, patients=held.patients)]
    how, value = "mean of the widths fixed on tuning data", float(2 * half.mean())
    return [held, replace(held, metric="interval width", value=value, low=math.nan, high=math.nan, method=how)]

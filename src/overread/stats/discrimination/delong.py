"""Models compared on the same cases: what they share cancels, so far fewer patients are needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import (
    TINY,
    Booleans,
    Floats,
    Integers,
    Patients,
    distinct,
    expit,
    no_ranking,
    normal_quantile,
    numbers,
    patient_codes,
    t_quantile,
    zero_one,
)
from overread.stats.discrimination.roc import area_interval, clustered_freedom, misplaced, patients_up_to
from overread.stats.estimate import (
    Difference,
    Estimate,
    Moved,
    chi_square_tail,
    implied,
    moved_apart,
    ratio,
    square_and_add,
    two_sided,
    undefined,
    without,
)
from overread.stats.resample import Column, Statistic, Sums, bootstrap

#: Below this the variance of a difference is the rounding of zero: models that differ in one pair of a million
#: images are well above.
NOTHING = 1e-30


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several models on the same cases: ``areas`` (M), their ``covariance`` (M, M), each pair's ``differences``.

    ``statistic`` is χ² with ``freedom`` for all areas being equal, ``p`` its tail; NaN where undefined.
    """

    areas: tuple[Estimate, ...]
    covariance: Floats
    differences: tuple[Difference, ...]
    statistic: float
    freedom: int
    p: float


@checked
def auc_difference(
    truth: ArrayLike,
    score: ArrayLike,
    other: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> Difference:
    """AUC of ``score`` minus that of ``other`` on the same cases, with DeLong's test.

    ``truth`` (N,) 0/1, ``score`` and ``other`` (N,), ``patients`` (N,) or None. Variance: DeLong, DeLong &
    Clarke-Pearson 1988; ``p`` is that of DeLong's test. Where patients repeat the variance is clustered after
    Obuchowski 1997, and interval and test take Student's t of the patients of the rarer class (less one; those with
    many images count for more) in the normal quantile's place: at 20 + 80 patients × 3 images that covers 94 % and not
    92. The interval is ± quantile of the same standard errors on the scale of the difference of the two logits, so that
    near an area of 1 it is neither too wide nor too narrow; right at p = 1 − level it and the test can differ. Where
    the two place fewer than ten patients of a class otherwise, it is widened towards that of the two areas
    (:func:`compared`). With ten patients of each class and areas of .9 it is too wide (97 to 99 %). Two scores that
    rank every case alike differ by 0 without error; where an area is 0 or 1 or the variance is zero (one positive
    patient) the interval is made of those of the two areas. Undefined for one class or a score that is not finite.

    >>> print(auc_difference([0, 0, 1, 1, 0, 1], [1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5]))
    0.222 (-0.096 to 0.504), p = 0.16
    """
    return compare_aucs(truth, [score, other], patients, level=level, of=of).differences[0]


@checked
def compare_aucs(
    truth: ArrayLike, scores: Sequence[ArrayLike], patients: Patients = None, *, level: float = 0.95, of: str = ""
) -> Comparison:
    """The AUCs of M ≥ 2 models on the same cases, every pair's difference, and the test that all are equal.

    ``scores`` M times (N,), the rest as :func:`auc_difference`. The test of all is χ² (DeLong et al. 1988)
    with as many degrees of freedom as the differences have; models that rank alike add none.

    >>> found = compare_aucs([0, 0, 1, 1, 0, 1], [[1, 2, 3, 4, 5, 6], [1, 3, 2, 4, 6, 5], [2, 4, 6, 8, 9, 10]])
    >>> [round(d.difference.value, 3) for d in found.differences], found.freedom
    ([0.222, 0.0, -0.222], 1)
    """
    require(len(scores) >= 2, "there must be at least two models to compare", given=len(scores))
    positive = zero_one(truth)
    given = [numbers(score, len(positive)) for score in scores]
    codes = patient_codes(patients, len(positive))
    cohort = Cohort.of(positive, codes)
    if reason := next(filter(None, (no_ranking(positive, score) for score in given)), ""):
        return _no_comparison(cohort, len(given), reason, of)
    placed = np.stack([placements(positive, score) for score in given])  # (M, N)
    added = shares(cohort, placed)
    errors = covariance(cohort, added)
    areas = tuple(cohort.estimate("auc", added.only(i), each, level, of) for i, each in enumerate(placed))
    differences = tuple(
        compared(cohort, (areas[i], areas[j]), added.only(i, j), (placed[i], placed[j]), (given[i], given[j]))
        for i, j in combinations(range(len(given)), 2)
    )
    return Comparison(areas, errors, differences, *_all_equal(added.value, errors))


def _no_comparison(cohort: Cohort, models: int, reason: str, of: str) -> Comparison:
    area = undefined("auc", reason, of=of, images=cohort.images, patients=cohort.patients)
    pairs = (without(area, area, replace(area, metric="auc difference")),) * (models * (models - 1) // 2)
    return Comparison((area,) * models, np.full((models, models), math.nan), pairs, math.nan, 0, math.nan)


NO_INTERVAL = Moved(math.nan, math.nan, math.nan, np.zeros(0))
#: With so few patients of either class whom two models place otherwise the variance of their difference is not to be
#: seen; with so many it is.
UNSEEN, SEEN = 1, 10


@checked
def compared(
    cohort: Cohort,
    areas: tuple[Estimate, Estimate],
    added: Shares,
    placed: tuple[Floats, Floats],
    scores: tuple[Floats, Floats],
) -> Difference:
    """The difference of two areas of ``placed`` (N,) each; of two intervals where little varies between them.

    ``added`` of the two. Between :data:`UNSEEN` and :data:`SEEN` patients whom the two place otherwise each end goes
    over from the farther of DeLong's and that of the two areas' own intervals, squared and added with the correlation
    of the areas.
    """
    first, second = areas
    variance = variance_between(cohort, added, 0, 1)
    error = math.sqrt(variance) if variance > NOTHING else 0.0
    freedom = cohort.freedom(added.apart(0, 1)) if error else 0
    wide = t_quantile(first.level, freedom) if freedom else normal_quantile(first.level)
    value, half = first.value - second.value, wide * error
    suffix = ", by patient" if cohort.clustered else ""
    found = replace(first, metric=f"{first.metric} difference", value=value)
    inside = all(TINY < area.value < 1 - TINY for area in areas)
    if not (error and inside) and not same_order(*scores):
        return _of_the_two(found, areas, error, suffix, freedom)
    how = ("DeLong, paired, logit" if error else "none: both rank the cases alike") + suffix
    low, high = _difference_limits(first.value, second.value, half) if error else (value, value)
    apart = placed[0] != placed[1]
    few = min(patients_up_to(SEEN, cohort.codes, rows & apart) for rows in (cohort.truth, ~cohort.truth))
    if error and few < SEEN:
        trust = max(0.0, (few - UNSEEN) / (SEEN - UNSEEN))
        both = square_and_add(*areas, _correlation(covariance(cohort, added)))
        low, high = min(low, trust * low + (1 - trust) * both[0]), max(high, trust * high + (1 - trust) * both[1])
        how = f"DeLong, paired, logit, and both intervals squared and added{suffix}"
    statistic = ratio(value, error)
    found = replace(found, low=low, high=high, method=how)
    return Difference(first, second, found, error, statistic, two_sided(statistic, freedom))


def _correlation(errors: Floats) -> float:
    """Of two areas, from their covariance (2, 2); 0 where one does not vary."""
    scale = math.sqrt(max(0.0, float(errors[0, 0] * errors[1, 1])))
    return max(-1.0, min(1.0, float(errors[0, 1]) / scale)) if scale > NOTHING else 0.0


def _of_the_two(
    found: Estimate, areas: tuple[Estimate, Estimate], error: float, suffix: str, freedom: float
) -> Difference:
    """An area of 0 or 1 has no logit: the interval is made of theirs, the test is DeLong's where there is one."""
    low, high = square_and_add(*areas, 0.0)
    found = replace(found, low=low, high=high, method=f"{areas[0].method}, squared and added{suffix}")
    if not error:
        return implied(*areas, found)
    statistic = ratio(found.value, error)
    return Difference(*areas, found, error, statistic, two_sided(statistic, freedom))


def _difference_limits(first: float, second: float, half: float) -> tuple[float, float]:
    """first − second ± ``half``, carried out on the difference of the logits while their mean is held.

    Areas near 1 have room on one side only, so an interval of the plain difference is too wide or too narrow.
    """
    one, other = math.log(first / (1 - first)), math.log(second / (1 - second))
    middle, apart = (one + other) / 2, one - other
    wide = half / ((first * (1 - first) + second * (1 - second)) / 2)
    low, high = (expit(middle + d / 2) - expit(middle - d / 2) for d in (apart - wide, apart + wide))
    return min(low, first - second), max(high, first - second)


def same_order(score: Floats, other: Floats) -> bool:
    """Whether the two rank every case alike, ties included."""
    order = np.argsort(score, kind="stable")
    return bool((np.sign(np.diff(score[order])) == np.sign(np.diff(other[order]))).all())


def _all_equal(values: Floats, errors: Floats) -> tuple[float, int, float]:
    contrast = np.column_stack([np.ones(len(values) - 1), -np.eye(len(values) - 1)])
    spread, gap = contrast @ errors @ contrast.T, contrast @ values
    scale = float(np.abs(errors).max())
    freedom = int(np.linalg.matrix_rank(spread, tol=max(1e-10 * scale, NOTHING), hermitian=True))
    if not freedom:
        return (0.0, 0, 1.0) if not gap.any() else (math.nan, 0, math.nan)
    inverse = np.linalg.pinv(spread, rcond=1e-10 * scale / np.linalg.norm(spread, 2), hermitian=True)
    statistic = float(gap @ inverse @ gap)
    return statistic, freedom, chi_square_tail(statistic, freedom)


@checked
def difference_statistic(first: Statistic, second: Statistic) -> Statistic:
    """What two statistics differ by, in the same resamples of the same patients, for the bootstrap."""
    names = [[(c.metric, c.of) for c in s.columns] for s in (first, second)]
    require(names[0] == names[1], "both statistics must have the same columns", given=names)

    columns = tuple(_apart(a, b) for a, b in zip(first.columns, second.columns))
    sums = _sums_apart(first.sums, second.sums)
    return Statistic(columns, lambda weights: first.compute(weights) - second.compute(weights), sums)


def _sums_apart(first: Sums | None, second: Sums | None) -> Sums | None:
    if first is None or second is None:
        return None
    one, other, many = first.of, second.of, first.cells.shape[1]
    both = np.column_stack((first.cells, second.cells))
    return Sums(both, lambda sums: one(sums[:, :many]) - other(sums[:, many:]))


def _apart(a: Column, b: Column) -> Column:
    few = min((f for f in (a.freedom, b.freedom) if f > 0), default=0)
    # closed: the interval is made of both afterwards; the value alone is asked for here
    closed = (lambda level: NO_INTERVAL) if a.closed and b.closed else None
    name, why = f"{a.metric} difference", a.reason or b.reason
    return replace(a, metric=name, scale="plain", freedom=few, reason=why, closed=closed)


@checked
def bootstrap_difference(
    first: Statistic,
    second: Statistic,
    patients: int,
    *,
    images: int = 0,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Difference]:
    """The paired difference of any two statistics with the same columns: F1, average precision, kappa and so on.

    Value ± z standard deviations of the difference over resamples of the patients 0 … P−1 (Student's t where a column
    asks for it). Of two ``closed`` columns the two intervals squared and added, with the correlation of how far each
    patient moves them. Where no resample differs from another, the interval is made of those of the two statistics; it
    has no width only where both are equal in every resample.

    >>> from overread.stats.classification import threshold_statistic as at
    >>> truth, codes = np.arange(8) < 4, np.arange(8)
    >>> a, b = at(truth, truth, codes, 8), at(truth, np.arange(8) < 3, codes, 8)
    >>> [round(d.difference.value, 3) for d in bootstrap_difference(a, b, 8, resamples=200)]
    [0.143, 0.125]
    """
    apart = difference_statistic(first, second)
    found = bootstrap([first, second, apart], patients, images=images, level=level, resamples=resamples, seed=seed)
    many = len(first.columns)
    sides = zip(first.columns, second.columns, apart.columns, found[:many], found[many : 2 * many], found[2 * many :])
    return [
        _of_closed(c, k, a, b, d) if c.closed and k.closed else _bootstrapped(a, b, d, gap.freedom)
        for c, k, gap, a, b, d in sides
    ]


def _of_closed(c: Column, k: Column, a: Estimate, b: Estimate, d: Estimate) -> Difference:
    if a.undefined or b.undefined or d.undefined or c.closed is None or k.closed is None:
        return without(a, b, d)
    ends = moved_apart(c.closed(a.level), k.closed(b.level))
    how = f"{c.note + '; ' if c.note else ''}both intervals squared and added, paired"
    return implied(a, b, replace(d, low=max(-1.0, ends.low), high=min(1.0, ends.high), method=how))


def _bootstrapped(a: Estimate, b: Estimate, d: Estimate, freedom: int) -> Difference:
    if d.undefined or math.isnan(d.low):
        return without(a, b, d)
    if d.low == d.high and d.value:
        low, high = square_and_add(a, b, 0.0)
        d = replace(d, low=low, high=high, method="intervals of the two, squared and added")
    return implied(a, b, d, freedom=freedom)


# -- placements: the share of the other class that a case beats. Every area under the ROC curve is their mean -----


#: So many scores are looked at to see whether they repeat.
SAMPLE = 300
#: Tables of so many slots (2 to the power of) for different scores, and how many tables at most.
SLOTS, TABLES = 12, 4
_ODD = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64)


@dataclass(frozen=True, eq=False)
class Shares:
    """M areas ``value`` (M,), and what each patient adds to them beyond the mean: ``ill`` and ``well`` (M, P).

    Per image, not per patient, where no patient repeats.
    """

    value: Floats
    ill: Floats
    well: Floats

    def only(self, *which: int) -> Shares:
        """Those of some models."""
        return Shares(*(x[list(which)] for x in (self.value, self.ill, self.well)))

    def apart(self, i: int, j: int) -> Shares:
        """Of area i minus area j."""
        return Shares(*(x[i : i + 1] - x[j : j + 1] for x in (self.value, self.ill, self.well)))


@dataclass(frozen=True, eq=False)
class Cohort:
    """Who is ill, and whose images these are: what all models that are compared share."""

    truth: Booleans  # (N,)
    codes: Integers  # (N,)
    images: int
    patients: int
    sizes: tuple[int, int]  # patients with a positive, with a negative

    @classmethod
    def of(cls, truth: Booleans, codes: Integers) -> Cohort:
        """``truth`` (N,), ``codes`` (N,) of the patients."""
        sizes = distinct(codes[truth]), distinct(codes[~truth])
        return cls(truth, codes, len(truth), distinct(codes), sizes)

    @property
    def clustered(self) -> bool:
        """Whether a patient has several images."""
        return self.patients < self.images

    def freedom(self, added: Shares) -> float:
        """The degrees of freedom of the variance of one area (or difference); 0 where no patient repeats."""
        if not self.clustered:
            return 0
        return clustered_freedom(self.truth, self.codes, added.ill[0] + added.well[0])

    def estimate(self, metric: str, added: Shares, placed: Floats, level: float, of: str = "") -> Estimate:
        """The area of ``placed`` (N,), one model's, with its interval (:func:`area_interval`)."""
        value, variance = float(added.value[0]), float(covariance(self, added)[0, 0])
        few = misplaced(self.truth, self.codes, value, (placed[self.truth], placed[~self.truth]))
        low, high, how = area_interval(self.truth, self.codes, value, variance, few, self.freedom(added), level)
        return Estimate(metric, value, low, high, level, how, self.images, self.patients, of)


@checked
def placements(truth: Booleans, score: Floats) -> Floats:
    """(N,): of a positive the share of negatives below it, of a negative the share of positives above it.

    Ties count one half. ``score`` finite, both classes present. What lies where within a tie does not matter, so
    the sort need not be stable, which makes it five times as fast. Few different scores are counted, not sorted.
    """
    if len(np.unique(score[:: max(1, len(score) // SAMPLE)])) < SAMPLE * 0.9 and len(score) >= 2 * SAMPLE:
        slots = _slots(score)
        if slots is not None:
            return _counted(truth, *slots)
    order = np.argsort(score)
    ranked, ill = score[order], truth[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # (G,) of each group of ties
    positives = np.cumsum(ill)[last].astype(np.float64)
    above, below = _from_counts(positives, last + 1 - positives)
    if len(last) < len(truth):
        sizes = np.diff(last, prepend=-1)
        above, below = np.repeat(above, sizes), np.repeat(below, sizes)
    placed = np.empty(len(truth))
    placed[order] = np.where(ill, below, above)
    return placed


def _from_counts(positives: Floats, negatives: Floats) -> tuple[Floats, Floats]:
    """(G,) counts up to each group of ties → its share of positives above, and of negatives below."""
    return 1 - _middle(positives) / positives[-1], _middle(negatives) / negatives[-1]


def _slots(score: Floats) -> tuple[Integers, Floats] | None:
    """The slot (N,) of each score in a table (S,) of the different ones, in no order; None if these are too many.

    Each score is written into the slot that its bits fall into; those that find another there go to the next table.
    """
    slot, left, tables = np.empty(len(score), np.int64), None, []
    for i in range(TABLES):
        mine = score if left is None else score[left]
        where = _scattered(mine, i)
        table = np.full(1 << SLOTS, np.nan)
        table[where] = mine
        tables.append(table)
        lost = np.flatnonzero(table[where] != mine)
        where += i << SLOTS
        if left is None:
            slot = where
        else:
            slot[left] = where
        if not len(lost):
            return slot, np.concatenate(tables)
        if len(lost) > len(mine) // 4:
            return None
        left = lost if left is None else left[lost]
    return None


def _scattered(score: Floats, table: int) -> Integers:
    """(N,) numbers below 2 to the SLOTS from the bits of scores: multiplicative hashing (Knuth); −0 falls where 0 does."""
    bits = (score + 0.0).view(np.uint64)
    bits *= _ODD[table]
    bits >>= np.uint64(64 - SLOTS)
    return bits.view(np.int64)


def _counted(truth: Booleans, slot: Integers, table: Floats) -> Floats:
    """The placements from how many of either class are in each slot."""
    mine = slot + len(table) * truth
    well, ill = np.bincount(mine, minlength=2 * len(table)).reshape(2, -1)
    used = np.flatnonzero(well + ill)
    used = used[np.argsort(table[used])]
    places = np.zeros((2, len(table)))
    places[0, used], places[1, used] = _from_counts(
        np.cumsum(ill[used]).astype(np.float64), np.cumsum(well[used]).astype(np.float64)
    )
    return places.ravel()[mine]


def _middle(total: Floats) -> Floats:
    """(G,) counts up to each group → counts before it and half of those within."""
    half = total / 2
    half[1:] += half[:-1].copy()
    return half


@checked
def shares(cohort: Cohort, placed: Floats) -> Shares:
    """The areas of ``placed`` (M, N), the mean over the positives, and what each patient adds to them."""
    value, ill = _share(cohort, placed, np.flatnonzero(cohort.truth))
    return Shares(value, ill, _share(cohort, placed, np.flatnonzero(~cohort.truth))[1])


def _share(cohort: Cohort, placed: Floats, rows: Integers) -> tuple[Floats, Floats]:
    """The means (M,) over one class's ``rows``, and each patient's deviation from it (M, P)."""
    mine = np.take(placed, rows, axis=1)
    mean = mine.mean(axis=1)
    mine -= mean[:, None]
    mine /= len(rows)
    if not cohort.clustered:
        return mean, mine
    codes, most = cohort.codes[rows], int(cohort.codes.max()) + 1
    return mean, np.stack([np.bincount(codes, row, most) for row in mine])


@checked
def covariance(cohort: Cohort, added: Shares) -> Floats:
    """(M, M) covariance of M areas from their :func:`shares`: Obuchowski 1997.

    Sums within patients; without repeats it is DeLong, DeLong & Clarke-Pearson 1988. Zero where a
    class has one patient.
    """
    if min(cohort.sizes) < 2:
        return np.zeros((len(added.value), len(added.value)))
    own = [n / (n - 1) * (one @ one.T) for n, one in zip(cohort.sizes, (added.ill, added.well))]
    if not cohort.clustered:
        return own[0] + own[1]
    cross = cohort.patients / (cohort.patients - 1) * (added.ill @ added.well.T)
    return own[0] + own[1] + cross + cross.T


@checked
def variance_between(cohort: Cohort, added: Shares, i: int, j: int) -> float:
    """The variance of area i minus area j: exactly zero where both place every case alike."""
    return float(covariance(cohort, added.apart(i, j))[0, 0])

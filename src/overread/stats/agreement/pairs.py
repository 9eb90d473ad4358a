"""Whether readers give a case one answer: percent and specific agreement, Cohen's kappa."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import (
    TINY,
    Floats,
    Integers,
    Patients,
    distinct,
    normal_quantile,
    patient_codes,
    real_numbers,
    t_quantile,
    t_shrinkage,
)
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion, wilson
from overread.stats.resample import Column, Statistic, Weights, bootstrapped, per_patient

Disagreement = Literal["none", "linear", "quadratic"]
Interval = Literal["wilson", "plain"]
Compute = Callable[[Weights], Floats]
#: More classes than this are a measurement, or wrongly numbered.
MOST_CLASSES = 200


@dataclass(frozen=True, eq=False)
class Ratings:
    """Answers of readers to cases, of the cases that two readers or more have answered.

    ``counts`` (N, C) says how many readers gave a case each class; ``dropped`` cases had fewer than two.
    """

    table: Floats  # (N, R), NaN where a reader did not answer
    codes: Integers
    classes: int
    dropped: int
    reason: str  # why nothing can be computed; else empty

    @property
    def counts(self) -> Floats:
        """(N, C) readers per class."""
        cells = np.arange(len(self.table))[:, None] * self.classes + np.nan_to_num(self.table).astype(np.int64)
        known = ~np.isnan(self.table)
        found = np.bincount(cells[known], minlength=len(self.table) * self.classes)
        return found.reshape(len(self.table), self.classes).astype(np.float64)

    @property
    def patients(self) -> int:
        """How many patients there are."""
        return distinct(self.codes)

    @property
    def note(self) -> str:
        """What every method begins with."""
        return f"{self.dropped} cases with fewer than two answers left out" if self.dropped else ""

    def column(self, metric: str, of: str = "", *, reason: str = "no cases") -> Column:
        """A column of the bootstrap over these cases."""
        return Column(metric, of, len(self.table), self.patients, note=self.note, reason=reason)

    def per_patient(self, *columns: NDArray[Any]) -> Floats:
        """(P, columns) sums of each column (N,) over the cases of each patient."""
        return per_patient(self.codes, int(self.codes.max()) + 1, *columns)

    def undefined(self, metric: str, reason: str, of: str = "") -> Estimate:
        """An estimate of these cases without a value."""
        return undefined(metric, reason, of=of, images=len(self.table), patients=self.patients)

    def bootstrapped(
        self, column: Column, compute: Compute, level: float, resamples: int | None, seed: int
    ) -> Estimate:
        """The estimate of one column by patient bootstrap."""
        statistic = Statistic((column,), compute)
        return bootstrapped(statistic, self.codes, level=level, resamples=resamples, seed=seed)[0]


def answers(ratings: ArrayLike, patients: Patients, *, whole: bool = True, least: int | None = 2) -> Ratings:
    """``ratings`` (N, R), checked: classes 0, 1, … (any numbers where not ``whole``), NaN where missing.

    Cases with fewer than ``least`` answers (None: one of each reader) are left out. Raises :class:`ArgumentError` for
    anything that is not a number or a class.
    """
    table = real_numbers(ratings, "ratings")
    require(table.ndim == 2, "ratings must have one row per case, one column per reader", given=table.shape)
    codes = patient_codes(patients, len(table))
    known, bad = ~np.isnan(table), int(np.isinf(table).sum())
    finite = table[known & ~np.isinf(table)]
    numbered = not whole or bool(((finite >= 0) & (finite == np.floor(finite))).all())
    require(numbered, "ratings must be class numbers 0, 1, …", todo="number the classes, NaN for a missing answer")
    most = int(finite.max()) + 1 if whole and finite.size else 1
    require(most <= MOST_CLASSES, "there are too many classes", given=most, todo="number them 0, 1, 2, …")
    least = table.shape[1] if least is None else least
    keep = known.sum(axis=1) >= least
    reason = f"{bad} of {table.size} ratings are not finite" if bad else ""
    reason = reason or ("" if keep.any() else "no case with two answers" if least > 1 else "no cases")
    codes = patient_codes(codes[keep], int(keep.sum()))  # a patient without a case cannot be drawn
    return Ratings(table[keep], codes, most, int((~keep).sum()), reason)


@checked
def percent_agreement(
    ratings: ArrayLike, patients: Patients = None, *, level: float = 0.95, resamples: int | None = None, seed: int = 0
) -> Estimate:
    """The chance that two readers of a case give it one class.

    ``ratings`` (N, R) class numbers 0, 1, …, NaN where missing, ``patients`` (N,) or None. The mean over cases
    of the share of pairs of readers that agree (Fleiss 1971). Two readers: Wilson, clustered where
    patients repeat; more: patient bootstrap. Undefined without a case that two readers answered.

    >>> print(percent_agreement([[0, 0], [1, 1], [0, 1], [1, 1]]))
    0.750 (0.301–0.954)
    """
    given = answers(ratings, patients)
    if given.reason:
        return given.undefined("agreement", given.reason)
    if given.table.shape[1] == 2:
        same = given.table[:, 0] == given.table[:, 1]
        return proportion(same, given.codes, level=level, metric="agreement")
    agreeing = share_agreeing(given.counts)
    cells = given.per_patient(np.ones(len(agreeing)), agreeing)

    def compute(weights: Weights) -> Floats:
        many, total = (weights @ cells).T
        return (total / many)[:, None]

    column = replace(given.column("agreement"), effective=given.patients, freedom=given.patients - 1)
    return given.bootstrapped(column, compute, level, resamples, seed)


def share_agreeing(counts: Floats) -> Floats:
    """(N,) the share of each case's pairs of readers that agree."""
    readers = counts.sum(axis=1)
    return ((counts**2).sum(axis=1) - readers) / (readers * (readers - 1))


@checked
def specific_agreement(
    ratings: ArrayLike,
    patients: Patients = None,
    *,
    classes: int | None = None,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """For each class: where a reader gives it, the chance that another reader of the case does too.

    ``ratings`` (N, R) class numbers 0 … ``classes``−1, NaN where missing, ``patients`` (N,) or None. With two readers
    and two classes these are the negative and positive agreement of Cicchetti & Feinstein 1990, 2a / (2a + b + c); for
    more readers Uebersax 1982. Patient bootstrap. Undefined for a class that nobody gave.

    >>> [round(e.value, 3) for e in specific_agreement([[0, 0], [1, 1], [0, 1], [1, 1]])]
    [0.667, 0.8]
    """
    given = answers(ratings, patients)
    named = [str(k) for k in range(classes or given.classes)]
    require(len(named) >= given.classes, "a rating lies outside the classes", given=f"{given.classes} found")
    if given.reason:
        return [given.undefined("specific agreement", given.reason, name) for name in named]
    counts = given.counts
    both = counts * (counts - 1)
    every = counts * (counts.sum(axis=1, keepdims=True) - 1)
    sums = given.per_patient(*both.T), given.per_patient(*every.T)

    def compute(weights: Weights) -> Floats:
        agreed, asked = (weights @ cells for cells in sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.hstack((agreed / asked, np.full((len(weights), len(named) - given.classes), math.nan)))

    carriers = [distinct(given.codes[c > 0]) for c in counts.T] + [0] * (len(named) - given.classes)
    columns = []
    for name, few in zip(named, carriers):
        column = given.column("specific agreement", name, reason=f"nobody gave class {name}")
        columns.append(replace(column, effective=max(few, 1), freedom=max(few - 1, 0)))
    return bootstrapped(Statistic(tuple(columns), compute), given.codes, level=level, resamples=resamples, seed=seed)


@checked
def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    patients: Patients = None,
    *,
    weights: Disagreement = "none",
    classes: int | None = None,
    level: float = 0.95,
    method: Interval = "wilson",
) -> Estimate:
    """Cohen's kappa of two readers: agreement beyond what their habits alone would give.

    ``first`` and ``second`` (N,) class numbers 0 … ``classes``−1, NaN where missing, ``patients`` (N,) or None.
    ``weights``: how a disagreement grows with the distance of the classes. Variance: Fleiss, Cohen & Everitt 1969;
    where patients repeat, its terms are summed within patients. ``method``: ``wilson`` takes that variance for one of
    the observed agreement, of as many cases as would be as uncertain, puts Wilson's interval round it, and takes the
    agreement by chance from either end: so it is continuous up to readers who never disagree, where it is Wilson's
    bound for the patients. Simulated coverage 93 to 97 % from 30 cases on. ``plain`` is value ± z standard errors, as
    textbooks have it, which at 30 to 60 cases covers 84 to 93 %. Undefined without a case that both answered, or where
    both give a single class.

    >>> print(cohen_kappa([0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]))
    0.667 (-0.127 to 0.940)
    """
    one, other = np.asarray(first), np.asarray(second)
    fits, shapes = one.ndim == 1 and one.shape == other.shape, f"{one.shape}, {other.shape}"
    require(fits, "two readers must have answered equally many cases", given=shapes)
    given = answers(np.column_stack((one, other)), patients)
    count = classes or given.classes
    require(count >= given.classes, "a rating lies outside the classes", given=f"{given.classes} found")
    metric = {"none": "kappa", "linear": "linear kappa", "quadratic": "quadratic kappa"}[weights]
    if given.reason:
        return given.undefined(metric, given.reason)
    pairs = given.table.astype(np.int64)
    credit = _credit(count, weights)
    rows, columns = (np.bincount(side, minlength=count) / len(pairs) for side in pairs.T)
    by_chance = float(rows @ credit @ columns)
    if 1 - by_chance < 1e-12:
        return given.undefined(metric, "both readers give one class only")
    earned = credit[pairs[:, 0], pairs[:, 1]]
    observed = float(earned.mean())
    value = (observed - by_chance) / (1 - by_chance)
    habit = (credit @ columns)[pairs[:, 0]] + (rows @ credit)[pairs[:, 1]]
    terms = earned * (1 - by_chance) - habit * (1 - observed)  # Fleiss, Cohen & Everitt 1969
    terms = (terms - terms.mean()) / (1 - by_chance) ** 2
    low, high, how = _kappa_interval(given, value, terms, earned, by_chance, level, method)
    how = f"{given.note}; {how}" if given.note else how
    return Estimate(metric, value, low, high, level, how, len(pairs), given.patients)


def _credit(classes: int, weights: Disagreement) -> Floats:
    """(C, C) what an answer pair earns: 1 for the same class, less the further apart."""
    if weights == "none":
        return np.eye(classes)
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))) / max(classes - 1, 1)
    return 1 - (apart if weights == "linear" else apart**2)


def _kappa_interval(
    given: Ratings, value: float, terms: Floats, earned: Floats, by_chance: float, level: float, method: Interval
) -> tuple[float, float, str]:
    """``terms`` (N,) what each case adds to kappa, ``earned`` (N,) its credit."""
    patients, z = given.patients, normal_quantile(level)
    apart = distinct(given.codes[given.table[:, 0] != given.table[:, 1]])
    if not apart:
        least = wilson(1.0, patients, z)[0]
        return max(-1.0, (least - by_chance) / (1 - by_chance)), 1.0, f"Wilson bound for {patients} patients"
    if patients < 2:
        return math.nan, math.nan, "no interval: one patient"
    variance = _mean_variance(given, terms)
    clustered = patients < len(terms)
    how = "Fleiss, Cohen & Everitt 1969" + (", by patient" if clustered else "")
    if method == "plain":
        half = (t_quantile(level, patients - 1) if clustered else z) * math.sqrt(variance)
        return max(-1.0, value - half), min(1.0, value + half), how
    observed = float(earned.mean())
    variance = max(variance * (1 - by_chance) ** 2, _mean_variance(given, earned - observed))
    shrink = t_shrinkage(level, patients - 1) if clustered else 1.0
    spread = observed * (1 - observed)
    alone = 1 / patients  # of one case, where each stands for a patient: so where nobody disagrees, or everybody
    each = variance / (spread * shrink) if spread > TINY else alone
    # Half a patient like that is added: few who disagree tell little of how much they do.
    effective = 1 / max(each, (apart * each + alone / 2) / (apart + 1 / 2))
    low, high = ((end - by_chance) / (1 - by_chance) for end in wilson(observed, effective, z))
    return max(-1.0, low), high, f"{how}, Wilson"


def _mean_variance(given: Ratings, deviations: Floats) -> float:
    """Of the mean over cases of what has the ``deviations`` (N,), which are summed by patient."""
    sums = np.bincount(given.codes, deviations)
    correct = given.patients / (given.patients - 1) if given.patients < len(deviations) else 1.0
    return correct * float(sums @ sums) / len(deviations) ** 2


# -- intraclass correlation: how alike readers measure ------------------------------------------------------------


Kind = Literal["agreement", "consistency"]
Sampled = Literal["random", "fixed"]
NAMES = {"agreement": "icc(2,1)", "consistency": "icc(3,1)"}


@checked
def intraclass_correlation(
    ratings: ArrayLike,
    patients: Patients = None,
    *,
    kind: Kind = "agreement",
    readers: Sampled = "random",
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The share of the variance of one reader's measurements that belongs to the cases.

    ``ratings`` (N, R) numbers in one unit, ``patients`` (N,) or None. ``agreement``: readers are a sample, and a reader
    who always measures more disagrees: ICC(2,1); ``consistency``: these readers, and such a shift is forgiven:
    ICC(3,1). ``readers="fixed"``: the agreement of these readers, as of a named pair, whose shift is seen in every
    case; ``random``: of readers like these, of whose shifts there are only as many as readers. Shrout & Fleiss 1979,
    with their interval from F for ICC(3,1), generalised pivots for ICC(2,1), and a patient bootstrap where patients
    repeat. Cases with a missing answer are left out. Undefined for one reader, fewer than two cases, one and the same
    value throughout, or an infinite one.

    >>> judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> print(intraclass_correlation(judged))
    0.290 (0.027–0.745)
    """
    normal_quantile(level)
    given = answers(ratings, patients, whole=False, least=None)
    count, metric = given.table.shape[1], NAMES[kind]
    if "finite" in given.reason or len(given.table) < 2:
        few = "fewer than two cases that all readers measured"
        return given.undefined(metric, given.reason if "finite" in given.reason else few)
    if count < 2:
        return given.undefined(metric, "one reader")
    x = given.table - given.table.mean()  # centred and scaled: sums of squares lose no digits
    given = replace(given, table=x / (float(np.abs(x).max()) or 1.0))
    if given.patients < len(given.table):
        return _clustered(given, kind, level, resamples, seed)
    squares = _mean_squares(_cells(given).sum(axis=0, keepdims=True), count)
    value = float(_correlation(squares, len(x), count, kind)[0])
    if math.isnan(value):
        return given.undefined(metric, "all answers are alike")
    between, reader, error = (float(square[0]) for square in squares)
    if error == 0:
        low, high, how = math.nan, math.nan, "no interval: the readers never differ in order"
    elif kind == "consistency":
        low, high = _consistency_interval(between / error, len(x), count, level)
        how = "Shrout & Fleiss 1979, F"
    else:
        low, high = _agreement_interval(between, reader, error, len(x), count, level, readers)
        # Of two cases the estimate can lie outside, far below 0.
        low, high = min(low, value), max(high, value)
        how = "generalised pivots" + (", these readers" if readers == "fixed" else "")
    how = f"{given.note}; {how}" if given.note else how
    return Estimate(metric, value, low, high, level, how, len(x), given.patients)


def _cells(given: Ratings) -> Floats:
    """(P, 3 + R): of each patient the cases, sum of squares, squared sums of the cases, and sums by reader."""
    x = given.table
    return given.per_patient(np.ones(len(x)), (x**2).sum(axis=1), x.sum(axis=1) ** 2, *x.T)


def _mean_squares(sums: Floats, readers: int) -> tuple[Floats, ...]:
    """(B,) each: between cases, between readers, error; from (B, 3 + R) sums of cells."""
    cases, square, rows = sums.T[:3]
    middle = sums[:, 3:].sum(axis=1) ** 2 / (cases * readers)
    between = np.maximum(rows / readers - middle, 0)
    reader = np.maximum((sums[:, 3:] ** 2).sum(axis=1) / cases - middle, 0)
    rest = np.maximum(square - middle - between - reader, 0)
    rest[rest < 1e-13 * cases] = 0.0  # the rounding of zero
    with np.errstate(invalid="ignore", divide="ignore"):
        few = cases - 1
        return between / few, reader / (readers - 1), rest / (few * (readers - 1))


def _correlation(squares: tuple[Floats, ...], cases: Floats | int, readers: int, kind: Kind) -> Floats:
    between, reader, error = squares
    whole = between + (readers - 1) * error
    if kind == "agreement":
        whole = whole + readers * (reader - error) / cases
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 1e-14, (between - error) / whole, math.nan)


def _consistency_interval(ratio: float, n: int, k: int, level: float) -> tuple[float, float]:
    """Shrout & Fleiss 1979, page 424, for ICC(3,1)."""
    from scipy.special import fdtri

    few, many, tail = n - 1, (n - 1) * (k - 1), 0.5 + level / 2
    low, high = ratio / fdtri(few, many, tail), ratio * fdtri(many, few, tail)
    return float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1))


def _agreement_interval(
    between: float, reader: float, error: float, n: int, k: int, level: float, readers: Sampled
) -> tuple[float, float]:
    """Quantiles of the ICC(2,1) that the mean squares allow, each divided by a mean of χ² draws.

    Generalised pivotal quantities (Weerahandi 1993; Ionan et al. 2014). The interval of Shrout & Fleiss 1979 covers 84
    to 93 % where readers differ much and are few; this one 94 to 95. No draws are needed: over those of cases and error
    runs Gauss's quadrature, and that of the readers is solved for. The square of fixed readers is that of their shifts
    beside the error: χ² around them (noncentral).
    """
    from scipy.special import chdtr, chndtr, gammaincinv

    nodes, shares = np.polynomial.legendre.leggauss(32)
    grid, many, share = (nodes + 1) / 2, (n - 1) * (k - 1), np.outer(shares, shares) / 4
    case = between * (n - 1) / (2 * gammaincinv((n - 1) / 2, grid))[:, None]
    rest = error * many / (2 * gammaincinv(many / 2, grid))

    def below(icc: float) -> float:
        """The chance that the ICC is at most ``icc``: that the readers' square is at least ``least``."""
        least = n / k * ((case - rest) / icc - case - (k - 1) * rest) + rest
        if readers == "fixed":
            shift = np.maximum((least - rest) / rest, 0.0) * (k - 1)
            chance = np.where(shift > 0, chndtr(reader * (k - 1) / rest, k - 1, shift), 1.0)
        else:
            above = least > 0
            chance = np.where(above, chdtr(k - 1, reader * (k - 1) / np.where(above, least, 1.0)), 1.0)
        total = float((share * chance).sum())
        return total if icc > 0 else 1 - total

    lowest = min(-1.0, 2 * (between - error) / error)
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = (_solve(below, tail, lowest) for tail in tails)
    return low, high


def _solve(rising: Callable[[float], float], wanted: float, low: float) -> float:
    """Where a rising function of −1 … 1 takes a value."""
    high = 1.0
    for _ in range(40):
        middle = (low + high) / 2 or 1e-12  # at 0 itself the readers' square drops out
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def _clustered(given: Ratings, kind: Kind, level: float, resamples: int | None, seed: int) -> Estimate:
    readers, cells = given.table.shape[1], _cells(given)

    def compute(weights: Weights) -> Floats:
        sums = weights @ cells
        with np.errstate(invalid="ignore", divide="ignore"):
            return _correlation(_mean_squares(sums, readers), sums[:, 0], readers, kind)[:, None]

    column = given.column(NAMES[kind], reason="all answers are alike")
    column = replace(column, scale="below one", freedom=given.patients - 1)
    return given.bootstrapped(column, compute, level, resamples, seed)

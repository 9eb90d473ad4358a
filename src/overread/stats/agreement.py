"""Whether readers give a case one answer: percent and specific agreement, Cohen's kappa."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import ArgumentError, checked, require
from overread.stats.arrays import distinct, normal_quantile, patient_codes, t_quantile
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion, wilson
from overread.stats.resample import Column, Statistic, Weights, bootstrap

Disagreement = Literal["none", "linear", "quadratic"]
Interval = Literal["fisher", "plain"]
#: More classes than this are a measurement, or wrongly numbered.
MOST_CLASSES = 200


@dataclass(frozen=True, eq=False)
class Ratings:
    """Answers of readers to cases, of the cases that two readers or more have answered.

    ``counts`` (N, C) says how many readers gave a case each class; ``dropped`` cases had fewer than two.
    """

    table: NDArray[np.float64]  # (N, R), NaN where a reader did not answer
    codes: NDArray[np.int64]
    classes: int
    dropped: int
    why: str

    @property
    def counts(self) -> NDArray[np.float64]:
        """(N, C) readers per class."""
        cells = np.arange(len(self.table))[:, None] * self.classes + np.nan_to_num(self.table).astype(
            np.int64
        )
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

    def column(self, metric: str, of: str = "", *, why: str = "no cases") -> Column:
        """A column of the bootstrap over these cases."""
        return Column(metric, of, len(self.table), self.patients, note=self.note, why=why)

    def undefined(self, metric: str, why: str, of: str = "") -> Estimate:
        """An estimate of these cases without a value."""
        return undefined(metric, why, of=of, images=len(self.table), patients=self.patients)


def answers(
    ratings: ArrayLike, patients: ArrayLike | None, *, whole: bool = True, least: int | None = 2
) -> Ratings:
    """``ratings`` (N, R), checked: classes 0, 1, … (any numbers where not ``whole``), NaN where missing.

    Cases with fewer than ``least`` answers (None: one of each reader) are left out. Raises :class:`ArgumentError` for anything that is
    not a number or a class.
    """
    try:
        table = np.asarray(ratings, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError("ratings must be numbers", given=type(ratings).__name__) from error
    require(table.ndim == 2, "ratings must have one row per case, one column per reader", given=table.shape)
    codes = patient_codes(patients, len(table))
    known, bad = ~np.isnan(table), int(np.isinf(table).sum())
    finite = table[known & ~np.isinf(table)]
    require(
        not whole or bool(((finite >= 0) & (finite == np.floor(finite))).all()),
        "ratings must be class numbers 0, 1, …",
        todo="number the classes, NaN for a missing answer",
    )
    most = int(finite.max()) + 1 if whole and finite.size else 1
    require(most <= MOST_CLASSES, "there are too many classes", given=most, todo="number them 0, 1, 2, …")
    least = table.shape[1] if least is None else least
    keep = known.sum(axis=1) >= least
    why = f"{bad} of {table.size} ratings are not finite" if bad else ""
    why = why or ("" if keep.any() else "no case with two answers" if least > 1 else "no cases")
    codes = patient_codes(codes[keep], int(keep.sum()))  # a patient without a case cannot be drawn
    return Ratings(table[keep], codes, most, int((~keep).sum()), why)


def pair(first: ArrayLike, second: ArrayLike, patients: ArrayLike | None) -> Ratings:
    """Two readers' answers (N,) each, checked."""
    one, other = np.asarray(first), np.asarray(second)
    require(
        one.ndim == 1 and one.shape == other.shape,
        "two readers must have answered equally many cases",
        given=f"{one.shape}, {other.shape}",
    )
    return answers(np.column_stack((one, other)), patients)


@checked
def percent_agreement(
    ratings: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The chance that two readers of a case give it one class.

    ``ratings`` (N, R) class numbers 0, 1, …, NaN where missing, ``patients`` (N,) or None. The mean over cases
    of the share of pairs of readers that agree (Fleiss 1971). Two readers: Wilson, clustered where
    patients repeat; more: patient bootstrap. Undefined without a case that two readers answered.

    >>> print(percent_agreement([[0, 0], [1, 1], [0, 1], [1, 1]]))
    0.750 (0.301–0.954)
    """
    given = answers(ratings, patients)
    if given.why:
        return given.undefined("agreement", given.why)
    if given.table.shape[1] == 2:
        same = given.table[:, 0] == given.table[:, 1]
        return proportion(same, given.codes, level=level, metric="agreement")
    agreeing, _ = pairs_of(given.counts)
    codes, count = given.codes, int(given.codes.max()) + 1
    cells = np.column_stack((np.bincount(codes, minlength=count), np.bincount(codes, agreeing, count)))

    def compute(weights: Weights) -> NDArray[np.float64]:
        many, total = (weights @ cells).T
        return (total / many)[:, None]

    few = given.patients
    column = replace(given.column("agreement"), effective=few, freedom=few - 1)
    statistic = Statistic((column,), compute)
    return bootstrap([statistic], count, images=len(codes), level=level, resamples=resamples, seed=seed)[0]


def pairs_of(counts: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) the share of each case's pairs of readers that agree, and how many readers it had."""
    readers = counts.sum(axis=1)
    return ((counts**2).sum(axis=1) - readers) / (readers * (readers - 1)), readers


@checked
def specific_agreement(
    ratings: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    classes: int | None = None,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """For each class: where a reader gives it, the chance that another reader of the case does too.

    ``ratings`` (N, R) class numbers 0 … ``classes``−1, NaN where missing, ``patients`` (N,) or None. With two
    readers and two classes these are the negative and positive agreement of Cicchetti & Feinstein 1990,
    2a / (2a + b + c); for more readers Uebersax 1982. Patient bootstrap. Undefined for a class that nobody
    gave.

    >>> [round(e.value, 3) for e in specific_agreement([[0, 0], [1, 1], [0, 1], [1, 1]])]
    [0.667, 0.8]
    """
    given = answers(ratings, patients)
    named = [str(k) for k in range(classes or given.classes)]
    require(len(named) >= given.classes, "a rating lies outside the classes", given=f"{given.classes} found")
    if given.why:
        return [given.undefined("specific agreement", given.why, name) for name in named]
    counts, count = given.counts, int(given.codes.max()) + 1
    both = counts * (counts - 1)
    every = counts * (counts.sum(axis=1, keepdims=True) - 1)
    sums = [np.stack([np.bincount(given.codes, c, count) for c in part.T], axis=1) for part in (both, every)]

    def compute(weights: Weights) -> NDArray[np.float64]:
        agreed, asked = (weights @ cells for cells in sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.hstack((agreed / asked, np.full((len(weights), len(named) - given.classes), math.nan)))

    carriers = [distinct(given.codes[c > 0]) for c in counts.T] + [0] * (len(named) - given.classes)
    columns = tuple(
        Column("specific agreement", name, len(counts), given.patients, effective=max(few, 1), freedom=max(few - 1, 0),
               note=given.note, why=f"nobody gave class {name}")
        for name, few in zip(named, carriers)
    )  # fmt: skip
    statistic = Statistic(columns, compute)
    return bootstrap([statistic], count, images=len(counts), level=level, resamples=resamples, seed=seed)


@checked
def cohen_kappa(
    first: ArrayLike,
    second: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    weights: Disagreement = "none",
    classes: int | None = None,
    level: float = 0.95,
    method: Interval = "fisher",
) -> Estimate:
    """Cohen's kappa of two readers: agreement beyond what their habits alone would give.

    ``first`` and ``second`` (N,) class numbers 0 … ``classes``−1, NaN where missing, ``patients`` (N,) or
    None. ``weights``: how a disagreement grows with the distance of the classes. Variance: Fleiss, Cohen &
    Everitt 1969; where patients repeat, its terms are summed within patients. ``method``:
    ``fisher`` carries the interval out on Fisher's z, with Student's t of twice as many degrees of freedom as
    there are patients on whom the readers disagree: simulated coverage 94 to 97 % from 60 cases on (at 30 cases 91
    where nine of ten are one class, 98 where readers disagree on three); ``plain`` is value ± z standard errors,
    as textbooks have it, which at 30 to 60 cases covers 84 to 93 %. Readers who never disagree keep the width of
    Wilson's bound. Undefined without a case that both answered, or where both give a single class.

    >>> print(cohen_kappa([0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 0]))
    0.667 (-0.885 to 0.995)
    """
    given = pair(first, second, patients)
    count = classes or given.classes
    require(count >= given.classes, "a rating lies outside the classes", given=f"{given.classes} found")
    metric = {"none": "kappa", "linear": "linear kappa", "quadratic": "quadratic kappa"}[weights]
    if given.why:
        return given.undefined(metric, given.why)
    pairs = given.table.astype(np.int64)
    credit = _credit(count, weights)
    rows, columns = (np.bincount(side, minlength=count) / len(pairs) for side in pairs.T)
    by_chance = float(rows @ credit @ columns)
    if 1 - by_chance < 1e-12:
        return given.undefined(metric, "both readers give one class only")
    seen = credit[pairs[:, 0], pairs[:, 1]]
    observed = float(seen.mean())
    value = (observed - by_chance) / (1 - by_chance)
    habit = (credit @ columns)[pairs[:, 0]] + (rows @ credit)[pairs[:, 1]]
    terms = seen * (1 - by_chance) - habit * (1 - observed)  # Fleiss, Cohen & Everitt 1969
    terms = (terms - terms.mean()) / (1 - by_chance) ** 2
    low, high, how = _kappa_interval(given, value, terms, by_chance, level, method)
    how = f"{given.note}; {how}" if given.note else how
    return Estimate(metric, value, low, high, level, how, len(pairs), given.patients)


def _credit(classes: int, weights: Disagreement) -> NDArray[np.float64]:
    """(C, C) what an answer pair earns: 1 for the same class, less the further apart."""
    if weights == "none":
        return np.eye(classes)
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))) / max(classes - 1, 1)
    return 1 - (apart if weights == "linear" else apart**2)


def _kappa_interval(
    given: Ratings, value: float, terms: NDArray[np.float64], by_chance: float, level: float, method: Interval
) -> tuple[float, float, str]:
    patients, z = given.patients, normal_quantile(level)
    if value > 1 - 1e-12:
        least = wilson(1.0, patients, z)[0]
        return max(-1.0, (least - by_chance) / (1 - by_chance)), 1.0, f"Wilson bound for {patients} patients"
    if patients < 2:
        return math.nan, math.nan, "no interval: one patient"
    sums = np.bincount(given.codes, terms)
    clustered = patients < len(terms)
    correct = patients / (patients - 1) if clustered else 1.0
    error = math.sqrt(correct * float(sums @ sums)) / len(terms)
    how = "Fleiss, Cohen & Everitt 1969" + (", by patient" if clustered else "")
    if method == "plain":
        half = (t_quantile(level, patients - 1) if clustered else z) * error
        return max(-1.0, value - half), min(1.0, value + half), how
    apart = distinct(given.codes[given.table[:, 0] != given.table[:, 1]])
    half = t_quantile(level, min(patients - 1, 2 * apart)) * error / max(1 - value**2, 1e-12)
    centre = math.atanh(max(value, -1 + 1e-12))
    return math.tanh(centre - half), math.tanh(centre + half), f"{how}, Fisher's z"

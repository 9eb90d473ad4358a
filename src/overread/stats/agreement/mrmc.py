"""Several readers read the same cases: do two modalities differ, or a model and the readers?

Obuchowski & Rockette 1995 with the covariance of DeLong, DeLong & Clarke-Pearson 1988; degrees of freedom after
Hillis 2007 and 2014. Every reader has read every case in every modality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

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
    logit_interval,
    no_ranking,
    normal_quantile,
    not_finite,
    numbers,
    patient_codes,
    real_numbers,
    t_quantile,
    zero_one,
)
from overread.stats.classification import at_threshold
from overread.stats.discrimination.delong import Cohort, covariance, placements, shares
from overread.stats.discrimination.roc import NEWCOMBE, Ranking, auc, newcombe, rank
from overread.stats.estimate import Difference, Estimate, undefined, without
from overread.stats.froc import height_at
from overread.stats.proportions import proportion, wilson
from overread.stats.resample import Column, Statistic, Weights, bootstrapped, per_patient


@dataclass(frozen=True)
class Modalities:
    """Modalities compared: each reader's merit (R × M), the means, every pair's difference, the test of all.

    ``statistic`` is F with ``freedom``; the second is ∞ where readers are fixed. ``p`` is NaN where nothing varies.
    """

    each: tuple[tuple[Estimate, ...], ...]
    means: tuple[Estimate, ...]
    differences: tuple[Difference, ...]
    statistic: float = math.nan
    freedom: tuple[float, float] = (math.nan, math.nan)
    p: float = math.nan
    components: Components | None = None


@dataclass(frozen=True)
class AgainstReaders:
    """A model, each reader, and model minus the readers' mean; ``freedom`` is that of its test."""

    model: Estimate
    each: tuple[Estimate, ...]
    mean: Estimate
    difference: Difference
    freedom: float = math.nan


@checked
def compare_modalities(
    truth: ArrayLike,
    scores: ArrayLike,
    patients: Patients = None,
    *,
    merit: Merit = "auc",
    readers: Sampled = "random",
    cases: Sampled = "random",
    level: float = 0.95,
    names: Sequence[str] = (),
) -> Modalities:
    """Whether the readers' mean merit differs between modalities, for readers and cases like these.

    ``truth`` (N,) 0/1, ``scores`` (N, R, M) of R readers in M modalities (calls 0/1 for sensitivity and
    specificity), ``patients`` (N,) or None, ``names`` of the modalities. ``readers="fixed"``: these readers
    only; ``cases="fixed"``: these cases only. Obuchowski & Rockette 1995; F, degrees of freedom and intervals
    after Hillis 2007, and Hillis 2014. A mean uses its own modality only and stands on the
    logit scale. Undefined for one class, a score that is not finite, one reader where readers are random.

    >>> scores = np.random.default_rng(0).normal(size=(60, 4, 2)) + (np.arange(60) % 2)[:, None, None]
    >>> len(compare_modalities(np.arange(60) % 2, scores).differences)
    1
    """
    given = readings(truth, scores, patients, 3, merit=merit, readers=readers, cases=cases, level=level)
    count, modalities = np.shape(scores)[1:]
    require(len(names) in (0, modalities), "there must be one name per modality", given=len(names))
    of = tuple(names) or tuple(str(k + 1) for k in range(modalities))
    if reason := given.obstacle(count):
        lost = tuple(given.undefined(reason, name) for name in of)
        pairs = combinations(lost, 2)
        return Modalities((lost,) * count, lost, tuple(_no_difference(given, reason, *pair) for pair in pairs))
    values, errors = merits(given)
    table = values.reshape(count, modalities)
    means = tuple(_mean(given, table[:, m], errors[m::modalities, m::modalities], name) for m, name in enumerate(of))
    each = tuple(tuple(given.alone(r * modalities + m, name) for m, name in enumerate(of)) for r in range(count))
    c = variance_components(table, errors)
    own, shared = c.variance - c.same_reader, c.same_modality - c.neither
    term, freedom = error_term(given, count, c.interaction, (count - 1) * (modalities - 1), own, shared)
    differences = tuple(
        _difference(given, means[a], means[b], 2 * term / count, freedom, c.variance)
        for a, b in combinations(range(modalities), 2)
    )
    return Modalities(each, means, differences, *_overall(c.modality, term, modalities - 1, freedom), c)


def _overall(between: float, term: float, freedom: int, second: float) -> tuple[float, tuple[float, float], float]:
    """F, its degrees of freedom and p; NaN where there is one modality or no variance."""
    from scipy.special import chdtrc, fdtrc

    both = float(freedom), second
    if not freedom or term <= TINY:
        return math.nan, both, math.nan
    ratio = between / term
    exact = fdtrc(freedom, second, ratio) if math.isfinite(second) else chdtrc(freedom, freedom * ratio)
    return ratio, both, float(exact)


@checked
def compare_with_readers(
    truth: ArrayLike,
    model: ArrayLike,
    scores: ArrayLike,
    patients: Patients = None,
    *,
    merit: Merit = "auc",
    readers: Sampled = "random",
    cases: Sampled = "random",
    level: float = 0.95,
) -> AgainstReaders:
    """Whether one model differs from the mean of readers who have read the same cases.

    ``truth`` (N,) 0/1, ``model`` (N,) and ``scores`` (N, R) of R readers (calls 0/1 for sensitivity and specificity),
    ``patients`` (N,) or None. The merit is model minus reader, one for each reader, in the analysis of a single
    modality (Hillis 2007, section 5; Hillis 2014): the model is no sample of models, but it shares its cases with the
    readers, which DeLong's covariance carries. Undefined as :func:`compare_modalities` is.

    >>> rng, truth = np.random.default_rng(0), np.arange(60) % 2
    >>> found = compare_with_readers(truth, 2 * truth + rng.normal(size=60), rng.normal(size=(60, 5)))
    >>> found.difference.p < 0.01
    True
    """
    own, others = real_numbers(model, "model"), real_numbers(scores, "scores")
    require(own.ndim == 1, "model must have one dimension", given=own.shape)
    fits = others.ndim == 2 and len(own) == len(others) and others.shape[1] > 0
    shapes = f"{others.shape}, {len(own)} cases"
    require(fits, "scores must have one row per case and one column per reader", given=shapes)
    both = np.column_stack((own, others))
    given = readings(truth, both, patients, 2, merit=merit, readers=readers, cases=cases, level=level)
    count = others.shape[1]
    if reason := given.obstacle(count):
        lost, mean = given.undefined(reason, "model"), given.undefined(reason, "readers")
        return AgainstReaders(lost, (mean,) * count, mean, _no_difference(given, reason, lost, mean))
    values, errors = merits(given)
    first, mean = given.alone(0, "model"), _mean(given, values[1:], errors[1:, 1:], "readers")
    minus = np.column_stack((np.ones(count), -np.eye(count)))  # (R, 1 + R): model minus reader
    c = variance_components((minus @ values)[:, None], minus @ errors @ minus.T)
    term, freedom = error_term(given, count, c.reader, count - 1, c.variance, c.same_modality)
    difference = _difference(given, first, mean, term / count, freedom, float(np.trace(errors)))
    each = tuple(given.alone(k + 1) for k in range(count))
    return AgainstReaders(first, each, mean, difference, freedom)


def _mean(given: Readings, values: Floats, errors: Floats, of: str) -> Estimate:
    """The readers' mean in one modality, from its own data only."""
    c, value, readers = variance_components(values[:, None], errors), float(values.mean()), len(values)
    term, freedom = error_term(given, readers, c.reader, readers - 1, c.variance, c.same_modality)
    z, (ill, well) = normal_quantile(given.level), given.sizes
    if term > TINY and TINY < value < 1 - TINY:
        low, high = logit_interval(value, math.sqrt(term / readers), t_quantile(given.level, freedom))
        how = f"{given.how}, logit"
    elif given.merit == "auc":
        (low, high), how = newcombe(value, ill, well, z), NEWCOMBE
    else:
        count = ill if given.merit == "sensitivity" else well
        (low, high), how = wilson(value, count, z), f"Wilson for {count} patients"
    return Estimate(given.merit, value, low, high, given.level, how, *given.counts, of)


def _difference(
    given: Readings, first: Estimate, second: Estimate, variance: float, freedom: float, own: float
) -> Difference:
    """``own`` is the error variance of one merit: where it is 0, no variance of a difference can be seen."""
    value, metric = first.value - second.value, f"{given.merit} difference"
    if variance > TINY:
        error = math.sqrt(variance)
        half, statistic = t_quantile(given.level, freedom) * error, value / error
        low, high, how, p = value - half, value + half, given.how, two_sided(statistic, freedom)
    elif own > TINY and abs(value) < 1e-12:  # the same order of cases, not merely the same merit
        error, statistic, low, high, how, p = 0.0, 0.0, 0.0, 0.0, f"{given.how}; the same answers", 1.0
    else:
        error, statistic, low, high, p = (math.nan,) * 5
        how = "no interval: no variance to be seen"
    low, high = max(low, -1.0), min(high, 1.0)
    of = f"{first.of} − {second.of}"
    found = Estimate(metric, value, low, high, given.level, how, *given.counts, of)
    return Difference(first, second, found, error, statistic, p)


def _no_difference(given: Readings, reason: str, first: Estimate, second: Estimate) -> Difference:
    lost = given.undefined(reason, f"{first.of} − {second.of}")
    return without(first, second, replace(lost, metric=f"{given.merit} difference"))


# -- readers as points of the ROC plane, and a model's curve read at each of them ---------------------------------


SHARES = ("sensitivity", "specificity")


@dataclass(frozen=True)
class ReaderPoint:
    """Where one reader stands."""

    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class Matched:
    """A model against one reader: its sensitivity at the reader's specificity, and the other way round."""

    sensitivity: Difference
    specificity: Difference


@checked
def reader_points(
    truth: ArrayLike, calls: ArrayLike, patients: Patients = None, *, level: float = 0.95, names: Sequence[str] = ()
) -> list[ReaderPoint]:
    """Each reader's sensitivity and specificity.

    ``truth`` (N,) 0/1, ``calls`` (N, R) 0/1 of R readers, NaN for a case that a reader did not read,
    ``patients`` (N,) or None, ``names`` of the readers. Each share is over the cases the reader has read, by
    Wilson or its clustered form (:func:`overread.stats.proportions.proportion`).

    >>> print(reader_points([1, 1, 0, 0], [[1], [0], [0], [0]])[0].sensitivity)
    0.500 (0.095–0.905)
    """
    positive, table = zero_one(truth), real_numbers(calls, "calls")
    fits, shapes = table.ndim == 2 and len(table) == len(positive), f"{table.shape}, {len(positive)} cases"
    require(fits, "calls must have one row per case and one column per reader", given=shapes)
    count = table.shape[1]
    require(len(names) in (0, count), "there must be one name per reader", given=len(names))
    codes, points = patient_codes(patients, len(positive)), []
    for column, of in zip(table.T, tuple(names) or ("",) * count):
        read = ~np.isnan(column)
        points.append(ReaderPoint(*at_threshold(positive[read], column[read], codes[read], level=level, of=of)[:2]))
    return points


@checked
def compare_with_reader(
    truth: ArrayLike,
    score: ArrayLike,
    calls: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Matched:
    """A model against one reader at the reader's own specificity, and at the reader's own sensitivity.

    ``truth`` (N,) 0/1, ``score`` (N,) of the model, ``calls`` (N,) 0/1 of the reader, ``patients`` (N,) or
    None. Differences are model minus reader. The model's ROC curve is read where the reader stands, on the
    line between steps; every resample of the patients finds the reader's place and the model's curve anew, so
    the interval knows that both were matched on these patients. A difference that no resample moves keeps the
    width of Wilson's bound. Undefined for one class or a number that is not finite.

    >>> found = compare_with_reader([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], [0, 1, 1, 1])
    >>> found.sensitivity.difference.value, found.specificity.difference.value
    (0.0, 0.0)
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    called = numbers(calls, len(scores), "calls")
    require(bool(((called == 0) | (called == 1) | ~np.isfinite(called)).all()), "calls must hold only 0 and 1")
    codes = patient_codes(patients, len(scores))
    if reason := no_ranking(positive, scores) or no_ranking(positive, called):
        lost = [undefined(name, reason, of=of, images=len(scores), patients=distinct(codes)) for name in SHARES]
        return Matched(*(_against(one, one, one) for one in lost))
    sizes = [distinct(codes[positive]), distinct(codes[~positive])]
    statistic = _statistic(positive, scores, called == 1, codes, sizes, of)
    made = bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)
    return Matched(*(_against(made[k], made[k + 2], _wide(made[k + 4], size)) for k, size in enumerate(sizes)))


def _against(model: Estimate, reader: Estimate, gap: Estimate) -> Difference:
    difference = replace(gap, metric=f"{model.metric} difference", low=max(gap.low, -1.0), high=min(gap.high, 1.0))
    error = (gap.high - gap.low) / (2 * normal_quantile(gap.level))
    if not error > 0:
        return without(model, reader, difference)
    statistic = gap.value / error
    return Difference(model, reader, difference, error, statistic, two_sided(statistic, math.inf))


def _wide(gap: Estimate, patients: int) -> Estimate:
    """Where the resamples agree, no patient answered differently: as many may as Wilson allows for none."""
    if gap.undefined or not gap.high - gap.low < 1e-9:
        return gap
    room = wilson(0.0, patients, normal_quantile(gap.level))[1]
    how = f"Wilson bound for {patients} patients"
    return replace(gap, low=gap.value - room, high=gap.value + room, method=how)


def _statistic(
    truth: Booleans, score: Floats, flagged: Booleans, codes: Integers, sizes: list[int], of: str
) -> Statistic:
    """The model's matched shares, the reader's, and their differences: six columns."""
    cells = per_patient(codes, int(codes.max()) + 1, truth, truth & flagged, ~truth, ~truth & ~flagged)
    about = Column("", of, len(truth), distinct(codes))
    shares = [replace(about, metric=name, effective=size, freedom=size - 1) for name, size in zip(SHARES, sizes)]
    gaps = [replace(about, metric=name, scale="plain") for name in SHARES]
    ranking = rank(truth, score)
    who = codes[ranking.order]

    def compute(weights: Weights) -> Floats:
        ill, hit, well, spared = (weights @ cells).T
        with np.errstate(invalid="ignore", divide="ignore"):
            reader = np.column_stack((hit / ill, spared / well))
            model = _matched(ranking, who, weights, ill, well, reader)
        return np.column_stack((model, reader, model - reader))

    return Statistic((*shares, *shares, *gaps), compute)


def _matched(ranking: Ranking, who: Integers, weights: Weights, ill: Floats, well: Floats, reader: Floats) -> Floats:
    """(B, 2): sensitivity at the reader's specificity, specificity at the reader's sensitivity."""
    every, true = ranking.flagged(np.take(weights, who, axis=1))
    wrong, right = (every - true) / well[:, None], true / ill[:, None]  # (B, G)
    sensitivity = height_at(wrong, right, 1 - reader[:, 1])
    # from the other end: cases given up among the ill, spared among the well
    top = np.ones((len(true), 1))
    given_up, spared = np.hstack((1 - right[:, ::-1], top)), np.hstack((1 - wrong[:, ::-1], top))
    specificity = height_at(given_up, spared, 1 - reader[:, 0])
    found = np.column_stack((sensitivity, specificity))
    found[(ill == 0) | (well == 0)] = math.nan
    return found


# -- the variance of readers and of the cases they share: what every multi-reader analysis is made of -------------


Merit = Literal["auc", "sensitivity", "specificity"]
Sampled = Literal["random", "fixed"]


@dataclass(frozen=True)
class Components:
    """Mean squares of the table of readers × modalities, and what the errors of its entries share on average.

    ``same_reader``, ``same_modality`` and ``neither`` are Cov1, Cov2 and Cov3 of Obuchowski & Rockette 1995.
    """

    modality: float
    reader: float
    interaction: float
    variance: float
    same_reader: float
    same_modality: float
    neither: float


@dataclass(frozen=True, eq=False)
class Readings:
    """Every reading of every case (N, K), and how the study samples readers and cases."""

    truth: Booleans
    scores: Floats
    codes: Integers
    merit: Merit
    readers: Sampled
    cases: Sampled
    level: float

    @property
    def how(self) -> str:
        """The beginning of each estimate's method."""
        return f"Obuchowski–Rockette, readers {self.readers}, cases {self.cases}"

    @property
    def counts(self) -> tuple[int, int]:
        """Images and patients."""
        return len(self.truth), distinct(self.codes)

    @property
    def sizes(self) -> tuple[int, int]:
        """Patients with a positive, with a negative."""
        return distinct(self.codes[self.truth]), distinct(self.codes[~self.truth])

    def obstacle(self, readers: int) -> str:
        """The reason why there is no merit, or no population of readers; empty if there are both."""
        if reason := not_finite(self.scores, name="scores"):
            return reason
        if not self.truth.any() and self.merit != "specificity":
            return "0 positives"
        if self.truth.all() and self.merit != "sensitivity":
            return "0 negatives"
        return "one reader cannot stand for others" if readers < 2 and self.readers == "random" else ""

    def undefined(self, reason: str, of: str = "") -> Estimate:
        """A merit of this study without a value."""
        images, patients = self.counts
        return undefined(self.merit, reason, of=of, images=images, patients=patients)

    def alone(self, column: int, of: str = "") -> Estimate:
        """One reader's merit, with the interval of that reader alone."""
        score, wanted = self.scores[:, column], self.merit == "sensitivity"
        if self.merit == "auc":
            return auc(self.truth, score, self.codes, level=self.level, of=of)
        rows = self.truth == wanted
        return proportion(score[rows] == wanted, self.codes[rows], level=self.level, metric=self.merit, of=of)


def readings(
    truth: ArrayLike,
    scores: ArrayLike,
    patients: Patients,
    dimensions: int,
    *,
    merit: Merit = "auc",
    readers: Sampled = "random",
    cases: Sampled = "random",
    level: float = 0.95,
) -> Readings:
    """The arrays of a study, checked; ``scores`` of so many ``dimensions``, flattened to (N, K)."""
    positive, table = zero_one(truth), real_numbers(scores, "scores")
    fits = table.ndim == dimensions and len(table) == len(positive) and 0 not in table.shape[1:]
    shapes = f"{table.shape}, {len(positive)} cases"
    require(fits, f"scores must have {dimensions} dimensions and one row per case", given=shapes)
    require("random" in (readers, cases), "readers or cases must be random")
    normal_quantile(level)
    flat = table.reshape(len(positive), math.prod(table.shape[1:]))
    binary = (flat == 0) | (flat == 1) | ~np.isfinite(flat)
    require(merit == "auc" or bool(binary.all()), f"{merit} needs calls of 0 or 1", todo="apply a threshold")
    return Readings(positive, flat, patient_codes(patients, len(positive)), merit, readers, cases, level)


def merits(given: Readings) -> tuple[Floats, Floats]:
    """Values (K,) and covariance (K, K) of readings whose merit is defined."""
    if given.merit == "auc":
        cohort = Cohort.of(given.truth, given.codes)
        placed = np.stack([placements(given.truth, score) for score in given.scores.T])  # (K, N)
        return placed[:, given.truth].mean(axis=1), covariance(cohort, shares(cohort, placed))
    wanted = given.merit == "sensitivity"
    rows = given.truth == wanted
    right, codes = given.scores[rows] == wanted, given.codes[rows]
    values, patients = right.mean(axis=0), distinct(codes)
    if patients < 2:
        return values, np.zeros((len(values), len(values)))
    sums = np.array([np.bincount(codes, column) for column in (right - values).T])  # (K, P)
    return values, patients / (patients - 1) * sums @ sums.T / len(codes) ** 2


@checked
def variance_components(values: ArrayLike, errors: ArrayLike) -> Components:
    """Mean squares of a table of merits, and mean covariances of its errors.

    ``values`` (R, M) one row per reader, ``errors`` (R·M, R·M) their covariance in the order of
    ``values.ravel()``. What one reader or one modality cannot show is 0. Obuchowski & Rockette 1995.

    >>> round(variance_components([[0.8, 0.9], [0.6, 0.7]], np.eye(4)).reader, 3)
    0.04
    """
    table, shared = real_numbers(values, "values"), real_numbers(errors, "errors")
    require(table.ndim == 2 and table.size > 0, "values must be readers × modalities", given=table.shape)
    require(shared.shape == (table.size,) * 2, "errors must have a row per value", given=shared.shape)
    shared = shared.reshape(*table.shape, *table.shape)
    down, across, middle = table.mean(axis=0), table.mean(axis=1), table.mean()
    rest = table - down - across[:, None] + middle
    few_readers, few_modalities = len(table) - 1, len(down) - 1
    own, reader, modality = (float(np.einsum(k, shared)) for k in ("rmrm->", "rmrn->", "rmsm->"))
    both = few_readers * few_modalities
    return Components(
        modality=_over(len(table) * ((down - middle) ** 2).sum(), few_modalities),
        reader=_over(len(down) * ((across - middle) ** 2).sum(), few_readers),
        interaction=_over((rest**2).sum(), both),
        variance=own / table.size,
        same_reader=_over(reader - own, table.size * few_modalities),
        same_modality=_over(modality - own, table.size * few_readers),
        neither=_over(shared.sum() - reader - modality + own, table.size * both),
    )


def _over(total: float, count: int) -> float:
    return float(total) / count if count else 0.0


def error_term(
    given: Readings, readers: int, spread: float, freedom: int, own: float, shared: float
) -> tuple[float, float]:
    """The variance of a mean over readers times their number, and its degrees of freedom (Hillis 2007).

    ``spread`` is a mean square with ``freedom``; ``own`` is the error variance of one reader, ``shared`` the
    covariance of two, constrained not to be negative. Without a random reader the freedom is ∞.
    """
    shared = max(shared, 0.0)
    if given.readers == "fixed":
        return own + (readers - 1) * shared, math.inf
    if given.cases == "fixed":
        return spread, float(freedom)
    term = spread + readers * shared
    return term, freedom * (term / spread) ** 2 if spread > TINY else math.inf


def two_sided(statistic: float, freedom: float) -> float:
    """The chance of as much or more in either direction, for any ``freedom``."""
    from scipy.special import ndtr, stdtr

    tail = stdtr(freedom, -abs(statistic)) if math.isfinite(freedom) else ndtr(-abs(statistic))
    return float(2 * tail)

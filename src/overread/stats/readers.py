"""Several readers read the same cases: do two modalities differ, or a model and the readers?

Obuchowski & Rockette 1995 with the covariance of DeLong, DeLong & Clarke-Pearson 1988; degrees of freedom after
Hillis 2007 and 2014. Every reader has read every case in every modality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from overread.errors import checked, require
from overread.stats.arrays import TINY, logit_interval, normal_quantile
from overread.stats.difference import Difference
from overread.stats.estimate import Estimate
from overread.stats.proportions import wilson
from overread.stats.readers_variance import (
    Components,
    Matrix,
    Merit,
    Readings,
    Sampled,
    error_term,
    merits,
    number_table,
    quantile,
    readings,
    two_sided,
    variance_components,
)
from overread.stats.roc import newcombe


@dataclass(frozen=True)
class Modalities:
    """Modalities compared: each reader's merit (R × M), the means, every pair's difference, the test of all.

    ``statistic`` is F with ``freedom``; the second is ∞ where readers are fixed. ``p`` is NaN where nothing
    varies.
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
    patients: ArrayLike | None = None,
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
    called = tuple(names) or tuple(str(k + 1) for k in range(modalities))
    if why := given.why_undefined(count):
        return _no_modalities(given, why, count, called)
    values, errors = merits(given)
    table = values.reshape(count, modalities)
    means = tuple(
        _mean(given, table[:, m], errors[m::modalities, m::modalities], of) for m, of in enumerate(called)
    )
    each = tuple(
        tuple(given.alone(r * modalities + m, of) for m, of in enumerate(called)) for r in range(count)
    )
    c = variance_components(table, errors)
    own, shared = c.variance - c.same_reader, c.same_modality - c.neither
    term, freedom = error_term(given, count, c.interaction, (count - 1) * (modalities - 1), own, shared)
    differences = tuple(
        _difference(given, means[a], means[b], 2 * term / count, freedom, c.variance)
        for a, b in combinations(range(modalities), 2)
    )
    return Modalities(each, means, differences, *_overall(c.modality, term, modalities - 1, freedom), c)


def _no_modalities(given: Readings, why: str, readers: int, names: tuple[str, ...]) -> Modalities:
    lost = tuple(given.undefined(why, of) for of in names)
    pairs = combinations(lost, 2)
    return Modalities((lost,) * readers, lost, tuple(_no_difference(given, why, *pair) for pair in pairs))


def _overall(
    between: float, term: float, freedom: int, second: float
) -> tuple[float, tuple[float, float], float]:
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
    patients: ArrayLike | None = None,
    *,
    merit: Merit = "auc",
    readers: Sampled = "random",
    cases: Sampled = "random",
    level: float = 0.95,
) -> AgainstReaders:
    """Whether one model differs from the mean of readers who have read the same cases.

    ``truth`` (N,) 0/1, ``model`` (N,) and ``scores`` (N, R) of R readers (calls 0/1 for sensitivity and
    specificity), ``patients`` (N,) or None. The merit is model minus reader, one for each reader, in the
    analysis of a single modality (Hillis 2007, section 5; Hillis 2014): the model is no sample of models, but
    it shares its cases with the readers, which DeLong's covariance carries. Undefined as
    :func:`compare_modalities` is.

    >>> rng, truth = np.random.default_rng(0), np.arange(60) % 2
    >>> found = compare_with_readers(truth, 2 * truth + rng.normal(size=60), rng.normal(size=(60, 5)))
    >>> found.difference.p < 0.01
    True
    """
    own, others = number_table(model, "model"), number_table(scores, "scores")
    require(own.ndim == 1, "model must have one dimension", given=own.shape)
    require(
        others.ndim == 2 and len(own) == len(others) and others.shape[1] > 0,
        "scores must have one row per case and one column per reader",
        given=f"{others.shape}, {len(own)} cases",
    )
    both = np.column_stack((own, others))
    given = readings(truth, both, patients, 2, merit=merit, readers=readers, cases=cases, level=level)
    count = others.shape[1]
    if why := given.why_undefined(count):
        lost, mean = given.undefined(why, "model"), given.undefined(why, "readers")
        return AgainstReaders(lost, (mean,) * count, mean, _no_difference(given, why, lost, mean))
    values, errors = merits(given)
    first, mean = given.alone(0, "model"), _mean(given, values[1:], errors[1:, 1:], "readers")
    minus = np.column_stack((np.ones(count), -np.eye(count)))  # (R, 1 + R): model minus reader
    c = variance_components((minus @ values)[:, None], minus @ errors @ minus.T)
    term, freedom = error_term(given, count, c.reader, count - 1, c.variance, c.same_modality)
    difference = _difference(given, first, mean, term / count, freedom, float(np.trace(errors)))
    each = tuple(given.alone(k + 1) for k in range(count))
    return AgainstReaders(first, each, mean, difference, freedom)


def _mean(given: Readings, values: Matrix, errors: Matrix, of: str) -> Estimate:
    """The readers' mean in one modality, from its own data only."""
    c, value, readers = variance_components(values[:, None], errors), float(values.mean()), len(values)
    term, freedom = error_term(given, readers, c.reader, readers - 1, c.variance, c.same_modality)
    z, (ill, well) = normal_quantile(given.level), given.sizes
    if term > TINY and TINY < value < 1 - TINY:
        (low, high), how = (
            logit_interval(value, math.sqrt(term / readers), quantile(given.level, freedom)),
            f"{given.how}, logit",
        )
    elif given.merit == "auc":
        (low, high), how = newcombe(value, ill, well, z), "Newcombe 2006 method 5"
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
        half, statistic = quantile(given.level, freedom) * error, value / error
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


def _no_difference(given: Readings, why: str, first: Estimate, second: Estimate) -> Difference:
    metric = f"{given.merit} difference"
    lost = given.undefined(why, f"{first.of} − {second.of}", metric=metric)
    return Difference(first, second, lost, math.nan, math.nan, math.nan)

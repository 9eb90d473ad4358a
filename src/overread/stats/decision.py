"""Decision curves: whether acting on a model does more good than treating everyone, or no one."""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    no_ranking,
    normal_quantile,
    numbers,
    patient_codes,
    t_shrinkage,
    zero_one,
)
from overread.stats.calibration.recalibration import PriorShift
from overread.stats.calibration.reliability import not_probabilities
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import independent_images, proportion, tango, wilson_limits

RULE = "treated where risk ≥ threshold"


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit at each threshold, arrays (T,): of the model, of treating all; treating none has 0.

    In true positives per patient image. NaN where undefined, and then ``undefined`` says why.
    """

    threshold: Floats
    net_benefit: Floats
    low: Floats
    high: Floats
    treat_all: Floats
    treat_all_low: Floats
    treat_all_high: Floats
    level: float
    method: str
    images: int
    patients: int
    metric: str = "net benefit"
    undefined: str = ""

    @checked
    def at(self, threshold: float) -> Estimate:
        """The estimate at one of the curve's thresholds. Raises :class:`ArgumentError` if it is not one."""
        where = np.flatnonzero(np.abs(self.threshold - threshold) < 1e-12)
        require(len(where) > 0, "the curve has no such threshold", given=threshold, todo="name it in thresholds")
        if self.undefined:
            return undefined(self.metric, self.undefined, images=self.images, patients=self.patients)
        value, low, high = (float(x[where[0]]) for x in (self.net_benefit, self.low, self.high))
        how = f"{RULE} {threshold:g}; {self.method}"
        return Estimate(self.metric, value, low, high, self.level, how, self.images, self.patients)


@checked
def decision_curve(
    truth: ArrayLike,
    risk: ArrayLike,
    patients: Patients = None,
    *,
    thresholds: ArrayLike | None = None,
    prevalence: float | None = None,
    level: float = 0.95,
) -> DecisionCurve:
    """Net benefit of treating where ``risk`` ≥ t: TP/N − FP/N · t/(1−t) (Vickers & Elkin 2006).

    ``truth`` (N,) 0/1, ``risk`` (N,) in 0 … 1, ``patients`` (N,) or None; ``thresholds`` (T,) in 0 ≤ t < 1, by default
    0, .01 … .99. ``prevalence``: that of the clinic, where it is not that of these cases: their shares of true and
    false positives are weighed by it, and their risks are moved to it first (:func:`moved`), since a risk that holds
    among these cases does not where the disease is rarer. Intervals: Wilson's of the two shares, squared and added with
    their correlation (Zou & Donner 2008); where patients repeat with effective numbers from the ratio estimator's
    variance. Undefined without cases, for risks that are not probabilities, and for one class where ``prevalence`` is
    given.

    >>> curve = decision_curve([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], thresholds=[0, 0.25, 0.5])
    >>> curve.net_benefit.round(3).tolist(), curve.treat_all.round(3).tolist()
    ([0.5, 0.417, 0.25], [0.5, 0.333, 0.0])
    """
    return _curve(truth, [risk], patients, thresholds, prevalence, level)


@checked
def decision_difference(
    truth: ArrayLike,
    risk: ArrayLike,
    other: ArrayLike,
    patients: Patients = None,
    *,
    thresholds: ArrayLike | None = None,
    prevalence: float | None = None,
    level: float = 0.95,
) -> DecisionCurve:
    """Net benefit of ``risk`` minus that of ``other`` on the same cases, at each threshold.

    Arguments as :func:`decision_curve`; ``treat_all`` is that of the cases. Intervals: Tango's of the positives
    and of the negatives who are treated by one only, squared and added; where those are fewer than about twenty it is
    too wide (97 to 100 %).

    >>> decision_difference([0, 1], [0.2, 0.9], [0.2, 0.9], thresholds=[0.5]).at(0.5).value
    0.0
    """
    return _curve(truth, [risk, other], patients, thresholds, prevalence, level)


def _curve(
    truth: ArrayLike,
    risks: list[ArrayLike],
    patients: Patients,
    thresholds: ArrayLike | None,
    prevalence: float | None,
    level: float,
) -> DecisionCurve:
    positive = zero_one(truth)
    given = [numbers(risk, len(positive), "risk") for risk in risks]
    at = _thresholds(thresholds)
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    codes = None if patients is None else patient_codes(patients, len(positive))
    count = len(positive) if codes is None else distinct(codes)
    codes = codes if count < len(positive) else None
    metric = "net benefit" if len(given) == 1 else "net benefit difference"
    reason = next(filter(None, (not_probabilities(risk) for risk in given)), "")
    if reason := reason or (no_ranking(positive, given[0]) if prevalence else ""):
        none = np.full(len(at), math.nan)
        return DecisionCurve(at, *(none,) * 6, level, "", len(positive), count, metric, reason)
    if prevalence is not None:
        given = [moved(risk, float(positive.mean()), prevalence) for risk in given]
    odds = at / (1 - at)
    gain, cost = (1.0, odds) if prevalence is None else (prevalence, (1 - prevalence) * odds)
    flagged = flagged_at(positive, given, at, codes, by_class=prevalence is not None, level=level)
    benefit = _net(flagged, gain, cost, flagged.limits(normal_quantile(level), paired=len(given) > 1))
    everyone = _treat_all(positive, codes, odds, prevalence, level)
    how = f"{'Wilson' if len(given) == 1 else 'Tango'}, squared and added"
    how += "" if codes is None else ", ratio estimator by patient"
    if prevalence is not None:
        how += f"; risks moved from a prevalence of {positive.mean():.3g} to {prevalence:g}"
    return DecisionCurve(at, *benefit, *everyone, level, how, len(positive), count, metric)


@checked
def moved(risk: Floats, before: float, after: float) -> Floats:
    """Risks (N,) that hold where a share ``before`` has the disease, where a share ``after`` has it: by Bayes' rule.

    As :class:`overread.stats.calibration.recalibration.PriorShift` (Saerens et al. 2002): the odds are multiplied by
    the ratio of the prior odds; 0 and 1 stay.

    >>> moved(np.array([0.0, 0.5, 0.9, 1.0]), 0.5, 0.1).round(3).tolist()
    [0.0, 0.1, 0.5, 1.0]
    """
    return PriorShift((1 - before, before), (1 - after, after)).apply(risk)


def _thresholds(given: ArrayLike | None) -> Floats:
    if given is None:
        return np.arange(100) / 100
    at = np.unique(numbers(given, name="thresholds"))
    good = (at >= 0) & (at < 1)
    require(len(at) > 0 and bool(good.all()), "thresholds must lie in 0 ≤ t < 1", given=at[~good][:3].tolist())
    return at


def _net(flagged: Flagged, gain: float, cost: Floats, limits: tuple[Floats, Floats]) -> tuple[Floats, Floats, Floats]:
    """gain · true − cost · false positives with its limits: Zou & Donner 2008."""
    (true, false), (lows, highs) = flagged.share, limits
    value = gain * true - cost * false
    down, up = gain * (true - lows[0]), gain * (highs[0] - true)
    less, more = cost * (false - lows[1]), cost * (highs[1] - false)
    both = 2 * flagged.correlation
    low = value - np.sqrt(np.maximum(down**2 + more**2 - both * down * more, 0.0))
    return value, low, value + np.sqrt(np.maximum(up**2 + less**2 - both * up * less, 0.0))


def _treat_all(
    truth: Booleans, codes: Integers | None, odds: Floats, prevalence: float | None, level: float
) -> tuple[Floats, Floats, Floats]:
    """The prevalence is all that is uncertain, and net benefit is linear in it."""
    if prevalence is not None:
        value = prevalence - (1 - prevalence) * odds
        return value, value, value
    ill = proportion(truth, codes, level=level)
    value, low, high = (share - (1 - share) * odds for share in (ill.value, ill.low, ill.high))
    return value, low, high


# -- true and false positives at many thresholds at once, with what patients share: the root of decision curves ---


@dataclass(frozen=True, eq=False)
class Flagged:
    """Shares of true and of false positives per threshold; of two models, the first's minus the second's.

    ``only`` (class, model, T): images that one model alone flags, class 0 being the positives; ``counts`` (2,)
    the denominators, ``share`` (2, T) = (only first − only second) / counts; ``effective`` (2, T) as many
    independent images as would be as uncertain; ``correlation`` (T,) of the two shares.
    """

    only: Floats
    counts: Floats
    share: Floats
    effective: Floats
    correlation: Floats

    def limits(self, z: float, *, paired: bool) -> tuple[Floats, Floats]:
        """(2, T) low and high: Wilson's, or Tango's of a difference."""
        if not paired:
            return wilson_limits(self.share, self.effective, z)
        scale = self.effective / self.counts[:, None]
        low, high = tango(self.only[:, 0] * scale, self.only[:, 1] * scale, self.effective, z)
        return low, high


@checked
def flagged_at(
    truth: Booleans, risks: list[Floats], at: Floats, codes: Integers | None, *, by_class: bool, level: float
) -> Flagged:
    """``risks`` (N,) of one or two models, ``at`` (T,) rising; ``by_class``: shares of each class, not of all.

    ``codes`` (N,) of the patients, None where none repeats.
    """
    many, ill = len(truth), int(np.count_nonzero(truth))
    counts = np.array([ill, many - ill] if by_class else [many, many], np.float64)
    only = np.stack([_only([risk[rows] for risk in risks], at) for rows in (truth, ~truth)])
    share = (only[:, 0] - only[:, 1]) / counts[:, None]
    spread = only.sum(axis=1) / counts[:, None] - share**2  # of one image
    if codes is not None:
        reached = [np.searchsorted(at, risk, side="right") for risk in risks]
        effective, correlation = _by_patient(truth, reached, codes, counts, share, spread, only, level)
        return Flagged(only, counts, share, effective, correlation)
    effective = np.broadcast_to(counts[:, None], share.shape)
    if by_class:
        return Flagged(only, counts, share, effective, np.zeros(len(at)))
    return Flagged(only, counts, share, effective, _correlation(-share[0] * share[1], *spread))


def _only(risks: list[Floats], at: Floats) -> Floats:
    """(2, T) images that the first model flags alone, and the second."""
    if len(risks) == 1:  # to sort the risks is quicker than to look for each among the thresholds
        return np.stack([len(risks[0]) - np.searchsorted(np.sort(risks[0]), at), np.zeros(len(at))])
    first, second = (np.searchsorted(at, risk, side="right") for risk in risks)
    more, less, size = first > second, first < second, len(at)
    alone = _above(first[more], size) - _above(second[more], size)
    return np.stack([alone, _above(second[less], size) - _above(first[less], size)])


def _above(reached: Integers, size: int, weights: Floats | None = None) -> Floats:
    """(T,): the number (the weight) of images that reach threshold 0, 1 … T−1."""
    return np.cumsum(np.bincount(reached, weights, size + 1)[::-1])[::-1][1:].astype(np.float64)


def _correlation(covariance: Floats, first: Floats, second: Floats) -> Floats:
    both = np.sqrt(np.maximum(first * second, 0.0))
    return np.clip(np.divide(covariance, both, out=np.zeros_like(both), where=both > TINY), -1, 1)


def _by_patient(
    truth: Booleans,
    reached: list[Integers],
    codes: Integers,
    counts: Floats,
    share: Floats,
    spread: Floats,
    only: Floats,
    level: float,
) -> tuple[Floats, Floats]:
    """Effective numbers (2, T) and correlation (T,) from the ratio estimator's variance.

    The design effect gives the correlation within patients, and :func:`independent_images` what it costs; Student's t
    for few patients.
    """
    by_class = counts[0] + counts[1] == len(truth)
    parts = (truth, ~truth) if by_class else (np.ones_like(truth),) * 2
    per = np.stack([np.bincount(codes, part).astype(np.float64) for part in parts])  # (2, P) denominators
    squares, product, crossed = _sums(truth, reached, codes, per, share.shape[1])
    known = np.maximum((per > 0).sum(axis=1), 2)[:, None]
    cover = per @ per.T
    kish = np.maximum(counts**2 / np.maximum(np.diag(cover), 1.0), 1 + TINY)[:, None]
    residual = squares - 2 * share * crossed[[0, 1], [0, 1]] + share**2 * np.diag(cover)[:, None]
    both = product - share[1] * crossed[0, 1] - share[0] * crossed[1, 0] + share[0] * share[1] * cover[0, 1]
    design = kish / (kish - 1) * residual / np.maximum(counts[:, None] * spread, TINY)
    others = (np.diag(cover) / counts - 1)[:, None]
    alike = np.where(spread > TINY, np.maximum(0.0, (design - 1) / np.maximum(others, TINY)), 0.0)
    carriers = only.sum(axis=1) / (counts[:, None] / known)  # at most as many patients as flagged images
    freedom = max(1, int(float(kish.min()) - 1 + 1e-9))
    effective = independent_images(counts[:, None], alike, others, carriers) * t_shrinkage(level, freedom)
    return np.maximum(1.0, effective), _correlation(both, *np.maximum(residual, 0.0))


def _sums(
    truth: Booleans, reached: list[Integers], codes: Integers, per: Floats, size: int
) -> tuple[Floats, Floats, Floats]:
    """Sums over patients of the squares (2, T) of their flagged positives and negatives, of the product (T,)
    of the two, and of their products with the denominators (2, 2, T); of two models, of their differences.

    As the threshold falls, each image adds to its patient's count once, so each sum grows by a step per image:
    one sort, then counting.
    """
    who, level, sign = (np.tile(codes, len(reached)), np.concatenate(reached), np.repeat((1.0, -1.0), len(truth)))
    ill, sign = np.tile(truth, len(reached)), sign[: len(who)]
    order = np.lexsort((-level, who))
    who, level = who[order], level[order]
    step = np.stack([sign * ill, sign * ~ill])[:, order]  # (2, E)
    total = np.cumsum(step, axis=1) - step
    first = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
    held = total - np.repeat(total[:, first], np.diff(np.append(first, len(who))), axis=1)  # before this image
    squares = np.stack([_above(level, size, 2 * h * s + s * s) for h, s in zip(held, step)])
    product = _above(level, size, held[0] * step[1] + held[1] * step[0])
    crossed = np.stack([[_above(level, size, s * patient[who]) for patient in per] for s in step])
    return squares, product, crossed

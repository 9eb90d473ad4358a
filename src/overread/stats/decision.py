"""Decision curves: whether acting on a model does more good than treating everyone, or no one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked, require
from overread.stats.arrays import distinct, normal_quantile, numbers, patient_codes, why_undefined, zero_one
from overread.stats.calibration import why_uncalibrated
from overread.stats.decision_counts import Flagged, Floats, flagged_at
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion

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
        require(
            len(where) > 0, "the curve has no such threshold", given=threshold, todo="name it in thresholds"
        )
        if self.undefined:
            return undefined(self.metric, self.undefined, images=self.images, patients=self.patients)
        value, low, high = (float(x[where[0]]) for x in (self.net_benefit, self.low, self.high))
        how = f"{RULE} {threshold:g}; {self.method}"
        return Estimate(self.metric, value, low, high, self.level, how, self.images, self.patients)


@checked
def decision_curve(
    truth: ArrayLike,
    risk: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    thresholds: ArrayLike | None = None,
    prevalence: float | None = None,
    level: float = 0.95,
) -> DecisionCurve:
    """Net benefit of treating where ``risk`` ≥ t: TP/N − FP/N · t/(1−t) (Vickers & Elkin 2006).

    ``truth`` (N,) 0/1, ``risk`` (N,) in 0 … 1, ``patients`` (N,) or None; ``thresholds`` (T,) in 0 ≤ t < 1, by
    default 0, .01 … .99. ``prevalence``: that of the clinic, where the cases were chosen by their truth
    (case–control). Intervals: Wilson's of the two shares, squared and added with their correlation (Zou & Donner
    2008); where patients repeat with effective numbers from the ratio estimator's variance. Undefined without
    cases, for risks that are not probabilities, and for one class where ``prevalence`` is given.

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
    patients: ArrayLike | None = None,
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
    patients: ArrayLike | None,
    thresholds: ArrayLike | None,
    prevalence: float | None,
    level: float,
) -> DecisionCurve:
    positive = zero_one(truth)
    given = [numbers(risk, len(positive), "risk") for risk in risks]
    at = _thresholds(thresholds)
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    codes = None if patients is None else patient_codes(patients, len(positive))
    people = len(positive) if codes is None else distinct(codes)
    codes = codes if people < len(positive) else None
    metric = "net benefit" if len(given) == 1 else "net benefit difference"
    why = next(filter(None, (why_uncalibrated(positive, risk) for risk in given)), "")
    if why := why or (why_undefined(positive, given[0]) if prevalence else ""):
        none = np.full(len(at), math.nan)
        return DecisionCurve(at, *(none,) * 6, level, "", len(positive), people, metric, why)
    odds = at / (1 - at)
    gain, cost = (1.0, odds) if prevalence is None else (prevalence, (1 - prevalence) * odds)
    flagged = flagged_at(positive, given, at, codes, by_class=prevalence is not None, level=level)
    benefit = _net(flagged, gain, cost, flagged.limits(normal_quantile(level), paired=len(given) > 1))
    everyone = _treat_all(positive, codes, odds, prevalence, level)
    how = f"{'Wilson' if len(given) == 1 else 'Tango'}, squared and added"
    how += "" if codes is None else ", ratio estimator by patient"
    return DecisionCurve(at, *benefit, *everyone, level, how, len(positive), people, metric)


def _thresholds(given: ArrayLike | None) -> Floats:
    if given is None:
        return np.arange(100) / 100
    at = np.unique(numbers(given, name="thresholds"))
    good = (at >= 0) & (at < 1)
    require(
        len(at) > 0 and bool(good.all()), "thresholds must lie in 0 ≤ t < 1", given=at[~good][:3].tolist()
    )
    return at


def _net(
    flagged: Flagged, gain: float, cost: Floats, limits: tuple[Floats, Floats]
) -> tuple[Floats, Floats, Floats]:
    """gain · true − cost · false positives with its limits: Zou & Donner 2008."""
    (true, false), (lows, highs) = flagged.share, limits
    value = gain * true - cost * false
    down, up = gain * (true - lows[0]), gain * (highs[0] - true)
    less, more = cost * (false - lows[1]), cost * (highs[1] - false)
    both = 2 * flagged.correlation
    low = value - np.sqrt(np.maximum(down**2 + more**2 - both * down * more, 0.0))
    return value, low, value + np.sqrt(np.maximum(up**2 + less**2 - both * up * less, 0.0))


def _treat_all(
    truth: NDArray[np.bool_],
    codes: NDArray[np.int64] | None,
    odds: Floats,
    prevalence: float | None,
    level: float,
) -> tuple[Floats, Floats, Floats]:
    """The prevalence is all that is uncertain, and net benefit is linear in it."""
    if prevalence is not None:
        value = prevalence - (1 - prevalence) * odds
        return value, value, value
    ill = proportion(truth, codes, level=level)
    value, low, high = (share - (1 - share) * odds for share in (ill.value, ill.low, ill.high))
    return value, low, high

"""A smooth calibration curve: observed against stated probability without bins."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import (
    Floats,
    Patients,
    distinct,
    no_ranking,
    normal_quantile,
    numbers,
    patient_codes,
    t_quantile,
    zero_one,
)
from overread.stats.calibration.reliability import logistic, logit, not_probabilities
from overread.stats.proportions import patient_freedom

#: Where the knots lie among the logits (Harrell 2015, table 2.3), by their number.
KNOTS = {4: (0.05, 0.35, 0.65, 0.95), 3: (0.10, 0.50, 0.90)}
#: Cases of the rarer class for each coefficient of the curve, at least.
EVENTS = 10
#: Where the curve is told: points from the first to the last percentile of the probabilities.
POINTS, ENDS = 100, (0.01, 0.99)


@dataclass(frozen=True, eq=False)
class SmoothCurve:
    """``observed`` with its pointwise band ``low`` to ``high`` where ``predicted`` is the probability, (P,) each.

    Empty where undefined, and then ``undefined`` says why.
    """

    predicted: Floats = field(default_factory=lambda: np.empty(0))
    observed: Floats = field(default_factory=lambda: np.empty(0))
    low: Floats = field(default_factory=lambda: np.empty(0))
    high: Floats = field(default_factory=lambda: np.empty(0))
    level: float = 0.95
    method: str = ""
    undefined: str = ""


@checked
def smooth_curve(
    truth: ArrayLike, probability: ArrayLike, patients: Patients = None, *, level: float = 0.95
) -> SmoothCurve:
    """The share of positives as a smooth function of the probability, with a pointwise band.

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1, ``patients`` (N,) or None. A logistic regression on a restricted
    cubic spline of the logit (Harrell 2015, section 2.4.5; for calibration Van Calster et al. 2016), with four knots,
    or three where the rarer class has fewer than ten cases to a coefficient, or a straight line where it has fewer
    still or the probabilities are of few values. The band is that of the fit on the logit scale, from the sandwich
    variance by patient, and holds at each probability by itself. Told from the first to the last percentile of the
    probabilities. Undefined for one class, constant probabilities, or classes that they tell apart completely.

    >>> curve = smooth_curve([0, 0, 1, 0, 1, 1] * 40, [0.1, 0.3, 0.4, 0.6, 0.7, 0.9] * 40)
    >>> bool((curve.low <= curve.observed).all() and (curve.observed <= curve.high).all())
    True
    """
    positive, chance = zero_one(truth), numbers(probability, np.size(truth), "probability")
    codes = patient_codes(patients, len(chance))
    normal_quantile(level)
    if reason := not_probabilities(chance) or no_ranking(positive, chance):
        return SmoothCurve(level=level, undefined=reason)
    x = logit(chance)
    if float(np.ptp(x)) < 1e-9:
        return SmoothCurve(level=level, undefined="the scores are all equal")
    knots = _knots(x, min(int(positive.sum()), int((~positive).sum())))
    while (fitted := logistic(positive, spline(x, knots), np.zeros(len(x)), codes)) is None and len(knots):
        knots = _fewer(x, knots)
    if fitted is None:
        return SmoothCurve(level=level, undefined="the scores tell the classes apart completely")
    weight, variance = fitted
    first, last = (float(end) for end in np.quantile(chance, ENDS))
    shown = np.linspace(first, last, POINTS)
    columns = spline(logit(shown), knots)
    clustered = distinct(codes) < len(codes)
    wide = t_quantile(level, patient_freedom(codes)) if clustered else normal_quantile(level)
    centre, half = columns @ weight, wide * np.sqrt(np.einsum("pi,ij,pj->p", columns, variance, columns).clip(0))
    how = f"logistic regression on a restricted cubic spline with {len(knots)} knots" if len(knots) else "logistic line"
    how += ", sandwich variance" + (" by patient" if clustered else "")
    middle, low, high = (1 / (1 + np.exp(-np.clip(y, -700, 700))) for y in (centre, centre - half, centre + half))
    return SmoothCurve(shown, middle, low, high, level, how)


def _knots(x: Floats, events: int) -> Floats:
    """As many as the cases can bear, at different places; none for a straight line."""
    for count in sorted(KNOTS, reverse=True):
        places = np.quantile(x, KNOTS[count])
        if events >= EVENTS * (count - 1) and float(np.diff(places).min()) > 1e-9:
            return places
    return np.empty(0)


def _fewer(x: Floats, knots: Floats) -> Floats:
    places = np.quantile(x, KNOTS[3])
    return places if len(knots) > 3 and float(np.diff(places).min()) > 1e-9 else np.empty(0)


@checked
def spline(x: Floats, knots: Floats) -> Floats:
    """(N,) → (N, K): one, x, and for each of K − 2 pairs of knots a cubic that is straight beyond the outer ones.

    Truncated powers over the squared distance of the outer knots (Harrell 2015, equation 2.25). Without knots a line.
    """
    require(len(knots) == 0 or len(knots) > 2, "a restricted cubic spline has three knots or more", given=len(knots))
    if not len(knots):
        return np.column_stack([np.ones(len(x)), x])
    *inner, before, last = knots

    def beyond(knot: float) -> Floats:
        return np.maximum(x - knot, 0) ** 3

    bends = [
        (beyond(k) - beyond(before) * (last - k) / (last - before) + beyond(last) * (before - k) / (last - before))
        / (last - knots[0]) ** 2
        for k in inner
    ]
    return np.column_stack([np.ones(len(x)), x, *bends])

"""Predictive values where the disease is more or less common than among the cases that were tested."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked, require
from overread.stats.arrays import distinct, expit, normal_quantile, patient_codes, t_quantile, zero_one
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import effective_images, patient_freedom

#: Below so many in a cell (patients, where they repeat) the delta method is not to be trusted.
FEW = 5
#: The logarithm of a ratio that might as well be infinite.
FAR = 20.0


@checked
def at_prevalence(
    truth: ArrayLike,
    flagged: ArrayLike,
    prevalence: float,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> list[Estimate]:
    """PPV and NPV at another prevalence, from sensitivity and specificity by Bayes' rule.

    ``truth`` and ``flagged`` (N,) 0/1, ``prevalence`` strictly between 0 and 1 (taken as known), ``patients``
    (N,) or None. Interval: delta method on the logit scale (Mercaldo, Lau & Zhou 2007), where patients repeat
    from sums by patient with Student's t. Where a cell of the table holds fewer than five it covers too little
    (.91), so there the likelihood ratio takes Koopman's score interval, with effective numbers by patient.
    Undefined for one class, or where no case of either class would be called so.

    >>> print(at_prevalence([1] * 50 + [0] * 50, [1] * 45 + [0] * 45 + [1] * 10, 0.1)[0])
    0.333 (0.222–0.467)
    """
    positive, called = zero_one(truth), zero_one(flagged, "flagged")
    require(positive.shape == called.shape, "truth and flagged must be equally long")
    require(0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    codes = patient_codes(patients, len(positive))
    people = distinct(codes)
    log_odds = math.log(prevalence / (1 - prevalence))
    how = f"at prevalence {prevalence:g}; Mercaldo 2007" + (", by patient" if people < len(positive) else "")
    found = []
    for metric, said, call, ill, prior in (
        ("ppv", "positive", called, positive, log_odds),
        ("npv", "negative", ~called, ~positive, -log_odds),
    ):
        if why := _why(positive, call, said):
            found.append(undefined(metric, why, of=of, images=len(positive), patients=people))
        else:
            value, low, high = (expit(prior + x) for x in _log_ratio(call, ill, codes, level))
            found.append(Estimate(metric, value, low, high, level, how, len(positive), people, of))
    return found


def _why(positive: NDArray[np.bool_], call: NDArray[np.bool_], said: str) -> str:
    if not positive.size:
        return "no cases"
    if positive.all() or not positive.any():
        return "0 negatives" if positive.any() else "0 positives"
    return "" if call.any() else f"none called {said}"


def _log_ratio(
    call: NDArray[np.bool_], ill: NDArray[np.bool_], codes: NDArray[np.int64], level: float
) -> tuple[float, float, float]:
    """The logarithm of a ``call``'s likelihood ratio with its limits: that of the posterior odds less the prior's."""
    right, wrong = call[ill], call[~ill]
    value = _log(right.mean()) - _log(wrong.mean())
    cells = [int(x.sum()) for x in (right, ~right, wrong, ~wrong)]
    people = distinct(codes)
    if min(cells) * people >= FEW * len(call):
        half = _half_width(call, ill, codes, level, people)
        return value, value - half, value + half
    counts = _effective(right, codes[ill], level), _effective(wrong, codes[~ill], level)
    shares = float(right.mean()), float(wrong.mean())
    return value, *_koopman(shares, counts, normal_quantile(level), value)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def _half_width(
    call: NDArray[np.bool_], ill: NDArray[np.bool_], codes: NDArray[np.int64], level: float, people: int
) -> float:
    """Of the two logarithms' difference: each case adds its deviation over the share, summed by patient."""
    each = np.zeros(len(call))
    for rows, sign in ((ill, 1.0), (~ill, -1.0)):
        hits = call[rows]
        each[rows] = sign * (hits / hits.sum() - 1 / len(hits))
    if people == len(call):  # Mercaldo, Lau & Zhou 2007
        return normal_quantile(level) * float(np.linalg.norm(each))
    kish = len(codes) ** 2 / float((np.bincount(codes) ** 2).sum())
    error = float(np.linalg.norm(np.bincount(codes, each))) * math.sqrt(kish / (kish - 1))
    return t_quantile(level, patient_freedom(codes)) * error


def _effective(good: NDArray[np.bool_], codes: NDArray[np.int64], level: float) -> float:
    """As many independent images as would be as uncertain, Student's t included."""
    people = distinct(codes)
    if people == len(good):
        return float(people)
    if people < 2:
        return 1.0
    count = float(people) if good.all() or not good.any() else effective_images(good, codes)
    return max(1.0, count * (normal_quantile(level) / t_quantile(level, patient_freedom(codes))) ** 2)


def _koopman(
    shares: tuple[float, float], counts: tuple[float, float], z: float, value: float
) -> tuple[float, float]:
    """The logarithms of the ratios that the data refuse at z: Koopman 1984."""
    (m, n), (x, y) = counts, (shares[0] * counts[0], shares[1] * counts[1])

    def excess(log_ratio: float) -> float:
        ratio = math.exp(log_ratio)
        linear = m * ratio + x + n + y * ratio
        root = math.sqrt(max(0.0, linear**2 - 4 * (m + n) * ratio * (x + y)))
        first = 2 * ratio * (x + y) / (linear + root)  # the first share, were the ratio this
        if not 0 < first < 1:
            return -1.0
        skew = 1 + m * (ratio - first) / (n * (1 - first))
        return (x - m * first) ** 2 / (m * first * (1 - first)) * skew - z * z

    inside = min(FAR, max(-FAR, value))
    low = bisect(excess, -FAR, inside) if shares[0] else -math.inf
    return low, bisect(excess, FAR, inside) if shares[1] else math.inf


def bisect(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Where ``excess`` turns positive on the way ``outside``; ``outside`` itself where it never does."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return (outside + inside) / 2

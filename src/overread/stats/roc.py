"""The ROC curve and its area, with an interval that knows which images share a patient."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.arrays import (
    TINY,
    distinct,
    logit_interval,
    normal_quantile,
    numbers,
    patient_codes,
    t_quantile,
    why_undefined,
    zero_one,
)
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import patient_freedom
from overread.stats.ranking import Ranking, rank


@checked
def auc(
    truth: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> Estimate:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting one half.

    ``truth`` (N,) 0/1, ``score`` (N,) higher = more likely positive, ``patients`` (N,) or None. The direction
    of a score is never flipped. Variance: DeLong, DeLong & Clarke-Pearson 1988 in one sort, clustered after
    Obuchowski 1997 where patients repeat; interval on the logit scale. Where that variance is zero (all told
    apart, a constant score, one positive patient) the interval is method 5 of Newcombe 2006, which has no
    zero width. Undefined for one class or a score that is not finite.

    >>> print(auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.750 (0.069–0.992)
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    codes, z = patient_codes(patients, len(scores)), normal_quantile(level)
    count = distinct(codes)
    if why := why_undefined(positive, scores):
        return undefined("auc", why, of=of, images=len(scores), patients=count)
    ranking = rank(positive, scores)
    value, above, below = _placements(ranking)
    codes = codes[ranking.order]
    variance = _variance(ranking.truth, value, above, below, codes)
    if variance > TINY and TINY < value < 1 - TINY:
        quantile = auc_quantile(ranking.truth, codes, level)
        (low, high), how = logit_interval(value, math.sqrt(variance), quantile), "DeLong, logit"
    else:
        sizes = distinct(codes[ranking.truth]), distinct(codes[~ranking.truth])
        (low, high), how = newcombe(value, *sizes, z), "Newcombe 2006 method 5"
    how += "" if count == len(scores) else ", by patient"
    return Estimate("auc", value, low, high, level, how, len(scores), count, of)


@checked
def auc_quantile(truth: NDArray[np.bool_], codes: NDArray[np.int64], level: float) -> float:
    """The normal quantile; where patients repeat Student's t of the class with fewer patients to tell (Kish 1965)."""
    if distinct(codes) == len(codes):
        return normal_quantile(level)
    return t_quantile(level, min(patient_freedom(codes[rows]) for rows in (truth, ~truth)))


def _placements(ranking: Ranking) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """The AUC; per positive the share of negatives below it; per negative the share of positives above it."""
    first, last, truth = ranking.first, ranking.last, ranking.truth
    hits = np.concatenate(([0], np.cumsum(truth)))  # positives before each position
    misses = np.arange(len(truth) + 1) - hits
    # per group: before it, and half of those within it
    positives = (hits[first] + hits[last + 1]) / 2
    negatives = (misses[first] + misses[last + 1]) / 2
    above = 1 - negatives[ranking.group[truth]] / misses[-1]
    below = positives[ranking.group[~truth]] / hits[-1]
    return float(above.mean()), above, below


def _variance(
    truth: NDArray[np.bool_],
    value: float,
    above: NDArray[np.float64],
    below: NDArray[np.float64],
    codes: NDArray[np.int64],
) -> float:
    """Obuchowski 1997: sums within patients; DeLong's where no patient repeats."""
    patients = int(codes.max()) + 1
    count = [np.bincount(codes[rows], minlength=patients) for rows in (truth, ~truth)]
    spread = [
        np.bincount(codes[rows], share, patients) - value * n
        for rows, share, n in zip((truth, ~truth), (above, below), count)
    ]
    with_both = [int((n > 0).sum()) for n in count]
    if min(with_both) < 2:
        return 0.0
    own = sum(k / (k - 1) * float(s @ s) / n.sum() ** 2 for k, s, n in zip(with_both, spread, count))
    all_of_them = int(((count[0] + count[1]) > 0).sum())
    cross = all_of_them / (all_of_them - 1) * float(spread[0] @ spread[1]) / (count[0].sum() * count[1].sum())
    return own + 2 * cross


@checked
def newcombe(value: float, positives: int, negatives: int, z: float) -> tuple[float, float]:
    """Method 5 of Newcombe 2006: the AUCs that lie z of their own standard errors from ``value``.

    The standard error is that of Hanley & McNeil 1982 with mean group size.

    >>> [round(x, 3) for x in newcombe(1.0, 20, 20, 1.96)]
    [0.899, 1.0]
    """

    def excess(area: float) -> float:
        pairs, half = positives * negatives, (positives + negatives) / 2 - 1
        spread = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
        return (value - area) ** 2 - z * z * area * (1 - area) * spread / pairs

    low = 0.0 if value <= 0 else _bisect(excess, 0.0, value)
    return low, 1.0 if value >= 1 else _bisect(excess, 1.0, value)


def _bisect(excess, outside: float, inside: float) -> float:  # type: ignore[no-untyped-def]
    """Where ``excess`` turns from positive (towards ``outside``) to negative."""
    inside += (outside - inside) * 1e-12  # at value 0 or 1 the excess is 0 itself
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return (outside + inside) / 2


@checked
def roc_curve(
    truth: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """False-positive rate, true-positive rate and threshold of every step, from (0, 0) at threshold ∞.

    ``truth`` (N,) 0/1, ``score`` (N,). A case is called positive when its score is at least the threshold.
    Empty arrays where the curve is undefined (one class only, a score that is not finite).

    >>> [x.tolist() for x in roc_curve([0, 1], [0.2, 0.7])]
    [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [inf, 0.7, 0.2]]
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    if why_undefined(positive, scores):
        return np.empty(0), np.empty(0), np.empty(0)
    ranking = rank(positive, scores)
    true = np.cumsum(ranking.truth)[ranking.last]
    false = ranking.last + 1 - true
    start = np.zeros(1)
    return (
        np.concatenate((start, false / false[-1])),
        np.concatenate((start, true / true[-1])),
        np.concatenate(([math.inf], ranking.score[ranking.last])),
    )

"""What is gained by leaving the least certain cases to a reader: risk against coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import (
    TINY,
    Booleans,
    Floats,
    Integers,
    Patients,
    distinct,
    normal_quantile,
    not_finite,
    numbers,
    patient_codes,
    t_shrinkage,
    zero_one,
)
from overread.stats.discrimination.roc import rank
from overread.stats.proportions import independent_images, wilson_limits


@dataclass(frozen=True, eq=False)
class RiskCurve:
    """Risk where a share ``coverage`` of the cases is answered, arrays (T,); ``undefined`` says why there are none."""

    coverage: Floats
    risk: Floats
    low: Floats
    high: Floats
    threshold: Floats
    level: float
    method: str
    undefined: str = ""


@checked
def risk_curve(
    wrong: ArrayLike, confidence: ArrayLike, patients: Patients = None, *, level: float = 0.95, points: int = 200
) -> RiskCurve:
    """The risk–coverage curve at no more than ``points`` coverages, each with the interval of its risk.

    ``wrong`` (N,) 0/1, ``confidence`` (N,), ``patients`` (N,) or None. A case is answered where its confidence is at
    least the threshold (El-Yaniv & Wiener 2010). At each confidence that is reached the risk is the :func:`overread.stats.proportions.proportion` of errors among the cases answered, with its interval; all of
    them are computed together. Pointwise, not for the curve as a whole. Empty where a confidence is not finite.

    >>> risk_curve([0, 1, 0, 0], [0.9, 0.2, 0.8, 0.1]).risk.round(2).tolist()
    [0.0, 0.0, 0.33, 0.25]
    """
    require(points >= 2, "points must be at least 2", given=points)
    errors, sure = zero_one(wrong, "wrong"), numbers(confidence, np.size(wrong), "confidence")
    if reason := not_finite(sure, name="confidences"):
        return RiskCurve(*(np.empty(0),) * 5, level, "", reason)
    ranking = rank(errors, sure)
    answered, threshold = ranking.last + 1.0, ranking.score[ranking.last]
    coverage, risk = answered / len(sure), np.cumsum(ranking.truth)[ranking.last] / answered
    wanted = np.linspace(0, 1, points)[1:]
    step = np.unique(np.minimum(np.searchsorted(coverage, wanted - 1e-12), len(coverage) - 1))
    step = np.union1d(step[-points + 1 :], [0])
    codes = patient_codes(patients, len(sure))
    clustered = distinct(codes) < len(sure)
    many = _effective(errors, sure, codes, threshold[step], level) if clustered else answered[step]
    low, high = wilson_limits(risk[step], many, normal_quantile(level))
    how = "Wilson, ratio estimator by patient" if clustered else "Wilson"
    return RiskCurve(coverage[step], risk[step], np.maximum(low, 0), np.minimum(high, 1), threshold[step], level, how)


def _effective(wrong: Booleans, sure: Floats, codes: Integers, at: Floats, level: float) -> Floats:
    """(T,) :func:`overread.stats.proportions.effective_images` among the cases at or above each threshold.

    As the threshold falls, each image adds to its patient's counts once, so every sum over patients grows by a step
    per image: one sort, then counting.
    """
    order = np.lexsort((-sure, codes))
    who, bad = codes[order], wrong[order].astype(np.float64)
    first = np.flatnonzero(np.append(True, who[1:] != who[:-1]))
    length = np.diff(np.append(first, len(who)))
    earlier = np.arange(len(who)) - np.repeat(first, length)  # images of this patient answered before
    before = np.cumsum(bad) - bad
    missed = before - np.repeat(before[first], length)  # and the errors among them
    reached = np.searchsorted(-at, -sure[order])  # the first threshold (they fall) that this image is above

    def grown(steps: NDArray[Any]) -> Floats:
        return np.cumsum(np.bincount(reached, steps, len(at) + 1).astype(np.float64))[: len(at)]

    count, hits = grown(np.ones(len(who))), grown(bad)
    size2, hits2 = grown(2.0 * earlier + 1), grown((2 * missed + 1) * bad)
    both = grown((missed + bad) * (earlier + 1) - missed * earlier)
    patients = grown((earlier == 0) * 1.0)
    carriers = np.minimum(grown((missed == 0) * bad), grown((earlier == missed) * (1 - bad)))
    value = hits / count
    residual = np.maximum(hits2 - 2 * value * both + value**2 * size2, 0)
    extra = size2 / count - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        kish = count**2 / size2
        variance = kish / (kish - 1) * residual / count**2
        alike = np.maximum(0.0, (variance / (value * (1 - value) / (count - 1)) - 1) / extra)
        shrink = np.array([t_shrinkage(level, max(int(p - 1 + 1e-9), 1)) for p in kish])
        few = np.maximum(independent_images(count, alike, extra, carriers) * shrink, 1.0)
    varied = (patients > 1) & (value > TINY) & (value < 1 - TINY)
    return np.where(patients == count, count, np.where(varied, few, patients))

"""How far a predicted number is from the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.arrays import distinct, numbers, patient_codes
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import Column, Scale, Statistic, Weights, bootstrapped, per_patient

METRICS = ("mae", "rmse", "bias", "r2", "pearson")
SCALES: dict[str, Scale] = {
    "mae": "positive",
    "rmse": "positive",
    "bias": "plain",
    "r2": "below one",
    "pearson": "correlation",
}


@checked
def errors_of(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """Mean absolute error, root mean squared error, bias, R² and Pearson's r, by patient bootstrap.

    Bias is predicted − true. ``truth`` and ``predicted`` (N,) in one unit, ``patients`` (N,) or None. R² and r are undefined for a
    constant truth; all are for a number that is not finite.

    >>> [round(e.value, 3) for e in errors_of([1, 2, 3], [1, 2, 4])]
    [0.333, 0.577, 0.333, 0.5, 0.982]
    """
    true = numbers(truth, name="truth")
    said = numbers(predicted, len(true), "predicted")
    codes = patient_codes(patients, len(true))
    people = distinct(codes)
    bad = int((~np.isfinite(true) | ~np.isfinite(said)).sum())
    if bad or not len(true):
        why = f"{bad} of {len(true)} values are not finite" if bad else "no cases"
        return [undefined(m, why, of=of, images=len(true), patients=people) for m in METRICS]
    statistic = errors_statistic(true, said, codes, int(codes.max()) + 1, of=of)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)


@checked
def errors_statistic(
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    codes: NDArray[np.int64],
    patients: int,
    *,
    of: str = "",
) -> Statistic:
    """All of :data:`METRICS` from eight sums per patient, for the bootstrap."""
    error = predicted - truth
    t, p = truth - truth.mean(), predicted - predicted.mean()  # centred: sums of squares lose no digits
    scale = (float(np.abs(t).max()) or 1.0), (float(np.abs(p).max()) or 1.0)
    t, p = t / scale[0], p / scale[1]
    cells = per_patient(
        codes, patients, np.ones(len(t)), np.abs(error), error**2, error, t, t * t, p, p * p, t * p
    )
    about = Column("", of, len(t), distinct(codes), why="the truth or the prediction is constant")
    columns = tuple(replace(about, metric=metric, scale=SCALES[metric]) for metric in METRICS)

    def compute(weights: Weights) -> NDArray[np.float64]:
        n, *sums = (weights @ cells).T
        absolute, squared, bias, mt, mtt, mp, mpp, mtp = (s / n for s in sums)
        spread_t, spread_p = mtt - mt**2, mpp - mp**2
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where(spread_t > 1e-14, 1 - squared / (spread_t * scale[0] ** 2), np.nan)
            flat = (spread_t <= 1e-14) | (spread_p <= 1e-14)
            r = np.where(flat, np.nan, (mtp - mt * mp) / np.sqrt(spread_t * spread_p))
        return np.column_stack([absolute, np.sqrt(squared), bias, r2, np.clip(r, -1, 1)])

    return Statistic(columns, compute)

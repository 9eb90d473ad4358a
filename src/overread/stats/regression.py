"""How far a predicted number is from the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked
from overread.stats.arrays import TINY, Floats, Integers, Patients, distinct, normal_quantile, numbers, patient_codes
from overread.stats.classification import confusion, recalls
from overread.stats.estimate import Estimate, Moved, summed, undefined
from overread.stats.resample import (
    Column,
    Scale,
    Statistic,
    Sums,
    Weights,
    bootstrapped,
    influence,
    mean_statistic,
    of_sums,
    per_patient,
)

#: The metrics of :func:`errors_statistic`, in its order, and the scale of the interval of each.
SCALES: dict[str, Scale] = {
    "mae": "positive",
    "rmse": "positive",
    "bias": "plain",
    "r2": "below one",
    "pearson": "correlation",
}
METRICS = tuple(SCALES)


@checked
def errors_statistic(truth: Floats, predicted: Floats, codes: Integers, patients: int, *, of: str = "") -> Statistic:
    """Mean absolute error, root mean squared error, bias, R² and Pearson's r, for the bootstrap.

    ``truth`` and ``predicted`` (N,) finite, in one unit; bias is predicted − true. R² and r are undefined for a
    constant truth. From nine sums per patient.
    """
    error = predicted - truth
    t, p = truth - truth.mean(), predicted - predicted.mean()  # centred: sums of squares lose no digits
    scale = (float(np.abs(t).max()) or 1.0), (float(np.abs(p).max()) or 1.0)
    t, p = t / scale[0], p / scale[1]
    cells = per_patient(codes, patients, np.ones(len(t)), np.abs(error), error**2, error, t, t * t, p, p * p, t * p)
    about = Column("", of, len(t), distinct(codes), reason="the truth or the prediction is constant")
    columns = tuple(replace(about, metric=metric, scale=scale) for metric, scale in SCALES.items())

    def compute(weights: Weights) -> Floats:
        n, *sums = (weights @ cells).T
        absolute, squared, bias, mt, mtt, mp, mpp, mtp = (s / n for s in sums)
        spread_t, spread_p = mtt - mt**2, mpp - mp**2
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where(spread_t > 1e-14, 1 - squared / (spread_t * scale[0] ** 2), np.nan)
            flat = (spread_t <= 1e-14) | (spread_p <= 1e-14)
            r = np.where(flat, np.nan, (mtp - mt * mp) / np.sqrt(spread_t * spread_p))
        return np.column_stack([absolute, np.sqrt(squared), bias, r2, np.clip(r, -1, 1)])

    return Statistic(columns, compute)


# -- A number of each image, and its mean over images with an interval that knows the patients --------------------


@checked
def mean_over_images(
    metric: str,
    values: ArrayLike,
    patients: Patients = None,
    *,
    scale: Scale = "share",
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The mean of ``values`` (N,) over the images where it is a number, by patient bootstrap.

    ``values`` NaN or infinite where an image has none: those are left out and counted in the method.
    ``patients`` (N,) or None. ``scale`` as :class:`overread.stats.resample.Column` says: ``share`` for values
    in 0 … 1, ``positive`` from 0 on, ``plain`` for any. Student's t for few patients.

    >>> print(mean_over_images("dice", [0.8, 0.9, 0.7, 0.95, float("nan")]))
    0.838 (0.607–0.945)
    """
    given = numbers(values, name="values")
    codes, known = patient_codes(patients, len(given)), np.isfinite(given)
    if not known.any():
        reason = "undefined for every image" if len(given) else "no images"
        return undefined(metric, reason, of=of, images=len(given), patients=distinct(codes))
    codes, left_out = patient_codes(codes[known], int(known.sum())), int((~known).sum())
    note = "mean over images" + (f", {left_out} without a value left out" if left_out else "")
    count = distinct(codes)
    bounded, freedom = count if scale == "share" else 1, max(count - 1, 1)
    statistic = mean_statistic(
        metric, given[known], codes, count, of=of, note=note, scale=scale, effective=bounded, freedom=freedom
    )
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


@checked
def means_over_images(
    scales: Mapping[str, Scale],
    each: Sequence[Sequence[Estimate]],
    patients: Patients,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> list[Estimate]:
    """:func:`mean_over_images` of several metrics: ``scales`` names them, ``each`` of N images has all in that order."""
    table = np.array([[e.value for e in one] for one in each]).reshape(len(each), len(scales))
    how: dict[str, Any] = {"level": level, "of": of, "resamples": resamples, "seed": seed}
    return [
        mean_over_images(metric, column, patients, scale=scale, **how)
        for (metric, scale), column in zip(scales.items(), table.T)
    ]


@checked
def one_image(metric: str, value: float, reason: str) -> Estimate:
    """What was measured of a single image, without an interval; undefined for ``reason`` where it is NaN."""
    if math.isnan(value):
        return undefined(metric, reason, images=1, patients=1)
    return Estimate(metric, float(value), method="one image", images=1, patients=1)


# -- agreement with the truth beyond chance: Matthews' correlation, quadratic kappa -------------------------------


@checked
def mcc_statistic(
    truth: Integers, predicted: Integers, codes: Integers, patients: int, *, of: str = "", note: str = ""
) -> Statistic:
    """Matthews' correlation of two or more classes: 1 perfect, 0 chance.

    ``truth`` and ``predicted`` (N,) class numbers. Matthews 1975; Gorodkin 2004, for several classes. Undefined where
    all cases are, or are called, one class. The interval squares and adds what each class's share of right calls would
    change at either end of its own interval, and what the mix of the classes and of the errors changes to first order.
    From 2 + 2·classes sums per patient.
    """
    classes, both = np.unique(np.concatenate((truth, predicted)), return_inverse=True)
    actual, called = (part == np.arange(len(classes))[:, None] for part in np.split(both, 2))  # (C, N)
    cells = per_patient(codes, patients, truth == predicted, np.ones(len(truth)), *actual, *called)
    fewest = min(distinct(codes[rows]) for rows in actual if rows.any())
    about = Column("mcc", of, len(truth), distinct(codes), "correlation", effective=fewest, note=note)
    flat = "the truth is one class, or all cases are called one"

    def compute(sums: Floats) -> Floats:
        hit, total = sums[:, :2].T
        ill, flagged = np.split(sums[:, 2:], 2, axis=1)  # (B, C)
        spread_t = total**2 - np.einsum("bc,bc->b", ill, ill)
        spread_p = total**2 - np.einsum("bc,bc->b", flagged, flagged)
        shared = hit * total - np.einsum("bc,bc->b", ill, flagged)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(spread_t * spread_p > 0, shared / np.sqrt(spread_t * spread_p), np.nan)[:, None]

    of_classes = np.searchsorted(classes, truth), np.searchsorted(classes, predicted)
    column = replace(about, reason=flat)
    sums = Sums(cells, compute)
    closed = cache(lambda level: _of_recalls(sums, *of_classes, len(classes), codes, patients, level))
    return of_sums((replace(column, closed=closed),), cells, compute)


def _of_recalls(
    sums: Sums, truth: Integers, predicted: Integers, classes: int, codes: Integers, patients: int, level: float
) -> Moved:
    """The interval of a metric of hits, cases, cases of each class and calls of each class (in that order)."""
    table = confusion(truth, predicted, classes).astype(np.float64)

    def value(counts: Floats) -> float:
        parts = [np.trace(counts)], [counts.sum()], counts.sum(axis=1), counts.sum(axis=0)
        return float(sums.of(np.concatenate(parts)[None, :])[0, 0])

    here, every = value(table), influence(sums, 0)
    causes, rest = [], every.copy()
    for k, recall in zip(np.unique(truth), recalls(truth, predicted, codes, patients, level)):
        low, high = (_with_recall(table, int(k), share) for share in (recall.low, recall.high))
        ends = sorted(x if math.isfinite(x) else here for x in (value(low), value(high)))
        step = 1e-5 if recall.value < 0.5 else -1e-5
        slope = (value(_with_recall(table, int(k), recall.value + step)) - here) / step
        own = slope * recall.influence
        rest -= own
        causes.append(Moved(here, min(ends[0], here), max(ends[1], here), own, least=abs(slope) * recall.least))
    count = distinct(codes)
    half = normal_quantile(level) * math.sqrt(count / max(count - 1, 1)) * float(np.linalg.norm(rest))
    causes.append(Moved(here, here - half, here + half, rest))
    found = summed(here, causes, "Wilson of each class's right calls, and their mix, squared and added")
    return replace(found, low=max(-1.0, found.low), high=min(1.0, found.high))


def _with_recall(table: Floats, k: int, share: float) -> Floats:
    """The counts (C, C) with another share of class ``k`` called rightly; its errors as they are, or evenly if there are none."""
    total, errors = table[k].sum(), table[k].copy()
    errors[k] = 0.0
    if not errors.any():
        errors = np.ones(len(table))
        errors[k] = 0.0
    moved = table.copy()
    moved[k] = (1 - share) * total * errors / errors.sum()
    moved[k, k] = share * total
    return moved


@checked
def kappa_statistic(
    truth: Floats, predicted: Floats, codes: Integers, patients: int, *, of: str = "", note: str = ""
) -> Statistic:
    """Kappa with quadratic weights, 1 − disagreement / disagreement by chance, for the bootstrap.

    ``truth`` and ``predicted`` (N,) grades as numbers. Cohen 1968. Undefined where all grades are equal; at ±1 Wilson's
    bound for the patients. From six sums per patient, whatever the number of grades.
    """
    middle = float(truth.mean())
    t, p = truth - middle, predicted - middle  # sums of squares lose no digits
    cells = per_patient(codes, patients, np.ones(len(t)), (t - p) ** 2, t, p, t * t, p * p)
    about = Column("quadratic kappa", of, len(t), distinct(codes), "correlation", effective=distinct(codes), note=note)
    column = replace(about, reason="the grades are all equal")

    def compute(sums: Floats) -> Floats:
        n, apart, *rest = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no case
            mt, mp, mtt, mpp = (s / n for s in rest)
            by_chance = mtt + mpp - 2 * mt * mp
            return np.where(by_chance > TINY, 1 - apart / n / by_chance, np.nan)[:, None]

    return of_sums((column,), cells, compute)

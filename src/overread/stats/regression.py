"""How far a predicted number is from the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked
from overread.stats.arrays import TINY, distinct, numbers, patient_codes
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import Column, Scale, Statistic, Weights, bootstrapped, of_sums, per_patient, ratio_of_sums

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
    truth: NDArray[np.float64], predicted: NDArray[np.float64], codes: NDArray[np.int64], patients: int, *, of: str = ""
) -> Statistic:
    """All of :data:`METRICS` from eight sums per patient, for the bootstrap."""
    error = predicted - truth
    t, p = truth - truth.mean(), predicted - predicted.mean()  # centred: sums of squares lose no digits
    scale = (float(np.abs(t).max()) or 1.0), (float(np.abs(p).max()) or 1.0)
    t, p = t / scale[0], p / scale[1]
    cells = per_patient(codes, patients, np.ones(len(t)), np.abs(error), error**2, error, t, t * t, p, p * p, t * p)
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


# -- A number of each image, and its mean over images with an interval that knows the patients --------------------


@checked
def mean_over_images(
    metric: str,
    values: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    scale: Scale = "share",
    level: float = 0.95,
    of: str = "",
    why: str = "undefined for every image",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The mean of ``values`` (N,) over the images where it is a number, by patient bootstrap.

    ``values`` NaN or infinite where an image has none: those are left out and counted in the method.
    ``patients`` (N,) or None. ``scale`` as :class:`overread.stats.resample.Column` says: ``share`` for values
    in 0 … 1, ``positive`` from 0 on, ``plain`` for any. Student's t for few patients. ``why``: the reason
    where no image has a value.

    >>> print(mean_over_images("dice", [0.8, 0.9, 0.7, 0.95, float("nan")]))
    0.838 (0.608–0.945)
    """
    given = numbers(values, name="values")
    codes, known = patient_codes(patients, len(given)), np.isfinite(given)
    if not known.any():
        why = why if len(given) else "no images"
        return undefined(metric, why, of=of, images=len(given), patients=distinct(codes))
    codes, left_out = patient_codes(codes[known], int(known.sum())), int((~known).sum())
    note = "mean over images" + (f", {left_out} without a value left out" if left_out else "")
    statistic = _mean(metric, given[known], codes, scale, of, note)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


def _mean(
    metric: str, values: NDArray[np.float64], codes: NDArray[np.int64], scale: Scale, of: str, note: str
) -> Statistic:
    people = distinct(codes)
    cells = per_patient(codes, people, np.ones(len(values)), values)
    few = max(people - 1, 1)
    bounded = people if scale == "share" else 1
    column = Column(metric, of, len(values), people, scale, effective=bounded, freedom=few, note=note)
    return of_sums((column,), cells, ratio_of_sums)


# -- agreement with the truth beyond chance: Matthews' correlation, quadratic kappa -------------------------------


@checked
def mcc(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Matthews' correlation of two or more classes: 1 perfect, 0 chance.

    ``truth`` and ``predicted`` (N,) class numbers (0/1 for two), ``patients`` (N,) or None. Matthews 1975;
    Gorodkin 2004, for several classes. Patient bootstrap on the scale of Fisher's z; at ±1 Wilson's
    bound for the patients of the rarest class. Undefined where all cases are, or are called, one class.

    >>> round(mcc([1, 1, 0, 0], [1, 0, 0, 0]).value, 4)
    0.5774
    """
    actual, said, codes = _grades(truth, predicted, patients)
    if why := _why_flat(actual, said):
        return undefined("mcc", why, of=of, images=len(actual), patients=distinct(codes))
    statistic = mcc_statistic(actual.astype(np.int64), said.astype(np.int64), codes, of=of)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


@checked
def quadratic_kappa(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Kappa with quadratic weights, of ordered grades: 1 − disagreement / disagreement by chance.

    ``truth`` and ``predicted`` (N,) grades as numbers, ``patients`` (N,) or None. Cohen 1968. Patient bootstrap
    on the scale of Fisher's z; at ±1 Wilson's bound for the patients. Undefined where all grades are equal.

    >>> round(quadratic_kappa([0, 1, 2, 3], [0, 1, 2, 2]).value, 4)
    0.875
    """
    actual, said, codes = _grades(truth, predicted, patients)
    if why := _why(actual, said) or ("" if np.ptp(np.concatenate((actual, said))) else "the grades are all equal"):
        return undefined("quadratic kappa", why, of=of, images=len(actual), patients=distinct(codes))
    statistic = kappa_statistic(actual, said, codes, of=of)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


def _grades(
    truth: ArrayLike, predicted: ArrayLike, patients: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    actual = numbers(truth, name="truth")
    said = numbers(predicted, len(actual), "predicted")
    return actual, said, patient_codes(patients, len(actual))


def _why(actual: NDArray[np.float64], said: NDArray[np.float64]) -> str:
    if not len(actual):
        return "no cases"
    bad = int((~np.isfinite(actual) | ~np.isfinite(said)).sum())
    return f"{bad} of {len(actual)} values are not finite" if bad else ""


def _why_flat(actual: NDArray[np.float64], said: NDArray[np.float64]) -> str:
    if why := _why(actual, said):
        return why
    if not np.ptp(actual):
        return "the truth is one class"
    if not np.ptp(said):
        return "all cases are called one class"
    whole = bool((np.concatenate((actual, said)) % 1 == 0).all())
    return "" if whole else "class numbers must be whole"


@checked
def mcc_statistic(
    truth: NDArray[np.int64], predicted: NDArray[np.int64], codes: NDArray[np.int64], *, of: str = "", note: str = ""
) -> Statistic:
    """Matthews' correlation of class numbers, for the bootstrap: from 1 + 2·classes sums per patient."""
    classes, both = np.unique(np.concatenate((truth, predicted)), return_inverse=True)
    actual, called = (part == np.arange(len(classes))[:, None] for part in np.split(both, 2))  # (C, N)
    count = int(codes.max()) + 1
    cells = per_patient(codes, count, truth == predicted, np.ones(len(truth)), *actual, *called)
    fewest = min(distinct(codes[rows]) for rows in actual if rows.any())
    about = Column("mcc", of, len(truth), distinct(codes), "correlation", effective=fewest, note=note)
    why = "the truth is one class, or all cases are called one"

    def compute(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        hit, total = sums[:, :2].T
        true, said = np.split(sums[:, 2:], 2, axis=1)  # (B, C)
        spread_t = total**2 - np.einsum("bc,bc->b", true, true)
        spread_p = total**2 - np.einsum("bc,bc->b", said, said)
        shared = hit * total - np.einsum("bc,bc->b", true, said)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(spread_t * spread_p > 0, shared / np.sqrt(spread_t * spread_p), np.nan)[:, None]

    return of_sums((replace(about, why=why),), cells, compute)


@checked
def kappa_statistic(
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    codes: NDArray[np.int64],
    *,
    of: str = "",
    note: str = "",
) -> Statistic:
    """Kappa with quadratic weights, for the bootstrap: from six sums per patient, whatever the number of grades."""
    middle, count = float(truth.mean()), int(codes.max()) + 1
    t, p = truth - middle, predicted - middle  # sums of squares lose no digits
    cells = per_patient(codes, count, np.ones(len(t)), (t - p) ** 2, t, p, t * t, p * p)
    people = distinct(codes)
    column = Column(
        "quadratic kappa", of, len(t), people, "correlation", effective=people, why="the grades are all equal",
        note=note,
    )  # fmt: skip

    def compute(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        n, apart, *rest = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):  # a resample may hold no case
            mt, mp, mtt, mpp = (s / n for s in rest)
            by_chance = mtt + mpp - 2 * mt * mp
            return np.where(by_chance > TINY, 1 - apart / n / by_chance, np.nan)[:, None]

    return of_sums((column,), cells, compute)

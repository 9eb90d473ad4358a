"""Agreement with the truth beyond chance: Matthews' correlation, quadratic kappa."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.arrays import TINY, distinct, normal_quantile, numbers, patient_codes
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import wilson
from overread.stats.resample import Column, Statistic, Weights, bootstrap, per_patient


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
    Gorodkin 2004, equation 8, for several classes. Patient bootstrap on the scale of Fisher's z; at ±1 Wilson's
    bound for the patients of the rarest class. Undefined where all cases are, or are called, one class.

    >>> round(mcc([1, 1, 0, 0], [1, 0, 0, 0]).value, 4)
    0.5774
    """
    actual, said, codes = _grades(truth, predicted, patients)
    if why := _why_flat(actual, said):
        return undefined("mcc", why, of=of, images=len(actual), patients=distinct(codes))
    statistic = mcc_statistic(actual.astype(np.int64), said.astype(np.int64), codes, of=of)
    return _bounded(statistic, codes, len(actual), level, resamples, seed)


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
    if why := _why(actual, said) or (
        "" if np.ptp(np.concatenate((actual, said))) else "the grades are all equal"
    ):
        return undefined("quadratic kappa", why, of=of, images=len(actual), patients=distinct(codes))
    statistic = kappa_statistic(actual, said, codes, of=of)
    return _bounded(statistic, codes, len(actual), level, resamples, seed)


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


def _bounded(
    statistic: Statistic,
    codes: NDArray[np.int64],
    images: int,
    level: float,
    resamples: int | None,
    seed: int,
) -> Estimate:
    """The bootstrap; at ±1, where no resample differs, the bound of a share that is twice as near to its end."""
    count = int(codes.max()) + 1
    found = bootstrap([statistic], count, images=images, level=level, resamples=resamples, seed=seed)[0]
    if found.undefined or abs(found.value) < 1 - TINY:
        return found
    effective = statistic.columns[0].effective
    low, high = wilson(float(found.value > 0), effective, normal_quantile(level))
    how = f"Wilson bound for {effective} patients"
    return replace(found, low=2 * low - 1, high=2 * high - 1, method=how)


@checked
def mcc_statistic(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    codes: NDArray[np.int64],
    *,
    of: str = "",
    note: str = "",
) -> Statistic:
    """Matthews' correlation of class numbers, for the bootstrap: from 1 + 2·classes sums per patient."""
    classes, both = np.unique(np.concatenate((truth, predicted)), return_inverse=True)
    actual, called = (part == np.arange(len(classes))[:, None] for part in np.split(both, 2))  # (C, N)
    count = int(codes.max()) + 1
    hits = per_patient(codes, count, truth == predicted, np.ones(len(truth)))
    cells = [per_patient(codes, count, *rows) for rows in (actual, called)]
    fewest = min(distinct(codes[rows]) for rows in actual if rows.any())
    about = Column("mcc", of, len(truth), distinct(codes), "correlation", effective=fewest, note=note)
    why = "the truth is one class, or all cases are called one"

    def compute(weights: Weights) -> NDArray[np.float64]:
        hit, total = (weights @ hits).T
        true, said = (weights @ cell for cell in cells)  # (B, C)
        spread_t = total**2 - np.einsum("bc,bc->b", true, true)
        spread_p = total**2 - np.einsum("bc,bc->b", said, said)
        shared = hit * total - np.einsum("bc,bc->b", true, said)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(spread_t * spread_p > 0, shared / np.sqrt(spread_t * spread_p), np.nan)[:, None]

    return Statistic((replace(about, why=why),), compute)


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

    def compute(weights: Weights) -> NDArray[np.float64]:
        n, apart, *sums = (weights @ cells).T
        mt, mp, mtt, mpp = (s / n for s in sums)
        by_chance = mtt + mpp - 2 * mt * mp
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(by_chance > TINY, 1 - apart / n / by_chance, np.nan)[:, None]

    return Statistic((column,), compute)

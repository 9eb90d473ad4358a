"""Agreement with the truth beyond chance: Matthews' correlation, quadratic kappa."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.arrays import TINY, distinct, numbers, patient_codes
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import Column, Statistic, bootstrapped, of_sums, per_patient


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
    if why := _why(actual, said) or (
        "" if np.ptp(np.concatenate((actual, said))) else "the grades are all equal"
    ):
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
        mt, mp, mtt, mpp = (s / n for s in rest)
        by_chance = mtt + mpp - 2 * mt * mp
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(by_chance > TINY, 1 - apart / n / by_chance, np.nan)[:, None]

    return of_sums((column,), cells, compute)

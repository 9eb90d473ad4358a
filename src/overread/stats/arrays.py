"""What every statistic does first: check its arrays, number its patients; and the normal and t quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import ArgumentError, checked, require

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]
#: Which patient each row belongs to, numbers or names (N,); None: each row is a patient of its own.
Patients = ArrayLike | None

#: Below this, a variance is the rounding of zero.
TINY = 1e-15


@checked
def patient_codes(patients: Patients, count: int) -> Integers:
    """Number the patients 0 … P−1; without ``patients`` each of ``count`` rows is its own patient.

    >>> patient_codes(["b", "a", "b"], 3).tolist()
    [0, 1, 0]
    """
    if patients is None:
        return np.arange(count)
    given = np.asarray(patients)
    require(given.shape == (count,), "there must be one patient per row", given=f"{given.shape}, {count} rows")
    if np.issubdtype(given.dtype, np.integer):
        given = given.astype(np.int64)
        if not count or given.min() < 0 or given.max() > 4 * count:
            return np.unique(given, return_inverse=True)[1].astype(np.int64)
        return (np.cumsum(np.bincount(given) > 0) - 1)[given]  # small numbers need no sorting
    known: dict[Any, int] = {}
    return np.fromiter((known.setdefault(p, len(known)) for p in given.tolist()), np.int64, count)


@checked
def distinct(codes: Integers) -> int:
    """How many patients there are among ``codes`` (N,)."""
    return int(np.count_nonzero(np.bincount(codes)))


@checked
def zero_one(truth: ArrayLike, name: str = "truth") -> Booleans:
    """``truth`` as booleans, shape (N,). Raises :class:`ArgumentError` if it holds anything but 0 and 1.

    >>> zero_one([0, 1.0, True]).tolist()
    [False, True, True]
    """
    given = np.asarray(truth)
    require(given.ndim == 1, f"{name} must have one dimension", given=given.shape)
    if given.dtype == bool:
        return given
    real = np.issubdtype(given.dtype, np.integer) or np.issubdtype(given.dtype, np.floating)
    good = real and bool(((given == 0) | (given == 1)).all())
    require(good or given.size == 0, f"{name} must hold only 0 and 1", todo="drop the rows without a label first")
    return given.astype(bool)


@checked
def numbers(values: ArrayLike, count: int | None = None, name: str = "score") -> Floats:
    """``values`` as float64, shape (N,): ``count`` of them where given. NaN and infinity are let through.

    >>> numbers(np.float32([0.5, 1])).tolist()
    [0.5, 1.0]
    """
    given = real_numbers(values, name)
    require(given.ndim == 1, f"{name} must have one dimension", given=given.shape)
    require(
        count is None or len(given) == count, f"{name} and truth must be equally long", given=f"{len(given)}, {count}"
    )
    return given


@checked
def real_numbers(values: ArrayLike, name: str) -> Floats:
    """``values`` as float64 of any shape. NaN and infinity are let through.

    >>> real_numbers([[1, 2]], "scores").tolist()
    [[1.0, 2.0]]
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{name} must be numbers", given=type(values).__name__) from error


@checked
def class_numbers(values: ArrayLike, classes: int) -> Integers:
    """``values`` (N,), numbers of ``classes`` classes from 0 on. Raises :class:`ArgumentError` for any other number.

    >>> class_numbers([0.0, 2.0], 3).tolist()
    [0, 2]
    """
    given = numbers(values, name="truth")
    good = bool(((given >= 0) & (given < classes) & (given == np.floor(given))).all())
    require(good, "a class number lies outside 0 … classes−1", given=f"{classes} classes")
    return given.astype(np.int64)


@checked
def not_finite(*values: Floats, name: str = "values") -> str:
    """The reason why arrays of one shape cannot be used: nothing in them, or what is not finite; else empty.

    >>> not_finite(np.array([1.0, np.nan, 2.0]), np.array([1.0, np.nan, np.inf]))
    '2 of 3 values are not finite'
    """
    if not values[0].size:
        return "no cases"
    bad = values[0].size - int(np.logical_and.reduce([np.isfinite(v) for v in values]).sum())
    return f"{bad} of {values[0].size} {name} are not finite" if bad else ""


@checked
def one_class(truth: Booleans) -> str:
    """The reason why ``truth`` (N,) does not tell two classes apart; empty if both are there."""
    if truth.size and truth.any() and not truth.all():
        return ""
    return "0 negatives" if truth.any() else "0 positives" if truth.size else "no cases"


@checked
def no_ranking(truth: Booleans, score: Floats) -> str:
    """The reason why a ranking of ``score`` by ``truth`` has no value; empty if it has one."""
    return not_finite(score, name="scores") or one_class(truth)


@checked
def normal_quantile(level: float) -> float:
    """The z of a two-sided interval.

    >>> round(normal_quantile(0.95), 3)
    1.96
    """
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    return NormalDist().inv_cdf(0.5 + level / 2)


@checked
def t_quantile(level: float, freedom: float) -> float:
    """Student's t of a two-sided interval, for any ``freedom`` ≥ 1, also broken or ∞.

    >>> round(t_quantile(0.95, 10), 3)
    2.228
    """
    from scipy.special import stdtrit

    require(freedom >= 1, "freedom must be at least 1", given=freedom)
    if math.isinf(freedom):
        return normal_quantile(level)
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    return float(stdtrit(freedom, 0.5 + level / 2))


@checked
def t_shrinkage(level: float, freedom: int) -> float:
    """What a number of images is multiplied with so that a normal interval becomes as wide as Student's t makes it.

    >>> round(t_shrinkage(0.95, 10), 3)
    0.774
    """
    return (normal_quantile(level) / t_quantile(level, freedom)) ** 2


@checked
def logit_interval(value: float, error: float, z: float) -> tuple[float, float]:
    """value ± z·error, carried out on the logit scale, for a ``value`` strictly between 0 and 1."""
    centre, half = math.log(value / (1 - value)), z * error / (value * (1 - value))
    return expit(centre - half), expit(centre + half)


def expit(x: float) -> float:
    """The inverse of the logit, without overflow."""
    return 1 / (1 + math.exp(-x)) if x > -700 else 0.0


def bisect(excess: Callable[[float], float], outside: float, inside: float) -> float:
    """Where ``excess`` turns positive on the way ``outside``; ``outside`` itself where it never does."""
    for _ in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if excess(middle) > 0 else (outside, middle)
    return (outside + inside) / 2

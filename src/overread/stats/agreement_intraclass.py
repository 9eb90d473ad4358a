"""Intraclass correlation: how alike readers measure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.agreement import Ratings, answers
from overread.stats.arrays import normal_quantile
from overread.stats.estimate import Estimate
from overread.stats.resample import Statistic, Weights, bootstrap

Kind = Literal["agreement", "consistency"]
NAMES = {"agreement": "icc(2,1)", "consistency": "icc(3,1)"}


@checked
def intraclass_correlation(
    ratings: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    kind: Kind = "agreement",
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The share of the variance of one reader's measurements that belongs to the cases.

    ``ratings`` (N, R) numbers in one unit, ``patients`` (N,) or None. ``agreement``: readers are a sample, and
    a reader who always measures more disagrees: ICC(2,1); ``consistency``: these readers, and such a shift is
    forgiven: ICC(3,1). Shrout & Fleiss 1979, with their interval from F for ICC(3,1), generalised pivots for
    ICC(2,1), and a patient bootstrap where patients repeat. Cases with a missing answer are left out.
    Undefined for one reader, fewer than two cases, one and the same value throughout, or an infinite one.

    >>> judged = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    >>> print(intraclass_correlation(judged))
    0.290 (0.027–0.745)
    """
    normal_quantile(level)
    given = answers(ratings, patients, whole=False, least=None)
    count, metric = given.table.shape[1], NAMES[kind]
    why = given.why if "finite" in given.why else "fewer than two cases that all readers measured"
    if "finite" in given.why or len(given.table) < 2:
        return given.undefined(metric, why)
    if count < 2:
        return given.undefined(metric, "one reader")
    x = given.table - given.table.mean()  # centred and scaled: sums of squares lose no digits
    given = replace(given, table=x / (float(np.abs(x).max()) or 1.0))
    if given.patients < len(given.table):
        return _clustered(given, kind, level, resamples, seed)
    squares = _mean_squares(_cells(given).sum(axis=0, keepdims=True), count)
    value = float(_correlation(squares, len(x), count, kind)[0])
    if math.isnan(value):
        return given.undefined(metric, "all answers are alike")
    between, reader, error = (float(square[0]) for square in squares)
    if error == 0:
        low, high, how = math.nan, math.nan, "no interval: the readers never differ in order"
    elif kind == "consistency":
        low, high = _consistency_interval(between / error, len(x), count, level)
        how = "Shrout & Fleiss 1979, F"
    else:
        low, high = _agreement_interval(between, reader, error, len(x), count, level)
        # Of two cases the estimate can lie outside, far below 0.
        low, high = min(low, value), max(high, value)
        how = "generalised pivots"
    how = f"{given.note}; {how}" if given.note else how
    return Estimate(metric, value, low, high, level, how, len(x), given.patients)


def _cells(given: Ratings) -> NDArray[np.float64]:
    """(P, 3 + R): of each patient the cases, sum of squares, squared sums of the cases, and sums by reader."""
    x, count = given.table, int(given.codes.max()) + 1
    columns = (np.ones(len(x)), (x**2).sum(axis=1), x.sum(axis=1) ** 2, *x.T)
    return np.column_stack([np.bincount(given.codes, column, count) for column in columns])


def _mean_squares(sums: NDArray[np.float64], readers: int) -> tuple[NDArray[np.float64], ...]:
    """(B,) each: between cases, between readers, error; from (B, 3 + R) sums of cells."""
    cases, square, rows = sums.T[:3]
    middle = sums[:, 3:].sum(axis=1) ** 2 / (cases * readers)
    between = np.maximum(rows / readers - middle, 0)
    reader = np.maximum((sums[:, 3:] ** 2).sum(axis=1) / cases - middle, 0)
    rest = np.maximum(square - middle - between - reader, 0)
    rest[rest < 1e-13 * cases] = 0.0  # the rounding of zero
    with np.errstate(invalid="ignore", divide="ignore"):
        few = cases - 1
        return between / few, reader / (readers - 1), rest / (few * (readers - 1))


def _correlation(
    squares: tuple[NDArray[np.float64], ...], cases: NDArray[np.float64] | int, readers: int, kind: Kind
) -> NDArray[np.float64]:
    between, reader, error = squares
    whole = between + (readers - 1) * error
    if kind == "agreement":
        whole = whole + readers * (reader - error) / cases
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 1e-14, (between - error) / whole, math.nan)


def _consistency_interval(ratio: float, n: int, k: int, level: float) -> tuple[float, float]:
    """Shrout & Fleiss 1979, page 424, for ICC(3,1)."""
    from scipy.special import fdtri

    few, many, tail = n - 1, (n - 1) * (k - 1), 0.5 + level / 2
    low, high = ratio / fdtri(few, many, tail), ratio * fdtri(many, few, tail)
    return float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1))


def _agreement_interval(
    between: float, reader: float, error: float, n: int, k: int, level: float
) -> tuple[float, float]:
    """Quantiles of the ICC(2,1) that the mean squares allow, each divided by a mean of χ² draws.

    Generalised pivotal quantities (Weerahandi 1993; Ionan et al. 2014). The interval of Shrout & Fleiss 1979
    covers 84 to 93 % where readers differ much and are few; this one 94 to 95. No draws are needed: over those
    of cases and error runs Gauss's quadrature, and that of the readers is solved for.
    """
    from scipy.special import chdtr, gammaincinv

    nodes, shares = np.polynomial.legendre.leggauss(32)
    grid, many, share = (nodes + 1) / 2, (n - 1) * (k - 1), np.outer(shares, shares) / 4
    case = between * (n - 1) / (2 * gammaincinv((n - 1) / 2, grid))[:, None]
    rest = error * many / (2 * gammaincinv(many / 2, grid))

    def below(icc: float) -> float:
        """The chance that the ICC is at most ``icc``: that the readers' square is at least ``least``."""
        least = n / k * ((case - rest) / icc - case - (k - 1) * rest) + rest
        above = least > 0
        chance = np.where(above, chdtr(k - 1, reader * (k - 1) / np.where(above, least, 1.0)), 1.0)
        total = float((share * chance).sum())
        return total if icc > 0 else 1 - total

    lowest = min(-1.0, 2 * (between - error) / error)
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = (_solve(below, tail, lowest) for tail in tails)
    return low, high


def _solve(rising: Callable[[float], float], wanted: float, low: float) -> float:
    """Where a rising function of −1 … 1 takes a value."""
    high = 1.0
    for _ in range(40):
        middle = (low + high) / 2 or 1e-12  # at 0 itself the readers' square drops out
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def _clustered(given: Ratings, kind: Kind, level: float, resamples: int | None, seed: int) -> Estimate:
    readers, cells = given.table.shape[1], _cells(given)

    def compute(weights: Weights) -> NDArray[np.float64]:
        sums = weights @ cells
        with np.errstate(invalid="ignore", divide="ignore"):
            return _correlation(_mean_squares(sums, readers), sums[:, 0], readers, kind)[:, None]

    column = replace(
        given.column(NAMES[kind], why="all answers are alike"), scale="below one", freedom=given.patients - 1
    )
    images = len(given.table)
    return bootstrap(
        [Statistic((column,), compute)],
        len(cells),
        images=images,
        level=level,
        resamples=resamples,
        seed=seed,
    )[0]

"""The C-index: whether of two cases the one with more has the higher prediction."""

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
)
from overread.stats.estimate import Estimate, undefined
from overread.stats.roc import newcombe


@checked
def concordance(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> Estimate:
    """The chance that of two cases with different truth the greater has the higher prediction, ties one half.

    ``truth`` (N,) a quantity or ordered grade (all known: no censoring), ``predicted`` (N,), ``patients`` (N,) or
    None. Harrell et al. 1982; for 0/1 it is the AUC. Each case's pairs are counted in O(N·log²N), so the variance
    needs no resampling: that of a ratio of sums by patient (Newson 2006), interval on the logit scale, Student's t.
    Where it is zero, Newcombe's method 5 with half of the patients on either side. Undefined for a constant
    truth or a number that is not finite.

    >>> round(concordance([1, 2, 3, 4], [1, 3, 2, 4]).value, 4)
    0.8333
    """
    true = numbers(truth, name="truth")
    said = numbers(predicted, len(true), "predicted")
    codes = patient_codes(patients, len(true))
    people = distinct(codes)
    if why := _why(true, said):
        return undefined("concordance", why, of=of, images=len(true), patients=people)
    agree, pairs = concordant(true, said)
    total = float(pairs.sum())
    value = float(agree.sum()) / total
    moved = np.bincount(codes, agree - value * pairs)
    error = 2 * float(np.linalg.norm(moved)) / total * math.sqrt(people / max(people - 1, 1))
    if people > 2 and error**2 > TINY and TINY < value < 1 - TINY:
        (low, high), how = logit_interval(value, error, t_quantile(level, people - 1)), "ratio of sums, logit"
    else:
        half = max(people // 2, 1)
        (low, high), how = newcombe(value, half, half, normal_quantile(level)), "Newcombe 2006 method 5"
    how += ", by patient" if people < len(true) else ""
    return Estimate("concordance", value, low, high, level, how, len(true), people, of)


def _why(true: NDArray[np.float64], said: NDArray[np.float64]) -> str:
    if not len(true):
        return "no cases"
    bad = int((~np.isfinite(true) | ~np.isfinite(said)).sum())
    if bad:
        return f"{bad} of {len(true)} values are not finite"
    return "" if np.ptp(true) else "the truth is constant"


def concordant(
    truth: NDArray[np.float64], predicted: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) with how many cases each agrees in order (ties of the prediction one half), and how many differ in truth.

    Two truths differ first at one binary digit of their ranks: at each digit, among cases with the same higher
    digits, those with a one are compared with those with a zero. So each pair is counted once per case.
    """
    order = np.argsort(predicted, kind="stable")
    rank = np.unique(truth, return_inverse=True)[1]
    agree, size = np.zeros(len(truth)), np.bincount(rank)
    tie = np.unique(predicted, return_inverse=True)[1]
    for digit in range(int(rank.max()).bit_length()):
        block = rank[order] >> (digit + 1)
        inside = order[np.argsort(block, kind="stable")]  # by block, within it by prediction
        block, one = rank[inside] >> (digit + 1), (rank[inside] >> digit) & 1
        agree[inside] += _agreeing(block, one, tie[inside])
    return agree, (len(truth) - size[rank]).astype(np.float64)


def _agreeing(
    block: NDArray[np.int64], one: NDArray[np.int64], tie: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of a one, the zeros of its block below it; of a zero, the ones above it; halves of those tied with it."""
    place = np.arange(len(block))
    new_block = np.append(True, block[1:] != block[:-1])
    new_tie = new_block | np.append(True, tie[1:] != tie[:-1])
    ones = np.append(0, np.cumsum(one))
    zeros = np.append(place, len(block)) - ones

    def around(starts: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        first = np.flatnonzero(starts)
        size = np.diff(np.append(first, len(starts)))
        return np.repeat(first, size), np.repeat(first + size, size)

    (start, stop), (before, after) = around(new_block), around(new_tie)
    below = (zeros[before] + zeros[after]) / 2 - zeros[start]
    above = ones[stop] - (ones[before] + ones[after]) / 2
    return np.where(one == 1, below, above)

"""A share of images with an interval that knows which images share a patient."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, one_of, require
from overread.stats.arrays import (
    TINY,
    Booleans,
    Floats,
    Integers,
    Patients,
    distinct,
    normal_quantile,
    patient_codes,
    t_shrinkage,
    zero_one,
)
from overread.stats.estimate import Difference, Estimate, error_towards, two_sided, undefined, without

METHODS = ("wilson", "exact")


@checked
def proportion(
    success: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    metric: str = "proportion",
    of: str = "",
    method: str = "wilson",
) -> Estimate:
    """The share of ones: sensitivity, specificity, accuracy and predictive values are all this.

    ``success`` (N,) 0/1, ``patients`` (N,) or None. Wilson 1927; where patients repeat, Wilson with the
    effective number of images from the ratio estimator's variance (Rao & Scott 1992) and Student's t for few
    patients (Korn & Graubard 1998), of whom those with many images count for more (:func:`patient_freedom`); a share
    of 0 or 1 counts each patient once. With 15 patients or fewer it is too wide (97 to 99 %). ``method="exact"``:
    Clopper–Pearson, for independent images only. Undefined without images.

    >>> print(proportion([0] * 20))
    0.000 (0.000–0.161)
    """
    good, z = zero_one(success, "success"), normal_quantile(level)
    codes = patient_codes(patients, len(good))
    count = distinct(codes)
    one_of(method, METHODS, "method")
    if not len(good):
        return undefined(metric, "no cases", of=of)
    value, clustered = float(good.mean()), count < len(good)
    if method == "exact":
        require(not clustered, "the exact interval is for independent images", todo="use method='wilson'")
        (low, high), how = clopper_pearson(int(good.sum()), len(good), level), "Clopper–Pearson"
    elif clustered:
        many: float = count  # where there is no spread to be seen, a patient counts once
        if count > 1 and TINY < value < 1 - TINY:
            many = max(effective_images(good, codes) * t_shrinkage(level, patient_freedom(codes)), 1.0)
        (low, high), how = wilson(value, many, z), "Wilson, ratio estimator by patient"
    else:
        (low, high), how = wilson(value, len(good), z), "Wilson"
    return Estimate(metric, value, low, high, level, how, len(good), count, of, count=int(good.sum()))


@checked
def wilson(share: float, count: float, z: float) -> tuple[float, float]:
    """Wilson's score interval for ``share`` of ``count`` (which need not be whole).

    >>> [round(x, 3) for x in wilson(81 / 263, 263, 1.96)]
    [0.255, 0.366]
    """
    require(count > 0, "count must be positive", given=count)
    low, high = wilson_limits(np.array([share], np.float64), np.array([count], np.float64), z)
    return max(0.0, float(low[0])), min(1.0, float(high[0]))


@checked
def wilson_limits(share: Floats, count: Floats, z: float | Floats) -> tuple[Floats, Floats]:
    """Wilson's interval for arrays of one shape; by rounding it may reach a hair beyond 0 … 1."""
    scale = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / scale
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / scale
    return np.where(share <= 0, 0.0, centre - half), np.where(share >= 1, 1.0, centre + half)


@checked
def patient_freedom(codes: Integers) -> int:
    """Degrees of freedom of a variance between patients: Kish's effective number of patients, less one.

    ``codes`` (N,) of two patients or more. (Σn)² / Σn² of their n images (Kish 1965) is their number where all have
    equally many; where three of 15 patients have 20 images and the others two, it is five and a half. Without it,
    simulated coverage is 88 % there; with it 95.

    >>> patient_freedom(np.repeat(np.arange(15), 4)), patient_freedom(np.repeat(np.arange(15), [20] * 3 + [2] * 12))
    (14, 4)
    """
    size = np.bincount(codes).astype(np.float64)
    return max(1, int(len(codes) ** 2 / float(size @ size) - 1 + 1e-9))


@checked
def effective_images(good: Booleans, codes: Integers) -> float:
    """How many independent images would be as uncertain; never more than there are.

    The ratio estimator's variance gives the correlation within patients. Where few patients carry the rarer answer
    it is often seen too small by chance, so half a patient whose images all agree is added to those few: without,
    simulated coverage falls to 89 % (40 patients × 4 images at .95, correlation .5). The variance is made unbiased
    with the number of patients that :func:`patient_freedom` counts.
    """
    size = np.bincount(codes).astype(np.float64)
    hits = np.bincount(codes, good)
    count, value = len(good), float(good.mean())
    patients = count**2 / float(size @ size)
    residual = hits - value * size
    variance = patients / (patients - 1) * float(residual @ residual) / count**2
    extra = float(size @ size) / count - 1  # other images of an image's patient, on average
    design = variance / (value * (1 - value) / (count - 1))
    carriers = int(min((hits > 0).sum(), (hits < size).sum()))
    return float(independent_images(count, max(0.0, (design - 1) / extra), extra, carriers))


def independent_images(count: Any, alike: Any, extra: Any, carriers: Any) -> Any:
    """``count`` images, ``extra`` more of each one's patient, as independent ones; numbers or arrays of one shape.

    ``alike``: their correlation within patients as it was seen, to which half a patient whose images all agree is
    added beside the ``carriers`` who showed it.
    """
    alike = (carriers * alike + 0.5 * np.maximum(1.0, alike)) / (carriers + 0.5)
    return count / (1 + alike * extra)


@checked
def clopper_pearson(successes: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval (Clopper & Pearson 1934): never covers less than ``level``, often more.

    >>> [round(x, 3) for x in clopper_pearson(0, 20)]
    [0.0, 0.168]
    """
    from scipy.special import betaincinv

    require(0 <= successes <= count and count > 0, "successes must lie in 0 … count", given=(successes, count))
    tail = (1 - level) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, count - successes + 1, tail))
    high = 1.0 if successes == count else float(betaincinv(successes + 1, count - successes, 1 - tail))
    return low, high


# -- two classifiers at their thresholds on the same cases: only the cases on which they disagree tell ------------


PAIRED_METHODS = ("obuchowski", "durkalski")
#: With fewer discordant pairs (patients, where they repeat) the p value is exact.
EXACT_BELOW = 25


@dataclass(frozen=True)
class McNemar:
    """The test that two classifiers are right equally often.

    ``first_only`` and ``second_only`` count the images that only one got right; ``statistic`` is χ² with one
    degree of freedom, ``p`` two-sided. NaN where undefined, and then ``undefined`` says why.
    """

    first_only: int
    second_only: int
    statistic: float
    p: float
    method: str
    images: int
    patients: int
    undefined: str = ""


@checked
def mcnemar(first: ArrayLike, second: ArrayLike, patients: Patients = None, *, method: str = "obuchowski") -> McNemar:
    """McNemar's test of two classifiers on the same cases, by patient where patients repeat.

    ``first`` and ``second`` (N,) 0/1: whether each was right. χ² without continuity correction (McNemar 1947);
    where patients repeat that of Obuchowski 1998 (each image counts once), or of Durkalski et al. 2003 (each
    patient counts once). Below 25 discordant pairs (patients with an imbalance) the p value is exact: signs of
    the patients' imbalances are flipped, which for single images is the binomial test. Without a discordant
    pair p is 1; without cases it is undefined.

    >>> mcnemar([1] * 10 + [0] * 2, [0] * 9 + [1] * 3).p
    0.0654296875
    """
    one_of(method, PAIRED_METHODS, "method")
    right, other = _pair(first, second)
    codes = patient_codes(patients, len(right))
    many = distinct(codes)
    if not len(right):
        return McNemar(0, 0, math.nan, math.nan, "", 0, 0, "no cases")
    counts = int((right & ~other).sum()), int((other & ~right).sum())
    apart = np.bincount(codes, right.astype(np.float64) - other).astype(np.float64)
    clustered = many < len(right)
    size = np.bincount(codes)
    weighed = apart / np.maximum(size, 1) if clustered and method == "durkalski" else apart
    squares = float(weighed @ weighed)
    shrink = (many - 1) / many if clustered and method == "obuchowski" else 1.0
    statistic = shrink * float(weighed.sum()) ** 2 / squares if squares else 0.0
    few = int(np.count_nonzero(apart)) < EXACT_BELOW
    p = _sign_flips(weighed) if few else two_sided(math.sqrt(statistic))
    how = ("exact " if few else "") + "McNemar" + (f", by patient ({method.title()})" if clustered else "")
    return McNemar(*counts, statistic, p, how, len(right), many)


def _pair(first: ArrayLike, second: ArrayLike) -> tuple[Booleans, Booleans]:
    right, other = zero_one(first, "first"), zero_one(second, "second")
    require(right.shape == other.shape, "first and second must be equally long", given=(len(right), len(other)))
    return right, other


def _sign_flips(apart: Floats) -> float:
    """The share of all 2^k signs of ``apart`` (k ≤ 24 not zero) whose sum is as far from 0 as that observed.

    Each half of them has 2^12 sums at most; how many of one half complete a sum of the other is looked up.
    """
    steps, far = np.abs(apart[apart != 0]), abs(float(apart.sum())) - 1e-9
    left, right = (_signed_sums(half) for half in (steps[::2], steps[1::2]))
    left.sort()
    beyond = len(left) - np.searchsorted(left, far - right, side="left")
    return min(1.0, 2 * float(beyond.sum()) / (len(left) * len(right)))


def _signed_sums(steps: Floats) -> Floats:
    """(2^k,) sums of ``steps`` (k,) under all signs."""
    sums = np.zeros(1)
    for step in steps:
        sums = np.concatenate((sums + step, sums - step))
    return sums


@checked
def tango(first_only: ArrayLike, second_only: ArrayLike, count: ArrayLike, z: float) -> Floats:
    """The score interval of (first_only − second_only) / count for paired shares: (2,) or (2, K) low and high.

    Arrays (K,) or numbers, which need not be whole; ``count`` > 0. Tango 1998: the differences
    that lie z of their own standard errors away. It has a width even where nothing is discordant.

    >>> tango(43, 0, 100, 1.959964).round(3).tolist()
    [0.337, 0.528]
    """
    b, c, n = (np.asarray(x, np.float64) for x in (first_only, second_only, count))
    require(bool((n > 0).all()), "count must be positive")
    return np.stack([_score_end(b, c, n, z, end) for end in (-1.0, 1.0)])


def _score_end(b: Floats, c: Floats, n: Floats, z: float, end: float) -> Floats:
    """Where the score reaches z on the way from the estimate to ``end``."""
    inside = (b - c) / n
    outside = np.full_like(inside, end)
    for _ in range(60):
        middle = (inside + outside) / 2
        linear = (2 * n - b + c) * middle - b - c
        root = np.sqrt(np.maximum(linear**2 + 8 * n * c * middle * (1 - middle), 0.0))
        spread = n * np.maximum((root - linear) / (2 * n) + middle * (1 - middle), 0.0)
        beyond = (b - c - n * middle) ** 2 > z * z * spread
        inside, outside = np.where(beyond, inside, middle), np.where(beyond, middle, outside)
    return (inside + outside) / 2


@checked
def paired_proportions(
    first: ArrayLike,
    second: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    metric: str = "proportion",
    of: str = "",
) -> Difference:
    """The share of ``first`` minus that of ``second`` on the same cases, with McNemar's p value.

    ``first`` and ``second`` (N,) 0/1, ``patients`` (N,) or None. Tango's score interval; where patients repeat,
    with the effective number of images from the ratio estimator's variance, and Student's t. ``error`` is that
    of the side of the interval towards 0. Undefined without images.

    >>> print(paired_proportions([1] * 8 + [0] * 2, [1] * 5 + [0] * 5))
    0.300 (-0.061 to 0.603), p = 0.25
    """
    right, other = _pair(first, second)
    codes = patient_codes(patients, len(right))
    shares = [proportion(good, codes, level=level, metric=metric, of=of) for good in (right, other)]
    name = f"{metric} difference"
    if not len(right):
        return without(shares[0], shares[1], undefined(name, "no cases", of=of))
    test = mcnemar(right, other, codes)
    clustered = test.patients < test.images
    count = effective_pairs(right, other, codes, level) if clustered else float(len(right))
    scale = count / len(right)
    limits = tango(test.first_only * scale, test.second_only * scale, count, normal_quantile(level))
    low, high = (float(limit) for limit in limits)
    how = f"Tango{', ratio estimator by patient' if clustered else ''}; {test.method}"
    value = (test.first_only - test.second_only) / len(right)
    found = replace(shares[0], metric=name, value=value, low=low, high=high, method=how)
    signed = math.copysign(math.sqrt(test.statistic), value)
    return Difference(shares[0], shares[1], found, error_towards(found, 0.0), signed, test.p)


def effective_pairs(right: Booleans, other: Booleans, codes: Integers, level: float) -> float:
    """How many independent images would leave the difference as uncertain; never more than there are.

    As :func:`overread.stats.proportions.effective_images`, with half a patient added to those few who carry a
    discordant image, as if all of hers agreed; and Student's t for few patients (Korn & Graubard 1998).
    """
    size = np.bincount(codes).astype(np.float64)
    apart = right.astype(np.float64) - other
    total = np.bincount(codes, apart)
    count, patients, value = len(right), int((size > 0).sum()), float(apart.mean())
    if patients < 2:
        return 1.0
    extra = float(size @ size) / count - 1
    spread = float((apart**2).mean()) - value**2
    alike, carriers = 1.0, int(np.count_nonzero(np.bincount(codes, right != other)))
    if spread > 0:
        residual = total - value * size
        kish = count**2 / float(size @ size)
        design = kish / (kish - 1) * float(residual @ residual) / (count * spread)
        alike = max(0.0, (design - 1) / extra)
    effective = float(independent_images(count, alike, extra, carriers))
    return max(1.0, effective * t_shrinkage(level, patient_freedom(codes)))


@checked
def threshold_differences(
    truth: ArrayLike,
    flagged: ArrayLike,
    other: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> list[Difference]:
    """Sensitivity, specificity and accuracy of ``flagged`` minus those of ``other`` on the same cases.

    ``truth``, ``flagged`` and ``other`` (N,) 0/1, ``patients`` (N,) or None. Each is a
    :func:`paired_proportions` among the positives, the negatives, all; undefined where there are none.

    >>> [str(d) for d in threshold_differences([1, 1, 0], [1, 1, 0], [1, 0, 0])][0]
    '0.500 (-0.486 to 0.905), p = 1.00'
    """
    positive, called = _pair(truth, flagged)
    _, also = _pair(truth, other)
    codes = patient_codes(patients, len(positive))
    among = {
        "sensitivity": (positive, "0 positives"),
        "specificity": (~positive, "0 negatives"),
        "accuracy": (np.ones(len(positive), bool), "no cases"),
    }
    found = []
    for metric, (rows, reason) in among.items():
        first, second = ((call == positive)[rows] for call in (called, also))
        pair = paired_proportions(first, second, codes[rows], level=level, metric=metric, of=of)
        if not rows.any():
            pair = without(*(replace(e, undefined=reason) for e in (pair.first, pair.second, pair.difference)))
        found.append(pair)
    return found

"""Cases that stand for unequally many: the AUC and shares of a sample that was enriched, or drawn by strata.

A weight is how many patients of the population a case stands for, 1 / its chance of being sampled, known before the
sample was seen. Only ratios of weights matter.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import (
    TINY,
    distinct,
    logit_interval,
    normal_quantile,
    numbers,
    patient_codes,
    t_quantile,
    why_undefined,
    zero_one,
)
from overread.stats.discrimination.roc import auc, newcombe
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion, wilson

Floats = NDArray[np.float64]


@checked
def weighted_auc(
    truth: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> Estimate:
    """The AUC of the population that the cases stand for: each pair counts the product of its two weights.

    ``truth`` (N,) 0/1, ``score`` (N,), ``weights`` (N,) finite and ≥ 0, ``patients`` (N,) or None. Cases of weight 0
    are left out. Equal weights give :func:`overread.stats.discrimination.roc.auc`. Else the variance is that of the linearised ratio,
    summed by patient (Binder 1983; Obuchowski 1997 is its case of equal weights), on the logit scale; where it is zero
    the interval is Newcombe's with as many patients as the weights leave (Kish 1965). Undefined as ``auc`` is, or
    where all weights are 0. Raises :class:`ArgumentError` for a weight that is negative or not finite.

    >>> print(weighted_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], [3, 1, 1, 1]))
    0.875 (0.074–0.998)
    """
    positive, weight = zero_one(truth), _weights(weights, np.size(truth))
    given, codes = numbers(score, len(positive)), patient_codes(patients, len(positive))
    kept = weight > 0
    if _alike(weight[kept]):
        return _stands(auc(positive[kept], given[kept], codes[kept], level=level, of=of), kept)
    positive, given, weight, codes = positive[kept], given[kept], weight[kept], _renumbered(codes[kept])
    images, people = len(positive), distinct(codes)
    if why := why_undefined(positive, given):
        return undefined("auc", why, of=of, images=images, patients=people)
    placed = _placements(positive, given, weight)
    value = float(np.average(placed[positive], weights=weight[positive]))
    error = _error(positive, placed - value, weight, codes)
    if error**2 > TINY and TINY < value < 1 - TINY:
        low, high = logit_interval(value, error, normal_quantile(level))
        how = "DeLong, weighted, logit"
    else:
        ill, well = (max(1, round(_kish(weight[rows], codes[rows]))) for rows in (positive, ~positive))
        low, high = newcombe(value, ill, well, normal_quantile(level))
        how = "Newcombe 2006 method 5, weighted"
    how += ", by patient" if people < images else ""
    return Estimate("auc", value, low, high, level, how, images, people, of)


@checked
def weighted_proportion(
    hit: ArrayLike,
    weights: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    metric: str = "proportion",
    of: str = "",
) -> Estimate:
    """The share of hits in the population that the cases stand for: the weight of the hits over all weight.

    ``hit`` (N,) 0/1, ``weights`` (N,) finite and ≥ 0, ``patients`` (N,) or None. Cases of weight 0 are left out. Equal
    weights give :func:`overread.stats.proportions.proportion`. Else the variance is that of the linearised ratio, summed
    by patient (Binder 1983), the interval on the logit scale with Student's t of as many patients as the weights leave
    (Kish 1965); at 0 and 1 it is Wilson's for as many. Undefined without weight. Raises :class:`ArgumentError` for a
    weight that is negative or not finite.

    >>> print(weighted_proportion([1, 1, 0, 0, 1, 0], [1, 1, 4, 4, 1, 4]))
    0.200 (0.013–0.827)
    """
    good, weight = zero_one(hit, "hit"), _weights(weights, np.size(hit))
    codes, kept = patient_codes(patients, len(good)), weight > 0
    if _alike(weight[kept]):
        plain = proportion(good[kept], codes[kept], level=level, metric=metric, of=of)
        return _stands(plain, kept)
    good, weight, codes = good[kept], weight[kept], _renumbered(codes[kept])
    value, people = float(np.average(good, weights=weight)), distinct(codes)
    many = _kish(weight, codes)
    moved = np.bincount(codes, weight * (good - value)) / weight.sum()
    error = float(np.linalg.norm(moved)) * math.sqrt(many / max(many - 1, TINY))
    if people > 1 and TINY < value < 1 - TINY and error**2 > TINY:
        low, high = logit_interval(value, error, t_quantile(level, max(1, int(many - 1))))
        how = "ratio of weights, logit"
    else:
        (low, high), how = wilson(value, many, normal_quantile(level)), "Wilson, weighted"
    how += ", by patient" if people < len(good) else ""
    return Estimate(metric, value, low, high, level, how, len(good), people, of)


def _weights(weights: ArrayLike, count: int) -> Floats:
    given = numbers(weights, count, "weights")
    require(bool((np.isfinite(given) & (given >= 0)).all()), "weights must be finite and not negative")
    return given / (given.max(initial=0.0) or 1.0)


def _alike(weight: Floats) -> bool:
    return not len(weight) or float(np.ptp(weight)) <= 1e-15


def _stands(found: Estimate, kept: NDArray[np.bool_]) -> Estimate:
    """The unweighted estimate, or why there is none."""
    if len(kept) and not kept.any():
        return undefined(found.metric, "every weight is 0", of=found.of)
    return found


def _renumbered(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    return patient_codes(codes, len(codes))


def _kish(weight: Floats, codes: NDArray[np.int64]) -> float:
    """(Σw)² / Σw² of the weights of patients: as many equally weighted patients would be as uncertain."""
    total = np.bincount(codes, weight)
    return float(total.sum() ** 2 / (total @ total))


def _placements(positive: NDArray[np.bool_], score: Floats, weight: Floats) -> Floats:
    """(N,): of a positive the share of the negatives' weight below it, of a negative that of positives above it."""
    order = np.argsort(score, kind="stable")
    ranked, ill, heavy = score[order], positive[order], weight[order]
    new = np.append(True, ranked[1:] != ranked[:-1])
    group, first = np.cumsum(new) - 1, np.flatnonzero(new)
    placed = np.empty(len(score))
    for rows in (True, False):
        other = np.add.reduceat(heavy * (ill != rows), first)  # (G,) of the other class in each tie
        below = (np.cumsum(other) - other / 2) / other.sum()
        mine = ill == rows
        placed[order[mine]] = (below if rows else 1 - below)[group[mine]]
    return placed


def _error(positive: NDArray[np.bool_], apart: Floats, weight: Floats, codes: NDArray[np.int64]) -> float:
    """Of each class the weighted placements' deviations over its weight, summed by patient."""
    total, most = 0.0, int(codes.max()) + 1
    parts = []
    for rows in (positive, ~positive):
        part = np.bincount(codes[rows], (weight * apart)[rows], most) / weight[rows].sum()
        many = _kish(weight[rows], patient_codes(codes[rows], int(rows.sum())))
        if many <= 1 + 1e-9:
            return 0.0  # one patient shows no spread
        total += many / (many - 1) * float(part @ part)
        parts.append(part)
    every = distinct(codes)
    return math.sqrt(max(0.0, total + 2 * every / (every - 1) * float(parts[0] @ parts[1])))

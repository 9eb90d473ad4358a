"""Readers as points of the ROC plane, and a model's curve read at each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.agreement.mrmc import number_table, two_sided
from overread.stats.arrays import distinct, normal_quantile, numbers, patient_codes, why_undefined, zero_one
from overread.stats.classification import at_threshold
from overread.stats.discrimination.roc import Ranking, rank
from overread.stats.estimate import Difference, Estimate, undefined
from overread.stats.froc import height_at
from overread.stats.proportions import wilson
from overread.stats.resample import Column, Statistic, Weights, bootstrap, per_patient

SHARES = ("sensitivity", "specificity")


@dataclass(frozen=True)
class ReaderPoint:
    """Where one reader stands."""

    sensitivity: Estimate
    specificity: Estimate


@dataclass(frozen=True)
class Matched:
    """A model against one reader: its sensitivity at the reader's specificity, and the other way round."""

    sensitivity: Difference
    specificity: Difference


@checked
def reader_points(
    truth: ArrayLike,
    calls: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    names: Sequence[str] = (),
) -> list[ReaderPoint]:
    """Each reader's sensitivity and specificity.

    ``truth`` (N,) 0/1, ``calls`` (N, R) 0/1 of R readers, NaN for a case that a reader did not read,
    ``patients`` (N,) or None, ``names`` of the readers. Each share is over the cases the reader has read, by
    Wilson or its clustered form (:func:`overread.stats.proportions.proportion`).

    >>> print(reader_points([1, 1, 0, 0], [[1], [0], [0], [0]])[0].sensitivity)
    0.500 (0.095–0.905)
    """
    positive, table = zero_one(truth), number_table(calls, "calls")
    require(
        table.ndim == 2 and len(table) == len(positive),
        "calls must have one row per case and one column per reader",
        given=f"{table.shape}, {len(positive)} cases",
    )
    count = table.shape[1]
    require(len(names) in (0, count), "there must be one name per reader", given=len(names))
    codes, called = patient_codes(patients, len(positive)), tuple(names) or ("",) * count
    return [_point(positive, column, codes, level, of) for column, of in zip(table.T, called)]


def _point(
    truth: NDArray[np.bool_], calls: NDArray[np.float64], codes: NDArray[np.int64], level: float, of: str
) -> ReaderPoint:
    read = ~np.isnan(calls)
    found = at_threshold(truth[read], calls[read], codes[read], level=level, of=of)
    return ReaderPoint(*found[:2])


@checked
def compare_with_reader(
    truth: ArrayLike,
    score: ArrayLike,
    calls: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Matched:
    """A model against one reader at the reader's own specificity, and at the reader's own sensitivity.

    ``truth`` (N,) 0/1, ``score`` (N,) of the model, ``calls`` (N,) 0/1 of the reader, ``patients`` (N,) or
    None. Differences are model minus reader. The model's ROC curve is read where the reader stands, on the
    line between steps; every resample of the patients finds the reader's place and the model's curve anew, so
    the interval knows that both were matched on these patients. A difference that no resample moves keeps the
    width of Wilson's bound. Undefined for one class or a number that is not finite.

    >>> found = compare_with_reader([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8], [0, 1, 1, 1])
    >>> found.sensitivity.difference.value, found.specificity.difference.value
    (0.0, 0.0)
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    said = numbers(calls, len(scores), "calls")
    require(bool(((said == 0) | (said == 1) | ~np.isfinite(said)).all()), "calls must hold only 0 and 1")
    codes = patient_codes(patients, len(scores))
    if why := why_undefined(positive, scores) or why_undefined(positive, said):
        lost = [undefined(name, why, of=of, images=len(scores), patients=distinct(codes)) for name in SHARES]
        return Matched(*(_against(one, one, one) for one in lost))
    count, sizes = int(codes.max()) + 1, [distinct(codes[positive]), distinct(codes[~positive])]
    statistic = _statistic(positive, scores, said == 1, codes, sizes, of)
    made = bootstrap([statistic], count, images=len(scores), level=level, resamples=resamples, seed=seed)
    return Matched(*(_against(made[k], made[k + 2], _wide(made[k + 4], size)) for k, size in enumerate(sizes)))


def _against(model: Estimate, reader: Estimate, gap: Estimate) -> Difference:
    difference = replace(gap, metric=f"{model.metric} difference", low=max(gap.low, -1.0), high=min(gap.high, 1.0))
    error = (gap.high - gap.low) / (2 * normal_quantile(gap.level))
    if not error > 0:
        return Difference(model, reader, difference, math.nan, math.nan, math.nan)
    statistic = gap.value / error
    return Difference(model, reader, difference, error, statistic, two_sided(statistic, math.inf))


def _wide(gap: Estimate, patients: int) -> Estimate:
    """Where the resamples agree, no patient answered differently: as many may as Wilson allows for none."""
    if gap.undefined or not gap.high - gap.low < 1e-9:
        return gap
    room = wilson(0.0, patients, normal_quantile(gap.level))[1]
    how = f"Wilson bound for {patients} patients"
    return replace(gap, low=gap.value - room, high=gap.value + room, method=how)


def _statistic(
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    flagged: NDArray[np.bool_],
    codes: NDArray[np.int64],
    sizes: list[int],
    of: str,
) -> Statistic:
    """The model's matched shares, the reader's, and their differences: six columns."""
    cells = per_patient(codes, int(codes.max()) + 1, truth, truth & flagged, ~truth, ~truth & ~flagged)
    about = Column("", of, len(truth), distinct(codes))
    shares = [replace(about, metric=name, effective=size, freedom=size - 1) for name, size in zip(SHARES, sizes)]
    gaps = [replace(about, metric=name, scale="plain") for name in SHARES]
    ranking = rank(truth, score)
    who = codes[ranking.order]

    def compute(weights: Weights) -> NDArray[np.float64]:
        ill, hit, well, spared = (weights @ cells).T
        with np.errstate(invalid="ignore", divide="ignore"):
            reader = np.column_stack((hit / ill, spared / well))
            model = _matched(ranking, who, weights, ill, well, reader)
        return np.column_stack((model, reader, model - reader))

    return Statistic((*shares, *shares, *gaps), compute)


def _matched(
    ranking: Ranking,
    who: NDArray[np.int64],
    weights: Weights,
    ill: NDArray[np.float64],
    well: NDArray[np.float64],
    reader: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(B, 2): sensitivity at the reader's specificity, specificity at the reader's sensitivity."""
    drawn = np.take(weights, who, axis=1)
    every = np.take(np.cumsum(drawn, axis=1, dtype=np.int64), ranking.last, axis=1)
    true = np.take(np.cumsum(drawn * ranking.truth, axis=1, dtype=np.int64), ranking.last, axis=1)
    wrong, right = (every - true) / well[:, None], true / ill[:, None]  # (B, G)
    sensitivity = height_at(wrong, right, 1 - reader[:, 1])
    # from the other end: cases given up among the ill, spared among the well
    top = np.ones((len(true), 1))
    given_up, spared = np.hstack((1 - right[:, ::-1], top)), np.hstack((1 - wrong[:, ::-1], top))
    specificity = height_at(given_up, spared, 1 - reader[:, 0])
    found = np.column_stack((sensitivity, specificity))
    found[(ill == 0) | (well == 0)] = math.nan
    return found

"""What is gained by leaving the least certain cases to a reader: risk against coverage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked
from overread.stats.arrays import distinct, numbers, patient_codes, zero_one
from overread.stats.estimate import Estimate, undefined
from overread.stats.ranking import Ranking, rank
from overread.stats.resample import Column, Statistic, Weights, bootstrapped


@checked
def abstention_curve(
    wrong: ArrayLike, confidence: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coverage, risk and threshold: the share of cases answered, and of errors among them, at each confidence.

    ``wrong`` (N,) 0/1, ``confidence`` (N,); a case is answered where its confidence is at least the threshold.
    El-Yaniv & Wiener 2010. Empty arrays where undefined (no cases, a confidence that is not finite).

    >>> [x.tolist() for x in abstention_curve([0, 1, 0, 0], [0.9, 0.2, 0.8, 0.2])]
    [[0.25, 0.5, 1.0], [0.0, 0.0, 0.25], [0.9, 0.8, 0.2]]
    """
    errors, sure = zero_one(wrong, "wrong"), numbers(confidence, np.size(wrong), "confidence")
    if _why(sure):
        return np.empty(0), np.empty(0), np.empty(0)
    ranking = rank(errors, sure)
    answered = ranking.last + 1.0
    missed = np.cumsum(ranking.truth)[ranking.last]
    return answered / len(errors), missed / answered, ranking.score[ranking.last]


@checked
def abstention_area(
    wrong: ArrayLike,
    confidence: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Area under the risk–coverage curve: the mean risk over all coverages; the error rate if confidence is void.

    ``wrong`` (N,) 0/1, ``confidence`` (N,), ``patients`` (N,) or None. Geifman & El-Yaniv 2017; cases of equal
    confidence are answered together. Patient bootstrap on the logit scale. Undefined without cases or for a
    confidence that is not finite.

    >>> abstention_area([0, 1, 0, 0], [0.9, 0.1, 0.8, 0.7]).value
    0.0625
    """
    errors, sure = zero_one(wrong, "wrong"), numbers(confidence, np.size(wrong), "confidence")
    codes = patient_codes(patients, len(sure))
    if why := _why(sure):
        return undefined("abstention area", why, of=of, images=len(sure), patients=distinct(codes))
    statistic = abstention_statistic(errors, sure, codes, of=of)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


def _why(confidence: NDArray[np.float64]) -> str:
    bad = int((~np.isfinite(confidence)).sum())
    if bad:
        return f"{bad} of {confidence.size} confidences are not finite"
    return "" if confidence.size else "no cases"


@checked
def abstention_statistic(
    wrong: NDArray[np.bool_],
    confidence: NDArray[np.float64],
    codes: NDArray[np.int64],
    *,
    of: str = "",
    note: str = "",
) -> Statistic:
    """The area under the risk–coverage curve, for the bootstrap."""
    ranking = rank(wrong, confidence)
    people = distinct(codes)
    column = Column("abstention area", of, len(wrong), people, effective=people, why="no cases", note=note)
    return Statistic((column,), _area(ranking, codes[ranking.order]))


def _area(ranking: Ranking, patient: NDArray[np.int64]) -> Callable[[Weights], NDArray[np.float64]]:
    errors = np.flatnonzero(ranking.truth)
    missed_by = np.searchsorted(errors, ranking.last, side="right")  # (G,) errors up to each group

    def compute(weights: Weights) -> NDArray[np.float64]:
        drawn = np.take(weights, patient, axis=1)  # (B, N)
        answered = np.cumsum(drawn, axis=1, dtype=np.int32)[:, ranking.last].astype(np.float64)  # (B, G)
        missed = np.cumsum(np.take(drawn, errors, axis=1), axis=1, dtype=np.int32)
        known = np.concatenate((np.zeros((len(drawn), 1)), missed), axis=1)[:, missed_by]
        gained = np.diff(answered, axis=1, prepend=0)
        risk = np.divide(known, answered, out=np.zeros_like(answered), where=answered > 0)
        return (np.einsum("bg,bg->b", gained, risk) / answered[:, -1])[:, None]

    return compute

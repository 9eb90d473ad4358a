"""The precision–recall curve and its area."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import distinct, numbers, patient_codes, why_undefined, zero_one
from overread.stats.classification import mean_known
from overread.stats.discrimination.roc import Areas, rank
from overread.stats.estimate import Estimate, undefined
from overread.stats.resample import Column, Statistic, Weights, bootstrapped


@checked
def precision_recall_curve(
    truth: ArrayLike, score: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Recall, precision and threshold at every distinct score, from the highest to the lowest.

    ``truth`` (N,) 0/1, ``score`` (N,). Empty arrays where undefined (one class only, a score that is not
    finite).

    >>> [x.tolist() for x in precision_recall_curve([0, 1], [0.2, 0.7])]
    [[1.0, 1.0], [1.0, 0.5], [0.7, 0.2]]
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    if why_undefined(positive, scores):
        return np.empty(0), np.empty(0), np.empty(0)
    ranking = rank(positive, scores)
    true = np.cumsum(ranking.truth)[ranking.last]
    return true / true[-1], true / (ranking.last + 1), ranking.score[ranking.last]


@checked
def average_precision(
    truth: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Average precision: Σ (recall step × precision) over distinct scores, without interpolation.

    ``truth`` (N,) 0/1, ``score`` (N,), ``patients`` (N,) or None. Interval: patient bootstrap on the logit
    scale (Boyd, Eng & Page 2013). Undefined for one class or a score that is not finite.

    >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).value, 4)
    0.8333
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    codes = patient_codes(patients, len(scores))
    if why := why_undefined(positive, scores):
        return undefined("average precision", why, of=of, images=len(scores), patients=distinct(codes))
    statistic = areas_statistic([positive], [scores], [codes], (of,), macro=False)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)[0]


@checked
def areas_statistic(
    truths: list[NDArray[np.bool_]],
    scores: list[NDArray[np.float64]],
    codes: list[NDArray[np.int64]],
    of: tuple[str, ...],
    *,
    macro: bool,
    note: str = "",
    each: bool = True,
) -> Statistic:
    """The mean AUC over the questions (if ``macro``) and each one's average precision, for the bootstrap.

    Every question must be defined: both classes present, scores finite. In a resample without one of the
    classes of a question, the mean is over the others.
    """
    require(len(truths) > 0, "there must be at least one question")
    require(macro or each, "there must be something to compute: macro or each")
    areas = [Areas.of(rank(t, s), c) for t, s, c in zip(truths, scores, codes)]
    ill = [distinct(c[t]) for t, c in zip(truths, codes)]
    well = [distinct(c[~t]) for t, c in zip(truths, codes)]
    people = distinct(np.concatenate(codes))
    columns = [Column("macro auc", images=max(map(len, truths)), patients=people, effective=min(ill + well), note=note)]
    columns = columns if macro else []
    if each:
        columns += [
            Column("average precision", name, len(t), distinct(c), effective=n, freedom=n - 1)
            for name, t, c, n in zip(of, truths, codes, ill)
        ]

    def compute(weights: Weights) -> NDArray[np.float64]:
        if not macro:
            return np.stack([area.precision(weights) for area in areas], axis=1)
        if not each:
            return mean_known(np.stack([area.auc(weights) for area in areas], axis=1))[:, None]
        values = np.stack([area(weights) for area in areas], axis=1)  # (B, questions, 2)
        return np.column_stack([mean_known(values[:, :, 0]), values[:, :, 1]])

    return Statistic(tuple(columns), compute)

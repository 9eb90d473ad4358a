"""The AUC of pairs that share a stratum: how well cases are told apart where the site they come from tells nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import (
    Booleans,
    Floats,
    Integers,
    Patients,
    distinct,
    no_ranking,
    normal_quantile,
    numbers,
    patient_codes,
    zero_one,
)
from overread.stats.discrimination.delong import placements
from overread.stats.discrimination.roc import area_interval, clustered_freedom, misplaced
from overread.stats.estimate import Estimate, undefined

#: The stratum of a case of which it is not known.
UNKNOWN = -1


@checked
def stratified_auc(
    truth: ArrayLike, score: ArrayLike, strata: ArrayLike, patients: Patients = None, *, level: float = 0.95, of: str = "",
    metric: str = "auc within strata", called: str = "strata",
) -> Estimate:  # fmt: skip
    """The chance that a positive outscores a negative of its own stratum, ties counting one half.

    ``truth`` (N,) 0/1, ``score`` (N,), ``strata`` (N,) whole numbers from 0, :data:`UNKNOWN` where not known (left
    out), ``patients`` (N,) or None; ``called``: what a stratum is, in the plural, for the method. The mean of the
    strata's AUCs, each weighed by its pairs: what a common ranking is worth once the stratum is held (Janes & Pepe
    2009, Biometrika 96:371). Variance: DeLong's of each stratum, summed; sums within patients, also across strata,
    where patients repeat (Obuchowski 1997). The spread over a class with one patient in a stratum cannot be measured
    and is taken as the largest that it can be, A (1 − A). Interval as that of
    :func:`overread.stats.discrimination.roc.auc`. Undefined where no stratum has both classes, and for a score that is
    not finite.

    >>> print(stratified_auc([0, 0, 1, 1, 0, 1], [1, 2, 3, 0, 7, 9], [0, 0, 0, 0, 1, 1]))
    0.600 (0.045–0.979)
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    where, codes = np.asarray(strata), patient_codes(patients, len(scores))
    require(where.shape == scores.shape, "one stratum a case is needed", given=where.shape)
    normal_quantile(level)
    reason = no_ranking(positive, scores) if len(scores) else "no cases"
    held = None if reason else _within(positive, scores, where.astype(np.int64), codes)
    if held is None:
        why = reason or f"none of the {called} has both classes"
        return undefined(metric, why, of=of, images=len(scores), patients=distinct(codes) if len(codes) else 0)
    return _estimate([held], level, of, metric, called)


@checked
def mean_stratified_auc(
    truths: Sequence[Booleans], scores: Sequence[Floats], strata: Sequence[Integers], codes: Sequence[Integers], *,
    level: float = 0.95, metric: str = "macro auc within strata", called: str = "strata",
) -> Estimate:  # fmt: skip
    """The mean of :func:`stratified_auc` over several questions (Q times (N,)) asked of the same patients.

    ``codes`` number the patients alike in all questions. Those that no stratum can tell, or whose scores are not
    finite, are left out; ``method`` says of how many the mean is.
    """
    asked = list(zip(truths, scores, strata, codes, strict=True))
    every = [None if not len(s) or no_ranking(t, s) else _within(t, s, w, c) for t, s, w, c in asked]
    known = [held for held in every if held is not None]
    if not known:
        return undefined(metric, f"none of the {called} has both answers to any question")
    return _estimate(known, level, "", metric, called, f"mean over {len(known)} of {len(every)}; ")


@dataclass(frozen=True, eq=False)
class _Within:
    """An area over the pairs within strata.

    ``added`` (P,): how far each patient moves it. ``unseen``: variance over classes with one patient in a stratum.
    ``truth``, ``codes`` (K,) of the cases that are in a pair; ``share`` of all their pairs that lie within a stratum;
    ``misplaced`` patients as :func:`overread.stats.discrimination.roc.misplaced` counts them there.
    """

    value: float
    added: Floats
    unseen: float
    truth: Booleans
    codes: Integers
    share: float
    misplaced: int
    strata: tuple[int, int]


def _within(truth: Booleans, score: Floats, strata: Integers, codes: Integers) -> _Within | None:
    names = np.unique(strata[strata != UNKNOWN])
    both = [rows for name in names if len(set(truth[rows := np.flatnonzero(strata == name)])) == 2]
    if not both:
        return None
    pairs = np.array([truth[rows].sum() * (~truth[rows]).sum() for rows in both], np.float64)
    weights = pairs / pairs.sum()
    placed = [placements(truth[rows], score[rows]) for rows in both]
    areas = np.array([part[truth[rows]].mean() for part, rows in zip(placed, both)])
    value = float(weights @ areas)
    added, alone = np.zeros(int(codes.max()) + 1), 0.0
    for weight, area, part, rows in zip(weights, areas, placed, both):
        for side in (truth[rows], ~truth[rows]):
            who = codes[rows][side]
            patients = distinct(who)
            if patients < 2:
                alone += weight**2
            else:  # the square of √(k / (k − 1)) is Bessel's correction
                moved = np.bincount(who, part[side] - area, len(added)) / side.sum()
                added += weight * math.sqrt(patients / (patients - 1)) * moved
    used = np.concatenate(both)
    ill = truth[used].sum()
    share = float(pairs.sum() / (ill * (len(used) - ill)))
    every, true, who = np.concatenate(placed), truth[used], codes[used]
    off = misplaced(true, who, value, (every[true], every[~true]))
    return _Within(value, added, alone * value * (1 - value), true, who, share, off, (len(both), len(names)))


def _estimate(found: list[_Within], level: float, of: str, metric: str, called: str, note: str = "") -> Estimate:
    """The mean of areas that the same patients move."""
    value = float(np.mean([held.value for held in found]))
    longest = max(len(held.added) for held in found)
    moved = np.mean([np.pad(held.added, (0, longest - len(held.added))) for held in found], axis=0)
    unseen = float(np.mean([math.sqrt(held.unseen) for held in found])) ** 2
    variance = float(moved @ moved) + unseen
    few = min(found, key=_rarer)
    clustered = distinct(few.codes) < len(few.codes)
    freedom = clustered_freedom(few.truth, few.codes, moved) if clustered else 0
    low, high, how = area_interval(
        few.truth, few.codes, value, variance, few.misplaced, freedom, level, within=few.share
    )
    codes = np.unique(np.concatenate([held.codes for held in found]))
    images = max(len(held.codes) for held in found)
    with_both, all_of_them = found[0].strata
    method = f"{note}pairs within {with_both} of {all_of_them} {called}, {how}"
    return Estimate(metric, value, low, high, level, method, images, len(codes), of)


def _rarer(held: _Within) -> int:
    return min(distinct(held.codes[held.truth]), distinct(held.codes[~held.truth]))


@checked
def strata_of(names: NDArray) -> Integers:
    """(N,) names as numbers of strata; blank is :data:`UNKNOWN`.

    >>> strata_of(np.array(["B", "", "A"], object)).tolist()
    [1, -1, 0]
    """
    text = np.array([str(name) for name in names], object)
    return np.where(text == "", UNKNOWN, np.searchsorted(np.unique(text[text != ""]), text)).astype(np.int64)

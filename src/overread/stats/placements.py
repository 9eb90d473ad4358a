"""Placements: the share of the other class that a case beats. Every area under the ROC curve is their mean.

DeLong's variance is that of the placements; of a difference between models, that of the placements' difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked
from overread.stats.arrays import TINY, distinct, logit_interval, normal_quantile
from overread.stats.estimate import Estimate
from overread.stats.roc import auc_quantile, newcombe

#: So many scores are looked at to see whether they repeat.
SAMPLE = 300
#: Tables of so many slots (2 to the power of) for different scores, and how many tables at most.
SLOTS, TABLES = 12, 4
_ODD = np.array([0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93], np.uint64)


@dataclass(frozen=True, eq=False)
class Shares:
    """M areas ``value`` (M,), and what each patient adds to them beyond the mean: ``ill`` and ``well`` (M, P).

    Per image, not per patient, where no patient repeats.
    """

    value: NDArray[np.float64]
    ill: NDArray[np.float64]
    well: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cohort:
    """Who is ill, and whose images these are: what all models that are compared share."""

    truth: NDArray[np.bool_]  # (N,)
    codes: NDArray[np.int64]  # (N,)
    images: int
    patients: int
    sizes: tuple[int, int]  # patients with a positive, with a negative

    @classmethod
    def of(cls, truth: NDArray[np.bool_], codes: NDArray[np.int64]) -> Cohort:
        """``truth`` (N,), ``codes`` (N,) of the patients."""
        patients = distinct(codes)
        if patients == len(codes):
            ill = int(truth.sum())
            return cls(truth, codes, len(truth), patients, (ill, len(truth) - ill))
        return cls(truth, codes, len(truth), patients, (distinct(codes[truth]), distinct(codes[~truth])))

    @property
    def clustered(self) -> bool:
        """Whether a patient has several images."""
        return self.patients < self.images

    def estimate(self, metric: str, value: float, variance: float, level: float, of: str = "") -> Estimate:
        """An area with its interval: on the logit scale, or Newcombe's where the variance is zero."""
        z = normal_quantile(level)
        if variance > TINY and TINY < value < 1 - TINY:
            wide = auc_quantile(self.truth, self.codes, level)
            (low, high), how = logit_interval(value, math.sqrt(variance), wide), "DeLong, logit"
        else:
            (low, high), how = newcombe(value, *self.sizes, z), "Newcombe 2006 method 5"
        how += ", by patient" if self.clustered else ""
        return Estimate(metric, value, low, high, level, how, self.images, self.patients, of)


@checked
def placements(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,): of a positive the share of negatives below it, of a negative the share of positives above it.

    Ties count one half. ``score`` finite, both classes present. What lies where within a tie does not matter, so
    the sort need not be stable, which makes it five times as fast. Few different scores are counted, not sorted.
    """
    if len(np.unique(score[:: max(1, len(score) // SAMPLE)])) < SAMPLE * 0.9 and len(score) >= 2 * SAMPLE:
        slots = _slots(score)
        if slots is not None:
            return _counted(truth, *slots)
    order = np.argsort(score)
    ranked, ill = score[order], truth[order]
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # (G,) of each group of ties
    positives = np.cumsum(ill)[last].astype(np.float64)
    above, below = _from_counts(positives, last + 1 - positives)
    if len(last) < len(truth):
        sizes = np.diff(last, prepend=-1)
        above, below = np.repeat(above, sizes), np.repeat(below, sizes)
    placed = np.empty(len(truth))
    placed[order] = np.where(ill, below, above)
    return placed


def _from_counts(
    positives: NDArray[np.float64], negatives: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(G,) counts up to each group of ties → its share of positives above, and of negatives below."""
    return 1 - _middle(positives) / positives[-1], _middle(negatives) / negatives[-1]


def _slots(score: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """The slot (N,) of each score in a table (S,) of the different ones, in no order; None if these are too many.

    Each score is written into the slot that its bits fall into; those that find another there go to the next table.
    """
    slot, left, tables = np.empty(len(score), np.int64), None, []
    for i in range(TABLES):
        mine = score if left is None else score[left]
        where = _scattered(mine, i)
        table = np.full(1 << SLOTS, np.nan)
        table[where] = mine
        tables.append(table)
        lost = np.flatnonzero(table[where] != mine)
        where += i << SLOTS
        if left is None:
            slot = where
        else:
            slot[left] = where
        if not len(lost):
            return slot, np.concatenate(tables)
        if len(lost) > len(mine) // 4:
            return None
        left = lost if left is None else left[lost]
    return None


def _scattered(score: NDArray[np.float64], table: int) -> NDArray[np.int64]:
    """(N,) numbers below 2 to the SLOTS from the bits of scores: multiplicative hashing (Knuth); −0 falls where 0 does."""
    bits = (score + 0.0).view(np.uint64)
    bits *= _ODD[table]
    bits >>= np.uint64(64 - SLOTS)
    return bits.view(np.int64)


def _counted(
    truth: NDArray[np.bool_], slot: NDArray[np.int64], table: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The placements from how many of either class are in each slot."""
    mine = slot + len(table) * truth
    well, ill = np.bincount(mine, minlength=2 * len(table)).reshape(2, -1)
    used = np.flatnonzero(well + ill)
    used = used[np.argsort(table[used])]
    places = np.zeros((2, len(table)))
    places[0, used], places[1, used] = _from_counts(
        np.cumsum(ill[used]).astype(np.float64), np.cumsum(well[used]).astype(np.float64)
    )
    return places.ravel()[mine]


def _middle(total: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) counts up to each group → counts before it and half of those within."""
    half = total / 2
    half[1:] += half[:-1].copy()
    return half


@checked
def shares(cohort: Cohort, placed: NDArray[np.float64]) -> Shares:
    """The areas of ``placed`` (M, N), the mean over the positives, and what each patient adds to them."""
    value, ill = _share(cohort, placed, np.flatnonzero(cohort.truth))
    return Shares(value, ill, _share(cohort, placed, np.flatnonzero(~cohort.truth))[1])


def _share(
    cohort: Cohort, placed: NDArray[np.float64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The means (M,) over one class's ``rows``, and each patient's deviation from it (M, P)."""
    mine = np.take(placed, rows, axis=1)
    mean = mine.mean(axis=1)
    mine -= mean[:, None]
    mine /= len(rows)
    if not cohort.clustered:
        return mean, mine
    codes, most = cohort.codes[rows], int(cohort.codes.max()) + 1
    return mean, np.stack([np.bincount(codes, row, most) for row in mine])


@checked
def covariance(cohort: Cohort, parts: Shares) -> NDArray[np.float64]:
    """(M, M) covariance of M areas from their :func:`shares`: Obuchowski 1997.

    Sums within patients; without repeats it is DeLong, DeLong & Clarke-Pearson 1988. Zero where a
    class has one patient.
    """
    if min(cohort.sizes) < 2:
        return np.zeros((len(parts.value), len(parts.value)))
    own = [n / (n - 1) * (part @ part.T) for n, part in zip(cohort.sizes, (parts.ill, parts.well))]
    if not cohort.clustered:
        return own[0] + own[1]
    cross = cohort.patients / (cohort.patients - 1) * (parts.ill @ parts.well.T)
    return own[0] + own[1] + cross + cross.T


@checked
def variance_between(cohort: Cohort, parts: Shares, i: int, j: int) -> float:
    """The variance of area i minus area j: exactly zero where both place every case alike."""
    value, ill, well = (x[i : i + 1] - x[j : j + 1] for x in (parts.value, parts.ill, parts.well))
    return float(covariance(cohort, Shares(value, ill, well))[0, 0])

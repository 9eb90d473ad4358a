"""Scores sorted once: the common root of ROC, precision–recall and their bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked


@dataclass(frozen=True, eq=False)
class Ranking:
    """Cases from the highest score to the lowest; equal scores are one group.

    ``order`` (N,) sorts the cases, ``truth`` (N,) is sorted by it, ``score`` (N,) too; ``last`` (G,) is the
    position of the last case of each group of ties.
    """

    order: NDArray[np.int64]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]
    last: NDArray[np.int64]

    @property
    def first(self) -> NDArray[np.int64]:
        """(G,) the position of the first case of each group."""
        return np.concatenate(([0], self.last[:-1] + 1))

    @property
    def group(self) -> NDArray[np.int64]:
        """(N,) the group of each sorted case."""
        return np.repeat(np.arange(len(self.last)), np.diff(self.last, prepend=-1))


@checked
def rank(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> Ranking:
    """Sort by falling score. ``truth`` (N,), ``score`` (N,) finite, N ≥ 1.

    What lies where within a tie does not matter, so the sort need not be stable, which makes it faster.
    """
    order = np.argsort(-score)
    ranked = score[order]
    return Ranking(order, truth[order], ranked, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)))


@dataclass(frozen=True, eq=False)
class Areas:
    """AUC and average precision under weights: what a bootstrap asks thousands of times.

    Only the groups that hold a positive matter: a step of either curve's area is taken there. Weighted with
    one each, the AUC is the Mann–Whitney statistic and the average precision that of scikit-learn.
    """

    patient: NDArray[np.int64]  # (N,) of the sorted cases
    positive: NDArray[np.int64]  # (M,) positions of the positives
    end: NDArray[np.int64]  # (G,) per group with positives: its last position,
    start: NDArray[np.int64]  # (G,) the position before its first (−1 at the top),
    hits: NDArray[np.int64]  # (G,) and which of the M positives is its last
    most: int  # images of one patient
    tied: bool

    @classmethod
    def of(cls, ranking: Ranking, patients: NDArray[np.int64]) -> Areas:
        """``patients`` (N,) are the codes of the cases in their own order."""
        positive = np.flatnonzero(ranking.truth)
        groups, counts = np.unique(ranking.group[positive], return_counts=True)
        end, start = ranking.last[groups], ranking.first[groups] - 1
        tied, most = bool((end - start > 1).any()), int(np.bincount(patients).max())
        return cls(patients[ranking.order], positive, end, start, np.cumsum(counts) - 1, most, tied)

    def __call__(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """(B, P) weights of the patients → (B, 2): AUC and average precision, NaN where a class has no weight."""
        counts = self._counted(weights)
        return np.stack([_auc(counts), _precision(counts)], axis=1)

    def auc(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """(B,) the AUC alone."""
        return _auc(self._counted(weights))

    def precision(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """(B,) the average precision alone."""
        return _precision(self._counted(weights))

    def _counted(self, weights: NDArray[np.uint16]) -> _Counts:
        lanes = _lanes(int(weights.sum(axis=1, dtype=np.uint32).max()) * self.most)
        drawn = np.take(_packed(weights, lanes), self.patient, axis=1)  # (B/lanes, N)
        hits = np.cumsum(np.take(drawn, self.positive, axis=1), axis=1)
        total = np.cumsum(drawn, axis=1, out=drawn)  # flagged at or above each case
        true = _unpacked(np.take(hits, self.hits, axis=1), lanes)[: len(weights)]
        flagged = _unpacked(np.take(total, self.end, axis=1), lanes)[: len(weights)]
        gained = true.copy()
        gained[:, 1:] -= true[:, :-1]
        above = None
        if self.tied:
            above = _unpacked(np.take(total, np.maximum(self.start, 0), axis=1), lanes)[: len(weights)]
            above[:, self.start < 0] = 0
        everyone = _unpacked(total[:, -1:], lanes)[: len(weights), 0]
        return _Counts(true, flagged, gained, above, everyone)


@dataclass(frozen=True, eq=False)
class _Counts:
    """Weights (B, G) at or above each group with positives: ``true`` ones and all that are ``flagged``.

    ``gained``: the positives within the group; ``above``: all above it, None where no scores are tied. ``everyone`` (B,).
    """

    true: NDArray[np.float64]
    flagged: NDArray[np.float64]
    gained: NDArray[np.float64]
    above: NDArray[np.float64] | None
    everyone: NDArray[np.float64]


def _auc(c: _Counts) -> NDArray[np.float64]:
    """Mann and Whitney's: whole numbers throughout, so the order in which they are added does not matter."""
    lost = 2 * (_dot(c.gained, c.flagged) - _dot(c.gained, c.true))
    if c.above is not None:  # a pair of equal scores counts one half
        lost += _dot(c.gained, c.above) - _dot(c.gained, c.flagged) + _dot(c.gained, c.gained)
    positives = c.true[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - lost / 2 / (positives * (c.everyone - positives))


def _precision(c: _Counts) -> NDArray[np.float64]:
    """Of nothing flagged nothing is true."""
    share = np.maximum(c.flagged, 1)
    np.divide(c.true, share, out=share)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _dot(c.gained, share) / c.true[:, -1]


def _dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B,) the products of rows (B, G)."""
    return np.einsum("bg,bg->b", one, other)


def _lanes(largest: int) -> int:
    """How many counts up to ``largest`` one word of 64 bits holds, so that one addition adds them all."""
    return 4 if largest < 1 << 16 else 2 if largest < 1 << 32 else 1


def _packed(weights: NDArray[np.uint16], lanes: int) -> NDArray[np.uint64]:
    """(B, P) → (B/lanes, P), rounded up: neighbours among the resamples share a word."""
    words = -(-len(weights) // lanes)
    packed = np.zeros((words, weights.shape[1], lanes), f"u{8 // lanes}")
    for lane in range(lanes):
        mine = weights[lane::lanes]
        packed[: len(mine), :, lane] = mine
    return packed.view(np.uint64)[:, :, 0]


def _unpacked(words: NDArray[np.uint64], lanes: int) -> NDArray[np.float64]:
    """(B/lanes, G) words → (B, G) counts, B rounded up."""
    counts = np.ascontiguousarray(words)[:, :, None].view(f"u{8 // lanes}").transpose(0, 2, 1)
    return counts.astype(np.float64, order="C").reshape(-1, words.shape[1])

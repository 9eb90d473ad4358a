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
        lanes = _lanes(int(weights.sum(axis=1, dtype=np.int64).max()) * self.most)
        drawn = np.take(_packed(weights, lanes), self.patient, axis=1)  # (B/lanes, N)
        hits = np.cumsum(np.take(drawn, self.positive, axis=1), axis=1)
        total = np.cumsum(drawn, axis=1, out=drawn)  # flagged at or above each case
        true = _unpacked(np.take(hits, self.hits, axis=1), lanes)  # (B/lanes, G, lanes)
        flagged = _unpacked(np.take(total, self.end, axis=1), lanes)
        gained = np.diff(true, axis=1, prepend=0)
        false = flagged - true
        if self.tied:  # a pair of equal scores counts one half
            above = _unpacked(np.take(total, np.maximum(self.start, 0), axis=1), lanes)
            above[:, self.start < 0] = 0
            false += above - (true - gained)
            false /= 2
        positives = true[:, -1].copy()
        negatives = _unpacked(total[:, -1:], lanes)[:, 0] - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            auc = 1 - np.einsum("bgl,bgl->bl", gained, false) / (positives * negatives)
            true /= np.maximum(flagged, 1)  # precision; of nothing flagged nothing is true
            area = np.einsum("bgl,bgl->bl", gained, true) / positives
        return np.stack([auc.ravel(), area.ravel()], axis=1)[: len(weights)]


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
    """(B/lanes, G) words → (B/lanes, G, lanes) counts."""
    return np.ascontiguousarray(words)[:, :, None].view(f"u{8 // lanes}").astype(np.float64)

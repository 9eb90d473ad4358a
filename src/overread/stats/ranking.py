"""Scores sorted once: the common root of ROC, precision–recall and their bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


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


def rank(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> Ranking:
    """Sort by falling score. ``truth`` (N,), ``score`` (N,) finite, N ≥ 1."""
    order = np.argsort(-score, kind="stable")
    ranked = score[order]
    return Ranking(order, truth[order], ranked, np.flatnonzero(np.append(np.diff(ranked) != 0, True)))


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
    tied: bool

    @classmethod
    def of(cls, ranking: Ranking, patients: NDArray[np.int64]) -> Areas:
        """``patients`` (N,) are the codes of the cases in their own order."""
        positive = np.flatnonzero(ranking.truth)
        groups, counts = np.unique(ranking.group[positive], return_counts=True)
        end, start = ranking.last[groups], ranking.first[groups] - 1
        tied = bool((end - start > 1).any())
        return cls(patients[ranking.order], positive, end, start, np.cumsum(counts) - 1, tied)

    def __call__(self, weights: NDArray[np.uint16]) -> NDArray[np.float64]:
        """(B, P) weights of the patients → (B, 2): AUC and average precision, NaN where a class has no weight."""
        drawn = np.take(weights, self.patient, axis=1)  # (B, N)
        total = np.cumsum(drawn, axis=1, dtype=np.int32)  # (B, N) flagged at or above each case
        true = np.take(
            np.cumsum(np.take(drawn, self.positive, axis=1), axis=1, dtype=np.int32), self.hits, axis=1
        )
        flagged = np.take(total, self.end, axis=1).astype(np.float64)  # (B, G)
        gained = np.diff(true, axis=1, prepend=0).astype(np.float64)
        false = flagged - true
        if self.tied:  # a pair of equal scores counts one half
            above = np.where(self.start < 0, 0, np.take(total, np.maximum(self.start, 0), axis=1))
            false = (false + above - (true - gained)) / 2
        positives = true[:, -1].astype(np.float64)
        negatives = total[:, -1] - positives
        with np.errstate(invalid="ignore", divide="ignore"):
            auc = 1 - np.einsum("bg,bg->b", gained, false) / (positives * negatives)
            precision = np.divide(true, flagged, out=np.zeros_like(flagged), where=flagged > 0)
            return np.column_stack([auc, np.einsum("bg,bg->b", gained, precision) / positives])

"""The ROC and the precision–recall curve with their areas, whose intervals know which images share a patient."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.core.errors import checked, require
from overread.stats.arrays import (
    TINY,
    Booleans,
    Floats,
    Integers,
    Patients,
    bisect,
    distinct,
    logit_interval,
    no_ranking,
    normal_quantile,
    not_finite,
    numbers,
    patient_codes,
    t_quantile,
    zero_one,
)
from overread.stats.classification import mean_known
from overread.stats.estimate import Estimate, Moved, mean_of, undefined
from overread.stats.proportions import patient_freedom
from overread.stats.resample import Column, Statistic, Weights

NEWCOMBE = "Newcombe 2006 method 5"


@checked
def auc(
    truth: ArrayLike, score: ArrayLike, patients: Patients = None, *, level: float = 0.95, of: str = ""
) -> Estimate:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting one half.

    ``truth`` (N,) 0/1, ``score`` (N,) higher = more likely positive, ``patients`` (N,) or None. The direction of a
    score is never flipped. Variance: DeLong, DeLong & Clarke-Pearson 1988 in one sort, clustered after Obuchowski 1997
    where patients repeat; interval on the logit scale. Few patients on the wrong side tell little of that variance:
    with up to three of either class the interval is no narrower than method 5 of Newcombe 2006, whose standard error
    belongs to the area, and from ten on it is DeLong's alone (:func:`area_interval`). So it is continuous up to an area
    of 1, where it is Newcombe's. Undefined for one class or a score that is not finite.

    >>> print(auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]))
    0.750 (0.069–0.992)
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    codes = patient_codes(patients, len(scores))
    normal_quantile(level)  # a level out of range is refused, whatever the scores are
    count = distinct(codes)
    if reason := no_ranking(positive, scores):
        return undefined("auc", reason, of=of, images=len(scores), patients=count)
    found = _area(rank(positive, scores), codes, int(codes.max()) + 1, level)
    return Estimate("auc", found.value, found.low, found.high, level, found.method, len(scores), count, of)


def _area(ranking: Ranking, patients: Integers, count: int, level: float) -> Moved:
    """The area with its interval, and how far each of ``count`` patients moves it; ``patients`` (N,) of the cases as
    given.

    Variance: Obuchowski 1997, sums within patients; DeLong's where no patient repeats.
    """
    value, above, below = _placements(ranking)
    truth, codes = ranking.truth, patients[ranking.order]
    whole, sizes, moved = distinct(codes), [], []
    for rows, share in ((truth, above), (~truth, below)):
        mine = codes[rows]
        sizes.append(distinct(mine))
        moved.append(np.bincount(mine, share - value, count) / len(mine))
    variance, freedom = 0.0, 0.0
    if min(sizes) > 1:
        own = sum(k / (k - 1) * float(s @ s) for k, s in zip(sizes, moved))
        variance = own + 2 * whole / (whole - 1) * float(moved[0] @ moved[1])
        freedom = clustered_freedom(truth, codes, moved[0] + moved[1]) if whole < len(codes) else 0.0
    few = misplaced(truth, codes, value, (above, below))
    low, high, how = area_interval(truth, codes, value, variance, few, freedom, level)
    return Moved(value, low, high, moved[0] + moved[1], how)


#: With so many patients of either class on the wrong side an area's variance is not to be seen; with so many it is.
UNSEEN, SEEN = 3, 10
#: Images that are looked at first, to see whether there are many patients among them.
LOOKED = 1000


@checked
def area_interval(
    truth: Booleans,
    codes: Integers,
    value: float,
    variance: float,
    few: int,
    freedom: float,
    level: float,
    method: str = "DeLong",
    within: float = 1.0,
) -> tuple[float, float, str]:
    """The ends of an area's interval, and how they were made: on the logit scale, or Newcombe's where little varies.

    ``few`` as :func:`misplaced` counts; ``freedom`` as :func:`clustered_freedom` has it, 0 for the normal quantile;
    ``within``: the share of the negatives over whom the area is taken. Between :data:`UNSEEN` and :data:`SEEN` patients
    each end goes over from the farther of the two to the logit's. By DeLong alone coverage at an area of .99 from 20 +
    200 patients is 90 %, and 79 where the scores of the ill spread twice as far.
    """
    by_patient = ", by patient" if distinct(codes) < len(codes) else ""
    trust = min(1.0, max(0.0, (few - UNSEEN) / (SEEN - UNSEEN)))
    seen = variance > TINY and TINY < value < 1 - TINY
    by_area = (math.nan, math.nan)
    if trust < 1 or not seen:
        ill, well = distinct(codes[truth]), max(1, round(distinct(codes[~truth]) * within))
        by_area = newcombe(value, ill, well, normal_quantile(level))
    if not seen:
        return *by_area, NEWCOMBE + by_patient
    wide = t_quantile(level, freedom) if freedom else normal_quantile(level)
    low, high = logit_interval(value, math.sqrt(variance), wide)
    if trust == 1:
        return low, high, f"{method}, logit{by_patient}"
    low = min(low, trust * low + (1 - trust) * by_area[0])
    high = max(high, trust * high + (1 - trust) * by_area[1])
    return low, high, f"{method}, logit, and {NEWCOMBE}{by_patient}"


@checked
def misplaced(truth: Booleans, codes: Integers, value: float, placed: tuple[Floats, Floats]) -> int:
    """Patients of the class that has fewer of them who stand on the wrong side of somebody, of an area of ``value``.

    ``placed``: of the positives the share of negatives below, of the negatives the share of positives above. Of an area
    below .5 the right side is the wrong one.
    """
    wrong = [side < 1 if value >= 0.5 else side > 0 for side in placed]
    return min(patients_up_to(SEEN, codes[rows], off) for rows, off in zip((truth, ~truth), wrong))


@checked
def patients_up_to(most: int, codes: Integers, inside: Booleans) -> int:
    """How many patients there are among ``codes`` (N,) where ``inside``, or some number from ``most`` on if there are more."""
    rows = np.flatnonzero(inside)
    some = len(np.unique(codes[rows[:LOOKED]]))
    return some if some >= most or len(rows) <= LOOKED else distinct(codes[rows])


def _placements(ranking: Ranking) -> tuple[float, Floats, Floats]:
    """The AUC; per positive the share of negatives below it; per negative the share of positives above it."""
    first, last, truth = ranking.first, ranking.last, ranking.truth
    hits = np.concatenate(([0], np.cumsum(truth)))  # positives before each position
    misses = np.arange(len(truth) + 1) - hits
    # per group: before it, and half of those within it
    positives = (hits[first] + hits[last + 1]) / 2
    negatives = (misses[first] + misses[last + 1]) / 2
    above = 1 - negatives[ranking.group[truth]] / misses[-1]
    below = positives[ranking.group[~truth]] / hits[-1]
    return float(above.mean()), above, below


@checked
def clustered_freedom(truth: Booleans, codes: Integers, moved: Floats) -> float:
    """The degrees of freedom of a variance between patients, of whom each has ``moved`` (P,) the area.

    Those of the class whose patients tell less (:func:`overread.stats.proportions.patient_freedom`); fewer where the
    squares themselves vary more than normal ones do (Satterthwaite 1946), as near an area of 1, where few patients
    bring all of it: without, coverage there is 90 to 92 %.
    """
    kish = min(patient_freedom(codes[rows]) for rows in (truth, ~truth))
    square, fourth = float((moved**2).sum()), float((moved**4).sum())
    spread = fourth - square**2 / distinct(codes)
    return min(float(kish), max(1.0, 2 * square**2 / spread)) if spread > 0 else float(kish)


@checked
def newcombe(value: float, positives: int, negatives: int, z: float) -> tuple[float, float]:
    """Method 5 of Newcombe 2006: the AUCs that lie z of their own standard errors from ``value``.

    The standard error is that of Hanley & McNeil 1982 with mean group size.

    >>> [round(x, 3) for x in newcombe(1.0, 20, 20, 1.96)]
    [0.899, 1.0]
    """

    def excess(area: float) -> float:
        pairs, half = positives * negatives, (positives + negatives) / 2 - 1
        spread = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
        return (value - area) ** 2 - z * z * area * (1 - area) * spread / pairs

    low, high = (bisect(excess, end, value + (end - value) * 1e-12) for end in (0.0, 1.0))  # at 0 and 1 it is 0 itself
    return low, high


@checked
def roc_curve(truth: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """False-positive rate, true-positive rate and threshold of every step, from (0, 0) at threshold ∞.

    ``truth`` (N,) 0/1, ``score`` (N,). A case is called positive when its score is at least the threshold.
    Empty arrays where the curve is undefined (one class only, a score that is not finite).

    >>> [x.tolist() for x in roc_curve([0, 1], [0.2, 0.7])]
    [[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [inf, 0.7, 0.2]]
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    if no_ranking(positive, scores):
        return np.empty(0), np.empty(0), np.empty(0)
    ranking = rank(positive, scores)
    true = np.cumsum(ranking.truth)[ranking.last]
    false = ranking.last + 1 - true
    threshold = np.append(math.inf, ranking.score[ranking.last])
    return np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1]), threshold


@checked
def precision_recall_curve(truth: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats, Floats]:
    """Recall, precision and threshold at every distinct score, from the highest to the lowest.

    ``truth`` (N,) 0/1, ``score`` (N,). Empty arrays where undefined (one class only, a score that is not finite).

    >>> [x.tolist() for x in precision_recall_curve([0, 1], [0.2, 0.7])]
    [[1.0, 1.0], [1.0, 0.5], [0.7, 0.2]]
    """
    positive, scores = zero_one(truth), numbers(score, np.size(truth))
    if no_ranking(positive, scores):
        return np.empty(0), np.empty(0), np.empty(0)
    ranking = rank(positive, scores)
    true = np.cumsum(ranking.truth)[ranking.last]
    return true / true[-1], true / (ranking.last + 1), ranking.score[ranking.last]


@checked
def areas_statistic(
    truths: list[Booleans],
    scores: list[Floats],
    codes: list[Integers],
    of: tuple[str, ...],
    *,
    macro: bool,
    note: str = "",
    each: bool = True,
    images: int = 0,
) -> Statistic:
    """The mean AUC over the questions (if ``macro``) and each one's average precision, for the bootstrap.

    The mean's interval is that of the areas', squared and added with their correlations
    (:func:`overread.stats.estimate.mean_of`): an area of few patients counts with its own width. Average precision is Σ
    (recall step × precision) over distinct scores, without interpolation; its interval stands on the logit scale (Boyd,
    Eng & Page 2013). Every question must be defined: both classes present, scores finite. In a resample without one of
    the classes of a question, the mean is over the others. ``images``: how many cases any question is asked of, where
    not all are asked of the same ones.
    """
    require(len(truths) > 0, "there must be at least one question")
    require(macro or each, "there must be something to compute: macro or each")
    rankings = [rank(t, s) for t, s in zip(truths, scores)]
    areas = [Areas.of(ranking, c) for ranking, c in zip(rankings, codes)]
    ill = [distinct(c[t]) for t, c in zip(truths, codes)]
    well = [distinct(c[~t]) for t, c in zip(truths, codes)]
    everyone, patients = images or max(map(len, truths)), distinct(np.concatenate(codes))
    most = max(int(c.max()) for c in codes) + 1

    @cache
    def mean_area(level: float) -> Moved:
        found = [_area(ranking, c, most, level) for ranking, c in zip(rankings, codes)]
        return mean_of(found, f"{found[0].method}; squared and added" if len(found) > 1 else found[0].method)

    mean = Column("macro auc", "", everyone, patients, effective=min(ill + well), note=note, closed=mean_area)
    columns = [mean] if macro else []
    for name, t, c, n in zip(of, truths, codes, ill) if each else ():
        columns.append(Column("average precision", name, len(t), distinct(c), effective=n, freedom=n - 1))

    def compute(weights: Weights) -> Floats:
        if not macro:
            return np.stack([area.precision(weights) for area in areas], axis=1)
        if not each:
            return mean_known(np.stack([area.auc(weights) for area in areas], axis=1))[:, None]
        values = np.stack([area(weights) for area in areas], axis=1)  # (B, questions, 2)
        return np.column_stack([mean_known(values[:, :, 0]), values[:, :, 1]])

    return Statistic(tuple(columns), compute)


# -- scores sorted once: the common root of ROC, precision–recall and their bootstrap -----------------------------


@dataclass(frozen=True, eq=False)
class Ranking:
    """Cases from the highest score to the lowest; equal scores are one group.

    ``order`` (N,) sorts the cases, ``truth`` (N,) is sorted by it, ``score`` (N,) too; ``last`` (G,) is the
    position of the last case of each group of ties.
    """

    order: Integers
    truth: Booleans
    score: Floats
    last: Integers

    @property
    def first(self) -> Integers:
        """(G,) the position of the first case of each group."""
        return np.concatenate(([0], self.last[:-1] + 1))

    @property
    def group(self) -> Integers:
        """(N,) the group of each sorted case."""
        return np.repeat(np.arange(len(self.last)), np.diff(self.last, prepend=-1))

    def flagged(self, weights: NDArray[Any]) -> tuple[Integers, Integers]:
        """Weights (B, N) of the sorted cases → (B, G) those of all cases at or above each group, and of the true ones."""
        every, true = (np.cumsum(w, axis=1, dtype=np.int64) for w in (weights, weights * self.truth))
        return np.take(every, self.last, axis=1), np.take(true, self.last, axis=1)


@checked
def rank(truth: Booleans, score: Floats) -> Ranking:
    """Sort by falling score. ``truth`` (N,), ``score`` (N,) finite.

    What lies where within a tie does not matter, so the sort need not be stable, which makes it faster.
    """
    order = np.argsort(-score)
    ranked = score[order]
    return Ranking(
        order, truth[order], ranked, np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])
    )


@dataclass(frozen=True, eq=False)
class Areas:
    """AUC and average precision under weights: what a bootstrap asks thousands of times.

    Only the groups that hold a positive matter: a step of either curve's area is taken there. Weighted with
    one each, the AUC is the Mann–Whitney statistic and the average precision that of scikit-learn.
    """

    patient: Integers  # (N,) of the sorted cases
    positive: Integers  # (M,) positions of the positives
    end: Integers  # (G,) per group with positives: its last position,
    start: Integers  # (G,) the position before its first (−1 at the top),
    hits: Integers  # (G,) and which of the M positives is its last
    most: int  # images of one patient
    tied: bool

    @classmethod
    def of(cls, ranking: Ranking, patients: Integers) -> Areas:
        """``patients`` (N,) are the codes of the cases in their own order."""
        positive = np.flatnonzero(ranking.truth)
        groups, counts = np.unique(ranking.group[positive], return_counts=True)
        end, start = ranking.last[groups], ranking.first[groups] - 1
        tied, most = bool((end - start > 1).any()), int(np.bincount(patients).max())
        return cls(patients[ranking.order], positive, end, start, np.cumsum(counts) - 1, most, tied)

    def __call__(self, weights: NDArray[np.uint16]) -> Floats:
        """(B, P) weights of the patients → (B, 2): AUC and average precision, NaN where a class has no weight."""
        counts = self.counted(weights)
        return np.stack([_auc(counts), _precision(counts)], axis=1)

    def auc(self, weights: NDArray[np.uint16]) -> Floats:
        """(B,) the AUC alone."""
        return _auc(self.counted(weights))

    def precision(self, weights: NDArray[np.uint16]) -> Floats:
        """(B,) the average precision alone."""
        return _precision(self.counted(weights))

    def counted(self, weights: NDArray[np.uint16]) -> Counts:
        """What lies at or above each group with positives, in each of B resamples."""
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
        return Counts(true, flagged, gained, above, everyone)


@dataclass(frozen=True, eq=False)
class Counts:
    """Weights (B, G) at or above each group with positives: ``true`` ones and all that are ``flagged``.

    ``gained``: the positives within the group; ``above``: all above it, None where no scores are tied. ``everyone``
    (B,).
    """

    true: Floats
    flagged: Floats
    gained: Floats
    above: Floats | None
    everyone: Floats


def _auc(c: Counts) -> Floats:
    """Mann and Whitney's: whole numbers throughout, so the order in which they are added does not matter."""
    lost = 2 * (_dot(c.gained, c.flagged) - _dot(c.gained, c.true))
    if c.above is not None:  # a pair of equal scores counts one half
        lost += _dot(c.gained, c.above) - _dot(c.gained, c.flagged) + _dot(c.gained, c.gained)
    positives = c.true[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - lost / 2 / (positives * (c.everyone - positives))


def _precision(c: Counts) -> Floats:
    """Of nothing flagged nothing is true."""
    share = np.maximum(c.flagged, 1)
    np.divide(c.true, share, out=share)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _dot(c.gained, share) / c.true[:, -1]


def _dot(one: Floats, other: Floats) -> Floats:
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


def _unpacked(words: NDArray[np.uint64], lanes: int) -> Floats:
    """(B/lanes, G) words → (B, G) counts, B rounded up."""
    counts = np.ascontiguousarray(words)[:, :, None].view(f"u{8 // lanes}").transpose(0, 2, 1)
    return counts.astype(np.float64, order="C").reshape(-1, words.shape[1])


# -- the C-index: whether of two cases the one with more has the higher prediction --------------------------------


@checked
def concordance(
    truth: ArrayLike, predicted: ArrayLike, patients: Patients = None, *, level: float = 0.95, of: str = ""
) -> Estimate:
    """The chance that of two cases with different truth the greater has the higher prediction, ties one half.

    ``truth`` (N,) a quantity or ordered grade (all known: no censoring), ``predicted`` (N,), ``patients`` (N,) or
    None. Harrell et al. 1982; for 0/1 it is the AUC. Each case's pairs are counted in O(N·log²N), so the variance
    needs no resampling: that of a ratio of sums by patient (Newson 2006), interval on the logit scale, Student's t.
    Where it is zero, Newcombe's method 5 with half of the patients on either side. Undefined for a constant
    truth or a number that is not finite.

    >>> round(concordance([1, 2, 3, 4], [1, 3, 2, 4]).value, 4)
    0.8333
    """
    true = numbers(truth, name="truth")
    score = numbers(predicted, len(true), "predicted")
    codes = patient_codes(patients, len(true))
    count = distinct(codes)
    if reason := not_finite(true, score) or ("" if np.ptp(true) else "the truth is constant"):
        return undefined("concordance", reason, of=of, images=len(true), patients=count)
    agree, pairs = concordant(true, score)
    total = float(pairs.sum())
    value = float(agree.sum()) / total
    moved = np.bincount(codes, agree - value * pairs)
    error = 2 * float(np.linalg.norm(moved)) / total * math.sqrt(count / max(count - 1, 1))
    if count > 2 and error**2 > TINY and TINY < value < 1 - TINY:
        (low, high), how = logit_interval(value, error, t_quantile(level, count - 1)), "ratio of sums, logit"
    else:
        half = max(count // 2, 1)
        (low, high), how = newcombe(value, half, half, normal_quantile(level)), NEWCOMBE
    how += ", by patient" if count < len(true) else ""
    return Estimate("concordance", value, low, high, level, how, len(true), count, of)


def concordant(truth: Floats, predicted: Floats) -> tuple[Floats, Floats]:
    """(N,) with how many cases each agrees in order (ties of the prediction one half), and how many differ in truth.

    Two truths differ first at one binary digit of their ranks: at each digit, among cases with the same higher
    digits, those with a one are compared with those with a zero. So each pair is counted once per case.
    """
    order = np.argsort(predicted, kind="stable")
    rank = np.unique(truth, return_inverse=True)[1]
    agree, size = np.zeros(len(truth)), np.bincount(rank)
    tie = np.unique(predicted, return_inverse=True)[1]
    for digit in range(int(rank.max()).bit_length()):
        block = rank[order] >> (digit + 1)
        inside = order[np.argsort(block, kind="stable")]  # by block, within it by prediction
        block, one = rank[inside] >> (digit + 1), (rank[inside] >> digit) & 1
        agree[inside] += _agreeing(block, one, tie[inside])
    return agree, (len(truth) - size[rank]).astype(np.float64)


def _agreeing(block: Integers, one: Integers, tie: Integers) -> Floats:
    """Of a one, the zeros of its block below it; of a zero, the ones above it; halves of those tied with it."""
    place = np.arange(len(block))
    new_block = np.append(True, block[1:] != block[:-1])
    new_tie = new_block | np.append(True, tie[1:] != tie[:-1])
    ones = np.append(0, np.cumsum(one))
    zeros = np.append(place, len(block)) - ones

    def around(starts: Booleans) -> tuple[Integers, Integers]:
        first = np.flatnonzero(starts)
        size = np.diff(np.append(first, len(starts)))
        return np.repeat(first, size), np.repeat(first + size, size)

    (start, stop), (before, after) = around(new_block), around(new_tie)
    below = (zeros[before] + zeros[after]) / 2 - zeros[start]
    above = ones[stop] - (ones[before] + ones[after]) / 2
    return np.where(one == 1, below, above)

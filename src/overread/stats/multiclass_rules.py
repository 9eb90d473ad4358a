"""Which of several classes a case is called, where the most probable one is not the answer: rules, and how one is chosen.

Every rule here is one matrix of gains: a case with the chances p is called the class j with the largest Σ_k p_k G[k, j].
The identity is argmax; a diagonal of weights is the prior-adjusted argmax (logit adjustment, Menon 2020) and thresholds
per class; minus a matrix of costs is the smallest expected cost (Elkan 2001). All of it is a function of arrays: chances
(N, K), truths (N,) as class numbers, and ``codes`` (N,) that number the patients, who are what is independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.core.random import uniform
from overread.stats.arrays import Floats, Integers, distinct

#: How far argmax is moved against the shares of the classes: not at all … a quarter more than theory has it.
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
#: Patients of every class from which on a weight of its own is searched for each.
ENOUGH = 30
#: Folds of the cross-validation, and how often it is repeated with other folds; once from so many cases on.
FOLDS, REPEATS, MANY = 5, 4, 20_000
#: Rounds of the coordinate ascent.
SWEEPS = 3

Fit = Callable[[Floats, Integers, Integers], Floats]


@checked
def calls(chances: Floats, gains: Floats) -> Integers:
    """(N,) the class of the largest gain for chances (N, K), of equals the first; NaN counts as none.

    >>> calls(np.array([[0.6, 0.4]]), np.diag([1.0, 2.0])).tolist()
    [1]
    """
    known = np.isfinite(chances)
    weights = np.diag(gains)
    diagonal = np.count_nonzero(gains) == np.count_nonzero(weights)
    if (known.all() and diagonal) or (diagonal and (weights == 1).all()):
        moved = chances if (weights == 1).all() else chances * weights
    else:
        moved = np.where(known, chances, 0.0) @ gains
        moved[~known.all(axis=1)] = chances[~known.all(axis=1)]  # nothing can be weighed against what is no number
    return np.where(np.isnan(moved) | (np.isinf(moved) & (moved > 0)), -np.inf, moved).argmax(axis=1)


@checked
def shares(truth: Integers, classes: int) -> Floats:
    """(K,) the share of each class among the truths; of a class without a case, that of the rarest that has one."""
    counts = np.bincount(truth, minlength=classes).astype(np.float64)
    require(bool(counts.any()), "shares of classes need a case whose truth is known")
    return np.where(counts > 0, counts, counts[counts > 0].min()) / len(truth)


@checked
def adjusted(share: Floats, strength: float) -> Floats:
    """(K, K) the gains of the argmax of log p_k − τ log π_k, τ the ``strength``: Menon 2020, equation 9.

    The weights are scaled so that the commonest class has 1.
    """
    return np.diag((share / share.max()) ** -strength)


@dataclass(frozen=True, eq=False)
class Gain:
    """By how much one rule's balanced accuracy is above another's on the same cases, and its standard error."""

    value: float
    error: float


@checked
def balanced(truth: Integers, hits: Floats) -> float:
    """The mean over the classes present of the share of ``hits`` (N,), each 0 … 1."""
    return float(np.mean([hits[truth == k].mean() for k in np.unique(truth)]))


@checked
def balanced_gain(truth: Integers, codes: Integers, hits: Floats, others: Floats) -> Gain:
    """The balanced accuracy of ``hits`` (N,) minus that of ``others`` (N,), with an error that knows the patients.

    Each class counts one patient more than it has, whose call might have gone either way: a class of three whose calls
    happen to agree is no proof that they always do. Without any call that differs the error is 0.
    """
    gap = hits - others
    if not gap.any():
        return Gain(0.0, 0.0)
    present = np.unique(truth)
    each, unseen, value = np.zeros(len(truth)), 0.0, 0.0
    for k in present:
        rows = truth == k
        mean = gap[rows].mean()
        value += mean / len(present)
        each[rows] = (gap[rows] - mean) / (rows.sum() * len(present))
        unseen += (1 / (len(present) * (distinct(codes[rows]) + 1))) ** 2
    people = distinct(codes)
    seen = float((np.bincount(codes, each) ** 2).sum()) * people / max(people - 1, 1)
    return Gain(float(value), math.sqrt(seen + unseen))


# -- rules that are fitted ------------------------------------------------------------------------------------------


@checked
def fit_strength(chances: Floats, truth: Integers, codes: Integers) -> tuple[float, Floats]:
    """The strength of the prior adjustment with the best balanced accuracy, and its gains.

    Of the strengths that are no worse than the best by :data:`NOISE` standard errors the smallest.
    """
    share = shares(truth, chances.shape[1])
    tried = [(strength, adjusted(share, strength)) for strength in STRENGTHS]
    hits = [(calls(chances, gains) == truth).astype(np.float64) for _, gains in tried]
    return tried[smallest_change(truth, codes, hits)]


#: A rule that changes less is taken where it is worse by no more than so many standard errors of their difference.
NOISE = 0.5


@checked
def smallest_change(truth: Integers, codes: Integers, hits: list[Floats], noise: float | None = None) -> int:
    """Which of several rules, in the order of how much they change: the first that is not worse than the best beyond
    noise.

    >>> truth = np.repeat([0, 1], 50)
    >>> smallest_change(truth, np.arange(100), [np.ones(100), np.ones(100)])
    0
    """
    best = int(np.argmax([balanced(truth, h) for h in hits]))  # of equals the first
    for i, h in enumerate(hits[:best]):
        gain = balanced_gain(truth, codes, hits[best], h)
        if gain.value <= (NOISE if noise is None else noise) * gain.error:
            return i
    return best


@checked
def fit_weights(chances: Floats, truth: Integers, codes: Integers) -> Floats:
    """(K, K) gains with a weight for each class, by coordinate ascent of the balanced accuracy from the prior-adjusted
    argmax.

    Every step is exact: the best weight of one class while those of the others stand. Shrunk on the logarithm towards
    where it began, by half for a class with :data:`ENOUGH` patients.
    """
    with np.errstate(divide="ignore"):
        logs = np.log(chances)
    begin = np.log(np.diag(fit_strength(chances, truth, codes)[1]))
    offsets = begin.copy()
    for _ in range(SWEEPS):
        before = offsets.copy()
        for k in range(chances.shape[1]):
            offsets[k] = _best_offset(logs, truth, offsets, k)
        if np.array_equal(before, offsets):
            break
    people = np.array([distinct(codes[truth == k]) if (truth == k).any() else 0 for k in range(chances.shape[1])])
    offsets = begin + (offsets - begin) * people / (people + ENOUGH)
    return np.diag(np.exp(offsets - offsets.max()))


def _best_offset(logs: Floats, truth: Integers, offsets: Floats, k: int) -> float:
    """What to add to the logarithm of class ``k`` for the best balanced accuracy; of equals the nearest to now."""
    moved = logs + offsets
    moved[:, k] = -np.inf
    other = moved.argmax(axis=1)
    with np.errstate(invalid="ignore"):
        from_on = moved.max(axis=1) - logs[:, k]  # called k from this offset on
    worth = 1.0 / np.bincount(truth, minlength=logs.shape[1])[truth]
    change = worth * ((truth == k) * 1.0 - (other == truth))
    order = np.argsort(from_on, kind="stable")
    steps, change = from_on[order], change[order]
    ends = np.flatnonzero(np.isfinite(steps) & np.append(steps[1:] > steps[:-1], True))
    if not len(ends):
        return float(offsets[k])
    total = np.cumsum(change)[ends]
    middle = np.append((steps[ends][:-1] + steps[ends][1:]) / 2, steps[ends][-1] + 1e-3)
    never = steps[ends[0]] - 1e-3  # none is called k any more but who can be nothing else
    values = np.append(total, change[np.isneginf(steps)].sum())
    places = np.append(middle, never)
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return float(places[best[np.abs(places[best] - offsets[k]).argmin()]])


# -- what a fitted rule is worth ------------------------------------------------------------------------------------


@checked
def out_of_fold_hits(chances: Floats, truth: Integers, codes: Integers, fit: Fit, seed: int = 0) -> Floats:
    """(N,) how often each case is called what it is, by rules that were fitted without its patient: 0 … 1.

    :data:`FOLDS` folds of patients, :data:`REPEATS` times.
    """
    found, times = np.zeros(len(truth)), 1 if len(truth) >= MANY else REPEATS
    for repeat in range(times):
        for held in folds(truth, codes, seed, repeat):
            rest = ~held
            found[held] += calls(chances[held], fit(chances[rest], truth[rest], codes[rest])) == truth[held]
    return found / times


@checked
def folds(truth: Integers, codes: Integers, seed: int = 0, repeat: int = 0) -> Iterator[NDArray[np.bool_]]:
    """(N,) which cases are held out, fold by fold: no patient in two, and the patients of each class dealt evenly.

    A patient with several classes counts for the rarest. Fewer folds than :data:`FOLDS` where there are fewer patients.
    """
    rare = np.bincount(truth)[truth]
    first = np.lexsort((truth, rare, codes))
    people, at = np.unique(codes[first], return_index=True)
    group = truth[first[at]]
    place = np.lexsort((uniform(seed, repeat, people, "folds of tuning patients"), group))
    fold = np.empty(len(people), np.int64)
    many = min(FOLDS, len(people))
    fold[place] = np.arange(len(people)) % many
    of_case = fold[np.searchsorted(people, codes)]
    for i in range(many):
        yield of_case == i

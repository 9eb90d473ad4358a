"""One label from several readers: by majority, by the median, or by what each reader's errors tell."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.agreement.pairs import Ratings, answers
from overread.stats.arrays import Booleans, Floats, Integers

Ties = Literal["undecided", "lowest", "highest"]
#: Stands for "no label": a tie that is left open, or a case nobody answered.
UNDECIDED = -1
#: A chance of exactly 0 has no logarithm.
LEAST = 1e-300


@dataclass(frozen=True, eq=False)
class Consensus:
    """``label`` (N,) a class or −1; ``share`` (N,) of the answers that gave it; ``answers`` (N,); ``tied`` (N,).

    The share is NaN where there is no label.
    """

    label: Integers
    share: Floats
    answers: Integers
    tied: Booleans
    rule: str


@dataclass(frozen=True, eq=False)
class LatentClasses:
    """What Dawid & Skene's model makes of the answers.

    ``posterior`` (N, C) the chance of each true class, ``label`` (N,) the likeliest, −1 without an answer;
    ``prevalence`` (C,); ``confusion`` (R, C, C) the chance that a reader answers [column] where [row] is true;
    ``likelihood`` is the logarithm of that of the answers. ``doubt`` says why the result should not be
    trusted; empty if nothing speaks against it.
    """

    posterior: Floats
    label: Integers
    prevalence: Floats
    confusion: Floats
    likelihood: float
    rounds: int
    converged: bool
    doubt: str


@checked
def majority(ratings: ArrayLike, *, classes: int | None = None, ties: Ties = "undecided") -> Consensus:
    """The class most readers gave each case.

    ``ratings`` (N, R) class numbers 0 … ``classes``−1, NaN where missing. ``ties``: which of several classes
    with as many answers is taken, or none. An infinite rating raises :class:`ArgumentError`.

    >>> majority([[0, 1, 1], [0, 1, np.nan]]).label.tolist()
    [1, -1]
    """
    given = _labelled(ratings, classes)
    counts = given.counts
    winners = counts == counts.max(axis=1, keepdims=True)
    first, last = winners.argmax(axis=1), given.classes - 1 - winners[:, ::-1].argmax(axis=1)
    return _consensus(counts, first, last, "majority", ties)


@checked
def median_label(ratings: ArrayLike, *, classes: int | None = None, ties: Ties = "undecided") -> Consensus:
    """The middle answer to each case, for classes in order of severity.

    ``ratings`` (N, R) class numbers 0 … ``classes``−1, NaN where missing. Where the two middle answers differ the case
    is tied: ``ties`` takes the lower, the higher, or none. An infinite rating raises :class:`ArgumentError`.

    >>> median_label([[0, 1, 3], [0, 2, np.nan]], ties="highest").label.tolist()
    [1, 2]
    """
    given = _labelled(ratings, classes)
    counts = given.counts
    below, every = np.cumsum(counts, axis=1), counts.sum(axis=1)
    low = (below * 2 >= every[:, None]).argmax(axis=1)
    high = (below * 2 > every[:, None]).argmax(axis=1)
    return _consensus(counts, low, high, "median", ties)


def _consensus(counts: Floats, low: Integers, high: Integers, rule: str, ties: Ties) -> Consensus:
    """The lowest and the highest label (N,) that ``rule`` allows, settled; ``counts`` (N, C) of the answers."""
    every = counts.sum(axis=1)
    tied = (low != high) & (every > 0)
    label = np.where(tied & (ties == "undecided"), UNDECIDED, high if ties == "highest" else low)
    label = np.where(every == 0, UNDECIDED, label).astype(np.int64)
    agreeing = np.take_along_axis(counts, np.maximum(label, 0)[:, None], axis=1)[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(label >= 0, agreeing / every, math.nan)
    return Consensus(label, share, every.astype(np.int64), tied, f"{rule}, ties {ties}")


def _labelled(ratings: ArrayLike, classes: int | None) -> Ratings:
    given = answers(ratings, None, least=0)
    require("finite" not in given.reason, "ratings must be class numbers", given=given.reason)
    count = max(classes or given.classes, 1)
    require(count >= given.classes, "a rating lies outside the classes", given=f"{given.classes} found")
    return Ratings(given.table, given.codes, count, 0, "")


@checked
def dawid_skene(
    ratings: ArrayLike,
    *,
    classes: int | None = None,
    readers: ArrayLike | None = None,
    smoothing: float = 0.01,
    tolerance: float = 1e-8,
    rounds: int = 2000,
) -> LatentClasses:
    """The true class of each case and each reader's errors, found together from the answers alone.

    ``ratings`` (N, R) class numbers 0 … ``classes``−1, NaN where missing. ``readers`` (R,) numbers 0, 1, … of
    the columns, where a reader answered more than once; without, each column is a reader. Dawid & Skene 1979,
    by EM from the shares of the answers; given the truth, readers err independently.
    ``smoothing`` is added to each cell of a reader's counts and of the classes' (a Dirichlet prior; 0 is
    maximum likelihood), ``tolerance`` is the gain in mean log likelihood per case that ends the rounds. Equal
    rows of answers are one row, so a million cases cost no more than their patterns. Two readers cannot tell
    whose error it was: see ``doubt``. An infinite rating raises :class:`ArgumentError`.

    >>> dawid_skene([[0, 0, 0], [1, 1, 1], [0, 0, 1], [1, 1, 0]] * 10).label[:4].tolist()
    [0, 1, 0, 1]
    """
    require(smoothing >= 0 and tolerance > 0 and rounds > 0, "smoothing must be ≥ 0, tolerance and rounds > 0")
    given = _labelled(ratings, classes)
    who = _readers(readers, given.table.shape[1])
    patterns, which, often = _patterns(given)
    answered = _answered(patterns, who, given.classes)  # (Q, R·C) answers of each pattern
    fit = _Fit(answered, often.astype(np.float64), int(who.max(initial=-1)) + 1, given.classes, smoothing)
    belief = fit.start()
    last, done, turn = -math.inf, False, 0
    while not done and turn < rounds:
        prevalence, confusion = fit.maximise(belief)
        belief, gain = fit.expect(prevalence, confusion)
        done = not gain - last > tolerance * max(len(given.table), 1) or not len(given.table)
        last, turn = gain, turn + 1
    label = np.where(answered.sum(axis=1) > 0, belief.argmax(axis=1), UNDECIDED)[which].astype(np.int64)
    gain, doubt = fit.likelihood(prevalence, confusion), _doubt(len(which), len(confusion), done)
    return LatentClasses(belief[which], label, prevalence, confusion, gain, turn, done, doubt)


def _readers(readers: ArrayLike | None, columns: int) -> Integers:
    who = np.arange(columns) if readers is None else np.asarray(readers)
    good = who.shape == (columns,) and np.issubdtype(who.dtype, np.integer) and bool((who >= 0).all())
    require(good, "readers must hold one number 0, 1, … per column", given=f"{who.shape}, {columns} columns")
    return who.astype(np.int64)


def _patterns(given: Ratings) -> tuple[Integers, Integers, Integers]:
    """Distinct rows (Q, R) with −1 where missing, the row of each case, and how often each occurs."""
    rows = np.where(np.isnan(given.table), -1, np.nan_to_num(given.table)).astype(np.int64)
    if rows.shape[1] * math.log2(given.classes + 1) < 62:  # a row fits in one number, which sorts faster
        digits = (given.classes + 1) ** np.arange(rows.shape[1], dtype=np.int64)
        coded = (rows + 1) @ digits
        _, first, which, often = np.unique(coded, return_index=True, return_inverse=True, return_counts=True)
        return rows[first], which.astype(np.int64), often
    found, which, often = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return found, which.ravel().astype(np.int64), often


def _answered(patterns: Integers, who: Integers, classes: int) -> Floats:
    count = int(who.max(initial=-1)) + 1
    found = np.zeros((len(patterns), count * classes))
    rows, columns = np.nonzero(patterns >= 0)
    np.add.at(found, (rows, who[columns] * classes + patterns[rows, columns]), 1.0)
    return found


@dataclass(frozen=True, eq=False)
class _Fit:
    """The two steps of EM over patterns of answers."""

    answered: Floats  # (Q, R·C)
    often: Floats  # (Q,)
    readers: int
    classes: int
    smoothing: float

    def start(self) -> Floats:
        """(Q, C) the shares of the answers (Dawid & Skene 1979)."""
        total = self.answered.reshape(len(self.answered), self.readers, self.classes).sum(axis=1)
        every = total.sum(axis=1, keepdims=True)
        return np.where(every > 0, total / np.maximum(every, 1), 1 / self.classes)

    def maximise(self, belief: Floats) -> tuple[Floats, Floats]:
        """Prevalence (C,) and confusion (R, C, C); a class that a reader never met is evenly confused."""
        weight = belief * self.often[:, None]
        prevalence = _shares(weight.sum(axis=0) + self.smoothing)
        counts = (weight.T @ self.answered).reshape(self.classes, self.readers, self.classes).swapaxes(0, 1)
        return prevalence, _shares(counts + self.smoothing)

    def expect(self, prevalence: Floats, confusion: Floats) -> tuple[Floats, float]:
        """(Q, C) chances of the true class, and the log likelihood plus that of the prior."""
        joint = self._joint(prevalence, confusion)
        top = joint.max(axis=1, keepdims=True, initial=-math.inf)
        chances = np.exp(joint - top)
        every = chances.sum(axis=1, keepdims=True)
        prior = self.smoothing * float(_logarithm(prevalence).sum() + _logarithm(confusion).sum())
        return chances / every, float(self.often @ (np.log(every) + top)[:, 0]) + prior

    def likelihood(self, prevalence: Floats, confusion: Floats) -> float:
        """The log likelihood of the answers."""
        joint = self._joint(prevalence, confusion)
        return float(self.often @ np.logaddexp.reduce(joint, axis=1)) if len(joint) else 0.0

    def _joint(self, prevalence: Floats, confusion: Floats) -> Floats:
        answers = confusion.swapaxes(0, 1).reshape(self.classes, self.readers * self.classes)
        return _logarithm(prevalence) + self.answered @ _logarithm(answers).T


def _shares(counts: Floats) -> Floats:
    every = counts.sum(axis=-1, keepdims=True)
    return np.where(every > 0, counts / np.where(every > 0, every, 1), 1 / counts.shape[-1])


def _logarithm(chance: Floats) -> Floats:
    return np.log(np.maximum(chance, LEAST))


def _doubt(cases: int, readers: int, converged: bool) -> str:
    if not cases:
        return "no cases"
    if readers < 3:
        return f"{readers} readers cannot tell whose error it was: three are needed"
    return "" if converged else "the rounds ended before the likelihood stood still"

"""Agreement of a panel of readers: Fleiss' kappa, Krippendorff's alpha, intraclass correlation, and the ceiling."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.agreement.pairs import MOST_CLASSES, Compute, Ratings, answers, percent_agreement, share_agreeing
from overread.stats.arrays import TINY, Floats, Patients
from overread.stats.estimate import Estimate
from overread.stats.resample import Weights

Scale = Literal["nominal", "ordinal", "interval"]


@dataclass(frozen=True)
class Ceiling:
    """What accuracy against one reader can mean.

    ``agreement``: what a reader of the panel reaches against another. ``best``: what no classifier can pass.
    ``panel``: what the majority of the other readers reaches against the one left out.
    """

    agreement: Estimate
    best: Estimate
    panel: Estimate


@checked
def fleiss_kappa(
    ratings: ArrayLike, patients: Patients = None, *, level: float = 0.95, resamples: int | None = None, seed: int = 0
) -> Estimate:
    """Fleiss' kappa of any number of readers, who need not be the same for each case.

    ``ratings`` (N, R) class numbers 0, 1, …, NaN where missing, ``patients`` (N,) or None. Fleiss 1971; where
    cases have unequal numbers of answers each case counts the same in the agreement and
    each answer the same in the shares of the classes. Patient bootstrap. Undefined without a case that two
    readers answered, or where all answers are one class.

    >>> round(fleiss_kappa([[0, 0, 1], [1, 1, 1], [0, 0, 0], [1, 0, 1]]).value, 3)
    0.333
    """
    given = answers(ratings, patients)
    if given.reason:
        return given.undefined("fleiss kappa", given.reason)
    counts = given.counts
    cells = given.per_patient(np.ones(len(counts)), share_agreeing(counts), *counts.T)

    def compute(weights: Weights) -> Floats:
        many, agreed, *each = (weights @ cells).T
        shares = np.stack(each, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            chance = ((shares / shares.sum(axis=1, keepdims=True)) ** 2).sum(axis=1)
            left = np.where(1 - chance > 1e-12, 1 - chance, math.nan)
            return ((agreed / many - chance) / left)[:, None]

    return _bootstrapped(given, "fleiss kappa", compute, level, resamples, seed, counts.sum(axis=0))


@checked
def krippendorff_alpha(
    ratings: ArrayLike,
    patients: Patients = None,
    *,
    scale: Scale = "nominal",
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """Krippendorff's alpha: 1 − observed over expected disagreement, for any readers and missing answers.

    ``ratings`` (N, R) numbers, NaN where missing, ``patients`` (N,) or None. ``scale``: whether two values are
    alike or not, differ by the ranks between them, or by their difference squared. Krippendorff 2011,
    "Computing Krippendorff's alpha-reliability", sections C and E. Patient bootstrap. Undefined without a case
    that two readers answered, where all answers are one value, or for an infinite one. Raises
    :class:`ArgumentError` for a nominal or ordinal scale of more than 200 values.

    >>> round(krippendorff_alpha([[0, 0], [1, 1], [0, 1], [1, 1]]).value, 3)
    0.533
    """
    given = answers(ratings, patients, whole=False)
    metric = f"{scale} alpha"
    if given.reason:
        return given.undefined(metric, given.reason)
    if scale == "interval":
        return _bootstrapped(given, metric, _interval_alpha(given), level, resamples, seed)
    values, which = np.unique(given.table, return_inverse=True)  # NaN comes last
    classes = int((~np.isnan(values)).sum())
    few = classes <= MOST_CLASSES
    require(few, f"a {scale} scale has few values", given=f"{classes} values", todo="use scale='interval'")
    numbered = np.where(np.isnan(given.table), math.nan, which.reshape(given.table.shape))
    numbers = replace(given, table=numbered, classes=classes)
    nominal = scale == "nominal"
    compute = _nominal_alpha(numbers) if nominal else _ordinal_alpha(numbers)
    counts = numbers.counts.sum(axis=0) if nominal else None
    return _bootstrapped(given, metric, compute, level, resamples, seed, counts)


def _bootstrapped(
    given: Ratings,
    metric: str,
    compute: Compute,
    level: float,
    resamples: int | None,
    seed: int,
    classes: Floats | None = None,
) -> Estimate:
    """``classes`` (C,): how often each was given, where all disagreements weigh alike."""
    column = given.column(metric, reason="all answers are alike")
    column = replace(column, scale="below one", freedom=given.patients - 1)
    if classes is not None:  # readers who never disagree: beside one who is wholly wrong, what chance alone would give
        by_chance = float(((classes / classes.sum()) ** 2).sum())
        column = replace(column, effective=given.patients, unit=1 / max(1 - by_chance, TINY))
    return given.bootstrapped(column, compute, level, resamples, seed)


def _one_less(observed: Floats, expected: Floats) -> Floats:
    """(B, 1): 1 − observed / expected disagreement, NaN where none can be expected."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return (1 - np.where(expected > 1e-12, observed / expected, math.nan))[:, None]


def _nominal_alpha(given: Ratings) -> Compute:
    counts = given.counts
    readers = counts.sum(axis=1)
    apart = (readers**2 - (counts**2).sum(axis=1)) / (readers - 1)
    cells = given.per_patient(apart, *counts.T)

    def compute(weights: Weights) -> Floats:
        sums = weights @ cells
        every = sums[:, 1:].sum(axis=1)
        expected = (every**2 - (sums[:, 1:] ** 2).sum(axis=1)) / (every - 1)
        return _one_less(sums[:, 0] / every, expected / every)

    return compute


def _interval_alpha(given: Ratings) -> Compute:
    known = ~np.isnan(given.table)
    x = given.table - given.table[known].mean()  # centred and scaled: sums of squares lose no digits
    x = np.where(known, x / (np.abs(x[known]).max() or 1.0), 0.0)
    readers, total, square = known.sum(axis=1), x.sum(axis=1), (x**2).sum(axis=1)
    apart = 2 * (readers * square - total**2) / (readers - 1)
    cells = given.per_patient(apart, readers, total, square)

    def compute(weights: Weights) -> Floats:
        apart, every, total, square = (weights @ cells).T
        return _one_less(apart / every, 2 * (every * square - total**2) / (every * (every - 1)))

    return compute


def _ordinal_alpha(given: Ratings) -> Compute:
    """The interval alpha of mid-ranks: two values are apart by the answers between them, ends counting half."""
    coincident, counts = _coincidences(given), given.per_patient(*given.counts.T)

    def compute(weights: Weights) -> Floats:
        each = weights @ counts  # (B, C)
        every = each.sum(axis=1)
        middle = np.cumsum(each, axis=1) - each / 2
        middle = (middle - every[:, None] / 2) / every[:, None]
        pairs = (weights.astype(np.float64) @ coincident).reshape(len(weights), *[given.classes] * 2)
        square = (each * middle**2).sum(axis=1)
        same = np.einsum("bcd,bc,bd->b", pairs, middle, middle)
        expected = 2 * (every * square - (each * middle).sum(axis=1) ** 2) / (every * (every - 1))
        return _one_less(2 * (square - same) / every, expected)

    return compute


def _coincidences(given: Ratings) -> Any:
    """Sparse (P, C·C): how often two readers of a case gave two values, each case weighing its readers."""
    from scipy.sparse import csr_array

    known = ~np.isnan(given.table)
    value, share = np.nan_to_num(given.table).astype(np.int64), 1 / (known.sum(axis=1) - 1)
    readers = range(given.table.shape[1])
    cells, patients, amounts = [], [], []
    for i, j in ((i, j) for i in readers for j in readers if i != j):
        both = known[:, i] & known[:, j]
        cells.append(value[both, i] * given.classes + value[both, j])
        patients.append(given.codes[both])
        amounts.append(share[both])
    where = np.concatenate(patients), np.concatenate(cells)
    return csr_array((np.concatenate(amounts), where), shape=(int(given.codes.max()) + 1, given.classes**2))


@checked
def ceiling(
    ratings: ArrayLike,
    patients: Patients = None,
    *,
    classes: int | None = None,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Ceiling:
    """The accuracy against one reader that no classifier can pass, and what another reader and a panel reach.

    ``ratings`` (N, R) class numbers 0 … ``classes``−1, NaN where missing, ``patients`` (N,) or None.

    Model: the readers are drawn from one pool, and answer a case independently of each other, with chances q
    that belong to the case. Two of them then agree with chance g = E Σ q², and no function of the case agrees
    with one of them more often than E max q. For C classes and a given Σ q², max q is largest where the other
    classes share the rest equally: max q ≤ f(Σ q²), f(s) = (1 + √((C−1)(C·s−1))) / C. As f is concave, E max
    q ≤ f(g) (Jensen): the bound ``best``, reached where all cases are equally hard. No truth is assumed; a
    model with a higher accuracy against one reader has learnt that reader, or was lucky. Readers who err
    together agree more, so the bound is then too high, never too low.

    ``panel`` is measured: the majority of the other readers against the reader left out (a tie counts its share), with
    a patient bootstrap; it needs three readers, and with three is the agreement. Undefined as :func:`percent_agreement`
    is.

    >>> round(ceiling([[0, 0], [1, 1], [0, 1], [1, 1], [0, 0]]).best.value, 3)
    0.887
    """
    given = answers(ratings, patients)
    count = max(classes or given.classes, 2)
    require(count >= given.classes, "a rating lies outside the classes", given=f"{given.classes} found")
    agreement = percent_agreement(ratings, patients, level=level, resamples=resamples, seed=seed)
    if agreement.undefined:
        lost = [given.undefined(name, agreement.undefined) for name in ("ceiling", "panel accuracy")]
        return Ceiling(agreement, *lost)
    low, value, high = (_best(g, count) for g in (agreement.low, agreement.value, agreement.high))
    how = f"bound for {count} classes and independent readers; {agreement.method}"
    best = replace(agreement, metric="ceiling", value=value, low=low, high=high, method=how)
    return Ceiling(agreement, best, _panel(given, level, resamples, seed))


def _best(agreement: float, classes: int) -> float:
    return (1 + math.sqrt((classes - 1) * max(classes * agreement - 1, 0.0))) / classes


def _panel(given: Ratings, level: float, resamples: int | None, seed: int) -> Estimate:
    right, asked = _votes(given)
    if not asked.any():
        return given.undefined("panel accuracy", "no case with three answers")
    cells = given.per_patient(right, asked)

    def compute(weights: Weights) -> Floats:
        hits, every = (weights @ cells).T
        with np.errstate(invalid="ignore", divide="ignore"):
            return (hits / every)[:, None]

    column = replace(given.column("panel accuracy"), effective=given.patients, freedom=given.patients - 1)
    return given.bootstrapped(column, compute, level, resamples, seed)


def _votes(given: Ratings) -> tuple[Floats, Floats]:
    """(N,) each: readers whose answer the others' majority gives, a tie its share; readers asked."""
    counts, rows = given.counts, np.arange(len(given.table))
    right, asked = np.zeros(len(rows)), np.zeros(len(rows))
    for answer in given.table.T:
        known = ~np.isnan(answer) & (counts.sum(axis=1) > 2)
        mine, others = np.nan_to_num(answer).astype(np.int64), counts.copy()
        others[rows, mine] -= 1
        top = others.max(axis=1)
        won = others[rows, mine] == top
        right += np.where(known & won, 1 / (others == top[:, None]).sum(axis=1), 0.0)
        asked += known
    return right, asked

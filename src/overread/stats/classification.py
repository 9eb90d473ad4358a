"""Metrics of a confusion matrix: at a threshold, or of the most probable class."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, partial

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import (
    Booleans,
    Floats,
    Integers,
    Patients,
    bisect,
    distinct,
    expit,
    normal_quantile,
    one_class,
    patient_codes,
    t_quantile,
    t_shrinkage,
    zero_one,
)
from overread.stats.estimate import Estimate, Moved, mean_of, undefined
from overread.stats.proportions import effective_images, patient_freedom, proportion, wilson
from overread.stats.resample import Column, Statistic, of_sums, per_patient


@checked
def confusion(truth: ArrayLike, predicted: ArrayLike, classes: int) -> Integers:
    """Counts (classes, classes): rows are the truth, columns what was predicted.

    ``truth`` and ``predicted`` (N,) hold class numbers 0 … classes−1.

    >>> confusion([0, 1, 1], [0, 0, 1], 2).tolist()
    [[1, 0], [1, 1]]
    """
    rows, columns = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    fits, shapes = rows.shape == columns.shape and rows.ndim == 1, f"{rows.shape}, {columns.shape}"
    require(fits, "truth and predicted must be equally long", given=shapes)
    both = np.concatenate((rows, columns))
    good = not both.size or (both.min() >= 0 and both.max() < classes)
    require(good, "a class number lies outside 0 … classes−1", given=f"{classes} classes")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


@checked
def at_threshold(
    truth: ArrayLike,
    flagged: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
    note: str = "",
) -> list[Estimate]:
    """Sensitivity, specificity, PPV, NPV and accuracy of calling ``flagged`` cases positive.

    ``truth`` and ``flagged`` (N,) 0/1, ``patients`` (N,) or None. ``note`` says where the threshold comes
    from and begins each ``method``. Each is a :func:`proportion`; undefined where its denominator is empty.

    >>> [str(e) for e in at_threshold([0, 1], [0, 1])][0]
    '1.000 (0.207–1.000)'
    """
    positive, called = zero_one(truth), zero_one(flagged, "flagged")
    require(positive.shape == called.shape, "truth and flagged must be equally long")
    codes = patient_codes(patients, len(positive))
    among = {
        "sensitivity": (called, positive, "0 positives"),
        "specificity": (~called, ~positive, "0 negatives"),
        "ppv": (positive, called, "none called positive"),
        "npv": (~positive, ~called, "none called negative"),
        "accuracy": (called == positive, np.ones(len(positive), bool), "no cases"),
    }
    found = []
    for metric, (good, rows, reason) in among.items():
        share = proportion(good[rows], codes[rows], level=level, metric=metric, of=of)
        how = f"{note}; {share.method}" if note else share.method
        found.append(replace(share, undefined=reason) if share.undefined else replace(share, method=how))
    return found


@checked
def threshold_statistic(
    truth: Booleans, flagged: Booleans, codes: Integers, patients: int, *, of: str = "", note: str = ""
) -> Statistic:
    """F1 and balanced accuracy of calling ``flagged`` cases positive, with intervals from those of their parts.

    F1 = 2·J / (1 + J) rises with J, the share that is both among all that are ill or flagged, so its interval is J's
    (Hand, Christen & Kirielle 2021), by :func:`proportion`. Balanced accuracy takes the intervals of sensitivity and
    specificity, squared and added (:func:`overread.stats.estimate.mean_of`).
    """
    cells = per_patient(codes, patients, truth & flagged, flagged, truth, ~truth & ~flagged, ~truth)
    about = Column("", of, len(truth), distinct(codes), note=note)
    fewest = min(distinct(codes[truth]), distinct(codes[~truth]))
    both = truth.astype(np.int64), flagged.astype(np.int64)
    columns = (
        replace(about, metric="f1", effective=distinct(codes[truth]), reason="0 positives",
                closed=cache(lambda level: _f1(truth, flagged, codes, patients, level))),
        replace(about, metric="balanced accuracy", effective=fewest, freedom=fewest - 1,
                closed=cache(lambda level: mean_of(recalls(*both, codes, patients, level), PARTS))),
    )  # fmt: skip

    def compute(sums: Floats) -> Floats:
        hit, called, positive, spared, negative = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = np.where(positive > 0, 2 * hit / (called + positive), np.nan)
            return np.column_stack([f1, (hit / positive + spared / negative) / 2])

    return of_sums(columns, cells, compute)


#: How an interval was made of others.
PARTS = "Wilson of each part, squared and added"


@checked
def recalls(truth: Integers, predicted: Integers, codes: Integers, patients: int, level: float) -> list[Moved]:
    """Of each class that is there the share called rightly, with its interval (:func:`proportion`).

    ``truth`` and ``predicted`` (N,) class numbers, ``codes`` (N,) of the ``patients``.
    """
    return [
        _share(predicted[rows] == which, codes[rows], patients, level)
        for which in np.unique(truth)
        for rows in [truth == which]
    ]


def _share(good: Booleans, codes: Integers, patients: int, level: float) -> Moved:
    found = proportion(good, codes, level=level)
    influence = np.bincount(codes, (good - found.value) / len(good), patients).astype(np.float64)
    least = wilson(0.0, found.patients, normal_quantile(level))[1]
    return Moved(found.value, found.low, found.high, influence, found.method, least)


def _f1(truth: Booleans, flagged: Booleans, codes: Integers, patients: int, level: float) -> Moved:
    either = truth | flagged
    both = _share((truth & flagged)[either], codes[either], patients, level)
    value, low, high = (2 * share / (1 + share) for share in (both.value, both.low, both.high))
    return Moved(
        value, low, high, both.influence * 2 / (1 + both.value) ** 2, f"{both.method} of hits among ill or flagged"
    )


@checked
def classes_statistic(
    truth: Integers,
    predicted: Integers,
    classes: int,
    codes: Integers,
    patients: int,
    *,
    of: tuple[str, ...] = (),
    note: str = "",
) -> Statistic:
    """Balanced accuracy, macro F1 and F1 of the classes named in ``of``, with intervals from those of their parts.

    ``truth`` and ``predicted`` (N,) class numbers; ``of`` names the classes (empty: no F1 of its own for that
    class). Classes without a case are left out of the means. Intervals as :func:`threshold_statistic`.
    """
    which = np.arange(classes)[:, None]
    actual, called = truth == which, predicted == which  # (C, N)
    present, named = actual.any(axis=1), np.flatnonzero([bool(name) for name in of])
    cells = per_patient(codes, patients, *(actual & called), *called, *actual)
    sizes = [distinct(codes[rows]) for rows in actual]
    about = Column("", "", len(truth), distinct(codes), note=note)
    how = f"{note}; mean over the {int(present.sum())} classes present"
    overall = replace(about, effective=min((n for n in sizes if n), default=1), note=how)

    @cache
    def f1_of(i: int, level: float) -> Moved:
        return _f1(actual[i], called[i], codes, patients, level)

    columns = (
        replace(overall, metric="balanced accuracy",
                closed=cache(lambda level: mean_of(recalls(truth, predicted, codes, patients, level), PARTS))),
        replace(overall, metric="macro f1",
                closed=cache(lambda level: mean_of([f1_of(int(i), level) for i in np.flatnonzero(present)], PARTS))),
        *(replace(about, metric="f1", of=of[i], effective=sizes[i], reason="0 positives", closed=partial(f1_of, int(i)))
          for i in named),
    )  # fmt: skip

    def compute(sums: Floats) -> Floats:
        hit, flagged, positive = np.split(sums, 3, axis=1)  # (B, C) each
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = np.where(positive > 0, hit / positive, np.nan)
            f1s = np.where(positive > 0, 2 * hit / (flagged + positive), np.nan)
        return np.column_stack([mean_known(recall[:, present]), mean_known(f1s[:, present]), f1s[:, named]])

    return of_sums(columns, cells, compute)


def mean_known(values: Floats) -> Floats:
    """The mean along the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)


# -- predictive values where the disease is more or less common than among the cases that were tested -------------


#: Below so many in a cell (patients, where they repeat) the delta method is not to be trusted.
FEW = 5
#: The logarithm of a ratio that might as well be infinite.
FAR = 20.0


@checked
def at_prevalence(
    truth: ArrayLike,
    flagged: ArrayLike,
    prevalence: float,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
) -> list[Estimate]:
    """PPV and NPV at another prevalence, from sensitivity and specificity by Bayes' rule.

    ``truth`` and ``flagged`` (N,) 0/1, ``prevalence`` strictly between 0 and 1 (taken as known), ``patients``
    (N,) or None. Interval: delta method on the logit scale (Mercaldo, Lau & Zhou 2007), where patients repeat
    from sums by patient with Student's t. Where a cell of the table holds fewer than five it covers too little
    (.91), so there the likelihood ratio takes Koopman's score interval, with effective numbers by patient.
    Undefined for one class, or where no case of either class would be called so.

    >>> print(at_prevalence([1] * 50 + [0] * 50, [1] * 45 + [0] * 45 + [1] * 10, 0.1)[0])
    0.333 (0.222–0.467)
    """
    positive, called = zero_one(truth), zero_one(flagged, "flagged")
    require(positive.shape == called.shape, "truth and flagged must be equally long")
    require(0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    codes = patient_codes(patients, len(positive))
    count = distinct(codes)
    log_odds = math.log(prevalence / (1 - prevalence))
    how = f"at prevalence {prevalence:g}; Mercaldo 2007" + (", by patient" if count < len(positive) else "")
    found = []
    for metric, name, call, ill, prior in (
        ("ppv", "positive", called, positive, log_odds),
        ("npv", "negative", ~called, ~positive, -log_odds),
    ):
        if reason := one_class(positive) or ("" if call.any() else f"none called {name}"):
            found.append(undefined(metric, reason, of=of, images=len(positive), patients=count))
        else:
            value, low, high = (expit(prior + x) for x in _log_ratio(call, ill, codes, level))
            found.append(Estimate(metric, value, low, high, level, how, len(positive), count, of))
    return found


@checked
def likelihood_ratios(
    truth: ArrayLike,
    flagged: ArrayLike,
    patients: Patients = None,
    *,
    level: float = 0.95,
    of: str = "",
    note: str = "",
) -> list[Estimate]:
    """How many times likelier a call is among the diseased than among the others: LR+ of the flagged, LR− of the
    cleared.

    ``truth`` and ``flagged`` (N,) 0/1, ``patients`` (N,) or None; ``note`` begins each ``method``. Intervals as those
    of :func:`at_prevalence`, which multiplies them with the prior odds: the delta method on the logarithm (Simel, Samsa
    & Matchar 1991), by patient where they repeat, and Koopman's score interval (1984) where a cell holds fewer than
    five, which needs no half case added to an empty one. Without a false alarm LR+ is infinite, which is said with its
    lower bound. Undefined for one class, or where nobody is called so.

    >>> [str(e) for e in likelihood_ratios([1] * 50 + [0] * 50, [1] * 45 + [0] * 45 + [1] * 10)]
    ['4.500 (2.565–7.894)', '0.125 (0.054–0.290)']
    """
    positive, called = zero_one(truth), zero_one(flagged, "flagged")
    require(positive.shape == called.shape, "truth and flagged must be equally long")
    codes = patient_codes(patients, len(positive))
    count, found = distinct(codes), []
    for metric, call, name in (("lr+", called, "positive"), ("lr-", ~called, "negative")):
        reason = one_class(positive) or ("" if call.any() else f"none called {name}")
        value, low, high = (math.nan,) * 3 if reason else (_exp(x) for x in _log_ratio(call, positive, codes, level))
        if math.isinf(value):
            reason = f"infinite, as no case without the disease was called {name}; above {low:.3g} at {100 * level:g} %"
        if reason:
            found.append(undefined(metric, reason, of=of, images=len(positive), patients=count))
            continue
        how = ("Simel 1991" if _fills_cells(call, positive, count) else "Koopman 1984") + (
            ", by patient" if count < len(positive) else ""
        )
        how = f"{note}; {how}" if note else how
        found.append(Estimate(metric, value, low, high, level, how, len(positive), count, of))
    return found


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf


def _fills_cells(call: Booleans, ill: Booleans, patients: int) -> bool:
    """Whether each cell of the table holds enough cases for the delta method."""
    cells = [int(np.count_nonzero(a & b)) for a in (call, ~call) for b in (ill, ~ill)]
    return min(cells) * patients >= FEW * len(call)


def _log_ratio(call: Booleans, ill: Booleans, codes: Integers, level: float) -> tuple[float, float, float]:
    """The logarithm of a ``call``'s likelihood ratio with its limits: that of the posterior odds less the prior's."""
    right, wrong = call[ill], call[~ill]
    value = _log(right.mean()) - _log(wrong.mean())
    patients = distinct(codes)
    if _fills_cells(call, ill, patients):
        half = _half_width(call, ill, codes, level, patients)
        return value, value - half, value + half
    counts = _effective(right, codes[ill], level), _effective(wrong, codes[~ill], level)
    shares = float(right.mean()), float(wrong.mean())
    return value, *_koopman(shares, counts, normal_quantile(level), value)


def _log(share: float) -> float:
    return math.log(share) if share > 0 else -math.inf


def _half_width(call: Booleans, ill: Booleans, codes: Integers, level: float, patients: int) -> float:
    """Of the two logarithms' difference: each case adds its deviation over the share, summed by patient."""
    each = np.zeros(len(call))
    for rows, sign in ((ill, 1.0), (~ill, -1.0)):
        hits = call[rows]
        each[rows] = sign * (hits / hits.sum() - 1 / len(hits))
    if patients == len(call):  # Mercaldo, Lau & Zhou 2007
        return normal_quantile(level) * float(np.linalg.norm(each))
    kish = len(codes) ** 2 / float((np.bincount(codes) ** 2).sum())
    error = float(np.linalg.norm(np.bincount(codes, each))) * math.sqrt(kish / (kish - 1))
    return t_quantile(level, patient_freedom(codes)) * error


def _effective(good: Booleans, codes: Integers, level: float) -> float:
    """As many independent images as would be as uncertain, Student's t included."""
    patients = distinct(codes)
    if patients == len(good):
        return float(patients)
    if patients < 2:
        return 1.0
    count = float(patients) if good.all() or not good.any() else effective_images(good, codes)
    return max(1.0, count * t_shrinkage(level, patient_freedom(codes)))


def _koopman(shares: tuple[float, float], counts: tuple[float, float], z: float, value: float) -> tuple[float, float]:
    """The logarithms of the ratios that the data refuse at z: Koopman 1984."""
    of_ill, of_well = zip(shares, counts, strict=True)

    def excess(log_ratio: float) -> float:
        first, second = (of_ill, of_well) if log_ratio >= 0 else (of_well, of_ill)
        return _distance(*first, *second, math.exp(abs(log_ratio))) - z * z

    inside = min(FAR, max(-FAR, value))
    low = bisect(excess, -FAR, inside) if shares[0] else -math.inf
    return low, bisect(excess, FAR, inside) if shares[1] else math.inf


def _distance(share: float, m: float, other: float, n: float, ratio: float) -> float:
    """Pearson's χ² of two shares, of ``m`` and ``n`` cases, from the likeliest pair whose ``ratio`` (1 or more) is given.

    The larger share of that pair is 1 where all of the m are called and the ratio is large: there Koopman's equation
    (3.4), which divides by what the share lacks of 1, is left for the sum of the two terms that it was made of.
    """
    linear = m * (ratio + share) + n * (1 + other * ratio)
    called = m * share + n * other
    first = 2 * ratio * called / (linear + math.sqrt(max(0.0, linear**2 - 4 * (m + n) * ratio * called)))
    half, missed = linear / 2 - (m + n), m * (1 - share) * (ratio - 1)  # of the same quadratic in what is lacking
    root = math.hypot(half, math.sqrt((m + n) * missed))
    lacking = missed / (half + root) if half > 0 else (root - half) / (m + n)
    return _term(share - first, m, first, lacking) + _term(other - first / ratio, n, first / ratio, 1 - first / ratio)


def _term(away: float, count: float, share: float, lacking: float) -> float:
    """A term of χ²: how far a share is from the expected one, over its variance."""
    variance = share * lacking / count
    return away**2 / variance if variance > 0 else 0.0

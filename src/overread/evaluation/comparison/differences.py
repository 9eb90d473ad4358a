"""Every difference between two models: on the same cases, or on different patients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.comparison.paired_cases import Pair, PairedQuestion
from overread.evaluation.estimators import Estimator, Intervals, PairedEstimator, missing_difference
from overread.evaluation.metrics import METRICS, judge, shown
from overread.evaluation.questions import Question, Sample, ScoredCases, samples
from overread.evaluation.results import drawn
from overread.predictions import Predictions
from overread.stats.arrays import distinct, patient_codes
from overread.stats.decision import RULE, decision_curve, decision_difference
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.discrimination.roc import roc_curve
from overread.stats.estimate import Difference, Estimate, independent_difference
from overread.stats.resample import Statistic, Weights


def paired_differences(
    pair: Pair, asked: Sequence[PairedQuestion], inside: NDArray[np.bool_], how: Intervals
) -> list[Difference]:
    """Every difference on the rows where ``inside`` (N,) is true."""
    rows, local = np.flatnonzero(inside), np.full(len(inside), -1)
    local[rows] = patient_codes(pair.first.patients[rows], len(rows))
    patients = max(distinct(local[rows]) if len(rows) else 0, 1)
    kept = [q.only(inside) for q in asked]
    sides = [
        samples(facts, [getattr(q, which) for q in kept], local, patients, inside)
        for facts, which in zip(pair.facts, ("first", "second"))
    ]
    found: list[Difference] = []
    statistics: list[tuple[Statistic, ...]] = []
    for first, second in zip(*sides):
        a, b = _alike(first, second)
        for estimator, difference, names in _compared(a):
            if difference:
                found += difference(a, b, how)
            else:
                lost, pairs = _of_statistics(estimator, names, a, b, how)
                found += [_counted(d, local[rows]) for d in lost]
                statistics += pairs
    found += _bootstrapped(statistics, patients, len(rows), how)
    return in_order([_with_open_ends(d) for d in found], [q.of for q in asked])


def _alike(first: Sample, second: Sample) -> tuple[Sample, Sample]:
    """Both judged as the first is; nothing is ranked that one of them cannot rank."""
    if first.subject == "quantity":
        return first, second
    pairs = [_alike(a, b) for a, b in zip(first.questions, second.questions)]
    reason = first.undefined or second.undefined if first.subject == "question" else ""
    a, b = (replace(s, reason=reason, full=first.full, names=first.names) for s in (first, second))
    return replace(a, questions=tuple(p[0] for p in pairs)), replace(b, questions=tuple(p[1] for p in pairs))


def _compared(sample: Sample) -> list[tuple[Estimator, PairedEstimator | None, set[str]]]:
    """What is compared of a sample: each estimator, its paired form if there is one, and the metrics it is asked for."""
    fitting = [m for m in METRICS if m.fits(sample) and "comparison" in m.shown]
    each = list(dict.fromkeys((m.estimator, m.difference) for m in fitting if m.estimator))
    return [(e, d, {m.name for m in fitting if m.estimator is e}) for e, d in each]


def _of_statistics(
    estimator: Estimator, names: set[str], first: Sample, second: Sample, how: Intervals
) -> tuple[list[Difference], list[tuple[Statistic, ...]]]:
    """Metrics that one side lacks, and the pairs of statistics of the others."""
    a, b = (estimator(s, how).only(lambda metric, of: metric in names) for s in (first, second))
    lost = {(e.metric, e.of): e for e in (*b.estimates, *a.estimates)}
    a, b = (m.only(lambda metric, of: (metric, of) not in lost) for m in (a, b))
    differences = [
        missing_difference(e.metric, e.undefined, of=e.of, images=e.images, patients=e.patients) for e in lost.values()
    ]
    return differences, list(zip(a.statistics, b.statistics))


def _counted(lost: Difference, codes: NDArray[np.int64]) -> Difference:
    """What no question has is missing for all cases."""
    if lost.first.images:
        return lost
    patients = distinct(codes) if len(codes) else 0
    return missing_difference(
        lost.first.metric, lost.first.undefined, of=lost.first.of, images=len(codes), patients=patients
    )


def _bootstrapped(
    pairs: Sequence[tuple[Statistic, ...]], patients: int, images: int, how: Intervals
) -> list[Difference]:
    """All pairs of statistics from the same resamples; those that need none apart."""
    found: list[Difference] = []
    for closed in (True, False):
        alike = [pair for pair in pairs if all(s.closed for s in pair) == closed]
        if alike:
            first, second = (merged(side) for side in zip(*alike))
            found += bootstrap_difference(first, second, patients, images=images, level=how.level,
                                          resamples=how.resamples or None, seed=how.seed)  # fmt: skip
    return found


def merged(statistics: Sequence[Statistic]) -> Statistic:
    """Several statistics as one, which remembers its last answer: a difference asks for both sides again."""
    last: list[tuple[Weights, NDArray[np.float64]]] = []

    def compute(weights: Weights) -> NDArray[np.float64]:
        if not last or last[0][0] is not weights:
            last[:] = [(weights, np.column_stack([s.compute(weights) for s in statistics]))]
        return last[0][1]

    return Statistic(tuple(chain.from_iterable(s.columns for s in statistics)), compute)


def unpaired_differences(
    pair: Pair, asked: Sequence[PairedQuestion], inside: tuple[NDArray[np.bool_], NDArray[np.bool_]], how: Intervals
) -> list[Difference]:
    """Every difference between the rows of the first and those of the second, who are different patients."""
    sides = [
        _estimates(p, facts, [getattr(q, which) for q in asked], rows, how)
        for p, facts, which, rows in zip((pair.first, pair.second), pair.facts, ("first", "second"), inside)
    ]
    found = [
        independent_difference(replace(e, level=how.level), replace(sides[1][key], level=how.level))
        for key, e in sides[0].items()
        if key in sides[1]
    ]
    return in_order([_with_open_ends(d) for d in found], [q.of for q in asked])


def _estimates(
    test: Predictions, facts: ScoredCases, asked: list[Question], inside: NDArray[np.bool_], how: Intervals
) -> dict[tuple[str, str], Estimate]:
    codes, names = patient_codes(test.patients, len(test)), {m.name for m in shown("comparison")}
    return {(e.metric, e.of): e for e in judge(facts, asked, codes, inside, how) if e.metric in names}


def _with_open_ends(found: Difference) -> Difference:
    """A perfect correlation does not differ between resamples: better no interval than one without width."""
    return replace(found, first=_open(found.first), second=_open(found.second))


def _open(side: Estimate) -> Estimate:
    if side.metric not in _CORRELATIONS or not side.high - side.low < 1e-6:
        return side
    return replace(side, low=math.nan, high=math.nan, method="no interval: no resample differs")


_CORRELATIONS = {m.name for m in shown("comparison") if m.scale == "correlation"}


def in_order(found: list[Difference], names: Sequence[str]) -> list[Difference]:
    """By class as asked, then as the table of metrics ranks what is compared."""
    metric = {m.name: i for i, m in enumerate(shown("comparison"))}
    of = {n: i for i, n in enumerate(["", *names])}
    return sorted(found, key=lambda d: (of.get(d.first.of, len(of)), metric.get(d.first.metric, len(metric))))


# -- the two models' curves and scores as stored numbers: a figure only draws them --------------------------------


#: Cells of the scatter along each score.
CELLS = 20
UNPAIRED = "different patients: net benefit depends on how common the disease is in each table"


def contrast(q: PairedQuestion, paired: bool, codes: NDArray[np.int64], level: float) -> dict[str, Any]:
    """ROC curve and point of both, their net benefit, and how their scores lie to each other; ready for JSON.

    ``codes`` (N,) number the patients of the first table.
    """
    sides = {"first": _side(q.first), "second": _side(q.second)}
    if not paired:
        none = {"undefined": UNPAIRED}
        return {**sides, "decision": none, "scatter": {"undefined": "different patients"}}
    return {**sides, "decision": _decision(q, codes[q.first.rows], level), "scatter": _scatter(q)}


def _side(q: Question) -> dict[str, Any]:
    if q.undefined:
        return {"undefined": q.undefined}
    fpr, tpr, _ = roc_curve(q.truth, q.score)
    step = drawn(fpr, tpr)
    point: dict[str, Any] = {"undefined": q.no_calls}
    if not q.no_calls:
        rates = {name: float(q.flagged[rows].mean()) for name, rows in (("fpr", ~q.truth), ("tpr", q.truth))}
        point = {"threshold": q.threshold, "rule": q.rule, "frozen": q.frozen, **rates}
    return {"roc": {"fpr": fpr[step], "tpr": tpr[step]}, "point": point}


def _decision(q: PairedQuestion, codes: NDArray[np.int64], level: float) -> dict[str, Any]:
    truth, a, b = q.first.truth, q.first.score, q.second.score
    if why := q.undefined or q.first.no_chances or q.second.no_chances:
        return {"undefined": why}
    if not q.first.full:
        return {"undefined": "one class of several"}
    gap = decision_difference(truth, a, b, codes, level=level)
    first, second = (decision_curve(truth, side, codes, level=level) for side in (a, b))
    return {
        "threshold": gap.threshold,
        "difference": gap.net_benefit,
        "low": gap.low,
        "high": gap.high,
        "first": first.net_benefit,
        "second": second.net_benefit,
        "treat all": gap.treat_all,
        "method": gap.method,
        "rule": RULE,
        "images": gap.images,
        "patients": gap.patients,
    }


def _scatter(q: PairedQuestion) -> dict[str, Any]:
    """Counts of cases by both scores: (first, second), cells of equal width over their common range."""
    if q.undefined:
        return {"undefined": q.undefined}
    a, b, truth = q.first.score, q.second.score, q.first.truth
    low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, np.nextafter(low, np.inf)))
    edges = np.linspace(low, high, CELLS + 1)
    counts = [np.histogram2d(a[rows], b[rows], (edges, edges))[0].astype(int) for rows in (truth, ~truth)]
    return {"edges": edges, "positive": counts[0], "negative": counts[1]}

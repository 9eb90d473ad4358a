"""Every difference between two models: on the same cases, or on different patients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.comparison.pairing import Asked, Pair, not_finite
from overread.evaluation.estimators import Terms
from overread.evaluation.metrics import judge
from overread.evaluation.questions import LARGEST, Question, largest
from overread.evaluation.results import drawn
from overread.predictions import Predictions
from overread.stats.arrays import patient_codes
from overread.stats.calibration.reliability import why_uncalibrated
from overread.stats.classification import classes_statistic, threshold_statistic
from overread.stats.decision import RULE, decision_curve, decision_difference
from overread.stats.discrimination.delong import auc_difference, bootstrap_difference
from overread.stats.discrimination.partial_auc import partial_auc, partial_auc_difference
from overread.stats.discrimination.precision_recall import areas_statistic
from overread.stats.discrimination.roc import roc_curve
from overread.stats.estimate import Difference, Estimate, independent_difference, undefined, without
from overread.stats.proportions import paired_proportions, threshold_differences
from overread.stats.regression import METRICS as OF_QUANTITIES
from overread.stats.regression import errors_statistic, mcc_statistic
from overread.stats.resample import Statistic, Weights, mean_statistic

#: The range of specificity of the partial AUC.
PART = (0.8, 1.0)
PARTIAL = "standardised partial auc"
#: What is compared, in the order in which it is told.
ORDER = ("macro auc", "auc", PARTIAL, "average precision", "sensitivity", "specificity", "accuracy", "balanced accuracy",
         "mcc", "macro f1", "f1", "brier", *OF_QUANTITIES)  # fmt: skip
#: Metrics of which less is better.
LOWER = ("brier", "mae", "rmse")


@dataclass(frozen=True, eq=False)
class _Basket:
    """What is collected for one metric after the other: differences at once, pairs of statistics for the bootstrap."""

    people: int
    ready: list[Difference] = field(default_factory=list)
    pairs: list[tuple[Statistic, Statistic]] = field(default_factory=list)

    def lose(self, metrics: Sequence[str], why: str, codes: NDArray[np.int64], of: str = "") -> None:
        people = _people(codes)
        self.ready.extend(lost(m, why, of=of, images=len(codes), patients=people) for m in metrics)

    def both(self, make: Callable[[int], Statistic]) -> None:
        """The statistic of the first (0) and of the second (1)."""
        self.pairs.append((make(0), make(1)))


def lost(metric: str, why: str, *, of: str = "", images: int = 0, patients: int = 0) -> Difference:
    """A difference that does not exist, and its reason."""
    one, gap = (
        undefined(name, why, of=of, images=images, patients=patients) for name in (metric, f"{metric} difference")
    )
    return without(one, one, gap)


def paired_differences(pair: Pair, asked: Sequence[Asked], inside: NDArray[np.bool_], terms: Terms) -> list[Difference]:
    """Every difference on the rows where ``inside`` (N,) is true."""
    rows = np.flatnonzero(inside)
    local = np.full(len(inside), -1)
    local[rows] = patient_codes(pair.first.patients[rows], len(rows))
    basket = _Basket(max(_people(local[rows]), 1))
    kept = [q.only(inside) for q in asked]
    if pair.first.target.kind == "quantity":
        _quantity(basket, pair, rows, local)
    for q in kept:
        _directly(basket, q, local[q.first.rows], terms.level)
        _resampled(basket, q, local[q.first.rows])
    if kept and pair.first.target.kind != "binary":
        _macro(basket, [q for q in kept if not q.first.group], local)
    if pair.first.target.kind == "classes":
        _classes(basket, pair, rows[pair.first.truth[rows] >= 0], local, terms.level)
    found = basket.ready + _bootstrapped(basket, len(rows), terms)
    return in_order(_told(pair.first, found), [q.of for q in asked])


def _directly(basket: _Basket, q: Asked, codes: NDArray[np.int64], level: float) -> None:
    """Ranks by placements, calls by McNemar."""
    truth, (a, b) = q.first.truth, (q.first.score, q.second.score)
    basket.ready.append(auc_difference(truth, a, b, codes, level=level, of=q.of))
    if q.first.full:
        basket.ready.append(partial_auc_difference(truth, a, b, codes, specificity=PART, standardised=True,
                                                   level=level, of=q.of))  # fmt: skip
    if why := q.why_not_flagged:
        basket.lose(("sensitivity", "specificity", "accuracy"), why, codes, q.of)
        return
    at = threshold_differences(truth, q.first.flagged, q.second.flagged, codes, level=level, of=q.of)
    noted = [_noted(d, q) for d in at]
    basket.ready.extend(noted if q.first.full else noted[:2])


def _noted(found: Difference, q: Asked) -> Difference:
    notes = (q.first.rule, q.second.rule, q.rule)
    sides = (found.first, found.second, found.difference)
    first, second, gap = (replace(e, method=f"{note}; {e.method}") if e.method else e for note, e in zip(notes, sides))
    return replace(found, first=first, second=second, difference=gap)


def _resampled(basket: _Basket, q: Asked, codes: NDArray[np.int64]) -> None:
    """Average precision; where judged in full also F1, balanced accuracy, MCC and Brier score."""
    of, people, both = q.of, basket.people, (q.first, q.second)
    if why := q.why:
        basket.lose(("average precision",), why, codes, of)
    else:
        basket.both(lambda i: areas_statistic([both[i].truth], [both[i].score], [codes], (of,), macro=False))
    if not q.first.full:
        return
    truth = q.first.truth
    if why := q.why_not_flagged:
        basket.lose(("f1", "balanced accuracy", "mcc"), why, codes, of)
    else:
        basket.both(lambda i: threshold_statistic(truth, both[i].flagged, codes, people, of=of, note=both[i].rule))
        calls = truth.astype(np.int64), [side.flagged.astype(np.int64) for side in both]
        basket.both(lambda i: _mcc(calls[0], calls[1][i], codes, of, both[i].rule))
    if why := why_uncalibrated(truth, q.first.score) or why_uncalibrated(truth, q.second.score):
        basket.lose(("brier",), why, codes, of)
    else:
        basket.both(lambda i: mean_statistic("brier", (both[i].score - truth) ** 2, codes, people, of=of))


def _mcc(truth: NDArray[np.int64], said: NDArray[np.int64], codes: NDArray[np.int64], of: str, note: str) -> Statistic:
    """Of patients without a number here, who come last, it wants no weights."""
    made, count = mcc_statistic(truth, said, codes, of=of, note=note), int(codes.max()) + 1
    return replace(made, compute=lambda weights: made.compute(weights[:, :count]))


def _macro(basket: _Basket, asked: Sequence[Asked], local: NDArray[np.int64]) -> None:
    """Macro AUC over the questions that both models answer on both classes."""
    known, gone = [q for q in asked if not q.why], [q.of for q in asked if q.why]
    if not known:
        basket.lose(("macro auc",), "no class or finding has both answers", local[local >= 0])
        return
    note = f"mean over {len(known)}" + (f", without {', '.join(gone)}" if gone else "")
    names, codes = tuple(q.of for q in known), [local[q.first.rows] for q in known]
    sides = [[q.first for q in known], [q.second for q in known]]
    basket.both(
        lambda i: areas_statistic([q.truth for q in sides[i]], [q.score for q in sides[i]], codes, names,
                                  macro=True, each=False, note=note)
    )  # fmt: skip


def _classes(basket: _Basket, pair: Pair, rows: NDArray[np.int64], local: NDArray[np.int64], level: float) -> None:
    """Of the most probable class: accuracy, balanced accuracy, macro F1, MCC; and the Brier score over the classes."""
    truth, codes, people = pair.first.truth[rows], local[rows], basket.people
    scores, many = [p.scores[rows] for p in (pair.first, pair.second)], len(pair.first.target.names)
    if why := not_finite(*(s.ravel() for s in scores)):
        basket.lose(("accuracy", "balanced accuracy", "macro f1", "mcc", "brier"), why, codes)
        return
    said = [largest(p)[rows] for p in (pair.first, pair.second)]
    right = paired_proportions(said[0] == truth, said[1] == truth, codes, level=level, metric="accuracy")
    gap = replace(right.difference, method=f"{LARGEST}; {right.difference.method}")
    basket.ready.append(replace(right, difference=gap))
    nameless = ("",) * many
    basket.both(lambda i: classes_statistic(truth, said[i], many, codes, people, of=nameless, note=LARGEST))
    basket.both(lambda i: _mcc(truth, said[i], codes, "", LARGEST))
    if any(((s < 0) | (s > 1)).any() for s in scores):
        basket.lose(("brier",), "scores are not probabilities", codes)
        return
    is_class = np.eye(many)[truth]
    note = "summed over the classes"
    basket.both(lambda i: mean_statistic("brier", ((scores[i] - is_class) ** 2).sum(axis=1), codes, people, note=note))


def _quantity(basket: _Basket, pair: Pair, rows: NDArray[np.int64], local: NDArray[np.int64]) -> None:
    truth, name = pair.first.truth, pair.first.target.names[0]
    rows = rows[~np.isnan(truth[rows])]
    said, codes = [p.scores[rows, 0] for p in (pair.first, pair.second)], local[rows]
    if why := not_finite(truth[rows], *said):
        basket.lose(OF_QUANTITIES, why, codes, name)
    else:
        basket.both(lambda i: errors_statistic(truth[rows], said[i], codes, basket.people, of=name))


def _bootstrapped(basket: _Basket, images: int, terms: Terms) -> list[Difference]:
    """All pairs of statistics from the same resamples."""
    if not basket.pairs:
        return []
    first, second = (merged(side) for side in zip(*basket.pairs))
    return bootstrap_difference(first, second, basket.people, images=images, level=terms.level,
                                resamples=terms.resamples or None, seed=terms.seed)  # fmt: skip


def merged(statistics: Sequence[Statistic]) -> Statistic:
    """Several statistics as one, which remembers its last answer: a difference asks for both sides again."""
    last: list[tuple[Weights, NDArray[np.float64]]] = []

    def compute(weights: Weights) -> NDArray[np.float64]:
        if not last or last[0][0] is not weights:
            last[:] = [(weights, np.column_stack([s.compute(weights) for s in statistics]))]
        return last[0][1]

    return Statistic(tuple(chain.from_iterable(s.columns for s in statistics)), compute)


def unpaired_differences(
    pair: Pair, asked: Sequence[Asked], inside: tuple[NDArray[np.bool_], NDArray[np.bool_]], terms: Terms
) -> list[Difference]:
    """Every difference between the rows of the first and those of the second, who are different patients."""
    sides = [
        _estimates(p, [getattr(q, which) for q in asked], rows, terms)
        for p, which, rows in zip((pair.first, pair.second), ("first", "second"), inside)
    ]
    found = [
        independent_difference(*_levelled(e, sides[1][key], terms.level))
        for key, e in sides[0].items()
        if key in sides[1]
    ]
    return in_order(_told(pair.first, found), [q.of for q in asked])


def _estimates(
    test: Predictions, asked: list[Question], inside: NDArray[np.bool_], terms: Terms
) -> dict[tuple[str, str], Estimate]:
    codes = patient_codes(test.patients, len(test))
    found = [e for e in judge(test, asked, codes, inside, terms) if e.metric in ORDER and not e.where]
    for q in (q.only(inside) for q in asked if q.full):
        found.append(partial_auc(q.truth, q.score, codes[q.rows], specificity=PART, standardised=True,
                                 level=terms.level, of=q.of))  # fmt: skip
    return {(e.metric, e.of): e for e in found}


def _levelled(first: Estimate, second: Estimate, level: float) -> tuple[Estimate, Estimate]:
    """An undefined estimate says no level of its own."""
    return replace(first, level=level), replace(second, level=level)


def _told(test: Predictions, found: list[Difference]) -> list[Difference]:
    """Accuracy and balanced accuracy are the same for either class of two."""
    found = [replace(d, first=_open(d.first), second=_open(d.second)) for d in found]
    if test.target.kind != "binary":
        return found
    both = ("accuracy", "balanced accuracy", "mcc")
    return [relabelled(d, of="") if d.first.metric in both else d for d in found]


def _open(side: Estimate) -> Estimate:
    """A perfect correlation does not differ between resamples: better no interval than one without width."""
    if side.metric not in ("mcc", "pearson") or not side.high - side.low < 1e-6:
        return side
    return replace(side, low=math.nan, high=math.nan, method="no interval: no resample differs")


def relabelled(found: Difference, *, of: str | None = None, where: dict[str, str] | None = None) -> Difference:
    """The difference under another name, or of a subgroup."""
    first, second, gap = (
        replace(e, of=e.of if of is None else of, where=e.where if where is None else where)
        for e in (found.first, found.second, found.difference)
    )
    return replace(found, first=first, second=second, difference=gap)


def in_order(found: list[Difference], names: Sequence[str]) -> list[Difference]:
    """By class as asked, then as in :data:`ORDER`."""
    metric = {m: i for i, m in enumerate(ORDER)}
    of = {n: i for i, n in enumerate(["", *names])}
    return sorted(found, key=lambda d: (of.get(d.first.of, len(of)), metric.get(d.first.metric, len(metric))))


def _people(codes: NDArray[np.int64]) -> int:
    return int(np.unique(codes).size)


# -- the two models' curves and scores as stored numbers: a figure only draws them --------------------------------


#: Cells of the scatter along each score.
CELLS = 20
UNPAIRED = "different patients: net benefit depends on how common the disease is in each table"


def contrast(q: Asked, paired: bool, codes: NDArray[np.int64], level: float) -> dict[str, Any]:
    """ROC curve and point of both, their net benefit, and how their scores lie to each other; ready for JSON.

    ``codes`` (N,) number the patients of the first table.
    """
    sides = {"first": _side(q.first), "second": _side(q.second)}
    if not paired:
        none = {"undefined": UNPAIRED}
        return {**sides, "decision": none, "scatter": {"undefined": "different patients"}}
    return {**sides, "decision": _decision(q, codes[q.first.rows], level), "scatter": _scatter(q)}


def _side(q: Question) -> dict[str, Any]:
    if q.why:
        return {"undefined": q.why}
    fpr, tpr, _ = roc_curve(q.truth, q.score)
    step = drawn(fpr, tpr)
    return {
        "roc": {"fpr": fpr[step], "tpr": tpr[step]},
        "point": {
            "threshold": q.threshold,
            "rule": q.rule,
            "frozen": q.frozen,
            "fpr": float(q.flagged[~q.truth].mean()),
            "tpr": float(q.flagged[q.truth].mean()),
        },
    }


def _decision(q: Asked, codes: NDArray[np.int64], level: float) -> dict[str, Any]:
    truth, a, b = q.first.truth, q.first.score, q.second.score
    if why := q.why or why_uncalibrated(truth, a) or why_uncalibrated(truth, b):
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


def _scatter(q: Asked) -> dict[str, Any]:
    """Counts of cases by both scores: (first, second), cells of equal width over their common range."""
    if q.why:
        return {"undefined": q.why}
    a, b, truth = q.first.score, q.second.score, q.first.truth
    low, high = float(min(a.min(), b.min())), float(max(a.max(), b.max()))
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, np.nextafter(low, np.inf)))
    edges = np.linspace(low, high, CELLS + 1)
    counts = [np.histogram2d(a[rows], b[rows], (edges, edges))[0].astype(int) for rows in (truth, ~truth)]
    return {"edges": edges, "positive": counts[0], "negative": counts[1]}

"""The numbers of each way through a reading room, and what it changes against another, by patient."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked
from overread.evaluation.workflow.paths import Reading, Route
from overread.stats.arrays import distinct, normal_quantile, patient_codes, why_undefined
from overread.stats.classification import at_threshold
from overread.stats.decision_counts import flagged_at
from overread.stats.difference import Difference, without
from overread.stats.estimate import Estimate, undefined
from overread.stats.mcnemar import paired_proportions
from overread.stats.paired import bootstrap_difference
from overread.stats.resample import Column, Scale, Statistic, Weights, bootstrap, per_patient, resamples_for
from overread.stats.roc import auc

#: Points of a stored curve, at most.
POINTS = 200
#: From this many rows on fewer resamples are drawn: the intervals are narrow anyway.
LARGE, RESAMPLES = 200_000, 100
_RATES = ("reads per case", "called positive")


@dataclass(frozen=True)
class Terms:
    """How numbers are made; ``costs`` of a read, a miss and a false alarm."""

    level: float
    seed: int
    resamples: int | None
    prevalence: float | None
    costs: tuple[float, float, float] | None
    of: str

    def many(self, rows: int) -> int:
        return self.resamples or (RESAMPLES if rows > LARGE else resamples_for(rows))


@checked
def metrics_of(terms: Terms) -> tuple[str, ...]:
    """The metrics of every way."""
    return ("sensitivity", "specificity", *_RATES, *(("cost per case",) if terms.costs else ()))


@checked
def judged(reading: Reading, way: Route, terms: Terms) -> list[Estimate]:
    """Sensitivity, specificity and the rates of one way."""
    rows = way.known
    truth, codes = reading.truth[rows], patient_codes(reading.codes[rows], int(rows.sum()))
    shares = at_threshold(truth, way.called[rows], codes, level=terms.level, of=terms.of)[:2]
    people = int(codes.max()) + 1
    rates = bootstrap(
        [_rates(reading, way, rows, codes, terms)],
        people,
        images=len(truth),
        level=terms.level,
        resamples=terms.many(len(truth)),
        seed=terms.seed,
    )
    return [*shares, *(_by_design(e, way.reads[rows]) if e.metric == "reads per case" else e for e in rates)]


def _by_design(e: Estimate, reads: NDArray[np.float64]) -> Estimate:
    if len(np.unique(reads)) > 1 or e.undefined:
        return e
    return replace(e, low=math.nan, high=math.nan, method="the same for every case, by design")


def _rates(
    reading: Reading, way: Route, rows: NDArray[np.bool_], codes: NDArray[np.int64], terms: Terms
) -> Statistic:
    """Reads per case, share called positive and cost per case, at the prevalence asked for."""
    truth, called, reads = reading.truth[rows], way.called[rows], way.reads[rows]
    values = [reads, called.astype(np.float64)]
    if terms.costs:
        read, miss, alarm = terms.costs
        values.append(read * reads + miss * (truth & ~called) + alarm * (~truth & called))
    people = int(codes.max()) + 1
    cells = np.stack(
        [per_patient(codes, people, side * 1.0, *(v * side for v in values)) for side in (truth, ~truth)]
    )
    note = "" if terms.prevalence is None else f"at a prevalence of {terms.prevalence:g}"
    about = Column("", terms.of, len(truth), distinct(codes), note=note, why="no cases of one class")
    scales: dict[str, Scale] = {
        "reads per case": "positive",
        "called positive": "share",
        "cost per case": "positive",
    }
    columns = tuple(
        replace(about, metric=m, scale=scales[m], effective=about.patients) for m in metrics_of(terms)[2:]
    )

    def compute(weights: Weights) -> NDArray[np.float64]:
        ill, well = (weights @ cell for cell in cells)  # (B, 1 + K) each
        with np.errstate(invalid="ignore", divide="ignore"):
            if terms.prevalence is None:
                return (ill[:, 1:] + well[:, 1:]) / (ill[:, :1] + well[:, :1])
            share = terms.prevalence
            return share * ill[:, 1:] / ill[:, :1] + (1 - share) * well[:, 1:] / well[:, :1]

    return Statistic(columns, compute)


@checked
def apart(reading: Reading, way: Route, other: Route, terms: Terms) -> list[Difference]:
    """``way`` minus ``other`` on the rows where both can be followed."""
    rows = way.known & other.known
    truth, codes = reading.truth[rows], patient_codes(reading.codes[rows], int(rows.sum()))
    found = []
    for metric, among in (("sensitivity", truth), ("specificity", ~truth)):
        first, second = ((w.called[rows] == truth)[among] for w in (way, other))
        pair = paired_proportions(first, second, codes[among], level=terms.level, metric=metric, of=terms.of)
        why = f"0 {'positives' if metric == 'sensitivity' else 'negatives'}"
        found.append(
            pair if among.any() else replace(pair, difference=replace(pair.difference, undefined=why))
        )
    many = len(truth)
    rates = bootstrap_difference(
        _rates(reading, way, rows, codes, terms),
        _rates(reading, other, rows, codes, terms),
        int(codes.max()) + 1,
        images=many,
        level=terms.level,
        resamples=terms.many(many),
        seed=terms.seed,
    )
    steady = len(np.unique((way.reads - other.reads)[rows])) == 1
    return [*found, *(_fixed(d) if steady and d.first.metric == "reads per case" else d for d in rates)]


def _fixed(d: Difference) -> Difference:
    value = replace(d.difference, low=math.nan, high=math.nan, method="the same for every case, by design")
    return without(d.first, d.second, value)


@checked
def triage_curve(reading: Reading, threshold: float, terms: Terms, bad: int) -> dict[str, Any]:
    """Sensitivity of model and reader against the share of cases read, over triage thresholds."""
    if bad:
        return {"undefined": f"{bad} of {len(reading)} scores are not finite"}
    if why := why_undefined(reading.truth, reading.score):
        return {"undefined": why}
    at = np.unique(np.quantile(reading.score, np.linspace(0, 1, POINTS - 1), method="lower"))
    codes = reading.codes if distinct(reading.codes) < len(reading) else None
    path = np.where(reading.first, reading.score, -np.inf)
    found, alone = (
        flagged_at(reading.truth, [s], at, codes, by_class=True, level=terms.level)
        for s in (path, reading.score)
    )
    low, high = found.limits(normal_quantile(terms.level), paired=False)
    share = float(reading.truth.mean()) if terms.prevalence is None else terms.prevalence
    reader = reading.first[reading.truth].mean(), 1 - reading.first[~reading.truth].mean()
    return {
        "threshold": at,
        "read": share * alone.share[0] + (1 - share) * alone.share[1],
        "sensitivity": found.share[0],
        "low": low[0],
        "high": high[0],
        "specificity": 1 - found.share[1],
        "kept": alone.share[0],
        "reader": {"sensitivity": reader[0], "specificity": reader[1]},
        "point": {
            "threshold": threshold,
            "read": float(
                share * reading.held[reading.truth].mean() + (1 - share) * reading.held[~reading.truth].mean()
            ),
            "sensitivity": float((reading.first & reading.held)[reading.truth].mean()),
        },
        "prevalence": share,
        "level": terms.level,
        "method": "Wilson" + ("" if codes is None else ", ratio estimator by patient"),
    }


@checked
def worklist(
    truth: NDArray[np.bool_], score: NDArray[np.float64], codes: NDArray[np.int64], terms: Terms
) -> list[Estimate]:
    """Where positives stand in a list sorted by the score: the mean share of the list before them; ½ as they come.

    The positives stand among themselves, (π/2), and behind a share 1 − AUC of the negatives.
    """
    area = auc(truth, score, codes, level=terms.level, of=terms.of)
    name = "place in the worklist"
    if area.undefined:
        return [undefined(name, area.undefined, of=terms.of, images=area.images, patients=area.patients)]
    share = float(truth.mean()) if terms.prevalence is None else terms.prevalence
    value, high, low = (share / 2 + (1 - share) * (1 - a) for a in (area.value, area.low, area.high))
    how = f"mean share of the list before a positive, sorted by score; .5 if read as they come; {area.method}"
    return [Estimate(name, value, low, high, terms.level, how, area.images, area.patients, terms.of)]

"""The two models' curves and scores as stored numbers: a figure only draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.comparing.asking import Asked
from overread.evaluation.judging.judge import Question
from overread.evaluation.stored import drawn
from overread.stats.calibration import why_uncalibrated
from overread.stats.decision import RULE, decision_curve, decision_difference
from overread.stats.roc import roc_curve

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

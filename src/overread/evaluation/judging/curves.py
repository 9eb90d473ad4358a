"""Curves as stored numbers: a figure only draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.judging.judge import Question, Terms
from overread.evaluation.judging.region import point_region
from overread.stats.calibration import Reliability, reliability, why_uncalibrated
from overread.stats.decision import decision_curve
from overread.stats.precision_recall import precision_recall_curve
from overread.stats.roc import roc_curve

#: Points of a stored curve, at most.
POINTS = 500
#: Bars of a score histogram.
BARS = 20


def curves_of(
    q: Question, codes: NDArray[np.int64], terms: Terms
) -> tuple[dict[str, Any], Reliability | None]:
    """ROC, precision–recall, calibration, score histogram and operating point of a question, ready for JSON.

    Also the reliability diagram whose null draws give "ece if calibrated"; None for scores that are no
    probabilities.
    """
    if q.why:
        return {"undefined": q.why}, None
    fpr, tpr, thresholds = roc_curve(q.truth, q.score)
    recall, precision, _ = precision_recall_curve(q.truth, q.score)
    step, down = _thin(_corners(fpr, tpr)), _thin(np.arange(len(recall)))
    diagram = None
    if not why_uncalibrated(q.truth, q.score):
        diagram = reliability(
            q.truth,
            q.score,
            codes[q.rows],
            level=terms.level,
            seed=terms.seed,
            resamples=terms.resamples or None,
        )
    return {
        "roc": {"fpr": fpr[step], "tpr": tpr[step], "threshold": thresholds[step]},
        "pr": {
            "recall": np.r_[0.0, recall[down]],
            "precision": np.r_[precision[0], precision[down]],
            "prevalence": float(q.truth.mean()),
        },
        "calibration": _diagram(diagram) if diagram else {"undefined": why_uncalibrated(q.truth, q.score)},
        "scores": _histogram(q),
        "point": _point(q) | {"region": point_region(q.truth, q.flagged, codes[q.rows], level=terms.level)},
        "decision": _decision(q, codes[q.rows], terms),
    }, diagram


def _decision(q: Question, codes: NDArray[np.int64], terms: Terms) -> dict[str, Any]:
    c = decision_curve(q.truth, q.score, codes, prevalence=terms.prevalence, level=terms.level)
    if c.undefined:
        return {"undefined": c.undefined}
    found = {
        "threshold": c.threshold,
        "net benefit": c.net_benefit,
        "low": c.low,
        "high": c.high,
        "treat all": c.treat_all,
        "treat all low": c.treat_all_low,
        "treat all high": c.treat_all_high,
        "rule": "treat where risk ≥ t",
        "level": c.level,
        "method": c.method,
    }
    return found if terms.prevalence is None else found | {"prevalence": terms.prevalence}


def _corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions where a curve turns: points on a straight run are not needed to draw it."""
    turn = np.abs(np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(x)[1:] * np.diff(y)[:-1]) > 1e-15
    return np.flatnonzero(np.concatenate(([True], turn, [True])))


def _thin(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[
        np.unique(np.linspace(0, len(positions) - 1, min(len(positions), POINTS - 1)).round().astype(int))
    ]


def _diagram(d: Reliability) -> dict[str, Any]:
    return {
        "edges": d.edges,
        "predicted": d.predicted,
        "observed": d.observed,
        "low": d.low,
        "high": d.high,
        "count": d.count,
        "null low": d.null_low,
        "null high": d.null_high,
    }


def _histogram(q: Question) -> dict[str, Any]:
    low, high = float(q.score.min()), float(q.score.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    edges = np.linspace(low, high, BARS + 1)
    counts = [np.histogram(q.score[rows], edges)[0] for rows in (q.truth, ~q.truth)]
    return {"edges": edges, "positive": counts[0], "negative": counts[1]}


def counts_of(q: Question) -> list[list[int]]:
    """[[true negative, false positive], [false negative, true positive]]."""
    return [
        [int((~q.truth & ~q.flagged).sum()), int((~q.truth & q.flagged).sum())],
        [int((q.truth & ~q.flagged).sum()), int((q.truth & q.flagged).sum())],
    ]


def _point(q: Question) -> dict[str, Any]:
    (spared, alarm), (missed, hit) = counts_of(q)
    flagged = hit + alarm
    return {
        "threshold": q.threshold,
        "rule": q.rule,
        "frozen": q.frozen,
        "sensitivity": hit / (hit + missed),
        "specificity": spared / (spared + alarm),
        "fpr": alarm / (spared + alarm),
        "tpr": hit / (hit + missed),
        "recall": hit / (hit + missed),
        "precision": hit / flagged if flagged else None,
        "confusion": [[spared, alarm], [missed, hit]],
    }

"""Curves as stored numbers: a figure only draws them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.evaluation.estimators import Intervals, influence_correlation, influence_on_share
from overread.evaluation.questions import Question
from overread.stats.arrays import distinct, zero_one
from overread.stats.calibration.reliability import Reliability, reliability, why_uncalibrated
from overread.stats.decision import decision_curve
from overread.stats.discrimination.roc import precision_recall_curve, roc_curve
from overread.stats.proportions import effective_images, wilson_limits

#: Points of a stored curve, at most.
POINTS = 500
#: Bars of a score histogram.
BARS = 20


def curves_of(q: Question, codes: NDArray[np.int64], how: Intervals) -> tuple[dict[str, Any], Reliability | None]:
    """ROC, precision–recall, calibration, score histogram and operating point of a question, ready for JSON.

    Also the reliability diagram whose null draws give "ece if calibrated"; None for scores that are no probabilities.
    """
    if q.undefined:
        return {"undefined": q.undefined}, None
    fpr, tpr, thresholds = roc_curve(q.truth, q.score)
    recall, precision, _ = precision_recall_curve(q.truth, q.score)
    step, down = _thin(_corners(fpr, tpr)), _thin(np.arange(len(recall)))
    diagram = None
    if not why_uncalibrated(q.truth, q.score):
        diagram = reliability(
            q.truth, q.score, codes[q.rows], level=how.level, seed=how.seed, resamples=how.resamples or None
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
        "point": _point(q) | {"region": point_region(q.truth, q.flagged, codes[q.rows], level=how.level)},
        "decision": _decision(q, codes[q.rows], how),
    }, diagram


def _decision(q: Question, codes: NDArray[np.int64], how: Intervals) -> dict[str, Any]:
    c = decision_curve(q.truth, q.score, codes, prevalence=how.prevalence, level=how.level)
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
    return found if how.prevalence is None else found | {"prevalence": how.prevalence}


def _corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions where a curve turns: points on a straight run are not needed to draw it."""
    turn = np.abs(np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(x)[1:] * np.diff(y)[:-1]) > 1e-15
    return np.flatnonzero(np.concatenate(([True], turn, [True])))


def _thin(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[np.unique(np.linspace(0, len(positions) - 1, min(len(positions), POINTS - 1)).round().astype(int))]


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


# -- the joint confidence region of an operating point: sensitivity and specificity together ----------------------


#: Corners of the polygon.
CORNERS = 96
#: Patients of either class, at least, where patients repeat.
LEAST = 4


@checked
def point_region(
    truth: NDArray[np.bool_], flagged: NDArray[np.bool_], codes: NDArray[np.int64], *, level: float = 0.95
) -> dict[str, Any]:
    """The pairs (1 − specificity, sensitivity) that the data do not refuse, as a closed polygon ``fpr``, ``tpr``.

    ``truth`` and ``flagged`` (N,), ``codes`` (N,) of the patients. The joint score region: both distances from the
    point, each over the standard error that it would have at the corner (Wilson 1927), lie in the χ² ellipse with two
    degrees of freedom, so that it stays in the unit square and has a width also at a sensitivity of 1. Where patients
    repeat: effective numbers from the ratio estimator's variance, the correlation of patients with both answers, and
    Hotelling's T² for few patients. ``{"undefined": why}`` for one class, or fewer than four patients of one.
    """
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    ill = zero_one(truth)
    people = distinct(codes[ill]), distinct(codes[~ill])
    clustered = distinct(codes) < len(ill)
    if not min(people):
        return {"undefined": "0 positives" if not people[0] else "0 negatives"}
    if clustered and min(people) < LEAST:
        return {"undefined": f"fewer than {LEAST} patients of a class"}
    sides = [_side(flagged[ill], codes[ill], clustered), _side(flagged[~ill], codes[~ill], clustered)]
    shared = (
        influence_correlation(
            influence_on_share(flagged[ill], codes[ill]), influence_on_share(flagged[~ill], codes[~ill])
        )
        if clustered
        else 0.0
    )
    angle = np.linspace(0, 2 * math.pi, CORNERS + 1)
    radius = math.sqrt(_radius2(level, distinct(codes) if clustered else 0))
    up, right = np.cos(angle), shared * np.cos(angle) + math.sqrt(1 - shared**2) * np.sin(angle)
    (tpr, fpr) = (_corner(*side, radius * z) for side, z in zip(sides, (up, right)))
    how = "joint score region" + (", by patient, Hotelling" if clustered else ", χ² with two degrees of freedom")
    return {"fpr": fpr, "tpr": tpr, "level": level, "method": how}


def _side(called: NDArray[np.bool_], codes: NDArray[np.int64], clustered: bool) -> tuple[float, float]:
    """The share called positive, and of how many independent images."""
    share, people = float(called.mean()), distinct(codes)
    if not clustered or people == len(called):
        return share, float(len(called))
    return share, float(people) if share in (0.0, 1.0) else max(1.0, effective_images(called, codes))


def _radius2(level: float, patients: int) -> float:
    """The squared radius: χ² with 2 degrees of freedom; of few patients 2(k−1)/(k−2) times F with 2 and k−2."""
    tail = 1 - level
    if not patients:
        return -2 * math.log(tail)
    free = patients - 2
    return (patients - 1) * (tail ** (-2 / free) - 1)  # F's quantile in closed form, twice over


def _corner(share: float, count: float, z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The true share from which ``share`` would lie z standard errors, below it where z < 0."""
    low, high = wilson_limits(np.full_like(z, share), np.full_like(z, count), np.abs(z))  # a z for each corner
    return np.clip(np.where(z < 0, low, high), 0.0, 1.0)

"""Curves as stored numbers: a figure only draws them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.evaluation.estimators import Intervals
from overread.evaluation.group_values import influence_on_share
from overread.evaluation.questions import Question, ScoredCases
from overread.evaluation.results import Content
from overread.stats.arrays import distinct, zero_one
from overread.stats.calibration.reliability import Reliability, reliability
from overread.stats.calibration.smooth_curve import smooth_curve
from overread.stats.classification import confusion
from overread.stats.decision import decision_curve
from overread.stats.discrimination.roc import precision_recall_curve, roc_curve
from overread.stats.estimate import influence_correlation
from overread.stats.proportions import effective_images, wilson_limits

#: Points of a stored curve, at most.
POINTS = 500
#: Bars of a score histogram.
BARS = 20


Numbers = tuple[float, ...]


@dataclass(frozen=True)
class RocCurve(Content):
    """Sensitivity ``tpr`` against false alarms ``fpr``, (P,) each; the first ``threshold`` is NaN: nobody is flagged."""

    fpr: Numbers = ()
    tpr: Numbers = ()
    threshold: Numbers | None = None


@dataclass(frozen=True)
class PrecisionRecallCurve(Content):
    """``precision`` against ``recall``, (P,) each; ``prevalence`` is the precision without skill."""

    recall: Numbers = ()
    precision: Numbers = ()
    prevalence: float = 0.0


@dataclass(frozen=True)
class ReliabilityDiagram(Content):
    """As :class:`~overread.stats.calibration.reliability.Reliability`, (B,) each, of B bins that are not empty."""

    edges: Numbers = ()
    predicted: Numbers = ()
    observed: Numbers = ()
    low: Numbers = ()
    high: Numbers = ()
    count: tuple[int, ...] = ()
    null_low: Numbers = ()
    null_high: Numbers = ()


@dataclass(frozen=True)
class SmoothCalibration(Content):
    """As :class:`~overread.stats.calibration.smooth_curve.SmoothCurve`, (P,) each."""

    predicted: Numbers = ()
    observed: Numbers = ()
    low: Numbers = ()
    high: Numbers = ()
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True)
class ScoreHistogram(Content):
    """Images with (``positive``) and without the disease between ``edges`` of the score, (B,) and (B + 1,)."""

    edges: Numbers = ()
    positive: tuple[int, ...] = ()
    negative: tuple[int, ...] = ()


@dataclass(frozen=True)
class Region(Content):
    """The joint confidence region of a point as a closed polygon."""

    fpr: Numbers = ()
    tpr: Numbers = ()
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True)
class Point(Content):
    """An operating point on the judged images. ``confusion``: rows for the truth, the negative first.

    ``frozen``: whether it was chosen on tuning data. NaN: ``threshold`` where the most probable class counts,
    ``precision`` where nobody is flagged.
    """

    threshold: float = 0.0
    rule: str = ""
    frozen: bool = False
    sensitivity: float = 0.0
    specificity: float = 0.0
    fpr: float = 0.0
    tpr: float = 0.0
    recall: float = 0.0
    precision: float = 0.0
    confusion: tuple[tuple[int, ...], ...] = ()
    region: Region = Region()


@dataclass(frozen=True)
class DecisionCurve(Content):
    """Net benefit at each risk ``threshold``, (T,) each, with intervals; of treating all too."""

    threshold: Numbers = ()
    net_benefit: Numbers = ()
    low: Numbers = ()
    high: Numbers = ()
    treat_all: Numbers = ()
    treat_all_low: Numbers = ()
    treat_all_high: Numbers = ()
    rule: str = "treat where risk ≥ t"
    level: float = 0.95
    method: str = ""
    prevalence: float | None = None


@dataclass(frozen=True)
class Curves(Content):
    """All that is drawn of one yes-or-no question."""

    roc: RocCurve = RocCurve()
    pr: PrecisionRecallCurve = PrecisionRecallCurve()
    calibration: ReliabilityDiagram = ReliabilityDiagram()
    scores: ScoreHistogram = ScoreHistogram()
    point: Point = Point()
    decision: DecisionCurve = DecisionCurve()
    smooth: SmoothCalibration = SmoothCalibration()


@dataclass(frozen=True)
class Range(Content):
    """A value with its interval; NaN where there is none."""

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class ReaderPoint(Content):
    """Where a reader, or a model at its threshold, stands on a ROC curve."""

    reader: str = ""
    sensitivity: Range = Range()
    specificity: Range = Range()


@dataclass(frozen=True)
class SetCoverage(Content):
    """How often sets of answers hold the truth in a ``group``, and how large they are; ``of``: the finding."""

    of: str = ""
    group: str = ""
    coverage: Range = Range()
    size: float = math.nan
    patients: int = 0


@dataclass(frozen=True)
class ConformalCoverage(Content):
    """What sets made on tuning data, to hold the truth of a share ``level`` of new images, hold of the test images."""

    level: float = 0.9
    groups: tuple[SetCoverage, ...] = ()


@dataclass(frozen=True)
class AbstentionCurve(Content):
    """Errors (``risk``) among the share ``coverage`` of cases of which a model is surest, (T,) each."""

    coverage: Numbers = ()
    risk: Numbers = ()
    low: Numbers = ()
    high: Numbers = ()
    threshold: Numbers = ()
    level: float = 0.95
    method: str = ""


# -- made of a question ---------------------------------------------------------------------------------------------


def curves_of(q: Question, codes: NDArray[np.int64], how: Intervals) -> tuple[Curves, Reliability | None]:
    """ROC, precision–recall, calibration, score histogram, operating point and net benefit of a question.

    Also the reliability diagram whose null draws give "ece if calibrated"; None for scores that are no probabilities.
    """
    if q.undefined:
        return Curves(undefined=q.undefined), None
    fpr, tpr, thresholds = roc_curve(q.truth, q.score)
    recall, precision, _ = precision_recall_curve(q.truth, q.score)
    step, down = _thin(_corners(fpr, tpr)), _thin(np.arange(len(recall)))
    reason, diagram = q.no_chances, None
    if not reason:
        diagram = reliability(
            q.truth, q.score, codes[q.rows], level=how.level, seed=how.seed, resamples=how.resamples or None
        )
    found = Curves(
        RocCurve(_numbers(fpr[step]), _numbers(tpr[step]), _numbers(np.where(np.isinf(thresholds), math.nan, thresholds)[step])),
        PrecisionRecallCurve((0.0, *_numbers(recall[down])), (float(precision[0]), *_numbers(precision[down])), float(q.truth.mean())),
        ReliabilityDiagram.from_found(diagram) if diagram else ReliabilityDiagram(undefined=reason),
        _histogram(q),
        _point(q, codes[q.rows], how.level),
        _decision(q, codes[q.rows], how),
        _smooth(q, codes[q.rows], how),
    )  # fmt: skip
    return found, diagram


def _numbers(x: NDArray[Any]) -> tuple[Any, ...]:
    return tuple(x.tolist())


def _decision(q: Question, codes: NDArray[np.int64], how: Intervals) -> DecisionCurve:
    if q.no_chances:
        return DecisionCurve(undefined=q.no_chances)
    found = decision_curve(q.truth, q.score, codes, prevalence=how.prevalence, level=how.level)
    return DecisionCurve.from_found(found, prevalence=how.prevalence)


def _smooth(q: Question, codes: NDArray[np.int64], how: Intervals) -> SmoothCalibration:
    if q.no_chances or not q.full:
        return SmoothCalibration(undefined=q.no_chances or "one class of several")
    return SmoothCalibration.from_found(smooth_curve(q.truth, q.score, codes, level=how.level))


def _corners(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Positions where a curve turns: points on a straight run are not needed to draw it."""
    turn = np.abs(np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(x)[1:] * np.diff(y)[:-1]) > 1e-15
    return np.flatnonzero(np.concatenate(([True], turn, [True])))


def _thin(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[np.unique(np.linspace(0, len(positions) - 1, min(len(positions), POINTS - 1)).round().astype(int))]


def _histogram(q: Question) -> ScoreHistogram:
    low, high = float(q.score.min()), float(q.score.max())
    if low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    edges = np.linspace(low, high, BARS + 1)
    counts = [_numbers(np.histogram(q.score[rows], edges)[0]) for rows in (q.truth, ~q.truth)]
    return ScoreHistogram(_numbers(edges), *counts)


def counts_of(q: Question) -> tuple[tuple[int, int], tuple[int, int]]:
    """((true negative, false positive), (false negative, true positive))."""
    truth, flagged = q.truth, q.flagged
    return (
        (int((~truth & ~flagged).sum()), int((~truth & flagged).sum())),
        (int((truth & ~flagged).sum()), int((truth & flagged).sum())),
    )


def _point(q: Question, codes: NDArray[np.int64], level: float) -> Point:
    if q.no_calls:
        return Point(undefined=q.no_calls)
    counts = counts_of(q)
    (spared, alarm), (missed, hit) = counts
    sensitivity, specificity = hit / (hit + missed), spared / (spared + alarm)
    false_alarms, precision = alarm / (spared + alarm), hit / (hit + alarm) if hit + alarm else math.nan
    threshold = math.nan if q.threshold is None else q.threshold
    return Point(threshold, q.rule, q.frozen, sensitivity, specificity, false_alarms, sensitivity, sensitivity,
                 precision, counts, point_region(q.truth, q.flagged, codes, level=level))  # fmt: skip


# -- the joint confidence region of an operating point: sensitivity and specificity together ----------------------


#: Corners of the polygon.
CORNERS = 96
#: Patients of either class, at least, where patients repeat.
LEAST = 4


@checked
def point_region(
    truth: NDArray[np.bool_], flagged: NDArray[np.bool_], codes: NDArray[np.int64], *, level: float = 0.95
) -> Region:
    """The pairs (1 − specificity, sensitivity) that the data do not refuse, as a closed polygon ``fpr``, ``tpr``.

    ``truth`` and ``flagged`` (N,), ``codes`` (N,) of the patients. The joint score region: both distances from the
    point, each over the standard error that it would have at the corner (Wilson 1927), lie in the χ² ellipse with two
    degrees of freedom, so that it stays in the unit square and has a width also at a sensitivity of 1. Where patients
    repeat: effective numbers from the ratio estimator's variance, the correlation of patients with both answers, and
    Hotelling's T² for few patients. Undefined for one class, or fewer than four patients of one.
    """
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    ill = zero_one(truth)
    people = distinct(codes[ill]), distinct(codes[~ill])
    clustered = distinct(codes) < len(ill)
    if not min(people):
        return Region(undefined="0 positives" if not people[0] else "0 negatives")
    if clustered and min(people) < LEAST:
        return Region(undefined=f"fewer than {LEAST} patients of a class")
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
    return Region(_numbers(fpr), _numbers(tpr), level, how)


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


# -- calls and numbers case by case: the confusion matrix, the scatter of a quantity --------------------------------


@dataclass(frozen=True)
class Confusion:
    """``counts`` of calls, a row for each true label; ``rule``: what made them."""

    labels: tuple[str, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    rows: str = "truth"
    rule: str = ""


@dataclass(frozen=True)
class Scatter(Content):
    """Pairs of a quantity, (N,) each."""

    truth: Numbers = ()
    predicted: Numbers = ()


@checked
def confusion_of(test: ScoredCases, asked: list[Question]) -> Confusion:
    """Counts with rows for the truth, of the class called or at the threshold; empty for other targets."""
    names = test.target.names
    if not test.target.task.exclusive:
        return Confusion()
    if len(names) > 2:
        rows = np.flatnonzero(test.known)
        counts = confusion(test.truth[rows], test.called[rows], len(names)).tolist()
        return Confusion(names, tuple(map(tuple, counts)), rule=test.rule)
    q = asked[0]
    last = tuple(sorted(names, key=lambda name: name == q.of))  # the positive one
    return Confusion() if q.no_calls else Confusion(last, counts_of(q), rule=q.rule)


@checked
def scatter_of(test: ScoredCases) -> Scatter:
    """Up to 2,000 pairs of a quantity."""
    if not test.target.task.continuous:
        return Scatter()
    rows = np.flatnonzero(test.known)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(int))]
    return Scatter(tuple(test.truth[rows].tolist()), tuple(test.scores[rows, 0].tolist()))

"""From predictions to questions with a yes or no, and from questions to estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.errors import require
from overread.evaluation.operating import OperatingPoint, positives, question
from overread.predictions import Predictions
from overread.stats.arrays import why_undefined
from overread.stats.calibration import ece_statistic, intercept_and_slope, why_uncalibrated
from overread.stats.classification import at_threshold, classes_statistic, threshold_statistic
from overread.stats.estimate import Estimate, undefined
from overread.stats.precision_recall import areas_statistic
from overread.stats.proportions import proportion
from overread.stats.quantities import errors_of
from overread.stats.resample import Statistic, bootstrap, mean_statistic
from overread.stats.roc import auc

#: The threshold where none was chosen: the more probable of yes and no.
HALF = 0.5
LARGEST = "largest probability"
CONFIDENCE = "confidence of the most probable class"


@dataclass(frozen=True, eq=False)
class Question:
    """One yes or no, asked of the rows whose answer is known.

    ``rows`` (K,) positions in the predictions, ``truth`` (K,), ``score`` (K,), ``flagged`` (K,) whether
    called positive, by ``rule``. ``frozen``: the threshold was chosen on tuning data. ``full``: judged with
    calibration and at a threshold, not as one class of several; ``group``: a set of classes, left out of
    means over the classes.
    """

    of: str
    rows: NDArray[np.int64]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    rule: str
    threshold: float | None = None
    frozen: bool = False
    full: bool = True
    group: bool = False

    @property
    def why(self) -> str:
        """The reason why nothing can be ranked; empty if it can."""
        return why_undefined(self.truth, self.score)

    def only(self, inside: NDArray[np.bool_]) -> Question:
        """The question asked of the rows where ``inside`` (N,) is true."""
        keep = inside[self.rows]
        parts = {name: getattr(self, name)[keep] for name in ("rows", "truth", "score", "flagged")}
        return replace(self, **parts)


def questions(test: Predictions, points: Sequence[OperatingPoint]) -> list[Question]:
    """What is asked: one question for a binary label, one per finding, or per class and group of classes."""
    target = test.target
    if target.kind == "quantity":
        require(not points, "a quantity has no operating point", given=len(points))
        return []
    at = _by_classes(test, points)
    if target.kind == "binary":
        require(len(at) < 2, "a binary label has one operating point", given=len(at))
        return [_ask(test, next(iter(at), positives(test, None, None)), at)]
    if target.kind == "findings":
        return [_ask(test, (name,), at) for name in target.names]
    groups = dict.fromkeys((target.positive, *at))
    single = [
        _ask(test, (name,), at) if (name,) in groups else _one_of_several(test, i)
        for i, name in enumerate(target.names)
    ]
    return [*(_ask(test, group, at) for group in groups if len(group) > 1), *single]


def _by_classes(test: Predictions, points: Sequence[OperatingPoint]) -> dict[tuple[str, ...], OperatingPoint]:
    """Each point under its positive classes, in the order in which the target declares them."""
    declared, found = test.target.positive, {}
    for point in points:
        names = positives(test, point.positive, None)
        names = declared if set(names) == set(declared) else names
        require(names not in found, "two operating points are for the same classes", given=point.of)
        found[names] = point
    return found


def _ask(test: Predictions, positive: tuple[str, ...], at: dict[tuple[str, ...], OperatingPoint]) -> Question:
    rows, truth, score = question(test, positive)
    point = at.get(positive)
    threshold = point.threshold if point else HALF
    rule = f"score ≥ {threshold:.4g}, " + ("frozen on tuning data" if point else "not chosen on tuning data")
    with np.errstate(invalid="ignore"):
        flagged = score >= threshold
    return Question(
        "+".join(positive),
        rows,
        truth,
        score,
        flagged,
        rule,
        threshold,
        point is not None,
        group=len(positive) > 1,
    )


def _one_of_several(test: Predictions, index: int) -> Question:
    name = test.target.names[index]
    rows, truth, score = question(test, (name,))
    return Question(name, rows, truth, score, largest(test)[rows] == index, LARGEST, full=False)


def largest(test: Predictions) -> NDArray[np.int64]:
    """(N,) the most probable class; of equals the first."""
    scores = test.scores
    return np.where(np.isfinite(scores), scores, -np.inf).argmax(axis=1)


@dataclass(frozen=True)
class Terms:
    """How intervals are made: their level, the seed and number of resamples (0: by the number of images)."""

    level: float = 0.95
    seed: int = 0
    resamples: int = 0


#: What can be resampled, and what cannot.
Parts = tuple[list[Statistic], list[Estimate]]


def judge(
    test: Predictions,
    asked: Sequence[Question],
    codes: NDArray[np.int64],
    inside: NDArray[np.bool_],
    terms: Terms,
) -> list[Estimate]:
    """Every estimate of the rows where ``inside`` (N,) is true. ``codes`` (N,) number the patients."""
    rows = np.flatnonzero(inside)
    used, dense = np.unique(codes[rows], return_inverse=True)
    local, people = np.full(len(codes), -1), len(used)
    local[rows] = dense
    if test.target.kind == "quantity":
        return _quantity(test, rows, local, terms)
    kept = [q.only(inside) for q in asked]
    parts: list[Parts] = [
        _areas([q for q in kept if not q.group], local, macro=test.target.kind != "binary"),
        _areas([q for q in kept if q.group], local, macro=False),
    ]
    parts += [_resampled(q, local[q.rows], people) for q in kept if q.full]
    if test.target.kind == "classes":
        parts.append(_classes(test, kept, rows[test.truth[rows] >= 0], local, people, terms.level))
    found = [estimate for q in kept for estimate in _directly(q, local[q.rows], terms.level)]
    found += [estimate for _, estimates in parts for estimate in estimates]
    found += bootstrap(
        [s for statistics, _ in parts for s in statistics],
        max(people, 1),
        images=len(rows),
        level=terms.level,
        seed=terms.seed,
        resamples=terms.resamples or None,
    )
    if test.target.kind == "binary":  # these two are the same for either class
        found = [replace(e, of="") if e.metric in ("accuracy", "balanced accuracy") else e for e in found]
        found.append(_top_accuracy(test, rows, local, terms.level))
    return _in_order(found, ["", *(q.of for q in asked)])


def _lost(metrics: Sequence[str], why: str, codes: NDArray[np.int64], of: str = "") -> list[Estimate]:
    people = int(np.unique(codes).size)
    return [undefined(metric, why, of=of, images=len(codes), patients=people) for metric in metrics]


def _not_finite(score: NDArray[np.float64]) -> str:
    bad = int((~np.isfinite(score)).sum())
    return f"{bad} of {len(score)} scores are not finite" if bad else "" if len(score) else "no cases"


def _directly(q: Question, codes: NDArray[np.int64], level: float) -> list[Estimate]:
    """What has an interval in closed form."""
    found = [auc(q.truth, q.score, codes, level=level, of=q.of)]
    if q.full:
        found += intercept_and_slope(q.truth, q.score, codes, level=level, of=q.of)
    if why := _not_finite(q.score):
        found += _lost(("sensitivity", "specificity", "ppv", "npv", "accuracy"), why, codes, q.of)
    else:
        found += at_threshold(q.truth, q.flagged, codes, level=level, of=q.of, note=q.rule)
    return found if q.full else [e for e in found if e.metric != "accuracy"]


def _resampled(q: Question, codes: NDArray[np.int64], people: int) -> Parts:
    """F1, balanced accuracy, Brier score and ECE of a question that is judged in full."""
    statistics, missing = [], []
    if why := _not_finite(q.score):
        missing += _lost(("f1", "balanced accuracy"), why, codes, q.of)
    else:
        statistics.append(threshold_statistic(q.truth, q.flagged, codes, people, of=q.of, note=q.rule))
    if why := why_uncalibrated(q.truth, q.score):
        missing += _lost(("brier", "ece"), why, codes, q.of)
    else:
        loss = (q.score - q.truth) ** 2
        statistics.append(mean_statistic("brier", loss, codes, people, of=q.of))
        statistics.append(ece_statistic(q.truth, q.score, codes, people, of=q.of))
    return statistics, missing


def _top_accuracy(
    test: Predictions, rows: NDArray[np.int64], local: NDArray[np.int64], level: float
) -> Estimate:
    """Accuracy of the more probable of two classes: what papers without an operating point report."""
    rows = rows[test.truth[rows] >= 0]
    scores, truth, codes = test.scores[rows], test.truth[rows], local[rows]
    if why := _not_finite(scores.ravel()):
        return _lost(("top accuracy",), why, codes)[0]
    found = proportion(scores.argmax(axis=1) == truth, codes, level=level, metric="top accuracy")
    return replace(found, method=f"{LARGEST}; {found.method}")


def _classes(
    test: Predictions,
    asked: Sequence[Question],
    rows: NDArray[np.int64],
    local: NDArray[np.int64],
    people: int,
    level: float,
) -> Parts:
    """Accuracy, balanced accuracy, F1, Brier score and ECE of the most probable class."""
    scores, truth, codes, names = test.scores[rows], test.truth[rows], local[rows], test.target.names
    own = {q.of for q in asked if q.full}
    others = tuple("" if name in own else name for name in names)  # "": its F1 is that at its threshold
    if why := _not_finite(scores.ravel()):
        missing = _lost(("accuracy", "balanced accuracy", "macro f1", "brier", "ece"), why, codes)
        return [], missing + [e for name in others if name for e in _lost(("f1",), why, codes, name)]
    said = scores.argmax(axis=1)
    accuracy = proportion(said == truth, codes, level=level, metric="accuracy")
    statistics = [classes_statistic(truth, said, len(names), codes, people, of=others, note=LARGEST)]
    calibrated, missing = _classes_calibrated(scores, truth, codes, people)
    return [*statistics, *calibrated], [replace(accuracy, method=f"{LARGEST}; {accuracy.method}"), *missing]


def _classes_calibrated(
    scores: NDArray[np.float64], truth: NDArray[np.int64], codes: NDArray[np.int64], people: int
) -> Parts:
    """The Brier score summed over classes, and the ECE of the confidence in the most probable class."""
    right, confidence = scores.argmax(axis=1) == truth, scores.max(axis=1)
    if why := why_uncalibrated(right, confidence):
        return [], _lost(("brier", "ece"), why, codes)
    loss = ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(axis=1)
    return [
        mean_statistic("brier", loss, codes, people, note="summed over the classes"),
        ece_statistic(right, confidence, codes, people, note=CONFIDENCE),
    ], []


def _areas(asked: Sequence[Question], local: NDArray[np.int64], *, macro: bool) -> Parts:
    """Macro AUC over the questions that have both answers, and each one's average precision."""
    known = [q for q in asked if not q.why]
    without = [q.of for q in asked if q.why]
    missing = [e for q in asked if q.why for e in _lost(("average precision",), q.why, local[q.rows], q.of)]
    if not known:
        none = [undefined("macro auc", "no class or finding has both answers")] if macro else []
        return [], none + missing
    note = f"mean over {len(known)}" + (f", without {', '.join(without)}" if without else "")
    truths, scores = [q.truth for q in known], [q.score for q in known]
    names = tuple(q.of for q in known)
    codes = [local[q.rows] for q in known]
    return [areas_statistic(truths, scores, codes, names, macro=macro, note=note)], missing


def _quantity(
    test: Predictions, rows: NDArray[np.int64], local: NDArray[np.int64], terms: Terms
) -> list[Estimate]:
    truth = test.truth
    rows = rows[~np.isnan(truth[rows])]
    return errors_of(
        truth[rows],
        test.scores[rows, 0],
        local[rows],
        level=terms.level,
        of=test.target.names[0],
        seed=terms.seed,
        resamples=terms.resamples or None,
    )


ORDER = (
    "macro auc",
    "auc",
    "average precision",
    "accuracy",
    "top accuracy",
    "balanced accuracy",
    "macro f1",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "brier",
    "ece",
    "ece if calibrated",
    "calibration intercept",
    "calibration slope",
)


def _in_order(found: list[Estimate], names: list[str]) -> list[Estimate]:
    metric, of = {m: i for i, m in enumerate(ORDER)}, {n: i for i, n in enumerate(names)}
    return sorted(found, key=lambda e: (of.get(e.of, len(of)), metric.get(e.metric, len(metric))))

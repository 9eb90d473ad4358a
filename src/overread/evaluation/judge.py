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
from overread.stats.resample import Statistic, bootstrap
from overread.stats.roc import auc

#: The threshold where none was chosen: the more probable of yes and no.
HALF = 0.5
LARGEST = "largest probability"


@dataclass(frozen=True, eq=False)
class Question:
    """One yes or no, asked of the rows whose answer is known.

    ``rows`` (K,) positions in the predictions, ``truth`` (K,), ``score`` (K,), ``flagged`` (K,) whether called
    positive, by ``rule``. ``point`` is the frozen operating point, if there is one. ``full``: judged with calibration
    and F1 of its own, not as one class of several.
    """

    of: str
    rows: NDArray[np.int64]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    rule: str
    threshold: float | None
    point: OperatingPoint | None
    full: bool

    @property
    def why(self) -> str:
        """The reason why nothing can be ranked; empty if it can."""
        return why_undefined(self.truth, self.score)

    def only(self, inside: NDArray[np.bool_]) -> Question:
        """The question asked of the rows where ``inside`` (N,) is true."""
        keep = inside[self.rows]
        return replace(
            self,
            rows=self.rows[keep],
            truth=self.truth[keep],
            score=self.score[keep],
            flagged=self.flagged[keep],
        )


def questions(test: Predictions, points: Sequence[OperatingPoint]) -> list[Question]:
    """What is asked of ``test``: one question for a binary label, one per finding, or per class and group of classes."""
    target, at = test.target, {point.of: point for point in points}
    for point in points:
        positives(test, point.positive, None)
    if target.kind == "quantity":
        require(not at, "a quantity has no operating point")
        return []
    if target.kind == "binary":
        return [_ask(test, points[0].positive if points else positives(test, None, None), at)]
    if target.kind == "findings":
        return [_ask(test, (name,), at) for name in target.names]
    groups = dict.fromkeys((target.positive, *(p.positive for p in points)))
    alone = {name for group in groups if len(group) == 1 for name in group}
    single = [
        _ask(test, (n,), at) if n in alone else _one_of_several(test, i) for i, n in enumerate(target.names)
    ]
    return [*(_ask(test, group, at) for group in groups if len(group) > 1), *single]


def _ask(test: Predictions, positive: tuple[str, ...], at: dict[str, OperatingPoint]) -> Question:
    rows, truth, score = question(test, positive)
    point = at.get("+".join(positive))
    threshold = point.threshold if point else HALF
    rule = f"score ≥ {threshold:.4g}" + (" frozen on tuning data" if point else ", not chosen on tuning data")
    with np.errstate(invalid="ignore"):
        flagged = score >= threshold
    return Question("+".join(positive), rows, truth, score, flagged, rule, threshold, point, True)


def _one_of_several(test: Predictions, index: int) -> Question:
    rows, truth, score = question(test, (test.target.names[index],))
    return Question(
        test.target.names[index], rows, truth, score, largest(test)[rows] == index, LARGEST, None, None, False
    )


def largest(test: Predictions) -> NDArray[np.int64]:
    """(N,) the most probable class; of equals the first."""
    return np.where(np.isfinite(test.scores), test.scores, -np.inf).argmax(axis=1)


@dataclass(frozen=True)
class Terms:
    """How intervals are made: their level, the seed and number of resamples (0: by the number of images)."""

    level: float = 0.95
    seed: int = 0
    resamples: int = 0


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
    local = np.full(len(codes), -1)
    local[rows] = dense
    if test.target.kind == "quantity":
        return _quantity(test, rows, local, terms)
    kept = [q.only(inside) for q in asked]
    found = [estimate for q in kept for estimate in _directly(q, local[q.rows], terms.level)]
    statistics = [s for q in kept for s in _resampled(q, local[q.rows], len(used))]
    if test.target.kind == "classes":
        several, direct = _classes(test, rows, local, len(used), terms.level)
        statistics, found = [*several, *statistics], [*direct, *found]
    if test.target.kind != "binary":
        areas, missing = _areas([q for q in kept if "+" not in q.of or test.target.kind == "findings"], local)
        statistics, found = [*areas, *statistics], [*missing, *found]
    if statistics:
        found += bootstrap(statistics, len(used), images=len(rows), level=terms.level, seed=terms.seed,
                           resamples=terms.resamples or None)  # fmt: skip
    return _in_order(found, ["", *(q.of for q in asked)])


def _directly(q: Question, codes: NDArray[np.int64], level: float) -> list[Estimate]:
    """What has an interval in closed form."""
    people = int(np.unique(codes).size)
    found = [auc(q.truth, q.score, codes, level=level, of=q.of)]
    if q.full:
        found += intercept_and_slope(q.truth, q.score, codes, level=level, of=q.of)
    bad = int((~np.isfinite(q.score)).sum())
    names = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
    if bad:
        why = f"{bad} of {len(q.score)} scores are not finite"
        found += [undefined(name, why, of=q.of, images=len(q.score), patients=people) for name in names]
    else:
        found += at_threshold(q.truth, q.flagged, codes, level=level, of=q.of, note=q.rule)
    return found if q.full else [e for e in found if e.metric != "accuracy"]


def _resampled(q: Question, codes: NDArray[np.int64], patients: int) -> list[Statistic]:
    """What needs the bootstrap, of a question that is judged in full."""
    if not q.full or not len(q.rows):
        return []
    found = []
    if np.isfinite(q.score).all():
        found.append(threshold_statistic(q.truth, q.flagged, codes, patients, of=q.of, note=q.rule))
    if not why_uncalibrated(q.truth, q.score):
        found.append(ece_statistic(q.truth, q.score, codes, patients, of=q.of))
    return found


def _classes(
    test: Predictions, rows: NDArray[np.int64], local: NDArray[np.int64], patients: int, level: float
) -> tuple[list[Statistic], list[Estimate]]:
    """Balanced accuracy, F1, accuracy, Brier score and top-label ECE of the most probable class."""
    truth, scores = test.truth, test.scores
    rows = rows[truth[rows] >= 0]
    codes, names = local[rows], test.target.names
    about = {"images": len(rows), "patients": int(np.unique(codes).size)}
    bad = int((~np.isfinite(scores[rows])).any(axis=1).sum())
    if bad or not len(rows):
        why = f"{bad} of {len(rows)} cases have scores that are not finite" if bad else "no cases"
        return [], [undefined(m, why, **about) for m in ("accuracy", "balanced accuracy", "macro f1")]
    said = largest(test)[rows]
    right = said == truth[rows]
    accuracy = replace(proportion(right, codes, level=level, metric="accuracy"))
    statistics = [classes_statistic(truth[rows], said, len(names), codes, patients, of=names, note=LARGEST)]
    confidence = scores[rows].max(axis=1)
    if not why_uncalibrated(right, confidence):
        statistics.append(
            ece_statistic(right, confidence, codes, patients, note="confidence of the most probable class; ")
        )
    return statistics, [replace(accuracy, method=f"{LARGEST}; {accuracy.method}")]


def _areas(asked: Sequence[Question], local: NDArray[np.int64]) -> tuple[list[Statistic], list[Estimate]]:
    """Macro AUC over the questions that have both answers, and each one's average precision."""
    known = [q for q in asked if not q.why]
    without = [q.of for q in asked if q.why]
    missing = [undefined("average precision", q.why, of=q.of, images=len(q.rows),
                         patients=int(np.unique(local[q.rows]).size)) for q in asked if q.why]  # fmt: skip
    if not known:
        return [], [undefined("macro auc", "no class or finding has both answers"), *missing]
    note = f"mean over {len(known)}" + (f", without {', '.join(without)}" if without else "")
    statistic = areas_statistic([q.truth for q in known], [q.score for q in known], [local[q.rows] for q in known],
                                tuple(q.of for q in known), macro=True, note=note)  # fmt: skip
    return [statistic], missing


def _quantity(
    test: Predictions, rows: NDArray[np.int64], local: NDArray[np.int64], terms: Terms
) -> list[Estimate]:
    rows = rows[~np.isnan(test.truth[rows])]
    return errors_of(test.truth[rows], test.scores[rows, 0], local[rows], level=terms.level, of=test.target.names[0],
                     seed=terms.seed, resamples=terms.resamples or None)  # fmt: skip


ORDER = (
    "macro auc", "auc", "average precision", "accuracy", "balanced accuracy", "macro f1", "sensitivity", "specificity",
    "ppv", "npv", "f1", "brier", "ece", "ece if calibrated", "calibration intercept", "calibration slope",
)  # fmt: skip


def _in_order(found: list[Estimate], names: list[str]) -> list[Estimate]:
    metric, of = {m: i for i, m in enumerate(ORDER)}, {n: i for i, n in enumerate(names)}
    return sorted(found, key=lambda e: (of.get(e.of, len(of)), metric.get(e.metric, len(metric))))

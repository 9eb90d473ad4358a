"""What a metric is of a set of rows: closed forms at once, the rest as statistics to resample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.questions import LARGEST, Facts, Question
from overread.stats.calibration.reliability import (
    PARTS,
    brier_uncertainty,
    decomposition_statistic,
    ece_statistic,
    intercept_and_slope,
    why_uncalibrated,
)
from overread.stats.classification import at_prevalence, at_threshold, classes_statistic, threshold_statistic
from overread.stats.discrimination.partial_auc import partial_auc
from overread.stats.discrimination.precision_recall import areas_statistic
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion
from overread.stats.regression import METRICS, errors_of, kappa_statistic, mcc_statistic
from overread.stats.resample import Statistic, mean_statistic, of_sums

CONFIDENCE = "confidence of the most probable class"
#: The part of the ROC curve whose area is told: what a clinic with few false alarms can work at.
SPECIFIC = (0.8, 1.0)
#: The square of a larger number may overflow.
LARGEST_NUMBER = 1e150
GRADES = "classes are grades: their names are numbers"

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Terms:
    """How intervals are made: their level, the seed and number of resamples (0: by the number of images).

    ``prevalence``: that of the clinic, for predictive values there. ``parts``: whether the Brier score is taken apart.
    """

    level: float = 0.95
    seed: int = 0
    resamples: int = 0
    prevalence: float | None = None
    parts: bool = True


@dataclass(frozen=True)
class Parts:
    """``statistics`` to resample, and estimates ``ready`` without."""

    statistics: tuple[Statistic, ...] = ()
    ready: tuple[Estimate, ...] = ()

    def __add__(self, other: Parts) -> Parts:
        return Parts(self.statistics + other.statistics, self.ready + other.ready)


def of_all(statistic: Statistic, patients: int) -> Statistic:
    """A statistic of sums that counts the patients up to its own last, as one of all ``patients``."""
    if statistic.sums is None or len(statistic.sums.cells) == patients:
        return statistic
    cells = np.zeros((patients, statistic.sums.cells.shape[1]))
    cells[: len(statistic.sums.cells)] = statistic.sums.cells
    return of_sums(statistic.columns, cells, statistic.sums.of)


def lost(metrics: Sequence[str], why: str, codes: Codes, of: str = "") -> tuple[Estimate, ...]:
    """Estimates without a value, for one reason."""
    people = int(np.unique(codes).size)
    return tuple(undefined(metric, why, of=of, images=len(codes), patients=people) for metric in metrics)


def not_finite(score: NDArray[np.float64]) -> str:
    """Why nothing can be said at a threshold; empty if something can."""
    bad = int((~np.isfinite(score)).sum())
    return f"{bad} of {len(score)} scores are not finite" if bad else "" if len(score) else "no cases"


def directly(q: Question, codes: Codes, terms: Terms) -> list[Estimate]:
    """What has an interval in closed form."""
    level, of = terms.level, q.of
    found = [auc(q.truth, q.score, codes, level=level, of=of)]
    found.append(partial_auc(q.truth, q.score, codes, specificity=SPECIFIC, standardised=True, level=level, of=of))
    if q.full:
        found += intercept_and_slope(q.truth, q.score, codes, level=level, of=of)
    found += _at_threshold(q, codes, terms)
    return found if q.full else [e for e in found if e.metric != "accuracy"]


def _at_threshold(q: Question, codes: Codes, terms: Terms) -> list[Estimate]:
    elsewhere = terms.prevalence if q.full else None
    if why := not_finite(q.score):
        names = ["sensitivity", "specificity", "ppv", "npv", "accuracy"]
        return [*lost([*names, *(("ppv at prevalence", "npv at prevalence") if elsewhere else ())], why, codes, q.of)]
    found = at_threshold(q.truth, q.flagged, codes, level=terms.level, of=q.of, note=q.rule)
    if elsewhere is None:
        return found
    there = at_prevalence(q.truth, q.flagged, elsewhere, codes, level=terms.level, of=q.of)
    return found + [_there(e, q.rule) for e in there]


def _there(e: Estimate, rule: str) -> Estimate:
    return replace(e, metric=f"{e.metric} at prevalence", method=f"{rule}; {e.method}" if e.method else "")


def resampled(q: Question, codes: Codes, people: int, terms: Terms) -> Parts:
    """F1, balanced accuracy, MCC, Brier score with its parts and ECE of a question that is judged in full."""
    return _flags(q, codes, people) + _chances(q, codes, people, terms)


def _flags(q: Question, codes: Codes, people: int) -> Parts:
    if why := not_finite(q.score):
        return Parts(ready=lost(("f1", "balanced accuracy", "mcc"), why, codes, q.of))
    truth, said = q.truth.astype(np.int64), q.flagged.astype(np.int64)
    return Parts(
        (
            threshold_statistic(q.truth, q.flagged, codes, people, of=q.of, note=q.rule),
            of_all(mcc_statistic(truth, said, codes, of=q.of, note=q.rule), people),
        )
    )


def _chances(q: Question, codes: Codes, people: int, terms: Terms) -> Parts:
    names = ("brier", *(PARTS if terms.parts else ()), "ece")
    if why := why_uncalibrated(q.truth, q.score):
        return Parts(ready=lost(names, why, codes, q.of))
    found = Parts(
        (
            mean_statistic("brier", (q.score - q.truth) ** 2, codes, people, of=q.of),
            ece_statistic(q.truth, q.score, codes, people, of=q.of),
        )
    )
    if not terms.parts:
        return found
    parts = decomposition_statistic(q.truth, q.score, codes, people, of=q.of)
    return found + Parts((parts,), (brier_uncertainty(q.truth, codes, level=terms.level, of=q.of),))


def top_accuracy(facts: Facts, rows: Codes, local: Codes, level: float) -> Estimate:
    """Accuracy of the more probable of two classes: what papers without an operating point report."""
    rows = rows[facts.truth[rows] >= 0]
    first, second, truth = facts.scores[rows, 0], facts.scores[rows, 1], facts.truth[rows]
    bad = int((~np.isfinite(first)).sum() + (~np.isfinite(second)).sum())
    if bad or not len(rows):
        return lost(("top accuracy",), f"{bad} of {2 * len(rows)} scores are not finite" if bad else "no cases",
                    local[rows])[0]  # fmt: skip
    found = proportion((second > first) == (truth == 1), local[rows], level=level, metric="top accuracy")
    return replace(found, method=f"{LARGEST}; {found.method}")


def classes(facts: Facts, asked: Sequence[Question], rows: Codes, local: Codes, people: int, terms: Terms) -> Parts:
    """Accuracy, balanced accuracy, F1, MCC, kappa of grades, Brier score and ECE of the most probable class."""
    scores, truth, codes, names = facts.scores[rows], facts.truth[rows], local[rows], facts.target.names
    own = {q.of for q in asked if q.full}
    others = tuple("" if name in own else name for name in names)  # "": its F1 is that at its threshold
    graded = grades(names)
    if why := not_finite(scores.ravel()):
        overall = ["accuracy", "balanced accuracy", "macro f1", "mcc", "brier", "ece"]
        missing = lost([*overall, *(["quadratic kappa"] if graded else [])], why, codes)
        return Parts(ready=missing + tuple(e for n in others if n for e in lost(("f1",), why, codes, n)))
    said = scores.argmax(axis=1)
    accuracy = proportion(said == truth, codes, level=terms.level, metric="accuracy")
    several = classes_statistic(truth, said, len(names), codes, people, of=others, note=LARGEST)
    parts = Parts((several,), (replace(accuracy, method=f"{LARGEST}; {accuracy.method}"),))
    return parts + _alike(truth, said, codes, people, graded) + _classes_calibrated(scores, truth, codes, people)


def grades(names: Sequence[str]) -> tuple[int, ...]:
    """The place of each class in the order of its number, if every name is a different number and there are three.

    >>> grades(("10", "9", "11")), grades(("mild", "severe", "none"))
    ((1, 0, 2), ())
    """
    try:
        values = [float(name) for name in names]
    except ValueError:
        return ()
    if len(names) < 3 or len(set(values)) < len(names) or not all(map(np.isfinite, values)):
        return ()
    order = sorted(values)
    return tuple(order.index(value) for value in values)


def _alike(truth: Codes, said: Codes, codes: Codes, people: int, graded: Sequence[int]) -> Parts:
    """MCC and, of grades, quadratic kappa."""
    found = Parts((of_all(mcc_statistic(truth, said, codes, note=LARGEST), people),))
    if not graded:
        return found
    place, note = np.array(graded, np.float64), f"{LARGEST}; {GRADES}"
    return found + Parts((of_all(kappa_statistic(place[truth], place[said], codes, note=note), people),))


def _classes_calibrated(scores: NDArray[np.float64], truth: NDArray[np.int64], codes: Codes, people: int) -> Parts:
    """The Brier score summed over classes, and the ECE of the confidence in the most probable class."""
    right, confidence = scores.argmax(axis=1) == truth, scores.max(axis=1)
    if why := why_uncalibrated(right, confidence):
        return Parts(ready=lost(("brier", "ece"), why, codes))
    loss = ((scores - np.eye(scores.shape[1])[truth]) ** 2).sum(axis=1)
    return Parts(
        (
            mean_statistic("brier", loss, codes, people, note="summed over the classes"),
            ece_statistic(right, confidence, codes, people, note=CONFIDENCE),
        )
    )


def areas(asked: Sequence[Question], local: Codes, *, macro: bool) -> Parts:
    """Macro AUC over the questions that have both answers, and each one's average precision."""
    known = [q for q in asked if not q.why]
    without = [q.of for q in asked if q.why]
    missing = tuple(e for q in asked if q.why for e in lost(("average precision",), q.why, local[q.rows], q.of))
    if not known:
        none = (undefined("macro auc", "no class or finding has both answers"),) if macro else ()
        return Parts(ready=none + missing)
    note = f"mean over {len(known)}" + (f", without {', '.join(without)}" if without else "")
    truths, scores = [q.truth for q in known], [q.score for q in known]
    names, codes = tuple(q.of for q in known), [local[q.rows] for q in known]
    return Parts((areas_statistic(truths, scores, codes, names, macro=macro, note=note),), missing)


def quantity(facts: Facts, rows: Codes, local: Codes, terms: Terms) -> list[Estimate]:
    """How far the predicted numbers are from the truth, and whether they are in its order."""
    from overread.stats.discrimination.roc import concordance

    rows, of = rows[~np.isnan(facts.truth[rows])], facts.target.names[0]
    truth, said, codes = facts.truth[rows], facts.scores[rows, 0], local[rows]
    index = concordance(truth, said, codes, level=terms.level, of=of)
    if why := too_large(truth, said):
        return [*lost(METRICS, why, codes, of), index]
    many = terms.resamples or None
    found = errors_of(truth, said, codes, level=terms.level, of=of, seed=terms.seed, resamples=many)
    return [*found, index]


def too_large(*values: NDArray[np.float64]) -> str:
    """Why errors cannot be squared and summed; empty if they can."""
    bad = sum(int((np.isfinite(v) & (np.abs(v) > LARGEST_NUMBER)).sum()) for v in values)
    return f"{bad} of {len(values) * len(values[0])} values are beyond ±{LARGEST_NUMBER:g}" if bad else ""

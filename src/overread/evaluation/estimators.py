"""What each metric is of a sample: at once where there is a closed form, else as a statistic to resample.

An estimator takes a :class:`Sample` and :class:`Intervals` and gives :class:`Measures`; one of two models takes both
samples and gives their differences; one of a gap gives the value in a subgroup with how far each patient moves it, since a
patient may stand on both sides (two eyes, two views). The table of :mod:`overread.evaluation.metrics` says which metric has which.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.questions import LARGEST, Codes, Sample
from overread.stats.arrays import TINY, distinct, logit_interval, normal_quantile, not_finite, t_quantile
from overread.stats.calibration.reliability import (
    PARTS,
    brier_uncertainty,
    decomposition_statistic,
    ece_statistic,
    intercept_and_slope,
)
from overread.stats.classification import at_prevalence, at_threshold, classes_statistic, threshold_statistic
from overread.stats.discrimination.delong import Cohort, auc_difference, placements, shares
from overread.stats.discrimination.partial_auc import partial_auc, partial_auc_difference
from overread.stats.discrimination.roc import areas_statistic, auc, concordance
from overread.stats.estimate import Difference, Estimate, undefined, without
from overread.stats.proportions import paired_proportions, proportion, threshold_differences, wilson
from overread.stats.regression import METRICS as ERRORS
from overread.stats.regression import errors_statistic, kappa_statistic, mcc_statistic
from overread.stats.resample import Scale, Statistic, mean_statistic

CONFIDENCE = "confidence of the most probable class"
#: The part of the ROC curve whose area is told: what a clinic with few false alarms can work at.
SPECIFIC = (0.8, 1.0)
#: The square of a larger number may overflow.
LARGEST_NUMBER = 1e150
GRADES = "classes are grades: their names are numbers"


@dataclass(frozen=True)
class Intervals:
    """How intervals are made: their level, the seed and number of resamples (0: by the number of images).

    ``prevalence``: that of the clinic, for predictive values there. ``decompose``: whether the Brier score is taken
    apart.
    """

    level: float = 0.95
    seed: int = 0
    resamples: int = 0
    prevalence: float | None = None
    decompose: bool = True


@dataclass(frozen=True)
class Measures:
    """``statistics`` to resample, and ``estimates`` without."""

    statistics: tuple[Statistic, ...] = ()
    estimates: tuple[Estimate, ...] = ()

    def __add__(self, other: Measures) -> Measures:
        return Measures(self.statistics + other.statistics, self.estimates + other.estimates)

    def only(self, keep: Callable[[str, str], bool]) -> Measures:
        """The metrics of which ``keep(metric, of)`` is true."""
        kept = (s.only([i for i, c in enumerate(s.columns) if keep(c.metric, c.of)]) for s in self.statistics)
        return Measures(tuple(s for s in kept if s.columns), tuple(e for e in self.estimates if keep(e.metric, e.of)))


Estimator = Callable[[Sample, Intervals], Measures]
PairedEstimator = Callable[[Sample, Sample, Intervals], list[Difference]]


def missing(metrics: Iterable[str], reason: str, codes: Codes, of: str = "") -> Measures:
    """Estimates without a value, for one reason."""
    patients = distinct(codes) if len(codes) else 0
    return Measures(estimates=tuple(undefined(m, reason, of=of, images=len(codes), patients=patients) for m in metrics))


def missing_difference(metric: str, reason: str, *, of: str = "", images: int = 0, patients: int = 0) -> Difference:
    """A difference that does not exist, and its reason."""
    one, gap = (
        undefined(name, reason, of=of, images=images, patients=patients) for name in (metric, f"{metric} difference")
    )
    return without(one, one, gap)


# -- of a question ------------------------------------------------------------------------------------------------


def area(s: Sample, how: Intervals) -> Measures:
    """The AUC."""
    return Measures(estimates=(auc(s.truth, s.score, s.codes, level=how.level, of=s.of),))


def area_difference(a: Sample, b: Sample, how: Intervals) -> list[Difference]:
    """Of two AUCs, by DeLong."""
    return [auc_difference(a.truth, a.score, b.score, a.codes, level=how.level, of=a.of)]


def area_resampled(s: Sample, how: Intervals) -> Measures:
    """The AUC as a statistic."""
    if s.undefined:
        return missing(("auc",), s.undefined, s.codes, s.of)
    found = areas_statistic([s.truth], [s.score], [s.codes], (s.of,), macro=True, each=False)
    return Measures((replace(found, columns=tuple(replace(c, metric="auc", of=s.of) for c in found.columns)),))


def specific_area(s: Sample, how: Intervals) -> Measures:
    """The standardised partial AUC."""
    found = partial_auc(s.truth, s.score, s.codes, specificity=SPECIFIC, standardised=True, level=how.level, of=s.of)
    return Measures(estimates=(found,))


def specific_area_difference(a: Sample, b: Sample, how: Intervals) -> list[Difference]:
    """Of two partial AUCs; of a question that is judged in full."""
    if not a.full:
        return []
    return [partial_auc_difference(a.truth, a.score, b.score, a.codes, specificity=SPECIFIC, standardised=True,
                                   level=how.level, of=a.of)]  # fmt: skip


def precision_resampled(s: Sample, how: Intervals) -> Measures:
    """The average precision of one question alone."""
    if s.undefined:
        return missing(("average precision",), s.undefined, s.codes, s.of)
    return Measures((areas_statistic([s.truth], [s.score], [s.codes], (s.of,), macro=False),))


def rates(s: Sample, how: Intervals) -> Measures:
    """Sensitivity, specificity, predictive values; accuracy of a question that is judged in full."""
    if reason := s.uncalled:
        found = missing(("sensitivity", "specificity", "ppv", "npv", "accuracy"), reason, s.codes, s.of).estimates
    else:
        found = tuple(at_threshold(s.truth, s.called, s.codes, level=how.level, of=s.of, note=s.rule))
    return Measures(estimates=(*found[:4], *(replace(e, of=s.either) for e in found[4:] if s.full)))


def rates_difference(a: Sample, b: Sample, how: Intervals) -> list[Difference]:
    """Sensitivity, specificity and accuracy, by McNemar and Tango."""
    if reason := a.uncalled or b.uncalled:
        return [missing_difference(m, reason, of=of, images=len(a.codes), patients=distinct(a.codes) if len(a.codes) else 0)
                for m, of in (("sensitivity", a.of), ("specificity", a.of), ("accuracy", a.either))]  # fmt: skip
    rule = a.rule if a.rule == b.rule else f"{a.rule} against {b.rule}"
    found = threshold_differences(a.truth, a.called, b.called, a.codes, level=how.level, of=a.of)
    noted = [_with_rules(d, (a.rule, b.rule, rule)) for d in found]
    return [*noted[:2], *(relabelled(d, of=a.either) for d in noted[2:] if a.full)]


def _with_rules(found: Difference, rules: tuple[str, str, str]) -> Difference:
    sides = (found.first, found.second, found.difference)
    first, second, gap = (replace(e, method=f"{rule}; {e.method}") if e.method else e for rule, e in zip(rules, sides))
    return replace(found, first=first, second=second, difference=gap)


def relabelled(found: Difference, *, of: str | None = None, where: dict[str, str] | None = None) -> Difference:
    """The difference under another name, or of a subgroup."""
    first, second, gap = (
        replace(e, of=e.of if of is None else of, where=e.where if where is None else where)
        for e in (found.first, found.second, found.difference)
    )
    return replace(found, first=first, second=second, difference=gap)


def clinic_values(s: Sample, how: Intervals) -> Measures:
    """Predictive values at the prevalence of the clinic."""
    if how.prevalence is None or not s.full:
        return Measures()
    if reason := s.uncalled:
        return missing(("ppv at prevalence", "npv at prevalence"), reason, s.codes, s.of)
    found = at_prevalence(s.truth, s.called, how.prevalence, s.codes, level=how.level, of=s.of)
    return Measures(estimates=tuple(
        replace(e, metric=f"{e.metric} at prevalence", method=f"{s.rule}; {e.method}" if e.method else "") for e in found
    ))  # fmt: skip


def calls(s: Sample, how: Intervals) -> Measures:
    """F1 and balanced accuracy at the threshold."""
    if not s.full:
        return Measures()
    if reason := s.uncalled:
        return missing(("f1",), reason, s.codes, s.of) + missing(("balanced accuracy",), reason, s.codes, s.either)
    found = threshold_statistic(s.truth, s.called, s.codes, s.patients, of=s.of, note=s.rule)
    f1, balanced = found.columns
    return Measures((replace(found, columns=(f1, replace(balanced, of=s.either))),))


def correlation(s: Sample, how: Intervals) -> Measures:
    """Matthews' correlation of call and truth, of a question or of all classes."""
    if not s.full:
        return Measures()
    if reason := s.uncalled:
        return missing(("mcc",), reason, s.codes, s.either)
    truth, called = s.truth.astype(np.int64), s.called.astype(np.int64)
    return Measures((mcc_statistic(truth, called, s.codes, s.patients, of=s.either, note=s.rule),))


def squared_error(s: Sample, how: Intervals) -> Measures:
    """The Brier score of a question."""
    if not s.full:
        return Measures()
    if reason := s.unsuited:
        return missing(("brier",), reason, s.codes, s.of)
    return Measures((mean_statistic("brier", (s.score - s.truth) ** 2, s.codes, s.patients, of=s.of),))


def calibration_error(s: Sample, how: Intervals) -> Measures:
    """The ECE of a question."""
    if not s.full:
        return Measures()
    if reason := s.unsuited:
        return missing(("ece",), reason, s.codes, s.of)
    return Measures((ece_statistic(s.truth, s.score, s.codes, s.patients, of=s.of),))


def decomposition(s: Sample, how: Intervals) -> Measures:
    """What the Brier score is made of."""
    if not (s.full and how.decompose):
        return Measures()
    if reason := s.unsuited:
        return missing(PARTS, reason, s.codes, s.of)
    found = decomposition_statistic(s.truth, s.score, s.codes, s.patients, of=s.of)
    return Measures((found,), (brier_uncertainty(s.truth, s.codes, level=how.level, of=s.of),))


def calibration_line(s: Sample, how: Intervals) -> Measures:
    """Calibration intercept and slope."""
    if not s.full:
        return Measures()
    if reason := s.unsuited:
        return missing(("calibration intercept", "calibration slope"), reason, s.codes, s.of)
    return Measures(estimates=intercept_and_slope(s.truth, s.score, s.codes, level=how.level, of=s.of))


# -- of all classes or findings together --------------------------------------------------------------------------


def ranking(s: Sample, how: Intervals) -> Measures:
    """Macro AUC over the questions that have both answers, and each one's average precision: one sort serves both."""
    single, groups = ([q for q in s.questions if q.group is group] for group in (False, True))
    return _areas(single, macro=not s.target.task.binary) + _areas(groups, macro=False)


def macro_area(s: Sample, how: Intervals) -> Measures:
    """Macro AUC alone, of two classes as well."""
    asked = [q for q in s.questions if not q.group]
    known = [q for q in asked if not q.undefined]
    if not known:
        return Measures(estimates=(undefined("macro auc", "no class or finding has both answers"),))
    note = f"mean over {len(known)} of {len(asked)}"
    return Measures((areas_statistic([q.truth for q in known], [q.score for q in known], [q.codes for q in known],
                                     ("",) * len(known), macro=True, each=False, note=note),))  # fmt: skip


def _areas(asked: Sequence[Sample], *, macro: bool) -> Measures:
    known, without_both = [q for q in asked if not q.undefined], [q for q in asked if q.undefined]
    lost = sum((missing(("average precision",), q.undefined, q.codes, q.of) for q in without_both), Measures())
    if not known:
        none = (undefined("macro auc", "no class or finding has both answers"),) if macro else ()
        return Measures(estimates=none) + lost
    note = f"mean over {len(known)}" + (f", without {', '.join(q.of for q in without_both)}" if without_both else "")
    found = areas_statistic([q.truth for q in known], [q.score for q in known], [q.codes for q in known],
                            tuple(q.of for q in known), macro=macro, note=note)  # fmt: skip
    return Measures((found,)) + lost


def top_choice(s: Sample, how: Intervals) -> Measures:
    """Accuracy of the most probable of several classes, or of two: what papers without an operating point report."""
    metric = "top accuracy" if s.target.task.binary else "accuracy"
    if reason := s.uncalled or _cut_at_half(s):
        return missing((metric,), reason, s.codes)
    right = s.score[:, 1] > s.score[:, 0] if s.target.task.binary else s.called
    found = proportion(right == s.truth, s.codes, level=how.level, metric=metric)
    return Measures(estimates=(replace(found, method=f"{LARGEST}; {found.method}"),))


def _cut_at_half(s: Sample) -> str:
    """Why the larger of two scores says nothing: one is 1 minus the other, which is not a probability."""
    paired = s.target.task.binary and bool((np.abs(s.score.sum(axis=1) - 1) < 1e-6).all())
    return s.no_chances if paired else ""


def top_choice_difference(a: Sample, b: Sample, how: Intervals) -> list[Difference]:
    """Of two accuracies, by McNemar and Tango."""
    if reason := a.uncalled or b.uncalled:
        patients = distinct(a.codes) if len(a.codes) else 0
        return [missing_difference("accuracy", reason, images=len(a.codes), patients=patients)]
    found = paired_proportions(a.called == a.truth, b.called == a.truth, a.codes, level=how.level, metric="accuracy")
    return [replace(found, difference=replace(found.difference, method=f"{LARGEST}; {found.difference.method}"))]


def top_choice_resampled(s: Sample, how: Intervals) -> Measures:
    """The same as a statistic, of two classes too."""
    if reason := s.uncalled or _cut_at_half(s):
        return missing(("accuracy",), reason, s.codes)
    right = (s.called == s.truth).astype(np.float64)
    found = mean_statistic("accuracy", right, s.codes, s.patients, note=LARGEST)
    return Measures((replace(found, columns=(replace(found.columns[0], scale="share", effective=distinct(s.codes)),)),))


def class_calls(s: Sample, how: Intervals) -> Measures:
    """Balanced accuracy, macro F1, and the F1 of classes without a threshold of their own."""
    if reason := s.uncalled:
        each = (missing(("f1",), reason, s.codes, name) for name in s.names if name)
        return sum(each, missing(("balanced accuracy", "macro f1"), reason, s.codes))
    found = classes_statistic(s.truth, s.called, len(s.names), s.codes, s.patients, of=s.names, note=LARGEST)
    return Measures((found,))


def grade_agreement(s: Sample, how: Intervals) -> Measures:
    """Quadratic kappa, where the classes are grades."""
    place = np.array(grades([q.of for q in s.questions if not q.group]), np.float64)
    if not len(place):
        return Measures()
    if reason := s.uncalled:
        return missing(("quadratic kappa",), reason, s.codes)
    note = f"{LARGEST}; {GRADES}"
    return Measures((kappa_statistic(place[s.truth], place[s.called], s.codes, s.patients, note=note),))


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


def squared_error_of_classes(s: Sample, how: Intervals) -> Measures:
    """The Brier score summed over the classes."""
    if reason := s.unsuited:
        return missing(("brier",), reason, s.codes)
    loss = ((s.score - np.eye(s.score.shape[1])[s.truth]) ** 2).sum(axis=1)
    return Measures((mean_statistic("brier", loss, s.codes, s.patients, note="summed over the classes"),))


def confidence_error(s: Sample, how: Intervals) -> Measures:
    """The ECE of the confidence in the most probable class."""
    if reason := s.unsuited:
        return missing(("ece",), reason, s.codes)
    return Measures((ece_statistic(s.called == s.truth, s.score.max(axis=1), s.codes, s.patients, note=CONFIDENCE),))


# -- of a quantity ------------------------------------------------------------------------------------------------


def errors(s: Sample, how: Intervals) -> Measures:
    """How far the predicted numbers are from the truth."""
    bad = int((~np.isfinite(s.truth) | ~np.isfinite(s.score)).sum())
    reason = f"{bad} of {len(s.truth)} values are not finite" if bad else "" if len(s.truth) else "no cases"
    if reason := too_large(s.truth, s.score) or reason:
        return missing(ERRORS, reason, s.codes, s.of)
    return Measures((errors_statistic(s.truth, s.score, s.codes, s.patients, of=s.of),))


def order(s: Sample, how: Intervals) -> Measures:
    """Whether the predicted numbers are in the order of the truth."""
    return Measures(estimates=(concordance(s.truth, s.score, s.codes, level=how.level, of=s.of),))


def too_large(*values: NDArray[np.float64]) -> str:
    """Why errors cannot be squared and summed; empty if they can."""
    bad = sum(int((np.isfinite(v) & (np.abs(v) > LARGEST_NUMBER)).sum()) for v in values)
    return f"{bad} of {len(values) * len(values[0])} values are beyond ±{LARGEST_NUMBER:g}" if bad else ""


Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GroupValue:
    """``influence`` (P,): how far each patient moves the value, to first order; ``present`` (P,) who is in the group."""

    estimate: Estimate
    influence: Floats
    present: NDArray[np.bool_]
    note: str = ""

    @property
    def error(self) -> float:
        """The standard error that the patients' influence implies."""
        return _error(self.influence, self.present)

    def on_scale(self, scale: Scale) -> tuple[float, float]:
        """The value and its error where errors are stable: arcsine of the root of a share, logarithm."""
        to = {"share": lambda x: math.asin(math.sqrt(min(1.0, max(0.0, x)))),
              "positive": lambda x: math.log(max(x, 1e-12))}[scale]  # fmt: skip
        e = self.estimate
        centre, low, high = to(e.value), to(e.low), to(e.high)
        wide = (high - low) / 2 if low < centre < high else max(centre - low, high - centre)
        return centre, wide / normal_quantile(e.level)


#: From the sample of a subgroup, and those of the subgroups beside it, at a level.
GapEstimator = Callable[[Sample, Sequence[Sample], float], GroupValue]


def influence_on_share(good: NDArray[np.bool_], codes: Codes) -> Floats:
    """(P,) how far each patient moves the share of ``good`` (K,)."""
    return np.asarray(np.bincount(codes, (good - good.mean()) / len(good)), np.float64)


def influence_correlation(one: Floats, other: Floats) -> float:
    """That of two values, from how far each patient moves them."""
    last = min(len(one), len(other))
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return max(-1.0, min(1.0, float(one[:last] @ other[:last]) / size)) if size > TINY**2 else 0.0


def _value(s: Sample, e: Estimate, each: Floats, note: str = "") -> GroupValue:
    """``each`` (K,): how far each case of the sample moves the value."""
    influence = np.asarray(np.bincount(s.codes, each, s.patients), np.float64)
    return GroupValue(e, influence, np.bincount(s.codes, minlength=s.patients) > 0, note)


def _missing(s: Sample, metric: str, of: str, reason: str) -> GroupValue:
    patients = distinct(s.codes) if len(s.codes) else 0
    none = undefined(metric, reason, of=of, images=len(s.codes), patients=patients)
    return _value(s, none, np.zeros(len(s.codes)))


def _error(influence: Floats, present: NDArray[np.bool_]) -> float:
    patients = int(np.count_nonzero(present))
    return math.sqrt(patients / max(patients - 1, 1) * float(influence @ influence))


def group_area(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """As :func:`overread.stats.discrimination.roc.auc`, without sorting again."""
    if s.undefined:
        return _missing(s, "auc", s.of, s.undefined)
    placed = placements(s.truth, s.score)
    cohort = Cohort.of(s.truth, s.codes)
    found = shares(cohort, placed[None])
    e = cohort.estimate("auc", found, placed, level, s.of)
    positives = int(np.count_nonzero(s.truth))
    each = (placed - placed[s.truth].mean()) / np.where(s.truth, positives, len(s.truth) - positives)
    return _value(s, e, each)


def group_sensitivity(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The share of the positives that are called so."""
    return _rate(s, True, level)


def group_specificity(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The share of the negatives that are called so."""
    return _rate(s, False, level)


def _rate(s: Sample, positive: bool, level: float) -> GroupValue:
    metric = "sensitivity" if positive else "specificity"
    if reason := s.uncalled:
        return _missing(s, metric, s.of, reason)
    inside = s.truth == positive
    one = replace(s, **{n: getattr(s, n)[inside] for n in ("rows", "truth", "score", "called", "codes")})
    if not len(one.codes):
        return _missing(one, metric, s.of, f"0 {'positives' if positive else 'negatives'}")
    return _share(one, metric, s.of, one.called == positive, level, s.rule)


def _share(s: Sample, metric: str, of: str, good: NDArray[np.bool_], level: float, note: str = "") -> GroupValue:
    found = proportion(good, s.codes, level=level, metric=metric, of=of)
    return _value(s, found, (good - found.value) / len(good), note)


def group_balanced_accuracy(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The mean of sensitivity and specificity."""
    sides = [_rate(s, positive, level) for positive in (True, False)]
    for side in sides:
        if side.estimate.undefined:
            return _missing(s, "balanced accuracy", s.either, side.estimate.undefined)
    value = sum(side.estimate.value for side in sides) / 2
    influence, present = (sides[0].influence + sides[1].influence) / 2, sides[0].present | sides[1].present
    fewest, error = min(side.estimate.patients for side in sides), _error(influence, present)
    if error > TINY and TINY < value < 1 - TINY and fewest > 1:
        ends, method = logit_interval(value, error, t_quantile(level, fewest - 1)), "linearised, logit"
    else:
        ends, method = wilson(value, fewest, normal_quantile(level)), f"Wilson bound for {fewest} patients"
    e = Estimate("balanced accuracy", value, *ends, level, method, len(s.codes), int(present.sum()), s.either)
    return GroupValue(e, influence, present, s.rule)


def group_macro_area(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The mean AUC over the classes that have both answers in every set that is compared."""
    single = [i for i, q in enumerate(s.questions) if not q.group]
    known = [i for i in single if not any(other.questions[i].undefined for other in (s, *beside))]
    if not known:
        # the first question's own cases: of findings the others are known elsewhere
        return _missing(s.questions[single[0]], "macro auc", "", "no class has both answers in all that are compared")
    found = [group_area(s.questions[i], (), level) for i in known]
    influence, present = np.mean([f.influence for f in found], axis=0), np.any([f.present for f in found], axis=0)
    value, error = float(np.mean([f.estimate.value for f in found])), _error(influence, present)
    z = normal_quantile(level)
    if error > TINY and TINY < value < 1 - TINY:
        ends = logit_interval(value, error, z)
    else:
        ends = wilson(min(1.0, max(0.0, value)), int(present.sum()), z)
    images = len(s.questions[single[0]].codes)
    e = Estimate("macro auc", value, *ends, level, "DeLong, logit", images, int(present.sum()))
    left = [s.questions[i].of for i in single if i not in known]
    return GroupValue(
        e, influence, present, f"mean over {len(known)}" + (f", without {', '.join(left)}" if left else "")
    )


def group_top_choice(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The share whose most probable class is right."""
    if reason := s.uncalled:
        return _missing(s, "accuracy", "", reason)
    return _share(s, "accuracy", "", s.called == s.truth, level)


def group_mean_error(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The mean absolute error of a quantity."""
    off = np.abs(s.score - s.truth)
    if reason := not_finite(off) or too_large(off):
        return _missing(s, "mae", s.of, reason)
    value = float(off.mean())
    found = _value(s, Estimate("mae", value, of=s.of), (off - value) / len(off))
    count, low, high = int(found.present.sum()), math.nan, math.nan
    if found.error > TINY * value > 0 and count > 1:
        factor = math.exp(min(700.0, t_quantile(level, count - 1) * found.error / value))
        low, high = value / factor, value * factor
    e = Estimate("mae", value, low, high, level, "linearised, logarithm", len(off), count, s.of)
    return replace(found, estimate=e)

"""What each metric is of a sample: at once where there is a closed form, else as a statistic to resample.

An estimator takes a :class:`Sample` and :class:`Intervals` and gives :class:`Measures`; one of two models takes both
samples and gives their differences. The table of :mod:`overread.evaluation.metrics` says which metric has which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import require
from overread.evaluation.decision.class_decision import LARGEST
from overread.evaluation.questions import Codes, Sample, largest_of
from overread.stats.arrays import distinct, normal_quantile
from overread.stats.calibration.reliability import (
    PARTS,
    brier_uncertainty,
    decomposition_statistic,
    ece_statistic,
    intercept_and_slope,
    observed_to_expected,
)
from overread.stats.classification import (
    at_prevalence,
    at_threshold,
    classes_statistic,
    likelihood_ratios,
    threshold_statistic,
)
from overread.stats.decision import decision_curve, decision_difference
from overread.stats.discrimination.delong import auc_difference
from overread.stats.discrimination.partial_auc import fixed_rates_statistic, partial_auc, partial_auc_difference
from overread.stats.discrimination.roc import areas_statistic, auc, concordance
from overread.stats.estimate import Difference, Estimate, implied, undefined, without
from overread.stats.proportions import paired_proportions, proportion, threshold_differences
from overread.stats.regression import METRICS as ERRORS
from overread.stats.regression import errors_statistic, kappa_statistic, mcc_statistic
from overread.stats.resample import Statistic, mean_statistic

CONFIDENCE = "confidence of the most probable class"
#: The part of the ROC curve whose area is told: what a clinic with few false alarms can work at.
SPECIFIC = (0.8, 1.0)
#: The square of a larger number may overflow.
LARGEST_NUMBER = 1e150
#: The cells of the table of truth and call.
CELLS = ("true positives", "false positives", "false negatives", "true negatives")
COUNTED = "no interval: it is what it is of these cases"
GRADES = "classes are grades: their names are numbers"


@dataclass(frozen=True)
class Intervals:
    """How intervals are made: their level, the seed and number of resamples (0: by the number of images).

    ``prevalence``: that of the clinic, for predictive values there. ``fixed``: the sensitivity (specificity) at which
    the other is told; ``net_benefit_at``: the risk at which net benefit is. ``whole``: whether these are all cases, of
    which more is told than of a subgroup.
    """

    level: float = 0.95
    seed: int = 0
    resamples: int = 0
    prevalence: float | None = None
    fixed: float = 0.9
    net_benefit_at: float | None = None
    whole: bool = True

    def __post_init__(self) -> None:
        normal_quantile(self.level)
        at, risk = self.prevalence, self.net_benefit_at
        require(at is None or 0 < at < 1, "prevalence must lie between 0 and 1", given=at)
        require(0 < self.fixed < 1, "the fixed sensitivity and specificity must lie between 0 and 1", given=self.fixed)
        require(
            risk is None or 0 < risk < 1, "the risk at which net benefit is told must lie between 0 and 1", given=risk
        )


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
    found = threshold_differences(a.truth, a.called, b.called, a.codes, level=how.level, of=a.of)
    noted = [_with_rules(d, (a.rule, b.rule, _against(a, b))) for d in found]
    return [*noted[:2], *(relabelled(d, of=a.either) for d in noted[2:] if a.full)]


def _against(a: Sample, b: Sample) -> str:
    """By what both are called."""
    return a.rule if a.rule == b.rule else f"{a.rule} against {b.rule}"


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


def counts(s: Sample, how: Intervals) -> Measures:
    """The threshold, and how many cases are called what they are and are not: numbers without an interval."""
    if s.uncalled:
        return missing(("threshold", *CELLS), s.uncalled, s.codes, s.of)
    truth, patients = s.truth, distinct(s.codes) if len(s.codes) else 0
    cells = (truth & s.called, ~truth & s.called, truth & ~s.called, ~truth & ~s.called)
    values = {name: float(np.count_nonzero(cell)) for name, cell in zip(CELLS, cells)}
    values = ({} if s.threshold is None else {"threshold": s.threshold}) | values
    return Measures(estimates=tuple(
        Estimate(name, value, level=how.level, method=f"{s.rule}; {COUNTED}", images=len(s.codes), patients=patients, of=s.of)
        for name, value in values.items()
    ))  # fmt: skip


def likelihoods(s: Sample, how: Intervals) -> Measures:
    """Likelihood ratios of the two calls."""
    if not s.full:
        return Measures()
    if s.uncalled:
        return missing(("lr+", "lr-"), s.uncalled, s.codes, s.of)
    return Measures(estimates=tuple(likelihood_ratios(s.truth, s.called, s.codes, level=how.level, of=s.of, note=s.rule)))  # fmt: skip


def fixed_rates(s: Sample, how: Intervals) -> Measures:
    """Specificity at a fixed sensitivity, and the other way round."""
    if not (s.full and how.whole):
        return Measures()
    if s.undefined:
        return missing(("specificity at sensitivity", "sensitivity at specificity"), s.undefined, s.codes, s.of)
    return Measures((fixed_rates_statistic(s.truth, s.score, s.codes, s.patients, at=how.fixed, of=s.of),))


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
    few = min(distinct(s.codes[s.truth == y]) if (s.truth == y).any() else 0 for y in (True, False))
    loss, count = (s.score - s.truth) ** 2, distinct(s.codes) if len(s.codes) else 1
    # The rarer class brings most of the spread: Student's t of twice its patients.
    return Measures((mean_statistic("brier", loss, s.codes, s.patients, of=s.of, effective=count, freedom=2 * few),))


def calibration_error(s: Sample, how: Intervals) -> Measures:
    """The ECE of a question."""
    if not s.full:
        return Measures()
    if reason := s.unsuited:
        return missing(("ece",), reason, s.codes, s.of)
    return Measures((ece_statistic(s.truth, s.score, s.codes, s.patients, of=s.of),))


def decomposition(s: Sample, how: Intervals) -> Measures:
    """What the Brier score is made of."""
    if not (s.full and how.whole):
        return Measures()
    if reason := s.unsuited:
        return missing(PARTS, reason, s.codes, s.of)
    found = decomposition_statistic(s.truth, s.score, s.codes, s.patients, of=s.of)
    return Measures((found,), (brier_uncertainty(s.truth, s.codes, level=how.level, of=s.of),))


def promised(s: Sample, how: Intervals) -> Measures:
    """How many are ill over how many the probabilities promise."""
    if not s.full:
        return Measures()
    if s.unsuited:
        return missing(("o/e ratio",), s.unsuited, s.codes, s.of)
    return Measures(estimates=(observed_to_expected(s.truth, s.score, s.codes, level=how.level, of=s.of),))


def benefit(s: Sample, how: Intervals) -> Measures:
    """Net benefit at the risk that was named."""
    if not s.full or how.net_benefit_at is None:
        return Measures()
    if s.unsuited:
        return missing(("net benefit",), s.unsuited, s.codes, s.of)
    at = how.net_benefit_at
    found = decision_curve(s.truth, s.score, s.codes, thresholds=[at], prevalence=how.prevalence, level=how.level)
    return Measures(estimates=(replace(found.at(at), of=s.of),))


def benefit_difference(a: Sample, b: Sample, how: Intervals) -> list[Difference]:
    """Of two net benefits at one risk, on the same cases."""
    if not a.full or how.net_benefit_at is None:
        return []
    if reason := a.unsuited or b.unsuited:
        patients = distinct(a.codes) if len(a.codes) else 0
        return [missing_difference("net benefit", reason, of=a.of, images=len(a.codes), patients=patients)]
    one, other = (benefit(s, how).estimates[0] for s in (a, b))
    at = [how.net_benefit_at]
    gap = decision_difference(a.truth, a.score, b.score, a.codes, thresholds=at, level=how.level).at(at[0])
    return [implied(one, other, replace(gap, of=a.of))]


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
    images, sizes = asked_of(known)
    note = f"mean over {len(known)} of {len(asked)}{sizes}"
    return Measures((areas_statistic([q.truth for q in known], [q.score for q in known], [q.codes for q in known],
                                     ("",) * len(known), macro=True, each=False, note=note, images=images),))  # fmt: skip


def asked_of(known: Sequence[Sample]) -> tuple[int, str]:
    """How many cases any of the questions is asked of; and in words of how many each, where they differ."""
    sizes = [len(q.rows) for q in known]
    each = f", each of {min(sizes):,} to {max(sizes):,} cases" if min(sizes) < max(sizes) else ""
    return len(np.unique(np.concatenate([q.rows for q in known]))), each


def _areas(asked: Sequence[Sample], *, macro: bool) -> Measures:
    known, without_both = [q for q in asked if not q.undefined], [q for q in asked if q.undefined]
    lost = sum((missing(("average precision",), q.undefined, q.codes, q.of) for q in without_both), Measures())
    if not known:
        none = (undefined("macro auc", "no class or finding has both answers"),) if macro else ()
        return Measures(estimates=none) + lost
    images, sizes = asked_of(known)
    note = f"mean over {len(known)}{sizes}" + (
        f", without {', '.join(q.of for q in without_both)}" if without_both else ""
    )
    each = [q.truth for q in known], [q.score for q in known], [q.codes for q in known], tuple(q.of for q in known)
    # the mean needs no resamples
    mean = (areas_statistic(*each, macro=True, each=False, note=note, images=images),) if macro else ()
    return Measures((*mean, areas_statistic(*each, macro=False, note=note))) + lost


def class_accuracy(s: Sample, how: Intervals) -> Measures:
    """Accuracy of the calls of several classes."""
    if s.target.task.binary:
        return Measures()
    if reason := s.uncalled:
        return missing(("accuracy",), reason, s.codes)
    found = proportion(s.called == s.truth, s.codes, level=how.level, metric="accuracy")
    return Measures(estimates=(replace(found, method=f"{s.rule}; {found.method}"),))


def top_choice(s: Sample, how: Intervals) -> Measures:
    """Accuracy of the most probable of two classes, or of several that are called by another rule, whose balanced
    accuracy is told too: what papers without an operating point report."""
    several = bool(s.decision and s.decision.moves)
    metrics = ("top accuracy", "top balanced accuracy") if several else ("top accuracy",)
    if not (several or s.target.task.binary):
        return Measures()
    if reason := s.uncalled or _cut_at_half(s):
        return missing(metrics, reason, s.codes)
    right = largest_of(s.score) if several else s.score[:, 1] > s.score[:, 0]
    found = proportion(right == s.truth, s.codes, level=how.level, metric=metrics[0])
    accuracy = Measures(estimates=(replace(found, method=f"{LARGEST}; {found.method}"),))
    if not several:
        return accuracy
    whole = classes_statistic(s.truth, largest_of(s.score), len(s.names), s.codes, s.patients, note=LARGEST)
    balanced = whole.only([0])
    named = replace(balanced, columns=(replace(balanced.columns[0], metric="top balanced accuracy"),))
    return accuracy + Measures((named,))


def cost(s: Sample, how: Intervals) -> Measures:
    """Mean cost of a case by the table of costs that classes are called by, and what the most probable class would cost."""
    if s.decision is None or s.decision.rule != "cost":
        return Measures()
    if reason := s.uncalled:
        return missing(("mean cost", "mean cost by argmax"), reason, s.codes)
    costs = s.decision.costs(s.target.names)
    sides = (("mean cost", s.called, s.rule), ("mean cost by argmax", largest_of(s.score), LARGEST))
    return Measures(tuple(
        mean_statistic(metric, costs[s.truth, called], s.codes, s.patients, note=rule, scale="plain")
        for metric, called, rule in sides
    ))  # fmt: skip


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
    return [_with_rules(found, (a.rule, b.rule, _against(a, b)))]


def top_choice_resampled(s: Sample, how: Intervals) -> Measures:
    """The same as a statistic, of two classes too."""
    if reason := s.uncalled or _cut_at_half(s):
        return missing(("accuracy",), reason, s.codes)
    right = (s.called == s.truth).astype(np.float64)
    found = mean_statistic("accuracy", right, s.codes, s.patients, note=s.rule)
    return Measures((replace(found, columns=(replace(found.columns[0], scale="share", effective=distinct(s.codes)),)),))


def class_calls(s: Sample, how: Intervals) -> Measures:
    """Balanced accuracy, macro F1, and the F1 of classes without a threshold of their own."""
    if reason := s.uncalled:
        each = (missing(("f1",), reason, s.codes, name) for name in s.names if name)
        return sum(each, missing(("balanced accuracy", "macro f1"), reason, s.codes))
    found = classes_statistic(s.truth, s.called, len(s.names), s.codes, s.patients, of=s.names, note=s.rule)
    return Measures((found,))


def grade_agreement(s: Sample, how: Intervals) -> Measures:
    """Quadratic kappa, where the classes are grades."""
    place = np.array(grades([q.of for q in s.questions if not q.group]), np.float64)
    if not len(place):
        return Measures()
    if reason := s.uncalled:
        return missing(("quadratic kappa",), reason, s.codes)
    note = f"{s.rule}; {GRADES}"
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
    return Measures(
        (ece_statistic(largest_of(s.score) == s.truth, s.score.max(axis=1), s.codes, s.patients, note=CONFIDENCE),)
    )


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

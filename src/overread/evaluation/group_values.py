"""What a metric is in a subgroup, and how far each patient moves it there: a patient may stand on both sides of a gap.

Two eyes, two views: the two sides of a gap then share patients, and their correlation is that of what each patient
adds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.decision.class_decision import LARGEST
from overread.evaluation.estimators import asked_of, too_large
from overread.evaluation.questions import Codes, Sample
from overread.stats.arrays import TINY, distinct, normal_quantile, not_finite, t_quantile
from overread.stats.discrimination.delong import Cohort, placements, shares
from overread.stats.estimate import Estimate, Moved, mean_of, undefined
from overread.stats.proportions import proportion
from overread.stats.resample import Scale

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
    return replace(_mean(sides, "balanced accuracy", s.either, len(s.codes)), note=s.rule)


def group_macro_area(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The mean AUC over the classes that have both answers in every set that is compared."""
    single = [i for i, q in enumerate(s.questions) if not q.group]
    known = [i for i in single if not any(other.questions[i].undefined for other in (s, *beside))]
    if not known:
        # the first question's own cases: of findings the others are known elsewhere
        return _missing(s.questions[single[0]], "macro auc", "", "no class has both answers in all that are compared")
    found = [group_area(s.questions[i], (), level) for i in known]
    images, sizes = asked_of([s.questions[i] for i in known])
    left = [s.questions[i].of for i in single if i not in known]
    note = f"mean over {len(known)}{sizes}" + (f", without {', '.join(left)}" if left else "")
    return replace(_mean(found, "macro auc", "", images), note=note)


def _mean(parts: Sequence[GroupValue], metric: str, of: str, images: int) -> GroupValue:
    """Of several values that the same patients move, from their own intervals."""
    estimates = [part.estimate for part in parts]
    found = mean_of([Moved(e.value, e.low, e.high, p.influence) for e, p in zip(estimates, parts)])
    present, level = np.any([part.present for part in parts], axis=0), estimates[0].level
    how = f"{estimates[0].method}, squared and added"
    e = Estimate(metric, found.value, found.low, found.high, level, how, images, int(present.sum()), of)
    return GroupValue(e, found.influence, present)


def group_top_choice(s: Sample, beside: Sequence[Sample], level: float) -> GroupValue:
    """The share that is called what it is, by the rule that classes are called by."""
    if reason := s.uncalled:
        return _missing(s, "accuracy", "", reason)
    return _share(s, "accuracy", "", s.called == s.truth, level, "" if s.rule == LARGEST else s.rule)


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

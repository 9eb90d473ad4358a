"""The area under the part of the ROC curve that a clinic could work at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import (
    Booleans,
    Floats,
    Integers,
    Patients,
    distinct,
    no_ranking,
    normal_quantile,
    numbers,
    patient_codes,
    t_quantile,
    zero_one,
)
from overread.stats.discrimination.delong import (
    NOTHING,
    Cohort,
    Shares,
    covariance,
    same_order,
    shares,
    variance_between,
)
from overread.stats.discrimination.roc import Areas, area_interval, misplaced, rank
from overread.stats.estimate import Difference, Estimate, implied, ratio, square_and_add, two_sided, undefined, without
from overread.stats.resample import Column, Statistic, Weights

Range = tuple[float, float]


@dataclass(frozen=True)
class _Part:
    """Which part of the curve, and how its area is given. ``swap``: over sensitivity, the classes swap roles."""

    low: float
    high: float
    swap: bool
    standardised: bool

    @property
    def width(self) -> float:
        return self.high - self.low

    @property
    def metric(self) -> str:
        return "standardised partial auc" if self.standardised else "partial auc"

    @property
    def about(self) -> str:
        return f"{'sensitivity' if self.swap else 'specificity'} {self.low:g} to {self.high:g}"

    def scaled(self, share: float) -> float:
        """The area, or its McClish form, of the mean height ``share`` of the part."""
        if not self.standardised:
            return share * self.width
        chance = 1 - (self.low + self.high) / 2  # mean height of the diagonal
        return (1 + (share - chance) / (1 - chance)) / 2


@checked
def partial_auc(
    truth: ArrayLike,
    score: ArrayLike,
    patients: Patients = None,
    *,
    specificity: Range | None = None,
    sensitivity: Range | None = None,
    standardised: bool = False,
    level: float = 0.95,
    of: str = "",
) -> Estimate:
    """Area under the ROC curve over a range of specificity, or beside it over a range of sensitivity.

    ``truth`` (N,) 0/1, ``score`` (N,), ``patients`` (N,) or None; one range (low, high) within 0 … 1. The area lies in
    0 … high − low; ``standardised`` gives .5 to chance and 1 to a perfect score (McClish 1989). Ties and the ends of
    the range lie on straight pieces of the curve. Estimator: Dodd & Pepe 2003; variance: of the placements, those
    beyond the range held at its ends (the ends are estimated too), clustered after Obuchowski 1997; interval on the
    logit scale of the mean height, or Newcombe's where that variance is zero. Undefined for one class or a score that
    is not finite. Raises :class:`ArgumentError` unless exactly one range is given.

    >>> print(partial_auc([0, 0, 0, 1, 1, 1], [1, 2, 4, 3, 5, 6], specificity=(0.5, 1), standardised=True))
    0.852 (0.393–0.995)
    """
    part = _part(specificity, sensitivity, standardised)
    return _partial_aucs(truth, [score], patients, part, level, of)[0][0]


@checked
def partial_auc_difference(
    truth: ArrayLike,
    score: ArrayLike,
    other: ArrayLike,
    patients: Patients = None,
    *,
    specificity: Range | None = None,
    sensitivity: Range | None = None,
    standardised: bool = False,
    level: float = 0.95,
    of: str = "",
) -> Difference:
    """Partial AUC of ``score`` minus that of ``other`` on the same cases.

    Arguments as :func:`partial_auc`. Interval ± z standard errors of the difference of the placements; two
    scores that rank every case alike differ by 0 without error.

    >>> d = partial_auc_difference([0, 0, 1, 1], [1, 2, 3, 4], [2, 4, 6, 8], specificity=(0.8, 1))
    >>> d.difference.value, d.p
    (0.0, 1.0)
    """
    part = _part(specificity, sensitivity, standardised)
    (first, second), cohort, added = _partial_aucs(truth, [score, other], patients, part, level, of)
    found = replace(first, metric=f"{part.metric} difference", value=first.value - second.value)
    if added is None:
        return without(first, second, found)
    scale = part.scaled(1.0) - part.scaled(0.0)
    variance = variance_between(cohort, added, 0, 1)
    error = scale * math.sqrt(variance) if variance > NOTHING else 0.0
    how = f"; {part.about}" + (", by patient" if cohort.clustered else "")
    if not error and not same_order(numbers(score), numbers(other)):
        low, high = square_and_add(first, second, 0.0)
        return implied(first, second, replace(found, low=low, high=high, method="squared and added" + how))
    freedom = cohort.freedom(added.apart(0, 1)) if error else 0
    wide = t_quantile(level, freedom) if freedom else normal_quantile(level)
    half, statistic = wide * error, ratio(found.value, error)
    how = ("placements, paired" if error else "none: both rank the cases alike") + how
    wald = replace(found, low=found.value - half, high=found.value + half, method=how)
    return Difference(first, second, wald, error, statistic, two_sided(statistic, freedom))


def _part(specificity: Range | None, sensitivity: Range | None, standardised: bool) -> _Part:
    swap, both = specificity is None, (specificity, sensitivity)
    require(
        swap != (sensitivity is None), "a partial area needs one range, of specificity or of sensitivity", given=both
    )
    low, high = sensitivity if swap else specificity  # type: ignore[misc]
    require(0 <= low < high <= 1, "a range must rise within 0 … 1", given=(low, high))
    return _Part(float(low), float(high), swap, standardised)


def _partial_aucs(
    truth: ArrayLike, scores: list[ArrayLike], patients: Patients, part: _Part, level: float, of: str
) -> tuple[list[Estimate], Cohort, Shares | None]:
    positive = zero_one(truth)
    given = [numbers(score, len(positive)) for score in scores]
    cohort = Cohort.of(positive, patient_codes(patients, len(positive)))
    if reason := next(filter(None, (no_ranking(positive, score) for score in given)), ""):
        none = undefined(part.metric, reason, of=of, images=cohort.images, patients=cohort.patients)
        return [none] * len(given), cohort, None
    if part.swap:
        cohort, given = Cohort.of(~positive, cohort.codes), [-score for score in given]
    placed = np.stack([partial_placements(cohort.truth, score, part.low, part.high) for score in given])
    added = shares(cohort, placed)
    found = [_estimate(cohort, part, added.only(i), each, level, of) for i, each in enumerate(placed)]
    return found, cohort, added


def _estimate(cohort: Cohort, part: _Part, added: Shares, placed: Floats, level: float, of: str) -> Estimate:
    height, variance, freedom = float(added.value[0]), float(covariance(cohort, added)[0, 0]), cohort.freedom(added)
    inside, truth, codes = min(max(height, 0.0), 1.0), cohort.truth, cohort.codes
    # The sensitivity at a negative is given over the width: back to a share.
    few = misplaced(truth, codes, inside, (placed[truth], placed[~truth] * part.width))
    low, high, how = area_interval(truth, codes, inside, variance, few, freedom, level, "placements", part.width)
    ends = part.scaled(height), part.scaled(low), part.scaled(high)
    return Estimate(part.metric, *ends, level, f"{part.about}; {how}", cohort.images, cohort.patients, of)


def partial_placements(truth: Booleans, score: Floats, low: float, high: float) -> Floats:
    """(N,): as :func:`overread.stats.discrimination.delong.placements`, between two specificities.

    Of a positive the share of the range of false-positive rates at which it is flagged: their mean is the mean
    height of the curve. Of a negative the sensitivity at its score, held between those at the ends of the range,
    over the range's width. Both classes present.
    """
    ranking, (first, last) = rank(truth, score), (1 - high, 1 - low)
    true = np.cumsum(ranking.truth)[ranking.last].astype(np.float64)  # (G,)
    false = ranking.last + 1 - true
    false, true = np.append(0.0, false / false[-1]), np.append(0.0, true / true[-1])
    flagged = _flagged_until(last, false) - _flagged_until(first, false)
    ends = np.interp((first, last), false, true)
    sensitivity = np.clip((true[1:] + true[:-1]) / 2, *ends)
    placed = np.empty(len(truth))
    of_group = np.where(ranking.truth, flagged[ranking.group], sensitivity[ranking.group])
    placed[ranking.order] = of_group / (high - low)
    return placed


def _flagged_until(end: float, false: Floats) -> Floats:
    """Per group of ties, over which length of 0 … ``end`` of the false-positive rate it is flagged, its ramp halved."""
    before, after = false[:-1], false[1:]
    inside = np.clip(end, before, after) - before
    with np.errstate(invalid="ignore", divide="ignore"):
        ramp = np.where(after > before, inside**2 / (2 * (after - before)), 0.0)
    return ramp + np.maximum(end - after, 0.0)


# -- a single point of the curve: what one rate is where the other is fixed ----------------------------------------


@checked
def fixed_rates_statistic(
    truth: Booleans, score: Floats, codes: Integers, patients: int, *, at: float = 0.9, of: str = ""
) -> Statistic:
    """Specificity where sensitivity is at least ``at``, and sensitivity where specificity is, for the bootstrap.

    ``truth`` (N,) with both classes, ``score`` (N,) finite, ``codes`` (N,) of ``patients``. The best that a step of the
    ROC curve reaches; nothing is interpolated. The threshold is found on these cases (in each resample anew), so no
    threshold is promised: a frozen one has a lower rate on new cases.
    """
    require(0 < at <= 1, "the fixed rate must lie between 0 and 1", given=at)
    areas = Areas.of(rank(truth, score), codes)
    people = [distinct(codes[rows]) for rows in (truth, ~truth)]
    note, fewest = "the threshold is found on these cases", min(people)
    about = Column("", of, len(truth), distinct(codes), effective=fewest)

    def compute(weights: Weights) -> Floats:
        found = areas.counted(weights)  # both rates are reached where there is a positive
        true, flagged = found.true, found.flagged
        ill = true[:, -1]
        with np.errstate(invalid="ignore", divide="ignore"):
            tpr, tnr = true / ill[:, None], 1 - (flagged - true) / (found.everyone - ill)[:, None]
        rows, reached = np.arange(len(weights)), (tpr >= at - 1e-12).argmax(axis=1)
        kept = (tnr >= at - 1e-12).sum(axis=1) - 1  # −1: no positive lies so high
        return np.column_stack([tnr[rows, reached], np.where(kept < 0, 0 * ill, tpr[rows, kept])])

    names = ("specificity at sensitivity", "sensitivity at specificity")
    columns = tuple(replace(about, metric=name, note=f"at {at:.4g} or more; {note}") for name in names)
    return Statistic(columns, compute)

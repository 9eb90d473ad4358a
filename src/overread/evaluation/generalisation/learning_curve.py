"""Learning curves: what more images, or more grades per image, gained, and what twice as many would.

Every model is tested on the same cases. The interval at a size is that of the test patients; how much models of one
size differ, because they were taught by other patients, is told apart from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.random import normal
from overread.evaluation.ledger import look_at
from overread.evaluation.metrics import group_of, metric_for, metric_named, statistic_of
from overread.evaluation.operating_point import positives, question
from overread.evaluation.results import Result
from overread.predictions import Predictions
from overread.stats.arrays import distinct, no_ranking, normal_quantile, patient_codes, t_quantile
from overread.stats.discrimination.delong import Cohort, bootstrap_difference, compared, placements, shares
from overread.stats.estimate import Difference, Estimate, undefined
from overread.stats.hypotheses import holm
from overread.stats.power import FEWEST_SIZES, power_laws
from overread.stats.resample import Statistic, Weights, bootstrap, replicate, resamples_for

#: The unit of a curve whose sizes are the grades that the judged cases have; the model is the same, the labels are not.
JUDGED = "grades per judged image"
UNITS = ("images", "patients", "grades per image", JUDGED)
_TWICE = (1.85, 2.15)


@dataclass(frozen=True, eq=False)
class LearningCurve(Result):
    """A metric over sizes in a ``unit``, with what each step gained and the law through them."""

    file: ClassVar[str] = "curve.json"

    metric: str
    of: str
    unit: str
    steps: tuple[Step, ...]
    gains: tuple[Gain, ...]
    law: Law
    level: float
    part: str = ""
    looks: int = 0

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every number as an estimate: at the sizes, of the gains, of the law."""
        law = self.law
        return (
            *(replace(s.estimate, where={self.unit: f"{s.size.value:g}"}) for s in self.steps),
            *(
                replace(g.difference, where={self.unit: f"{g.first:g} to {g.second:g}"})
                for g in self.gains
            ),
            *(replace(g.anew, where={self.unit: f"{g.first:g} to {g.second:g}"}) for g in self.gains),
            *(replace(e, where={self.unit: f"{AHEAD * law.largest:g}"}) for e in (law.ahead, law.more)),
            law.asymptote, law.exponent,
        )  # fmt: skip

    def table(self) -> str:
        """The steps, gains and the law as text for a terminal."""
        return "\n".join(said(self))


@checked
def learning_curve(
    steps: Sequence[tuple[float | Size, Predictions]],
    *,
    metric: str = "",
    unit: str = "images",
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    part: str = "",
    ledger: str | Path | None = None,
    models: Sequence[str] = (),
) -> LearningCurve:
    """A metric at every size of the training set, what each step up gained, and an inverse power law through it.

    ``steps``: the size of each model's training set and its predictions of the same test cases; several of one size
    are repeats, of which the mean is told. ``metric``: see :func:`metric_for`; by default the AUC. ``unit``: of the
    sizes; ``grades per judged image``: the labels of the cases come from so many grades each, and the predictions are the
    same, so that what rises is how well labels tell what a model can. Intervals are over the test patients: DeLong's for one AUC, paired for the gains, else a bootstrap. The
    law's is a bootstrap of the same patients at all sizes, with the spread between repeats added where there are
    repeats; it goes to twice the largest size, no further. ``part``: what the test cases are called; where they are a
    test set, give ``ledger`` and the hashes ``models``. Raises :class:`InputError` for fewer than two sizes or other
    test cases; :class:`UnsoundError` for a ledger that was cut.
    """
    require(unit in UNITS, "the unit of the sizes is not known", given=unit, todo=f"choose from {', '.join(UNITS)}")
    normal_quantile(level)
    groups = by_size(steps, labels=unit != JUDGED)
    one = next(iter(groups.values()))[0]
    metric = metric_for(one, metric)
    every = [p for found in groups.values() for p in found]
    names = list(models) or [""] * len(every)
    looks = look_at(one, ledger, [(name, p.digest) for name, p in zip(names, every, strict=True)])
    data = CurveData(
        groups, metric, group_of(one, metric), level, seed, resamples or resamples_for(len(one)), unit == JUDGED
    )
    found, gained = measured(data)
    rows = tuple(
        Step(size, estimate, values, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan)
        for size, estimate, values in zip(groups, found, data.values, strict=True)
    )
    return LearningCurve(metric, data.of, unit, rows, gains(rows, gained), _law(data, rows), level, part, looks)


# -- the law through the sizes --------------------------------------------------------------------------------------


def _law(data: CurveData, rows: tuple[Step, ...]) -> Law:
    estimates = [r.estimate for r in rows]
    sizes = [r.size.value for r in rows]
    why = why_no_law(estimates)
    curves = np.empty((0, len(rows))) if why else resampled_curves(data, rows)
    if not why and (few_of(data) < 2 or len(curves) < data.resamples / 2):
        why = "too few test patients to resample"
    return law_through(
        sizes, estimates, curves, rising=metric_named(data.metric).better != "lower", note=_with_spread(rows), why=why
    )


def _with_spread(rows: tuple[Step, ...]) -> str:
    spread, freedom = pooled(rows)
    if not freedom:
        return "; without the chance of who teaches, since no size was repeated"
    return f"; with a spread between repeats of {spread:.3f}"


# -- in words -------------------------------------------------------------------------------------------------------


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _between(e: Estimate) -> str:
    return f"{_signed(e.value)} ({_signed(e.low)} to {_signed(e.high)})"


@checked
def said(curve: LearningCurve) -> tuple[str, ...]:
    """What a curve says, in sentences: the last step, and what twice as many would bring."""
    lines, name = [], curve.metric.upper() if curve.metric == "auc" else curve.metric
    last = curve.gains[-1]
    factor = last.second / last.first
    how = "doubling" if _TWICE[0] <= factor <= _TWICE[1] else f"{factor:.3g} times"
    thing = curve.unit if curve.unit != "grades per image" else "grades per image"
    opening = f"Doubling the {thing}" if how == "doubling" else f"Taking {how} as many {thing}"
    span = f"from {last.first:,.0f} to {last.second:,.0f}"
    if last.difference.undefined:
        lines.append(f"{opening} ({span}): undefined, {last.difference.undefined}.")
    else:
        anew = "" if last.anew.undefined else (
            f"; had {'others graded' if curve.unit == JUDGED else 'other patients taught'}, {_signed(last.anew.low)} to {_signed(last.anew.high)}")  # fmt: skip
        lines.append(f"{opening} ({span}) changed the {name} by {_between(last.difference)}{anew}.")
    law = curve.law
    if law.undefined:
        lines.append(f"No law is fitted: {law.undefined}.")
    else:
        alone = "" if any(math.isfinite(s.spread) for s in curve.steps) else ", without the chance of who teaches"
        lines.append(
            f"Twice as many as the largest set ({AHEAD * law.largest:,.0f}) would change it by "
            f"{_between(law.more)}, if the law goes on as it began: an extrapolation{alone}."
        )
    return tuple(lines)


# -- the law through a learning curve: where it leads, with an interval, and to twice the largest size at most ----


#: Never further than this times the largest size.
AHEAD = 2.0
_DRAWN = 60  # sizes at which the line is stored


@dataclass(frozen=True)
class Law:
    """The fitted law a − b · n^(−c). ``undefined`` says why there is none.

    ``sizes``, ``values``, ``low``, ``high``: the line and its band; ``largest``: the last size that was tried, beyond
    which the line is an extrapolation. ``ahead``: the metric at twice that size, ``more``: what that would gain.
    """

    asymptote: Estimate
    scale: Estimate
    exponent: Estimate
    ahead: Estimate
    more: Estimate
    largest: float
    sizes: tuple[float, ...] = ()
    values: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    undefined: str = ""


@checked
def why_no_law(estimates: Sequence[Estimate]) -> str:
    """The reason why no law can be fitted to a metric at several sizes; empty if one can."""
    if len(estimates) < FEWEST_SIZES:
        return f"a law needs {FEWEST_SIZES} sizes or more, and there are {len(estimates)}"
    lost = sum(bool(e.undefined) for e in estimates)
    return f"the metric is undefined at {lost} of {len(estimates)} sizes" if lost else ""


@checked
def law_through(
    sizes: Sequence[float],
    estimates: Sequence[Estimate],
    curves: NDArray,
    *,
    rising: bool = True,
    note: str = "",
    why: str = "",
) -> Law:
    """The inverse power law through ``estimates`` at ``sizes``, with percentile intervals over ``curves`` (B, sizes).

    ``curves``: the same metric in resamples of the test patients. ``rising``: larger is better; then the law ends at 1
    at most, else at 0 at least. ``note`` ends the method. ``why``: the reason why there is none, if that is known.
    Undefined also where no law that improves with the size fits better than a flat line.
    """
    n, limit = np.asarray(sizes, np.float64), 1.0 if rising else 0.0
    if why:
        return _none(n, estimates[0], why)
    fitted = power_laws(n, [e.value for e in estimates], rising=rising, limit=limit)
    if abs(float(fitted.at(n)[0, -1] - fitted.at(n)[0, 0])) < 1e-9:
        return _none(n, estimates[0], "no law that improves with the size fits better than a flat line")
    laws = power_laws(n, curves, rising=rising, limit=limit)
    first, tails = estimates[0], _tails(estimates[0].level)
    how = f"least squares, patient bootstrap, {len(curves):,} resamples{note}"

    def told(metric: str, one: float, many: NDArray[np.float64]) -> Estimate:
        low, high = np.percentile(many, tails)
        return Estimate(metric, one, min(one, float(low)), max(one, float(high)), first.level, how,
                        first.images, first.patients, first.of)  # fmt: skip

    grid, ends = np.geomspace(n.min(), AHEAD * n.max(), _DRAWN), np.array([n.max(), AHEAD * n.max()])
    (here, there), (now, then) = fitted.at(ends)[0], laws.at(ends).T
    metrics = _metrics(first.metric)
    pairs = ((fitted.asymptote[0], laws.asymptote), (fitted.scale[0], laws.scale), (fitted.exponent[0], laws.exponent),
             (there, then), (there - here, then - now))  # fmt: skip
    numbers = [told(m, float(one), many) for m, (one, many) in zip(metrics, pairs, strict=True)]
    lines = (grid, fitted.at(grid)[0], *np.percentile(laws.at(grid), tails, axis=0))
    drawn = [tuple(map(float, line)) for line in lines]
    a, b, c, ahead, more = numbers
    return Law(a, b, c, ahead, more, float(n.max()), drawn[0], drawn[1], drawn[2], drawn[3])


def _tails(level: float) -> list[float]:
    return [50 * (1 - level), 50 * (1 + level)]


def _metrics(metric: str) -> tuple[str, ...]:
    return (
        f"{metric} asymptote",
        "learning scale",
        "learning exponent",
        f"{metric} extrapolated",
        f"{metric} gain extrapolated",
    )


def _none(n: NDArray[np.float64], first: Estimate, why: str) -> Law:
    a, b, c, ahead, more = (
        undefined(m, why, of=first.of, images=first.images, patients=first.patients) for m in _metrics(first.metric)
    )
    return Law(a, b, c, ahead, more, float(n.max()), undefined=why)


@dataclass(frozen=True)
class Size:
    """How much a model was taught with. ``value`` is the place on the curve, in the curve's unit.

    ``images`` and ``patients`` of the training set, 0 where they are not known.
    """

    value: float
    images: int = 0
    patients: int = 0


@dataclass(frozen=True)
class Step:
    """One size: the metric's ``estimate`` (mean over repeats, interval over test patients), each repeat's value.

    ``spread``: standard deviation of the repeats, NaN for one.
    """

    size: Size
    estimate: Estimate
    values: tuple[float, ...]
    spread: float


@dataclass(frozen=True)
class Gain:
    """What going from one size to the next changed, on the same test cases.

    ``difference`` of these models, its ``p`` and that after Holm, ``adjusted``. ``anew``: the same with the chance of
    who teaches in its interval, from the spread between repeats; without one where no size was repeated.
    """

    first: float
    second: float
    difference: Estimate
    p: float
    adjusted: float
    anew: Estimate


def by_size(steps: Sequence[tuple[float | Size, Predictions]], labels: bool = True) -> dict[Size, list[Predictions]]:
    """The repeats of each size, from the smallest on, their cases in one order, and their ``labels`` alike."""
    sized = [(s if isinstance(s, Size) else Size(float(s)), p) for s, p in steps]
    require(all(math.isfinite(s.value) and s.value > 0 for s, _ in sized), "sizes must be above 0",
            given=[s.value for s, _ in sized])  # fmt: skip
    values = sorted({s.value for s, _ in sized})
    if len(values) < 2:
        raise InputError("a learning curve needs two sizes at least", given=f"{len(values)}",
                         todo="give predictions of models that were taught with more, or less")  # fmt: skip
    first = _sorted(sized[0][1])
    ready = [(s, _alike(_sorted(p), first, labels)) for s, p in sized]
    return {next(s for s, _ in ready if s.value == v): [p for s, p in ready if s.value == v] for v in values}


def _sorted(p: Predictions) -> Predictions:
    return p.take(np.argsort(p.table["case"].to_numpy(str), kind="stable"))


def _alike(p: Predictions, first: Predictions, labels: bool = True) -> Predictions:
    columns = ["case", "patient", *(first.target.columns if labels else ())]
    same = p.target.names == first.target.names and list(p.target.columns) == list(first.target.columns)
    if not same or not p.table[columns].astype(str).equals(first.table[columns].astype(str)):
        shared = len(set(p.table["case"]) & set(first.table["case"]))
        raise InputError(
            "the models of a learning curve must be tested on the same cases, patients and labels",
            given=f"{len(first):,} and {len(p):,} cases, {shared:,} of them in both",
            todo="predict the same cases with every model",
        )
    return replace(p, target=first.target)


@dataclass(frozen=True, eq=False)
class CurveData:
    """What every part of a curve needs: the repeats of each size, and how intervals are made."""

    groups: dict[Size, list[Predictions]]
    metric: str
    of: str
    level: float
    seed: int
    resamples: int
    relabelled: bool = False

    @property
    def one(self) -> Predictions:
        return next(iter(self.groups.values()))[0]

    @cached_property
    def codes(self) -> NDArray[np.int64]:
        return patient_codes(self.one.patients, len(self.one))

    @cached_property
    def people(self) -> int:
        return max(distinct(self.codes), 1)

    @cached_property
    def each(self) -> list[list[Statistic]]:
        """The metric of every repeat of each size."""
        return [
            [statistic_of(p, self.metric, self.codes, self.people) for p in found] for found in self.groups.values()
        ]

    @cached_property
    def statistics(self) -> list[Statistic]:
        """The mean over the repeats of each size."""
        return [_mean(found) for found in self.each]

    @property
    def values(self) -> list[tuple[float, ...]]:
        """The value of every repeat of each size."""
        ones = np.ones((1, self.people), np.uint16)
        return [tuple(float(s.compute(ones)[0, 0]) for s in found) for found in self.each]


def _mean(statistics: list[Statistic]) -> Statistic:
    """The mean of several statistics of one column."""
    if len(statistics) == 1:
        return statistics[0]
    why = next((s.columns[0].reason for s in statistics), "")

    def compute(weights: Weights) -> NDArray[np.float64]:
        return np.mean([s.compute(weights) for s in statistics], axis=0)

    return Statistic((replace(statistics[0].columns[0], reason=why),), compute)


def _noted(estimate: Estimate, repeats: int) -> Estimate:
    how = f"mean of {repeats} models; {estimate.method}" if repeats > 1 and estimate.method else estimate.method
    return replace(estimate, method=how)


def measured(data: CurveData) -> tuple[list[Estimate], list[Difference]]:
    """The metric at every size, the mean over its repeats, and each step's paired difference."""
    return (_areas if data.metric == "auc" and not data.relabelled else _resampled)(data)


def _areas(data: CurveData) -> tuple[list[Estimate], list[Difference]]:
    """AUCs by DeLong: the mean of several areas is the area of the mean placements."""
    repeats = list(data.groups.values())
    asked = [[question(p, positives(p, None, None)) for p in found] for found in repeats]
    rows, truth, _ = asked[0][0]
    whys = [next(filter(None, (no_ranking(truth, s) for _, _, s in found)), "") for found in asked]
    if any(whys):
        means, gained = _resampled(data)
        return [replace(e, undefined=why) if why else e for e, why in zip(means, whys, strict=True)], gained
    cohort = Cohort.of(truth, patient_codes(data.codes[rows], len(rows)))
    placed = np.stack([np.mean([placements(truth, s) for _, _, s in found], axis=0) for found in asked])
    order = [np.sum([_ranks(s) for _, _, s in found], axis=0) for found in asked]
    parts = shares(cohort, placed)
    areas = [cohort.estimate("auc", parts.only(i), each, data.level, data.of) for i, each in enumerate(placed)]
    gained = [
        compared(cohort, (areas[i + 1], areas[i]), parts.only(i + 1, i), (placed[i + 1], placed[i]), (order[i + 1], order[i]))
        for i in range(len(areas) - 1)
    ]  # fmt: skip
    return [_noted(a, len(f)) for a, f in zip(areas, repeats, strict=True)], gained


def _ranks(score: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(score, return_inverse=True)[1].astype(np.float64)


def _resampled(data: CurveData) -> tuple[list[Estimate], list[Difference]]:
    means, many = data.statistics, [len(found) for found in data.groups.values()]
    how: dict[str, Any] = {"images": len(data.one), "level": data.level, "seed": data.seed, "resamples": data.resamples}
    found = [bootstrap([s], data.people, **how)[0] for s in means]
    gained = [bootstrap_difference(b, a, data.people, **how)[0] for a, b in pairwise(means)]
    return [_noted(e, n) for e, n in zip(found, many, strict=True)], gained


def gains(rows: tuple[Step, ...], gained: list[Difference]) -> tuple[Gain, ...]:
    found = []
    for (a, b), g, q in zip(pairwise(rows), gained, holm([g.p for g in gained]), strict=True):
        difference = replace(g.difference, metric=f"{a.estimate.metric} gain", undefined=_why(a, b, g))
        found.append(Gain(a.size.value, b.size.value, difference, g.p, float(q), _anew(rows, a, b, g)))
    return tuple(found)


def _why(a: Step, b: Step, gained: Difference) -> str:
    return a.estimate.undefined or b.estimate.undefined or gained.difference.undefined


def _anew(rows: tuple[Step, ...], a: Step, b: Step, gained: Difference) -> Estimate:
    """The gain had other patients taught: the variance of the repeats' means added, Satterthwaite's (1946) freedom."""
    test, metric = gained.difference, f"{a.estimate.metric} gain anew"
    spread, freedom = pooled(rows)
    why = _why(a, b, gained) or (
        ""
        if freedom > 1
        else "too few repeats to know the chance of who teaches"
        if freedom
        else "no size was repeated, so the chance of who teaches is not known"
    )
    if why or math.isnan(gained.error):
        return undefined(metric, why or "no interval", of=test.of, images=test.images, patients=test.patients)
    taught = spread**2 * (1 / len(a.values) + 1 / len(b.values))
    total = taught + gained.error**2
    few = min(int(freedom * (total / taught) ** 2), 10**6) if taught > 0 else 10**6
    half = t_quantile(test.level, max(few, 1)) * math.sqrt(total)
    how = f"{test.method}; with a spread between repeats of {spread:.3f}"
    return replace(test, metric=metric, low=test.value - half, high=test.value + half, method=how)


# -- resampled ------------------------------------------------------------------------------------------------------


def resampled_curves(data: CurveData, rows: tuple[Step, ...]) -> NDArray[np.float64]:
    """(B, sizes) the curve in resamples of the test patients, with the chance of the training patients added."""
    found = np.column_stack(
        replicate(data.statistics, data.people, resamples=data.resamples, seed=data.seed, images=len(data.one))
    )
    found = found[np.isfinite(found).all(axis=1)]
    middle = np.array([r.estimate.value for r in rows])
    found = middle + _wider(data) * (found - middle)
    (spread, freedom), many = pooled(rows), np.array([len(r.values) for r in rows])
    if freedom:
        draw = np.arange(found.size).reshape(found.shape)
        found = found + normal(data.seed, 0, draw, "learning curve") * spread / np.sqrt(many)
    return found


def _wider(data: CurveData) -> float:
    """What percentiles of a bootstrap lack where few patients carry the metric: Student's t, and n for n − 1."""
    few = max(few_of(data), 2)
    return t_quantile(data.level, few - 1) / normal_quantile(data.level) * math.sqrt(few / (few - 1))


def few_of(data: CurveData) -> int:
    """The patients that carry the metric: those of the rarer answer."""
    few = max(s.columns[0].effective for s in data.statistics)
    return few if few > 1 else min(data.people, _rarer(data))


def _rarer(data: CurveData) -> int:
    """Patients of the rarer class, of a label; all, of anything else."""
    if not data.one.target.task.exclusive:
        return data.people
    return int(data.one.table.groupby("label")["patient"].nunique().min())


def pooled(rows: tuple[Step, ...]) -> tuple[float, int]:
    """The standard deviation between repeats of one size, pooled over the sizes, and its degrees of freedom."""
    freedom = np.array([len(r.values) - 1 if math.isfinite(r.spread) else 0 for r in rows])
    squares = np.array([r.spread**2 if math.isfinite(r.spread) else 0.0 for r in rows])
    total = int(freedom.sum())
    return (math.sqrt(float((freedom * squares).sum() / total)) if total else math.nan), total

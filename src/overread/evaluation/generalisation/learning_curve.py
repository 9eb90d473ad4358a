"""Learning curves: what more images, or more grades per image, gained, and what twice as many would.

Every model is tested on the same cases. The interval at a size is that of the test patients; how much models of one
size differ, because they were taught by other patients, is told apart from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.evaluation.generalisation.learning_curve_steps import (
    Gain,
    Job,
    Size,
    Step,
    by_size,
    few_of,
    gains,
    measured,
    pooled,
    resampled_curves,
)
from overread.evaluation.ledger import look_at
from overread.evaluation.metrics import group_of, metric_for, metric_named
from overread.evaluation.results import Result
from overread.predictions import Predictions
from overread.stats.arrays import normal_quantile
from overread.stats.estimate import Estimate, undefined
from overread.stats.power import FEWEST_SIZES, power_laws
from overread.stats.resample import resamples_for

UNITS = ("images", "patients", "grades per image")
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
    sizes. Intervals are over the test patients: DeLong's for one AUC, paired for the gains, else a bootstrap. The
    law's is a bootstrap of the same patients at all sizes, with the spread between repeats added where there are
    repeats; it goes to twice the largest size, no further. ``part``: what the test cases are called; where they are a
    test set, give ``ledger`` and the hashes ``models``. Raises :class:`InputError` for fewer than two sizes or other
    test cases; :class:`UnsoundError` for a ledger that was cut.
    """
    require(unit in UNITS, "the unit of the sizes is not known", given=unit, todo=f"choose from {', '.join(UNITS)}")
    normal_quantile(level)
    groups = by_size(steps)
    one = next(iter(groups.values()))[0]
    metric = metric_for(one, metric)
    every = [p for found in groups.values() for p in found]
    names = list(models) or [""] * len(every)
    looks = look_at(one, ledger, [(name, p.digest) for name, p in zip(names, every, strict=True)])
    job = Job(groups, metric, group_of(one, metric), level, seed, resamples or resamples_for(len(one)))
    found, gained = measured(job)
    rows = tuple(
        Step(size, estimate, values, float(np.std(values, ddof=1)) if len(values) > 1 else math.nan)
        for size, estimate, values in zip(groups, found, job.values, strict=True)
    )
    return LearningCurve(metric, job.of, unit, rows, gains(rows, gained), _law(job, rows), level, part, looks)


# -- the law through the sizes --------------------------------------------------------------------------------------


def _law(job: Job, rows: tuple[Step, ...]) -> Law:
    estimates = [r.estimate for r in rows]
    sizes = [r.size.value for r in rows]
    why = why_no_law(estimates)
    curves = np.empty((0, len(rows))) if why else resampled_curves(job, rows)
    if not why and (few_of(job) < 2 or len(curves) < job.resamples / 2):
        why = "too few test patients to resample"
    return law_through(
        sizes, estimates, curves, rising=metric_named(job.metric).better != "lower", note=_with_spread(rows), why=why
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
            f"; had other patients taught, {_signed(last.anew.low)} to {_signed(last.anew.high)}")  # fmt: skip
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

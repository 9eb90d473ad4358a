"""The steps of a learning curve: several models at every size, tested on the same patients, and what each step gained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, require
from overread.core.random import normal
from overread.evaluation.metrics import statistic_of
from overread.evaluation.operating_point import positives, question
from overread.predictions import Predictions
from overread.stats.arrays import distinct, normal_quantile, patient_codes, t_quantile, why_undefined
from overread.stats.discrimination.delong import (
    Cohort,
    bootstrap_difference,
    compared,
    covariance,
    placements,
    shares,
    variance_between,
)
from overread.stats.estimate import Difference, Estimate, undefined
from overread.stats.hypotheses import holm
from overread.stats.resample import Statistic, Weights, bootstrap, replicate


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


def by_size(steps: Sequence[tuple[float | Size, Predictions]]) -> dict[Size, list[Predictions]]:
    """The repeats of each size, from the smallest on, their cases in one order."""
    sized = [(s if isinstance(s, Size) else Size(float(s)), p) for s, p in steps]
    require(all(math.isfinite(s.value) and s.value > 0 for s, _ in sized), "sizes must be above 0",
            given=[s.value for s, _ in sized])  # fmt: skip
    values = sorted({s.value for s, _ in sized})
    if len(values) < 2:
        raise InputError("a learning curve needs two sizes at least", given=f"{len(values)}",
                         todo="give predictions of models that were taught with more, or less")  # fmt: skip
    first = _sorted(sized[0][1])
    ready = [(s, _alike(_sorted(p), first)) for s, p in sized]
    return {next(s for s, _ in ready if s.value == v): [p for s, p in ready if s.value == v] for v in values}


def _sorted(p: Predictions) -> Predictions:
    return p.take(np.argsort(p.table["case"].to_numpy(str), kind="stable"))


def _alike(p: Predictions, first: Predictions) -> Predictions:
    columns = ["case", "patient", *first.target.columns]
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
class Job:
    """What every part of a curve needs: the repeats of each size, and how intervals are made."""

    groups: dict[Size, list[Predictions]]
    metric: str
    of: str
    level: float
    seed: int
    resamples: int

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
    why = next((s.columns[0].why for s in statistics), "")

    def compute(weights: Weights) -> NDArray[np.float64]:
        return np.mean([s.compute(weights) for s in statistics], axis=0)

    return Statistic((replace(statistics[0].columns[0], why=why),), compute)


def _noted(estimate: Estimate, repeats: int) -> Estimate:
    how = f"mean of {repeats} models; {estimate.method}" if repeats > 1 and estimate.method else estimate.method
    return replace(estimate, method=how)


def measured(job: Job) -> tuple[list[Estimate], list[Difference]]:
    """The metric at every size, the mean over its repeats, and each step's paired difference."""
    return (_areas if job.metric == "auc" else _resampled)(job)


def _areas(job: Job) -> tuple[list[Estimate], list[Difference]]:
    """AUCs by DeLong: the mean of several areas is the area of the mean placements."""
    repeats = list(job.groups.values())
    asked = [[question(p, positives(p, None, None)) for p in found] for found in repeats]
    rows, truth, _ = asked[0][0]
    whys = [next(filter(None, (why_undefined(truth, s) for _, _, s in found)), "") for found in asked]
    if any(whys):
        means, gained = _resampled(job)
        return [replace(e, undefined=why) if why else e for e, why in zip(means, whys, strict=True)], gained
    cohort = Cohort.of(truth, patient_codes(job.codes[rows], len(rows)))
    placed = np.stack([np.mean([placements(truth, s) for _, _, s in found], axis=0) for found in asked])
    order = [np.sum([_ranks(s) for _, _, s in found], axis=0) for found in asked]
    parts = shares(cohort, placed)
    spread = np.diag(covariance(cohort, parts))
    areas = [
        cohort.estimate("auc", float(v), float(s), job.level, job.of) for v, s in zip(parts.value, spread, strict=True)
    ]
    gained = [
        compared(cohort, (areas[i + 1], areas[i]), variance_between(cohort, parts, i + 1, i), (order[i + 1], order[i]))
        for i in range(len(areas) - 1)
    ]  # fmt: skip
    return [_noted(a, len(f)) for a, f in zip(areas, repeats, strict=True)], gained


def _ranks(score: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.unique(score, return_inverse=True)[1].astype(np.float64)


def _resampled(job: Job) -> tuple[list[Estimate], list[Difference]]:
    means, many = job.statistics, [len(found) for found in job.groups.values()]
    how: dict[str, Any] = {"images": len(job.one), "level": job.level, "seed": job.seed, "resamples": job.resamples}
    found = [bootstrap([s], job.people, **how)[0] for s in means]
    gained = [bootstrap_difference(b, a, job.people, **how)[0] for a, b in pairwise(means)]
    return [_noted(e, n) for e, n in zip(found, many, strict=True)], gained


def gains(rows: tuple[Step, ...], gained: list[Difference]) -> tuple[Gain, ...]:
    adjusted = holm([g.p for g in gained])
    return tuple(
        Gain(
            a.size.value,
            b.size.value,
            replace(g.difference, metric=f"{a.estimate.metric} gain", undefined=_why(a, b, g)),
            g.p,
            float(q),
            _anew(rows, a, b, g),
        )
        for (a, b), g, q in zip(pairwise(rows), gained, adjusted, strict=True)
    )


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


def resampled_curves(job: Job, rows: tuple[Step, ...]) -> NDArray[np.float64]:
    """(B, sizes) the curve in resamples of the test patients, with the chance of the training patients added."""
    found = np.column_stack(
        replicate(job.statistics, job.people, resamples=job.resamples, seed=job.seed, images=len(job.one))
    )
    found = found[np.isfinite(found).all(axis=1)]
    middle = np.array([r.estimate.value for r in rows])
    found = middle + _wider(job) * (found - middle)
    (spread, freedom), many = pooled(rows), np.array([len(r.values) for r in rows])
    if freedom:
        draw = np.arange(found.size).reshape(found.shape)
        found = found + normal(job.seed, 0, draw, "learning curve") * spread / np.sqrt(many)
    return found


def _wider(job: Job) -> float:
    """What percentiles of a bootstrap lack where few patients carry the metric: Student's t, and n for n − 1."""
    few = max(few_of(job), 2)
    return t_quantile(job.level, few - 1) / normal_quantile(job.level) * math.sqrt(few / (few - 1))


def few_of(job: Job) -> int:
    """The patients that carry the metric: those of the rarer answer."""
    few = max(s.columns[0].effective for s in job.statistics)
    return few if few > 1 else min(job.people, _rarer(job))


def _rarer(job: Job) -> int:
    """Patients of the rarer class, of a label; all, of anything else."""
    if not job.one.target.task.exclusive:
        return job.people
    return int(job.one.table.groupby("label")["patient"].nunique().min())


def pooled(rows: tuple[Step, ...]) -> tuple[float, int]:
    """The standard deviation between repeats of one size, pooled over the sizes, and its degrees of freedom."""
    freedom = np.array([len(r.values) - 1 if math.isfinite(r.spread) else 0 for r in rows])
    squares = np.array([r.spread**2 if math.isfinite(r.spread) else 0.0 for r in rows])
    total = int(freedom.sum())
    return (math.sqrt(float((freedom * squares).sum() / total)) if total else math.nan), total

"""Gaps: how far a subgroup is from the others, and whether the subgroups of a column differ at all.

A patient may stand on both sides of a gap (two eyes, two views). So each value is told with how far each patient moves
it, and what the two sides share is taken from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.estimators import Terms, not_finite, too_large
from overread.evaluation.questions import Facts, Question, largest
from overread.evaluation.subgroups import FEWEST
from overread.stats.arrays import TINY, distinct, logit_interval, normal_quantile, t_quantile
from overread.stats.discrimination.delong import Cohort, covariance, placements, shares
from overread.stats.estimate import Difference, Estimate, chi_square_tail, implied, square_and_add, undefined, without
from overread.stats.hypotheses import Heterogeneity, heterogeneity, holm
from overread.stats.proportions import proportion, wilson

#: What a group of more than two is compared with.
OTHERS = "the others"
#: Which tests Holm's correction counts together.
FAMILY = "Holm over all groups of the metric"

Where = dict[str, str]
Groups = Sequence[tuple[Where, NDArray[np.bool_]]]


@dataclass(frozen=True)
class GroupGap:
    """``gap``: a metric in the group ``where`` minus that in its ``reference``; ``adjusted``: its p after Holm."""

    metric: str
    of: str
    where: Where
    reference: str
    gap: Difference
    adjusted: float = math.nan

    def plain(self) -> dict[str, Any]:
        """As ``curves.json`` holds it."""
        e = self.gap.difference
        return {"metric": self.metric, "of": self.of, "where": self.where, "reference": self.reference,
                "value": e.value, "low": e.low, "high": e.high, "level": e.level, "method": e.method,
                "images": e.images, "patients": e.patients, "p": self.gap.p, "adjusted": self.adjusted,
                "undefined": e.undefined}  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Column:
    """The groups of one column as regions of rows: each group, then of each what is not in it."""

    name: str
    groups: tuple[str, ...]
    regions: tuple[NDArray[np.bool_], ...]
    people: tuple[int, ...]
    codes: NDArray[np.int64]

    @classmethod
    def of(cls, name: str, groups: Groups, codes: NDArray[np.int64], known: NDArray[np.bool_]) -> _Column:
        """The groups of the column ``name``; rows whose truth is not known count nowhere."""
        inside = [rows & known for where, rows in groups if name in where]
        regions = (*inside, *(known & ~rows for rows in inside))
        people = tuple(distinct(codes[rows]) if rows.any() else 0 for rows in regions)
        return cls(name, tuple(w[name] for w, _ in groups if name in w), regions, people, codes)

    @property
    def pairs(self) -> list[tuple[int, int, str]]:
        """Which regions are compared, and what the second is called: of two groups the first with the second."""
        count = len(self.groups)
        if count == 2:
            return [(0, 1, self.groups[1])]
        return [(i, count + i, OTHERS) for i in range(count)] if count > 2 else []

    @property
    def judged(self) -> list[int]:
        """The groups with enough patients."""
        return [i for i in range(len(self.groups)) if self.people[i] >= FEWEST]

    def share_patients(self, regions: Sequence[int]) -> bool:
        """Whether a patient is in two of the regions."""
        one = [np.bincount(self.codes[self.regions[i]], minlength=1) > 0 for i in regions]
        return any(bool((a[: len(b)] & b[: len(a)]).any()) for a, b in combinations(one, 2))


def gaps_of(
    test: Facts, asked: Sequence[Question], codes: NDArray[np.int64], groups: Groups, terms: Terms
) -> tuple[list[GroupGap], list[dict[str, Any]]]:
    """Every gap with its p value after Holm's correction, and the heterogeneity of every column.

    ``codes`` (N,) number the patients, ``groups`` hold the rows (N,) of each subgroup. Each group is compared with all
    other cases, or of two groups the first with the second. The interval is squared and added from those of the two
    sides (Zou & Donner 2008), with their correlation where a patient is on both. Holm's correction is over all groups
    of all columns, for each metric. Groups of fewer than ten patients are not judged.
    """
    columns = [_Column.of(name, groups, codes, test.known) for name in dict.fromkeys(n for w, _ in groups for n in w)]
    found, mixed = [], []
    for measure in measures(test, asked, codes, terms):
        family = []
        for column in columns:
            told = _measured(measure, column)
            family += [_gap(measure, column, told, *pair) for pair in column.pairs]
            if len(column.groups) > 1:
                mixed.append(_mixed(measure, column, told))
        found += _adjusted(family)
    return found, mixed


def gap_estimates(found: Sequence[GroupGap]) -> list[Estimate]:
    """The gaps as estimates for ``metrics.json``."""
    return [replace(g.gap.difference, metric=f"{g.metric} gap", where=g.where) for g in found]


def _measured(measure: Measure, column: _Column):  # type: ignore[no-untyped-def]
    """A function from a region, and the regions it is compared with, to its value; each is measured once."""

    @cache
    def of(region: int, beside: tuple[int, ...]) -> Measured:
        return measure.at(column.regions[region], [column.regions[i] for i in beside])

    return lambda region, beside: of(region, tuple(beside) if measure.alike else ())


def _gap(measure: Measure, column: _Column, told: Any, first: int, second: int, reference: str) -> GroupGap:
    where = {column.name: column.groups[first]}
    sides = column.people[first], column.people[second]
    if min(sides) < FEWEST:
        which = "" if sides[0] < FEWEST else f"{reference}: "
        rows = column.regions[first]
        none = undefined(f"{measure.metric} gap", f"{which}fewer than {FEWEST} patients", of=measure.of,
                         images=int(rows.sum()), patients=sides[0])  # fmt: skip
        return GroupGap(measure.metric, measure.of, where, reference, without(none, none, none))
    one, other = (told(region, (first, second)) for region in (first, second))
    both = column.share_patients((first, second))
    return GroupGap(measure.metric, measure.of, where, reference, _difference(one, other, reference, both))


def _difference(one: Measured, other: Measured, reference: str, both: bool) -> Difference:
    a, b = one.estimate, other.estimate
    people = int(np.count_nonzero(one.seen | other.seen))
    name, images = f"{a.metric} gap", a.images + b.images
    for e, whose in ((a, ""), (b, f"{reference}: ")):
        why = e.undefined or ("" if math.isfinite(e.high - e.low) else "no interval")
        if why:
            return without(a, b, undefined(name, whose + why, of=a.of, images=images, patients=people))
    low, high = square_and_add(a, b, together(one.moved, other.moved) if both else 0.0)
    how = f"minus {reference}; squared and added"
    how += ", with the correlation of patients on both sides" if both else ""
    how += f"; {one.note}" if one.note else ""
    return implied(a, b, Estimate(name, a.value - b.value, low, high, a.level, how, images, people, a.of))


def _adjusted(family: list[GroupGap]) -> list[GroupGap]:
    if not family:
        return []
    corrected = holm([g.gap.p for g in family])
    return [replace(g, adjusted=float(p)) for g, p in zip(family, corrected)]


def _mixed(measure: Measure, column: _Column, told: Any) -> dict[str, Any]:
    """Cochran's heterogeneity of a column's groups; where they share patients, with what they share."""
    judged = column.judged
    values: list[Measured] = [told(i, judged) for i in judged]
    estimates = [v.estimate for v in values]
    both = column.share_patients(judged)
    found = _together(values, measure.scale) if both else heterogeneity(estimates, scale=measure.scale)
    how = "Cochran's Q" + (", with the covariance of patients in several groups" if both else "")
    return {"metric": measure.metric, "of": measure.of, "column": column.name, "statistic": found.statistic,
            "freedom": found.freedom, "p": found.p, "groups": found.groups, "method": f"{how}; not corrected",
            "undefined": found.undefined}  # fmt: skip


def _together(values: Sequence[Measured], scale: str) -> Heterogeneity:
    """Generalised least squares: with independent groups it is Cochran's Q.

    The errors are those of the intervals on the scale of :func:`overread.stats.hypotheses.heterogeneity`.
    """
    known = [v for v in values if not v.estimate.undefined and math.isfinite(v.estimate.high - v.estimate.low)]
    if len(known) < 2:
        why = f"{len(known)} of {len(values)} groups have an interval"
        return Heterogeneity(math.nan, 0, math.nan, len(known), why)
    one = np.array([[together(a.moved, b.moved) for b in known] for a in known])
    np.fill_diagonal(one, 1.0)
    centre, error = np.array([v.on_scale(scale) for v in known]).T
    if not (error > 0).all() or np.linalg.cond(one) > 1e8:
        return Heterogeneity(math.nan, 0, math.nan, len(known), "the groups' errors cannot be told apart")
    precision = np.linalg.inv(one * np.outer(error, error))
    mean = (precision @ centre).sum() / precision.sum()
    statistic, freedom = float((centre - mean) @ precision @ (centre - mean)), len(known) - 1
    return Heterogeneity(statistic, freedom, chi_square_tail(statistic, freedom), len(known))


# -- what is compared between subgroups: a value with its interval, and how far each patient moves it -------------


Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]


def moved_by(good: NDArray[np.bool_], codes: NDArray[np.int64]) -> Floats:
    """(P,) how far each patient moves the share of ``good`` (K,)."""
    return np.asarray(np.bincount(codes, (good - good.mean()) / len(good)), np.float64)


def together(one: Floats, other: Floats) -> float:
    """The correlation of two values, from how far each patient moves them."""
    last = min(len(one), len(other))
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return max(-1.0, min(1.0, float(one[:last] @ other[:last]) / size)) if size > TINY**2 else 0.0


@dataclass(frozen=True, eq=False)
class Measured:
    """``moved`` (P,): how far each patient moves the value, to first order; ``seen`` (P,) whether it is among them."""

    estimate: Estimate
    moved: Floats
    seen: NDArray[np.bool_]
    note: str = ""

    def on_scale(self, scale: str) -> tuple[float, float]:
        """The value and its error where errors are stable: arcsine of the root of a share, logarithm."""
        to = {"share": lambda x: math.asin(math.sqrt(min(1.0, max(0.0, x)))),
              "positive": lambda x: math.log(max(x, 1e-12))}[scale]  # fmt: skip
        e = self.estimate
        centre, low, high = to(e.value), to(e.low), to(e.high)
        wide = (high - low) / 2 if low < centre < high else max(centre - low, high - centre)
        return centre, wide / normal_quantile(e.level)


@dataclass(frozen=True, eq=False)
class Measure:
    """A metric of any set of rows: ``at(rows, beside)``.

    ``alike``: whether the value depends on ``beside``, the sets it is compared with (a mean over classes takes those
    that all of them have). ``scale``: where its errors are stable.
    """

    metric: str
    of: str
    at: Callable[[Rows, Sequence[Rows]], Measured]
    scale: str = "share"
    alike: bool = False


@dataclass(frozen=True, eq=False)
class _People:
    """The patients of all rows and the terms of intervals."""

    codes: NDArray[np.int64]
    count: int
    level: float

    def measured(self, e: Estimate, rows: NDArray[np.int64], each: Floats, note: str = "") -> Measured:
        """``each`` (K,): how far each of the ``rows`` (K,) moves the value."""
        codes = self.codes[rows]
        moved = np.asarray(np.bincount(codes, each, self.count), np.float64)
        return Measured(e, moved, np.bincount(codes, minlength=self.count) > 0, note)

    def missing(self, metric: str, of: str, why: str, rows: NDArray[np.int64]) -> Measured:
        none = undefined(metric, why, of=of, images=len(rows), patients=distinct(self.codes[rows]) if len(rows) else 0)
        return self.measured(none, rows, np.zeros(len(rows)))

    def error(self, moved: Floats, seen: NDArray[np.bool_]) -> float:
        """The standard error that the patients' moves imply."""
        people = int(np.count_nonzero(seen))
        return math.sqrt(people / max(people - 1, 1) * float(moved @ moved))


def measures(test: Facts, asked: Sequence[Question], codes: NDArray[np.int64], terms: Terms) -> list[Measure]:
    """The metrics whose gaps are told: by the kind of target."""
    people = _People(codes, int(codes.max(initial=-1)) + 1, terms.level)
    if test.target.kind == "quantity":
        return [Measure("mae", test.target.names[0], partial(_mae, people, test), "positive")]
    if test.target.kind == "classes":
        single = [q for q in asked if not q.group]
        return [Measure("macro auc", "", partial(_macro, people, single), alike=True),
                Measure("accuracy", "", partial(_accuracy, people, test, largest(test)))]  # fmt: skip
    both = {q.of: "" if test.target.kind == "binary" else q.of for q in asked}  # the same for either of two classes
    return [m for q in asked for m in (
        Measure("auc", q.of, partial(_auc, people, q)),
        Measure("sensitivity", q.of, partial(_rate, people, q, True)),
        Measure("specificity", q.of, partial(_rate, people, q, False)),
        Measure("balanced accuracy", both[q.of], partial(_balanced, people, q, both[q.of])),
    )]  # fmt: skip


def _auc(people: _People, q: Question, inside: Rows, beside: Sequence[Rows]) -> Measured:
    q = q.only(inside)
    if q.why:
        return people.missing("auc", q.of, q.why, q.rows)
    placed = placements(q.truth, q.score)
    return people.measured(_area(people, q, placed), q.rows, _moves(q, placed))


def _area(people: _People, q: Question, placed: Floats) -> Estimate:
    """As :func:`overread.stats.discrimination.roc.auc`, without sorting again."""
    cohort = Cohort.of(q.truth, people.codes[q.rows])
    parts = shares(cohort, placed[None])
    return cohort.estimate("auc", float(parts.value[0]), float(covariance(cohort, parts)[0, 0]), people.level, q.of)


def _moves(q: Question, placed: Floats) -> Floats:
    """(K,) each case's share of the area beyond the mean of its class."""
    ill = int(np.count_nonzero(q.truth))
    return (placed - placed[q.truth].mean()) / np.where(q.truth, ill, len(q.truth) - ill)


def _rate(people: _People, q: Question, ill: bool, inside: Rows, beside: Sequence[Rows]) -> Measured:
    q, metric = q.only(inside), "sensitivity" if ill else "specificity"
    if why := not_finite(q.score):
        return people.missing(metric, q.of, why, q.rows)
    of_class = q.truth == ill
    good, rows = q.flagged[of_class] == ill, q.rows[of_class]
    if not len(rows):
        return people.missing(metric, q.of, f"0 {'positives' if ill else 'negatives'}", rows)
    return _share(people, metric, q.of, good, rows, q.rule)


def _share(
    people: _People, metric: str, of: str, good: NDArray[np.bool_], rows: NDArray[np.int64], note: str = ""
) -> Measured:
    found = proportion(good, people.codes[rows], level=people.level, metric=metric, of=of)
    return people.measured(found, rows, (good - found.value) / len(good), note)


def _balanced(people: _People, q: Question, of: str, inside: Rows, beside: Sequence[Rows]) -> Measured:
    sides = [_rate(people, q, ill, inside, beside) for ill in (True, False)]
    rows = q.only(inside).rows
    for side in sides:
        if side.estimate.undefined:
            return people.missing("balanced accuracy", of, side.estimate.undefined, rows)
    value = sum(side.estimate.value for side in sides) / 2
    moved, seen = (sides[0].moved + sides[1].moved) / 2, sides[0].seen | sides[1].seen
    fewest, error = min(side.estimate.patients for side in sides), people.error(moved, seen)
    if error > TINY and TINY < value < 1 - TINY and fewest > 1:
        ends, how = logit_interval(value, error, t_quantile(people.level, fewest - 1)), "linearised, logit"
    else:
        ends, how = (wilson(value, fewest, normal_quantile(people.level)), f"Wilson bound for {fewest} patients")
    e = Estimate("balanced accuracy", value, *ends, people.level, how, len(rows), int(seen.sum()), of)
    return Measured(e, moved, seen, q.rule)


def _macro(people: _People, asked: Sequence[Question], inside: Rows, beside: Sequence[Rows]) -> Measured:
    """The mean AUC over the classes that have both answers in every set that is compared."""
    known = [q for q in asked if not any(q.only(rows).why for rows in (inside, *beside))]
    rows = asked[0].only(inside).rows
    if not known:
        return people.missing("macro auc", "", "no class has both answers in all that are compared", rows)
    parts = [_auc(people, q, inside, ()) for q in known]
    moved, seen = np.mean([p.moved for p in parts], axis=0), np.any([p.seen for p in parts], axis=0)
    value, error = float(np.mean([p.estimate.value for p in parts])), people.error(moved, seen)
    z = normal_quantile(people.level)
    if error > TINY and TINY < value < 1 - TINY:
        ends = logit_interval(value, error, z)
    else:
        ends = wilson(min(1.0, max(0.0, value)), int(seen.sum()), z)
    e = Estimate("macro auc", value, *ends, people.level, "DeLong, logit", len(rows), int(seen.sum()))
    left = [q.of for q in asked if q not in known]
    return Measured(e, moved, seen, f"mean over {len(known)}" + (f", without {', '.join(left)}" if left else ""))


def _accuracy(people: _People, test: Facts, said: NDArray[np.int64], inside: Rows, beside: Sequence[Rows]) -> Measured:
    rows = np.flatnonzero(inside & test.known)
    if why := not_finite(test.scores[rows].ravel()):
        return people.missing("accuracy", "", why, rows)
    return _share(people, "accuracy", "", said[rows] == test.truth[rows], rows)


def _mae(people: _People, test: Facts, inside: Rows, beside: Sequence[Rows]) -> Measured:
    rows, of = np.flatnonzero(inside & test.known), test.target.names[0]
    off = np.abs(test.scores[rows, 0] - test.truth[rows])
    if why := not_finite(off) or too_large(off):
        return people.missing("mae", of, why.replace("scores", "values"), rows)
    value = float(off.mean())
    found = people.measured(Estimate("mae", value, of=of), rows, (off - value) / len(rows))
    error, count = people.error(found.moved, found.seen), int(found.seen.sum())
    low = high = math.nan
    if error > TINY * value > 0 and count > 1:
        factor = math.exp(min(700.0, t_quantile(people.level, count - 1) * error / value))
        low, high = value / factor, value * factor
    told = Estimate("mae", value, low, high, people.level, "linearised, logarithm", len(rows), count, of)
    return replace(found, estimate=told)

"""Which rows belong to which subgroup, how far a subgroup is from the others, and whether those of a column differ at all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import combinations, pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import InputError, checked, nearest
from overread.evaluation.estimators import Intervals
from overread.evaluation.group_values import GroupValue
from overread.evaluation.metrics import Metric, shown
from overread.evaluation.questions import Codes, Question, Sample, ScoredCases, samples
from overread.predictions import GroupedTable
from overread.stats.arrays import distinct
from overread.stats.estimate import (
    Difference,
    Estimate,
    chi_square_tail,
    implied,
    influence_correlation,
    p_text,
    rounded,
    square_and_add,
    undefined,
    without,
)
from overread.stats.hypotheses import Heterogeneity, heterogeneity, holm
from overread.stats.resample import Scale

#: Fewer patients than this are counted, not judged.
FEWEST = 10
#: A numeric column with more values than this is cut into bands.
MOST_VALUES = 6
#: A column with more groups than this is a name or a measurement, not a subgroup.
MOST_GROUPS = 50
UNKNOWN = "unknown"


@checked
def bands(values: pd.Series) -> pd.Series:
    """The group of each value, as text; blanks are ``unknown``.

    Text and numbers with few values stay as they are. Ages are cut at 18 (if anybody is younger), 40 and 60;
    other numbers into four or five bands at round numbers between their least and greatest, never at
    quantiles, so that the bands of two data sets of one range are the same.

    >>> bands(pd.Series([25, 41, 59, 60, 72, 33, 38, None], name="age")).tolist()
    ['<40', '40–59', '40–59', '≥60', '≥60', '<40', '<40', 'unknown']
    """
    codes, kinds = pd.factorize(values, use_na_sentinel=False)  # what is said of a value holds for all its like
    named = _bands(pd.Series(kinds, name=values.name)).to_numpy()
    return pd.Series(named[codes] if len(named) else named, index=values.index, name=values.name)


def _bands(values: pd.Series) -> pd.Series:
    blank = values.isna() | (values.astype(str).str.strip() == "")
    number = pd.to_numeric(values.where(~blank), errors="coerce")
    numeric = bool((number.notna() | blank).all()) and number.nunique() > MOST_VALUES
    if not numeric:
        text = (
            number.map(lambda x: f"{x:g}") if bool((number.notna() | blank).all()) else values.astype(str).str.strip()
        )
        return text.where(~blank, UNKNOWN)
    cuts = _cuts(str(values.name), number[np.isfinite(number)])
    whole = bool((number.dropna() % 1 == 0).all()) or _is_age(values.name)
    names = np.array([*_names(cuts, whole), UNKNOWN])
    place = np.where(number.notna(), np.searchsorted(cuts, number.fillna(0), side="right"), len(cuts) + 1)
    return pd.Series(names[place], index=values.index, name=values.name)


def _cuts(name: str, known: pd.Series) -> list[float]:
    low, high = float(known.min()), float(known.max())
    if _is_age(name) and low >= 0 and high <= 120:
        cuts = [18.0, 40.0, 60.0] if low < 18 else [40.0, 60.0]
    else:
        step = _round((high - low) / 4)
        first = math.floor(low / step) + 1
        cuts = [k * step for k in range(first, first + 6)]
    return [cut for cut in cuts if low < cut <= high]


def _is_age(name: object) -> bool:
    return "age" in str(name).lower().replace("_", " ").split()  # in completed years: 59.5 is 59


def _round(step: float) -> float:
    """The nearest of 1, 2, 5, 10 … times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(step))
    return min((1, 2, 5, 10), key=lambda k: abs(math.log(step / (k * unit)))) * unit


def _names(cuts: list[float], whole: bool) -> list[str]:
    if not cuts:
        return ["all"]
    whole = whole and all(cut == int(cut) for cut in cuts)
    inner = [f"{a:g}–{b - 1:g}" if whole and b - a > 1 else f"{a:g} to <{b:g}" for a, b in pairwise(cuts)]
    return [f"<{cuts[0]:g}", *inner, f"≥{cuts[-1]:g}"]


@checked
def subgroups(test: GroupedTable, by: Sequence[str]) -> Iterator[tuple[dict[str, str], NDArray[np.bool_]]]:
    """``{column: group}`` and the rows (N,) of every group of every column, in order of their names.

    Raises :class:`InputError` for a column that is not there, or has more than 50 groups.
    """
    for column in by:
        if column not in test.table.columns:
            raise InputError(
                f"there is no column {column!r} to report by", todo=nearest(column, ("source", *test.subgroups))
            )
        group = bands(test.table[column])
        names = sorted(group.unique(), key=by_size)
        if len(names) > MOST_GROUPS:
            given, todo = f"{len(names):,} groups", "choose a column with fewer, or bin it first"
            raise InputError(f"the column {column!r} has too many groups to report by", given=given, todo=todo)
        for name in names:
            yield {column: name}, (group == name).to_numpy()


@checked
def by_size(name: str) -> tuple[bool, float, str]:
    """A key to sort the names of groups by: bands and numbers by size, words by the alphabet, ``unknown`` at the end.

    >>> sorted(["40–59", "unknown", "≥60", "<40"], key=by_size)
    ['<40', '40–59', '≥60', 'unknown']
    """
    digits = "".join(c if c.isdigit() or c in ".-" else " " for c in name.replace("–", " ")).split()
    try:
        size = float(digits[0]) if digits else math.inf
    except ValueError:
        size = math.inf
    return name == UNKNOWN, (size - 0.5 if name.startswith("<") else size), name


# -- who the patients of each part are: the table that every reporting standard asks for --------------------------


@checked
def characteristics(cases: Cases, parts: Split, by: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Images and patients of each part in every group of the columns ``by``, of the source and of the label.

    A list of ``{"column", "group", "parts": {part: {"images", "patients"}}}``. A patient counts in each group that one
    of the images is in, so groups may add up to more than all. Columns with one group, with more than fifty, or that
    are not there, are left out.

    >>> table = pd.DataFrame({"sex": ["f", "f", "m"], "patient": ["a", "a", "b"], "part": ["train", "train", "test"]})
    >>> [(row["group"], row["parts"]) for row in counted(table, "sex")]  # doctest: +NORMALIZE_WHITESPACE
    [('f', {'train': {'images': 2, 'patients': 1}, 'test': {'images': 0, 'patients': 0}}),
     ('m', {'train': {'images': 0, 'patients': 0}, 'test': {'images': 1, 'patients': 1}})]
    """
    of = parts.table.drop_duplicates("case").set_index("case")["part"]
    table = cases.table.assign(part=cases.table["case"].map(of)).dropna(subset=["part"])
    wanted = [c for c in dict.fromkeys(("label", "source", *by)) if c in table.columns]
    return [row for column in wanted for row in counted(table, column)]


def counted(table: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """The rows of one column; none where it tells nothing."""
    group = bands(table[column])
    names = [name for name in group.unique() if name != ""]
    if not 1 < len(names) <= MOST_GROUPS:
        return []
    parts = [part for part in ("train", "tuning", "test") if (table["part"] == part).any()]
    return [
        {
            "column": column,
            "group": name,
            "parts": {part: _numbers(table[(group == name) & (table["part"] == part)]) for part in parts},
        }
        for name in sorted(map(str, names), key=by_size)
    ]


def _numbers(rows: pd.DataFrame) -> dict[str, int]:
    return {"images": len(rows), "patients": int(rows["patient"].nunique())}


#: What a group of more than two is compared with.
OTHERS = "the others"
#: Which tests Holm's correction counts together.
FAMILY = "Holm over all groups of the metric"

Where = dict[str, str]
Groups = Sequence[tuple[Where, NDArray[np.bool_]]]
#: The value of a region, and of the regions that it is compared with.
Measured = Callable[[int, Sequence[int]], GroupValue]


@dataclass(frozen=True)
class GroupGap:
    """A metric in the group ``where`` minus that in its ``reference``, with its test; ``adjusted``: its p after Holm."""

    metric: str
    of: str
    where: Where = field(hash=False)
    reference: str
    value: float
    low: float
    high: float
    level: float
    method: str
    images: int
    patients: int
    p: float
    adjusted: float = math.nan
    undefined: str = ""

    @classmethod
    def of_difference(cls, metric: str, where: Where, reference: str, gap: Difference) -> GroupGap:
        """The gap of a metric in the group ``where``."""
        e = gap.difference
        return cls(metric, e.of, where, reference, e.value, e.low, e.high, e.level, e.method, e.images, e.patients, gap.p,
                   undefined=e.undefined)  # fmt: skip

    @property
    def estimate(self) -> Estimate:
        """The gap as an estimate, as ``metrics.json`` holds it."""
        return Estimate(f"{self.metric} gap", self.value, self.low, self.high, self.level, self.method, self.images,
                        self.patients, self.of, self.where, self.undefined)  # fmt: skip

    @property
    def column(self) -> str:
        """The column that makes the groups."""
        return next(iter(self.where), "")


@dataclass(frozen=True)
class GroupTest:
    """Whether the groups of a ``column`` differ at all in a metric: Cochran's Q with ``freedom``, over ``groups``.

    Of two groups it is the test of their gap, ``adjusted`` as that is; else NaN: this one test of a column is not
    corrected.
    """

    metric: str
    of: str
    column: str
    statistic: float
    freedom: int
    p: float
    groups: int
    method: str = ""
    undefined: str = ""
    adjusted: float = math.nan


@dataclass(frozen=True, eq=False)
class _Column:
    """The groups of one column as regions of rows: each group, then of each what is not in it."""

    name: str
    groups: tuple[str, ...]
    regions: tuple[NDArray[np.bool_], ...]
    patients: tuple[int, ...]
    codes: Codes

    @classmethod
    def of(cls, name: str, groups: Groups, codes: Codes, known: NDArray[np.bool_]) -> _Column:
        """The groups of the column ``name``; rows whose truth is not known count nowhere."""
        inside = [rows & known for where, rows in groups if name in where]
        regions = (*inside, *(known & ~rows for rows in inside))
        patients = tuple(distinct(codes[rows]) if rows.any() else 0 for rows in regions)
        return cls(name, tuple(w[name] for w, _ in groups if name in w), regions, patients, codes)

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
        return [i for i in range(len(self.groups)) if self.patients[i] >= FEWEST]

    def share_patients(self, regions: Sequence[int]) -> bool:
        """Whether a patient is in two of the regions."""
        one = [np.bincount(self.codes[self.regions[i]], minlength=1) > 0 for i in regions]
        return any(bool((a[: len(b)] & b[: len(a)]).any()) for a, b in combinations(one, 2))


def gaps_of(
    test: ScoredCases, asked: Sequence[Question], codes: Codes, groups: Groups, how: Intervals
) -> tuple[list[GroupGap], list[GroupTest]]:
    """Every gap with its p value after Holm's correction, and the heterogeneity of every column.

    ``codes`` (N,) number the patients, ``groups`` hold the rows (N,) of each subgroup. Each group is compared with all
    other cases, or of two groups the first with the second. The interval is squared and added from those of the two
    sides (Zou & Donner 2008), with their correlation where a patient is on both. Holm's correction is over all groups
    of all columns, for each metric. Groups of fewer than ten patients are not judged.
    """
    columns = [_Column.of(name, groups, codes, test.known) for name in dict.fromkeys(n for w, _ in groups for n in w)]
    measured = [
        (metric, [_measured(metric, sample, column, how.level) for column in columns])
        for metric, sample in _with_gaps(test, asked, codes)
    ]
    return _gaps(measured, columns)


@checked
def gaps_of_rows(
    measures: Sequence[tuple[Metric, Callable[[NDArray[np.bool_]], GroupValue]]], codes: Codes, groups: Groups
) -> tuple[list[GroupGap], list[GroupTest]]:
    """As :func:`gaps_of`, of metrics that are a function of rows: each with what gives its value in the rows (N,)."""
    columns = [_Column.of(name, groups, codes, np.ones(len(codes), bool)) for name in dict.fromkeys(n for w, _ in groups for n in w)]  # fmt: skip
    measured = [(metric, [_of_regions(value, column) for column in columns]) for metric, value in measures]
    return _gaps(measured, columns)


def _of_regions(value: Callable[[NDArray[np.bool_]], GroupValue], column: _Column) -> Measured:
    @cache
    def of(region: int) -> GroupValue:
        return value(column.regions[region])

    return lambda region, beside: of(region)


def _gaps(
    measured: Sequence[tuple[Metric, Sequence[Measured]]], columns: Sequence[_Column]
) -> tuple[list[GroupGap], list[GroupTest]]:
    """Of every metric, with what measures it in each column: its gaps and its heterogeneity."""
    found, mixed = [], []
    for metric, of_columns in measured:
        family, tests = [], {}
        for column, value in zip(columns, of_columns):
            of = value(0, (0,)).estimate.of
            family += [_gap(metric, of, column, value, *pair) for pair in column.pairs]
            if len(column.groups) > 2:
                tests[column.name] = _mixed(metric, of, column, value)
        corrected = _adjusted(family)
        tests |= {gap.column: _of_two(gap) for gap in corrected if gap.reference != OTHERS}
        mixed += [tests[column.name] for column in columns if column.name in tests]
        found += corrected
    return found, mixed


def _with_gaps(test: ScoredCases, asked: Sequence[Question], codes: Codes) -> list[tuple[Metric, Sample]]:
    """The metrics whose gaps are told, with their samples: of each question; of several classes all together, and what
    counts
    as disease against the rest, where that is declared."""
    every = samples(test, asked, codes, int(codes.max(initial=-1)) + 1)
    several = test.target.task.multiclass
    kept = [s for s in every if (several if s.subject == "all" else s.full or not several)]
    return [(m, s) for s in kept for m in shown("gaps", (s.subject,))]


def gap_estimates(found: Sequence[GroupGap]) -> list[Estimate]:
    """The gaps as estimates for ``metrics.json``."""
    return [g.estimate for g in found]


def _measured(metric: Metric, sample: Sample, column: _Column, level: float) -> Measured:
    """A function from a region, and the regions it is compared with, to its value; each is measured once."""

    @cache
    def of(region: int, beside: tuple[int, ...]) -> GroupValue:
        estimator = metric.gap
        assert estimator is not None  # only such metrics are asked for
        own = sample.only(column.regions[region])
        return estimator(own, [sample.only(column.regions[i]) for i in beside], level)

    return lambda region, beside: of(region, tuple(beside) if sample.questions else ())


def _gap(
    metric: Metric, of: str, column: _Column, value: Measured, first: int, second: int, reference: str
) -> GroupGap:
    where = {column.name: column.groups[first]}
    sides = column.patients[first], column.patients[second]
    if min(sides) < FEWEST:
        which = "" if sides[0] < FEWEST else f"{reference}: "
        rows = column.regions[first]
        none = undefined(f"{metric.name} gap", f"{which}fewer than {FEWEST} patients", of=of,
                         images=int(rows.sum()), patients=sides[0])  # fmt: skip
        return GroupGap.of_difference(metric.name, where, reference, without(none, none, none))
    one, other = (value(region, (first, second)) for region in (first, second))
    both = column.share_patients((first, second))
    return GroupGap.of_difference(metric.name, where, reference, _difference(one, other, reference, both))


def _difference(one: GroupValue, other: GroupValue, reference: str, both: bool) -> Difference:
    a, b = one.estimate, other.estimate
    patients = int(np.count_nonzero(one.present | other.present))
    name, images = f"{a.metric} gap", a.images + b.images
    for e, whose in ((a, ""), (b, f"{reference}: ")):
        reason = e.undefined or ("" if math.isfinite(e.high - e.low) else "no interval")
        if reason:
            return without(a, b, undefined(name, whose + reason, of=a.of, images=images, patients=patients))
    low, high = square_and_add(a, b, influence_correlation(one.influence, other.influence) if both else 0.0)
    how = f"minus {reference}; squared and added"
    how += ", with the correlation of patients on both sides" if both else ""
    how += f"; {one.note}" if one.note else ""
    return implied(a, b, Estimate(name, a.value - b.value, low, high, a.level, how, images, patients, a.of))


def _adjusted(family: list[GroupGap]) -> list[GroupGap]:
    if not family:
        return []
    corrected = holm([g.p for g in family])
    return [replace(g, adjusted=float(p)) for g, p in zip(family, corrected)]


def _of_two(gap: GroupGap) -> GroupTest:
    """Of two groups, to differ at all is to differ by their gap: one hypothesis has one p value."""
    if gap.undefined or math.isnan(gap.p):
        return GroupTest(gap.metric, gap.of, gap.column, math.nan, 0, math.nan, 2, undefined=gap.undefined or "no test")
    statistic = NormalDist().inv_cdf(max(gap.p / 2, 5e-324)) ** 2  # the least number there is
    how = "the test of the gap of the two, as χ² with one degree of freedom; not corrected"
    return GroupTest(gap.metric, gap.of, gap.column, statistic, 1, gap.p, 2, how, adjusted=gap.adjusted)


def _mixed(metric: Metric, of: str, column: _Column, value: Measured) -> GroupTest:
    """Cochran's heterogeneity of a column's groups; where they share patients, with what they share."""
    judged = column.judged
    values: list[GroupValue] = [value(i, judged) for i in judged]
    estimates = [v.estimate for v in values]
    both = column.share_patients(judged)
    found = _least_squares(values, metric.scale) if both else heterogeneity(estimates, scale=metric.scale)
    how = "Cochran's Q" + (", with the covariance of patients in several groups" if both else "")
    return GroupTest(metric.name, of, column.name, found.statistic, found.freedom, found.p, found.groups,
                     f"{how}; not corrected", found.undefined)  # fmt: skip


def _least_squares(values: Sequence[GroupValue], scale: Scale) -> Heterogeneity:
    """Generalised least squares: with independent groups it is Cochran's Q.

    The errors are those of the intervals on the scale of :func:`overread.stats.hypotheses.heterogeneity`.
    """
    known = [v for v in values if not v.estimate.undefined and math.isfinite(v.estimate.high - v.estimate.low)]
    if len(known) < 2:
        reason = f"{len(known)} of {len(values)} groups have an interval"
        return Heterogeneity(math.nan, 0, math.nan, len(known), reason)
    one = np.array([[influence_correlation(a.influence, b.influence) for b in known] for a in known])
    np.fill_diagonal(one, 1.0)
    centre, error = np.array([v.on_scale(scale) for v in known]).T
    if not (error > 0).all() or np.linalg.cond(one) > 1e8:
        return Heterogeneity(math.nan, 0, math.nan, len(known), "the groups' errors cannot be told apart")
    precision = np.linalg.inv(one * np.outer(error, error))
    mean = (precision @ centre).sum() / precision.sum()
    statistic, freedom = float((centre - mean) @ precision @ (centre - mean)), len(known) - 1
    return Heterogeneity(statistic, freedom, chi_square_tail(statistic, freedom), len(known))


@checked
def largest_gaps(gaps: Sequence[GroupGap]) -> list[tuple[str, ...]]:
    """Of each metric the gap with the smallest p, of equals the widest, as a row of texts."""
    found: dict[str, GroupGap] = {}
    for gap in sorted((gap for gap in gaps if not math.isnan(gap.p)), key=lambda gap: (gap.p, -abs(gap.value))):
        found.setdefault(gap.metric, gap)
    order = dict.fromkeys(gap.metric for gap in gaps if gap.metric in found)
    return [_gap_row(found[metric]) for metric in order]


def _gap_row(gap: GroupGap) -> tuple[str, ...]:
    groups = ", ".join(f"{k} {v}" for k, v in gap.where.items())
    value, low, high = (f"{'' if x < 0 else '+'}{rounded(x)}" for x in (gap.value, gap.low, gap.high))
    return f"{gap.metric} gap", groups, gap.reference, f"{value} ({low} to {high})", p_text(gap.adjusted)

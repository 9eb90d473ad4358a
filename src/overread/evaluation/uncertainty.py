"""What a model may say when it is not sure: sets that hold the truth as often as promised, and silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, nearest, require
from overread.core.files import plain, write_json
from overread.evaluation.curves import AbstentionCurve
from overread.evaluation.operating_point import refuse_shared
from overread.evaluation.questions import largest
from overread.evaluation.results import Estimated, lookup, to_file_form
from overread.evaluation.subgroups import FEWEST, bands
from overread.predictions import Predictions
from overread.stats.arrays import patient_codes
from overread.stats.calibration.abstention import risk_curve
from overread.stats.calibration.conformal import (
    ConformalIntervals,
    ConformalSets,
    fit_intervals,
    fit_sets,
    interval_coverage,
    set_coverage,
)
from overread.stats.calibration.reliability import not_probabilities
from overread.stats.estimate import Estimate, undefined
from overread.stats.proportions import proportion

WORDS = {
    "lac": "split-conformal sets of the classes that are probable enough (LAC)",
    "aps": "split-conformal sets of the most probable classes that together are probable enough (APS)",
    "residual": "split-conformal intervals: predicted ± a quantile of the absolute residuals",
}
#: From this many images on a width from few resamples is exact enough: the interval is narrow anyway.
LARGE, RESAMPLES = 200_000, 100


@dataclass(frozen=True, eq=False)
class Uncertainty(Estimated):
    """Coverage and size of conformal sets with their intervals, and what figures are drawn from.

    ``more``: ``conformal`` and ``abstention`` for ``curves.json``; ``fitted``: the thresholds by finding (``""``
    where there is one label).
    """

    estimates: tuple[Estimate, ...]
    more: dict[str, Any] = field(default_factory=dict)
    fitted: dict[str, ConformalSets | ConformalIntervals] = field(default_factory=dict)

    def __getitem__(self, key: str | tuple[str, ...]) -> Estimate:
        """``result["set coverage"]`` or ``result["set coverage", "effusion"]``."""
        return lookup(((e.metric, e.of, e) for e in self.estimates if not e.where), key)

    def __str__(self) -> str:
        return "\n".join(f"{e.metric:20} {e.of:16} {e}" for e in self.estimates if not e.where)

    def save(self, folder: str | Path) -> Path:
        """Write ``uncertainty.json`` into ``folder``."""
        return write_json(Path(folder) / "uncertainty.json", {"estimates": self.estimates, **self.more})


@checked
def uncertainty(
    tuning: Predictions,
    test: Predictions,
    *,
    level: float = 0.9,
    by_class: bool = False,
    group: str = "",
    method: str = "lac",
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
) -> Uncertainty:
    """Fit conformal sets (intervals, for a quantity) on ``tuning`` and judge them on ``test``, by patient.

    ``level``: how often a set is to hold the truth of a new patient's image; ``by_class``: within every class,
    ``group``: within every group of that column, which is then reported too (Vovk et al. 2005, Mondrian sets).
    ``method`` "lac" or "aps" (see :func:`overread.stats.calibration.conformal.fit_sets`). Findings have sets of absent
    and present each. Where patients repeat each counts once in the fit. ``confidence`` of the intervals. The abstention
    curve is the risk of the most probable class among the cases the model is surest of. Raises :class:`UnsoundError` if
    a patient is in both tables, :class:`InputError` for tables of different targets or a missing column; undefined
    where tuning scores are no probabilities.
    """
    require(0 < level < 1, "level must lie between 0 and 1", given=level)
    _require_alike(tuning, test, group)
    refuse_shared(tuning, test, "to fit the sets")
    terms = _Conditions(level, by_class, method, confidence, seed, resamples, group)
    groups = _groups(tuning, test, group)
    judge = _quantity if test.target.task.continuous else _sets
    found: list[Estimate] = []
    entries: list[dict[str, Any]] = []
    fitted: dict[str, Any] = {}
    silent: dict[str, AbstentionCurve] = {}
    codes = patient_codes(test.patients, len(test))
    for of in test.target.task.separate_names:
        judged = judge(tuning, test, of, groups, codes, terms)
        found += judged.estimates
        entries += judged.groups
        fitted |= judged.fitted
        silent[of] = silence(test, of, codes, confidence)
    said = WORDS["residual" if test.target.task.continuous else method]
    conformal = {"level": level, "method": said, "groups": entries, "thresholds": _thresholds(fitted, test)}
    more = {"conformal": conformal if fitted else {"undefined": _why(found)}, "abstention": to_file_form(silent)}
    return Uncertainty(tuple(found), plain(more), fitted)


@dataclass(frozen=True)
class _Conditions:
    level: float
    by_class: bool
    method: str
    confidence: float
    seed: int
    resamples: int | None
    group: str

    def many(self, images: int) -> int | None:
        return self.resamples or (RESAMPLES if images > LARGE else None)


@dataclass(frozen=True)
class _Judged:
    estimates: list[Estimate]
    groups: list[dict[str, Any]]
    fitted: dict[str, Any]


def _require_alike(tuning: Predictions, test: Predictions, group: str) -> None:
    if not tuning.target.asks_as(test.target):
        raise InputError("tuning and test predictions ask different questions",
                         given=f"{', '.join(tuning.target.names)}; {', '.join(test.target.names)}",
                         todo="give two tables of one model")  # fmt: skip
    for table in (tuning.table, test.table):
        if group and group not in table.columns:
            raise InputError(f"there is no column {group!r} to fit sets by", todo=nearest(group, test.subgroups))


def _groups(tuning: Predictions, test: Predictions, group: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """The group of each row of both tables, cut into the same bands."""
    if not group:
        return None
    both = bands(pd.concat([tuning.table[group], test.table[group]], ignore_index=True)).to_numpy(str)
    return both[: len(tuning)], both[len(tuning) :]


def _sets(
    tuning: Predictions,
    test: Predictions,
    of: str,
    groups: tuple[NDArray[Any], NDArray[Any]] | None,
    codes: NDArray[np.int64],
    terms: _Conditions,
) -> _Judged:
    learn, judge = part_of(tuning, of), part_of(test, of)
    people = codes[judge.rows]
    why = not_probabilities(learn.chance.ravel())
    if why or not len(judge.rows):
        return _without(f"tuning data: {why}" if why else "no cases", _SET_METRICS, of, people)
    how: dict[str, Any] = {"level": terms.level, "method": terms.method, "by_class": terms.by_class}
    theirs, own = (None, None) if groups is None else (groups[0][learn.rows], groups[1][judge.rows])
    sets = fit_sets(learn.truth, learn.chance, tuning.patients[learn.rows], groups=theirs, **how)
    sets = sets if own is None else _with_unseen(sets, own)
    inside = sets.sets(judge.chance, own)

    def told(rows: NDArray[Any]) -> list[Estimate]:
        how: dict[str, Any] = {
            "level": terms.confidence,
            "of": of,
            "seed": terms.seed,
            "resamples": terms.many(len(judge.rows)),
        }
        found = set_coverage(judge.truth[rows], inside[rows], people[rows], **how)
        return [replace(e, method=f"{_short(terms)}; {e.method}") for e in found]

    found, entries = _by_group(told, own, people, terms.group, of)
    names = ("absent", "present") if of else test.target.names
    held = inside[np.arange(len(judge.rows)), judge.truth]
    for number, name in enumerate(names):
        rows = judge.truth == number
        e = proportion(held[rows], people[rows], level=terms.confidence, metric="set coverage")
        e = replace(e, of=f"{of}: {name}" if of else name, method=f"{_short(terms)}; {e.method}" if rows.any() else "")
        found.append(e)
        entries.append(_entry(e, None, of, f"truth: {name}"))
    return _Judged(found, entries, {of: sets})


_SET_METRICS = ("set coverage", "set size", "sets of one class", "empty sets")


def _short(terms: _Conditions) -> str:
    within = " within each class" if terms.by_class else ""
    return f"{terms.method.upper()} sets for {100 * terms.level:g} %{within}, fitted on tuning data"


def _with_unseen(sets: ConformalSets, own: NDArray[Any]) -> ConformalSets:
    """Groups without tuning data leave no class out."""
    unseen = tuple(sorted(set(own.tolist()) - set(sets.groups)))
    everything = ((math.inf,) * len(sets.thresholds[0]),) * len(unseen)
    return replace(sets, groups=sets.groups + unseen, thresholds=sets.thresholds + everything)


def _by_group(
    told: Callable[[NDArray[Any]], list[Estimate]],
    own: NDArray[Any] | None,
    people: NDArray[np.int64],
    column: str,
    of: str,
) -> tuple[list[Estimate], list[dict[str, Any]]]:
    """The estimates of all cases, then of every group with enough patients; and their entries for the page."""
    overall = told(np.ones(len(people), bool))
    found, entries = [*overall], [_entry(overall[0], overall[1], of, "all")]
    for name in sorted(set(own.tolist())) if own is not None else ():
        rows = own == name
        many = int(np.unique(people[rows]).size)
        why = f"fewer than {FEWEST} patients"
        lost = [undefined(e.metric, why, of=of, images=int(rows.sum()), patients=many) for e in overall]
        part = [replace(e, where={column: str(name)}) for e in (told(rows) if many >= FEWEST else lost)]
        found += part
        entries.append(_entry(part[0], part[1], of, str(name)))
    return found, entries


def _entry(coverage: Estimate, size: Estimate | None, of: str, group: str) -> dict[str, Any]:
    held = {"value": coverage.value, "low": coverage.low, "high": coverage.high}
    wide = {} if size is None else {"size": size.value, "size low": size.low, "size high": size.high}
    entry = {"of": of, "group": group, "coverage": held, **wide, "n": coverage.images, "patients": coverage.patients}
    return {**entry, "undefined": coverage.undefined} if coverage.undefined else entry


def _without(why: str, metrics: tuple[str, ...], of: str, codes: NDArray[np.int64]) -> _Judged:
    people = int(np.unique(codes).size)
    return _Judged([undefined(m, why, of=of, images=len(codes), patients=people) for m in metrics], [], {})


def _quantity(
    tuning: Predictions,
    test: Predictions,
    of: str,
    groups: tuple[NDArray[Any], NDArray[Any]] | None,
    codes: NDArray[np.int64],
    terms: _Conditions,
) -> _Judged:
    learn, judge = part_of(tuning, of), part_of(test, of)
    name = test.target.names[0]
    bad = int((~np.isfinite(learn.chance)).sum())
    if bad or not len(judge.rows) or not len(learn.rows):
        why = f"tuning data: {bad} of {len(learn.rows)} predictions are not finite" if bad else "no cases"
        return _without(why, ("interval coverage", "interval width"), name, codes[judge.rows])
    theirs, own = (None, None) if groups is None else (groups[0][learn.rows], groups[1][judge.rows])
    patients = tuning.patients[learn.rows]
    fitted = fit_intervals(learn.truth, learn.chance[:, 0], patients, level=terms.level, groups=theirs)
    if own is not None:
        unseen = tuple(sorted(set(own.tolist()) - set(fitted.groups)))
        wide = fitted.half_widths + (math.inf,) * len(unseen)
        fitted = replace(fitted, groups=fitted.groups + unseen, half_widths=wide)
    half = fitted.width(len(judge.rows), own)
    people = codes[judge.rows]

    def told(rows: NDArray[Any]) -> list[Estimate]:
        held = (judge.truth[rows], judge.chance[rows, 0], half[rows], people[rows])
        note = f"intervals for {100 * terms.level:g} %, fitted on tuning data"
        found = interval_coverage(*held, level=terms.confidence, of=name)
        return [replace(e, method=f"{note}; {e.method}") for e in found]

    found, entries = _by_group(told, own, people, terms.group, name)
    return _Judged(found, entries, {name: fitted})


def _thresholds(fitted: dict[str, Any], test: Predictions) -> list[dict[str, Any]]:
    found = []
    for of, one in fitted.items():
        if isinstance(one, ConformalIntervals):
            rows: Any = zip(one.groups, one.half_widths)
            found += [{"of": of, "group": g or "all", "half width": w} for g, w in rows]
        else:
            names = ("absent", "present") if of else test.target.names
            rows = zip(one.groups, one.thresholds)
            found += [{"of": of, "group": g or "all", "score": dict(zip(names, row))} for g, row in rows]
    return found


def _why(found: list[Estimate]) -> str:
    return next((e.undefined for e in found if e.undefined), "no cases")


# -- what sets and silence are judged on: the rows of a label or finding, and the risk of answering only where sure ---


@dataclass(frozen=True, eq=False)
class Part:
    """One label or finding of tuning or test data: rows with a known truth, class numbers and their probabilities."""

    rows: NDArray[np.int64]
    truth: NDArray[Any]
    chance: NDArray[np.float64]  # (K, C)


@checked
def part_of(table: Predictions, of: str) -> Part:
    """The rows of ``table`` with a known truth, of a finding ``of``, or of the one label."""
    if not of:
        truth, scores = table.truth, table.scores
        rows = np.flatnonzero(table.known)
        return Part(rows, truth[rows], scores[rows])
    column = table.target.names.index(of)
    truth, score = table.truth[:, column], table.scores[:, column]
    rows = np.flatnonzero(~np.isnan(truth))
    return Part(rows, truth[rows].astype(np.int64), np.column_stack([1 - score[rows], score[rows]]))


@checked
def silence(test: Predictions, of: str, codes: NDArray[np.int64], confidence: float) -> AbstentionCurve:
    """The risk of the most probable class at each share of cases answered."""
    if test.target.task.continuous:
        return AbstentionCurve(undefined="a predicted number comes without a confidence")
    part = part_of(test, of)
    if why := not_probabilities(part.chance.ravel()):
        return AbstentionCurve(undefined=why)
    if of:
        said, sure = part.chance.argmax(axis=1), part.chance.max(axis=1)
    else:
        said, sure = largest(test)[part.rows], part.chance.max(axis=1)
    return AbstentionCurve.from_found(risk_curve(said != part.truth, sure, codes[part.rows], level=confidence))

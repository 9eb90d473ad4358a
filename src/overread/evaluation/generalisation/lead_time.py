"""How early a model knows: its AUC given only what was there some time before the event, and before a marker showed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, takewhile
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.files import fingerprint
from overread.core.phrases import aligned, count
from overread.evaluation.comparison.claims import Ledgers, paths_of
from overread.evaluation.ledger import look_at
from overread.evaluation.operating_point import positives, question
from overread.evaluation.results import Result
from overread.evaluation.subgroups import FEWEST
from overread.predictions import Predictions
from overread.stats.arrays import normal_quantile, patient_codes
from overread.stats.discrimination.delong import auc_difference
from overread.stats.discrimination.roc import Areas, auc, rank
from overread.stats.estimate import Estimate, undefined
from overread.stats.hypotheses import holm
from overread.stats.proportions import proportion
from overread.stats.resample import Column, Statistic, Weights, bootstrap, per_patient

#: The subgroup under which the estimates of a moment stand.
WHERE = "time before event"
_SOONER = "earlier than the marker"


@dataclass(frozen=True)
class Moment:
    """What is known ``lead`` before the event.

    ``auc`` of all cases with an image by then; ``same``: of those that have one at every moment that was asked for;
    ``unmarked``: of those whose marker does not show yet. ``marked``: the share whose marker shows by then, undefined
    without one. ``other``: the AUC of the model it is compared with, ``difference`` this one minus that, on the same cases,
    with its ``p`` and that after Holm over the moments, ``adjusted``.
    """

    lead: float
    auc: Estimate
    same: Estimate
    unmarked: Estimate
    marked: Estimate
    other: Estimate
    difference: Estimate
    p: float = math.nan
    adjusted: float = math.nan


@dataclass(frozen=True, eq=False)
class LeadTime(Result):
    """AUC as a function of the time before the event.

    ``earliest``: the longest time before the event at which the lower end of the AUC's interval lies above ``above``, as
    it does at every moment nearer to the event (a fixed sequence of tests, from the event backwards, that stops at the
    first that fails: all of them together keep the level of one, Maurer 1995); NaN where it does not even at the nearest.
    ``sooner``: the share of cases whose marker showed later than that, or never; since the same cases say when the model
    knows, its interval is by a bootstrap of patients that finds ``earliest`` anew in each resample. ``gain``: the median of how much later,
    with the range in which half of the cases lie. ``cases``: those with an event.
    """

    file: ClassVar[str] = "time.json"

    moments: tuple[Moment, ...]
    of: str
    unit: str
    level: float
    above: float
    earliest: float
    sooner: Estimate
    gain: tuple[float, float, float]
    cases: int
    patients: int
    marker: str = ""
    against: str = ""
    part: str = ""
    looks: int = 0
    notes: tuple[str, ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every number, those of a moment with their ``time before event``."""
        found = []
        for moment in self.moments:
            at = {WHERE: f"{moment.lead:g}"}
            found.append(replace(moment.auc, where=at))
            found.append(replace(moment.same, where=at | {"cases": "of every moment"}))
            if self.marker:
                found.append(replace(moment.unmarked, where=at | {"marker": "not yet"}))
                found.append(replace(moment.marked, where=at))
            if self.against:
                found += [
                    replace(moment.other, where=at | {"model": self.against}),
                    replace(moment.difference, where=at),
                ]
        return (*found, *([self.sooner] if self.marker else []))

    def table(self) -> str:
        """A row a moment, then what it says in sentences."""
        return "\n".join([*aligned(rows(self)), *said(self)])


@checked
def lead_time(
    steps: Sequence[tuple[float, Predictions]],
    *,
    cases: int = 0,
    unit: str = "",
    marker: str = "",
    marked: Mapping[str, float] | None = None,
    against: Sequence[tuple[float, Predictions]] = (),
    rival: str = "",
    positive: str | Sequence[str] | None = None,
    above: float = 0.5,
    level: float = 0.95,
    part: str = "",
    ledger: Ledgers = None,
    model: str = "",
    rival_model: str = "",
    notes: Sequence[str] = (),
) -> LeadTime:
    """AUC of a model given only what was there some time before the event, at each of several times.

    ``steps``: each time before the event with the predictions made of the images that were there by then: cases without
    any are not among them. ``cases``: all that have an event. ``marked``: how long before its event the ``marker`` of a case
    showed, NaN or missing where it never did. ``against``: predictions of another model, ``rival``, at the same times.
    ``above``: the AUC that the lower end of an interval has to exceed. Intervals are DeLong's, clustered by patient; a
    moment with fewer than ten patients is counted and not judged. ``ledger`` and the hashes ``model`` and ``rival_model``:
    where the cases are a test set, which is opened once for the whole curve; of several ledgers each gets the look. Raises :class:`InputError` for no time, for a time twice, for
    cases whose label changes, and for a target without classes or findings.
    """
    normal_quantile(level)
    require(0 <= above < 1, "the AUC to be exceeded lies between 0 and 1", given=above)
    ordered = sorted(steps, key=lambda step: step[0])
    leads = [lead for lead, _ in ordered]
    require(len(ordered) > 0 and len(set(leads)) == len(leads), "the curve needs times before the event, each once", given=leads)  # fmt: skip
    first = next((p for _, p in ordered if len(p)), ordered[0][1])
    if first.target.task.continuous:
        raise InputError("how early a model knows is told by its AUC, and a quantity has none", given=", ".join(first.target.names), todo="ask for classes or findings")  # fmt: skip
    chosen = positives(first, positive, None)
    of, shown = ", ".join(chosen), marked or {}
    at_all = set.intersection(*(set(p.table["case"].astype(str)) for _, p in ordered))
    others = dict(against)
    require(not others or set(others) == set(leads), "both models are asked at the same times", given=sorted(others))
    found = [_moment(lead, p, others.get(lead), chosen, of, at_all, shown, bool(marker), level) for lead, p in ordered]
    corrected = holm([m.p for m in found]) if others else [math.nan] * len(found)
    moments = tuple(replace(m, adjusted=float(q)) for m, q in zip(found, corrected, strict=True))
    everyone = max((p for _, p in ordered), key=len)
    earliest = _earliest(moments, above)
    known = [(moment, p) for moment, (_, p) in zip(moments, ordered, strict=True)]
    sooner, gain = _sooner(everyone, known, chosen, above, shown, bool(marker), level)
    digest = fingerprint([p.digest for _, p in (*ordered, *sorted(against, key=lambda step: step[0]))])
    judged = f"{model} against {rival_model}" if others else model
    looks = max((look_at(everyone, path, [(judged, digest)]) for path in paths_of(ledger)), default=0)
    return LeadTime(moments, of, unit, level, above, earliest, sooner, gain, cases or len(everyone),
                    int(everyone.table["patient"].nunique()), marker, rival, part, looks, tuple(notes))  # fmt: skip


def _moment(
    lead: float, p: Predictions, other: Predictions | None, positive: tuple[str, ...], of: str, at_all: set[str],
    marked: Mapping[str, float], with_marker: bool, level: float,
) -> Moment:  # fmt: skip
    names = p.table["case"].astype(str).to_numpy()
    every = np.ones(len(p), bool)
    late = np.array([not marked.get(name, math.nan) >= lead for name in names], bool)
    whole = _area(p, every, positive, of, level)
    none = undefined("auc", "no marker was named", of=of)
    unmarked = _area(p, late, positive, of, level) if with_marker else none
    share = proportion(~late, p.table["patient"].to_numpy(str), level=level, metric="marker shown", of=of) if with_marker and len(p) else undefined("marker shown", "no marker was named", of=of)  # fmt: skip
    same = _area(p, np.isin(names, sorted(at_all)), positive, of, level)
    if other is None:
        without = undefined("auc difference", "no other model", of=of)
        return Moment(lead, whole, same, unmarked, share, replace(none, undefined="no other model"), without)
    theirs = _alike(other, p)
    rows, truth, score = question(p, positive)
    whose = patient_codes(p.patients, len(p))[rows]
    if whole.undefined:
        return Moment(lead, whole, same, unmarked, share, _area(theirs, every, positive, of, level),
                      undefined("auc difference", whole.undefined, of=of, images=whole.images, patients=whole.patients))  # fmt: skip
    d = auc_difference(truth, score, question(theirs, positive)[2], whose, level=level, of=of)
    return Moment(lead, whole, same, unmarked, share, d.second, d.difference, d.p)


def _area(p: Predictions, some: NDArray[np.bool_], positive: tuple[str, ...], of: str, level: float) -> Estimate:
    held = p.take(some)
    patients = int(held.table["patient"].nunique())
    if patients < FEWEST:
        return undefined("auc", f"fewer than {FEWEST} patients", of=of, images=len(held), patients=patients)
    rows, truth, score = question(held, positive)
    return auc(truth, score, patient_codes(held.patients, len(held))[rows], level=level, of=of)


def _alike(p: Predictions, first: Predictions) -> Predictions:
    """The other model's predictions of the same cases, in their order."""
    place = {case: i for i, case in enumerate(p.table["case"].astype(str))}
    names = first.table["case"].astype(str)
    columns = list(first.target.columns)
    lost = [name for name in names if name not in place]
    if lost or len(p) != len(first):
        raise InputError("both models must be asked about the same cases", given=f"{len(first):,} and {len(p):,} cases, {len(first) - len(lost):,} of them in both",
                         todo="run both studies on one table with one split")  # fmt: skip
    sorted_ = p.take(np.array([place[name] for name in names], np.int64))
    if not sorted_.table[columns].astype(str).equals(first.table[columns].astype(str)):
        raise InputError("the two models were taught other labels of these cases", given=", ".join(columns), todo="run both studies on one table")  # fmt: skip
    return replace(sorted_, target=first.target)


def _earliest(moments: Sequence[Moment], above: float) -> float:
    """The farthest moment up to which every lower end lies above; the moments go from the event backwards."""
    reached = math.nan
    for moment in moments:
        if moment.auc.undefined or not moment.auc.low > above:
            break
        reached = moment.lead
    return reached


def _sooner(
    p: Predictions, steps: Sequence[tuple[Moment, Predictions]], positive: tuple[str, ...], above: float,
    marked: Mapping[str, float], with_marker: bool, level: float,
) -> tuple[Estimate, tuple[float, float, float]]:  # fmt: skip
    """The share of cases whose marker shows later than the model knows, and how much later it shows in those that show it."""
    nothing = (math.nan, math.nan, math.nan)
    if not with_marker:
        return undefined(_SOONER, "no marker was named"), nothing
    earliest = _earliest([moment for moment, _ in steps], above)
    if math.isnan(earliest):
        why = "the model does not know at any of these times"
        return undefined(_SOONER, why, images=len(p), patients=int(p.table["patient"].nunique())), nothing
    shown = np.array([marked.get(name, math.nan) for name in p.table["case"].astype(str)])
    seen = earliest - shown[~np.isnan(shown)]
    gain = tuple(map(float, np.quantile(seen, (0.5, 0.25, 0.75)))) if len(seen) else nothing
    statistic, patients = _share_sooner(p, steps, positive, above, shown)
    return bootstrap([statistic], patients, images=len(p), level=level)[0], (gain[0], gain[1], gain[2])


def _share_sooner(
    p: Predictions, steps: Sequence[tuple[Moment, Predictions]], positive: tuple[str, ...], above: float, shown: NDArray[np.float64]
) -> tuple[Statistic, int]:  # fmt: skip
    """The share of cases (N,) whose marker, ``shown`` so long before the event, shows later than the model knows; and of
    how many patients. When it knows is found anew in each resample: there the lower end lies as far below the AUC as it
    does in all cases. A resample in which the model knows at no time counts none."""
    usable = list(takewhile(lambda step: not step[0].auc.undefined, steps))
    place = {name: i for i, name in enumerate(dict.fromkeys(chain(p.patients, *(held.patients for _, held in usable))))}
    areas = []
    for moment, held in usable:
        rows, truth, score = question(held, positive)
        areas.append((Areas.of(rank(truth, score), np.array([place[who] for who in held.patients[rows]])), moment.auc.value - moment.auc.low))  # fmt: skip
    whose = np.array([place[who] for who in p.patients])
    later = [~(shown >= moment.lead) for moment, _ in usable]
    cells = per_patient(whose, len(place), np.ones(len(p)), *later).astype(np.float64)  # (P, 1 + moments)

    def share(weights: Weights) -> NDArray[np.float64]:
        reached, going = np.zeros(len(weights), np.int64), np.ones(len(weights), bool)
        for number, (area, margin) in enumerate(areas, 1):
            going &= area.auc(weights) - margin > above
            reached[going] = number
        total = weights @ cells
        counted = np.where(reached > 0, total[np.arange(len(weights)), reached], 0.0)
        return (counted / total[:, 0])[:, None]

    patients = int(p.table["patient"].nunique())
    note = "the time at which the model knows is found in each resample"
    return Statistic((Column(_SOONER, "", len(p), patients, effective=patients, note=note),), share), len(place)


# -- in words -------------------------------------------------------------------------------------------------------


@checked
def rows(found: LeadTime) -> list[tuple[str, ...]]:
    """The moments as a table of texts, the event first."""
    unit = f" ({found.unit})" if found.unit else ""
    head = (f"before the event{unit}", "AUC", "cases", "patients", *(["AUC before the marker", "marker shown"] if found.marker else []),
            *([f"minus {found.against}", "p (Holm)"] if found.against else []))  # fmt: skip
    return [head, *(_row(found, moment) for moment in found.moments)]


def _row(found: LeadTime, m: Moment) -> tuple[str, ...]:
    marked = (
        ()
        if not found.marker
        else (str(m.unmarked), f"{100 * m.marked.value:.0f} %" if not m.marked.undefined else "–")
    )
    rival = () if not found.against else (str(m.difference), "–" if math.isnan(m.adjusted) else f"{m.adjusted:.3g}")
    return (f"{m.lead:g}", str(m.auc), f"{m.auc.images:,}", f"{m.auc.patients:,}", *marked, *rival)


@checked
def said(found: LeadTime) -> tuple[str, ...]:
    """What the curve says, in sentences."""
    unit, share = f" {found.unit}" if found.unit else "", f"{100 * found.level:g} %"
    if math.isnan(found.earliest):
        near = found.moments[0]
        lines = [f"At no time before the event is the AUC shown to lie above {found.above:g}: the nearest, {near.lead:g}{unit}, is {near.auc}."]  # fmt: skip
    else:
        last = next(m for m in found.moments if m.lead == found.earliest)
        lines = [f"From {found.earliest:g}{unit} before the event on the AUC lies above {found.above:g}: {last.auc} there. "
                 f"Tested from the event backwards until a {share} interval reaches down to {found.above:g}, so that all tests together keep the level of one."]  # fmt: skip
    lost = [
        f"{m.lead:g}: {count(found.cases - m.auc.images, 'case')}" for m in found.moments if m.auc.images < found.cases
    ]
    if lost:
        lines.append(f"Left out, since they had no image so early: {'; '.join(lost)} of {found.cases:,}.")
    if found.marker and not found.sooner.undefined:
        middle, low, high = found.gain
        later = "" if math.isnan(middle) else (
            f" Where it showed, it did so {abs(middle):.3g}{unit} {'later' if middle >= 0 else 'earlier'} in the median (half of the cases: {low:.3g} to {high:.3g}).")  # fmt: skip
        lines.append(f"That is earlier than {found.marker} in {100 * found.sooner.value:.0f} % of the cases "
                     f"({100 * found.sooner.low:.0f} to {100 * found.sooner.high:.0f} %; cases that never showed it count).{later}")  # fmt: skip
    return (*lines, *found.notes)

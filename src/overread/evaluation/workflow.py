"""What would have happened with the model in the reading room: simulated on recorded cases and readers' calls.

First the ways through the room (who reads a case, and what is called in the end, as pure arrays), then what came of
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.cases.annotators import Grades
from overread.core.errors import InputError, checked, nearest, one_of, require
from overread.core.files import write_json
from overread.evaluation.curves import Numbers
from overread.evaluation.ledger import record_look, verify
from overread.evaluation.operating_point import OperatingPoint, positives, question, refuse_seen, refuse_training
from overread.evaluation.results import Content, Estimated, lookup, to_file_form
from overread.predictions import Predictions
from overread.stats.arrays import distinct, no_ranking, normal_quantile, patient_codes
from overread.stats.classification import at_threshold
from overread.stats.decision import flagged_at
from overread.stats.discrimination.delong import bootstrap_difference
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import Difference, Estimate, undefined, without
from overread.stats.proportions import paired_proportions
from overread.stats.resample import Column, Scale, Statistic, Weights, bootstrap, per_patient, resamples_for

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Every way, and what happens on it.
PATHS = {
    "reader alone": "one reader reads every case",
    "two readers": "two readers read every case; a third decides where they disagree (either positive where nobody else read it)",
    "model alone": "nobody reads; the model's call stands",
    "either positive": "one reader and the model; positive if either says so",
    "both positive": "one reader and the model; positive if both say so",
    "disagreement to a reader": "one reader and the model; a second reader decides where they disagree",
    "triage": "cases below the triage threshold are called negative and not read; a reader reads the others",
}
BASELINES = ("reader alone", "two readers")
#: What tables write for a yes and a no where they do not name a class.
YES, NO = (
    ("1", "1.0", "yes", "y", "true", "present", "positive"),
    ("0", "0.0", "no", "n", "false", "absent", "negative"),
)


@dataclass(frozen=True, eq=False)
class CaseReadings:
    """One row for each reader and case that she read, arrays (M,).

    ``first`` is her call, ``second`` and ``third`` those of the next readers of the same case (NaN: nobody), ``model``
    the model's call and ``held`` whether the case is above the triage threshold. ``codes`` number the patients.
    """

    truth: Bools
    score: Floats
    model: Bools
    held: Bools
    first: Bools
    second: Floats
    third: Floats
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, eq=False)
class Route:
    """What became of the rows (M,) of a :class:`CaseReadings`: ``known`` where the way can be followed."""

    name: str
    called: Bools
    reads: Floats
    known: Bools


@checked
def readings(
    truth: Bools, score: Floats, calls: Floats | None, codes: NDArray[np.int64], at: float, triage: float
) -> CaseReadings:
    """Every reader's view of every case she read. ``calls`` (N, R) 0/1/NaN; None: one reader who is never wrong.

    The next readers of a case are those that follow in the order of the columns, the first after the last: every
    reader is once the first, the second, the third, without a choice.
    """
    table = truth.astype(np.float64)[:, None] if calls is None else calls
    many, readers = table.shape
    views = [_others(np.roll(table, -reader, axis=1)) for reader in range(readers)]
    first, second, third = (np.concatenate([view[k] for view in views]) for k in range(3))
    case = np.tile(np.arange(many), readers)
    rows = np.flatnonzero(~np.isnan(first))
    case = case[rows]
    with np.errstate(invalid="ignore"):
        model, held = score[case] >= at, score[case] >= triage
    return CaseReadings(truth[case], score[case], model, held, first[rows] == 1, second[rows], third[rows], codes[case])


def _others(table: Floats) -> tuple[Floats, Floats, Floats]:
    """The first column, and the first two calls that are not NaN among the others."""
    rest = table[:, 1:]
    known = ~np.isnan(rest)
    place = np.cumsum(known, axis=1)
    found = []
    for k in (1, 2):
        here = known & (place == k)
        found.append(np.where(here.any(axis=1), np.where(here, rest, 0).sum(axis=1), np.nan))
    return table[:, 0], found[0], found[1]


@checked
def route(reading: CaseReadings, name: str) -> Route:
    """Send every row along the way ``name`` (see :data:`PATHS`)."""
    one_of(name, PATHS, "workflow")
    r, every = reading, np.ones(len(reading), bool)
    once = every.astype(np.float64)
    if name == "reader alone":
        return Route(name, r.first, once, every)
    if name == "model alone":
        return Route(name, r.model, 0 * once, every)
    if name == "either positive":
        return Route(name, r.first | r.model, once, every)
    if name == "both positive":
        return Route(name, r.first & r.model, once, every)
    if name == "triage":
        return Route(name, r.first & r.held, r.held.astype(np.float64), every)
    there, second = ~np.isnan(r.second), r.second == 1
    if name == "disagreement to a reader":
        apart = r.first != r.model
        return Route(name, np.where(apart, second, r.first), once + apart, there)
    apart, judge = r.first != second, ~np.isnan(r.third)
    decided = np.where(judge, r.third == 1, r.first | second)
    return Route(name, np.where(apart, decided, r.first), 2 * once + (apart & judge), there)


@checked
def calls_of(
    grades: Grades,
    cases: Sequence[str],
    positive: Sequence[str],
    names: Sequence[str],
    *,
    threshold: float | None = None,
    modality: str = "",
) -> Floats:
    """(N, R) whether each reader called each case positive: 1, 0, or NaN for no answer.

    Labels: one of ``names``, of which ``positive`` count as disease; or yes and no (1 and 0, present and absent).
    Scores: positive from ``threshold`` on, which has to be given unless all lie in 0 … 1 (then .5). Raises
    :class:`InputError` for other labels.
    """
    if grades.kind == "score":
        scores = grades.scores(cases, modality)
        known = scores[~np.isnan(scores)]
        if threshold is None and known.size and (known.min() < 0 or known.max() > 1):
            raise InputError("readers' scores need a threshold to become calls", given=f"scores from {known.min():g} to {known.max():g}",
                             todo="give --reader-threshold: the least score that counts as positive")  # fmt: skip
        return np.where(np.isnan(scores), np.nan, scores >= (0.5 if threshold is None else threshold))
    said = {name: _meant(name, positive, names) for name in grades.classes}
    strange = [name for name, meant in said.items() if meant is None]
    if strange:
        raise InputError("a reader's answer is none of the classes", given=f"{strange[0]!r}, {len(strange)} in all",
                         todo=f"write {', '.join(names)}, or 1 and 0")  # fmt: skip
    if not said:
        raise InputError("no reader gave any answer", given=str(grades), todo="fill in the column of answers")
    table = np.array([float(bool(said[name])) for name in grades.classes])
    numbers = grades.ratings(cases, grades.classes, modality)
    return np.where(np.isnan(numbers), np.nan, table[np.nan_to_num(numbers).astype(np.int64)])


@checked
def calls_about(
    test: Predictions,
    rows: NDArray[np.int64],
    positive: Sequence[str],
    grades: Grades,
    *,
    threshold: float | None = None,
    modality: str = "",
) -> Floats:
    """(N, R) what each reader called the cases in ``rows`` of a table: :func:`calls_of`, by the names of its classes."""
    cases = [str(case) for case in test.table["case"].to_numpy()[rows]]
    return calls_of(
        grades, cases, positive, test.target.task.answers_about(positive), threshold=threshold, modality=modality
    )


def _meant(label: str, positive: Sequence[str], names: Sequence[str]) -> bool | None:
    if label in names:
        return label in positive
    word = label.lower()
    return True if word in YES else False if word in NO else None


COSTS = ("read", "miss", "alarm")


@dataclass(frozen=True, eq=False)
class Workflow(Estimated):
    """One way through the reading room: what happens on it, its estimates, and differences from other ways.

    ``differences``: by the name of the other way, such as ``reader alone``; on the same readers and cases, paired.
    """

    name: str
    says: str
    estimates: tuple[Estimate, ...]
    differences: dict[str, tuple[Difference, ...]] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> Estimate:
        """``workflow["sensitivity"]``."""
        return lookup(((e.metric, "", e) for e in self.estimates), metric)


@dataclass(frozen=True)
class TriagePoint:
    """The share of cases that is read at a threshold, and the sensitivity of the whole path there."""

    threshold: float = 0.0
    read: float = 0.0
    sensitivity: float = 0.0


@dataclass(frozen=True)
class ReaderRates:
    """What the readers reach without a model."""

    sensitivity: float = 0.0
    specificity: float = 0.0


@dataclass(frozen=True)
class TriageCurve(Content):
    """Sensitivity of model and reader, with its interval, against the share of cases ``read``, (T,) over thresholds.

    ``kept``: the model's own sensitivity; ``point``: the frozen threshold.
    """

    threshold: Numbers = ()
    read: Numbers = ()
    sensitivity: Numbers = ()
    low: Numbers = ()
    high: Numbers = ()
    specificity: Numbers = ()
    kept: Numbers = ()
    reader: ReaderRates = ReaderRates()
    point: TriagePoint = TriagePoint()
    prevalence: float = 0.0
    level: float = 0.95
    method: str = ""


@dataclass(frozen=True, eq=False)
class Simulation(Estimated):
    """Workflows side by side, the triage curve, the order of the worklist, and what it was made from."""

    workflows: tuple[Workflow, ...]
    triage: TriageCurve = TriageCurve()
    worklist: tuple[Estimate, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)
    operating: tuple[OperatingPoint, ...] = ()
    looks: int = 0

    def __getitem__(self, name: str) -> Workflow:
        """``simulation["triage"]``."""
        found = {w.name: w for w in self.workflows}
        if name not in found:
            raise InputError(f"there is no workflow {name!r}", todo=nearest(name, found))
        return found[name]

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every estimate, ``where`` naming the workflow and, for a difference, what it is taken from."""
        found = [replace(e, where={"workflow": w.name}) for w in self.workflows for e in w.estimates]
        for w in self.workflows:
            for other, pairs in w.differences.items():
                where = {"workflow": w.name, "against": other}
                found += [replace(d.difference, where=where) for d in pairs]
        return (*found, *self.worklist)

    def save(self, folder: str | Path) -> Path:
        """Write ``simulation.json``, ``metrics.json`` and ``operating.json`` into ``folder``."""
        folder = Path(folder)
        ways = [
            {"name": w.name, "says": w.says, "estimates": w.estimates,
             "differences": [{"against": o, **_told(d)} for o, ds in w.differences.items() for d in ds]}
            for w in self.workflows
        ]  # fmt: skip
        body = {
            "counts": self.counts,
            "looks": self.looks,
            "workflows": ways,
            "triage": to_file_form(self.triage),
            "worklist": self.worklist,
        }
        write_json(folder / "simulation.json", body)
        write_json(folder / "operating.json", list(self.operating))
        write_json(folder / "metrics.json", list(self.estimates))
        return folder


def _told(d: Difference) -> dict[str, Any]:
    names = ("metric", "value", "low", "high", "level", "method", "images", "patients", "undefined")
    return {**{n: getattr(d.difference, n) for n in names}, "p": d.p}


@checked
def simulate(
    test: Predictions,
    grades: Grades | None = None,
    *,
    at: OperatingPoint,
    triage: OperatingPoint | None = None,
    workflows: Sequence[str] = (),
    reader_threshold: float | None = None,
    modality: str = "",
    prevalence: float | None = None,
    costs: Mapping[str, float] | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    model: str = "",
) -> Simulation:
    """Send recorded cases along several workflows and compare each with a reader alone, and with two readers.

    ``at``: the point at which the model acts as a reader; ``triage``: that below which a case is not read (by default
    the same); both frozen on tuning data. ``grades``: the readers' calls; without, triage alone is simulated, with a
    reader who is never wrong. ``workflows``: names of :data:`overread.evaluation.workflow.PATHS`, all that can be told
    if empty. Each row is a reader with a case she read, so every number is that of the average of these readers, and
    the intervals, by patient, are for new patients and these readers. Readers are assumed to call as they did without
    the model. ``prevalence`` of the clinic: for workload, share called positive, and costs. ``costs``: of one ``read``,
    one ``miss`` and one ``alarm`` (a false one), in any unit. Differences: Tango's interval and McNemar's p for
    sensitivity and specificity, a paired patient bootstrap for the rest. Raises :class:`UnsoundError` for patients that
    a threshold was chosen on, :class:`InputError` where no case has both truth and a reader.
    """
    triage = at if triage is None else triage
    alike = set(at.positive) == set(triage.positive)
    require(alike, "both points must be for the same classes", given=f"{at.of}; {triage.of}")
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    refuse_training(test)
    for seen, salt, cases in {
        (point.seen, point.salt, point.cases) for point in (at, triage)
    }:  # mostly one: hashing takes time
        refuse_seen(test, seen, salt, "to choose the threshold", cases)
    names = positives(test, at.positive, None)
    rows, truth, score = question(test, names)
    calls = calls_about(test, rows, names, grades, threshold=reader_threshold, modality=modality) if grades else None
    terms = Conditions(level, seed, resamples, prevalence, _costs(costs), at.of)
    codes = patient_codes(test.patients[rows], len(rows))
    reading = readings(truth, score, calls, codes, at.threshold, triage.threshold)
    if not len(reading):
        raise _nothing(len(test), len(rows))
    points = [p.threshold for p in (at, triage)]
    if ledger:
        verify(ledger)
    bad = int((~np.isfinite(reading.score)).sum())
    found = Simulation(
        tuple(_followed(reading, _wanted(workflows, grades), terms, bad)),
        triage_curve(reading, triage.threshold, terms, bad),
        tuple(worklist(truth, score, codes, terms)),
        _counts(truth, score, calls, reading, triage.threshold, prevalence),
        (at,) if at == triage else (at, triage),
    )
    # what could not be computed is no look
    return replace(found, looks=record_look(ledger, model, points, test.digest, test=test)) if ledger else found


def _nothing(cases: int, known: int) -> InputError:
    """The error for cases without a truth, or readers of other cases."""
    if not known:
        return InputError("no case has a known truth", given=f"{cases:,} cases", todo="fill in the column of the label")
    return InputError("no case has a known truth and a reader's call", given=f"{known:,} cases with a truth",
                      todo="the column case must hold the same names in both tables")  # fmt: skip


def _costs(costs: Mapping[str, float] | None) -> tuple[float, float, float] | None:
    if costs is None:
        return None
    for name, value in costs.items():
        one_of(name, COSTS, "cost")
        require(math.isfinite(value) and value >= 0, "a cost is a number from 0 on", given=f"{name}={value:g}")
    read, miss, alarm = (float(costs.get(name, 0.0)) for name in COSTS)
    return read, miss, alarm


def _wanted(workflows: Sequence[str], grades: Grades | None) -> list[str]:
    wanted = list(workflows) or list(PATHS)
    for name in wanted:
        one_of(name, PATHS, "workflow")
    if grades is None:
        return ["reader alone", *(n for n in wanted if n in ("triage", "model alone"))]
    return list(dict.fromkeys(("reader alone", *wanted)))


def _followed(reading: CaseReadings, names: Sequence[str], terms: Conditions, bad: int) -> list[Workflow]:
    """Each way with its estimates and its differences from the ways without a model."""
    routes = {name: route(reading, name) for name in names}
    found = []
    for name, way in routes.items():
        why = f"{bad} of {len(reading)} scores are not finite" if bad and name not in BASELINES else ""
        why = why or ("" if way.known.any() else "no case was read by a second reader")
        if why:
            lost = (undefined(m, why, of=terms.of) for m in metrics_of(terms))
            found.append(Workflow(name, PATHS[name], tuple(lost)))
            continue
        others = [o for o in BASELINES if o in routes and o != name and name != BASELINES[0]]
        pairs = {o: tuple(apart(reading, way, routes[o], terms)) for o in others if (way.known & routes[o].known).any()}
        found.append(Workflow(name, PATHS[name], tuple(judged(reading, way, terms)), pairs))
    return found


def _counts(
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    calls: NDArray[np.float64] | None,
    reading: CaseReadings,
    triage: float,
    prevalence: float | None,
) -> dict[str, Any]:
    """Cases, patients and readings; what triage leaves unread, and misses."""
    read = np.ones(len(truth), bool) if calls is None else (~np.isnan(calls)).any(axis=1)
    with np.errstate(invalid="ignore"):
        left = read & (score < triage)
    return {
        "images": int(read.sum()),
        "patients": distinct(reading.codes),
        "readers": 0 if calls is None else int((~np.isnan(calls)).any(axis=0).sum()),
        "readings": len(reading),
        "positives": int((truth & read).sum()),
        "not read by triage": int(left.sum()),
        "missed by triage": int((left & truth).sum()),
        "missed by triage, found by a reader": int((reading.truth & ~reading.held & reading.first).sum()),
        "prevalence": float(truth[read].mean()) if prevalence is None else prevalence,
    }


# -- the numbers of each way through a reading room, and what it changes against another, by patient --------------


#: Points of a stored curve, at most.
POINTS = 200
#: From this many rows on fewer resamples are drawn: the intervals are narrow anyway.
LARGE, RESAMPLES = 200_000, 100
_RATES = ("reads per case", "called positive")


@dataclass(frozen=True)
class Conditions:
    """How numbers are made; ``costs`` of a read, a miss and a false alarm."""

    level: float
    seed: int
    resamples: int | None
    prevalence: float | None
    costs: tuple[float, float, float] | None
    of: str

    def intervals(self, rows: int) -> dict[str, Any]:
        """What the bootstrap is told of the intervals."""
        many = self.resamples or (RESAMPLES if rows > LARGE else resamples_for(rows))
        return {"images": rows, "level": self.level, "resamples": many, "seed": self.seed}


@checked
def metrics_of(terms: Conditions) -> tuple[str, ...]:
    """The metrics of every way."""
    return ("sensitivity", "specificity", *_RATES, *(("cost per case",) if terms.costs else ()))


@checked
def judged(reading: CaseReadings, way: Route, terms: Conditions) -> list[Estimate]:
    """Sensitivity, specificity and the rates of one way."""
    rows = way.known
    truth, codes = reading.truth[rows], patient_codes(reading.codes[rows], int(rows.sum()))
    shares = at_threshold(truth, way.called[rows], codes, level=terms.level, of=terms.of)[:2]
    rates = bootstrap([_rates(reading, way, rows, codes, terms)], int(codes.max()) + 1, **terms.intervals(len(truth)))
    return [*shares, *(_by_design(e, way.reads[rows]) if e.metric == "reads per case" else e for e in rates)]


def _by_design(e: Estimate, reads: NDArray[np.float64]) -> Estimate:
    if len(np.unique(reads)) > 1 or e.undefined:
        return e
    return replace(e, low=math.nan, high=math.nan, method="the same for every case, by design")


def _rates(
    reading: CaseReadings, way: Route, rows: NDArray[np.bool_], codes: NDArray[np.int64], terms: Conditions
) -> Statistic:
    """Reads per case, share called positive and cost per case, at the prevalence asked for."""
    truth, called, reads = reading.truth[rows], way.called[rows], way.reads[rows]
    values = [reads, called.astype(np.float64)]
    if terms.costs:
        read, miss, alarm = terms.costs
        values.append(read * reads + miss * (truth & ~called) + alarm * (~truth & called))
    people = int(codes.max()) + 1
    cells = np.stack([per_patient(codes, people, side * 1.0, *(v * side for v in values)) for side in (truth, ~truth)])
    note = "" if terms.prevalence is None else f"at a prevalence of {terms.prevalence:g}"
    about = Column("", terms.of, len(truth), distinct(codes), note=note, reason="no cases of one class")
    scales: dict[str, Scale] = {"reads per case": "positive", "called positive": "share", "cost per case": "positive"}
    columns = tuple(replace(about, metric=m, scale=scales[m], effective=about.patients) for m in metrics_of(terms)[2:])

    def compute(weights: Weights) -> NDArray[np.float64]:
        ill, well = (weights @ cell for cell in cells)  # (B, 1 + K) each
        with np.errstate(invalid="ignore", divide="ignore"):
            if terms.prevalence is None:
                return (ill[:, 1:] + well[:, 1:]) / (ill[:, :1] + well[:, :1])
            share = terms.prevalence
            return share * ill[:, 1:] / ill[:, :1] + (1 - share) * well[:, 1:] / well[:, :1]

    return Statistic(columns, compute)


@checked
def apart(reading: CaseReadings, way: Route, other: Route, terms: Conditions) -> list[Difference]:
    """``way`` minus ``other`` on the rows where both can be followed."""
    rows = way.known & other.known
    truth, codes = reading.truth[rows], patient_codes(reading.codes[rows], int(rows.sum()))
    found = paired_rates(truth, way.called[rows], other.called[rows], codes, terms)
    ours, theirs = (_rates(reading, w, rows, codes, terms) for w in (way, other))
    rates = bootstrap_difference(ours, theirs, int(codes.max()) + 1, **terms.intervals(len(truth)))
    steady = len(np.unique((way.reads - other.reads)[rows])) == 1
    return [*found, *(_fixed(d) if steady and d.first.metric == "reads per case" else d for d in rates)]


@checked
def paired_rates(
    truth: NDArray[np.bool_],
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    codes: NDArray[np.int64],
    terms: Conditions,
) -> list[Difference]:
    """Sensitivity and specificity of the ``first`` calls minus those of the ``second`` on the same N cases, by patient."""
    found = []
    for metric, among in (("sensitivity", truth), ("specificity", ~truth)):
        right, other = ((calls == truth)[among] for calls in (first, second))
        pair = paired_proportions(right, other, codes[among], level=terms.level, metric=metric, of=terms.of)
        why = f"0 {'positives' if metric == 'sensitivity' else 'negatives'}"
        found.append(pair if among.any() else replace(pair, difference=replace(pair.difference, undefined=why)))
    return found


def _fixed(d: Difference) -> Difference:
    value = replace(d.difference, low=math.nan, high=math.nan, method="the same for every case, by design")
    return without(d.first, d.second, value)


@checked
def triage_curve(reading: CaseReadings, threshold: float, terms: Conditions, bad: int) -> TriageCurve:
    """Sensitivity of model and reader against the share of cases read, over triage thresholds."""
    if bad:
        return TriageCurve(undefined=f"{bad} of {len(reading)} scores are not finite")
    if why := no_ranking(reading.truth, reading.score):
        return TriageCurve(undefined=why)
    at = np.unique(np.quantile(reading.score, np.linspace(0, 1, POINTS - 1), method="lower"))
    codes = reading.codes if distinct(reading.codes) < len(reading) else None
    path = np.where(reading.first, reading.score, -np.inf)
    found, alone = (
        flagged_at(reading.truth, [s], at, codes, by_class=True, level=terms.level) for s in (path, reading.score)
    )
    low, high = found.limits(normal_quantile(terms.level), paired=False)
    share = float(reading.truth.mean()) if terms.prevalence is None else terms.prevalence
    ill, above = reading.truth, reading.held
    read = share * alone.share[0] + (1 - share) * alone.share[1]
    rates = ReaderRates(float(reading.first[ill].mean()), float(1 - reading.first[~ill].mean()))
    left = float(share * above[ill].mean() + (1 - share) * above[~ill].mean())
    point = TriagePoint(threshold, left, float((reading.first & above)[ill].mean()))
    method = "Wilson" + ("" if codes is None else ", ratio estimator by patient")
    curve = {"threshold": at, "read": read, "sensitivity": found.share[0], "low": low[0], "high": high[0],
             "specificity": 1 - found.share[1], "kept": alone.share[0]}  # fmt: skip
    held: dict[str, Any] = {name: tuple(values.tolist()) for name, values in curve.items()}
    return TriageCurve(**held, reader=rates, point=point, prevalence=share, level=terms.level, method=method)


@checked
def worklist(
    truth: NDArray[np.bool_], score: NDArray[np.float64], codes: NDArray[np.int64], terms: Conditions
) -> list[Estimate]:
    """Where positives stand in a list sorted by the score: the mean share of the list before them; ½ as they come.

    The positives stand among themselves, (π/2), and behind a share 1 − AUC of the negatives.
    """
    area = auc(truth, score, codes, level=terms.level, of=terms.of)
    name = "place in the worklist"
    if area.undefined:
        return [undefined(name, area.undefined, of=terms.of, images=area.images, patients=area.patients)]
    share = float(truth.mean()) if terms.prevalence is None else terms.prevalence
    value, high, low = (share / 2 + (1 - share) * (1 - a) for a in (area.value, area.low, area.high))
    how = f"mean share of the list before a positive, sorted by score; .5 if read as they come; {area.method}"
    return [Estimate(name, value, low, high, terms.level, how, area.images, area.patients, terms.of)]

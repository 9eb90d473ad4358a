"""What would have happened with the model in the reading room: simulated on recorded cases and readers' calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.cases.graders import Grades
from overread.errors import InputError, checked, nearest, one_of, require
from overread.evaluation.ledger import record_look, truth_hash
from overread.evaluation.operating import OperatingPoint, positives, question, refuse_seen
from overread.evaluation.workflow.numbers import Terms, apart, judged, metrics_of, triage_curve, worklist
from overread.evaluation.workflow.paths import BASELINES, PATHS, Reading, calls_of, readings, route
from overread.predictions import Predictions
from overread.record import plain, write_json
from overread.stats.arrays import distinct, patient_codes
from overread.stats.difference import Difference
from overread.stats.estimate import Estimate, undefined

COSTS = ("read", "miss", "alarm")


@dataclass(frozen=True, eq=False)
class Workflow:
    """One way through the reading room: what happens on it, its estimates, and differences from other ways.

    ``differences``: by the name of the other way, such as ``reader alone``; on the same readers and cases, paired.
    """

    name: str
    says: str
    estimates: tuple[Estimate, ...]
    differences: dict[str, tuple[Difference, ...]] = field(default_factory=dict)

    def __getitem__(self, metric: str) -> Estimate:
        """``workflow["sensitivity"]``."""
        found = {e.metric: e for e in self.estimates}
        if metric not in found:
            raise InputError(f"there is no metric {metric!r}", todo=nearest(metric, found))
        return found[metric]


@dataclass(frozen=True, eq=False)
class Simulation:
    """Workflows side by side, the triage curve, the order of the worklist, and what it was made from."""

    workflows: tuple[Workflow, ...]
    triage: dict[str, Any] = field(default_factory=dict)
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
            "triage": self.triage,
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
    reader who is never wrong. ``workflows``: names of :data:`overread.evaluation.workflow.paths.PATHS`, all that can be told if
    empty. Each row is a reader with a case she read, so every number is that of the average of these readers, and the
    intervals, by patient, are for new patients and these readers. Readers are assumed to call as they did without the
    model. ``prevalence`` of the clinic: for workload, share called positive, and costs. ``costs``: of one ``read``, one
    ``miss`` and one ``alarm`` (a false one), in any unit. Differences: Tango's interval and McNemar's p for sensitivity
    and specificity, a paired patient bootstrap for the rest. Raises :class:`UnsoundError` for patients that a
    threshold was chosen on, :class:`InputError` where no case has both truth and a reader.
    """
    triage = at if triage is None else triage
    require(
        set(at.positive) == set(triage.positive),
        "both points must be for the same classes",
        given=f"{at.of}; {triage.of}",
    )
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    for seen, salt in {(point.seen, point.salt) for point in (at, triage)}:  # mostly one: hashing takes time
        refuse_seen(test, seen, salt, "to choose the threshold")
    names = positives(test, at.positive, None)
    rows, truth, score = question(test, names)
    calls = _calls(test, rows, names, grades, reader_threshold, modality)
    terms = Terms(level, seed, resamples, prevalence, _costs(costs), at.of)
    codes = patient_codes(test.patients[rows], len(rows))
    reading = readings(truth, score, calls, codes, at.threshold, triage.threshold)
    if not len(reading):
        raise _nothing(len(test), len(rows))
    points = [p.threshold for p in (at, triage)]
    looks = record_look(ledger, model, points, test.digest, test=truth_hash(test)) if ledger else 0
    bad = int((~np.isfinite(reading.score)).sum())
    found = _followed(reading, _wanted(workflows, grades), terms, bad)
    return Simulation(
        tuple(found),
        plain(triage_curve(reading, triage.threshold, terms, bad)),
        tuple(worklist(truth, score, codes, terms)),
        _counts(truth, score, calls, reading, triage.threshold, prevalence),
        (at,) if at == triage else (at, triage),
        looks,
    )


def _nothing(cases: int, known: int) -> InputError:
    """The error for cases without a truth, or readers of other cases."""
    if not known:
        return InputError(
            "no case has a known truth", given=f"{cases:,} cases", todo="fill in the column of the label"
        )
    return InputError("no case has a known truth and a reader's call", given=f"{known:,} cases with a truth",
                      todo="the column case must hold the same names in both tables")  # fmt: skip


def _calls(
    test: Predictions,
    rows: NDArray[np.int64],
    names: tuple[str, ...],
    grades: Grades | None,
    threshold: float | None,
    modality: str,
) -> NDArray[np.float64] | None:
    if grades is None:
        return None
    cases = [str(case) for case in test.table["case"].to_numpy()[rows]]
    every = names if test.target.kind == "findings" else test.target.names
    return calls_of(grades, cases, names, every, threshold=threshold, modality=modality)


def _costs(costs: Mapping[str, float] | None) -> tuple[float, float, float] | None:
    if costs is None:
        return None
    for name, value in costs.items():
        one_of(name, COSTS, "cost")
        require(
            math.isfinite(value) and value >= 0, "a cost is a number from 0 on", given=f"{name}={value:g}"
        )
    read, miss, alarm = (float(costs.get(name, 0.0)) for name in COSTS)
    return read, miss, alarm


def _wanted(workflows: Sequence[str], grades: Grades | None) -> list[str]:
    wanted = list(workflows) or list(PATHS)
    for name in wanted:
        one_of(name, PATHS, "workflow")
    if grades is None:
        return ["reader alone", *(n for n in wanted if n in ("triage", "model alone"))]
    return list(dict.fromkeys(("reader alone", *wanted)))


def _followed(reading: Reading, names: Sequence[str], terms: Terms, bad: int) -> list[Workflow]:
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
        pairs = {
            o: tuple(apart(reading, way, routes[o], terms))
            for o in others
            if (way.known & routes[o].known).any()
        }
        found.append(Workflow(name, PATHS[name], tuple(judged(reading, way, terms)), pairs))
    return found


def _counts(
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    calls: NDArray[np.float64] | None,
    reading: Reading,
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

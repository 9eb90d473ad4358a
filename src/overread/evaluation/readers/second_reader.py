"""A model against the readers of a double reading, each at the point at which she works, and in the place of the second.

As McKinney 2020 (doi:10.1038/s41586-019-1799-6) puts it: by how much a model lowers the false negatives and the false positives
of the first reader, the second reader and their consensus; and what becomes of double reading if the model reads second: where
it agrees with the first reader nobody else reads, elsewhere the recorded double reading decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.annotators import Grades
from overread.core.errors import InputError, checked, nearest, require
from overread.core.files import write_json
from overread.core.phrases import count
from overread.evaluation.comparison.claims import Declaration, Verdict, declared_at_first, met, standing
from overread.evaluation.ledger import record_look, verify
from overread.evaluation.operating_point import OperatingPoint, positives, question, refuse_seen, refuse_training
from overread.evaluation.results import Estimated
from overread.evaluation.workflow import CaseReadings, Conditions, Route, apart, calls_about, judged, paired_rates
from overread.predictions import Predictions
from overread.stats.arrays import patient_codes
from overread.stats.estimate import Difference, Estimate
from overread.stats.hypotheses import Claim, superiority

ROLES = ("first", "second", "consensus")
RATES = ("sensitivity", "specificity")
#: What falls where a metric rises.
ERRORS = {"sensitivity": "false negatives", "specificity": "false positives"}
ALPHA = 0.025
#: The route on which the model reads second, and that which it is compared with.
MODEL_SECOND, RECORDED = "the model reads second", "double reading as recorded"
SAVED = "second reads saved"
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class ReaderContrast(Estimated):
    """The model against one reader: ``differences`` of sensitivity and specificity, model minus reader, paired.

    ``reader``: her role, or :data:`MODEL_SECOND` against :data:`RECORDED`. ``source``: of which site, ``""`` for all.
    ``claims``: non-inferiority and superiority of each metric, over all sites only.
    """

    reader: str
    source: str
    differences: tuple[Difference, ...]
    claims: tuple[tuple[Verdict, Claim], ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The differences, ``where`` naming the reader and the site."""
        where = {"against": self.reader} | ({"source": self.source} if self.source else {})
        return tuple(replace(d.difference, where=where) for d in self.differences)


@dataclass(frozen=True, eq=False)
class DoubleReading(Estimated):
    """What a model would change in a double reading: contrasts with each reader, and in the place of the second.

    ``workflow``: sensitivity, specificity and reads per case of each way; ``saved``: the share of second reads that fall
    away. ``left_out``: cases without a truth, a score or an answer of one of the roles.
    """

    of: str
    contrasts: tuple[ReaderContrast, ...]
    workflow: dict[str, tuple[Estimate, ...]]
    in_place: ReaderContrast | None
    saved: Estimate | None
    point: OperatingPoint
    margin: float
    cases: int
    patients: int
    left_out: int
    looks: int = 0

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Every difference, and every number of the workflow."""
        found = [
            e
            for contrast in (*self.contrasts, *((self.in_place,) if self.in_place else ()))
            for e in contrast.estimates
        ]
        found += [replace(e, where={"workflow": name}) for name, held in self.workflow.items() for e in held]
        return (*found, *((self.saved,) if self.saved else ()))

    @property
    def keeps(self) -> bool:
        """Whether double reading with the model is shown to be no worse, in sensitivity and in specificity."""
        return bool(self.in_place and self.in_place.claims) and all(v.claim.shown for v, _ in self.in_place.claims)  # type: ignore[union-attr]

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of the numbers must know."""
        lines = ["Simulated on recorded readings: readers are taken to call as they did without the model."]
        if self.left_out:
            lines.append(f"{count(self.left_out, 'case')} without a truth, a score or an answer of one of these readers are left out.")  # fmt: skip
        claims = [v for c in (*self.contrasts, *((self.in_place,) if self.in_place else ())) for v, _ in c.claims]
        if claims and not all(v.declared for v in claims):
            lines.append(f"The margin of {self.margin:g} was not declared before the test set was opened: {claims[0].why}. Claims are post hoc.")  # fmt: skip
        return tuple(lines)

    def to_table(self) -> pd.DataFrame:
        """The paper's table: a row for each reader and site, by how much the model lowers each error, in percentage points."""
        return pd.DataFrame([_row(contrast) for contrast in self.contrasts])

    def save(self, folder: str | Path) -> Path:
        """Write ``second_reader.json``, ``second_reader.csv`` and ``metrics.json`` into ``folder``."""
        from overread.core.files import write_csv

        folder = Path(folder)
        body = {
            "of": self.of, "cases": self.cases, "patients": self.patients, "left out": self.left_out, "looks": self.looks,
            "margin": self.margin, "operating": self.point, "keeps": self.keeps, "cautions": self.cautions,
            "contrasts": [_told(c) for c in (*self.contrasts, *((self.in_place,) if self.in_place else ()))],
            "workflow": self.workflow, SAVED: self.saved,
        }  # fmt: skip
        write_json(folder / "second_reader.json", body)
        write_json(folder / "metrics.json", list(self.estimates))
        write_csv(folder / "second_reader.csv", self.to_table())
        return folder


def _row(contrast: ReaderContrast) -> dict[str, Any]:
    made: dict[str, Any] = {"against": contrast.reader, "source": contrast.source or "all",
                            "cases": sum(d.difference.images for d in contrast.differences)}  # fmt: skip
    for metric, d in zip(RATES, contrast.differences):
        made |= {f"{metric}: reader": d.second.value, f"{metric}: model": d.first.value,
                 f"fewer {ERRORS[metric]}": d.difference.value, f"fewer {ERRORS[metric]}: low": d.difference.low,
                 f"fewer {ERRORS[metric]}: high": d.difference.high}  # fmt: skip
    return made


def _told(contrast: ReaderContrast) -> dict[str, Any]:
    claims = [{"metric": v.claim.difference.metric, "non-inferiority": v.claim.shown, "p": v.claim.p, "superiority": s.shown,
               "p of superiority": s.p, "status": v.status, "why": v.why} for v, s in contrast.claims]  # fmt: skip
    return {"against": contrast.reader, "source": contrast.source, "claims": claims,
            "differences": [{"value": d.difference.value, "low": d.difference.low, "high": d.difference.high, "p": d.p,
                             "model": d.first, "reader": d.second, "metric": d.difference.metric} for d in contrast.differences]}  # fmt: skip


@checked
def declarations(margin: float) -> tuple[Declaration, ...]:
    """What is to be shown, as it stands in a ledger before the test set is opened: no worse in either by the margin."""
    return tuple(Declaration(metric, margin, "non-inferiority", ALPHA) for metric in RATES)


@checked
def judge_second_reader(
    test: Predictions,
    grades: Grades,
    *,
    at: OperatingPoint,
    roles: tuple[str, str, str] = ROLES,
    margin: float = 0.05,
    by_source: bool = True,
    prevalence: float | None = None,
    reader_threshold: float | None = None,
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
    ledger: str | Path | None = None,
    model: str = "",
) -> DoubleReading:
    """The model at its frozen point ``at`` against each of the ``roles`` of a double reading, and as its second reader.

    ``roles``: the names in ``grades`` of the first reader, the second reader and their consensus (what was decided in
    the end). Differences are paired, by patient: Tango's interval and McNemar's p; the claims are one-sided at 2.5 %, and
    superiority is looked at after non-inferiority, which costs no correction. ``by_source``: each site besides.
    ``prevalence`` of the clinic, for workload. ``ledger``: the claims are declared there unless somebody has looked at
    the test set before, and the look is written down. Raises :class:`InputError` for a role without answers,
    :class:`UnsoundError` for patients that the threshold was chosen on.
    """
    require(0 < margin < 1, "margin must lie between 0 and 1", given=margin)
    missing = [role for role in roles if role not in grades.readers]
    if missing:
        raise InputError("the readers' table has no such reader", given=f"{missing[0]!r}; it has {', '.join(grades.readers)[:200]}",
                         todo=nearest(missing[0], grades.readers) + " or name them with --first, --second and --consensus")  # fmt: skip
    refuse_training(test)
    refuse_seen(test, at.seen, at.salt, "to choose the threshold", at.cases)
    names = positives(test, at.positive, None)
    rows, truth, score = question(test, names)
    own = [grades.readers.index(role) for role in roles]
    calls = calls_about(test, rows, names, grades, threshold=reader_threshold)[:, own]
    known = ~np.isnan(calls).any(axis=1) & np.isfinite(score)
    if not known.any():
        raise InputError("no case has a truth, a score and an answer of each of these readers", given=", ".join(roles),
                         todo="the column case must hold the same names in both tables")  # fmt: skip
    if ledger:
        verify(ledger)
    codes = patient_codes(test.patients[rows][known], int(known.sum()))
    found = _Read(truth[known], score[known] >= at.threshold, calls[known] == 1, codes)
    sources = test.table["source"].astype(str).to_numpy()[rows][known] if by_source else np.full(int(known.sum()), "")
    terms = Conditions(level, seed, resamples, prevalence, None, at.of)
    contrasts = tuple(_contrasts(found, sources, roles, terms))
    workflow, second, saved = _in_place(found, terms)
    wanted = declarations(margin)
    if ledger:
        for declaration in wanted:
            declared_at_first(ledger, [test], declaration)
    stands = [standing(ledger, [test], declaration) for declaration in wanted]
    looks = 0
    if ledger:  # what could not be computed is no look
        looks = record_look(ledger, model, [at.threshold], test.digest, test=test, asked=vars(wanted[0]))
    claimed = tuple(_claimed(contrast, wanted, stands) for contrast in contrasts)
    return DoubleReading(at.of, claimed, workflow, _claimed(second, wanted, stands), saved, at, margin, int(known.sum()),
                         int(codes.max()) + 1, len(test) - int(known.sum()), looks)  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Read:
    """N cases that all have read: truth and the model's call (N,), those of the three roles (N, 3), patients (N,)."""

    truth: Bools
    model: Bools
    calls: Bools
    codes: NDArray[np.int64]


def _contrasts(found: _Read, sources: NDArray[Any], roles: Sequence[str], terms: Conditions) -> list[ReaderContrast]:
    sites = ["", *(sorted(set(sources)) if len(set(sources)) > 1 else [])]
    made = []
    for place, role in enumerate(roles):
        for site in sites:
            some = (sources == site) if site else np.ones(len(sources), bool)
            sides = found.truth, found.model, found.calls[:, place], found.codes
            truth, ours, hers, codes = (each[some] for each in sides)
            made.append(ReaderContrast(role, site, tuple(paired_rates(truth, ours, hers, codes, terms))))
    return made


def _in_place(found: _Read, terms: Conditions) -> tuple[dict[str, tuple[Estimate, ...]], ReaderContrast, Estimate]:
    """Both ways, their difference, and the share of second reads that the model saves."""
    first, second, decided = found.calls.T
    agree = first == found.model
    every, once = np.ones(len(first), bool), np.ones(len(first))
    blank = np.full(len(first), math.nan)
    reading = CaseReadings(found.truth, blank, found.model, every, first, second.astype(np.float64), blank, found.codes)
    arbitration = (first != second).astype(np.float64)
    ways = (Route(RECORDED, decided, 2 * once + arbitration, every),
            Route(MODEL_SECOND, np.where(agree, first, decided), once + ~agree * (1 + arbitration), every))  # fmt: skip
    workflow = {
        way.name: tuple(e for e in judged(reading, way, terms) if e.metric != "called positive") for way in ways
    }
    pairs = apart(reading, ways[1], ways[0], terms)[: len(RATES)]
    saving = Route(SAVED, first, agree.astype(np.float64), every)
    saved = next(e for e in judged(reading, saving, terms) if e.metric == "reads per case")
    return workflow, ReaderContrast(MODEL_SECOND, "", tuple(pairs)), replace(saved, metric=SAVED)


def _claimed(contrast: ReaderContrast, wanted: Sequence[Declaration], stands: Sequence[Any]) -> ReaderContrast:
    """The contrast with its claims; sites have none of their own."""
    if contrast.source:
        return contrast
    claims = tuple(
        (Verdict(met(d.difference, declaration), *stand), superiority(d.difference, alpha=ALPHA))
        for d, declaration, stand in zip(contrast.differences, wanted, stands, strict=True)
    )
    return replace(contrast, claims=claims)


@checked
def specificity_on(tuning: Predictions, grades: Grades, reader: str, *, reader_threshold: float | None = None) -> float:
    """The share of the well in a tuning table whom a reader called well, at which a model may be set to work.

    Raises :class:`InputError` for a reader without answers to these cases.
    """
    names = positives(tuning, None, None)
    rows, truth, _ = question(tuning, names)
    if reader not in grades.readers:
        raise InputError(
            "the readers' table has no such reader", given=repr(reader), todo=nearest(reader, grades.readers)
        )
    calls = calls_about(tuning, rows, names, grades, threshold=reader_threshold)[:, grades.readers.index(reader)]
    well = calls[~truth & ~np.isnan(calls)]
    if not len(well):
        raise InputError("the reader has read no tuning case without the disease", given=repr(reader),
                         todo="give her calls of the tuning cases, too, or choose the point with --specificity")  # fmt: skip
    return float(1 - well.mean())

"""Two systems read every case; where they disagree, a reader decides: what comes of it, with intervals by patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from overread.cases.annotators import Grades
from overread.core.errors import InputError, checked, require
from overread.core.phrases import aligned, count
from overread.evaluation.comparison.grid_result import Called
from overread.evaluation.comparison.opinion_pool import on_shared_cases
from overread.evaluation.operating_point import question
from overread.evaluation.results import Result
from overread.evaluation.workflow import CaseReadings, Conditions, Route, apart, calls_about, judged
from overread.predictions import Predictions
from overread.stats.arrays import distinct
from overread.stats.estimate import Estimate

#: The combined way, and that of a reader who reads every case.
ROUTED, READER = "disagreement to a reader", "reader alone"
RULE, AGAINST = "rule", "against"


@dataclass(frozen=True, eq=False)
class Disagreement(Result):
    """What two systems and a reader reach together.

    ``estimates``: sensitivity, specificity, reads per case and share called positive of each way, ``where`` naming it
    under ``rule``; then the differences of the combined way from each other one, ``against`` naming that. ``names`` of
    the two systems. ``counts``: cases, patients, readers, cases on which the two disagree, and those of them that nobody
    read. ``perfect``: no readers were given, and one who is never wrong decides: an upper bound. ``of``: the positive
    classes, or the finding, that both were asked for.
    """

    file: ClassVar[str] = "disagreement.json"

    estimates: tuple[Estimate, ...]
    names: tuple[str, str]
    counts: dict[str, int] = field(default_factory=dict)
    perfect: bool = False
    cautions: tuple[str, ...] = ()
    of: str = ""

    def value(self, rule: str, metric: str) -> Estimate:
        """A way's number. Raises :class:`InputError` where there is none."""
        return self._one({RULE: rule}, metric)

    def difference(self, against: str, metric: str) -> Estimate:
        """What the combined way has more than another one."""
        return self._one({RULE: ROUTED, AGAINST: against}, f"{metric} difference")

    def _one(self, where: dict[str, str], metric: str) -> Estimate:
        found = next((e for e in self.estimates if (e.where, e.metric) == (where, metric)), None)
        if found is None:
            raise InputError(f"there is no {metric} of {' against '.join(where.values())!r}", todo=", ".join(self.ways))
        return found

    @property
    def ways(self) -> tuple[str, ...]:
        """The two systems alone, the combined way, and where there are readers a reader alone."""
        return tuple(dict.fromkeys(e.where[RULE] for e in self.estimates if AGAINST not in e.where))

    def rows(self) -> tuple[tuple[str, ...], ...]:
        """A row for each way: sensitivity, specificity, reads per case."""
        metrics = ("sensitivity", "specificity", "reads per case")
        return tuple((way, *(str(self.value(way, metric)) for metric in metrics)) for way in self.ways)

    def table(self) -> str:
        """A line for each way, as aligned text for a terminal."""
        c = self.counts
        lines = [f"where {' and '.join(self.names)} disagree{f' on {self.of}' if self.of else ''} ({c['disagreements']:,} of {count(c['images'], 'case')}), "
                 + ("one who is never wrong decides" if self.perfect else f"a reader decides ({count(c['readers'], 'reader')}, each in turn)")]  # fmt: skip
        lines += [f"caution: {caution}" for caution in self.cautions]
        return "\n".join([*lines, *aligned([("rule", "sensitivity", "specificity", "reads per case"), *self.rows()])])


@checked
def disagreement(
    systems: Mapping[str, Predictions], called: Mapping[str, Called], grades: Grades | None = None, *, reader_threshold: float | None = None,
    modality: str = "", level: float = 0.95, seed: int = 0, resamples: int | None = None,
) -> Disagreement:  # fmt: skip
    """Send the cases on which two systems disagree to a reader; both calls stand where they agree (Lakhani 2017).

    ``systems``: predictions of two, ``called`` what each calls positive at its frozen point. ``grades``: the readers'
    calls; each reader in turn is the one who is asked, so the numbers are those of the average of them. Without
    readers, one who is never wrong decides, and it is said that this is an upper bound. A case in dispute that a reader
    has not read is left out of her numbers, and counted. Intervals by patient (Wilson; differences: Tango, bootstrap).
    Raises :class:`InputError` unless there are two systems, of one question, with a case whose truth is known.
    """
    require(len(systems) == 2 and set(called) == set(systems), "the rule is for two systems", given=", ".join(systems))
    names = tuple(systems)
    tables = on_shared_cases(systems)
    one, other = (called[name] for name in names)
    require(one.of == other.of, "both systems must be asked the same", given=f"{one.of}; {other.of}")
    table = tables[names[0]]
    rows, truth, score = question(table, one.positive)
    if not len(rows):
        raise InputError("no case has a known truth", given=f"{count(len(table), 'case')}", todo="fill in the column of the label")  # fmt: skip
    cases = [str(case) for case in table.table["case"].to_numpy()[rows]]
    first, second = (np.array([c.flagged[case] for case in cases], bool) for c in (one, other))
    answers = _answers(grades, table, rows, one.positive, truth, reader_threshold, modality)
    reading = _readings(truth, score, first, second, answers, np.unique(table.codes[rows], return_inverse=True)[1])
    ways = _ways(reading, names, alone=grades is not None)
    terms = Conditions(level, seed, resamples, None, None, one.of)
    found = [replace(e, where={RULE: way.name}) for way in ways for e in judged(reading, way, terms)]
    routed = next(way for way in ways if way.name == ROUTED)
    for way in ways:
        if way is not routed and (way.known & routed.known).any():
            pairs = apart(reading, routed, way, terms)
            found += [replace(d.difference, metric=f"{d.first.metric} difference", where={RULE: ROUTED, AGAINST: way.name}) for d in pairs]  # fmt: skip
    disputed = first != second
    unread = int((disputed[:, None] & np.isnan(answers)).sum())
    counts = {"images": len(rows), "patients": distinct(table.codes[rows]), "readers": 0 if grades is None else answers.shape[1],
              "positives": int(truth.sum()), "disagreements": int(disputed.sum()), "disputed and not read": unread}  # fmt: skip
    return Disagreement(
        tuple(found), (names[0], names[1]), counts, grades is None, _cautions(grades is None, counts), one.of
    )


def _answers(
    grades: Grades | None, table: Predictions, rows: NDArray[np.int64], positive: tuple[str, ...], truth: NDArray[np.bool_],
    threshold: float | None, modality: str,
) -> NDArray[np.float64]:  # fmt: skip
    """(N, R) the readers' calls; without readers the truth."""
    if grades is None:
        return truth.astype(np.float64)[:, None]
    found = calls_about(table, rows, positive, grades, threshold=threshold, modality=modality)
    if np.isnan(found).all():
        raise InputError("no reader has read any of these cases", given=f"{count(len(rows), 'case')}",
                         todo="the column case must hold the same names in both tables")  # fmt: skip
    return found


def _readings(
    truth: NDArray[np.bool_], score: NDArray[np.float64], first: NDArray[np.bool_], second: NDArray[np.bool_],
    answers: NDArray[np.float64], codes: NDArray[np.int64],
) -> CaseReadings:  # fmt: skip
    """Every case with every reader: ``first`` and ``model`` are what the systems call, ``second`` what the reader does."""
    many = answers.shape[1]
    blank = np.full(many * len(truth), np.nan)
    one, other = np.tile(first, many), np.tile(second, many)
    return CaseReadings(
        np.tile(truth, many),
        np.tile(score, many),
        other,
        other,
        one,
        answers.T.reshape(-1),
        blank,
        np.tile(codes, many),
    )


def _ways(r: CaseReadings, names: tuple[str, ...], *, alone: bool) -> list[Route]:
    every, read = np.ones(len(r), bool), ~np.isnan(r.second)
    nobody = np.zeros(len(r))
    disputed = r.first != r.model
    decided = np.where(disputed, r.second == 1, r.first)
    found = [Route(names[0], r.first, nobody, every), Route(names[1], r.model, nobody, every),
             Route(ROUTED, decided, disputed.astype(np.float64), read | ~disputed)]  # fmt: skip
    return [*found, Route(READER, r.second == 1, nobody + 1, read)] if alone else found


def _cautions(perfect: bool, counts: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    if perfect:
        found.append(
            "no readers were given: one who is never wrong decides, which no reader is; the numbers are an upper bound (--readers FILE)"
        )
    if not counts["disagreements"]:
        found.append("the two systems agree on every case, so no reader is asked")
    if counts["disputed and not read"]:
        found.append(f"{counts['disputed and not read']:,} readings of cases in dispute are missing and left out")
    return tuple(found)

"""Two tables of predictions side by side: the same cases in one order, or different patients; a model beside a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.identifiers import alike, in_doubt
from overread.core.phrases import count
from overread.evaluation.decision.class_decision import ClassDecision
from overread.evaluation.metrics import estimate_of, group_of, metric_for, statistic_of
from overread.evaluation.operating_point import OperatingPoint, positives, question
from overread.evaluation.questions import HALF, Question, ScoredCases, questions
from overread.predictions import Predictions
from overread.stats.arrays import distinct
from overread.stats.discrimination.delong import auc_difference, bootstrap_difference
from overread.stats.estimate import Difference, Estimate, undefined

#: A join of less than this share of the smaller table is worth a word.
FEW = 0.5


@dataclass(frozen=True, eq=False)
class Pair:
    """Two tables with one target. ``paired``: row i of both is the same case.

    ``left_out``: how many cases stand in one table only, of the first and of the second. ``notes``: what a reader
    must know. ``decisions``: by what several classes are called in each.
    """

    first: Predictions
    second: Predictions
    paired: bool
    left_out: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()
    decisions: tuple[ClassDecision | None, ClassDecision | None] = (None, None)

    @property
    def facts(self) -> tuple[ScoredCases, ScoredCases]:
        """What judges need of both tables, the classes called by the ``decisions``."""
        first, second = self.decisions
        return ScoredCases.of(self.first, first), ScoredCases.of(self.second, second)


@checked
def pair(first: Predictions, second: Predictions) -> Pair:
    """Join two tables by case, whatever their order.

    Cases in one table only are left out and counted. Without a shared case the two are different patients. Raises
    :class:`InputError` for different kinds or classes, and where truth or patients of a shared case differ;
    :class:`UnsoundError` where no case but some patients are shared.
    """
    second = _alike(first, second)
    place = pd.Index(second.table["case"]).get_indexer(pd.Index(first.table["case"]))  # (N,) −1: not there
    rows = np.flatnonzero(place >= 0)
    _refuse_doubt(first.table["case"][place < 0], second.table["case"], [first.identifiers, second.identifiers])
    if not len(rows):
        return _apart(first, second)
    left_out = len(first) - len(rows), len(second) - len(rows)
    first, second = first.take(rows), second.take(place[rows])
    truth = _same_truth(first, second)
    patients, notes = _same_patients(first, second)
    first, second = (replace(p, table=p.table.assign(**truth, patient=patients)) for p in (first, second))
    if len(rows) < FEW * (len(rows) + min(left_out)):
        notes = (*notes, "fewer than half of the cases of either table stand in both: are these the same test set?")
    return Pair(first, second, True, left_out, notes)


def _refuse_doubt(single: pd.Series, others: pd.Series, answers: list[str]) -> None:
    """Cases without a partner, of which one stands in the other table but for capitals, leading zeros or separators."""
    if "as-written" in answers or not len(single):
        return
    many = int(alike(single).isin(set(alike(others))).sum())
    if many:
        raise InputError(
            "cases of the two tables may be the same", given=f"{many:,} of the first", todo=in_doubt(many, "cases")
        )


def _alike(first: Predictions, second: Predictions) -> Predictions:
    """The second with the target of the first."""
    kinds = first.target.kind, second.target.kind
    if len(set(kinds)) > 1:
        raise InputError("the two tables answer different questions", given=" and ".join(kinds))
    if not first.target.task.continuous and set(first.target.names) != set(second.target.names):
        names = "; ".join(", ".join(t.target.names[:10]) for t in (first, second))
        raise InputError("the two tables have different classes", given=names[:200],
                         todo="name the p: columns alike in both")  # fmt: skip
    return replace(second, target=first.target)


def _apart(first: Predictions, second: Predictions) -> Pair:
    shared = len(set(first.patients) & set(second.patients))
    if shared:
        raise UnsoundError(
            f"the two tables share no case, but {count(shared, 'patient')}",
            given=f"{len(first):,} and {count(len(second), 'case')}",
            todo="compare on the same cases, or leave these patients out of one table: they are not independent",
        )
    note = ("no case stands in both tables: they are compared as different patients, and may also differ by "
            "how common and how severe the disease is in each")  # fmt: skip
    return Pair(first, second, False, (0, 0), (note,))


def _same_truth(first: Predictions, second: Predictions) -> dict[str, NDArray]:
    """The truth columns: what one table does not know, the other may."""
    columns, wrong = {}, np.zeros(len(first), bool)
    for name in first.target.columns:
        a, b = (p.table[name].reset_index(drop=True) for p in (first, second))
        unknown, missing = _blank(a), _blank(b)
        wrong |= (~unknown & ~missing & _differ(a, b)).to_numpy()
        columns[name] = a.where(~unknown, b).to_numpy()
    if wrong.any():
        given = f"{int(wrong.sum()):,} of {len(wrong):,} shared cases"
        todo = "a comparison needs one reference standard: mend the labels first"
        raise InputError("the two tables disagree about the truth", given=given, todo=todo)
    return columns


def _differ(a: pd.Series, b: pd.Series) -> pd.Series:
    if pd.api.types.is_float_dtype(a) and pd.api.types.is_float_dtype(b):  # nine digits survive a file
        return (a - b).abs() > 1e-6 * a.abs()
    return a != b


def _blank(column: pd.Series) -> pd.Series:
    return column.isna() | (column == "")


def _same_patients(first: Predictions, second: Predictions) -> tuple[NDArray, tuple[str, ...]]:
    """Who each case belongs to; a table that names none (each case its own patient) follows the other."""
    a, b = (p.table["patient"].astype(str).to_numpy() for p in (first, second))
    case = first.table["case"].astype(str).to_numpy()
    wrong = int((a != b).sum())
    if not wrong:
        return a, ()
    for mine, other, which in ((a, b, "second"), (b, a, "first")):
        if (other == case).all():
            return mine, (f"the {which} table names no patients: those of the other are used",)
    raise InputError(
        "the two tables disagree about who the patients are",
        given=f"{wrong:,} of {len(a):,} shared cases",
        todo="give both tables the same patient column",
    )


@dataclass(frozen=True, eq=False)
class PairedQuestion:
    """A question put to both models; where paired, of the same rows in the same order."""

    first: Question
    second: Question

    @property
    def of(self) -> str:
        """The class, group or finding."""
        return self.first.of

    def only(self, inside: NDArray[np.bool_]) -> PairedQuestion:
        """Of the rows where ``inside`` (N,) is true, for pairs."""
        return PairedQuestion(self.first.only(inside), self.second.only(inside))

    @property
    def undefined(self) -> str:
        """Why the two cannot be ranked; empty if they can."""
        return self.first.undefined or self.second.undefined


def paired_questions(
    pair: Pair, points: Sequence[OperatingPoint], others: Sequence[OperatingPoint]
) -> list[PairedQuestion]:
    """The questions that both models answer, in the order of the first."""
    mine, theirs = pair.facts
    first, second = questions(mine, points), {q.of: q for q in questions(theirs, others)}
    found = [PairedQuestion(q, second[q.of]) for q in first if q.of in second]
    require(bool(found) or not first, "the two operating points are for different classes",
            given=", ".join((first[0].of, *second)) if first else "")  # fmt: skip
    return found


def half_and_chosen(asked: Sequence[PairedQuestion]) -> bool:
    """Whether one model has a threshold chosen on tuning data and the other has .5."""
    full = [q for q in asked if q.first.full and q.first.threshold is not None]
    return any(q.first.frozen != q.second.frozen and HALF in (q.first.threshold, q.second.threshold) for q in full)


BASELINE, BEYOND = "shortcut auc", "auc beyond shortcut"


@checked
def beside_baseline(
    test: Predictions, baseline: Predictions, *, level: float = 0.95, seed: int = 0, resamples: int | None = None
) -> tuple[Estimate, ...]:
    """``shortcut auc`` of the ``baseline`` and ``auc beyond shortcut``: how far ``test`` is above it, case by case.

    Both of the positive class, or the mean over classes or findings where there is none. ``baseline``: of the same
    cases in the same order, as :func:`overread.cases.audit.shortcut.shortcut_scores` makes it. The difference is
    DeLong's, clustered by patient; of a mean a bootstrap over patients. Nothing of a quantity, which has no AUC.
    """
    require(
        list(test.table["case"]) == list(baseline.table["case"]),
        "the baseline must be of the same cases in the same order",
    )
    if test.target.task.continuous:
        return ()
    metric = metric_for(test)
    of = group_of(test, metric)
    if not np.isfinite(baseline.scores).all():
        why = "training shows a class or finding one way only"
        return tuple(undefined(name, why, of=of, images=len(test)) for name in (BASELINE, BEYOND))
    found = _difference(test, baseline, metric, level, seed, resamples)
    alone = estimate_of(baseline, metric, level=level, seed=seed, resamples=resamples)
    return replace(alone, metric=BASELINE, of=of), replace(found.difference, metric=BEYOND, of=of)


def _difference(
    test: Predictions, baseline: Predictions, metric: str, level: float, seed: int, resamples: int | None
) -> Difference:
    if metric == "auc":
        names = positives(test, None, None)
        rows, truth, score = question(test, names)
        return auc_difference(truth, score, question(baseline, names)[2], test.codes[rows], level=level)
    codes = test.codes
    patients = max(distinct(codes), 1)
    first, second = (statistic_of(each, metric, codes, patients) for each in (test, baseline))
    found = bootstrap_difference(first, second, patients, images=len(test), level=level, seed=seed, resamples=resamples)
    return found[0]

"""The cells of a factorial on the same cases: what each reaches, what it calls at its frozen points, and their differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel
from overread.core.errors import checked
from overread.core.phrases import aligned, count
from overread.evaluation import estimators
from overread.evaluation.comparison.leaderboard import AGAINST, SYSTEM, Leaderboard, Standing, leaderboard
from overread.evaluation.comparison.opinion_pool import on_shared_cases
from overread.evaluation.decision.class_decision import Frozen
from overread.evaluation.evaluate import evaluate
from overread.evaluation.metrics import METRICS, metric_for
from overread.evaluation.operating_point import OperatingPoint, question
from overread.predictions import Predictions
from overread.stats.classification import at_threshold
from overread.stats.discrimination.stratified import stratified_auc
from overread.stats.estimate import Difference, Estimate, p_text
from overread.stats.hypotheses import holm
from overread.stats.proportions import paired_proportions

#: The system that is made of others.
ENSEMBLE = "weighted ensemble"
#: What is made of yes and no at a threshold, question by question.
CALLED = frozenset(m.name for m in METRICS if m.subject == "question" and m.estimator in (estimators.rates, estimators.calls, estimators.correlation))  # fmt: skip
RATES = ("sensitivity", "specificity")
FOLDS = "auc within folds"


@dataclass(frozen=True, eq=False)
class Called:
    """Which cases a system calls positive, at points chosen without them; ``flagged`` by case, ``note`` says how chosen.

    ``name`` tells several points of the same classes apart, as that of an operating point does.
    """

    positive: tuple[str, ...]
    flagged: dict[str, bool]
    note: str
    name: str = ""

    @property
    def of(self) -> str:
        """The name under which its results stand."""
        return "+".join(self.positive)


P = TypeVar("P", Called, OperatingPoint)


@dataclass(frozen=True)
class LeftOut:
    """A cell of which there is no result, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Grid(Leaderboard):
    """The cells of a factorial, and their weighted ensemble, from the best to the worst.

    ``part``: what they were judged on, ``tuning``, ``test`` or ``folds``. ``factors``: the levels of each factor by its
    name; ``levels``: those of each cell. ``left_out``: cells without a result. ``shares``: of the ensemble. ``folds``:
    how many, 0 where there is one split.
    """

    file: ClassVar[str] = "grid.json"

    part: str = "tuning"
    factors: dict[str, tuple[str, ...]] = field(default_factory=dict)
    levels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    shares: dict[str, float] = field(default_factory=dict)
    folds: int = 0

    def told(self, system: str, metric: str, of: str = "") -> Estimate | None:
        """A system's number; None where it has none."""
        where = {SYSTEM: system}
        return next((e for e in self.estimates if (e.where, e.metric, e.of) == (where, metric, of)), None)

    def columns(self) -> tuple[tuple[str, str], ...]:
        """(metric, of) that the paper's table has: what ranks, within folds, and sensitivity and specificity."""
        wanted = ((self.metric, self.of), *(k for k in self.metrics if k[0] in (FOLDS, *RATES)))
        return tuple(dict.fromkeys(wanted))

    def rows(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Each system, the best first, with its levels; the ensemble has dashes."""
        blank = ("–",) * len(self.factors)
        return tuple((system, self.levels.get(system, blank)) for system in self.systems)

    def to_frame(self) -> pd.DataFrame:
        """As of a leaderboard, with a column for each factor; then a row for each cell that was left out, with the reason."""
        frame = super().to_frame()
        for place, name in enumerate(self.factors):
            frame.insert(2 + place, name if name not in frame else f"factor {name}", [self.levels.get(s, ("",) * len(self.factors))[place] for s in frame["system"]])  # fmt: skip
        frame["left out"] = ""
        if self.left_out:
            more = pd.DataFrame([{"system": each.name, "left out": each.reason} for each in self.left_out])
            frame = pd.concat([frame, more], ignore_index=True)
        return frame

    def overview(self) -> Overview:
        """The paper's table."""
        head, rows = self._paper()
        return Overview(self._headline(), (Panel(head, tuple(rows)),), (*self.cautions, *self._lost()))

    def table(self) -> str:
        """A row a cell, as aligned text for a terminal."""
        head, rows = self._paper()
        lines = [self._headline(), *(f"caution: {caution}" for caution in self.cautions), *self._lost(), "", *aligned([head, *rows])]  # fmt: skip
        if self.shares:
            lines += ["", f"{ENSEMBLE}: " + ", ".join(f"{name} {share:.0%}" for name, share in self.shares.items() if share)]  # fmt: skip
        return "\n".join(lines)

    def _headline(self) -> str:
        where = {"tuning": "the tuning part", "test": "the test part", "folds": f"{self.folds} folds"}[self.part]
        return f"{count(len(self.levels), 'cell')} on {where}: {count(self.images, 'image')} of {count(self.patients, 'patient')}"  # fmt: skip

    def _lost(self) -> tuple[str, ...]:
        return tuple(f"left out: {each.name} — {each.reason}" for each in self.left_out)

    def _paper(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        columns, tests = self.columns(), {(s.system, s.metric, s.of): s for s in self.standings}
        compared = len(self.systems) > 1
        head = ("system", *(f"{m}{f' of {of}' if of else ''}" for m, of in columns), *((f"{self.metric} minus {self.reference}", "p (Holm)") if compared else ()))  # fmt: skip
        rows = []
        for system in self.systems:
            cells = ["–" if (e := self.told(system, *key)) is None else str(e) for key in columns]
            test = tests.get((system, self.metric, self.of))
            gap = (str(self.difference(system, self.metric, self.of)), p_text(test.adjusted)) if test else ("–", "–")
            rows.append((system, *cells, *(gap if compared else ())))
        return head, rows


@checked
def judge_grid(
    systems: Mapping[str, Predictions], *, called: Mapping[str, Sequence[Called]] | None = None, at: Mapping[str, Sequence[Frozen]] | None = None,
    metric: str = "", against: str = "best", level: float = 0.95, seed: int = 0, resamples: int | None = None,
    ledgers: Mapping[str, str | Path] | None = None, allow_seen: bool = False,
) -> Grid:  # fmt: skip
    """The table of one or more systems on the cases that all of them predicted, as :func:`.leaderboard` ranks them.

    ``at``: what was frozen on tuning data, for a test that was not seen; or ``called``: what each calls positive, where
    the point differs from fold to fold, or was chosen on these very cases. Of several points of the same classes the first
    counts, and a caution names the others. A column ``fold`` in the tables gives the AUC within folds too. Intervals by patient: DeLong for the AUC, Wilson for sensitivity and specificity, Tango for their
    differences; p of McNemar, after Holm's correction over systems and metrics. Raises what :func:`.leaderboard` does.
    """
    systems = on_shared_cases(systems) if len(systems) > 1 else dict(systems)
    at = {} if called else dict(at or {})
    first, others = _first_of_each(called or {})
    if len(systems) > 1:
        board = leaderboard(systems, at=at, metric=metric, against=against, level=level, seed=seed, resamples=resamples,
                            ledgers=ledgers, allow_seen=allow_seen)  # fmt: skip
    else:
        board = _alone(systems, at, metric, level, seed, resamples, ledgers or {}, allow_seen)
    if called or any("fold" in table.table for table in systems.values()):
        board = _with_calls(board, systems, first, level)
    points = {name: [p for p in each if isinstance(p, OperatingPoint)] for name, each in at.items()}
    others = others or _first_of_each(points)[1]
    if others:
        told = f"calls are those at the first operating point of the same classes; not told here: {', '.join(others)} (evaluate a cell by itself for these)"
        board = replace(board, cautions=(*board.cautions, told))
    return Grid(**{f.name: getattr(board, f.name) for f in fields(Leaderboard)})


def _first_of_each(points: Mapping[str, Sequence[P]]) -> tuple[dict[str, list[P]], list[str]]:
    """Of each system the first point of each group of classes; and what the points are called that come after it."""
    first: dict[str, list[P]] = {}
    later: dict[str, None] = {}
    for name, each in points.items():
        kept: dict[str, P] = {}
        for point in each:
            if kept.setdefault(point.of, point) is not point:
                later[f"{point.of}, {point.name or 'another point'}"] = None
        first[name] = list(kept.values())
    return first, list(later)


def _alone(
    systems: Mapping[str, Predictions], at: Mapping[str, Sequence[Frozen]], metric: str, level: float, seed: int,
    resamples: int | None, ledgers: Mapping[str, str | Path], allow_seen: bool,
) -> Leaderboard:  # fmt: skip
    """A single system has nothing to be compared with."""
    ((name, test),) = systems.items()
    found = evaluate(test, at=list(at.get(name, ())) or None, level=level, seed=seed, resamples=resamples, ledger=ledgers.get(name),
                     allow_seen=allow_seen)  # fmt: skip
    wanted, _, of = (metric or metric_for(test)).partition(":")
    main = found[(wanted.strip(), of.strip())] if of else found[wanted.strip()]
    whole = [e for e in found.estimates if not e.where and e.of in {"", main.of, found.primary}]
    whole = [e for e in whole if e.metric in {m.name for m in METRICS if "comparison" in m.shown}]
    before = (
        [f"looks at these test cases before: {found.looks:,} in the ledger of {name}"]
        if ledgers and found.looks
        else []
    )
    return Leaderboard(tuple(replace(e, where={SYSTEM: name}) for e in whole), (name,), name, main.metric, main.of, len(test),
                       int(test.table["patient"].nunique()), cautions=(*before, *found.cautions), looks=(found.looks,) if ledgers else ())  # fmt: skip


def _with_calls(
    board: Leaderboard, systems: Mapping[str, Predictions], called: Mapping[str, Sequence[Called]], level: float
) -> Leaderboard:
    """With sensitivity and specificity of what was called, in the place of those at .5, and the AUC within folds."""
    task = next(iter(systems.values())).target.task
    names = {of: positive for each in called.values() for c in each for of, positive in [(c.of, c.positive)]}

    def replaced(metric: str, of: str) -> bool:
        """Of several classes only the groups that have a point are called by it; the others by the decision rule."""
        return bool(called) and metric in CALLED and (of in names or not task.multiclass)

    kept = [e for e in board.estimates if not replaced(e.metric.removesuffix(" difference"), e.of)]
    tests = [s for s in board.standings if not replaced(s.metric, s.of)]
    made: dict[str, list[Estimate]] = {name: [] for name in board.systems}
    more: list[tuple[str, Difference]] = []
    for name in board.systems:
        for of in dict.fromkeys([board.of, *names]):
            made[name] += _within_folds(systems[name], of, level)
    for of, positive in names.items():
        having = {name: c for name, each in called.items() for c in each if c.of == of}
        for name in board.systems:
            if name in having:
                made[name] += _rates(systems[name], having[name], level)
            if name in having and board.reference in having and name != board.reference:
                more += [(name, d) for d in _gaps(systems, having, name, board.reference, positive, level)]
    gaps = [replace(d.difference, metric=f"{d.first.metric} difference", where={SYSTEM: name, AGAINST: board.reference}) for name, d in more]  # fmt: skip
    ps = [*((s.system, s.metric, s.of, s.p) for s in tests), *((n, d.first.metric, d.first.of, d.p) for n, d in more)]
    adjusted = holm([p for *_, p in ps])
    standings = tuple(Standing(*row, float(a)) for row, a in zip(ps, adjusted, strict=True))
    flat = tuple(replace(e, where={SYSTEM: name}) for name in board.systems for e in made[name])
    return replace(board, estimates=(*kept, *flat, *gaps), standings=standings)


def _within_folds(table: Predictions, of: str, level: float) -> list[Estimate]:
    if "fold" not in table.table or not of or table.target.task.continuous:
        return []
    rows, truth, score = question(table, tuple(of.split("+")) if of not in table.target.names else (of,))
    fold = pd.factorize(table.table["fold"].iloc[rows], sort=True)[0]
    return [stratified_auc(truth, score, fold, table.codes[rows], level=level, of=of, metric=FOLDS, called="folds")]


def _right(table: Predictions, called: Called) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Truth, calls and patients of the cases whose truth is known."""
    rows, truth, _ = question(table, called.positive)
    flagged = np.array([called.flagged[case] for case in table.table["case"].iloc[rows]], bool)
    return truth, flagged, table.codes[rows]


def _rates(table: Predictions, called: Called, level: float) -> list[Estimate]:
    truth, flagged, codes = _right(table, called)
    return at_threshold(truth, flagged, codes, level=level, of=called.of, note=called.note)[:2]


def _gaps(
    systems: Mapping[str, Predictions], having: Mapping[str, Called], name: str, reference: str, positive: tuple[str, ...], level: float
) -> list[Difference]:  # fmt: skip
    """Sensitivity and specificity of a system minus those of the reference, on the same cases."""
    truth, own, codes = _right(systems[name], having[name])
    _, other, _ = _right(systems[reference], having[reference])
    found = []
    for metric, among in zip(RATES, (truth, ~truth), strict=True):
        if among.any():
            found.append(paired_proportions((own == truth)[among], (other == truth)[among], codes[among], level=level,
                                            metric=metric, of="+".join(positive)))  # fmt: skip
    return found


@checked
def called_at(table: Predictions, points: Sequence[Frozen], note: str) -> tuple[Called, ...]:
    """What a system calls positive at its operating points; decision rules of several classes have no yes and no."""
    found = []
    for point in points:
        if isinstance(point, OperatingPoint):
            columns = [table.target.names.index(name) for name in point.positive]
            score = table.scores[:, columns].sum(axis=1)
            flagged = dict(zip(table.table["case"], (score >= point.threshold).tolist(), strict=True))
            found.append(Called(point.positive, flagged, note, point.name))
    return tuple(found)


@checked
def joined_calls(each: Sequence[Sequence[Called]], note: str) -> tuple[Called, ...]:
    """The calls of several folds as one, point by point: one counts where every fold has it."""
    by_point: dict[tuple[str, str], list[Called]] = {}
    for fold in each:
        for called in fold:
            by_point.setdefault((called.of, called.name), []).append(called)
    return tuple(
        Called(found[0].positive, {case: flag for c in found for case, flag in c.flagged.items()}, note, found[0].name)
        for found in by_point.values()
        if len(found) == len(each)
    )

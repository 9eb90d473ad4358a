"""From predictions to questions with a yes or no, and to the samples that metrics are computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import require
from overread.evaluation.decision.class_decision import LARGEST, ClassDecision
from overread.evaluation.operating_point import AT_POINT, OperatingPoint, positives, question, settled
from overread.predictions import Predictions
from overread.stats.arrays import no_ranking, not_finite
from overread.stats.calibration.reliability import not_probabilities
from overread.stats.classification import at_threshold
from overread.stats.estimate import Estimate
from overread.tasks.target import Target

#: The threshold where none was chosen: the more probable of yes and no.
HALF = 0.5
#: The scores of a case's classes may miss a sum of 1 by this much, besides what the digits of the table round away.
OFF_ONE = 0.01

Subject = Literal["question", "all", "quantity", "other"]
Codes = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ScoredCases:
    """What judges need of a table of predictions, read off it once; fields as the properties of :class:`Predictions`.

    ``decision``: by what several classes are called; the largest probability without one.
    """

    target: Target
    truth: NDArray[Any]
    scores: NDArray[np.float64]
    decision: ClassDecision | None = None

    @classmethod
    def of(cls, test: Predictions | ScoredCases, decision: ClassDecision | None = None) -> ScoredCases:
        """Those of a table; raises :class:`InputError` for a ``decision`` that is not for its classes."""
        if isinstance(test, ScoredCases):
            return test
        scores = settled(test.scores) if test.target.task.exclusive else test.scores
        if decision is not None:
            several = "a decision rule is for one label of several classes"
            require(test.target.task.multiclass, several, given=test.target.task.question, todo="leave it out")
            decision.calls(scores[:0], test.target.names)
        return cls(test.target, test.truth, scores, decision)

    @cached_property
    def called(self) -> Codes:
        """(N,) the class that each case is called, by :attr:`rule`."""
        return largest(self) if self.decision is None else self.decision.calls(self.scores, self.target.names)

    @property
    def rule(self) -> str:
        """By what classes are called, in words."""
        return LARGEST if self.decision is None else self.decision.called_by

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether any answer is known."""
        return self.target.task.known(self.truth)

    def __len__(self) -> int:
        return len(self.scores)

    @cached_property
    def no_chances(self) -> str:
        """Why the scores of classes of which each case has one are no probabilities; empty if they are, or need not be.

        They lie in 0 … 1 and add up to 1, but for rounding. Only cases whose answer is known count.
        """
        scores = self.scores[self.known]
        if not self.target.task.exclusive or not_finite(scores):
            return ""
        if not_probabilities(scores):
            bad = int(((scores < 0) | (scores > 1)).any(axis=1).sum())
            return f"{bad} of {len(scores)} cases have scores that are not probabilities"
        sums = scores.sum(axis=1)
        bad = int((np.abs(sums - 1) > OFF_ONE).sum()) and int(
            (np.abs(sums - 1) > OFF_ONE + _rounded_away(scores)).sum()
        )
        many = f"the scores of {bad} of {len(scores)} cases add up to {sums.min():.3g} … {sums.max():.3g}, not to 1"
        return f"{many}: they are not probabilities" if bad else ""


def _rounded_away(scores: NDArray[np.float64]) -> float:
    """By how much the sum of a row (N, C) may be off where every score was rounded to the digits that it has."""
    digits = next((d for d in range(1, 7) if np.allclose(scores, scores.round(d), rtol=0, atol=1e-9)), 7)
    return float(scores.shape[1] * 0.5 * 10.0**-digits)


@dataclass(frozen=True, eq=False)
class Question:
    """One yes or no, asked of the rows whose answer is known.

    ``rows`` (K,) positions in the predictions, ``truth`` (K,), ``score`` (K,), ``flagged`` (K,) whether called
    positive, by ``rule``. ``frozen``: the threshold was chosen on tuning data. ``full``: judged with calibration and at
    a threshold, not as one class of several; ``group``: a set of classes, left out of means over the classes.
    ``no_chances``: why the scores of the whole table are no probabilities; ``no_calls``: why nobody is called anything.
    """

    of: str
    rows: NDArray[np.int64]
    truth: NDArray[np.bool_]
    score: NDArray[np.float64]
    flagged: NDArray[np.bool_]
    rule: str
    threshold: float | None = None
    frozen: bool = False
    full: bool = True
    group: bool = False
    no_chances: str = ""
    no_calls: str = ""

    @property
    def undefined(self) -> str:
        """The reason why nothing can be ranked; empty if it can."""
        return no_ranking(self.truth, self.score)

    def only(self, inside: NDArray[np.bool_]) -> Question:
        """The question asked of the rows where ``inside`` (N,) is true."""
        if inside.all():
            return self
        keep = inside[self.rows]
        kept = {name: getattr(self, name)[keep] for name in ("rows", "truth", "score", "flagged")}
        return replace(self, **kept)


def questions(test: Predictions | ScoredCases, points: Sequence[OperatingPoint]) -> list[Question]:
    """What is asked: one question for a binary label, one per finding, or per class and group of classes."""
    test = ScoredCases.of(test)
    task = test.target.task
    require(not (task.continuous and points), "a quantity has no operating point", given=len(points))
    at = _by_classes(test, points)
    return [
        ask(test, names or positives(test, None, None), at)
        if full
        else _one_of_several(test, task.names.index(names[0]))
        for names, full in task.asked(tuple(at))
    ]


def _by_classes(test: ScoredCases, points: Sequence[OperatingPoint]) -> dict[tuple[str, ...], OperatingPoint]:
    """The first point of each positive classes under these, in the order in which the target declares them."""
    return {names: held[0] for names, held in points_by_classes(test, points).items()}


def points_by_classes(
    test: ScoredCases, points: Sequence[OperatingPoint]
) -> dict[tuple[str, ...], list[OperatingPoint]]:
    """The points of each positive classes, in the order in which the target declares these; of several each has a name."""
    declared = test.target.positive
    found: dict[tuple[str, ...], list[OperatingPoint]] = {}
    for point in points:
        names = positives(test, point.positive, None)
        names = declared if set(names) == set(declared) else names
        found.setdefault(names, []).append(point)
    for held in found.values():
        called = [point.name for point in held]
        apart = len(set(called)) == len(called) and (all(called) or len(called) == 1)
        require(apart, "two operating points are for the same classes, and their names do not tell them apart",
                given=f"{held[0].of}: {', '.join(name or 'no name' for name in called)}")  # fmt: skip
    return found


def at_each_point(
    test: Predictions | ScoredCases, points: Sequence[OperatingPoint], codes: Codes, level: float
) -> list[Estimate]:
    """Sensitivity, specificity, predictive values and accuracy at each of several points of the same classes.

    ``where`` says at which, by its name; nothing where each has one point. ``codes`` (N,) number the patients.
    """
    facts = ScoredCases.of(test)
    several = [
        (names, point) for names, held in points_by_classes(facts, points).items() if len(held) > 1 for point in held
    ]
    asked = [(point.name, ask(facts, names, {names: point})) for names, point in several]
    return [
        replace(e, where={AT_POINT: name})
        for name, q in asked
        for e in at_threshold(q.truth, q.flagged, codes[q.rows], level=level, of=q.of, note=q.rule)
    ]


def ask(
    test: Predictions | ScoredCases, positive: tuple[str, ...], at: dict[tuple[str, ...], OperatingPoint]
) -> Question:
    """Whether a case is one of ``positive``; at .5 where no point ``at`` is for them."""
    rows, truth, score = question(ScoredCases.of(test), positive)
    point = at.get(positive)
    threshold = point.threshold if point else HALF
    rule = f"score ≥ {threshold:.4g}, " + ("frozen on tuning data" if point else "not chosen on tuning data")
    with np.errstate(invalid="ignore"):
        flagged = score >= threshold
    asked = Question(
        "+".join(positive), rows, truth, score, flagged, rule, threshold, point is not None, group=len(positive) > 1,
        no_chances=_no_chances(test, score),
    )  # fmt: skip
    if point or not asked.no_chances:
        return asked
    none = f"{asked.no_chances}, and no threshold was chosen for them on tuning data"
    return replace(asked, flagged=np.zeros(len(rows), bool), rule="no threshold", threshold=None, no_calls=none)


def _no_chances(test: Predictions | ScoredCases, score: NDArray[np.float64]) -> str:
    """Why the scores (K,) of a question are no probabilities: they themselves, or beside those of the other classes."""
    return "" if not_finite(score) else not_probabilities(score) or ScoredCases.of(test).no_chances


def _one_of_several(test: ScoredCases, index: int) -> Question:
    name = test.target.names[index]
    rows, truth, score = question(test, (name,))
    return Question(name, rows, truth, score, test.called[rows] == index, test.rule, full=False,
                    no_chances=_no_chances(test, score))  # fmt: skip


def largest(test: Predictions | ScoredCases) -> NDArray[np.int64]:
    """(N,) the most probable class; of equals the first."""
    return largest_of(test.scores)


def largest_of(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """(N,) the same of scores (N, C)."""
    return np.where(np.isfinite(scores), scores, -np.inf).argmax(axis=1)


@dataclass(frozen=True, eq=False)
class Sample:
    """K cases whose answer is known, and what was said of them: all that the estimator of a metric is given.

    ``subject``: a ``question`` (``truth`` and ``called`` (K,) booleans, ``score`` (K,)), ``all`` classes or findings
    together (class numbers (K,), scores (K, C)), or a ``quantity`` (numbers (K,)). ``rows`` (K,) positions in the
    predictions; ``codes`` (K,) number the ``patients`` of the table. ``rule``, ``threshold``, ``full`` and ``group`` as
    :class:`Question`. ``either``: the ``of`` of what is the same for either of two classes. Of ``all``: its
    ``questions``, its ``names`` (those whose F1 stands at a threshold of their own are empty). ``reason``: why nothing
    can be ranked; ``decision``: by what classes are called, if not by the largest probability. ``no_chances`` and
    ``no_calls`` as :class:`Question`: they stand for the whole table, so for a subgroup too.
    """

    subject: Subject
    target: Target
    of: str
    rows: Codes
    truth: NDArray[Any]
    score: NDArray[np.float64]
    called: NDArray[Any]
    codes: Codes
    patients: int
    rule: str = ""
    threshold: float | None = None
    full: bool = True
    group: bool = False
    either: str = ""
    names: tuple[str, ...] = ()
    decision: ClassDecision | None = None
    questions: tuple[Sample, ...] = ()
    reason: str = ""
    no_chances: str = ""
    no_calls: str = ""

    @property
    def undefined(self) -> str:
        """Why nothing can be ranked; empty if it can."""
        return self.reason or no_ranking(self.truth, self.score)

    @property
    def uncalled(self) -> str:
        """Why the calls say nothing; empty if they do."""
        return not_finite(self.score, name="scores") or self.no_calls

    @property
    def unsuited(self) -> str:
        """Why the scores cannot be judged as probabilities; empty if they can."""
        return not_finite(self.score, name="scores") or self.no_chances

    def only(self, inside: NDArray[np.bool_]) -> Sample:
        """The cases at the rows where ``inside`` (N,) is true, under the same numbers of patients."""
        keep = inside[self.rows]
        kept = {name: getattr(self, name)[keep] for name in ("rows", "truth", "score", "called", "codes")}
        return replace(self, **kept, questions=tuple(q.only(inside) for q in self.questions))


def samples(
    test: Predictions | ScoredCases,
    asked: Sequence[Question],
    codes: Codes,
    patients: int,
    inside: NDArray[np.bool_] | None = None,
) -> list[Sample]:
    """A sample per question, then one of all together; or the one of a quantity. ``codes`` (N,) of ``patients``.

    ``inside`` (N,): the rows that count, which ``asked`` has been cut to.
    """
    cases = ScoredCases.of(test)
    known = cases.known if inside is None else cases.known & inside
    rows, target, names = np.flatnonzero(known), cases.target, cases.target.names
    if not asked:
        return [Sample("quantity", target, names[0], rows, cases.truth[rows], cases.scores[rows, 0], cases.scores[rows, 0],
                       codes[rows], patients)]  # fmt: skip
    each = tuple(sample_of(q, codes, patients, target) for q in asked)
    own = {q.of for q in asked if q.full}
    every = Sample("all", target, "", rows, cases.truth[rows], cases.scores[rows], cases.called[rows], codes[rows],
                   patients, cases.rule, decision=cases.decision, names=tuple("" if n in own else n for n in names), questions=each,
                   no_chances=cases.no_chances)  # fmt: skip
    return [*each, every]


def sample_of(q: Question, codes: Codes, patients: int, target: Target) -> Sample:
    """The sample of one question; ``codes`` (N,) of all rows."""
    either = "" if target.task.binary else q.of
    return Sample("question", target, q.of, q.rows, q.truth, q.score, q.flagged, codes[q.rows], patients, q.rule, q.threshold,
                  q.full, q.group, either, no_chances=q.no_chances, no_calls=q.no_calls)  # fmt: skip

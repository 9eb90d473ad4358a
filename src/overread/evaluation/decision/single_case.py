"""What a model says of one case, for people: probabilities, calls at the frozen points, and how far to trust them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.audit.audit import Finding
from overread.core.display import Overview, Panel, Shown
from overread.core.errors import checked
from overread.core.files import plain
from overread.evaluation.decision.class_decision import LARGEST, ClassDecision
from overread.evaluation.operating_point import AT_POINT, OperatingPoint, settled
from overread.stats.estimate import Estimate, rounded
from overread.tasks.target import Kind, Target
from overread.tasks.task import Task

#: From which margin on the word holds: the probability of the likeliest answer less that of the next.
CERTAINTY = ((0.8, "sure"), (0.5, "fairly sure"), (0.2, "unsure"), (0.0, "undecided"))
#: A score this near to a threshold could as well have fallen on its other side.
NEAR = 0.05
#: What stands at the end of each opinion.
PURPOSE = "For research, not a medical device: a doctor decides."


@dataclass(frozen=True)
class Answer:
    """What is said of one class or finding: its probability; of a quantity the number itself.

    ``low`` and ``high``: the least and the most that a member of an ensemble says; NaN of a single network.
    """

    name: str
    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Call:
    """The call at one frozen point: positive if ``score`` reaches ``threshold``, both as the model itself gives them.

    ``of``: the positive classes, or the finding. ``at``: the point in words, ``near``: whether the score lies within
    :data:`NEAR` of the threshold. ``sensitivity`` and ``specificity`` are those of the test part, None without one.
    """

    of: str
    positive: bool
    score: float
    threshold: float
    at: str
    near: bool = False
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None

    def __str__(self) -> str:
        sign, found = ("≥", "positive") if self.positive else ("<", "negative")
        line = f"{self.at}: {found} for {self.of} (score {rounded(self.score)} {sign} {rounded(self.threshold)})"
        told = [
            f"{name} {e}" for name, e in (("sensitivity", self.sensitivity), ("specificity", self.specificity)) if e
        ]
        line += f"; on the test part {', '.join(told)}" if told else ""
        return line + (
            f"; near the threshold (within {NEAR:g}): it could as well have been the other" if self.near else ""
        )


@dataclass(frozen=True)
class Certainty:
    """How sure the model is, in one of the words of :data:`CERTAINTY`; blank for a quantity.

    ``margin``: between the two likeliest answers (of findings the smallest, named by ``of``); ``entropy``: of the
    probabilities, 0 (one answer) to 1 (all alike), the mean over findings.
    """

    word: str = ""
    margin: float = math.nan
    entropy: float = math.nan
    of: str = ""

    def __str__(self) -> str:
        where = f" ({self.of} is the least sure)" if self.of else ""
        bounds = ", ".join(f"{word} from {least:g}" for least, word in CERTAINTY[:-1])
        return f"{self.word}{where}: margin {rounded(self.margin, 2)}, entropy {rounded(self.entropy, 2)} of 1 (by the margin: {bounds}, else {CERTAINTY[-1][1]})"  # fmt: skip


@dataclass(frozen=True)
class Novelty:
    """Whether a case is unlike those of training: its ``distance`` to the nearest beside the ``limit`` that was tuned.

    ``unlike`` is None where it was not checked, and ``why`` says so.
    """

    unlike: bool | None = None
    distance: float = math.nan
    limit: float = math.nan
    why: str = ""

    def __str__(self) -> str:
        if self.unlike is None:
            return f"whether it is unlike the training data was not checked: {self.why}"
        told = f"distance {self.distance:.3g} to the nearest of them, limit {self.limit:.3g}{f'; {self.why}' if self.why else ''}"  # fmt: skip
        if self.unlike:
            return f"UNLIKE the training data: {told}. Do not rely on the answer"
        return f"like the training data: {told}"


NOT_CHECKED = Novelty(why="there is no index")
#: How what cannot be said of a case and its training begins.
WHETHER_SEEN = "whether training has seen"


@dataclass(frozen=True)
class Opinion(Shown):
    """What a model says of one case.

    ``case``: its name; ``images``: theirs. ``answers`` in the order of the target. ``called``: the class, the findings
    that are called, each behind a comma, or nothing for a quantity; ``called_by`` the rule. ``findings``: failed checks
    of its images, worst first. ``seen``: how training has seen it, blank if it has not as far as is known.
    ``unchecked``: what could not be looked at, with the reason. ``calibration``: which probabilities these are.
    ``ruled_in``: the answers that a conformal set holds, ``coverage`` the share of cases whose truth such sets hold.
    ``facts``: what the model was made of. ``kind`` of the target.
    """

    case: str
    images: tuple[str, ...]
    kind: Kind
    answers: tuple[Answer, ...]
    called: str = ""
    called_by: str = ""
    calls: tuple[Call, ...] = ()
    certainty: Certainty = Certainty()
    novelty: Novelty = NOT_CHECKED
    findings: tuple[Finding, ...] = ()
    seen: str = ""
    unchecked: tuple[str, ...] = ()
    ruled_in: tuple[str, ...] = ()
    coverage: float = math.nan
    calibration: str = ""
    facts: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()

    @cached_property
    def task(self) -> Task:
        """What was asked."""
        return Target(self.kind, tuple(answer.name for answer in self.answers), self.positive).task

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against the answer: not unlike the training data, no failed check above a note."""
        return self.novelty.unlike is not True and all(finding.severity == "note" for finding in self.findings)

    @property
    def urgency(self) -> float:
        """By what cases are sorted, largest first: the score of the point's positive classes, the largest of several;
        without points the probability of the positive classes, of findings the largest; of classes none of which counts
        as disease how undecided it is; a quantity's number."""
        if self.calls:
            return max(call.score for call in self.calls)
        if self.positive:
            return sum(answer.value for answer in self.answers if answer.name in self.positive)
        if not self.task.exclusive:
            return max(answer.value for answer in self.answers)
        return 1 - self.certainty.margin

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against relying on it, a line each; the worst first."""
        lines = [str(self.novelty)] if self.novelty.unlike else []
        lines += [f"this case was in the training: {self.seen}. What is said of it is no test of the model"] if self.seen else []  # fmt: skip
        return (*lines, *map(str, self.findings))

    def lines(self) -> list[str]:
        """The opinion in lines for a terminal."""
        wide = max(len(answer.name) for answer in self.answers)
        made = [self.case + (f": {', '.join(self.images)}" if list(self.images) != [self.case] else "")]
        made += [f"  {answer.name.ljust(wide)}  {self._number(answer)}" for answer in self._sorted()]
        made += [f"called {self.called} ({self.called_by})"] if self.called else []
        made += map(str, self.calls)
        made += [str(self.certainty)] if self.certainty.word else []
        made += [self.not_ruled_out] if self.not_ruled_out else []
        made += self.warnings or ["nothing amiss was found in the image"]
        made += [] if self.novelty.unlike else [str(self.novelty)]
        made += [f"not checked: {reason}" for reason in self.unchecked]
        return [*made, *([self.calibration] if self.calibration else []), *self.facts, PURPOSE]

    @property
    def not_ruled_out(self) -> str:
        """The conformal set in a sentence; blank without one."""
        if math.isnan(self.coverage):
            return ""
        held = ", ".join(self.ruled_in) or "no answer is probable enough"
        return f"cannot be ruled out: {held} (such sets are made to hold the truth of {self.coverage:.0%} of cases, by tuning data)"  # fmt: skip

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def to_frame(self) -> pd.DataFrame:
        """A row a class, finding or quantity: ``value`` its probability, or the number, with what the members of an ensemble
        say at least and at most; then what every row of ``predictions.csv`` says of the case."""
        answers = [
            {"case": self.case, "name": a.name, "value": a.value, "low": a.low, "high": a.high} for a in self.answers
        ]
        return pd.DataFrame([{**answer, **self.row()} for answer in answers])

    def overview(self) -> Overview:
        """The answers, the calls, and what speaks against relying on them."""
        answers = tuple((answer.name, self._number(answer)) for answer in self._sorted())
        calls = tuple((call.of, call.at, "positive" if call.positive else "negative", call.score, call.threshold) for call in self.calls)  # fmt: skip
        panels = (Panel(("answer", "value" if self.task.continuous else "probability"), answers),
                  Panel(("of", "point", "call", "score", "threshold"), calls, "Calls at the frozen points"))  # fmt: skip
        certainty = str(self.certainty) if self.certainty.word else ""
        said = (*self.warnings, *self.unchecked, certainty, self.not_ruled_out, self.calibration, PURPOSE)
        title = f"{self.case}: {self.called} ({self.called_by})" if self.called else self.case
        return Overview(title, panels, tuple(filter(None, said)))

    def to_json(self) -> str:
        """Every field as JSON; NaN becomes null."""
        return json.dumps(self.plain(), indent=2, ensure_ascii=False)

    def plain(self) -> dict[str, Any]:
        """Every field, with ``trusted``, ``warnings`` and ``urgency``, as JSON knows it."""
        return {**plain(self), "trusted": self.trusted, "warnings": list(self.warnings), "urgency": plain(self.urgency)}

    def row(self) -> dict[str, Any]:
        """What a row of ``predictions.csv`` holds beside the probabilities."""
        several = len({call.of for call in self.calls}) < len(self.calls)
        calls = {
            f"call:{call.of}{f' {call.at}' * several}": "positive" if call.positive else "negative"
            for call in self.calls
        }
        unlike = {None: "", True: "yes", False: "no"}[self.novelty.unlike]
        return {
            "called": self.called, **calls, "certainty": self.certainty.word, "margin": self.certainty.margin, "unlike": unlike,
            "distance": self.novelty.distance, "failed_checks": "; ".join(finding.kind for finding in self.findings),
            "seen": self.seen, "images": "; ".join(self.images),
        }  # fmt: skip

    def renamed(self, case: str, images: Sequence[str]) -> Opinion:
        """The same under other names."""
        return replace(self, case=case, images=tuple(images))

    def discreet(self) -> Opinion:
        """The same for a stranger, who must not learn whose images the model was trained on: without ``seen``, and without the
        distance to the training images, which is least for these, unless it is beyond the limit."""
        novelty = self.novelty if self.novelty.unlike else replace(self.novelty, distance=math.nan, limit=math.nan)
        others = [line for line in self.unchecked if not line.startswith(WHETHER_SEEN)]
        told = f"{WHETHER_SEEN} this image or its patient: that is not told here"
        return replace(self, seen="", novelty=novelty, unchecked=(*others, told))

    def _sorted(self) -> list[Answer]:
        return sorted(self.answers, key=lambda answer: -answer.value) if self.task.exclusive else list(self.answers)

    def _number(self, answer: Answer) -> str:
        told, low, high = map(self.task.number_words, (answer.value, answer.low, answer.high))
        return told if math.isnan(answer.low) else f"{told} (members of the ensemble say {low} to {high})"


@dataclass(frozen=True, eq=False)
class Standards:
    """What cases are called by: frozen points, the decision rule, and what they had on the test part.

    ``sets``: of the conformal sets the largest score (1 − probability) of each name that stays in, by finding (``""``
    for one label), of a quantity half the width of its interval; and the share of cases whose truth they hold.
    """

    target: Target
    points: tuple[OperatingPoint, ...] = ()
    decision: ClassDecision | None = None
    estimates: tuple[Estimate, ...] = ()
    sets: tuple[tuple[str, tuple[tuple[str, float], ...]], ...] = ()
    coverage: float = math.nan

    def calls(self, scores: NDArray[np.float64]) -> tuple[Call, ...]:
        """At every point, for the model's own probabilities (K,)."""
        names = self.target.names
        found = []
        for point in self.points:
            score = float(settled(np.array([scores[[names.index(name) for name in point.positive]].sum()]))[0])
            told = [self._tested(metric, point.of, point.name) for metric in ("sensitivity", "specificity")]
            near = abs(score - point.threshold) < NEAR
            found.append(
                Call(point.of, score >= point.threshold, score, point.threshold, point_in_words(point), near, *told)
            )
        return tuple(found)

    def called(self, scores: NDArray[np.float64], calls: Sequence[Call]) -> tuple[str, str]:
        """What is called, and by which rule."""
        names = self.target.names
        if not self.target.task.exclusive:  # a quantity has no points, and no finding is called without
            if not calls:
                return "", ""
            first = {call.of: call for call in reversed(calls)}  # the first point of each is what it is called by
            found = [of for of, call in reversed(first.items()) if call.positive]
            which = (
                "each at its frozen point" if len(first) == len(calls) else f"each at its first point, {calls[0].at}"
            )
            return ", ".join(found) or "none of the findings", which
        if len(names) == 2 and len({call.of for call in calls}) == 1:
            call = calls[0]
            name = call.of if call.positive else next(name for name in names if name != call.of)
            return name, f"score ≥ {call.threshold:.4g}, frozen on tuning data"
        if self.decision is not None:
            return names[int(self.decision.calls(scores[None], names)[0])], self.decision.called_by
        return names[int(scores.argmax())], LARGEST

    def ruled_in(self, scores: NDArray[np.float64]) -> tuple[str, ...]:
        """The answers that the conformal sets hold, for the model's own probabilities (K,)."""
        names, held = self.target.names, []
        for of, bounds in self.sets:
            if self.target.task.continuous:
                return tuple(f"{scores[0] - width:.4g} to {scores[0] + width:.4g}" for _, width in bounds)
            chance = float(scores[names.index(of)]) if of else math.nan
            values = {"absent": 1 - chance, "present": chance} if of else dict(zip(names, scores.tolist(), strict=True))
            held += [f"{of} {name}" if of else name for name, most in bounds if 1 - values[name] <= most + 1e-9]
        return tuple(held)

    def _tested(self, metric: str, of: str, name: str) -> Estimate | None:
        """On the test part, at the point of that name where there are several."""
        where = {AT_POINT: name} if name else {}
        found = (e for e in self.estimates if (e.metric, e.of, e.where) == (metric, of, where) and not e.undefined)
        return next(found, None)


@checked
def point_in_words(point: OperatingPoint) -> str:
    """Where a frozen point lies, as a person would say it.

    >>> point_in_words(OperatingPoint(0.3, ("mel",), "sensitivity ≥ 0.95", "", 0.95, 0.6, criterion=("sensitivity", 0.95)))
    'at 95 % sensitivity'
    """
    kind, goal = point.criterion or ("", math.nan)
    if kind in ("sensitivity", "specificity"):
        return f"at {100 * goal:.4g} % {kind}"
    if point.rule == "youden":
        return "at the largest sum of sensitivity and specificity"
    return f"at the point of {point.rule}"


@checked
def certainty_of(target: Target, scores: NDArray[np.float64]) -> Certainty:
    """How sure probabilities (K,) are; of findings the least sure one counts.

    >>> certainty_of(Target("binary", ("no", "yes"), ("yes",)), np.array([0.05, 0.95])).word
    'sure'
    """
    rows = target.task.alternatives(scores)  # (n, answers)
    if not len(rows):
        return Certainty()
    ordered = np.sort(rows, axis=1)[:, ::-1]
    margins = ordered[:, 0] - ordered[:, 1]
    least = int(margins.argmin())
    margin = float(margins[least])
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = float(np.nansum(-rows * np.log(rows), axis=1).mean() / math.log(rows.shape[1]))
    word = next(word for bound, word in CERTAINTY if margin >= bound - 1e-12)
    return Certainty(word, margin, entropy, target.names[least] if len(rows) > 1 else "")


@checked
def answers_of(target: Target, scores: NDArray[np.float64], members: NDArray[np.float64]) -> tuple[Answer, ...]:
    """The answers for scores (K,), and the range of what the members of an ensemble say, (M, K); M = 0 of none."""
    names = target.names
    if not len(members):
        return tuple(Answer(name, float(value)) for name, value in zip(names, scores, strict=True))
    ends = zip(members.min(axis=0), members.max(axis=0), strict=True)
    return tuple(Answer(name, float(value), float(low), float(high)) for name, value, (low, high) in zip(names, scores, ends, strict=True))  # fmt: skip

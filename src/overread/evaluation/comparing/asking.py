"""One question put to two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.errors import require
from overread.evaluation.comparing.pairing import Pair
from overread.evaluation.judging.judge import HALF, Question, questions
from overread.evaluation.operating import OperatingPoint


@dataclass(frozen=True, eq=False)
class Asked:
    """A question put to both models; where paired, of the same rows in the same order."""

    first: Question
    second: Question

    @property
    def of(self) -> str:
        """The class, group or finding."""
        return self.first.of

    def only(self, inside: NDArray[np.bool_]) -> Asked:
        """Of the rows where ``inside`` (N,) is true, for pairs."""
        return Asked(self.first.only(inside), self.second.only(inside))

    @property
    def why(self) -> str:
        """Why the two cannot be ranked; empty if they can."""
        return self.first.why or self.second.why

    @property
    def why_not_flagged(self) -> str:
        """Why nothing can be said at a threshold: scores that are not finite, or no case."""
        return not_finite(self.first.score, self.second.score)

    @property
    def rule(self) -> str:
        """What was called positive by each."""
        a, b = self.first.rule, self.second.rule
        return a if a == b else f"{a} against {b}"


def asked_of(pair: Pair, points: Sequence[OperatingPoint], others: Sequence[OperatingPoint]) -> list[Asked]:
    """The questions that both models answer, in the order of the first."""
    first, second = questions(pair.first, points), {q.of: q for q in questions(pair.second, others)}
    found = [Asked(q, second[q.of]) for q in first if q.of in second]
    require(bool(found) or not first, "the two operating points are for different classes",
            given=", ".join((first[0].of, *second)) if first else "")  # fmt: skip
    return found


def not_finite(*scores: NDArray[np.float64]) -> str:
    """The reason why scores cannot be used; empty if all are finite."""
    for score in scores:
        if bad := int((~np.isfinite(score)).sum()):
            return f"{bad} of {len(score)} scores are not finite"
    return "" if len(scores[0]) else "no cases"


def half_and_chosen(asked: Sequence[Asked]) -> bool:
    """Whether one model has a threshold chosen on tuning data and the other has .5."""
    full = [q for q in asked if q.first.full and q.first.threshold is not None]
    return any(
        q.first.frozen != q.second.frozen and HALF in (q.first.threshold, q.second.threshold) for q in full
    )

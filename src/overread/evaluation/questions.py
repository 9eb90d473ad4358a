"""From predictions to questions with a yes or no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import require
from overread.evaluation.operating_point import OperatingPoint, positives, question
from overread.predictions import Predictions
from overread.stats.arrays import why_undefined
from overread.tasks.target import Target

#: The threshold where none was chosen: the more probable of yes and no.
HALF = 0.5
LARGEST = "largest probability"


@dataclass(frozen=True, eq=False)
class Facts:
    """What judges need of a table of predictions, read off it once; fields as the properties of :class:`Predictions`."""

    target: Target
    truth: NDArray[Any]
    scores: NDArray[np.float64]

    @classmethod
    def of(cls, test: Predictions | Facts) -> Facts:
        """The facts of a table."""
        return test if isinstance(test, Facts) else cls(test.target, test.truth, test.scores)

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether any answer is known."""
        if self.target.kind in ("binary", "classes"):
            return np.asarray(self.truth >= 0)
        blank = np.isnan(self.truth)
        return ~(blank if blank.ndim == 1 else blank.all(axis=1))

    def __len__(self) -> int:
        return len(self.scores)


@dataclass(frozen=True, eq=False)
class Question:
    """One yes or no, asked of the rows whose answer is known.

    ``rows`` (K,) positions in the predictions, ``truth`` (K,), ``score`` (K,), ``flagged`` (K,) whether
    called positive, by ``rule``. ``frozen``: the threshold was chosen on tuning data. ``full``: judged with
    calibration and at a threshold, not as one class of several; ``group``: a set of classes, left out of
    means over the classes.
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

    @property
    def why(self) -> str:
        """The reason why nothing can be ranked; empty if it can."""
        return why_undefined(self.truth, self.score)

    def only(self, inside: NDArray[np.bool_]) -> Question:
        """The question asked of the rows where ``inside`` (N,) is true."""
        if inside.all():
            return self
        keep = inside[self.rows]
        parts = {name: getattr(self, name)[keep] for name in ("rows", "truth", "score", "flagged")}
        return replace(self, **parts)


def questions(test: Predictions | Facts, points: Sequence[OperatingPoint]) -> list[Question]:
    """What is asked: one question for a binary label, one per finding, or per class and group of classes."""
    test, target = cast(Predictions, Facts.of(test)), test.target  # of a table, only the facts are read
    if target.kind == "quantity":
        require(not points, "a quantity has no operating point", given=len(points))
        return []
    at = _by_classes(test, points)
    if target.kind == "binary":
        require(len(at) < 2, "a binary label has one operating point", given=len(at))
        return [_ask(test, next(iter(at), positives(test, None, None)), at)]
    if target.kind == "findings":
        return [_ask(test, (name,), at) for name in target.names]
    groups = dict.fromkeys((target.positive, *at))
    single = [
        _ask(test, (name,), at) if (name,) in groups else _one_of_several(test, i)
        for i, name in enumerate(target.names)
    ]
    return [*(_ask(test, group, at) for group in groups if len(group) > 1), *single]


def _by_classes(test: Predictions, points: Sequence[OperatingPoint]) -> dict[tuple[str, ...], OperatingPoint]:
    """Each point under its positive classes, in the order in which the target declares them."""
    declared, found = test.target.positive, {}
    for point in points:
        names = positives(test, point.positive, None)
        names = declared if set(names) == set(declared) else names
        require(names not in found, "two operating points are for the same classes", given=point.of)
        found[names] = point
    return found


def _ask(test: Predictions, positive: tuple[str, ...], at: dict[tuple[str, ...], OperatingPoint]) -> Question:
    rows, truth, score = question(test, positive)
    point = at.get(positive)
    threshold = point.threshold if point else HALF
    rule = f"score ≥ {threshold:.4g}, " + ("frozen on tuning data" if point else "not chosen on tuning data")
    with np.errstate(invalid="ignore"):
        flagged = score >= threshold
    return Question(
        "+".join(positive), rows, truth, score, flagged, rule, threshold, point is not None, group=len(positive) > 1
    )


def _one_of_several(test: Predictions, index: int) -> Question:
    name = test.target.names[index]
    rows, truth, score = question(test, (name,))
    return Question(name, rows, truth, score, largest(test)[rows] == index, LARGEST, full=False)


def largest(test: Predictions | Facts) -> NDArray[np.int64]:
    """(N,) the most probable class; of equals the first."""
    scores = test.scores
    return np.where(np.isfinite(scores), scores, -np.inf).argmax(axis=1)

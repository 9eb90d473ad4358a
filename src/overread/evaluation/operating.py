"""An operating point: chosen on tuning data, frozen, and refused on the patients it was chosen on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overread.errors import ArgumentError, InputError, UnsoundError, checked, nearest, one_of, require
from overread.predictions import Predictions
from overread.record import build, hashed, read_json, write_json
from overread.stats.roc import roc_curve

RULES = ("youden", "sensitivity", "specificity")


@dataclass(frozen=True)
class OperatingPoint:
    """Call a case positive when its score is at least ``threshold``.

    The score is the sum of the probabilities of the ``positive`` classes (of the finding, for findings).
    ``sensitivity`` and ``specificity`` are those on the tuning data, ``seen`` the salted hashes of its
    patients.
    """

    threshold: float
    positive: tuple[str, ...]
    rule: str
    chosen_on: str
    sensitivity: float
    specificity: float
    seen: tuple[str, ...] = ()
    salt: str = ""

    @property
    def of(self) -> str:
        """The name under which its results stand: the positive classes joined by ``+``."""
        return "+".join(self.positive)

    def __str__(self) -> str:
        return (
            f"{self.of}: score ≥ {self.threshold:.3g} ({self.rule}; sensitivity {self.sensitivity:.3f}, "
            f"specificity {self.specificity:.3f} on tuning data)"
        )

    def save(self, path: str | Path) -> Path:
        """Write as JSON."""
        return write_json(path, self)

    @classmethod
    def load(cls, path: str | Path) -> OperatingPoint:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing or damaged."""
        return build(cls, read_json(path), where=Path(path).name)


def positives(
    predictions: Predictions, positive: str | Sequence[str] | None, finding: str | None
) -> tuple[str, ...]:
    """The names whose probabilities are summed; by default those the target declares."""
    if finding is not None:
        positive = finding
    chosen = predictions.target.positive if positive is None else positive
    chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    names = predictions.target.names
    if not chosen and predictions.target.kind == "binary":
        chosen = (names[1],)
    for name in chosen:
        if name not in names:
            raise InputError(f"there is no class {name!r}", given=", ".join(names), todo=nearest(name, names))
    require(
        len(chosen) > 0,
        "an operating point needs a positive class",
        given=", ".join(names),
        todo="say which classes count as disease: positive=…",
    )
    require(len(set(chosen)) == len(chosen), "a positive class stands twice", given=", ".join(chosen))
    if predictions.target.kind == "findings":
        require(
            len(chosen) == 1,
            "findings have one operating point each",
            given=", ".join(chosen),
            todo="name one finding",
        )
    return chosen


def question(
    predictions: Predictions, positive: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Rows with a known label (K,), whether positive (K,), and the score (K,)."""
    names = predictions.target.names
    columns = [names.index(name) for name in positive]
    truth, score = predictions.truth, predictions.scores[:, columns].sum(axis=1)
    if predictions.target.kind == "findings":
        rows = np.flatnonzero(~np.isnan(truth[:, columns[0]]))
        return rows, truth[rows, columns[0]] == 1, score[rows]
    rows = np.flatnonzero(truth >= 0)
    return rows, np.isin(truth[rows], columns), score[rows]


@checked
def choose_threshold(
    tuning: Predictions,
    *,
    positive: str | Sequence[str] | None = None,
    rule: str = "youden",
    sensitivity: float | None = None,
    specificity: float | None = None,
    finding: str | None = None,
) -> OperatingPoint:
    """Choose a threshold on tuning predictions; it remembers (hashed) the patients it has seen.

    ``rule="youden"`` maximises sensitivity + specificity − 1 (Youden 1950; the lowest such threshold).
    ``sensitivity=s`` takes the highest threshold that still reaches s, ``specificity=s`` the lowest. The
    threshold lies halfway between two scores, so that rounding in a file cannot move a case across it. Raises
    :class:`InputError` for unknown classes or scores that are not finite, :class:`UnsoundError` if the tuning
    data hold one class only.
    """
    require(
        tuning.target.kind != "quantity", "a quantity has no operating point", given=tuning.target.names[0]
    )
    wanted = {"sensitivity": sensitivity, "specificity": specificity}
    given = [name for name, value in wanted.items() if value is not None]
    require(len(given) < 2, "give a sensitivity or a specificity, not both", given=wanted)
    rule = given[0] if given else one_of(rule, RULES, "rule")
    goal = wanted.get(rule)
    if rule != "youden" and (goal is None or not 0 < goal <= 1):
        raise ArgumentError(f"the wanted {rule} must lie between 0 and 1", given=goal)
    names = positives(tuning, positive, finding)
    rows, truth, score = question(tuning, names)
    _require_both(truth, score)
    fpr, tpr, thresholds = roc_curve(truth, score)
    at = _pick(fpr, tpr, rule, goal)
    patients = sorted(set(map(str, tuning.patients[rows])))
    salt = tuning.digest
    return OperatingPoint(
        _halfway(thresholds, at),
        names,
        rule if goal is None else f"{rule} ≥ {goal:g}",
        f"{len(rows):,} images of {len(patients):,} patients, predictions {salt}",
        float(tpr[at]),
        float(1 - fpr[at]),
        tuple(sorted(hashed(patients, salt))),
        salt,
    )


def _require_both(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> None:
    bad = int((~np.isfinite(score)).sum())
    if bad:
        raise InputError(
            "a threshold cannot be chosen from scores that are not finite", given=f"{bad} of {len(score)}"
        )
    if not truth.any() or truth.all():
        raise UnsoundError(
            "a threshold needs positive and negative cases in the tuning data",
            given=f"{int(truth.sum())} positive, {int((~truth).sum())} negative",
            todo="give the tuning part more patients",
        )


def _pick(fpr: NDArray[np.float64], tpr: NDArray[np.float64], rule: str, goal: float | None) -> int:
    if rule == "sensitivity":
        return int(np.flatnonzero(tpr >= (goal or 0) - 1e-12)[0])
    if rule == "specificity":
        return int(np.flatnonzero(1 - fpr >= (goal or 0) - 1e-12)[-1])
    gain = tpr - fpr
    return int(np.flatnonzero(gain >= gain.max() - 1e-12)[-1])


def _halfway(thresholds: NDArray[np.float64], at: int) -> float:
    """Between the last score called positive and the next; just above all scores at 0, the least score at the end."""
    if at == 0:
        return math.nextafter(float(thresholds[1]), math.inf) + 1e-6 * max(1.0, abs(float(thresholds[1])))
    if at == len(thresholds) - 1:
        return float(thresholds[at]) - 1e-6 * max(1.0, abs(float(thresholds[at])))
    return float((thresholds[at] + thresholds[at + 1]) / 2)


@checked
def choose_thresholds(
    tuning: Predictions,
    *,
    rule: str = "youden",
    sensitivity: float | None = None,
    specificity: float | None = None,
) -> tuple[OperatingPoint, ...]:
    """The operating points a study needs: one for the positive classes, or one per finding that has both answers.

    None for a quantity, nor for classes of which none is declared positive. Arguments as
    :func:`choose_threshold`.
    """
    target = tuning.target
    if target.kind == "quantity" or (target.kind == "classes" and not target.positive):
        return ()
    if target.kind != "findings":
        return (choose_threshold(tuning, rule=rule, sensitivity=sensitivity, specificity=specificity),)
    truths = ((name, question(tuning, (name,))[1]) for name in target.names)
    return tuple(
        choose_threshold(tuning, finding=name, rule=rule, sensitivity=sensitivity, specificity=specificity)
        for name, truth in truths
        if truth.any() and not truth.all()
    )


@checked
def refuse_seen(test: Predictions, seen: Sequence[str], salt: str, what: str) -> None:
    """Raise :class:`UnsoundError` if patients of ``test`` are among the hashes ``seen``.

    ``what`` completes "… patients of this test set were used ": "to train the model", "to choose the
    threshold".
    """
    known = set(seen)
    shared = sum(code in known for code in hashed(sorted(set(map(str, test.patients))), salt)) if known else 0
    if shared:
        raise UnsoundError(
            f"{shared:,} patients of this test set were used {what}",
            given=f"{test}",
            todo="judge on patients that nothing has seen",
        )

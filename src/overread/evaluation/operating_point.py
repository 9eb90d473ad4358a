"""An operating point: chosen on tuning data, frozen, and refused on the patients it was chosen on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.display import Overview, Panel, Shown
from overread.core.errors import ArgumentError, InputError, UnsoundError, checked, nearest, one_of, require
from overread.core.files import build, read_json, write_json
from overread.core.identifiers import among, in_doubt, marks
from overread.core.phrases import count
from overread.predictions import PredictedTable, Predictions, shared_cases
from overread.stats.agreement.mrmc import ReaderPoint
from overread.stats.arrays import patient_codes
from overread.stats.classification import at_threshold
from overread.stats.discrimination.roc import rank, roc_curve
from overread.stats.estimate import Estimate, rounded
from overread.stats.resample import draws, resamples_for
from overread.tasks.target import Target

#: Under which ``where`` the numbers at one of several points of the same classes stand, by the name of the point.
AT_POINT = "operating point"
#: The names of the two points of a screening and of a decision (Gulshan 2016): a sensitivity is kept, or a specificity.
BOTH = ("high sensitivity", "high specificity")

#: What the rounding of 32-bit numbers leaves in the sum of some probabilities.
ROUNDING = 1e-6

__all__ = ["RULES", "OperatingPoint", "choose_threshold", "choose_thresholds", "positives", "question", "refuse_seen", "refuse_shared",
           "refuse_training", "threshold_uncertainty"]  # fmt: skip


class Scored(Protocol):
    """What a question reads of a table: its target, truths and scores, as :class:`Predictions` has them."""

    @property
    def target(self) -> Target: ...
    @property
    def truth(self) -> NDArray[Any]: ...
    @property
    def scores(self) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class OperatingPoint(Shown):
    """Call a case positive when its score is at least ``threshold``.

    The score is the sum of the probabilities of the ``positive`` classes (of the finding, for findings).
    ``sensitivity`` and ``specificity`` are those on the tuning data, ``seen`` the salted hashes of its patients,
    ``cases`` those of its cases, with their labels. ``rule`` says in words how it was chosen, ``criterion`` what was
    searched for: ``("slope", m)`` of the ROC curve, ``("sensitivity", s)`` or ``("specificity", s)``. ``name`` tells
    several points of the same classes apart; the first of them is the one that cases are called by.
    """

    threshold: float
    positive: tuple[str, ...]
    rule: str
    chosen_on: str
    sensitivity: float
    specificity: float
    seen: tuple[str, ...] = ()
    salt: str = ""
    criterion: tuple[str, float] | None = None
    cases: tuple[str, ...] = ()
    name: str = ""

    @property
    def of(self) -> str:
        """The name under which its results stand: the positive classes joined by ``+``."""
        return "+".join(self.positive)

    def to_frame(self) -> pd.DataFrame:
        """One row: ``of``, ``threshold``, ``rule``, ``sensitivity``, ``specificity`` (on tuning data), ``chosen on``."""
        held = {"of": self.of, **({"name": self.name} if self.name else {}), "threshold": self.threshold, "rule": self.rule, "sensitivity": self.sensitivity,
                "specificity": self.specificity, "chosen on": self.chosen_on}  # fmt: skip
        return pd.DataFrame([held])

    def overview(self) -> Overview:
        """The threshold, the rule that chose it, and what it reaches on tuning data."""
        note = f"frozen: refused on the {count(len(self.seen), 'patient')} that it was chosen on"
        return Overview(str(self), (Panel(("field", "value"), tuple(self.to_frame().iloc[0].items())),), (note,))

    def __str__(self) -> str:
        return (
            f"{self.of}{self.name and f', {self.name}'}: score ≥ {self.threshold:.3g} ({self.rule}; sensitivity {rounded(self.sensitivity)}, "
            f"specificity {rounded(self.specificity)} on tuning data)"
        )

    def save(self, path: str | Path) -> Path:
        """Write as JSON."""
        return write_json(path, self)

    @classmethod
    def load(cls, path: str | Path) -> OperatingPoint:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing or damaged."""
        return build(cls, read_json(path), where=Path(path).name)


def positives(predictions: Scored, positive: str | Sequence[str] | None, finding: str | None) -> tuple[str, ...]:
    """The names whose probabilities are summed; by default those the target declares."""
    if finding is not None:
        positive = finding
    chosen = predictions.target.positive if positive is None else positive
    chosen = (chosen,) if isinstance(chosen, str) else tuple(chosen)
    names = predictions.target.names
    if not chosen and predictions.target.task.binary:
        chosen = (predictions.target.task.usual_positive,)
        todo = f"say which: --positive {names[0]} or --positive {names[1]}, in Python positive=…"
        require(
            bool(chosen[0]),
            "the names of the two classes do not say which is the disease",
            given=", ".join(names),
            todo=todo,
        )
    for name in chosen:
        if name not in names:
            raise InputError(f"there is no class {name!r}", given=", ".join(names), todo=nearest(name, names))
    todo = "say which classes count as disease: --positive a,b, in Python positive=…"
    require(len(chosen) > 0, "an operating point needs a positive class", given=", ".join(names), todo=todo)
    require(len(set(chosen)) == len(chosen), "a positive class stands twice", given=", ".join(chosen))
    return predictions.target.task.sharing_a_point(chosen)


def question(
    predictions: Scored, positive: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float64]]:
    """Rows with a known label (K,), whether positive (K,), and the score (K,)."""
    names = predictions.target.names
    columns = [names.index(name) for name in positive]
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, and said to be no number where it counts
        truth, score = predictions.truth, settled(predictions.scores[:, columns].sum(axis=1))
    if predictions.target.task.multilabel:
        rows = np.flatnonzero(~np.isnan(truth[:, columns[0]]))
        return rows, truth[rows, columns[0]] == 1, score[rows]
    rows = np.flatnonzero(truth >= 0)
    return rows, np.isin(truth[rows], columns), score[rows]


def settled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of which a sum's rounding put some a hair beyond 0 … 1, at their ends; other numbers as they are."""
    with np.errstate(invalid="ignore"):
        outside = (scores < 0) | (scores > 1)
        near = not (outside & ~((scores >= -ROUNDING) & (scores <= 1 + ROUNDING))).any()
    return np.clip(scores, 0, 1) if near and outside.any() else scores


@checked
def choose_threshold(
    tuning: Predictions,
    *,
    positive: str | Sequence[str] | None = None,
    rule: str = "youden",
    sensitivity: float | None = None,
    specificity: float | None = None,
    cost: float | None = None,
    prevalence: float | None = None,
    reader: ReaderPoint | tuple[float, float] | None = None,
    match: str = "specificity",
    finding: str | None = None,
) -> OperatingPoint:
    """Choose a threshold on tuning predictions; it remembers (hashed) the patients it has seen.

    ``rule="youden"`` maximises sensitivity + specificity − 1 (Youden 1950; the lowest such threshold),
    ``rule="accuracy"`` the share of the tuning cases that are called what they are; of probabilities it is .5, the more
    probable class, unless another threshold calls more of them right by more than one standard error: near the best
    the curve is flat, and which of many is highest is chance.
    ``sensitivity=s`` takes the highest threshold that still reaches s, ``specificity=s`` the lowest. ``cost=c``: a
    missed case is c times as bad as a false alarm; the point where a line of slope (1 − prevalence) / (prevalence ·
    c) touches the ROC curve (Metz 1978), at the ``prevalence`` of the clinic or, without it, of the tuning data.
    ``reader``: the threshold at which the model has the reader's specificity (or, by ``match``, sensitivity). The
    threshold lies halfway between two scores, so that rounding in a file cannot move a case across it. Raises
    :class:`InputError` for unknown classes or scores that are not finite, :class:`UnsoundError` if the tuning
    data hold one class only.
    """
    require(not tuning.target.task.continuous, "a quantity has no operating point", given=tuning.target.names[0])
    wanted = threshold_rule(rule, sensitivity, specificity, cost, prevalence, reader, match)
    return _choose(tuning, positives(tuning, positive, finding), wanted, tuning.digest)


def _choose(tuning: Predictions, names: tuple[str, ...], wanted: ThresholdRule, salt: str) -> OperatingPoint:
    rows, truth, score = question(tuning, names)
    _require_both(truth, score)
    fpr, tpr, thresholds = roc_curve(truth, score)
    kind, goal, said = criterion_of(wanted, float(truth.mean()))
    at = int(pick(fpr[None], tpr[None], "slope" if kind == "accuracy" else kind, goal)[0])
    patients = sorted(set(tuning.patients[rows]))
    chosen_on = f"{count(len(rows), 'image')} of {count(len(patients), 'patient')}, predictions {salt}"
    threshold = float(cuts_of(thresholds)[at])
    if kind == "accuracy" and _probabilities(score):
        half, codes = int((thresholds[1:] >= HALF).sum()), patient_codes(tuning.patients[rows], len(rows))
        if _gain(fpr, tpr, at, half, goal) <= _gain_error(truth, score, codes, threshold, goal):
            at, threshold, said = half, HALF, f"{said}, to within a standard error"
    rates = float(tpr[at]), float(1 - fpr[at])
    return OperatingPoint(
        threshold,
        names,
        said,
        chosen_on,
        *rates,
        marks(patients, salt),
        salt,
        (kind, goal),
        tuning.take(rows).case_marks(salt),
    )


#: The threshold of the more probable of two classes.
HALF = 0.5


def _probabilities(score: NDArray[np.float64]) -> bool:
    return bool(((score >= 0) & (score <= 1)).all())


def _gain(fpr: NDArray[np.float64], tpr: NDArray[np.float64], at: Any, other: Any, slope: float) -> Any:
    """By how much sensitivity − ``slope`` · (1 − specificity) is more at one step than at another."""
    return (tpr[..., at] - slope * fpr[..., at]) - (tpr[..., other] - slope * fpr[..., other])


def _gain_error(
    truth: NDArray[np.bool_], score: NDArray[np.float64], codes: NDArray[np.int64], threshold: float, slope: float
) -> float:
    """The standard error of the gain of a threshold over :data:`HALF`, by patient; of a single patient infinite."""
    right = [((score >= cut) == truth).astype(float) for cut in (threshold, HALF)]
    each = (right[0] - right[1]) * np.where(truth, 1 / truth.sum(), slope / (~truth).sum())
    by_patient = np.bincount(codes, each)
    many = len(by_patient)
    return float(np.sqrt(many) * by_patient.std(ddof=1)) if many > 1 else math.inf


def _require_both(truth: NDArray[np.bool_], score: NDArray[np.float64]) -> None:
    bad = int((~np.isfinite(score)).sum())
    if bad:
        given, todo = f"{bad} of {len(score)}", "predict the tuning images again, or leave these rows out"
        raise InputError("a threshold cannot be chosen from scores that are not finite", given=given, todo=todo)
    if not truth.any() or truth.all():
        raise UnsoundError(
            "a threshold needs positive and negative cases in the tuning data",
            given=f"{int(truth.sum())} positive, {int((~truth).sum())} negative",
            todo="give the tuning part more patients",
        )


@checked
def choose_thresholds(
    tuning: Predictions,
    *,
    rule: str = "youden",
    sensitivity: float | None = None,
    specificity: float | None = None,
    cost: float | None = None,
    prevalence: float | None = None,
) -> tuple[OperatingPoint, ...]:
    """The operating points a study needs: one for the positive classes, or one per finding that has both answers.

    None for a quantity, nor for classes of which none is declared positive. Arguments as :func:`choose_threshold`;
    with both a ``sensitivity`` and a ``specificity`` there are two points for each, called by :data:`BOTH`.
    """
    target = tuning.target
    if sensitivity is not None and specificity is not None:
        require(cost is None, "give a sensitivity, a specificity or a cost", given="cost and two points")
        first, second = (choose_thresholds(tuning, rule=rule, prevalence=prevalence, **{kind: goal})
                         for kind, goal in (("sensitivity", sensitivity), ("specificity", specificity)))  # fmt: skip
        return tuple(
            replace(point, name=name)
            for pair in zip(first, second, strict=True)
            for point, name in zip(pair, BOTH, strict=True)
        )
    wanted = threshold_rule(rule, sensitivity, specificity, cost, prevalence, None, "specificity")
    groups = [positives(tuning, group or None, None) for group in target.task.pointed]
    if target.task.multilabel:  # of a finding with one answer there is nothing to choose by
        groups = [group for group in groups if len(set(question(tuning, group)[1].tolist())) == 2]
    return tuple(_choose(tuning, group, wanted, tuning.digest) for group in groups)


@checked
def threshold_uncertainty(
    tuning: Predictions, point: OperatingPoint, *, level: float = 0.95, resamples: int | None = None, seed: int = 0
) -> tuple[Estimate, Estimate, Estimate]:
    """How well tuning data pin a threshold down: the threshold, and its sensitivity and specificity, with intervals.

    ``tuning``: the predictions that ``point`` was chosen on. The threshold is chosen again on resamples of the
    patients, all of them together, and its interval holds their middle ``level``. Sensitivity and specificity are
    those promised on tuning data, as if the threshold had been given: where it was searched for (Youden, cost), they
    flatter a little. Raises :class:`InputError` if the point was chosen on other data.
    """
    require(not tuning.target.task.continuous, "a quantity has no operating point")
    if point.criterion is None or point.salt != tuning.digest:
        raise InputError("the threshold was not chosen on these predictions", given=point.chosen_on,
                         todo="give the tuning predictions it was chosen on")  # fmt: skip
    rows, truth, score = question(tuning, positives(tuning, point.positive, None))
    codes = patient_codes(tuning.patients[rows], len(rows))
    flagged = score >= point.threshold
    rates = at_threshold(truth, flagged, codes, level=level, of=point.of, note="on tuning data")[:2]
    spread = _chosen_again(truth, score, codes, point.criterion, resamples or resamples_for(len(rows)), seed)
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = np.quantile(spread, tails) if len(spread) > 1 else (math.nan, math.nan)
    how = f"patient bootstrap, middle of {len(spread):,} resamples"
    people = int(codes.max()) + 1
    cut = Estimate("threshold", point.threshold, float(low), float(high), level, how, len(rows), people, point.of)
    return cut, rates[0], rates[1]


def _chosen_again(
    truth: NDArray[np.bool_],
    score: NDArray[np.float64],
    codes: NDArray[np.int64],
    criterion: tuple[str, float],
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """The threshold of every resample that holds both classes; none for a single patient."""
    ranking = rank(truth, score)
    kind, goal = criterion
    half = int((ranking.score[ranking.last] >= HALF).sum())
    who, ill = codes[ranking.order], ranking.truth
    cuts = cuts_of(np.concatenate(([math.inf], ranking.score[ranking.last])))
    people = int(codes.max()) + 1
    found = []
    for weights in draws(people, resamples if people > 1 else 0, seed, width=len(truth)):
        drawn = np.take(weights, who, axis=1)
        called = np.cumsum(drawn, axis=1, dtype=np.int32)[:, ranking.last]
        hit = np.cumsum(drawn * ill, axis=1, dtype=np.int32)[:, ranking.last]
        false = called - hit
        both = (hit[:, -1] > 0) & (false[:, -1] > 0)
        tpr, fpr = (np.pad(x[both] / x[both][:, -1:], ((0, 0), (1, 0))) for x in (hit, false))
        at = pick(fpr, tpr, "slope" if kind == "accuracy" else kind, goal)
        chosen = cuts[at]
        if kind == "accuracy" and _probabilities(score):
            errors = {step: _gain_error(truth, score, codes, cuts[step], goal) for step in np.unique(at).tolist()}
            stays = [_gain(fpr[i], tpr[i], step, half, goal) <= errors[step] for i, step in enumerate(at.tolist())]
            chosen[stays] = HALF
        found.append(chosen)
    return np.concatenate(found) if found else np.empty(0)


# -- nobody is judged by what was learned from him ------------------------------------------------------------------

#: What ``split`` says of a patient that a model has seen.
SEEN = ("train", "tuning", "seen")
#: Rows that must be equal in label and scores, and their share, for two tables to be one under other names.
_ROWS, _SHARE = 10, 0.8


@checked
def refuse_training(test: PredictedTable, allow: bool | None = None) -> int:
    """How many patients of ``test`` the model has seen in training or tuning: what ``split`` says, and what the model
    says
    of itself. Raises :class:`UnsoundError` if there are any, unless they are allowed (None: nobody may)."""
    told = among(test.patients, test.by.seen, test.by.salt, test.identifiers) if test.by else None
    rows = test.table["split"].isin(SEEN).to_numpy()
    if told is not None:
        rows = rows | (told == "same").to_numpy()
    many, doubt = (
        patients_in(test, rows),
        0 if told is None else patients_in(test, (told == "alike").to_numpy() & ~rows),
    )
    if not allow:
        _refuse(
            many, doubt, test, "to train the model or to tune it", "; --allow-seen judges all, and says so on the page"
        )
    return many


@checked
def patients_in(test: PredictedTable, rows: NDArray[np.bool_]) -> int:
    """The patients of these rows."""
    return int(test.table["patient"][rows].nunique())


@checked
def refuse_seen(test: Predictions, seen: Sequence[str], salt: str, what: str, cases: Sequence[str] = ()) -> None:
    """Raise :class:`UnsoundError` if patients of ``test`` are among the hashes ``seen``, or its cases among ``cases``.

    ``what`` completes "… patients of this test set were used ": "to train the model", "to choose the threshold".
    """
    told = among(test.patients, seen, salt, test.identifiers)
    same, doubt = (patients_in(test, (told == word).to_numpy()) for word in ("same", "alike"))
    _refuse(same, doubt, test, what)
    _refuse_cases(shared_cases(test.take(test.known).case_marks(salt), cases) if cases else 0, test, what)


@checked
def refuse_shared(tuning: Predictions, test: Predictions, what: str) -> None:
    """Raise :class:`UnsoundError` if a patient or a case is in both tables, also under another name; ``what`` as in
    :func:`refuse_seen`."""
    salt = tuning.digest
    refuse_seen(test, marks(tuning.patients, salt), salt, what, tuning.take(tuning.known).case_marks(salt))
    if rows := _equal_rows(tuning, test):
        raise UnsoundError(f"{rows:,} of {len(test):,} cases of this test set have label and scores of cases that were used {what}: they are the same under other names",
                           given=f"{test}", todo="judge on patients that nothing has seen")  # fmt: skip


def _equal_rows(tuning: Predictions, test: Predictions) -> int:
    """How many cases of ``test`` are in ``tuning`` by label and scores alone; 0 where that may be chance.

    Rows that stand twice in a table say nothing, so coarse scores never match.
    """
    if not tuning.target.asks_as(test.target):
        return 0
    first, second = (p.take(p.known) for p in (tuning, test))
    keys = [
        pd.Index([f"{t}|{s}" for t, s in zip(p.truth.tolist(), np.round(p.scores, 6).tolist(), strict=True)])
        for p in (first, second)
    ]
    once = [key[~key.duplicated(keep=False)] for key in keys]
    equal = int(once[1].isin(once[0]).sum())
    return equal if equal >= _ROWS and equal >= _SHARE * len(second) else 0


def _refuse(same: int, doubt: int, test: PredictedTable, what: str, otherwise: str = "") -> None:
    if same:
        todo = f"judge on patients that nothing has seen{otherwise}"
        raise UnsoundError(
            f"{count(same, 'patient')} of this test set {'was' if same == 1 else 'were'} used {what}",
            given=f"{test}",
            todo=todo,
        )
    if doubt:
        raise UnsoundError(f"patients of this test set may be those that were used {what}", given=f"{test}",
                           todo=in_doubt(doubt, "patients"))  # fmt: skip


def _refuse_cases(shared: int, test: Predictions, what: str) -> None:
    if shared:
        raise UnsoundError(f"{count(shared, 'case')} of this test set {'was' if shared == 1 else 'were'} used {what}, under other patients", given=f"{test}",
                           todo="judge on cases that nothing has seen; if they are others, give them names of their own")  # fmt: skip


# -- rules by which a threshold is chosen: what is searched for on a ROC curve, and which of its steps it is ------


RULES = ("youden", "accuracy", "sensitivity", "specificity", "cost", "reader")


@dataclass(frozen=True)
class ThresholdRule:
    """What is asked of a threshold: a rule and its number; ``said`` if the rule is to be told in other words."""

    rule: str
    goal: float = 1.0
    prevalence: float | None = None
    said: str = ""


@checked
def threshold_rule(
    rule: str,
    sensitivity: float | None,
    specificity: float | None,
    cost: float | None,
    prevalence: float | None,
    reader: ReaderPoint | tuple[float, float] | None,
    match: str,
) -> ThresholdRule:
    """The rule and its number from the arguments of :func:`~overread.evaluation.operating_point.choose_threshold`."""
    wanted = {"sensitivity": sensitivity, "specificity": specificity, "cost": cost, "reader": reader}
    given = [name for name, value in wanted.items() if value is not None]
    require(len(given) < 2, "give a sensitivity, a specificity, a cost or a reader, not both", given=", ".join(given))
    rule = given[0] if given else one_of(rule, RULES, "rule")
    require(prevalence is None or 0 < prevalence < 1, "prevalence must lie between 0 and 1", given=prevalence)
    require(
        prevalence is None or rule == "cost", "a prevalence says something with a cost only", given=rule,
        todo="give cost=…, or leave it out",
    )  # fmt: skip
    if rule == "reader":
        return _matched(reader, one_of(match, ("sensitivity", "specificity"), "match"))
    if rule == "cost":
        if cost is None or not 0 < cost < math.inf:
            raise ArgumentError("the cost of a missed case over that of a false alarm must be positive", given=cost)
        return ThresholdRule(rule, cost, prevalence)
    goal = {"sensitivity": sensitivity, "specificity": specificity}.get(rule)
    if rule not in ("youden", "accuracy") and (goal is None or not 0 < goal <= 1):
        raise ArgumentError(f"the wanted {rule} must lie between 0 and 1", given=goal)
    return ThresholdRule(rule, 1.0 if goal is None else goal)


def _matched(reader: ReaderPoint | tuple[float, float] | None, match: str) -> ThresholdRule:
    if reader is None:
        raise ArgumentError("no reader was given to match", todo="give reader=(sensitivity, specificity)")
    rates = reader if isinstance(reader, tuple) else (reader.sensitivity.value, reader.specificity.value)
    goal = dict(zip(("sensitivity", "specificity"), rates))[match]
    if not 0 < goal <= 1:
        raise ArgumentError(f"the reader's {match} must lie between 0 and 1", given=goal)
    return ThresholdRule(match, goal, said=f"reader's {match}")


@checked
def criterion_of(wanted: ThresholdRule, share: float) -> tuple[str, float, str]:
    """What the curve is searched for (a slope, accuracy by one, a sensitivity or a specificity), its number, and the rule in words."""
    if wanted.rule == "youden":
        return "slope", 1.0, "youden"
    if wanted.rule == "accuracy":
        return "accuracy", (1 - share) / share, "highest accuracy"
    if wanted.rule != "cost":
        return wanted.rule, wanted.goal, f"{wanted.said or wanted.rule} ≥ {wanted.goal:.4g}"
    chance = share if wanted.prevalence is None else wanted.prevalence
    slope = (1 - chance) / (chance * wanted.goal)
    where = "of the tuning data" if wanted.prevalence is None else "of the clinic"
    return "slope", slope, f"cost {wanted.goal:g}:1 at prevalence {chance:.3g} {where}, ROC slope {slope:.3g}"


@checked
def pick(fpr: NDArray[np.float64], tpr: NDArray[np.float64], kind: str, goal: float) -> NDArray[np.int64]:
    """(B,) the step chosen on each of B curves (B, G): the first that reaches a sensitivity, the last that keeps a
    specificity, the last of the best at a slope."""
    if kind == "sensitivity":
        return (tpr >= goal - 1e-12).argmax(axis=1)
    if kind == "specificity":
        good = 1 - fpr >= goal - 1e-12
    else:
        gain = tpr - goal * fpr
        good = gain >= gain.max(axis=1, keepdims=True) - 1e-12 * max(1.0, goal)
    return good.shape[1] - 1 - good[:, ::-1].argmax(axis=1)


@checked
def cuts_of(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """(G,) between the last score called positive and the next; just above all scores at 0, below them at the end."""
    top, bottom = float(thresholds[1]), float(thresholds[-1])
    above = math.nextafter(top, math.inf) + 1e-6 * max(1.0, abs(top))
    below = bottom - 1e-6 * max(1.0, abs(bottom))
    return np.concatenate(([above], (thresholds[1:-1] + thresholds[2:]) / 2, [below]))

"""What readers, a model and the truth say of the same cases, side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.annotators import Grades
from overread.cases.sources.labels import natural
from overread.cases.sources.tables import find, guess, read_table
from overread.core.errors import InputError, checked, nearest
from overread.core.identifiers import identifiers
from overread.evaluation.decision.class_decision import ClassDecision
from overread.evaluation.operating_point import OperatingPoint
from overread.evaluation.questions import ScoredCases
from overread.predictions import Predictions
from overread.stats.arrays import distinct, not_finite, patient_codes
from overread.stats.calibration.reliability import not_probabilities
from overread.tasks.classes import disease_of

#: Readers of fewer cases are counted, not judged.
FEWEST_CASES = 10
Reference = Literal["auto", "truth", "consensus"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CommonCases:
    """The N cases, their truth and the model. ``truth`` (N,) places in ``names``, −1 unknown; ``score`` (N,) of the
    positive classes and ``chosen`` (N,) the model's class (NaN where it has none), None without a model."""

    cases: tuple[str, ...]
    names: tuple[str, ...]
    positive: tuple[str, ...]
    truth: NDArray[np.int64]
    codes: NDArray[np.int64]
    score: Floats | None
    chosen: Floats | None
    threshold: float
    rule: str
    counts: dict[str, Any]
    cautions: tuple[str, ...]

    @property
    def of(self) -> str:
        """The name under which the numbers of the positive classes stand."""
        return "+".join(self.positive)

    @property
    def places(self) -> list[int]:
        """Where the positive classes stand in ``names``."""
        return [self.names.index(name) for name in self.positive]

    @property
    def known(self) -> NDArray[np.bool_]:
        """(N,) whether the truth is known."""
        return self.truth >= 0

    @property
    def ill(self) -> NDArray[np.bool_]:
        """(N,) whether the truth is a positive class."""
        return np.isin(self.truth, self.places)

    @property
    def flagged(self) -> Floats | None:
        """(N,) the model's calls 0/1, NaN where it has no score; None without a model or a positive class."""
        if self.score is None or not self.positive:
            return None
        return np.where(np.isnan(self.score), math.nan, self.score >= self.threshold)


@dataclass(frozen=True, eq=False)
class Answers:
    """What R readers said of the N cases in common in one modality: tables (N, R), NaN for no answer.

    ``ratings`` are class numbers, ``calls`` 0/1, ``scores`` numbers; None where readers gave none. ``judged`` are the
    readers of enough cases.
    """

    modality: str
    readers: tuple[str, ...]
    ratings: Floats | None
    calls: Floats | None
    scores: Floats | None
    rule: str

    @property
    def read(self) -> NDArray[np.bool_]:
        """(N, R) whether a reader read a case."""
        tables = [t for t in (self.ratings, self.scores) if t is not None]
        return np.logical_or.reduce([~np.isnan(t) for t in tables])

    @property
    def judged(self) -> NDArray[np.bool_]:
        """(R,) whether a reader has read enough cases to be judged."""
        return np.asarray(self.read.sum(axis=0) >= FEWEST_CASES)


@checked
def read_truth(path: str | os.PathLike[str]) -> pd.DataFrame:
    """A table with the columns ``case`` and ``label``, and ``patient`` if it has one, all text.

    Raises :class:`InputError` for a missing file or column, or a case that stands twice.
    """
    table = read_table(Path(path))
    columns = [str(c) for c in table.columns]
    case = "case" if "case" in columns else guess("case", columns) or guess("image", columns)
    label = "label" if "label" in columns else guess("label", columns)
    named = {"case": case or find(columns, "case", "truth"), "label": label or find(columns, "label", "truth")}
    patient = guess("patient", [c for c in columns if c not in named.values()])
    made = pd.DataFrame({role: table[name] for role, name in named.items()})
    made = made.apply(identifiers)
    twice = int(made["case"].duplicated().sum())
    if twice:
        raise InputError("a case has more than one truth", given=f"{twice:,} rows too many", todo="keep one")
    return made if patient is None else made.assign(patient=identifiers(table[patient]))


@checked
def with_truth(predictions: Predictions, truth: pd.DataFrame) -> Predictions:
    """Predictions whose labels come from a table of ``case`` and ``label``; blank where it has none."""
    _require_one_label(predictions)
    found = predictions.table["case"].map(dict(zip(truth["case"], truth["label"], strict=True))).fillna("")
    _require_classes(found, predictions.target.names)
    return replace(predictions, table=predictions.table.assign(label=found))


def _require_one_label(predictions: Predictions) -> None:
    task = predictions.target.task
    if not task.exclusive:
        what = task.plural or "a quantity"
        raise InputError(f"readers are judged beside a model of one label, and these are predictions of {what}",
                         given=", ".join(predictions.target.names)[:200],
                         todo="give a table with the columns case, label and p:<class>")  # fmt: skip


def _require_classes(labels: pd.Series, names: Sequence[str]) -> None:
    strange = sorted(set(labels) - {*names, ""}, key=natural)
    if strange:
        raise InputError("a true label is none of the classes that are predicted",
                         given=f"{strange[0]!r}, {len(strange)} in all", todo=nearest(strange[0], names))  # fmt: skip


@checked
def common_cases(
    grades: Grades, predictions: Predictions | None, truth: pd.DataFrame | None, *,
    at: OperatingPoint | None = None, decision: ClassDecision | None = None, positive: Sequence[str] = (),
) -> CommonCases:  # fmt: skip
    """The cases that were read, and predicted where there is a model.

    ``predictions`` hold the truth in their label; ``truth`` is the table of :func:`read_truth` where there is no model.
    Raises :class:`InputError` for findings or a quantity, unknown classes, or tables without a common case.
    """
    if not grades.classes and not ("score" in grades.table and grades.table["score"].notna().any()):
        raise InputError("no reader gave any answer", given=str(grades), todo="check the column of labels or scores")
    if predictions is not None:
        return _with_model(grades, predictions, at, decision, tuple(positive))
    names = _names(grades, truth)
    chosen, said = _positive(names, tuple(positive), ())
    labels = {} if truth is None else dict(zip(truth["case"], truth["label"], strict=True))
    cases = grades.cases
    places = pd.Index(names).get_indexer(pd.Index([labels.get(case, "") for case in cases], dtype=object))
    people = _patients(grades, truth, cases)
    if labels and not (places >= 0).any():
        raise InputError("the readers and the truth share no case", given=f"{len(cases):,} cases read, {len(labels):,} with a truth",
                         todo="name cases in both tables alike")  # fmt: skip
    return CommonCases(cases, names, chosen, places.astype(np.int64), people, None, None, math.nan, "",
                 _counts(cases, people, places), said if labels else ())  # fmt: skip


def _with_model(
    grades: Grades,
    predictions: Predictions,
    at: OperatingPoint | None,
    decision: ClassDecision | None,
    positive: tuple[str, ...],
) -> CommonCases:
    _require_one_label(predictions)
    names, table = predictions.target.names, predictions.table
    wanted = positive or (at.positive if at else ())
    chosen, said = _positive(names, wanted, predictions.target.positive)
    where = pd.Index(table["case"]).get_indexer(pd.Index(grades.cases))
    rows, cases = where[where >= 0], tuple(c for c, i in zip(grades.cases, where, strict=True) if i >= 0)
    alone = {"read, not predicted": len(grades.cases) - len(cases), "predicted, not read": len(table) - len(cases)}
    if not cases:
        raise InputError("the readers and the model share no case", given=f"{len(grades.cases):,} cases read, {len(table):,} predicted",
                         todo="name cases in both tables alike; a run's predictions hold codes unless it kept the names")  # fmt: skip
    lost = tuple(f"{count:,} cases were {which} and are left out" for which, count in alone.items() if count)
    truth, scores = predictions.truth[rows].astype(np.int64), predictions.scores[rows]
    codes = patient_codes(table["patient"].to_numpy()[rows], len(rows))
    score = scores[:, [names.index(name) for name in chosen]].sum(axis=1) if chosen else None
    if chosen and not at and score is not None and (why := not_probabilities(score)) and not not_finite(score):
        raise InputError("the model cannot be called positive from .5 on", given=why,
                         todo="choose its threshold on tuning data: --tuning, in Python at=…")  # fmt: skip
    threshold = at.threshold if at else 0.5
    called = ScoredCases.of(predictions, decision).called[rows]
    best = np.where(np.isnan(scores).any(axis=1), math.nan, called)
    if len(names) == 2 and chosen and score is not None:  # two classes: the model says what its threshold says
        places = names.index(chosen[0])
        best = np.where(np.isnan(score), math.nan, np.where(score >= threshold, places, 1 - places))
    rule = f"score ≥ {threshold:.4g}, {at.rule if at else 'not chosen on tuning data'}"
    cautions = (
        ()
        if at or not chosen
        else ("the model is called positive from .5 on, a threshold that was not chosen on tuning data",)
    )
    return CommonCases(cases, names, chosen, truth, codes, score, best, threshold, rule, _counts(cases, codes, truth) | alone,
                 (*said, *cautions, *lost))  # fmt: skip


def _names(grades: Grades, truth: pd.DataFrame | None) -> tuple[str, ...]:
    """The classes: those of the truth where it has two, else also those that readers gave."""
    true = set() if truth is None else set(truth["label"]) - {""}
    return tuple(sorted(true if len(true) > 1 else true | set(grades.classes), key=natural))


def _positive(
    names: tuple[str, ...], wanted: tuple[str, ...], declared: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes that count as disease, and what is said of the choice."""
    for name in wanted:
        if name not in names:
            raise InputError(f"there is no class {name!r}", given=", ".join(names), todo=nearest(name, names))
    if wanted or declared:
        return wanted or declared, ()
    if len(names) == 2:
        ill = disease_of(names)
        if not ill:
            todo = f"say it with --positive {names[0]} or --positive {names[1]}"
            raise InputError("the names of the two classes do not say which one is the disease", given=" and ".join(map(repr, names)), todo=todo)  # fmt: skip
        return (ill,), (f"{ill} counts as disease; name another with --positive",)
    if len(names) < 2:
        return names if names == ("1",) else (), ()
    return (), ("of several classes none was named as disease: accuracy only; name them with --positive",)


def _patients(grades: Grades, truth: pd.DataFrame | None, cases: tuple[str, ...]) -> NDArray[np.int64]:
    people = grades.patients(cases)
    if people is None and truth is not None and "patient" in truth:
        known = dict(zip(truth["case"], truth["patient"], strict=True))
        people = np.array([known.get(case) or f"case {case}" for case in cases], dtype=object)
    return patient_codes(people, len(cases))


def _counts(cases: tuple[str, ...], codes: NDArray[np.int64], truth: NDArray[Any]) -> dict[str, Any]:
    return {"images": len(cases), "patients": distinct(codes), "unlabelled": int((truth < 0).sum())}


@checked
def answers_of(grades: Grades, common: CommonCases, modality: str, cut: float | None = None) -> Answers:
    """The readers' answers in one modality. ``cut``: scores from there on are calls, where there are no labels.

    Raises :class:`InputError` for an answer that is none of the classes.
    """
    cases, table = common.cases, grades.table
    scores = grades.scores(cases, modality) if "score" in table else None
    ratings = grades.ratings(cases, common.names, modality) if "label" in table and common.names else None
    if ratings is not None:
        calls = np.where(np.isnan(ratings), math.nan, np.isin(ratings, common.places)) if common.positive else None
        return Answers(modality, grades.readers, ratings, calls, scores, "the readers' labels")
    if scores is not None and cut is not None and common.positive:
        calls = np.where(np.isnan(scores), math.nan, scores >= cut)
        return Answers(modality, grades.readers, None, calls, scores, f"the readers' scores from {cut:g} on")
    return Answers(modality, grades.readers, None, None, scores, "")

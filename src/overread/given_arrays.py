"""Predictions from arrays: the truth and the scores that somebody has in a notebook, with every guess refused or said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.sources.tables import as_text
from overread.core.errors import ArgumentError, checked, nearest, require
from overread.core.identifiers import distinct
from overread.core.phrases import count
from overread.predictions import Predictions
from overread.tasks.classes import disease_of
from overread.tasks.target import Target

#: What stands for a column or a table of numbers or texts.
Values = Sequence[Any] | NDArray[Any] | pd.Series | pd.DataFrame


@checked
def judged_by(
    test: Predictions | Values, scores: Values | None, *, patient: Values | None = None, classes: Sequence[str] = (),
    positive: str | Sequence[str] = (), groups: Mapping[str, Values] = MappingProxyType({}),
) -> Predictions:  # fmt: skip
    """``test`` itself where it is predictions, a DataFrame of them, or those of the truth ``test`` and of ``scores``."""
    if isinstance(test, Predictions):
        _refuse_spare(scores, patient, classes, positive, groups, what="a second table")
        return test
    if scores is None and isinstance(test, pd.DataFrame):
        return _of_frame(test, positive, groups)
    if scores is None:
        raise ArgumentError(
            "there is a truth and nothing to judge",
            given=_shape(test),
            todo="call evaluate(y, p, patient=…), or evaluate(predictions)",
        )
    return predictions_of(test, scores, patient=patient, classes=classes, positive=positive, groups=groups)


@checked
def compared_by(
    first: Predictions | Values, second: Predictions | Values, scores: Values | None, *, patient: Values | None = None,
    classes: Sequence[str] = (), positive: str | Sequence[str] = (), groups: Mapping[str, Values] = MappingProxyType({}),
) -> tuple[Predictions, Predictions]:  # fmt: skip
    """Two predictions, or DataFrames of them; or those of the truth ``first`` and of two models' scores, ``second`` and
    ``scores``, of the same cases."""
    if scores is None:
        if isinstance(first, Predictions) or isinstance(second, Predictions):
            _refuse_spare(None, patient, classes, positive, groups)
        both = tuple(
            each if isinstance(each, Predictions) else _of_frame(each, positive, groups)
            for each in (first, second)
            if isinstance(each, (Predictions, pd.DataFrame))
        )
        if len(both) == 2:
            return both
        raise ArgumentError(
            "there is a truth and one model's scores, and nothing to compare them with",
            given=f"{_shape(first)} and {_shape(second)}",
            todo="call compare(y, p, q, patient=…), or compare(predictions, predictions)",
        )
    if isinstance(first, Predictions) or isinstance(second, Predictions):
        raise ArgumentError(
            "predictions and arrays are not compared with one another",
            given="three tables, of which the first two are no arrays",
            todo="call compare(y, p, q, patient=…), or compare(predictions, predictions)",
        )
    one, other = (
        predictions_of(first, each, patient=patient, classes=classes, positive=positive, groups=groups)
        for each in (second, scores)
    )
    return one, other


def _refuse_spare(
    scores: Values | None, patient: Values | None, classes: Sequence[str], positive: str | Sequence[str],
    groups: Mapping[str, Values], what: str = "",
) -> None:  # fmt: skip
    """Predictions bring their own truth, patients and classes."""
    spare = {
        what: scores is not None,
        "patient": patient is not None,
        "classes": bool(classes),
        "positive": bool(positive),
        "by={…}": bool(groups),
    }
    given = ", ".join(name for name, is_given in spare.items() if is_given)
    require(not given, "predictions know their truth, patients and classes", given=given,
            todo="leave it out; two tables of predictions are compared with compare(first, second)")  # fmt: skip


def _of_frame(table: pd.DataFrame, positive: str | Sequence[str], groups: Mapping[str, Values]) -> Predictions:
    chosen = (positive,) if isinstance(positive, str) else tuple(positive)
    return Predictions.from_frame(table.assign(**dict[str, Any](groups)), positive=chosen)


@checked
def predictions_of(
    truth: Values, scores: Values, *, patient: Values | None = None, classes: Sequence[str] = (),
    positive: str | Sequence[str] = (), groups: Mapping[str, Values] = MappingProxyType({}),
) -> Predictions:  # fmt: skip
    """Predictions from arrays: ``truth`` and ``scores`` of N cases, in one order.

    ``scores``: (N,) the probability of the positive class of two, or (N, K) that of each class; or a DataFrame whose
    columns are the classes, in any order. ``truth``: (N,) names or numbers of classes, None or NaN where unknown; or
    (N, K) 1, 0 or NaN of K findings (or one 1 a row: classes). With one score a case and a truth that is no whole number
    it is a quantity. ``classes`` names the columns of ``scores`` in their order. ``patient`` (N,); without it every case
    counts as a patient of its own, and ``notes`` say so. ``groups``: columns to report by, (N,) each.

    Raises :class:`ArgumentError` for lengths that differ, scores that are no probabilities, and what cannot be told.

    >>> print(predictions_of([0, 1, 1], [0.2, 0.7, 0.6], patient=["a", "b", "b"]))
    predictions for 3 cases of 2 patients
    """
    _require_one_order(truth, scores)
    y, p, names = np.asarray(truth), np.asarray(scores), _column_names(scores, classes)
    y, p = (each[:, 0] if each.ndim == 2 and each.shape[1] == 1 else each for each in (y, p))
    if p.ndim not in (1, 2) or y.ndim not in (1, 2) or not len(p):
        raise ArgumentError(
            "scores are (N,) or (N, classes), and the truth (N,) or (N, findings)",
            given=f"{_shape(scores)} and {_shape(truth)}",
        )
    turned = p.ndim == 2 and p.shape[1] == len(y) != p.shape[0]
    require(len(y) == len(p), "the truth and the scores are of different cases", given=f"truth {_shape(truth)}, scores {_shape(scores)}",
            todo="the scores lie on their side: give p.T" if turned else "give one row a case in both, in one order")  # fmt: skip
    p = _numbers(p)
    known = y[~pd.isna(y)] if y.ndim == 1 else np.empty(0)
    if p.ndim == 1 and not names and known.dtype.kind in "fc" and bool((known.astype(float) % 1 != 0).any()):
        if set(np.unique(p)) <= {0.0, 1.0}:
            raise ArgumentError(
                "the truth comes first, then the scores",
                given="a truth of fractions and scores of 0 and 1",
                todo="call evaluate(y, p) with y the labels",
            )
        return _of_table(
            pd.DataFrame({"value": y.astype(float), "predicted": p}), Target("quantity", ("value",)), patient, groups
        )
    _require_probabilities(p)
    chosen = (positive,) if isinstance(positive, str) else tuple(map(str, positive))
    if y.ndim == 2:
        sums = p.ndim == 2 and bool(np.allclose(p.sum(axis=1), 1, atol=SUM) and (np.nansum(y, axis=1) == 1).all())
        require(
            p.shape == y.shape, "each finding needs a score", given=f"truth {_shape(truth)}, scores {_shape(scores)}"
        )
        names = names or tuple(map(str, truth.columns if isinstance(truth, pd.DataFrame) else range(y.shape[1])))
        if not sums:
            labels = {f"label:{name}": y[:, i].astype(float) for i, name in enumerate(names)}
            table = pd.DataFrame({**labels, **{f"p:{name}": p[:, i] for i, name in enumerate(names)}})
            return _of_table(table, Target("findings", names), patient, groups)
        y = np.array(names, object)[np.nanargmax(y, axis=1)]
    label = as_text(pd.Series(y))
    found = sorted(set(label) - {""})
    if p.ndim == 1:
        p, names = _both_classes(p, names, found, chosen)
    names = names or _numbered(found, p.shape[1])
    _require_classes(label, names, p)
    two = len(names) == 2
    sick = chosen or ((names[1] if set(names) <= {"0", "1"} else disease_of(names)),)
    target = Target("binary" if two else "classes", names, sick if two and sick[0] else chosen)
    table = pd.DataFrame({"label": label, **{f"p:{name}": p[:, i] for i, name in enumerate(names)}})
    return _of_table(table, target, patient, groups)


#: How far from 1 the sum of a case's probabilities may lie.
SUM = 1e-3


def _shape(values: Any) -> str:
    return " × ".join(f"{size:,}" for size in np.shape(values)) or "one number"


def _require_one_order(truth: Values, scores: Values) -> None:
    """Series and DataFrames carry an index: the same in another order is not the same cases."""
    if isinstance(truth, (pd.Series, pd.DataFrame)) and isinstance(scores, (pd.Series, pd.DataFrame)):
        one, other = truth.index, scores.index
        if not one.equals(other) and len(one) == len(other) and one.sort_values().equals(other.sort_values()):
            raise ArgumentError(
                "truth and scores have the same index in another order",
                given=f"{count(len(one), 'case')}",
                todo="give scores.loc[truth.index]",
            )


def _column_names(scores: Values, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes of the columns: those of a DataFrame, which ``classes`` may only repeat, else ``classes``."""
    named = tuple(str(c).removeprefix("p:") for c in scores.columns) if isinstance(scores, pd.DataFrame) else ()
    wanted = tuple(map(str, classes))
    require(not (named and wanted) or named == wanted, "the columns of the scores are in another order than classes, or others",
            given=f"columns {', '.join(named[:20])}; classes {', '.join(wanted[:20])}", todo="leave classes out: the DataFrame names its columns")  # fmt: skip
    return named or wanted


def _numbers(p: NDArray[Any]) -> NDArray[np.float64]:
    try:
        found = p.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            "the scores must be numbers", given=f"{p.ravel()[0]!r}"[:80], todo="the truth comes first: evaluate(y, p)"
        ) from error
    if bad := int((~np.isfinite(found)).reshape(len(found), -1).any(axis=1).sum()):
        raise ArgumentError("scores are not finite", given=f"{bad:,} of {count(len(found), 'case')} with NaN or infinity",
                            todo="leave these cases out of y and p, and say how many there were")  # fmt: skip
    return found


def _require_probabilities(p: NDArray[np.float64]) -> None:
    low, high = float(p.min()), float(p.max())
    if low >= -1e-6 and high <= 1 + 1e-6:
        return
    turn = "scipy.special.expit(p)" if p.ndim == 1 else "scipy.special.softmax(p, axis=1), or expit(p) of findings"
    todo = "give p / 100" if low >= 0 and high <= 100 else f"these look like logits: give {turn}"
    raise ArgumentError("scores are probabilities between 0 and 1", given=f"from {low:.4g} to {high:.4g}", todo=todo)


def _both_classes(
    p: NDArray[np.float64], names: tuple[str, ...], found: list[str], chosen: tuple[str, ...]
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The two columns of one probability: that of the positive class, which is the second of ``classes``."""
    known = names or tuple(found)
    if not names and set(known) <= {"0", "1"}:
        known = ("0", "1")
    require(len(known) == 2, "one probability a case needs a truth of two classes", given=f"{len(known)} classes: {', '.join(known[:10])}",
            todo="give the probability of each class, (N, classes), or name both with classes=[…]")  # fmt: skip
    sick = chosen[0] if chosen else known[1] if names or set(known) == {"0", "1"} else disease_of(known)
    require(bool(sick), "it cannot be told which class the probability is of", given=", ".join(known),
            todo=f"say positive={known[0]!r} or positive={known[1]!r}")  # fmt: skip
    require(
        sick in known,
        "the positive class is not among the classes",
        given=f"{sick}; {', '.join(known)}",
        todo=nearest(sick, known),
    )
    other = known[0] if sick == known[1] else known[1]
    return np.column_stack([1 - p, p]), (other, sick)


def _numbered(found: Sequence[str], many: int) -> tuple[str, ...]:
    """0 … K − 1, where the truth is numbers of columns; names are in no order that can be told."""
    numbers = tuple(map(str, range(many)))
    require(set(found) <= set(numbers), "the columns of the scores have no names", given=f"a truth of {', '.join(found[:6])}, {many} columns",
            todo=f"name them in their order: classes={list(found[:4])!r}…, or give a DataFrame with the classes as columns")  # fmt: skip
    return numbers


def _require_classes(label: pd.Series, names: tuple[str, ...], p: NDArray[np.float64]) -> None:
    require(
        len(names) == p.shape[1],
        "each column of the scores needs a class",
        given=f"{len(names)} classes, {p.shape[1]} columns",
    )
    strange = sorted(set(label) - {"", *names})
    if strange:
        raise ArgumentError(
            "the truth has classes that have no column of scores",
            given=", ".join(strange[:10]),
            todo=nearest(strange[0], names),
        )
    if bad := int((abs(p.sum(axis=1) - 1) > SUM).sum()):
        raise ArgumentError("the probabilities of a case's classes must add up to 1", given=f"{bad:,} of {count(len(p), 'case')} that do not",
                            todo="give softmax(logits); of findings, which need not, give y as (N, findings)")  # fmt: skip


def _of_table(table: pd.DataFrame, target: Target, patient: Values | None, groups: Mapping[str, Values]) -> Predictions:
    """With patients, cases numbered, and the columns of groups."""
    many = len(table)
    taken = sorted({*groups} & {*table.columns, "case", "patient", "split"})
    require(
        not taken,
        "a column of groups has the name of another",
        given=", ".join(taken),
        todo="call it otherwise in by={…}",
    )
    for name, values in {"patient": patient, **groups}.items():
        if values is not None and np.shape(values)[:1] != (many,):
            raise ArgumentError(
                f"{name} must have one value a case", given=f"{_shape(values)} for {count(many, 'case')}"
            )
    case = pd.Series([f"case {i + 1}" for i in range(many)], dtype=object)
    columns: dict[str, Any] = {name: as_text(pd.Series(np.asarray(values))) for name, values in groups.items()}
    who = case if patient is None else as_text(pd.Series(np.asarray(patient)))
    notes = (
        ()
        if patient is not None
        else ("patient: none was given, so each case counts as a patient of its own; give patient=…",)
    )
    blank = int((who == "").sum())
    notes = (
        (*notes, f"patient: {blank:,} of {many:,} cases name none, and each counts as a patient of its own")
        if blank
        else notes
    )
    made = table.assign(
        case=case,
        patient=distinct(who, "patient", "as-written").where(who != "", case),
        **({"split": "", "source": ""} | columns),
    )
    return Predictions(made, target, notes, identifiers="as-written")

"""Ways through a reading room: who reads a case, and what is called in the end. Pure arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.cases.grades import Grades
from overread.core.errors import InputError, checked, one_of

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

#: Every way, and what happens on it.
PATHS = {
    "reader alone": "one reader reads every case",
    "two readers": "two readers read every case; a third decides where they disagree (either positive where nobody else read it)",
    "model alone": "nobody reads; the model's call stands",
    "either positive": "one reader and the model; positive if either says so",
    "both positive": "one reader and the model; positive if both say so",
    "disagreement to a reader": "one reader and the model; a second reader decides where they disagree",
    "triage": "cases below the triage threshold are called negative and not read; a reader reads the others",
}
BASELINES = ("reader alone", "two readers")
#: What tables write for a yes and a no where they do not name a class.
YES, NO = (
    ("1", "1.0", "yes", "y", "true", "present", "positive"),
    ("0", "0.0", "no", "n", "false", "absent", "negative"),
)


@dataclass(frozen=True, eq=False)
class Reading:
    """One row for each reader and case that she read, arrays (M,).

    ``first`` is her call, ``second`` and ``third`` those of the next readers of the same case (NaN: nobody), ``model``
    the model's call and ``held`` whether the case is above the triage threshold. ``codes`` number the patients.
    """

    truth: Bools
    score: Floats
    model: Bools
    held: Bools
    first: Bools
    second: Floats
    third: Floats
    codes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)


@dataclass(frozen=True, eq=False)
class Route:
    """What became of the rows (M,) of a :class:`Reading`: ``known`` where the way can be followed."""

    name: str
    called: Bools
    reads: Floats
    known: Bools


@checked
def readings(
    truth: Bools, score: Floats, calls: Floats | None, codes: NDArray[np.int64], at: float, triage: float
) -> Reading:
    """Every reader's view of every case she read. ``calls`` (N, R) 0/1/NaN; None: one reader who is never wrong.

    The next readers of a case are those that follow in the order of the columns, the first after the last: every
    reader is once the first, the second, the third, without a choice.
    """
    table = truth.astype(np.float64)[:, None] if calls is None else calls
    many, readers = table.shape
    views = [_others(np.roll(table, -reader, axis=1)) for reader in range(readers)]
    first, second, third = (np.concatenate([view[k] for view in views]) for k in range(3))
    case = np.tile(np.arange(many), readers)
    rows = np.flatnonzero(~np.isnan(first))
    case = case[rows]
    with np.errstate(invalid="ignore"):
        model, held = score[case] >= at, score[case] >= triage
    return Reading(truth[case], score[case], model, held, first[rows] == 1, second[rows], third[rows], codes[case])


def _others(table: Floats) -> tuple[Floats, Floats, Floats]:
    """The first column, and the first two calls that are not NaN among the others."""
    rest = table[:, 1:]
    known = ~np.isnan(rest)
    place = np.cumsum(known, axis=1)
    found = []
    for k in (1, 2):
        here = known & (place == k)
        found.append(np.where(here.any(axis=1), np.where(here, rest, 0).sum(axis=1), np.nan))
    return table[:, 0], found[0], found[1]


@checked
def route(reading: Reading, name: str) -> Route:
    """Send every row along the way ``name`` (see :data:`PATHS`)."""
    one_of(name, PATHS, "workflow")
    r, every = reading, np.ones(len(reading), bool)
    once = every.astype(np.float64)
    if name == "reader alone":
        return Route(name, r.first, once, every)
    if name == "model alone":
        return Route(name, r.model, 0 * once, every)
    if name == "either positive":
        return Route(name, r.first | r.model, once, every)
    if name == "both positive":
        return Route(name, r.first & r.model, once, every)
    if name == "triage":
        return Route(name, r.first & r.held, r.held.astype(np.float64), every)
    there, second = ~np.isnan(r.second), r.second == 1
    if name == "disagreement to a reader":
        apart = r.first != r.model
        return Route(name, np.where(apart, second, r.first), once + apart, there)
    apart, judge = r.first != second, ~np.isnan(r.third)
    decided = np.where(judge, r.third == 1, r.first | second)
    return Route(name, np.where(apart, decided, r.first), 2 * once + (apart & judge), there)


@checked
def calls_of(
    grades: Grades,
    cases: Sequence[str],
    positive: Sequence[str],
    names: Sequence[str],
    *,
    threshold: float | None = None,
    modality: str = "",
) -> Floats:
    """(N, R) whether each reader called each case positive: 1, 0, or NaN for no answer.

    Labels: one of ``names``, of which ``positive`` count as disease; or yes and no (1 and 0, present and absent).
    Scores: positive from ``threshold`` on, which has to be given unless all lie in 0 … 1 (then .5). Raises
    :class:`InputError` for other labels.
    """
    if grades.kind == "score":
        scores = grades.scores(cases, modality)
        known = scores[~np.isnan(scores)]
        if threshold is None and known.size and (known.min() < 0 or known.max() > 1):
            raise InputError("readers' scores need a threshold to become calls", given=f"scores from {known.min():g} to {known.max():g}",
                             todo="give --reader-threshold: the least score that counts as positive")  # fmt: skip
        return np.where(np.isnan(scores), np.nan, scores >= (0.5 if threshold is None else threshold))
    said = {name: _meant(name, positive, names) for name in grades.classes}
    strange = [name for name, meant in said.items() if meant is None]
    if strange:
        raise InputError("a reader's answer is none of the classes", given=f"{strange[0]!r}, {len(strange)} in all",
                         todo=f"write {', '.join(names)}, or 1 and 0")  # fmt: skip
    if not said:
        raise InputError("no reader gave any answer", given=str(grades), todo="fill in the column of answers")
    table = np.array([float(bool(said[name])) for name in grades.classes])
    numbers = grades.ratings(cases, grades.classes, modality)
    return np.where(np.isnan(numbers), np.nan, table[np.nan_to_num(numbers).astype(np.int64)])


def _meant(label: str, positive: Sequence[str], names: Sequence[str]) -> bool | None:
    if label in names:
        return label in positive
    word = label.lower()
    return True if word in YES else False if word in NO else None

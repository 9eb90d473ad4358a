"""How often neighbours are of the same kind: precision among the first k, by class, with intervals by patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.core.random import permutation
from overread.stats.arrays import distinct
from overread.stats.estimate import Estimate
from overread.stats.resample import Column, Statistic, bootstrap, mean_statistic, of_sums
from overread.tasks.task import Task

#: How many neighbours are looked at.
KS = (1, 5, 10)
#: By which a layer and a distance are chosen, and what a page shows first.
FIRST = 5
#: The metric of the share of a class in the index.
PREVALENCE = "prevalence"

Floats = NDArray[np.float64]


@checked
def precision(
    rows: NDArray[np.int64],
    asked: NDArray[Any],
    held: NDArray[Any],
    patients: Sequence[str],
    task: Task,
    *,
    ks: tuple[int, ...] = KS,
    level: float = 0.95,
    seed: int = 0,
    resamples: int | None = None,
) -> tuple[Estimate, ...]:
    """How far neighbours ``rows`` (Q, max k) say what the case is: estimates over queries, resampled by ``patients`` (Q,).

    ``asked`` and ``held``: the labels of the Q queries and of the N vectors, as :meth:`Task.read_labels` gives them.
    ``precision@k`` of a class or finding: the share of the first k neighbours that have it, over the queries that have it;
    fewer neighbours (−1) count as they are, and what is unknown not at all. ``macro precision@k``: the mean over classes.
    Of a quantity ``neighbour error@k``: the mean absolute difference. Beside them the same of a ``shuffled`` index, whose
    labels are dealt anew, and the ``prevalence`` of each class in the index, which is what a search that sees nothing
    reaches. The index is taken as given: intervals are of other queries.
    """
    require(
        rows.shape[1] >= max(ks),
        "there are fewer neighbours than are to be judged",
        given=f"{rows.shape[1]} of {max(ks)}",
    )
    codes = pd.factorize(np.asarray(list(patients), dtype=object))[0]
    count = int(codes.max(initial=-1)) + 1
    if not count:
        return ()
    dealt = held[permutation(seed, 0, len(held), "shuffled index")]
    statistics = [
        statistic
        for name, labels in (("", held), ("shuffled ", dealt))
        for k in ks
        for statistic in _statistics(name, rows[:, :k], asked, labels, codes, count, task)
    ]
    made = bootstrap(statistics, count, images=len(rows), level=level, seed=seed, resamples=resamples)
    return (*made, *_prevalence(held, task))


@checked
def in_part(estimates: Sequence[Estimate], part: str) -> tuple[Estimate, ...]:
    """The estimates as those of one part of the study: ``where`` says which."""
    return tuple(replace(each, where={**each.where, "part": part}) for each in estimates)


@checked
def macro(rows: NDArray[np.int64], asked: NDArray[Any], held: NDArray[Any], task: Task, k: int = FIRST) -> float:
    """What a layer is chosen by, the larger the better: the mean over classes of precision@k, or of a quantity the mean
    absolute difference with a minus; NaN where nothing can be judged."""
    shares = [_shares(rows[:, :k], mine, theirs) for _, mine, theirs in _questions(asked, held, task)]
    if task.continuous:
        return -float(np.nanmean(_distances(rows[:, :k], asked, held))) if len(rows) else float("nan")
    means = [float(np.nanmean(share)) for share in shares if len(share) and not np.isnan(share).all()]
    return float(np.mean(means)) if means else float("nan")


def _questions(asked: NDArray[Any], held: NDArray[Any], task: Task) -> list[tuple[str, NDArray[np.bool_], Floats]]:
    """(class or finding, which queries have it (Q,), which vectors have it (N,): 1, 0, or NaN where unknown)."""
    mine, theirs = task.holds(asked), task.holds(held)
    return [(name, has == 1, have) for name, has, have in zip(task.names, mine.T, theirs.T)]  # of a quantity none


def _statistics(
    name: str,
    rows: NDArray[np.int64],
    asked: NDArray[Any],
    held: NDArray[Any],
    codes: NDArray[np.int64],
    count: int,
    task: Task,
) -> list[Statistic]:
    k = rows.shape[1]
    if task.continuous:
        off = _distances(rows, asked, held)
        known = ~np.isnan(off)
        return [mean_statistic(f"{name}neighbour error@{k}", off[known], codes[known], count)] if known.any() else []
    questions = _questions(asked, held, task)
    columns, cells = [], []
    for of, mine, theirs in questions:
        share = np.full(len(rows), np.nan)
        share[mine] = _shares(rows, mine, theirs)
        known = ~np.isnan(share)
        cells.append(np.bincount(codes[known], minlength=count).astype(float))
        cells.append(np.bincount(codes[known], share[known], count))
        patients = distinct(codes[known]) if known.any() else 0
        columns.append(
            Column(
                f"{name}precision@{k}",
                of,
                int(known.sum()),
                patients,
                effective=patients,
                reason="no cases of this class with a neighbour",
            )
        )
    some = [i for i, column in enumerate(columns) if column.images]
    total = Column(f"{name}macro precision@{k}", "", len(rows), count, effective=min((columns[i].patients for i in some), default=1),
                   reason="no class with cases", note="mean over the classes that have cases")  # fmt: skip

    def of_totals(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = sums[:, 1::2] / sums[:, ::2]  # (B, classes)
            return np.column_stack([each, each[:, some].mean(axis=1) if some else np.full(len(sums), np.nan)])

    return [of_sums((*columns, total), np.column_stack(cells), of_totals)]


def _shares(rows: NDArray[np.int64], mine: NDArray[np.bool_], theirs: Floats) -> Floats:
    """(queries that have it,) the share of the neighbours that have it; NaN where of none is known whether it does."""
    found = rows[mine]
    has = np.where(found >= 0, theirs[found], np.nan)
    known = (~np.isnan(has)).sum(axis=1)
    return np.divide(np.nansum(has, axis=1), known, out=np.full(len(found), np.nan), where=known > 0)


def _distances(rows: NDArray[np.int64], asked: NDArray[Any], held: NDArray[Any]) -> Floats:
    """(Q,) the mean absolute difference to the neighbours; NaN where nothing is known."""
    off = np.abs(np.where(rows >= 0, held[rows].astype(float), np.nan) - asked.astype(float)[:, None])
    known = (~np.isnan(off)).sum(axis=1)
    return np.divide(np.nansum(off, axis=1), known, out=np.full(len(rows), np.nan), where=known > 0)


def _prevalence(held: NDArray[Any], task: Task) -> list[Estimate]:
    """The share of each class in the index: a description, without an interval."""
    made = []
    for of, _, theirs in _questions(held, held, task):
        known = theirs[~np.isnan(theirs)]
        if len(known):
            made.append(
                Estimate(
                    PREVALENCE,
                    float(known.mean()),
                    method="share of the index",
                    images=len(known),
                    of=of,
                    count=int(known.sum()),
                )
            )
    return made

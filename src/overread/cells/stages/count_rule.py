"""From cells to the case: called where at least so many cells are called, or by what a network learned to pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.phrases import count
from overread.predictions import Predictions
from overread.stats.discrimination.roc import auc
from overread.tasks.target import Target

#: No more cells than these are tried, and no more than half of the cases with the finding can have.
MOST_CELLS = 50


@dataclass(frozen=True)
class CountRule:
    """A case has the finding ``of`` where at least ``cells`` of its cells are called by their probability.

    The score of a case is the ``cells``-th largest probability among its cells, 0 where it has fewer: it reaches a
    threshold exactly where so many cells do. So the operating point of the score is the threshold of a cell. ``classes``:
    those of cells that count, by the sum of their probabilities. ``tried``: the AUC on tuning cases of each number.
    """

    of: str
    classes: tuple[str, ...]
    cells: int
    tried: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        require(self.cells >= 1, "a rule counts one cell at least", given=self.cells)
        require(bool(self.classes), "a rule counts cells of some class")

    def __str__(self) -> str:
        return f"{self.of} where at least {count(self.cells, 'cell')} {'is' if self.cells == 1 else 'are'} called {' or '.join(self.classes)}"


@checked
def counted_classes(case: Target, cells: Target, named: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes of cells that count for a case: those ``named``, else the one that is called as the finding is.

    Raises :class:`InputError` where nobody says which, and for a case that is not one of two classes.
    """
    if not case.task.binary:
        raise InputError("a rule of counted cells tells two classes apart", given=", ".join(case.names[:10]),
                         todo="pool by a learned network: --pool attention")  # fmt: skip
    strange = [name for name in named if name not in cells.names]
    if strange:
        raise InputError("there is no such class of cells", given=", ".join(strange), todo=f"the classes are {', '.join(cells.names)}")  # fmt: skip
    same = [name for name in cells.names if name.casefold() in {each.casefold() for each in case.positive}]
    found = tuple(named) or tuple(same)
    if not found:
        raise InputError("nobody says which cells count", given=f"{', '.join(case.positive) or 'no positive class'}; cells are {', '.join(cells.names)}",
                         todo="name the class of cells that makes a case positive: --count CLASS")  # fmt: skip
    return found


@checked
def kth_largest(scores: NDArray[np.float64], codes: NDArray[np.int64], cases: int, k: int) -> NDArray[np.float64]:
    """(cases,) the ``k``-th largest of the ``scores`` (N,) of each case, whose numbers are ``codes`` (N,); 0 of fewer.

    >>> kth_largest(np.array([0.1, 0.9, 0.5, 0.4]), np.array([0, 0, 0, 1]), 3, 2).tolist()
    [0.5, 0.0, 0.0]
    """
    require(k >= 1, "the k-th largest is counted from 1", given=k)
    order = np.lexsort((-scores, codes))
    place = np.arange(len(codes)) - np.searchsorted(codes[order], codes[order])
    found, made = order[place == k - 1], np.zeros(cases)
    made[codes[found]] = scores[found]
    return made


@checked
def choose_rule(cells: Predictions, owners: Sequence[str], cases: Cases, classes: Sequence[str]) -> CountRule:
    """The number of cells whose rule has the largest AUC on these (tuning) cases, the smallest of equals.

    ``cells``: predictions of cells, ``owners`` (N,) the case of each. Raises :class:`UnsoundError` for cases of one class.
    """
    one = cases.table.drop_duplicates("case")
    truth = cases.take(one.index.to_numpy()).labels == cases.target.names.index(cases.target.positive[0])
    if len(set(truth.tolist())) < 2:
        raise UnsoundError("the tuning cases are of one class, so no number of cells can be chosen", given=count(len(one), "case"),
                           todo="give tuning a larger share: --tuning 0.2")  # fmt: skip
    scores, codes = _scores(cells, owners, one["case"].tolist(), classes)
    many = np.bincount(codes, minlength=len(one))
    most = int(min(MOST_CELLS, max(1, np.median(many[truth]))))
    tried = {k: float(auc(truth, kth_largest(scores, codes, len(one), k), one["patient"].to_numpy()).value) for k in range(1, most + 1)}  # fmt: skip
    best = max(tried, key=lambda k: (round(tried[k], 9), -k))
    return CountRule(cases.target.positive[0], tuple(classes), best, {str(k): value for k, value in tried.items()})


def _scores(
    cells: Predictions, owners: Sequence[str], cases: Sequence[str], classes: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The probability that each cell counts, and the number of its case."""
    columns = [cells.outputs.index(f"p:{name}") for name in classes]
    place = {case: number for number, case in enumerate(cases)}
    codes = pd.Series(list(owners), dtype=object).map(place)
    require(not codes.isna().any(), "there are cells of other cases", given=int(codes.isna().sum()))
    return np.asarray(cells.scores[:, columns].sum(axis=1), np.float64), np.asarray(codes, np.int64)


@checked
def case_scores(rule: CountRule, cells: Predictions, owners: Sequence[str], cases: Cases) -> NDArray[np.float64]:
    """(cases,) the score of each of ``cases``, in the order in which they first stand in its table."""
    names = cases.table["case"].drop_duplicates().tolist()
    scores, codes = _scores(cells, owners, names, rule.classes)
    return kth_largest(scores, codes, len(names), rule.cells)

"""Where nobody knows the truth: every reader, and the model, against the consensus of the other readers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.graders import Grades, consensus
from overread.errors import checked
from overread.evaluation.judging.judge import Terms
from overread.evaluation.reading.board import Answers, Board, Floats
from overread.evaluation.reading.parts import FEW, MEAN, MODEL, Contrast
from overread.stats.arrays import distinct
from overread.stats.difference import implied
from overread.stats.estimate import Estimate, undefined
from overread.stats.multiple import holm
from overread.stats.proportions import proportion
from overread.stats.resample import Column, bootstrapped, of_sums, per_patient

METRICS = ("accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, eq=False)
class _Leave:
    """One reader left out: the cases that this reader read and the others decided, and who was right of them."""

    reader: str
    rows: NDArray[np.bool_]  # (N,)
    among: dict[str, NDArray[np.bool_]]  # (N,) by metric: the cases that count
    right: NDArray[np.bool_]  # (N,) the reader; of sensitivity and specificity by positive class
    model: NDArray[np.bool_] | None
    flag: NDArray[np.bool_]
    model_flag: NDArray[np.bool_] | None

    def good(self, metric: str, who: str) -> NDArray[np.bool_]:
        """(N,) whether the reader or the model was right, in the sense of the metric."""
        right, flag = (self.right, self.flag) if who == self.reader else (self.model, self.model_flag)
        assert right is not None
        assert flag is not None
        return {"accuracy": right, "sensitivity": flag, "specificity": ~flag}[metric]


@checked
def against_others(
    grades: Grades, board: Board, answers: Answers, rule: str, terms: Terms
) -> tuple[list[Estimate], list[Contrast]]:
    """Each reader's accuracy (and sensitivity, specificity) against the consensus of the other readers, by ``rule``.

    A reader is never part of his own reference. The model is judged against the same references on the same cases, and
    its mean minus the readers' mean, over these readers, has a patient bootstrap. Cases on which the others are tied
    are left out. Empty without labels or with one reader.
    """
    if answers.ratings is None or len(answers.readers) < 2:
        return [], []
    left = [_leave(grades, board, answers, r, rule) for r in range(len(answers.readers))]
    about = {"reference": f"consensus of the other readers ({rule})"}
    found, judged = [], [one for r, one in enumerate(left) if answers.judged[r]]
    for one, good in zip(left, answers.judged, strict=True):
        found += [replace(e, where={**e.where, **about}) for e in _shares(one, board, bool(good), terms)]
    means, contrasts = _together(judged, board, terms, about) if judged else ([], [])
    return found + means, contrasts


def _leave(grades: Grades, board: Board, answers: Answers, r: int, rule: str) -> _Leave:
    assert answers.ratings is not None
    table = grades.table
    others = (table["reader"] != answers.readers[r]) & (table["modality"] == answers.modality) & table["case"].isin(board.cases)  # fmt: skip
    made = (
        consensus(replace(grades, table=table[others]), rule=rule, classes=board.names)
        if others.any()
        else None
    )
    labels = {} if made is None else dict(zip(made["case"], made["label"], strict=True))
    reference = pd.Index(board.names).get_indexer(
        pd.Index([labels.get(c, "") for c in board.cases], dtype=object)
    )
    own = answers.ratings[:, r]
    rows = (reference >= 0) & ~np.isnan(own)
    if board.chosen is not None:
        rows &= ~np.isnan(board.chosen)
    ill = np.isin(reference, board.places)
    among = {"accuracy": rows} | (
        {"sensitivity": rows & ill, "specificity": rows & ~ill} if board.positive else {}
    )
    chosen, flagged = board.chosen, board.flagged
    return _Leave(answers.readers[r], rows, among, own == reference, None if chosen is None else chosen == reference,
                  np.isin(own, board.places), (None if chosen is None else np.zeros(len(rows), bool)) if flagged is None else flagged == 1)  # fmt: skip


def _shares(one: _Leave, board: Board, judged: bool, terms: Terms) -> Iterator[Estimate]:
    """The reader's shares, and the model's against the same reference."""
    for who in (one.reader, *((MODEL,) if one.model is not None else ())):
        where = {"reader": who} if who == one.reader else {"reader": MODEL, "beside": one.reader}
        for metric, rows in one.among.items():
            images, patients = int(rows.sum()), distinct(board.codes[rows])
            if not judged:
                yield replace(
                    undefined(metric, FEW, of=board.of, images=images, patients=patients), where=where
                )
                continue
            good = one.good(metric, who)[rows]
            yield replace(
                proportion(good, board.codes[rows], level=terms.level, metric=metric, of=board.of),
                where=where,
            )


def _together(
    judged: list[_Leave], board: Board, terms: Terms, about: dict[str, str]
) -> tuple[list[Estimate], list[Contrast]]:
    means: list[Estimate] = []
    contrasts: list[Contrast] = []
    for metric in judged[0].among:
        made = _resampled(judged, board, metric, terms)
        who = (MEAN, MODEL) if judged[0].model is not None else (MEAN,)
        means += [replace(e, where={"reader": name, **about}) for e, name in zip(made, who)]
        if len(who) < 2:
            continue
        names = (MEAN, *(one.reader for one in judged))
        gaps = [_contrast(made[3 * k : 3 * k + 3], name, about) for k, name in enumerate(names)]
        adjusted = holm([c.gap.p for c in gaps[1:]])
        contrasts += [
            gaps[0],
            *(replace(c, adjusted=float(p)) for c, p in zip(gaps[1:], adjusted, strict=True)),
        ]
    return means, contrasts


def _contrast(trio: list[Estimate], who: str, about: dict[str, str]) -> Contrast:
    """Of the reader, the model and the difference, as :func:`_resampled` gives them."""
    reader, model, gap = trio
    sides = replace(model, where={"reader": MODEL}), replace(reader, where={"reader": who})
    gap = replace(gap, metric=f"{gap.metric} difference", low=max(gap.low, -1.0), high=min(gap.high, 1.0))
    freedom = max(gap.patients - 1, 0)
    return Contrast(
        implied(*sides, gap, freedom=freedom), {"reader": who, **about}, float(freedom) or math.inf
    )


def _resampled(judged: list[_Leave], board: Board, metric: str, terms: Terms) -> list[Estimate]:
    """Of the mean, then of every reader: the reader's share, the model's against the same reference, the difference."""
    beside, count = judged[0].model is not None, len(judged)
    people, patients = board.codes, int(board.codes.max()) + 1
    cells = [
        column
        for one in judged
        for column in (one.among[metric], one.among[metric] & one.good(metric, one.reader),
                       one.among[metric] & one.good(metric, MODEL) if beside else one.among[metric] & False)
    ]  # fmt: skip
    every = np.logical_or.reduce([one.among[metric] for one in judged])
    columns = [
        c
        for rows in (every, *(one.among[metric] for one in judged))
        for c in _trio(rows, board, metric, count)
    ]

    def compute(sums: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            each = sums.reshape(-1, count, 3)[:, :, 1:] / sums.reshape(-1, count, 3)[:, :, :1]  # (B, R, 2)
        both = np.concatenate((each.mean(axis=1, keepdims=True), each), axis=1)  # the mean first
        return np.dstack((both, both[:, :, 1] - both[:, :, 0])).reshape(len(sums), -1)

    statistic = of_sums(tuple(columns), per_patient(people, patients, *cells), compute)
    return bootstrapped(
        statistic, people, level=terms.level, resamples=terms.resamples or None, seed=terms.seed
    )


def _trio(rows: NDArray[np.bool_], board: Board, metric: str, readers: int) -> tuple[Column, Column, Column]:
    """The reader's share, the model's and the difference, on these cases."""
    size = distinct(board.codes[rows])
    share = Column(metric, board.of, int(rows.sum()), size, effective=max(size, 1), freedom=max(size - 1, 0),
                   note=f"{readers} readers, fixed", why=f"a reader without cases for {metric}")  # fmt: skip
    return share, share, replace(share, scale="plain", effective=1)

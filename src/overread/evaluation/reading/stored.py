"""What a reader study stores for its figures and pages: curves, points, counts, and what must be said."""

from __future__ import annotations

from typing import Any

import numpy as np

from overread.errors import checked
from overread.evaluation.comparing.table import counted
from overread.evaluation.reading.board import Answers, Board
from overread.evaluation.reading.parts import MEAN, MODEL, crossed
from overread.evaluation.stored import drawn
from overread.stats.estimate import Estimate
from overread.stats.roc import roc_curve


@checked
def curves(board: Board, answers: Answers, estimates: list[Estimate]) -> dict[str, Any]:
    """The ROC of the model and of readers who gave scores, and every point with its intervals."""
    if not board.known.any() or not board.positive:
        return {}
    read = answers.read.any(axis=1) & board.known
    model = {} if board.score is None else _roc(board, board.score, read)
    model = {"roc": model} if model else {}
    model |= {"point": _point(MODEL, answers.modality, estimates)} if model else {}
    lines = {} if answers.scores is None else {
        name: _roc(board, answers.scores[:, r], read) for r, name in enumerate(answers.readers) if answers.judged[r]
    }  # fmt: skip
    points = [_point(name, answers.modality, estimates) for name in (*answers.readers, MEAN)] if answers.calls is not None else []  # fmt: skip
    return {
        "model": model,
        "readers": [p for p in points if p],
        "lines": {n: line for n, line in lines.items() if line},
        "rule": answers.rule,
    }


def _roc(board: Board, score: Any, rows: Any) -> dict[str, Any]:
    """Corners of the curve; empty with one class only."""
    rows = rows & ~np.isnan(score)
    across, up, _ = roc_curve(board.ill[rows], score[rows])
    if not len(across):
        return {}
    step = drawn(across, up)
    return {"fpr": across[step], "tpr": up[step]}


def _point(who: str, modality: str, estimates: list[Estimate]) -> dict[str, Any]:
    """As figures take it: sensitivity and specificity, each with value, low and high; empty where there is none."""
    where = {"reader": who} | ({"modality": modality} if modality else {})
    found = {
        e.metric: e for e in estimates if e.where == where and e.metric in ("sensitivity", "specificity")
    }
    if len(found) < 2 or any(e.undefined for e in found.values()):
        return {}
    return {"reader": who} | {m: {"value": e.value, "low": e.low, "high": e.high} for m, e in found.items()}


@checked
def counts(board: Board, several: list[Answers]) -> dict[str, Any]:
    per = {
        a.modality: {"readers": {n: int(k) for n, k in zip(a.readers, a.read.sum(axis=0), strict=True)}, "answers": int(a.read.sum()),
                     **crossed(board, a)}
        for a in several
    }  # fmt: skip
    known = board.known
    return board.counts | {"positives": int((board.ill & known).sum()), "negatives": int((~board.ill & known).sum()),
                           "readers": len(several[0].readers) if several else 0, "modalities": per}  # fmt: skip


@checked
def cautions(board: Board, several: list[Answers], judged: bool, rule: str) -> tuple[str, ...]:
    found = list(board.cautions)
    if not judged and board.chosen is not None:
        others = any(a.ratings is not None and len(a.readers) > 1 for a in several)
        found.append(
            f"the model and each reader are judged against the consensus of the other readers ({rule}), not against a truth: "
            "no reader is part of his own reference, and the intervals are for these readers only"
            if others else "no truth is known and no other reader gave labels: the model is judged against nothing"
        )  # fmt: skip
    for answers in several:
        within = f" ({answers.modality})" if answers.modality else ""
        every = crossed(board, answers)
        if judged and every["read by some"]:
            found.append(f"{every['read by some']:,} cases that not all readers have read are left out of the analysis of "
                         f"readers and cases{within}; {every['read by all']:,} stay")  # fmt: skip
        few = int((~answers.judged).sum())
        if few:
            found.append(
                f"counted, but not judged, because they read fewer than 10 cases{within}: {counted(few, 'reader')}"
            )
        if int(answers.judged.sum()) == 1:
            found.append(f"one reader cannot stand for other readers: no analysis of random readers{within}")
    return tuple(dict.fromkeys(found))

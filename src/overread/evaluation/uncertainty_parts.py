"""What sets and silence are judged on: the rows of a label or finding, and the risk of answering only where sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked
from overread.evaluation.judging.judge import largest
from overread.predictions import Predictions
from overread.stats.abstention_band import RiskCurve, risk_curve


@dataclass(frozen=True, eq=False)
class Part:
    """One label or finding of tuning or test data: rows with a known truth, class numbers and their probabilities."""

    rows: NDArray[np.int64]
    truth: NDArray[Any]
    chance: NDArray[np.float64]  # (K, C)


@checked
def part_of(table: Predictions, of: str) -> Part:
    """The rows of ``table`` with a known truth, of a finding ``of``, or of the one label."""
    if not of:
        truth, scores = table.truth, table.scores
        rows = np.flatnonzero(~np.isnan(truth) if table.target.kind == "quantity" else truth >= 0)
        return Part(rows, truth[rows], scores[rows])
    column = table.target.names.index(of)
    truth, score = table.truth[:, column], table.scores[:, column]
    rows = np.flatnonzero(~np.isnan(truth))
    return Part(rows, truth[rows].astype(np.int64), np.column_stack([1 - score[rows], score[rows]]))


@checked
def silence(test: Predictions, of: str, codes: NDArray[np.int64], confidence: float) -> dict[str, Any]:
    """The risk of the most probable class at each share of cases answered."""
    if test.target.kind == "quantity":
        return {"undefined": "a predicted number comes without a confidence"}
    part = part_of(test, of)
    if of:
        said, sure = part.chance.argmax(axis=1), part.chance.max(axis=1)
    else:
        said, sure = largest(test)[part.rows], part.chance.max(axis=1)
    curve = risk_curve(said != part.truth, sure, codes[part.rows], level=confidence)
    return _stored(curve)


def _stored(curve: RiskCurve) -> dict[str, Any]:
    if curve.undefined:
        return {"undefined": curve.undefined}
    names = ("coverage", "risk", "low", "high", "threshold")
    return {**{n: getattr(curve, n) for n in names}, "level": curve.level, "method": curve.method}

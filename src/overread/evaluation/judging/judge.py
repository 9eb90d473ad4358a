"""From predictions to estimates: every metric of a set of rows, in the order in which they are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.judging.parts import (
    Parts,
    Terms,
    areas,
    classes,
    directly,
    quantity,
    resampled,
    top_accuracy,
)
from overread.evaluation.judging.questions import HALF, LARGEST, Facts, Question, largest, questions
from overread.predictions import Predictions
from overread.stats.arrays import patient_codes
from overread.stats.estimate import Estimate
from overread.stats.resample import bootstrap

__all__ = ["HALF", "LARGEST", "ORDER", "Facts", "Question", "Terms", "judge", "largest", "questions"]

#: The same for either of two classes.
OF_BOTH = ("accuracy", "balanced accuracy", "mcc")


def judge(
    test: Predictions | Facts,
    asked: Sequence[Question],
    codes: NDArray[np.int64],
    inside: NDArray[np.bool_],
    terms: Terms,
) -> list[Estimate]:
    """Every estimate of the rows where ``inside`` (N,) is true. ``codes`` (N,) number the patients."""
    facts, rows = Facts.of(test), np.flatnonzero(inside)
    local = np.full(len(codes), -1)
    local[rows] = patient_codes(codes[rows], len(rows))
    if facts.target.kind == "quantity":
        return _in_order(quantity(facts, rows, local, terms), list(facts.target.names))
    kept, people = [q.only(inside) for q in asked], int(local.max(initial=-1)) + 1
    found = [estimate for q in kept for estimate in directly(q, local[q.rows], terms)]
    parts = _parts(facts, kept, rows, local, people, terms)
    found += parts.ready
    found += bootstrap(
        parts.statistics,
        max(people, 1),
        images=len(rows),
        level=terms.level,
        seed=terms.seed,
        resamples=terms.resamples or None,
    )
    if facts.target.kind == "binary":
        found = [replace(e, of="") if e.metric in OF_BOTH else e for e in found]
        found.append(top_accuracy(facts, rows, local, terms.level))
    return _in_order(found, ["", *(q.of for q in asked)])


def _parts(
    facts: Facts,
    kept: Sequence[Question],
    rows: NDArray[np.int64],
    local: NDArray[np.int64],
    people: int,
    terms: Terms,
) -> Parts:
    parts = [
        areas([q for q in kept if not q.group], local, macro=facts.target.kind != "binary"),
        areas([q for q in kept if q.group], local, macro=False),
        *(resampled(q, local[q.rows], people, terms) for q in kept if q.full),
    ]
    if facts.target.kind == "classes":
        parts.append(classes(facts, kept, rows[facts.truth[rows] >= 0], local, people, terms))
    return sum(parts, Parts())


ORDER = (
    "macro auc",
    "auc",
    "standardised partial auc",
    "average precision",
    "accuracy",
    "top accuracy",
    "balanced accuracy",
    "macro f1",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "ppv at prevalence",
    "npv at prevalence",
    "f1",
    "mcc",
    "quadratic kappa",
    "brier",
    "brier reliability",
    "brier resolution",
    "brier uncertainty",
    "ece",
    "ece if calibrated",
    "calibration intercept",
    "calibration slope",
)


def _in_order(found: list[Estimate], names: list[str]) -> list[Estimate]:
    metric, of = {m: i for i, m in enumerate(ORDER)}, {n: i for i, n in enumerate(names)}
    return sorted(found, key=lambda e: (of.get(e.of, len(of)), metric.get(e.metric, len(metric))))

"""What is counted beside the estimates: the confusion matrix, cases and patients, the scatter of a quantity."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.evaluation.judging.curves import counts_of
from overread.evaluation.judging.judge import LARGEST, Facts, Question, largest
from overread.predictions import Predictions
from overread.stats.arrays import distinct
from overread.stats.classification import confusion


def confusion_of(test: Facts, asked: list[Question]) -> dict[str, Any]:
    """Counts with rows for the truth, of the most probable class or at the threshold; empty for other targets."""
    names = test.target.names
    if test.target.kind == "classes":
        rows = np.flatnonzero(test.known)
        counts = confusion(test.truth[rows], largest(test)[rows], len(names)).tolist()
        return {"labels": list(names), "counts": counts, "rows": "truth", "rule": LARGEST}
    if test.target.kind == "binary":
        q = asked[0]
        labels = sorted(names, key=lambda name: name == q.of)  # the positive class last
        return {"labels": labels, "counts": counts_of(q), "rows": "truth", "rule": q.rule}
    return {"labels": [], "counts": [], "rows": "truth", "rule": ""}


def cohort_of(
    test: Predictions, facts: Facts, asked: list[Question], codes: NDArray[np.int64]
) -> dict[str, Any]:
    """Images and patients: all, by class (or with the finding) and by source."""
    target, per = test.target, np.bincount(codes)
    if target.kind in ("binary", "classes"):
        rows = {name: np.flatnonzero(facts.truth == i) for i, name in enumerate(target.names)}
    else:
        rows = {q.of: q.rows[q.truth] for q in asked}
    return {
        "images": len(test),
        "patients": len(per),
        "unlabelled": int((~facts.known).sum()),
        "patients with several images": int((per > 1).sum()),
        "per class": {n: {"images": len(r), "patients": people_of(codes[r])} for n, r in rows.items()},
        "sources": {str(n): int(k) for n, k in sorted(test.table["source"].value_counts().items())},
    }


def people_of(codes: NDArray[np.int64]) -> int:
    """How many patients there are, also among no cases."""
    return distinct(codes) if len(codes) else 0


def primary_of(test: Predictions, asked: list[Question]) -> str:
    """The class or group of classes that matters most; empty if none is declared."""
    if test.target.kind == "binary":
        return asked[0].of
    full = [q.of for q in asked if q.full]
    return full[0] if test.target.kind == "classes" and full else ""


def scatter_of(test: Facts) -> dict[str, Any]:
    """Up to 2,000 pairs of a quantity."""
    if test.target.kind != "quantity":
        return {}
    rows = np.flatnonzero(test.known)
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), 2000)).astype(int))]
    return {"truth": test.truth[rows], "predicted": test.scores[rows, 0]}

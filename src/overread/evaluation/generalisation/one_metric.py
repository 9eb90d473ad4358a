"""One number of a table of predictions: what is asked of many tables at a time, by size or by site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, nearest, one_of
from overread.evaluation.ledger import record_look, truth_hash
from overread.evaluation.operating_point import positives, question
from overread.predictions import Predictions
from overread.stats.arrays import distinct, patient_codes, why_undefined
from overread.stats.calibration.reliability import why_uncalibrated
from overread.stats.discrimination.precision_recall import areas_statistic
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import Estimate
from overread.stats.regression import METRICS as ERRORS
from overread.stats.regression import errors_statistic
from overread.stats.resample import Column, Statistic, Weights, bootstrap, mean_statistic

#: What can be followed over sizes and sites: all of them need no threshold.
METRICS = ("auc", "macro auc", "average precision", "accuracy", "brier", "mae", "rmse", "r2")
#: Of these a smaller value is better.
LOSSES = ("brier", "mae", "rmse")
_OF_QUANTITIES = ("mae", "rmse", "r2")


@checked
def metric_for(test: Predictions, metric: str = "") -> str:
    """``metric``, or the first choice of the target: ``auc``, ``macro auc`` where there is no positive class, ``mae``.

    Raises :class:`InputError` for a metric that is not known, or not of this kind of target.
    """
    target = test.target
    options: tuple[str, ...]
    if target.kind == "quantity":
        options, first = _OF_QUANTITIES, "mae"
    elif target.kind == "findings":
        options, first = ("macro auc",), "macro auc"
    elif target.kind == "classes" and not target.positive:
        options, first = ("macro auc", "accuracy"), "macro auc"
    else:
        options, first = tuple(m for m in METRICS if m not in _OF_QUANTITIES), "auc"
    if metric and metric in METRICS and metric not in options and metric != "auc":
        raise InputError(f"{metric} cannot be told of this target", given=target.kind,
                         todo=f"choose from {', '.join(options)}, or name the positive classes")  # fmt: skip
    return first if metric in ("", "auc") else one_of(metric, METRICS, "metric")


@checked
def group_of(test: Predictions, metric: str) -> str:
    """The class, or positive classes, that a metric is of; empty for one over all classes."""
    own = metric in ("auc", "average precision") or (metric == "brier" and test.target.kind == "binary")
    return "+".join(positives(test, None, None)) if own else ""


@checked
def statistic_of(test: Predictions, metric: str, codes: NDArray, people: int) -> Statistic:
    """The metric as a function of how often each patient is drawn; NaN with its reason where it is undefined.

    ``codes`` (N,) number the patients 0 … ``people`` − 1.
    """
    if metric in _OF_QUANTITIES:
        return _of_quantity(test, metric, codes, people)
    if metric in ("accuracy", "brier"):
        return _of_probabilities(test, metric, codes, people)
    names = positives(test, None, None) if metric != "macro auc" else ()
    asked = [question(test, names)] if names else [question(test, (n,)) for n in test.target.names]
    known = [(rows, truth, score) for rows, truth, score in asked if not why_undefined(truth, score)]
    of = group_of(test, metric)
    if not known:
        why = why_undefined(*asked[0][1:]) if names else "no class or finding has both answers"
        return _nothing(metric, of, len(test), people, why)
    truths, scores, mine = ([q[1] for q in known], [q[2] for q in known], [codes[q[0]].astype(np.int64) for q in known])
    precision = metric == "average precision"
    note = f"mean over {len(known)} of {len(asked)}" if not names else ""
    found = areas_statistic(truths, scores, mine, (of,) * len(known), macro=not precision, each=precision,
                            note=note)  # fmt: skip
    return replace(found, columns=tuple(replace(c, metric=metric, of=of) for c in found.columns))


def _nothing(metric: str, of: str, images: int, people: int, why: str) -> Statistic:
    def compute(weights: Weights) -> NDArray[np.float64]:
        return np.full((len(weights), 1), math.nan)

    return Statistic((Column(metric, of, images, people, why=why),), compute)


def _of_quantity(test: Predictions, metric: str, codes: NDArray[np.int64], people: int) -> Statistic:
    truth, said = test.truth, test.scores[:, 0]
    rows = np.flatnonzero(~np.isnan(truth))
    bad = int((~np.isfinite(said[rows])).sum())
    if bad or not len(rows):
        why = f"{bad} of {len(rows)} predictions are not finite" if bad else "no cases"
        return _nothing(metric, test.target.names[0], len(rows), distinct(codes[rows]), why)
    every = errors_statistic(truth[rows], said[rows], codes[rows], people, of=test.target.names[0])
    at = list(ERRORS).index(metric)

    def compute(weights: Weights) -> NDArray[np.float64]:
        return every.compute(weights)[:, at : at + 1]

    return Statistic((every.columns[at],), compute)


def _of_probabilities(test: Predictions, metric: str, codes: NDArray[np.int64], people: int) -> Statistic:
    """Accuracy of the most probable class, or the Brier score (summed over classes where there are more than two)."""
    truth, scores = test.truth, test.scores
    rows, of = np.flatnonzero(truth >= 0), group_of(test, metric)
    bad = int((~np.isfinite(scores[rows])).any(axis=1).sum())
    if bad or not len(rows):
        why = f"{bad} of {len(rows)} scores are not finite" if bad else "no cases"
        return _nothing(metric, of, len(rows), distinct(codes[rows]), why)
    if metric == "accuracy":
        right = (scores[rows].argmax(axis=1) == truth[rows]).astype(np.float64)
        found = mean_statistic(metric, right, codes[rows], people, note="largest probability")
        column = replace(found.columns[0], scale="share", effective=distinct(codes[rows]))
        return replace(found, columns=(column,))
    loss = (scores[rows] - np.eye(scores.shape[1])[truth[rows]]) ** 2
    why = why_uncalibrated(loss[:, 0] >= 0, scores[rows].max(axis=1))
    if why:
        return _nothing(metric, of, len(rows), distinct(codes[rows]), why)
    total = loss[:, test.target.names.index(of)] if test.target.kind == "binary" else loss.sum(axis=1)
    return mean_statistic(metric, total, codes[rows], people, of=of)


@checked
def estimate_of(
    test: Predictions, metric: str, *, level: float = 0.95, seed: int = 0, resamples: int | None = None
) -> Estimate:
    """The metric with its interval: DeLong's, clustered by patient, for one AUC, else a bootstrap over patients."""
    codes = patient_codes(test.patients, len(test))
    people = distinct(codes)
    if metric == "auc":
        rows, truth, score = question(test, positives(test, None, None))
        return auc(truth, score, codes[rows], level=level, of=group_of(test, metric))
    one = statistic_of(test, metric, codes, max(people, 1))
    return bootstrap([one], max(people, 1), images=len(test), level=level, seed=seed, resamples=resamples)[0]


@checked
def look_at(test: Predictions, ledger: str | Path | None, models: Sequence[tuple[str, str]]) -> int:
    """Write down that ``models`` (their hashes, and those of their predictions) are judged on a test set.

    Returns how many looks came before the first; 0 without a ledger.
    """
    if ledger is None or not models:
        return 0
    same = truth_hash(test)
    before = [record_look(ledger, model, None, digest, test=same) for model, digest in models]
    return min(before)


@checked
def refuse_unknown(name: str, names: Sequence[str], what: str) -> None:
    """Raise :class:`InputError`, naming the nearest, if ``name`` is not among ``names``."""
    if name not in names:
        raise InputError(f"there is no {what} {name!r}", given=", ".join(names)[:200], todo=nearest(name, names))

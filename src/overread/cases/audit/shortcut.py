"""How well the label can be told without looking: from source, size, brightness, what frames the picture, and the
stain of slides alone.

A model takes the easiest way. If the microscope or the size of the image tells the label, a good test result need not
mean that anything was seen (Zech et al. 2018, PLoS Medicine 15:e1002683).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.stratify import patient_folds
from overread.core.errors import checked
from overread.core.random import by_name
from overread.stats.discrimination.roc import auc
from overread.stats.estimate import Estimate

_BINS, _FOLDS, _MOST = 12, 5, 20_000
#: Columns of a fingerprint table and of the cases behind each feature.
FEATURES: dict[str, tuple[str, ...]] = {
    "source": ("source",),
    "view": ("view",),
    "size": ("height", "width", "depth", "channels", "bits", "format"),
    "intensity": ("mean", "std"),
    "frame": ("border", "circle", "text"),
    "stain": ("haematoxylin", "eosin"),
    "file": ("microns", "levels"),
    "glass": ("glass_red", "glass_green", "glass_blue"),
}
#: What the disease itself may change in the overview of a slide (tumour is bluer than what it displaces), so that it can tell the
#: label honestly. The others come from scanner, file and glass.
OF_TISSUE = ("intensity", "frame", "stain")


@checked
def shortcut(cases: Cases, fingerprints: pd.DataFrame, *, seed: int = 0) -> dict[str, Any]:
    """AUC of each class against the rest from what can be told without looking, by folds that keep patients whole.

    Each feature is cut into at most 12 bands and goes, alone and with the others, through a logistic regression.
    ``auc`` is the mean over classes; its interval is the mean of the classes' intervals, which is wider than needed.
    A quantity is taken as above or below its median. At most 20,000 patients are used. Keys as in ``audit.json``.

    Of slides, ``auc`` and ``verdict`` are those of what cannot be the disease (source, size, file, glass); what it may change by
    itself (:data:`OF_TISSUE`) is told by feature, and named in ``may be the disease``.
    """
    truth, names = cases.target.task.yes_or_no(cases.labels)
    usable = (fingerprints["error"] == "").to_numpy() & cases.labelled
    usable &= _sampled(cases.table["patient"], usable, seed)
    tables = {name: _bands(cases, fingerprints, columns, usable) for name, columns in FEATURES.items()}
    tables = {name: table for name, table in tables.items() if table.shape[1] > 1}
    patients = cases.table["patient"].to_numpy()[usable]
    kept = [i for i in range(len(names)) if _has_both_sides(truth[usable, i], patients)]
    if not kept:
        return _empty("fewer than two classes with 10 patients")
    aside = _set_aside(cases)
    if not tables:
        return _empty("source, size and brightness are the same everywhere", aside)
    fold = patient_folds(patients, truth[usable][:, kept], k=_FOLDS, seed=seed)
    judge = lambda table: [_one(table, truth[usable, i], fold, patients) for i in kept]
    alone = {name: _mean(judge(table)) for name, table in tables.items()}
    counted = [table for name, table in tables.items() if name not in aside]
    if not counted:
        return _empty("source, size, file and glass are the same everywhere", aside) | {
            "by feature": alone, "images": int(usable.sum()), "patients": len(set(patients)),
        }  # fmt: skip
    together = judge(np.concatenate(counted, axis=1))
    return _result(together, alone, aside, [names[i] for i in kept], int(usable.sum()), len(set(patients)))


def _set_aside(cases: Cases) -> tuple[str, ...]:
    """The features that are not counted as a shortcut, since the disease may change them."""
    return OF_TISSUE if cases.slides else ()


@checked
def shortcut_scores(
    cases: Cases, fingerprints: pd.DataFrame, training: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float64]:
    """What can be told without looking, learnt on the rows ``training`` and said of the rows ``test``: a baseline.

    (T, names) probabilities of each class or finding against the rest by the logistic regressions of :func:`shortcut`;
    those of exclusive classes are brought to a sum of 1. Of slides without what the disease may change (:data:`OF_TISSUE`). NaN of a name that training does not show both ways. A
    quantity has one column: above or below its median. Everything is .5 (or equal) where nothing varies.
    """
    truth, names = cases.target.task.yes_or_no(cases.labels)
    readable = (fingerprints["error"] == "").to_numpy()
    taught = training[
        readable[training] & _sampled(cases.table["patient"].iloc[training], np.ones(len(training), bool), 0)
    ]
    used = np.zeros(len(cases), bool)
    used[taught] = used[test] = True
    tables = [
        _bands(cases, fingerprints, columns, used)
        for name, columns in FEATURES.items()
        if name not in _set_aside(cases)
    ]
    bands = np.empty((len(cases), sum(table.shape[1] for table in tables)))
    bands[used] = np.concatenate(tables, axis=1)
    found = np.column_stack([_told(bands, truth[:, i], taught, test) for i in range(len(names))])
    if cases.target.task.exclusive and len(names) > 1:
        found = found / found.sum(axis=1, keepdims=True)
    return found


def _told(
    bands: NDArray, truth: NDArray[np.float64], taught: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.float64]:
    known = taught[~np.isnan(truth[taught])]
    if len(np.unique(truth[known])) < 2:
        return np.full(len(test), np.nan)
    if not bands.shape[1]:
        return np.full(len(test), truth[known].mean())
    return _fitted(bands[known], truth[known]).predict_proba(bands[test])[:, 1]


def _sampled(patients: pd.Series, usable: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    names = patients[usable].unique()
    if len(names) <= _MOST:
        return np.ones(len(patients), bool)
    chosen = names[np.argsort(by_name(seed, names, "shortcut"))[:_MOST]]
    return patients.isin(chosen).to_numpy()


def _has_both_sides(truth: NDArray[np.float64], patients: NDArray) -> bool:
    """Whether a class has 10 patients on either side."""
    return min(len(set(patients[truth == side])) for side in (0, 1)) >= 10


def _bands(
    cases: Cases, prints: pd.DataFrame, columns: tuple[str, ...], usable: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """One-hot bands (n, bands) of the columns that vary."""
    every = [np.empty((int(usable.sum()), 0))]
    for column in columns:
        if (
            column not in prints and column not in cases.table
        ):  # fingerprints that were made before there was such a column
            continue
        values = (prints[column] if column in prints else cases.table[column])[usable].to_numpy()
        codes = _cut(values)
        if codes.max(initial=0) > 0:
            every.append(np.eye(codes.max() + 1)[codes])
    return np.concatenate(every, axis=1)


def _cut(values: NDArray) -> NDArray[np.int64]:
    """Band numbers: quantiles of numbers, the commonest words of texts with the rest together."""
    if np.issubdtype(values.dtype, np.number):
        edges = np.unique(np.quantile(values.astype(np.float64), np.linspace(0, 1, _BINS + 1)[1:-1]))
        return np.unique(np.searchsorted(edges, values, side="left"), return_inverse=True)[1]
    order = pd.Series(values).value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable").index
    place = {name: min(i, _BINS * 4) for i, name in enumerate(order)}
    return np.array([place[v] for v in values], np.int64)


def _one(
    table: NDArray[np.float64], truth: NDArray[np.float64], fold: NDArray[np.int64], patients: NDArray
) -> Estimate:
    """AUC of one class; scores are the log odds less those of the fold's training part, so that folds compare."""
    known = ~np.isnan(truth)
    score = np.zeros(len(truth))
    for k in range(_FOLDS):
        train, test = known & (fold != k), known & (fold == k)
        if len(np.unique(truth[train])) < 2 or not test.any():
            continue
        score[test] = _fitted(table[train], truth[train]).decision_function(table[test])
    return auc(truth[known].astype(int), np.round(score[known], 6), patients[known])


def _fitted(table: NDArray[np.float64], truth: NDArray[np.float64]) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=1.0, max_iter=50).fit(table, truth)


def _mean(found: list[Estimate]) -> dict[str, float]:
    keys = {"auc": "value", "low": "low", "high": "high"}
    return {key: float(np.mean([getattr(e, name) for e in found])) for key, name in keys.items()}


def _empty(reason: str, aside: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"auc": None, "low": None, "high": None, "images": 0, "patients": 0, "method": "", "verdict": "",
            "undefined": reason, "by feature": {}, "may be the disease": list(aside), "by class": {}}  # fmt: skip


def _result(
    together: list[Estimate], alone: dict[str, dict[str, float]], aside: tuple[str, ...], names: list[str], images: int, patients: int
) -> dict[str, Any]:  # fmt: skip
    overall = _mean(together)
    verdict = verdict_of([overall, *(found for name, found in alone.items() if name not in aside)])
    return overall | {
        "images": images, "patients": patients, "verdict": verdict, "undefined": "", "by feature": alone, "may be the disease": list(aside),
        "method": "logistic regression on bands, 5 folds by patient; one class against the rest, mean over classes",
        "by class": {name: {"auc": e.value, "low": e.low, "high": e.high} for name, e in zip(names, together)},
    }  # fmt: skip


@checked
def verdict_of(found: list[dict[str, float]]) -> str:
    """``high``, ``moderate`` or ``low`` by the best of some AUCs."""
    best = max(found, key=lambda one: one["auc"])
    return "high" if best["auc"] >= 0.9 else "moderate" if best["auc"] >= 0.7 and best["low"] > 0.5 else "low"

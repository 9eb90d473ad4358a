"""Metrics of a confusion matrix: at a threshold, or of the most probable class."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from overread.errors import checked, require
from overread.stats.arrays import distinct, patient_codes, zero_one
from overread.stats.estimate import Estimate
from overread.stats.proportions import proportion
from overread.stats.resample import Column, Statistic, bootstrapped, of_sums, per_patient


@checked
def confusion(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts (classes, classes): rows are the truth, columns what was predicted.

    ``truth`` and ``predicted`` (N,) hold class numbers 0 … classes−1.

    >>> confusion([0, 1, 1], [0, 0, 1], 2).tolist()
    [[1, 0], [1, 1]]
    """
    rows, columns = np.asarray(truth, np.int64), np.asarray(predicted, np.int64)
    require(
        rows.shape == columns.shape and rows.ndim == 1,
        "truth and predicted must be equally long",
        given=f"{rows.shape}, {columns.shape}",
    )
    both = np.concatenate((rows, columns))
    require(
        not both.size or (both.min() >= 0 and both.max() < classes),
        "a class number lies outside 0 … classes−1",
        given=f"{classes} classes",
    )
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


@checked
def at_threshold(
    truth: ArrayLike,
    flagged: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    of: str = "",
    note: str = "",
) -> list[Estimate]:
    """Sensitivity, specificity, PPV, NPV and accuracy of calling ``flagged`` cases positive.

    ``truth`` and ``flagged`` (N,) 0/1, ``patients`` (N,) or None. ``note`` says where the threshold comes
    from and begins each ``method``. Each is a :func:`proportion`; undefined where its denominator is empty.

    >>> [str(e) for e in at_threshold([0, 1], [0, 1])][0]
    '1.000 (0.207–1.000)'
    """
    positive, called = zero_one(truth), zero_one(flagged, "flagged")
    require(positive.shape == called.shape, "truth and flagged must be equally long")
    codes = patient_codes(patients, len(positive))
    among = {
        "sensitivity": (called, positive, "0 positives"),
        "specificity": (~called, ~positive, "0 negatives"),
        "ppv": (positive, called, "none called positive"),
        "npv": (~positive, ~called, "none called negative"),
        "accuracy": (called == positive, np.ones(len(positive), bool), "no cases"),
    }
    return [
        _noted(proportion(good[rows], codes[rows], level=level, metric=metric, of=of), why, note)
        for metric, (good, rows, why) in among.items()
    ]


def _noted(estimate: Estimate, why: str, note: str) -> Estimate:
    if estimate.undefined:
        return replace(estimate, undefined=why)
    return replace(estimate, method=f"{note}; {estimate.method}" if note else estimate.method)


@checked
def threshold_statistic(
    truth: NDArray[np.bool_],
    flagged: NDArray[np.bool_],
    codes: NDArray[np.int64],
    patients: int,
    *,
    of: str = "",
    note: str = "",
) -> Statistic:
    """F1 and balanced accuracy of calling ``flagged`` cases positive, for the bootstrap."""
    cells = per_patient(codes, patients, truth & flagged, flagged, truth, ~truth & ~flagged, ~truth)
    ill, well = distinct(codes[truth]), distinct(codes[~truth])
    about = Column("", of, len(truth), distinct(codes), note=note)
    fewest = min(ill, well)
    columns = (
        replace(about, metric="f1", effective=ill, why="0 positives"),
        replace(about, metric="balanced accuracy", effective=fewest, freedom=fewest - 1),
    )

    def compute(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        hit, called, positive, spared, negative = sums.T
        with np.errstate(invalid="ignore", divide="ignore"):
            f1 = np.where(positive > 0, 2 * hit / (called + positive), np.nan)
            return np.column_stack([f1, (hit / positive + spared / negative) / 2])

    return of_sums(columns, cells, compute)


@checked
def f1(
    truth: ArrayLike,
    flagged: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The F1 score, 2·TP / (2·TP + FP + FN), with a patient bootstrap.

    ``truth`` and ``flagged`` (N,) 0/1, ``patients`` (N,) or None. Undefined without positives.

    >>> f1([1, 1, 0, 0], [1, 0, 0, 0]).value
    0.6666666666666666
    """
    return _threshold(truth, flagged, patients, level, resamples, seed)[0]


@checked
def balanced_accuracy(
    truth: ArrayLike,
    flagged: ArrayLike,
    patients: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int | None = None,
    seed: int = 0,
) -> Estimate:
    """The mean of sensitivity and specificity, with a patient bootstrap. Undefined with one class only.

    ``truth`` and ``flagged`` (N,) 0/1, ``patients`` (N,) or None.

    >>> balanced_accuracy([1, 1, 0, 0], [1, 0, 0, 0]).value
    0.75
    """
    return _threshold(truth, flagged, patients, level, resamples, seed)[1]


def _threshold(
    truth: ArrayLike,
    flagged: ArrayLike,
    patients: ArrayLike | None,
    level: float,
    resamples: int | None,
    seed: int,
) -> list[Estimate]:
    positive, called = zero_one(truth), zero_one(flagged, "flagged")
    require(
        positive.shape == called.shape and len(positive) > 0,
        "truth and flagged must be equally long, and not empty",
    )
    codes = patient_codes(patients, len(positive))
    statistic = threshold_statistic(positive, called, codes, int(codes.max()) + 1)
    return bootstrapped(statistic, codes, level=level, resamples=resamples, seed=seed)


@checked
def classes_statistic(
    truth: NDArray[np.int64],
    predicted: NDArray[np.int64],
    classes: int,
    codes: NDArray[np.int64],
    patients: int,
    *,
    of: tuple[str, ...] = (),
    note: str = "",
) -> Statistic:
    """Balanced accuracy, macro F1 and F1 of the classes named in ``of``, for the bootstrap.

    ``truth`` and ``predicted`` (N,) class numbers; ``of`` names the classes (empty: no F1 of its own for that
    class). Classes without a case are left out of the means.
    """
    which = np.arange(classes)[:, None]
    actual, called = truth == which, predicted == which  # (C, N)
    present, named = actual.any(axis=1), np.flatnonzero([bool(name) for name in of])
    cells = per_patient(codes, patients, *(actual & called), *called, *actual)
    sizes = [distinct(codes[rows]) for rows in actual]
    about = Column("", "", len(truth), distinct(codes), note=note)
    overall = replace(
        about,
        effective=min((n for n in sizes if n), default=1),
        note=f"{note}; mean over the {int(present.sum())} classes present",
    )
    each = [replace(about, metric="f1", of=of[i], effective=sizes[i], why="0 positives") for i in named]
    columns = (replace(overall, metric="balanced accuracy"), replace(overall, metric="macro f1"), *each)

    def compute(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        hit, flagged, positive = np.split(sums, 3, axis=1)  # (B, C) each
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = np.where(positive > 0, hit / positive, np.nan)
            f1s = np.where(positive > 0, 2 * hit / (flagged + positive), np.nan)
        return np.column_stack([mean_known(recall[:, present]), mean_known(f1s[:, present]), f1s[:, named]])

    return of_sums(columns, cells, compute)


def mean_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean along the last axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(known, values, 0).sum(axis=-1) / known.sum(axis=-1)

"""Probabilities made to come true: fitted on tuning data, frozen, then applied wherever the model is.

Each result has plain fields only, so it is saved with the model and read back as it was.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from overread.core.errors import checked, require
from overread.stats.arrays import Booleans, Floats, class_numbers, numbers, zero_one
from overread.stats.calibration.reliability import EDGE, logit, not_probabilities, require_probabilities

#: A temperature outside is the sign of classes that the probabilities tell apart completely, or not at all.
TEMPERATURES = (0.01, 100.0)


@dataclass(frozen=True)
class Temperature:
    """Every logit divided by one number: the ranking of the classes stays (Guo et al. 2017)."""

    temperature: float

    @checked
    def apply(self, probability: ArrayLike) -> Floats:
        """(N,) or (N, C) → the same shape. NaN stays NaN."""
        given = np.asarray(probability, np.float64)
        if given.ndim == 1:
            return _expit(logit(given) / self.temperature)
        return _softmax(np.log(np.clip(given, EDGE, 1)) / self.temperature)


@dataclass(frozen=True)
class Platt:
    """A logistic regression on the logit: expit(intercept + slope · logit p)."""

    intercept: float
    slope: float

    @checked
    def apply(self, probability: ArrayLike) -> Floats:
        """(N,) → (N,). NaN stays NaN."""
        return _expit(self.intercept + self.slope * logit(numbers(probability, name="probability")))


@dataclass(frozen=True)
class Isotonic:
    """A rising curve through the points (``x``, ``y``), straight between them and flat beyond."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    @checked
    def apply(self, probability: ArrayLike) -> Floats:
        """(N,) → (N,). NaN stays NaN."""
        given = numbers(probability, name="probability")
        return np.where(np.isnan(given), math.nan, np.interp(given, self.x, self.y))


@dataclass(frozen=True)
class PriorShift:
    """Probabilities learned where classes had shares ``training``, used where they have shares ``deployment``."""

    training: tuple[float, ...]
    deployment: tuple[float, ...]

    def __post_init__(self) -> None:
        require(len(self.training) == len(self.deployment) >= 2, "there must be one share per class, for two or more")
        for name, shares in (("training", self.training), ("deployment", self.deployment)):
            good = all(share >= 0 for share in shares) and math.isclose(sum(shares), 1, abs_tol=1e-6)
            require(good, f"the {name} shares must not be negative, and add up to 1", given=shares)
        require(all(share > 0 for share in self.training), "every class needs a share in training", given=self.training)

    @checked
    def apply(self, probability: ArrayLike) -> Floats:
        """(N,) of the second of two classes, or (N, C) → the same shape (Saerens et al. 2002)."""
        table = _two_columns(given := np.asarray(probability, np.float64))
        require(table.shape[1] == len(self.training), "one column per class", given=table.shape)
        weighed = table * (np.array(self.deployment) / np.array(self.training))
        with np.errstate(invalid="ignore", divide="ignore"):
            shifted = weighed / weighed.sum(axis=1, keepdims=True)
        return shifted[:, 1] if given.ndim == 1 else shifted


@checked
def fit_temperature(truth: ArrayLike, probability: ArrayLike) -> Temperature:
    """The temperature with the highest likelihood on tuning data (Guo et al. 2017, section 4.2).

    ``truth`` (N,) 0/1 with ``probability`` (N,), or class numbers with (N, C). Probabilities are first moved
    10⁻⁶ away from 0 (and 1). Stays within .01 … 100, whose ends are reached where the probabilities tell the
    classes apart completely, or say nothing. Raises :class:`ArgumentError` without cases or probabilities.

    >>> round(fit_temperature([0, 1, 1, 0, 1], [0.01, 0.99, 0.02, 0.01, 0.99]).temperature, 2)
    2.88
    """
    given = np.asarray(probability, np.float64)
    if given.ndim == 1:
        positive, chance = _tuning(truth, given)
        scores, actual = np.column_stack([np.zeros(len(chance)), logit(chance)]), positive.astype(np.int64)
    else:
        good = given.ndim == 2 and np.shape(truth) == (len(given),) and len(given) > 0
        require(good, "probability must have one row per case and one column per class", given=given.shape)
        require_probabilities(given)
        scores, actual = np.log(np.clip(given, EDGE, 1)), class_numbers(truth, given.shape[1])
    own = float(scores[np.arange(len(actual)), actual].mean())

    def too_sharp(sharpness: float) -> bool:  # the likelihood is concave in 1 / temperature
        return float((_softmax(sharpness * scores) * scores).sum(axis=1).mean()) > own

    cold, hot = 1 / TEMPERATURES[0], 1 / TEMPERATURES[1]
    for _ in range(50):
        middle = math.sqrt(cold * hot)
        cold, hot = (middle, hot) if too_sharp(middle) else (cold, middle)
    return Temperature(1 / math.sqrt(cold * hot))


def _tuning(truth: ArrayLike, probability: ArrayLike) -> tuple[Booleans, Floats]:
    positive = zero_one(truth)
    chance = numbers(probability, len(positive), "probability")
    reason = not_probabilities(chance)
    require(not reason, "recalibration needs probabilities of tuning cases", given=reason)
    return positive, chance


@checked
def fit_platt(truth: ArrayLike, probability: ArrayLike) -> Platt:
    """Platt's scaling on the logit of the probability (Platt 1999, with his targets against overfitting).

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1, moved 10⁻⁶ away from 0 and 1. The targets
    (N₊+1)/(N₊+2) and 1/(N₋+2) keep it finite where the classes are told apart, or one is missing; for constant
    probabilities the slope is the least that fits. Raises :class:`ArgumentError` without cases or probabilities.

    >>> fitted = fit_platt([0, 0, 1, 1] * 50, [0.4, 0.4, 0.6, 0.4] * 50)
    >>> fitted.apply([0.4, 0.6]).round(2).tolist()
    [0.34, 0.99]
    """
    positive, chance = _tuning(truth, probability)
    ill, well = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (ill + 1) / (ill + 2), 1 / (well + 2))
    columns = np.column_stack([np.ones(len(chance)), logit(chance)])
    weight = np.zeros(2)
    for _ in range(100):  # Newton; far from the optimum, no leaps
        expected = _expit(columns @ weight)
        hessian = columns.T @ (columns * (expected * (1 - expected))[:, None])
        step = np.linalg.pinv(hessian, hermitian=True) @ (columns.T @ (target - expected))
        step *= min(1.0, 2 / max(float(np.abs(step).max()), 1e-300))
        weight += step
        if np.abs(step).max() < 1e-10:
            break
    return Platt(float(weight[0]), float(weight[1]))


@checked
def fit_isotonic(truth: ArrayLike, probability: ArrayLike) -> Isotonic:
    """The rising step function nearest to the truth (pool adjacent violators; Zadrozny & Elkan 2002).

    ``truth`` (N,) 0/1, ``probability`` (N,) in 0 … 1; equal probabilities get one value. Between the steps it
    is applied as straight lines. Raises :class:`ArgumentError` without cases or probabilities.

    >>> fit_isotonic([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9])
    Isotonic(x=(0.1, 0.2, 0.3, 0.9), y=(0.0, 0.5, 0.5, 1.0))
    """
    positive, chance = _tuning(truth, probability)
    x, which, size = np.unique(chance, return_inverse=True, return_counts=True)
    heights, widths = _pooled(np.bincount(which, positive).tolist(), size.tolist())
    last = np.cumsum(widths) - 1
    first = last - np.array(widths) + 1
    ends = np.unique(np.concatenate((first, last)))  # a step of many x needs its two ends only
    y = np.repeat(heights, widths)
    return Isotonic(tuple(x[ends].tolist()), tuple(y[ends].tolist()))


def _pooled(totals: list[float], sizes: list[float]) -> tuple[list[float], list[int]]:
    """Rising means of runs of neighbours, and how many neighbours are in each: one pass, whatever the data."""
    runs: list[tuple[float, float, int]] = []
    for total, size in zip(totals, sizes):
        run = (total, size, 1)
        while runs and runs[-1][0] * run[1] >= run[0] * runs[-1][1]:  # the run before has no lower mean
            before = runs.pop()
            run = (run[0] + before[0], run[1] + before[1], run[2] + before[2])
        runs.append(run)
    return [total / size for total, size, _ in runs], [width for _, _, width in runs]


@checked
def estimate_prior(probability: ArrayLike, training: ArrayLike, *, rounds: int = 1000) -> PriorShift:
    """The shares of the classes where labels are missing, by EM (Saerens, Latinne & Decaestecker 2002).

    ``probability`` (N,) of the second of two classes, or (N, C), calibrated on tuning data with class shares
    ``training`` (C,) (or the share of the second of two). Assumes that images of a class look alike at both places. At
    most ``rounds`` rounds, until no share moves by 10⁻⁸. Raises :class:`ArgumentError` without cases or probabilities.

    >>> estimate_prior([0.9, 0.8, 0.2, 0.9], 0.5).deployment[1] > 0.5
    True
    """
    table = _two_columns(given := np.asarray(probability, np.float64))
    valid = table.ndim == 2 and len(table) > 0 and bool((np.isfinite(table) & (table >= 0) & (table <= 1)).all())
    require(valid, "there must be cases, with probabilities in 0 … 1", given=given.shape)
    shares = np.asarray(training, np.float64)
    before = np.array([1 - shares, shares]) if shares.ndim == 0 else shares
    now = PriorShift(tuple(before.tolist()), tuple(before.tolist()))
    for _ in range(rounds):
        shifted = now.apply(table)
        after = np.nan_to_num(shifted, nan=1 / len(before)).mean(axis=0)
        moved = float(np.abs(after - now.deployment).max())
        now = PriorShift(now.training, tuple((after / after.sum()).tolist()))
        if moved < 1e-8:
            break
    return now


def _two_columns(probability: Floats) -> Floats:
    """(N,) of the second of two classes → (N, 2); any other shape stays."""
    return np.column_stack([1 - probability, probability]) if probability.ndim == 1 else probability


def _expit(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _softmax(x: Floats) -> Floats:
    raised = np.exp(x - x.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)

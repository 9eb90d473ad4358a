"""How probabilities are mended: steps of plain numbers, fitted on arrays and applied to arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.chance import bits
from overread.errors import UnsoundError, checked
from overread.stats.calibration import EDGE
from overread.stats.recalibration import (
    Isotonic,
    Platt,
    Temperature,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)

#: Folds of the tuning patients, to choose a method.
FOLDS = 5
#: Of more tuning cases some patients are drawn: the losses are then known to the third digit.
ENOUGH_TO_CHOOSE = 50_000

Floats = NDArray[np.float64]
#: What a step is made of, under the names of its fields.
Step = dict[str, list[float]]


@dataclass(frozen=True, eq=False)
class Part:
    """One label or finding: rows with a known truth, class numbers (K,), probabilities (K, C), patients (K,)."""

    rows: NDArray[np.int64]
    truth: NDArray[np.int64]
    chance: Floats
    codes: NDArray[np.int64]


@checked
def fit_steps(part: Part, method: str) -> list[Step]:
    """The steps of one label or finding: none, one for all its classes, or one for each class against the rest."""
    if method in ("none", "prior"):
        return []
    two = part.chance.shape[1] == 2
    if method == "temperature":
        fitted = fit_temperature(part.truth, part.chance[:, 1] if two else part.chance)
        return [{"temperature": [fitted.temperature]}]
    classes = (1,) if two else tuple(range(part.chance.shape[1]))
    return [fit_one(part.truth == k, part.chance[:, k], method) for k in classes]


@checked
def fit_one(truth: NDArray[np.bool_], chance: Floats, method: str) -> Step:
    """Platt's line or an isotonic curve for one class against the rest; ``truth`` and ``chance`` (N,)."""
    if method == "isotonic":
        steps = fit_isotonic(truth, chance)
        return {"x": list(steps.x), "y": list(steps.y)}
    line = fit_platt(truth, chance)
    if line.slope <= 0 and float(np.ptp(chance)) > 0 and truth.any() and not truth.all():
        raise UnsoundError("on the tuning data higher probabilities mean fewer positives: Platt's scaling would turn the score round",
                           given=f"slope {line.slope:.3g}", todo="look at the model first, or use the method temperature")  # fmt: skip
    return {"intercept": [line.intercept], "slope": [max(line.slope, 0.0)]}


@checked
def apply_steps(steps: list[Step], chance: Floats) -> Floats:
    """(N, C) → (N, C)."""
    if not steps:
        return chance
    if "temperature" in steps[0]:
        step = Temperature(steps[0]["temperature"][0])
        if chance.shape[1] == 2:
            return two_columns(step.apply(chance[:, 1]))
        return step.apply(chance)
    if len(steps) == 1:
        return two_columns(mapped(steps[0]).apply(chance[:, 1]))
    each = np.column_stack([mapped(step).apply(chance[:, k]) for k, step in enumerate(steps)])
    total = each.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, each / total, np.where(np.isnan(total), np.nan, chance))


@checked
def mapped(step: Step) -> Platt | Isotonic:
    """The curve that a step of one class holds."""
    if "slope" in step:
        return Platt(step["intercept"][0], step["slope"][0])
    return Isotonic(tuple(step["x"]), tuple(step["y"]))


@checked
def two_columns(present: Floats) -> Floats:
    """(N,) the chance of yes → (N, 2), no and yes."""
    return np.column_stack([1 - present, present])


@checked
def choose_method(parts: dict[str, Part], seed: int) -> tuple[str, str]:
    """The method with the lowest cross-fitted log loss, the simplest of equals; and the choice in a sentence."""
    losses: dict[str, float] = {}
    tried = [_thinned(part, seed) for part in parts.values()]
    for method in ("none", "temperature", "platt"):
        try:
            losses[method] = float(np.mean([_cross_fitted(part, method, seed) for part in tried]))
        except UnsoundError:
            continue
    best = min(losses, key=lambda method: losses[method])
    told = ", ".join(f"{method} {loss:.4f}" for method, loss in losses.items())
    return best, f"chosen for its log loss on tuning patients left out of the fit ({FOLDS} folds): {told}"


def _thinned(part: Part, seed: int) -> Part:
    """The images of so many patients, drawn at random, as there are cases enough to choose a method on."""
    if len(part.rows) <= ENOUGH_TO_CHOOSE:
        return part
    people = int(part.codes.max()) + 1
    place = np.argsort(np.argsort(bits(seed, 0, np.arange(people), "thinned"), kind="stable"))
    keep = place[part.codes] < max(1, people * ENOUGH_TO_CHOOSE // len(part.rows))
    codes = np.unique(part.codes[keep], return_inverse=True)[1].astype(np.int64)
    return Part(part.rows[keep], part.truth[keep], part.chance[keep], codes)


def _cross_fitted(part: Part, method: str, seed: int) -> float:
    """The log loss of every tuning case by a fit without its patient."""
    people = int(part.codes.max()) + 1
    order = np.argsort(bits(seed, 0, np.arange(people), "folds"), kind="stable")
    fold = np.empty(people, np.int64)
    fold[order] = np.arange(people) % FOLDS
    made = part.chance.copy()
    for k in range(FOLDS if method != "none" else 0):
        out = fold[part.codes] == k
        rest = Part(part.rows[~out], part.truth[~out], part.chance[~out], part.codes[~out])
        if out.any() and len(rest.rows):
            made[out] = apply_steps(fit_steps(rest, method), part.chance[out])
    return float(log_loss(part.truth, made).mean())


@checked
def log_loss(truth: NDArray[np.int64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) −log of the probability of the true class, moved 10⁻⁶ away from 0. ``truth`` (N,), ``chance`` (N, C).

    >>> log_loss(np.array([1]), np.array([[0.5, 0.5]])).round(3).tolist()
    [0.693]
    """
    own = chance[np.arange(len(truth)), truth]
    return np.asarray(-np.log(np.clip(own, EDGE, 1.0)))

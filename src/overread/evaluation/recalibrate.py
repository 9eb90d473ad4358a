"""Probabilities mended on tuning data, frozen, then applied: to patients that the mending has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from overread.core.display import Shown
from overread.core.errors import InputError, UnsoundError, checked, nearest, one_of, require
from overread.core.files import build, read_json, write_json
from overread.core.identifiers import marks
from overread.core.phrases import count
from overread.core.random import bits
from overread.evaluation.operating_point import positives, refuse_seen, refuse_training
from overread.predictions import Predictions
from overread.stats.arrays import patient_codes
from overread.stats.calibration.recalibration import (
    Isotonic,
    Platt,
    PriorShift,
    Temperature,
    estimate_prior,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from overread.stats.calibration.reliability import EDGE, not_probabilities
from overread.tasks.target import Kind, Target

METHODS = ("auto", "none", "temperature", "platt", "isotonic", "prior")
#: Below this, isotonic regression learns the tuning cases by heart (Niculescu-Mizil & Caruana 2005, section 5).
ENOUGH = 1000
#: With fewer tuning patients of a class than this, what is fitted is told to be uncertain.
FEW = 20


@dataclass(frozen=True)
class Recalibration(Shown):
    """How probabilities are to be changed, and whose images it was learned from.

    ``steps``: per finding (``""`` for one label) the fields of :class:`Temperature` and so on, one list for each class
    that is mended apart. ``shift``: per finding the shares of the classes in tuning data and in the clinic, where the
    prior is shifted. ``why``: how the method was chosen. ``seen``: salted hashes of the tuning patients.
    """

    method: str
    kind: str
    names: tuple[str, ...]
    positive: tuple[str, ...]
    steps: dict[str, list[Step]] = field(default_factory=dict, hash=False)
    shift: dict[str, Step] = field(default_factory=dict, hash=False)
    why: str = ""
    fitted_on: str = ""
    seen: tuple[str, ...] = ()
    salt: str = ""

    @property
    def target(self) -> Target:
        """What the probabilities answer."""
        return Target(cast(Kind, self.kind), self.names, self.positive)

    def __str__(self) -> str:
        return f"{self.method}, fitted on {self.fitted_on}" + (f": {self.why}" if self.why else "")

    def save(self, path: str | Path) -> Path:
        """Write as JSON."""
        return write_json(path, self)

    @classmethod
    def load(cls, path: str | Path) -> Recalibration:
        """Read what :meth:`save` wrote. Raises :class:`InputError` if it is missing or damaged."""
        return build(cls, read_json(path), where=Path(path).name)


@checked
def fit_recalibration(
    tuning: Predictions,
    *,
    method: str = "temperature",
    prevalence: float | Mapping[str, float] | None = None,
    unlabelled: Predictions | None = None,
    seed: int = 0,
) -> Recalibration:
    """Learn on tuning predictions how to make probabilities come true; it remembers (hashed) the patients.

    ``method``: "temperature" (Guo et al. 2017), "platt", "isotonic" (from 1,000 cases on: with fewer it learns the
    cases by heart), "none", or "auto": the lowest log loss of none, temperature and Platt, each fitted on four fifths
    of the patients and tried on the others. "prior" changes nothing but the prevalence. ``prevalence`` of the clinic
    shifts the probabilities after any method (Saerens et al. 2002): the share of the positive classes, or of each
    finding by name. ``unlabelled``: predictions of the clinic to estimate it from (by EM), without their labels.
    Several classes are mended by one temperature, or each against the rest and brought to a sum of 1 (Zadrozny &
    Elkan 2002). Raises :class:`InputError` for scores that are no probabilities, :class:`UnsoundError` for tuning
    data without both answers, or too few for the method.
    """
    one_of(method, METHODS, "method")
    require(not tuning.target.task.continuous, "a quantity has no probabilities", given=tuning.target.names[0])
    clinic = [given for given in (prevalence, unlabelled) if given is not None]
    require(len(clinic) < 2, "give a prevalence or unlabelled predictions, not both", given=prevalence)
    todo = "give prevalence=…, or unlabelled=predictions to estimate it from"
    require(method != "prior" or bool(clinic), "a prior shift needs the prevalence of the clinic", todo=todo)
    parts = {of: part_of(tuning, of) for of in tuning.target.task.separate_names}
    parts = {of: part for of, part in parts.items() if not tuning.target.task.multilabel or _both(part)}
    if not parts:
        raise UnsoundError("no finding has both answers in the tuning data", given=str(tuning))
    for part in parts.values():
        _require_sound(part, method)
    chosen, why = choose_method(parts, seed) if method == "auto" else (method, "")
    why = "; ".join(said for said in (why, _few(parts)) if said)
    steps = {of: fit_steps(part, chosen) for of, part in parts.items()}
    patients = sorted({str(p) for part in parts.values() for p in tuning.patients[part.rows]})
    salt = tuning.digest
    fitted_on = f"{count(sum(len(p.rows) for p in parts.values()), 'answer')} of {count(len(patients), 'patient')}, predictions {salt}"
    target, seen = tuning.target, marks(patients, salt)
    positive = positives(tuning, None, None) if target.task.binary else target.positive
    held = Recalibration(chosen, target.kind, target.names, positive, steps, {}, why, fitted_on, seen, salt)
    return replace(held, shift=_shifts(held, parts, prevalence, unlabelled))


@checked
def recalibrate(predictions: Predictions, recalibration: Recalibration, *, tuning: bool = False) -> Predictions:
    """The same predictions with mended probabilities; those that are not finite stay as they are.

    ``tuning``: these are the tuning predictions, mended to choose a threshold on. Otherwise patients that the
    recalibration was fitted on are refused where their truth is known (:class:`UnsoundError`): to judge on them would
    flatter. Raises :class:`InputError` for predictions with other classes, or scores that are no probabilities.
    """
    target = predictions.target
    if not target.asks_as(recalibration.target):
        raise InputError("the recalibration was fitted on other classes",
                         given=f"{', '.join(recalibration.names)}; here {', '.join(target.names)}",
                         todo="give tuning and test predictions of one model")  # fmt: skip
    if not tuning:
        judged = predictions.take(predictions.known)
        refuse_training(judged)
        refuse_seen(judged, recalibration.seen, recalibration.salt, "to recalibrate the probabilities")
    table = predictions.table.copy()
    for of in (of for of, steps in recalibration.steps.items() if steps or of in recalibration.shift):
        columns = [f"p:{name}" for name in ([of] if of else target.names)]
        table[columns] = _apply(recalibration, of, chances(predictions, of), str(predictions))
    return replace(predictions, table=table)


@checked
def chances(predictions: Predictions, of: str) -> Floats:
    """(N, C) for a label; (N, 2), absent and present, for a finding or a binary label."""
    if not of and predictions.target.task.multiclass:
        return predictions.scores
    column = predictions.target.names.index(of or positives(predictions, None, None)[0])
    present = predictions.scores[:, column]
    return np.column_stack([1 - present, present])


@checked
def part_of(tuning: Predictions, of: str) -> Part:
    """The rows of a label or finding whose truth is known."""
    truth, chance = tuning.truth, chances(tuning, of)
    if of:
        truth = truth[:, tuning.target.names.index(of)]
        rows = np.flatnonzero(~np.isnan(truth))
        actual = truth[rows].astype(np.int64)
    else:
        rows = np.flatnonzero(truth >= 0)
        actual = truth[rows]
        if tuning.target.task.binary:
            actual = (actual == tuning.target.names.index(positives(tuning, None, None)[0])).astype(np.int64)
    return Part(rows, actual, chance[rows], patient_codes(tuning.patients[rows], len(rows)))


def _both(part: Part) -> bool:
    return len(np.unique(part.truth)) > 1


def _few(parts: dict[str, Part]) -> str:
    """What is said of a fit on few patients; empty where there are enough of every class."""
    fewest = min(len(np.unique(part.codes[part.truth == k])) for part in parts.values() for k in np.unique(part.truth))
    if fewest >= FEW:
        return ""
    return f"the rarest class has {fewest} patient{'s' if fewest > 1 else ''} in the tuning data: with fewer than {FEW} a fit follows chance"


def _require_sound(part: Part, method: str) -> None:
    why = not_probabilities(part.chance.ravel())
    if why:
        raise InputError("recalibration needs probabilities in 0 … 1", given=why, todo="mend the tuning predictions")
    if not _both(part):
        raise UnsoundError("recalibration needs tuning cases of at least two classes", given=f"{count(len(part.truth), 'case')}",
                           todo="give the tuning part more patients")  # fmt: skip
    if method == "isotonic" and len(part.truth) < ENOUGH:
        raise UnsoundError(f"isotonic regression needs {ENOUGH:,} tuning cases: with fewer it learns them by heart",
                           given=f"{count(len(part.truth), 'case')}", todo="use the method temperature or platt")  # fmt: skip


def _apply(held: Recalibration, of: str, chance: Floats, where: str) -> Floats:
    """(N, columns of the table) the mended probabilities."""
    outside = int(((chance < 0) | (chance > 1)).any(axis=1).sum())
    if outside:
        raise InputError("recalibration needs probabilities in 0 … 1", given=f"{outside:,} of the {where} are not")
    made = apply_steps(held.steps[of], np.where(np.isinf(chance), np.nan, chance))
    if of in held.shift:
        shifted = PriorShift(*(tuple(held.shift[of][k]) for k in ("training", "deployment"))).apply(made)
        made = np.where(np.isnan(shifted), made, shifted)  # a class that is sure, of which the clinic has none
    made = np.clip(made, 0, 1)
    if of:
        return made[:, 1:]
    turned = held.target.task.binary and held.positive[0] == held.names[0]
    return made[:, ::-1] if turned else made


# -- the prior ----------------------------------------------------------------------------------------


def _shifts(
    held: Recalibration,
    parts: dict[str, Part],
    prevalence: float | Mapping[str, float] | None,
    unlabelled: Predictions | None,
) -> dict[str, Step]:
    if prevalence is None and unlabelled is None:
        return {}
    if unlabelled is not None and not unlabelled.target.asks_as(held.target):
        raise InputError("the unlabelled predictions have other classes", given=", ".join(unlabelled.target.names))
    wanted = _wanted(held, prevalence)
    found = {}
    for of, part in parts.items():
        training = np.bincount(part.truth, minlength=part.chance.shape[1]) / len(part.truth)
        if not (training > 0).all():
            raise UnsoundError("a prior shift needs every class in the tuning data",
                               given=f"{int((training == 0).sum())} classes without a case")  # fmt: skip
        if unlabelled is not None:
            deployment = _estimated(held, of, unlabelled, training)
        elif of in wanted:
            deployment = _at_prevalence(training, wanted[of], _positions(held))
        else:
            continue
        found[of] = {"training": training.tolist(), "deployment": deployment.tolist()}
    return found


def _wanted(held: Recalibration, prevalence: float | Mapping[str, float] | None) -> dict[str, float]:
    """The prevalence by finding; under ``""`` for one label."""
    if prevalence is None:
        return {}
    if isinstance(prevalence, Mapping):
        require(held.target.task.multilabel, "a prevalence by name is for findings", given=", ".join(prevalence),
                todo="give one number, such as .05")  # fmt: skip
        for name in prevalence:
            require(name in held.steps, f"there is no finding {name!r} to shift", todo=nearest(name, held.steps))
        wanted = dict(prevalence)
    else:
        require(not held.target.task.multilabel or len(held.steps) == 1, "each finding has a prevalence of its own",
                given=prevalence, todo="give it by name: prevalence={'effusion': 0.1, …}")  # fmt: skip
        wanted = {next(iter(held.steps)): float(prevalence)}
    good = all(0 < share < 1 for share in wanted.values())
    require(good, "prevalence must lie between 0 and 1", given=", ".join(f"{share:g}" for share in wanted.values()))
    return wanted


def _positions(held: Recalibration) -> list[int]:
    if not held.target.task.multiclass:
        return [1]
    require(len(held.positive) > 0, "a prevalence needs positive classes", given=", ".join(held.names),
            todo="say which classes count as disease: positive=…")  # fmt: skip
    return [held.names.index(name) for name in held.positive]


def _at_prevalence(training: Floats, share: float, positive: list[int]) -> Floats:
    """The shares of the classes when the positive ones together have ``share``, each group's inner mix unchanged."""
    ill = np.isin(np.arange(len(training)), positive)
    require(not ill.all(), "a prevalence needs a class that is not positive")
    return np.where(ill, training / training[ill].sum() * share, training / training[~ill].sum() * (1 - share))


def _estimated(held: Recalibration, of: str, unlabelled: Predictions, training: Floats) -> Floats:
    given = apply_steps(held.steps[of], chances(unlabelled, of))
    good = np.isfinite(given).all(axis=1)
    if not good.any() or not ((given[good] >= 0) & (given[good] <= 1)).all():
        raise InputError("the prevalence cannot be estimated from these predictions", given=str(unlabelled),
                         todo="give probabilities in 0 … 1")  # fmt: skip
    return np.array(estimate_prior(given[good], training).deployment)


# -- how probabilities are mended: steps of plain numbers, fitted on arrays and applied to arrays -----------------


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

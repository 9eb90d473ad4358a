"""The ladder: ways to learn from the cheapest up, climbed as far as the time goes; it never ends below a rung that held.

Rungs: classical descriptors; frozen features of every network at hand under a linear head; one network trained or
fine-tuned; the same as folds of patients whose networks answer together; an ensemble of all these. Each is judged on the
same cases, which none of its networks has seen: the tuning part, or, where folds are trained, all of training and tuning.
A rung is kept where its gain is larger than one standard error of the paired difference by patient; else the ladder
stays where it stood, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.split import folds as folds_of
from overread.core.errors import OverreadError, checked
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.learning.device import layout
from overread.learning.ensemble import choose_members, loss_of, rescale, shared_preprocess, temperature_of
from overread.learning.fit import fit
from overread.learning.loader import TrainingData, samples_of
from overread.learning.model import Decision, Model, Rung
from overread.learning.predict import outputs_of, pixels_of
from overread.learning.recipe import Recipe
from overread.stats.resample import draws
from overread.tasks.task import Task

#: Resamples of patients for the interval of a gain, and its level.
RESAMPLES, LEVEL = 200, 0.95
_BATCH = 64


@dataclass(frozen=True)
class Candidate:
    """One way to learn that is to be tried: its recipe without open fields, and the file of its initial weights."""

    name: str
    recipe: Recipe
    weights: str = ""


@dataclass(frozen=True, eq=False)
class Climb:
    """Where the ladder ended: the ``model``, and, where it is made of folds, its outputs ``held_out`` (n, K) for the
    ``rows`` (n,) of training and tuning, each by networks that have not seen the patient, in which ``fold`` (N,)."""

    model: Model
    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    held_out: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class _Stand:
    """Models that answer together, each by its share, their outputs (n, K) on the cases that judge, and how these were
    calibrated."""

    models: tuple[Model, ...]
    shares: tuple[float, ...]
    outputs: NDArray[np.float64]
    calibration: tuple[Decision, ...] = ()


@checked
def climb(
    candidates: Sequence[Candidate],
    data_of: Callable[[Recipe], TrainingData],
    *,
    folds: int = 1,
    decisions: Sequence[Decision] = (),
    network: nn.Module | None = None,
    folder: Path | None = None,
    cache: Path | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    device: str = "cpu",
    threads: int = 0,
    prepare: Callable[[Recipe], None] = lambda recipe: None,
    passing: Callable[[Recipe], float] = lambda recipe: 0.0,
    predicted: int = 0,
    progress: Progress = silent,
    say: Say = unheard,
) -> Climb:
    """Fit each candidate, judge it, keep the best or an ensemble of all, and calibrate what it says.

    ``data_of`` gives the images of a recipe, decoded; their rows are the same for every recipe. ``folds``: 1 trains on
    the training rows and judges on the tuning rows; k ≥ 2 trains k networks of each candidate on both, each without one
    fold of the patients, and judges each case by those that have not seen it. ``network``: one's own, as in :func:`fit`. ``clock``, ``reserve``, ``folder`` and
    ``cache`` as in :func:`fit`; ``prepare`` hears of each fit before it begins. ``predicted``: how many images
    the model will be asked about afterwards, each for ``passing(recipe)`` seconds, which are kept as well; called again with the same ``folder`` it goes on where it was stopped.
    """
    clock = clock or Clock()
    jury, stands, rungs = None, [], []
    best = -1
    for i, candidate in enumerate(candidates):
        began = clock.elapsed
        data = data_of(candidate.recipe)
        jury = jury or Jury.of(data, folds, candidate.recipe.seed)
        hold = reserve + predicted * folds * sum(passing(each.recipe) for each in candidates[: i + 1])
        hold += _kept_for(candidates[i + 1 :], clock.left - hold)
        try:
            stand = _stand(candidate, data, jury, folder / candidate.name.replace(" ", "-") if folder and len(candidates) * folds > 1 else folder,
                           network=network, cache=cache, clock=clock, reserve=hold, device=device, threads=threads, prepare=prepare, progress=progress, say=say)  # fmt: skip
        except OverreadError as error:
            if best < 0 and i == len(candidates) - 1:
                raise
            say(f"  {candidate.name}: left out — {error}")
            continue
        stands.append(stand)
        rung = jury.compare(
            candidate.name,
            _described(candidate, folds),
            stand.outputs,
            stands[best].outputs if best >= 0 else None,
            began,
            clock,
        )
        best = len(stands) - 1 if rung.taken else best
        rungs.append(rung)
        if len(candidates) > 1 or folds > 1:
            say(rung.line)
    assert jury is not None
    stand = stands[best]
    near = [i for i, each in enumerate(stands) if _shareable(each, stand)]
    if len(near) > 1:
        began = clock.elapsed
        shares = choose_members([stands[i].outputs for i in near], jury.task, jury.labels, near.index(best))
        together = _together([stands[i] for i in near], shares)
        if together is not None:
            named = [(rungs[i].name, share) for i, share in zip(near, shares, strict=True) if share]
            what = ", ".join(f"{name} {share:.0%}" for name, share in named)
            rung = jury.compare("ensemble", what, together.outputs, stand.outputs, began, clock)
            rungs.append(rung)
            say(rung.line)
            stand = together if rung.taken else stand
    told = [Decision("ladder", rungs[-1].name if rungs[-1].taken else next(r.name for r in reversed(rungs) if r.taken),
                     "; ".join(f"{r.name} {r.score:.3f}" for r in rungs))] if len(rungs) > 1 else []  # fmt: skip
    model, outputs, calibrated = _calibrated(stand, jury, decisions, told)
    for decision in (*told, *calibrated):
        say(decision.line)
    return Climb(
        replace(model, rungs=tuple(rungs) if len(rungs) > 1 else ()),
        jury.rows,
        jury.fold,
        outputs if folds > 1 else None,
    )


def _kept_for(later: Sequence[Candidate], left: float) -> float:
    """The seconds of those left that are kept for later candidates: a frozen network needs little."""
    if not later or not np.isfinite(left) or left <= 0:
        return 0.0
    return left * min(0.9, sum(0.02 if each.recipe.method == "features" else 0.8 for each in later))


def _described(candidate: Candidate, folds: int) -> str:
    recipe = candidate.recipe
    names = ", ".join(recipe.descriptors) if not recipe.backbone else recipe.backbone
    return f"{names}, {recipe.method}, {recipe.image_size} pixels" + (f", {folds} folds" if folds > 1 else "")


# -- fitting ---------------------------------------------------------------------------------------------------------


def _stand(
    candidate: Candidate, data: TrainingData, jury: Jury, folder: Path | None, *, network: nn.Module | None, cache: Path | None, clock: Clock, reserve: float, device: str,
    threads: int, prepare: Callable[[Recipe], None], progress: Progress, say: Say,
) -> _Stand:  # fmt: skip
    """Fit a candidate: one model, or one a fold; and calibrate it on the cases that judge."""
    recipe, weights, task = candidate.recipe, candidate.weights or None, jury.task
    models: list[Model] = []
    outputs = np.zeros((len(jury.rows), task.outputs))
    for k in range(jury.folds):
        part = (
            data
            if jury.folds == 1
            else data.on(*(np.flatnonzero(rows) for rows in ((jury.fold >= 0) & (jury.fold != k), jury.fold == k)))
        )
        left = clock.left - reserve  # of what is left for this candidate, each fold gets as much as those after it
        hold = reserve + left * (1 - 1 / (jury.folds - k)) if np.isfinite(left) and left > 0 else reserve
        heard = progress if jury.folds == 1 else _named(progress, f"fold {k + 1} of {jury.folds}: ")
        changed = recipe if jury.folds == 1 else recipe.changed(seed=recipe.seed + k, snapshot="last")
        prepare(changed)
        model = fit(part, changed, weights=weights, network=network, folder=folder / f"fold-{k + 1}" if folder and jury.folds > 1 else folder, cache=cache,
                    clock=clock, reserve=hold, device=device, threads=threads, progress=heard, say=say if k == 0 else unheard)  # fmt: skip
        model = _on_the_scale(model, jury.scale)
        mine = jury.fold[jury.rows] == k
        outputs[mine] = outputs_on(model, data, jury.rows[mine], device=device, progress=heard)
        models.append(model)
    shift = jury.task.prior_shift(
        data.cases.labels[np.concatenate([data.training, data.tuning])], recipe.balance, recipe.sampling
    )
    made, calibration = _rescaled(tuple(models), outputs, jury, np.asarray(shift))
    return _Stand(tuple(models), (1 / len(models),) * len(models), made, calibration)


def _named(progress: Progress, name: str) -> Progress:
    return lambda what, done, total: progress(f"{name}{what}", done, total)


def _on_the_scale(model: Model, scale: tuple[float, float]) -> Model:
    """A quantity, which each fold standardises by its own training cases, on the scale of the cases that judge."""
    (mean, deviation), (own_mean, own_deviation) = scale, model.about.scale
    if (mean, deviation) == (own_mean, own_deviation):
        return model
    shift = np.full(model.target.outputs, (own_mean - mean) / deviation)
    rescale(model.network, deviation / own_deviation, shift)
    return replace(model, about=replace(model.about, scale=scale))


@checked
def outputs_on(
    model: Model, data: TrainingData, rows: NDArray[np.int64], *, device: str = "cpu", progress: Progress = silent
) -> NDArray[np.float64]:
    """The outputs (n, K) of a model on rows of decoded images, over its orientations; on the cases that they belong to,
    where it sees the images of a case together."""
    network, about = layout(model.network, device).eval(), model.about
    samples = samples_of(data, about.recipe)
    which, back, each = rows, np.arange(len(rows)), _BATCH
    if samples.cases is not None:
        owner = np.full(len(data.cases), -1)
        owner[samples.cases[samples.cases >= 0]] = np.nonzero(samples.cases >= 0)[0]
        which, back = np.unique(owner[rows], return_inverse=True)
        each = max(1, _BATCH // samples.cases.shape[1])
    found = []
    for start in range(0, len(which), each):
        x = pixels_of(
            data.images, which[start : start + each], about.preprocess, model.mean_image, device, samples.cases
        )
        found.append(outputs_of(network, x, about.recipe.views, device).cpu())
        progress("judging", min(start + each, len(which)), len(which))
    network.to("cpu")
    return torch.cat(found).double().numpy()[back]


def _shareable(one: _Stand, other: _Stand) -> bool:
    """Whether the images of two can be made of one another, so that they can answer together."""
    abouts = [model.about for model in (*one.models, *other.models)]
    try:
        shared_preprocess([about.preprocess for about in abouts])
    except OverreadError:
        return False
    return len({(about.recipe.fusion, about.views) for about in abouts}) == 1


def _together(stands: Sequence[_Stand], shares: Sequence[float]) -> _Stand | None:
    """The ensemble of several; None where one alone was chosen."""
    held = [(stand, share) for stand, share in zip(stands, shares, strict=True) if share > 0]
    if len(held) < 2:
        return None
    models = tuple(model for stand, _ in held for model in stand.models)
    each = tuple(own * share for stand, share in held for own in stand.shares)
    outputs = np.sum([share * stand.outputs for stand, share in held], axis=0)
    return _Stand(models, each, outputs)


def _calibrated(
    stand: _Stand, jury: Jury, decisions: Sequence[Decision], told: Sequence[Decision]
) -> tuple[Model, NDArray[np.float64], tuple[Decision, ...]]:
    """The model of a stand, its outputs, and what was decided."""
    outputs, made = stand.outputs, stand.calibration
    if not made:  # of an ensemble, whose members were calibrated each for itself
        outputs, made = _rescaled(stand.models, stand.outputs, jury, np.zeros(jury.task.outputs))
    first = max(zip(stand.shares, stand.models, strict=True), key=lambda each: each[0])[1]
    own = [d for d in first.about.decisions if d not in decisions]
    seen = replace(first.about, decisions=(*decisions, *own, *told, *made))
    return Model.of_members(stand.models, stand.shares, seen), outputs, made


def _rescaled(
    models: tuple[Model, ...], outputs: NDArray[np.float64], jury: Jury, shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[Decision, ...]]:
    """Calibrate models in place: undo the weights of the classes, then one temperature, by the cases that judge."""
    if jury.task.continuous:
        return outputs, ()
    temperature = temperature_of(jury.task, outputs, jury.labels, shift)
    if temperature == 1 and not shift.any():
        return outputs, ()
    try:
        for model in models:
            rescale(model.network, temperature, shift)
    except OverreadError as error:
        return outputs, (Decision("calibration", "none", str(error)),)
    made = outputs / temperature + shift
    before, after = (loss_of(jury.task, each, jury.labels) for each in (outputs, made))
    undone = "the weights of the classes are undone; " if shift.any() else ""
    why = f"{undone}the loss of its probabilities on {jury.words} went from {before:.3f} to {after:.3f}"
    return made, (Decision("calibration", f"temperature {temperature:.2f}", why),)


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Jury:
    """The cases by which rungs are compared: ``rows`` of the data (n,), their ``labels`` on ``scale``, patients as numbers, and
    the ``fold`` (N,) of every row, −1 for those that only teach."""

    task: Task
    rows: NDArray[np.int64]
    labels: NDArray[Any]
    patients: NDArray[np.int64]
    fold: NDArray[np.int64]
    folds: int
    seed: int
    scale: tuple[float, float]

    @classmethod
    def of(cls, data: TrainingData, folds: int, seed: int) -> Jury:
        """The tuning rows; with folds all rows, dealt by patient, equal images kept together."""
        cases, task = data.cases, data.cases.target.task
        fold = np.full(len(cases), -1)
        if folds > 1:
            rows = np.union1d(data.training, data.tuning)
            fold = folds_of(cases, k=folds, seed=seed, rows=rows, pairs=_same_images(data))
        else:
            fold[data.tuning] = 0
        rows = np.flatnonzero(fold >= 0)
        scale = task.label_scale(cases.labels[data.training])
        labels = np.asarray(task.scaled(cases.labels, scale))[rows]
        patients = np.unique(cases.table["patient"].to_numpy(str)[rows], return_inverse=True)[1]
        return cls(task, rows, labels, patients, fold, folds, seed, scale)

    @property
    def words(self) -> str:
        """The cases in words."""
        how = f"{self.folds} folds of training and tuning" if self.folds > 1 else "the tuning part"
        return f"{count(len(self.rows), 'image')} of {how}"

    def score(self, outputs: NDArray[np.float64]) -> float:
        """The snapshot score of outputs (n, K)."""
        return self.task.snapshot_score(outputs, self.labels, loss_of(self.task, outputs, self.labels))

    def compare(
        self,
        name: str,
        what: str,
        new: NDArray[np.float64],
        old: NDArray[np.float64] | None,
        began: float,
        clock: Clock,
    ) -> Rung:
        """A rung with its score, and its gain over ``old``; kept where that is more than one standard error."""
        value, before = self.score(new), self.score(old) if old is not None else np.nan
        many = self._resampled(new, old)
        (low, high), (gain_low, gain_high) = (np.quantile(each, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) for each in many)
        gain, noise = value - before, float(many[1].std())
        taken = old is None or gain > noise
        why = "the first rung" if old is None else f"{gain:+.3f} ({gain_low:+.3f} to {gain_high:+.3f}) against the best before, {'more' if taken else 'not more'} than its standard error {noise:.3f}"  # fmt: skip
        return Rung(name, what, round(began, 1), round(clock.elapsed - began, 1), value, float(low), float(high), float(gain), float(gain_low),
                    float(gain_high), bool(taken), why, self.words)  # fmt: skip

    def _resampled(self, new: NDArray[np.float64], old: NDArray[np.float64] | None) -> NDArray[np.float64]:
        """(2, R): the score of ``new``, and its difference from ``old``, in resamples of the patients."""
        order = np.argsort(self.patients, kind="stable")
        starts = np.searchsorted(self.patients[order], np.arange(self.patients.max() + 2))
        found: list[tuple[float, float]] = []
        for weights in draws(int(self.patients.max()) + 1, RESAMPLES, self.seed):
            for row in np.atleast_2d(weights):
                who = np.repeat(np.arange(len(row)), row.astype(int))
                rows = np.concatenate([order[starts[p] : starts[p + 1]] for p in who])
                labels = self.labels[rows]
                if self.task.distinct(labels) < 2 and not self.task.continuous:
                    continue
                scores = [self.task.snapshot_score(each[rows], labels, loss_of(self.task, each[rows], labels)) if each is not None else np.nan
                          for each in (new, old)]  # fmt: skip
                found.append((scores[0], scores[0] - scores[1]))
        return np.array(found or [(np.nan, np.nan)]).T


def _same_images(data: TrainingData) -> list[tuple[str, str, str]]:
    """Pairs of cases with an image of the same bytes."""
    names, digests = data.cases.table["case"].tolist(), data.digests
    first: dict[str, str] = {}
    pairs = []
    for case, digest in zip(names, digests, strict=True):
        other = first.setdefault(digest, case)
        if other != case:
            pairs.append((other, case, "exact"))
    return pairs

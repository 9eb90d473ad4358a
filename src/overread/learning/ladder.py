"""The ladder: ways to learn from the cheapest up, climbed as far as the time goes; it never ends below a rung that held.

Rungs: classical descriptors; frozen features of every network at hand under a linear head; one network trained or
fine-tuned; the same as folds of patients whose networks answer together; an ensemble of all these. Each is judged on the
same cases, which none of its networks has seen: the tuning part, or, where folds are trained, all of training and tuning
that come from where the tuning part does; and on some of them again, their images slightly changed, for those to come will
not lie and be exposed just like these.
A rung is kept where its gain is larger than one standard error of the paired difference by patient, and than what anybody
would notice; else the ladder stays where it stood, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.split import folds as folds_of
from overread.core import random
from overread.core.errors import OverreadError, checked
from overread.core.phrases import count
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.evaluation.comparison.opinion_pool import greedy_shares
from overread.images.augment import Augmentation, apply, draw
from overread.learning.device import layout
from overread.learning.ensemble import calibration_of, mean_loss, rescale, shared_preprocess
from overread.learning.fit import fit
from overread.learning.linear_probe import feature_key, kept_features
from overread.learning.loader import TrainingData, samples_of
from overread.learning.model import Decision, Model, Rung
from overread.learning.predict import outputs_of, pixels_of
from overread.learning.recipe import Recipe
from overread.stats.resample import draws
from overread.tasks.task import Task

#: Resamples of patients for the interval of a gain, fewer from so many cases on, and its level.
RESAMPLES, MANY_CASES, LEVEL = 200, 20_000, 0.95
#: A gain below this is not worth a dearer model, however sure it is: near an AUC of 1 standard errors are smaller still.
LEAST_GAIN = 0.002
#: How images are changed on which rungs are judged again, half as far as a network of radiographs is trained under, and of
#: how many cases at most. Descriptors told a pneumonia as well as a network did, until the images were tilted.
SLIGHT = Augmentation(rotate=7.5, scale=(0.93, 1.08), shift=0.05, brightness=0.05, contrast=0.15)
CHANGED = 500
_BATCH = 64


@dataclass(frozen=True)
class Candidate:
    """One way to learn that is to be tried: its recipe without open fields, and the file of its initial weights."""

    name: str
    recipe: Recipe
    weights: str = ""


@dataclass(frozen=True, eq=False)
class Means:
    """With what a ladder is climbed, and who hears of it.

    ``folder``: for checkpoints; with the same one a ladder goes on where it was stopped. ``network``: one's own,
    ``cache``, ``clock``, ``reserve``, ``most_epochs``, ``device`` and ``threads`` as in :func:`overread.learning.fit.fit`. ``prepare``
    hears of each fit before it begins, and again where the machine has become quicker or slower. ``predicted``: how
    many images the model will be asked about afterwards, each for ``passing(recipe)`` seconds, which are kept besides
    the ``reserve``.
    """

    folder: Path | None = None
    cache: Path | None = None
    clock: Clock = field(default_factory=Clock)
    reserve: float = 0.0
    most_epochs: int = 0
    device: str = "cpu"
    threads: int = 0
    network: nn.Module | None = None
    prepare: Callable[[Recipe], None] = lambda recipe: None
    passing: Callable[[Recipe], float] = lambda recipe: 0.0
    predicted: int = 0
    progress: Progress = silent
    say: Say = unheard


@dataclass(frozen=True, eq=False)
class Climb:
    """Where a ladder ended: the ``model``, who judged it, and its ``outputs`` (n, K) for the cases of the jury."""

    model: Model
    jury: Jury
    outputs: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Stand:
    """Models that answer together, each by its share, their outputs (n + m, K) on the cases of the jury and on the m that
    are changed, and how these were calibrated."""

    name: str
    what: str
    models: tuple[Model, ...]
    shares: tuple[float, ...]
    outputs: NDArray[np.float64]
    calibration: tuple[Decision, ...] = ()


@checked
def climb(
    candidates: Sequence[Candidate],
    data_of: Callable[[Recipe], TrainingData],
    means: Means,
    *,
    folds: int = 1,
    decisions: Sequence[Decision] = (),
    pairs: Sequence[tuple[str, str, str]] = (),
) -> Climb:
    """Fit each candidate, judge it, keep the best or an ensemble of all, and calibrate what it says.

    ``data_of`` gives the images of a recipe, decoded; their rows are the same for every recipe. ``folds``: 1 trains on
    the training rows and judges on the tuning rows; k ≥ 2 trains k networks of each candidate on both, each without one
    fold of the patients, and judges each case by those that have not seen it. ``decisions`` are kept in the model;
    ``pairs``: cases that are alike, as :func:`overread.cases.split.folds` takes them. Raises what :func:`fit` does of the
    last candidate, where none could be fitted, and :class:`UnavailableError` for a full disk.
    """
    jury: Jury | None = None
    stands: list[_Stand] = []
    rungs: list[Rung] = []
    best, asked, several = -1, 0.0, len(candidates) * folds > 1
    for i, candidate in enumerate(candidates):
        began, data = means.clock.elapsed, data_of(candidate.recipe)
        jury = jury or Jury.of(data, folds, candidate.recipe.seed, pairs, changed=CHANGED if len(candidates) > 1 else 0)
        asked += means.predicted * folds * means.passing(candidate.recipe)
        kept = means.reserve + asked
        kept += _kept_for(candidates[i + 1 :], means.clock.left - kept)
        folder = means.folder / candidate.name.replace(" ", "-") if means.folder and several else means.folder
        try:
            stand = _stand(candidate, data, jury, replace(means, folder=folder, reserve=kept))
        except OverreadError as error:
            of_the_machine = isinstance(error.__cause__, OSError)  # a full disk: no fault of this way to learn
            if of_the_machine or (not stands and i == len(candidates) - 1):
                raise
            means.say(f"  {candidate.name}: left out — {error}")
            continue
        rungs.append(jury.compare(stand, stands[best] if stands else None, began, means.clock))
        stands.append(stand)
        best = len(stands) - 1 if rungs[-1].taken else best
        if several:
            means.say(rungs[-1].line)
    assert jury is not None
    stand, began = stands[best], means.clock.elapsed
    if (together := _ensemble(stands, best, jury)) is not None:
        rungs.append(jury.compare(together, stand, began, means.clock))
        means.say(rungs[-1].line)
        stand = _calibrated(together, jury) if rungs[-1].taken else stand
    return Climb(_model(stand, rungs, decisions, means.say), jury, stand.outputs[: len(jury.rows)])


def _kept_for(later: Sequence[Candidate], left: float) -> float:
    """The seconds of those left that are kept for later candidates: a frozen network needs little."""
    if not later or not np.isfinite(left) or left <= 0:
        return 0.0
    return left * min(0.9, sum(0.02 if each.recipe.method == "features" else 0.8 for each in later))


def _described(recipe: Recipe, folds: int) -> str:
    names = recipe.backbone or ", ".join(recipe.descriptors)
    return f"{names}, {recipe.method}, {recipe.image_size} pixels" + (f", {folds} folds" if folds > 1 else "")


def _model(stand: _Stand, rungs: Sequence[Rung], decisions: Sequence[Decision], say: Say) -> Model:
    """The model of a stand, with the rungs that led to it and what was decided."""
    told = list(stand.calibration)
    if len(rungs) > 1:
        told.insert(0, Decision("ladder", stand.name, "; ".join(f"{rung.name} {rung.score:.3f}" for rung in rungs)))
    for decision in told:
        say(decision.line)
    first = max(zip(stand.shares, stand.models, strict=True), key=lambda each: each[0])[1]
    about = replace(first.about, decisions=(*decisions, *first.about.decisions, *told))
    made = Model.of_members(stand.models, stand.shares, about)
    return replace(made, rungs=tuple(rungs) if len(rungs) > 1 else ())


# -- fitting ---------------------------------------------------------------------------------------------------------


def _stand(candidate: Candidate, data: TrainingData, jury: Jury, means: Means) -> _Stand:
    """Fit a candidate: one model, or one a fold; and calibrate it on the cases that judge."""
    recipe, clock = candidate.recipe, means.clock
    models: list[Model] = []
    n, changed_rows = len(jury.rows), jury.rows[jury.changed]
    outputs = np.zeros((n + len(changed_rows), jury.task.outputs))
    for k in range(jury.folds):
        part, changed, folder, progress = data, recipe, means.folder, means.progress
        if jury.folds > 1:  # a snapshot chosen on the fold that judges would flatter it: the last one is kept
            part = data.on(*(np.flatnonzero(rows) for rows in ((jury.fold >= 0) & (jury.fold != k), jury.fold == k)))
            changed = recipe.changed(seed=recipe.seed + k, snapshot="last")
            folder = folder / f"fold-{k + 1}" if folder else None
            progress = _named(progress, f"fold {k + 1} of {jury.folds}: ")
        left = clock.left - means.reserve  # each fold gets as much of it as those after it
        kept = left * (1 - 1 / (jury.folds - k)) if np.isfinite(left) and left > 0 else 0.0
        retune = partial(means.prepare, changed)
        retune()
        model = fit(part, changed, weights=candidate.weights or None, network=means.network, folder=folder, cache=means.cache, clock=clock,
                    reserve=means.reserve + kept, most_epochs=means.most_epochs, device=means.device, threads=means.threads, retune=retune, progress=progress,
                    say=means.say if k == 0 else unheard)  # fmt: skip
        models.append(_on_the_scale(model, jury.scale))
        mine = jury.fold[jury.rows] == k
        if mine.any():  # a source of few patients, which alone judges, has none in some folds
            outputs[:n][mine] = outputs_on(models[-1], data, jury.rows[mine], cache=means.cache, device=means.device, progress=progress)  # fmt: skip
        if (mine := jury.fold[changed_rows] == k).any():
            outputs[n:][mine] = _outputs_if_changed(models[-1], data, changed_rows[mine], jury.seed, means, progress)
    taught = data.cases.labels[data.training if jury.folds == 1 else np.concatenate([data.training, data.tuning])]
    shares = (1 / len(models),) * len(models)
    stand = _Stand(candidate.name, _described(recipe, jury.folds), tuple(models), shares, outputs)
    if recipe.method == "features":
        return _calibrated(stand, jury, jury.task.prior_shift(taught, recipe.head_balance))
    return _calibrated(stand, jury, jury.task.prior_shift(taught, recipe.balance, recipe.sampling, recipe.loss))


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
    model: Model, data: TrainingData, rows: NDArray[np.int64], *, cache: Path | None = None, device: str = "cpu",
    progress: Progress = silent,
) -> NDArray[np.float64]:  # fmt: skip
    """The outputs (n, K) of a model on rows of decoded images, over its orientations; on the cases that they belong to,
    where it sees the images of a case together. Frozen features that the ``cache`` has are not made again."""
    about = model.about
    samples = samples_of(data, about.recipe)
    if not about.members and samples.cases is None and not about.extra_inputs:
        key = feature_key(about.backbone, about.recipe, data.digests)
        features = kept_features(model.network, data, about.recipe, about.preprocess, key, cache)
        if features is not None:
            with torch.inference_mode():
                return model.network.head(features[torch.from_numpy(rows)]).double().numpy()  # type: ignore[operator, union-attr, no-any-return]
    network = layout(model.network, device).eval()
    which, back, each = rows, np.arange(len(rows)), _BATCH
    if samples.cases is not None:
        owner = np.full(len(data.cases), -1)
        owner[samples.cases[samples.cases >= 0]] = np.nonzero(samples.cases >= 0)[0]
        which, back = np.unique(owner[rows], return_inverse=True)
        each = max(1, _BATCH // samples.cases.shape[1])
    found, numbers = [], data.numbers(about.recipe)
    for start in range(0, len(which), each):
        some = which[start : start + each]
        x = pixels_of(data.images, some, about.preprocess, model.mean_image, device, samples.cases, numbers)
        found.append(outputs_of(network, x, about.recipe.views, device).cpu())
        progress("judging", min(start + each, len(which)), len(which))
    network.to("cpu")
    return torch.cat(found).double().numpy()[back]


def _outputs_if_changed(
    model: Model, data: TrainingData, rows: NDArray[np.int64], seed: int, means: Means, progress: Progress
) -> NDArray[np.float64]:
    """The outputs (n, K) on rows of decoded images, each changed by what :data:`SLIGHT` draws for its row."""
    about, found = model.about, []
    network = layout(model.network, means.device).eval()
    *_, height, width, channels = data.images.shape
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        drawn = draw(SLIGHT, seed=seed, epoch=0, samples=some, size=(height, width), channels=channels)
        images = apply(data.images, drawn, rows=some, threads=means.threads)
        x = pixels_of(images, np.arange(len(some)), about.preprocess, model.mean_image, means.device)
        found.append(outputs_of(network, x, about.recipe.views, means.device).cpu())
        progress("judging", min(start + _BATCH, len(rows)), len(rows))
    network.to("cpu")
    return torch.cat(found).double().numpy()


def _shareable(one: _Stand, other: _Stand) -> bool:
    """Whether the images of two can be made of one another, so that they can answer together."""
    abouts = [model.about for model in (*one.models, *other.models)]
    try:
        shared_preprocess([about.preprocess for about in abouts])
    except OverreadError:
        return False
    return len({(about.recipe.fusion, about.views) for about in abouts}) == 1


def _ensemble(stands: Sequence[_Stand], best: int, jury: Jury) -> _Stand | None:
    """The ensemble of the best and others whose images can be made of the same; None where the best alone was chosen."""
    near = [each for i, each in enumerate(stands) if i == best or _shareable(each, stands[best])]
    chosen = greedy_shares([each.outputs for each in near], jury.score, near.index(stands[best]))
    held = [(each, share) for each, share in zip(near, chosen, strict=True) if share > 0]
    if len(held) < 2:
        return None
    models = tuple(model for each, _ in held for model in each.models)
    shares = tuple(own * share for each, share in held for own in each.shares)
    what = ", ".join(f"{each.name} {share:.0%}" for each, share in held)
    return _Stand("ensemble", what, models, shares, np.sum([share * each.outputs for each, share in held], axis=0))


def _calibrated(stand: _Stand, jury: Jury, shift: NDArray[np.float64] | None = None) -> _Stand:
    """Undo the weights of the classes by a ``shift`` (K,), if there were any; the rest by the cases that judge."""
    shift = np.zeros(jury.task.outputs) if shift is None else shift
    held = stand.outputs[: len(jury.rows)]
    temperature, offsets = calibration_of(jury.task, held, jury.labels, shift)
    if temperature == 1 and not shift.any() and not offsets.any():
        return stand
    try:
        for model in stand.models:
            rescale(model.network, temperature, shift + offsets)
    except OverreadError as error:
        return replace(stand, calibration=(Decision("calibration", "none", str(error)),))
    outputs = stand.outputs / temperature + shift + offsets
    before, after = (mean_loss(jury.task, each, jury.labels) for each in (held, outputs[: len(held)]))
    undone = "the weights of the classes are undone; " if shift.any() else ""
    why = f"{undone}the loss of its probabilities on {jury.words} went from {before:.3f} to {after:.3f}"
    moved = f", offsets {offsets.min():+.2f} to {offsets.max():+.2f}" if offsets.any() else ""
    choice = f"temperature {temperature:.2f}{moved}"
    return replace(stand, outputs=outputs, calibration=(Decision("calibration", choice, why),))


# -- judging ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Jury:
    """The cases by which rungs are compared: ``rows`` of the data (n,), their ``labels`` on ``scale``, patients as numbers, and
    the ``fold`` (N,) of every row, −1 for those that teach all. ``changed`` (m,): which of the n are judged a second time,
    slightly changed."""

    task: Task
    rows: NDArray[np.int64]
    labels: NDArray[Any]
    patients: NDArray[np.int64]
    fold: NDArray[np.int64]
    folds: int
    seed: int
    scale: tuple[float, float]
    changed: NDArray[np.int64]

    @classmethod
    def of(cls, data: TrainingData, folds: int, seed: int, pairs: Sequence[tuple[str, str, str]] = (), changed: int = 0) -> Jury:  # fmt: skip
        """The tuning rows. With folds all rows, dealt by patient, ``pairs`` of like cases and equal images kept together;
        of these judge those from the sources of the tuning part, which is what the model is meant for. At most ``changed``
        judge a second time, of each answer as many as there are."""
        cases, task = data.cases, data.cases.target.task
        fold = np.full(len(cases), -1)
        judges = np.isin(np.arange(len(cases)), data.tuning)
        if folds > 1:
            rows = np.union1d(data.training, data.tuning)
            fold = folds_of(cases, k=folds, seed=seed, rows=rows, pairs=(*pairs, *_same_images(data)))
            sources = cases.table["source"].astype(str)
            judges = (fold >= 0) & sources.isin(set(sources.iloc[data.tuning])).to_numpy()
        else:
            fold[data.tuning] = 0
        rows, scale = np.flatnonzero(judges), task.label_scale(cases.labels[data.training])
        labels = np.asarray(task.scaled(cases.labels, scale))[rows]
        patients = np.unique(cases.table["patient"].to_numpy(str)[rows], return_inverse=True)[1]
        order = random.permutation(seed, 0, len(rows), "changed")
        turn = pd.Series(order).groupby(task.strata(labels)[order]).cumcount().to_numpy()
        again = np.sort(order[np.argsort(turn, kind="stable")][:changed])
        return cls(task, rows, labels, patients, fold, folds, seed, scale, again)

    @property
    def words(self) -> str:
        """The cases in words."""
        how = f"{self.folds} folds of training and tuning" if self.folds > 1 else "the tuning part"
        return f"{count(len(self.rows), 'image')} of {how}"

    def score(self, outputs: NDArray[np.float64]) -> float:
        """The snapshot score of outputs (n + m, K): of those that are changed as much as of those that are not."""
        return float(np.mean(self._scores(outputs, np.arange(len(self.rows)), np.arange(len(self.changed)))))

    def compare(self, new: _Stand, old: _Stand | None, began: float, clock: Clock) -> Rung:
        """The rung that ``new`` is, with its gain over ``old``; kept where that is more than one standard error and than
        :data:`LEAST_GAIN`."""
        pair = [new.outputs] if old is None else [new.outputs, old.outputs]
        value, *before = (self.score(each) for each in pair)
        many = np.array([[np.mean(self._scores(each, *places)) for each in pair] for places in self._resamples()])
        if value >= 0 and (scored := (many >= 0).all(axis=1)).any():  # a draw without an AUC has minus a loss
            many = many[scored]
        low, high = np.quantile(many[:, 0], _ENDS)
        rung = Rung(new.name, new.what, round(began, 1), round(clock.elapsed - began, 1), value, float(low), float(high), judged=self.words)  # fmt: skip
        apart = ""
        if len(self.changed):
            rung = replace(rung, judged=f"{self.words}, and {len(self.changed):,} of them slightly changed")
            plain, changed = self._scores(new.outputs, np.arange(len(self.rows)), np.arange(len(self.changed)))
            apart = f"; {plain:.3f} as they are, {changed:.3f} slightly changed"
        if not before:
            return replace(rung, why=rung.why + apart)
        gain, differences = value - before[0], many[:, 0] - many[:, 1]
        (gain_low, gain_high), noise = np.quantile(differences, _ENDS), float(differences.std())
        taken, what = bool(gain > max(noise, LEAST_GAIN)), f"its standard error {noise:.3f}"
        if noise < LEAST_GAIN:
            what = f"{LEAST_GAIN:.3f}, which is the least that would be noticed (standard error {noise:.4f})"
        why = f"{gain:+.3f} ({gain_low:+.3f} to {gain_high:+.3f}) against the best before, {'more' if taken else 'not more'} than {what}{apart}"  # fmt: skip
        return replace(
            rung, gain=float(gain), gain_low=float(gain_low), gain_high=float(gain_high), taken=taken, why=why
        )

    def _scores(self, outputs: NDArray[np.float64], rows: NDArray[np.int64], changed: NDArray[np.int64]) -> list[float]:
        """The score of these of the n, and of these of the m, where there are any."""
        parts = [(outputs[: len(self.rows)][rows], self.labels[rows])]
        if len(self.changed):
            parts.append((outputs[len(self.rows) :][changed], self.labels[self.changed][changed]))
        return [self.task.snapshot_score(each, labels, mean_loss(self.task, each, labels)) for each, labels in parts]

    def _resamples(self) -> Iterator[list[NDArray[np.int64]]]:
        """Places among the n and the m of as many patients drawn with replacement, again and again; a draw without two
        answers is drawn anew where the cases have two, for it has no AUC."""
        many = max(20, RESAMPLES * MANY_CASES // max(len(self.rows), MANY_CASES))
        everyone = (np.arange(len(self.rows)), self.changed)
        answers = min(2, self.task.distinct(self.labels))  # of the changed ones as many, for they are of every answer

        def tells(places: list[NDArray[np.int64]]) -> bool:
            rows = [those[some] for those, some in zip(everyone, places, strict=True) if len(those)]
            return all(self.task.distinct(self.labels[each]) >= answers for each in rows)

        drawn = (row for chunk in draws(int(self.patients.max()) + 1, 10 * many, self.seed) for row in chunk)
        found = ([np.repeat(np.arange(len(each)), row[self.patients[each]]) for each in everyone] for row in drawn)
        return islice(filter(tells, found), many)


_ENDS = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]


def _same_images(data: TrainingData) -> list[tuple[str, str, str]]:
    """Pairs of cases with an image of the same bytes."""
    first: dict[str, str] = {}
    seen = [
        (first.setdefault(digest, case), case)
        for case, digest in zip(data.cases.table["case"], data.digests, strict=True)
    ]
    return [(one, other, "exact") for one, other in seen if one != other]

"""Fit one model: from decoded images and a recipe without open fields to a network with its contract.

It decides nothing and looks at nothing but its arguments, so that folds, ensembles, searches and clusters may call it as
often as they like, on the same decoded images.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.extra_inputs import ExtraInput, extra_missing
from overread.cases.split import folds as folds_of
from overread.core.errors import UnsoundError, checked, require
from overread.core.files import sha256
from overread.core.identifiers import marks
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning.device import layout
from overread.learning.linear_probe import (
    cross_validate,
    extract,
    feature_key,
    fit_head,
    kept_features,
    set_head,
    tried,
)
from overread.learning.loader import Bags, Batches, Samples, TrainingData, normalisation, samples_of
from overread.learning.loop import Gradients, LoopState, optimise
from overread.learning.model import About, Decision, Model, Origin, initial_network, own_network
from overread.learning.predict import judge_on, pixels_of
from overread.learning.recipe import AUTO, Recipe, refuse_unfit
from overread.learning.replicas import Replicas, joined, reach
from overread.networks.fusion import Fused
from overread.networks.stages import stages
from overread.tasks.task import Loss, Task


@checked
def fit(
    data: TrainingData,
    recipe: Recipe,
    *,
    weights: str | Path | None = None,
    network: nn.Module | None = None,
    decisions: Sequence[Decision] = (),
    folder: Path | None = None,
    cache: Path | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    most_epochs: int = 0,
    device: str = "cpu",
    threads: int = 0,
    retune: Callable[[], None] = lambda: None,
    progress: Progress = silent,
    say: Say = unheard,
) -> Model:
    """Fit one model to the training rows of ``data``, its snapshot chosen on the tuning rows.

    The same arguments give the same model, but for a ``clock`` that ends the training early. ``recipe`` without open
    fields, as :func:`overread.learning.auto.plan` gives it; ``weights``: file of the initial weights, None for random
    ones; ``network``: one's own in place of the recipe's backbone, which learns from the weights that it brings; a copy
    of it is trained. ``decisions`` are kept in the model. ``folder``: for checkpoints of this one training, from which
    it resumes; ``cache``: for features of frozen networks; ``most_epochs`` and ``retune``: as in :func:`optimise`. Call it with
    ``data.on(training, tuning)`` for a fold or a member of an ensemble: rows are images, so keep those of a case and of
    a patient together. Raises :class:`ArgumentError` for a recipe with open fields, :class:`UnavailableError` for
    ``features`` or ``finetune`` without weights, :class:`UnsoundError` for a class without training images or a loss
    that is not finite.
    """
    left = [name for name in recipe.open_fields if network is None or name != "backbone"]
    require(not left, "the recipe leaves fields open", given=", ".join(left), todo="settle it with plan() or give them")
    require(network is None or not recipe.extra_inputs, "a network of your own sees the pixels alone", given="extra_inputs " + ", ".join(recipe.extra_inputs),
            todo="leave extra_inputs out of the recipe")  # fmt: skip
    require(network is None or recipe.fusion == "single", "a network of your own sees each image on its own", given=f"fusion {recipe.fusion}",
            todo="leave fusion out of the recipe")  # fmt: skip
    _refuse_missing_classes(data)
    refuse_unfit(data.cases, recipe)
    preprocess, mean_image = normalisation(data, recipe)
    samples, extra = samples_of(data, recipe), data.extra(recipe)
    built, origin = own_network(network) if network is not None else initial_network(
        recipe, preprocess, data.cases.target.outputs, weights=weights, places=len(samples.views),
        pool=data.cases.target.task.pooled, extra=extra,
    )  # fmt: skip
    _refuse_too_many_stages(built, recipe)
    unused = [*_beside_pixels(data, extra), *_unused(recipe)]
    for decision in unused:
        say(decision.line)
    about = replace(_about(data, recipe, preprocess, origin, [*decisions, *unused], samples.views), extra_inputs=extra)
    job = _Fitting(data=data, recipe=recipe, preprocess=preprocess, mean_image=mean_image, about=about, cache=cache, clock=clock or Clock(),
                   reserve=reserve, most_epochs=most_epochs, device=device, threads=threads, retune=retune, own=network is not None, progress=progress, say=say)  # fmt: skip
    network = layout(built, device)
    if recipe.fusion == "stacked":
        fitted = _fit_stacked(job, network, samples, folder)
    else:
        taught = samples.one_by_one(samples.training) if recipe.fusion == "late" else samples
        fitted = _fit_network(job, network, taught, folder)
    for decision in fitted.decisions:
        say(decision.line)
    about = replace(about, decisions=(*about.decisions, *fitted.decisions))
    return Model(fitted.network.to("cpu").eval(), about, mean_image, fitted.history)


@dataclass(frozen=True, eq=False)
class _Fitting:
    """What the steps of a fit share."""

    data: TrainingData
    recipe: Recipe
    preprocess: Preprocess
    mean_image: NDArray | None
    about: About
    cache: Path | None
    clock: Clock
    reserve: float
    most_epochs: int
    device: str
    threads: int
    retune: Callable[[], None]
    own: bool
    progress: Progress
    say: Say

    def labels(self, samples: Samples) -> torch.Tensor:
        """The labels of samples as the loss wants them."""
        task = self.data.cases.target.task
        return torch.from_numpy(np.array(task.scaled(self.data.cases.labels, self.about.scale)[samples.first]))

    def head_weights(self, samples: Samples) -> torch.Tensor:
        """The weights of the classes in the loss of a linear head."""
        task = self.data.cases.target.task
        return torch.from_numpy(task.class_weights(self.taught(samples), self.recipe.head_balance))

    def taught(self, samples: Samples) -> NDArray[Any]:
        """The labels of the training samples, as the table has them."""
        return self.data.cases.labels[samples.first[samples.training]]


@dataclass(frozen=True, eq=False)
class _Fitted:
    network: torch.nn.Module
    history: tuple[dict[str, Any], ...]
    decisions: tuple[Decision, ...] = ()


def _fit_network(job: _Fitting, network: torch.nn.Module, samples: Samples, folder: Path | None) -> _Fitted:
    """Fit the head of a pretrained network, then all of it as the recipe says; its snapshot by the tuning samples."""
    data, recipe, preprocess, mean_image = job.data, job.recipe, job.preprocess, job.mean_image
    task, origin, labels = data.cases.target.task, job.about.backbone, job.labels(samples)
    history: tuple[dict[str, Any], ...] = ()
    if recipe.learns_above:
        return _fit_above(job, network, samples, labels, folder)
    if origin.pretrained or recipe.method == "features":
        key = feature_key(origin, recipe, data.digests)
        history = fit_head(network, data, recipe, preprocess, labels, job.head_weights(samples), samples=samples, key=key, cache=job.cache,
                           device=job.device, mean_image=mean_image, progress=job.progress, say=job.say)  # fmt: skip
    if recipe.method == "features":
        return _Fitted(network, history)
    batches = batches_of(data, recipe, samples, preprocess, labels, mean_image=mean_image, device=job.device, threads=job.threads)  # fmt: skip
    loss = loss_of(recipe, task, job.taught(samples), job.device)
    judge = judge_on(
        data.images,
        samples.tuning,
        labels,
        task,
        preprocess,
        mean_image=mean_image,
        device=job.device,
        cases=samples.cases,
        numbers=data.numbers(recipe),
    )
    gradients = _replicated(job, network, samples) if joined() > 1 else None
    network, state = optimise(network, batches, loss, judge, recipe, gradients=gradients, clock=job.clock, reserve=job.reserve, folder=folder,
                              fitted=origin.pretrained, shares=source_shares(data, recipe, samples), most_epochs=job.most_epochs, retune=job.retune, progress=job.progress)  # fmt: skip
    return _Fitted(network, tuple(state.history), tuple(_decisions(state, recipe)))


def _fit_above(
    job: _Fitting, network: torch.nn.Module, samples: Samples, labels: torch.Tensor, folder: Path | None
) -> _Fitted:
    """Fit the fusion and the head by steps, on features of the frozen body that are made once and kept."""
    data, recipe, task = job.data, job.recipe, job.data.cases.target.task
    fused = cast("Fused", network)
    key = feature_key(job.about.backbone, recipe, data.digests)
    features = kept_features(fused.body, data, recipe, job.preprocess, key, job.cache)
    if features is None:
        features = extract(fused.body, data.images, job.preprocess, key=key, views=recipe.views, cache=job.cache, device=job.device,
                           mean_image=job.mean_image, progress=job.progress, say=job.say)  # fmt: skip
    taught = job.taught(samples)
    strata = task.strata(taught) if recipe.sampling == "balanced" else None
    assert samples.cases is not None  # of one image a case there is nothing to be fused
    bags = Bags(features, samples.cases, samples.training, labels, recipe.batch_size, recipe.seed, job.device, strata)
    plain = task.loss(np.ones(task.outputs, np.float32), 0.0)
    truth = labels[torch.from_numpy(samples.tuning)]

    def judge(above: nn.Module) -> dict[str, float]:
        with torch.inference_mode():
            outputs = torch.cat([above.eval()(bags.shown(part)).float().cpu() for part in np.array_split(samples.tuning, -(-len(samples.tuning) // 64))])  # fmt: skip
        value = float(plain(outputs, truth))
        return {"score": task.snapshot_score(outputs.numpy(), truth.numpy(), value), "loss": value}

    above, state = optimise(fused.above(), bags, loss_of(recipe, task, taught, job.device), judge, recipe, clock=job.clock, reserve=job.reserve,
                            folder=folder, shares=source_shares(data, recipe, samples), most_epochs=job.most_epochs, progress=job.progress)  # fmt: skip
    fused.fuse.load_state_dict(above.fuse.state_dict())  # type: ignore[union-attr, operator]
    fused.head.load_state_dict(above.head.state_dict())  # type: ignore[union-attr, operator]
    return _Fitted(network, tuple(state.history), tuple(_decisions(state, recipe)))


def _replicated(job: _Fitting, network: torch.nn.Module, samples: Samples) -> Gradients | None:
    """The gradients of a batch by all processes of this training; None where another could not make the network."""
    reasons = {"your network is here only": job.own, "one classifier a view comes first": job.recipe.fusion in ("late", "stacked"),
               f"the device {job.device} is here only": not reach(job.device)}  # fmt: skip
    if alone := next((reason for reason, holds in reasons.items() if holds), ""):
        job.say(f"  processes: 1 — {alone}")
        return None
    job.say(
        f"  processes: {joined()} — each finds the gradients of its part of a batch; batch norms see that part alone"
    )
    task, recipe = job.data.cases.target.task, job.recipe
    model = Model(network, job.about, job.mean_image)
    return Replicas(model, _weights_of(recipe, task, job.taught(samples)))


def _fit_stacked(job: _Fitting, network: torch.nn.Module, samples: Samples, folder: Path | None) -> _Fitted:
    """One classifier a view on a shared body, and a second stage on what they say of cases that they were not fitted to.

    Until there is a second stage, the head adds up what the classifiers say. Ciompi 2015
    (doi:10.1016/j.media.2015.08.001). Each fold of the training patients is answered for by classifiers fitted to the
    other folds; the classifiers that stay are fitted to all.
    """
    training, data, recipe = samples.training, job.data, job.recipe
    fold = folds_of(data.cases.take(samples.first[training]), k=recipe.folds, seed=recipe.seed)
    fused = cast("Fused", network)
    final, fused.head = fused.head, fused.fuse.summed()
    untouched = copy.deepcopy(network)
    said = torch.zeros(len(training), len(samples.views) * (data.cases.target.outputs + 1))
    for k in range(recipe.folds):
        share = _share(job, recipe.folds + 1 - k)
        found = _fit_network(
            share,
            copy.deepcopy(untouched),
            samples.one_by_one(training[fold != k]),
            folder and folder / f"fold-{k + 1}",
        )
        said[torch.from_numpy(fold == k)] = _said_by_views(job, found.network, samples, training[fold == k])
    fitted = _fit_network(_share(job, 1), network, samples.one_by_one(training), folder)
    probe = cross_validate(said, job.labels(samples)[torch.from_numpy(training)], data.cases.target.task, refit=True,
                           weights=job.head_weights(samples), folds=fold, penalties=recipe.penalties)  # fmt: skip
    fitted.network.head = final
    set_head(fitted.network, probe)
    why = f"fitted to what classifiers of {', '.join(samples.views)} say of {recipe.folds} folds of training patients that they were not fitted to"
    second = Decision("second stage", f"penalty {probe.penalty:g}", why)
    history = (*fitted.history, *({"stage": "second", **row} for row in tried(recipe, probe)))
    return _Fitted(fitted.network, history, (*fitted.decisions, second))


def _share(job: _Fitting, fits: int) -> _Fitting:
    """The same job with an equal share of the time that is left for so many fits."""
    if job.clock.limit is None:
        return job
    return replace(job, clock=Clock(max(0.0, job.clock.left - job.reserve) / fits), reserve=0.0)


@torch.inference_mode()
def _said_by_views(job: _Fitting, network: torch.nn.Module, samples: Samples, some: NDArray[np.int64]) -> torch.Tensor:
    """What the classifier of each view says of these cases, and which views there are: (n, V · (outputs + 1))."""
    network.eval()
    numbers = job.data.numbers(job.recipe)
    seen = (pixels_of(job.data.images, some[i : i + 16], job.preprocess, job.mean_image, job.device, samples.cases, numbers)
            for i in range(0, len(some), 16))  # fmt: skip
    return torch.cat([network.features(x).float().cpu() for x in seen])  # type: ignore[operator]


# -- steps of a fit --------------------------------------------------------------------------------------------------


@checked
def batches_of(
    data: TrainingData, recipe: Recipe, samples: Samples, preprocess: Preprocess, labels: torch.Tensor,
    *, mean_image: NDArray | None = None, device: str = "cpu", threads: int = 0,
) -> Batches:  # fmt: skip
    """The training samples, batch by batch, as the recipe draws, augments and mixes them."""
    taught = data.cases.labels[samples.first[samples.training]]
    strata = data.cases.target.task.strata(taught) if recipe.sampling == "balanced" else None
    return Batches(data.images, samples.training, labels, recipe.batch_size, preprocess, recipe.augmentation, mean_image, recipe.seed,
                   device, threads, strata, recipe.mix, recipe.mix_alpha, samples.cases, recipe.augment_by, data.numbers(recipe))  # fmt: skip


def loss_of(recipe: Recipe, task: Task, taught: NDArray[Any], device: str = "cpu") -> Loss:
    """The loss by which a recipe learns from these labels: what is drawn alike is not weighed besides."""
    return task.loss(
        _weights_of(recipe, task, taught),
        recipe.label_smoothing,
        device,
        name=recipe.loss,
        gamma=recipe.gamma,
        heads=recipe.finding_weights,
    )


def _refuse_missing_classes(data: TrainingData) -> None:
    target, labels = data.cases.target, data.cases.labels[data.training]
    if target.task.exclusive and len(np.unique(labels)) < 2:
        raise UnsoundError("the training part has one class only", given=", ".join(target.names),
                           todo="check the label column and the split")  # fmt: skip


def _weights_of(recipe: Recipe, task: Task, taught: NDArray[Any]) -> NDArray[np.float32]:
    return task.class_weights(taught, 0.0 if recipe.sampling == "balanced" else recipe.balance)


def _refuse_too_many_stages(network: nn.Module, recipe: Recipe) -> None:
    found = stages(network)
    require(recipe.frozen + recipe.fresh <= len(found), "the network has fewer stages than are to be held still and drawn anew",
            given=f"frozen={recipe.frozen}, fresh={recipe.fresh} of {len(found)}: " + ", ".join(stage.name for stage in found))  # fmt: skip


def _beside_pixels(data: TrainingData, extra: Sequence[ExtraInput]) -> list[Decision]:
    """What is shown beside the pixels, how it is scaled, and how much of it is missing."""
    if not extra:
        return []
    taught = data.cases.take(data.training)
    scaled = "; ".join(f"{each.column} by {each.mean:.4g} ± {each.std:.4g} of the training rows" for each in extra)
    lacking = extra_missing(taught, [each.column for each in extra])
    why = f"asked for; standardised: {scaled}" + (
        f"; missing, and masked: {lacking}" if lacking else "; none is missing"
    )
    return [Decision("beside the pixels", ", ".join(each.column for each in extra), why)]


#: What is learned by steps, and no plan fills in; a linear head on a frozen network is fitted without.
_OF_STEPS = ("loss", "gamma", "label_smoothing", "finding_weights", "source_weights", "optimizer", "momentum", "weight_decay",
             "body_rate", "schedule", "warmup", "milestones", "factor", "plateau", "patience", "average", "gradient_clip",
             "dropout", "compile", "mix", "mix_alpha", "frozen", "unfreeze", "layer_decay", "frozen_norms")  # fmt: skip


def _unused(recipe: Recipe) -> list[Decision]:
    """Which fields that were given have no effect, told once."""
    named = [name for name in _OF_STEPS if getattr(recipe, name) != getattr(AUTO, name)]
    if recipe.method != "features" or recipe.learns_above or not named:
        return []
    return [Decision("not used", ", ".join(named), "the method features fits a penalised linear head, without steps")]


@checked
def source_shares(data: TrainingData, recipe: Recipe, samples: Samples) -> torch.Tensor | None:
    """(M,) how much each sample counts by its source, 1 on average over the training; None where all count alike."""
    if not recipe.source_weights:
        return None
    sources = data.cases.table["source"].iloc[samples.first]
    shares = np.array([recipe.source_weights.get(str(source), 1.0) for source in sources])
    mean = shares[samples.training].mean()
    require(mean > 0, "source_weights leave nothing to learn from", given=dict(recipe.source_weights))
    return torch.from_numpy((shares / mean).astype(np.float32))


def _about(
    data: TrainingData, recipe: Recipe, preprocess: Preprocess, origin: Origin, decisions: Sequence[Decision],
    views: tuple[str, ...],
) -> About:  # fmt: skip
    cases = data.cases
    salt = sha256(f"{cases.taught}/{recipe.seed}".encode())[:32]
    patients = cases.table["patient"].iloc[np.union1d(data.training, data.tuning)]
    scale = cases.target.task.label_scale(cases.labels[data.training])
    return About(recipe, preprocess, cases.target, origin, marks(patients, salt), salt, cases.salt, cases.planes, views, scale,
                 tuple(decisions), cases.identifiers)  # fmt: skip


def _decisions(state: LoopState, recipe: Recipe) -> list[Decision]:
    snapshot = f"epoch {state.best_epoch + 1}" if state.best_epoch >= 0 else "the linear head before fine-tuning"
    stopped = f"; stopped because {state.stopped}" if state.stopped else ""
    what = "the best tuning score" if recipe.snapshot == "best" else "the last, whatever its tuning score"
    reason = f"{what} ({state.best:.3f}){stopped}"
    return [*(Decision(**decision) for decision in state.decisions), Decision("snapshot", snapshot, reason)]

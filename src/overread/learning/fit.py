"""Fit one model: from decoded images and a recipe without open fields to a network with its contract.

It decides nothing and looks at nothing but its arguments, so that folds, ensembles, searches and clusters may call it as
often as they like, on the same decoded images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from overread.cases.cases import Cases
from overread.core.errors import InputError, UnsoundError, checked, one_of, require
from overread.core.files import sha256
from overread.core.identifiers import marks
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess
from overread.learning.device import layout
from overread.learning.linear_probe import fit_head
from overread.learning.loader import Batches, TrainingData, normalisation
from overread.learning.loop import LoopState, optimise
from overread.learning.model import About, Decision, Model, Origin, initial_network
from overread.learning.predict import judge_on
from overread.learning.recipe import AUTO, Recipe


@checked
def fit(
    data: TrainingData,
    recipe: Recipe,
    *,
    weights: str | Path | None = None,
    decisions: Sequence[Decision] = (),
    folder: Path | None = None,
    cache: Path | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    device: str = "cpu",
    threads: int = 0,
    progress: Progress = silent,
    say: Say = unheard,
) -> Model:
    """Fit one model to the training rows of ``data``, its snapshot chosen on the tuning rows.

    The same arguments give the same model, but for a ``clock`` that ends the training early. ``recipe`` without open
    fields, as :func:`overread.learning.auto.plan` gives it; ``weights``: file of the initial weights, None for random
    ones; ``decisions`` are kept in the model. ``folder``: for checkpoints of this one training, from which it resumes;
    ``cache``: for features of frozen networks. Call it with ``data.on(training, tuning)`` for a fold or a member of an
    ensemble: rows are images, so keep those of a case and of a patient together. Raises :class:`ArgumentError` for a
    recipe with open fields, :class:`UnavailableError` for ``features`` or ``finetune`` without weights,
    :class:`UnsoundError` for a class without training images or a loss that is not finite.
    """
    require(not recipe.open_fields, "the recipe leaves fields open", given=", ".join(recipe.open_fields),
            todo="settle it with plan() or give them")  # fmt: skip
    _refuse_missing_classes(data)
    refuse_unfit(data.cases, recipe)
    preprocess, mean_image = normalisation(data, recipe)
    network, origin = initial_network(recipe, preprocess, data.cases.target.outputs, weights=weights)
    network = layout(network, device)
    for decision in (unused := _unused(recipe)):
        say(decision.line)
    about = _about(data, recipe, preprocess, origin, [*decisions, *unused])
    task = data.cases.target.task
    labels = torch.from_numpy(np.array(task.scaled(data.cases.labels, about.scale)))
    taught = data.cases.labels[data.training]
    alike = recipe.sampling == "balanced"  # what is drawn alike is not weighed besides
    balance = task.class_weights(taught, 1.0 if alike else recipe.balance)
    history: tuple[dict[str, Any], ...] = ()
    if origin.pretrained or recipe.method == "features":
        key = [origin, *recipe.taps, data.digests, *([recipe.fresh, recipe.seed] if recipe.fresh else [])]
        history = fit_head(network, data, recipe, preprocess, labels, torch.from_numpy(balance), key=key, cache=cache, device=device,
                           mean_image=mean_image, progress=progress, say=say)  # fmt: skip
    if recipe.method != "features":
        batches = Batches(data.images, data.training, labels, recipe.batch_size, preprocess, recipe.augmentation, mean_image, recipe.seed,
                          device, threads, task.strata(taught) if alike else None, recipe.mix, recipe.mix_alpha)  # fmt: skip
        loss = task.loss(task.class_weights(taught, 0.0) if alike else balance, recipe.label_smoothing, device,
                         name=recipe.loss, gamma=recipe.gamma, heads=recipe.finding_weights)  # fmt: skip
        judge = judge_on(data.images, data.tuning, labels, task, preprocess, mean_image=mean_image, device=device)
        network, state = optimise(network, batches, loss, judge, recipe, clock=clock or Clock(), reserve=reserve, folder=folder,
                                  fitted=origin.pretrained, shares=_source_shares(data, recipe), progress=progress)  # fmt: skip
        made = _decisions(state)
        for decision in made:
            say(decision.line)
        about = replace(about, decisions=(*about.decisions, *made))
        history = tuple(state.history)
    return Model(network.to("cpu").eval(), about, mean_image, history)


# -- steps of a fit --------------------------------------------------------------------------------------------------


def _refuse_missing_classes(data: TrainingData) -> None:
    target, labels = data.cases.target, data.cases.labels[data.training]
    if target.task.exclusive and len(np.unique(labels)) < 2:
        raise UnsoundError("the training part has one class only", given=", ".join(target.names),
                           todo="check the label column and the split")  # fmt: skip


@checked
def refuse_unfit(cases: Cases, recipe: Recipe) -> None:
    """Refuse fields that do not go with what is asked of the cases, or that name a source or finding they do not have.

    Raises :class:`ArgumentError`, :class:`InputError`.
    """
    task = cases.target.task
    task.loss_name(recipe.loss)
    task.finding_weights(recipe.finding_weights)
    if recipe.mix != "none" and task.unmixable:
        raise InputError(f"images of {task.summary} cannot be mixed", given=f"mix = {recipe.mix}: {task.unmixable}",
                         todo="leave mix out")  # fmt: skip
    sources = sorted(set(cases.table["source"].astype(str))) if "source" in cases.table else []
    for name in recipe.source_weights:
        one_of(name, sources, "the source of source_weights")


#: What is learned by steps; a linear head on a frozen network is fitted without.
_OF_STEPS = ("loss", "finding_weights", "source_weights", "optimizer", "schedule", "mix", "frozen", "unfreeze", "layer_decay",
             "frozen_norms")  # fmt: skip


def _unused(recipe: Recipe) -> list[Decision]:
    """Which fields that were given have no effect, told once."""
    named = [name for name in _OF_STEPS if getattr(recipe, name) != getattr(AUTO, name)]
    if recipe.method != "features" or not named:
        return []
    return [Decision("not used", ", ".join(named), "the method features fits a penalised linear head, without steps")]


def _source_shares(data: TrainingData, recipe: Recipe) -> torch.Tensor | None:
    """(N,) how much each row counts by its source, 1 on average over the training rows; None where all count alike."""
    if not recipe.source_weights:
        return None
    shares = np.array([recipe.source_weights.get(str(source), 1.0) for source in data.cases.table["source"]])
    mean = shares[data.training].mean()
    require(mean > 0, "source_weights leave nothing to learn from", given=dict(recipe.source_weights))
    return torch.from_numpy((shares / mean).astype(np.float32))


def _about(
    data: TrainingData, recipe: Recipe, preprocess: Preprocess, origin: Origin, decisions: Sequence[Decision]
) -> About:
    cases = data.cases
    salt = sha256(f"{cases.taught}/{recipe.seed}".encode())[:32]
    patients = cases.table["patient"].iloc[np.union1d(data.training, data.tuning)]
    scale = cases.target.task.label_scale(cases.labels[data.training])
    return About(recipe, preprocess, cases.target, origin, marks(patients, salt), salt, cases.salt, cases.planes, scale,
                 tuple(decisions), cases.identifiers)  # fmt: skip


def _decisions(state: LoopState) -> list[Decision]:
    snapshot = f"epoch {state.best_epoch + 1}" if state.best_epoch >= 0 else "the linear head before fine-tuning"
    stopped = f"; stopped because {state.stopped}" if state.stopped else ""
    reason = f"the best tuning score ({state.best:.3f}){stopped}"
    return [*(Decision(**decision) for decision in state.decisions), Decision("snapshot", snapshot, reason)]

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

from overread.core.errors import UnsoundError, checked, require
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
from overread.learning.recipe import Recipe


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
    preprocess, mean_image = normalisation(data, recipe)
    network, origin = initial_network(recipe, preprocess, data.cases.target.outputs, weights=weights)
    network = layout(network, device)
    about = _about(data, recipe, preprocess, origin, decisions)
    task = data.cases.target.task
    labels = torch.from_numpy(np.array(task.scaled(data.cases.labels, about.scale)))
    balance = task.class_weights(data.cases.labels[data.training], recipe.balance)
    history: tuple[dict[str, Any], ...] = ()
    if origin.pretrained or recipe.method == "features":
        key = [origin, *recipe.taps, data.digests]
        history = fit_head(network, data, recipe, preprocess, labels, torch.from_numpy(balance), key=key, cache=cache, device=device,
                           mean_image=mean_image, progress=progress, say=say)  # fmt: skip
    if recipe.method != "features":
        batches = Batches(data.images, data.training, labels, recipe.batch_size, preprocess, recipe.augmentation, mean_image, recipe.seed,
                          device, threads)  # fmt: skip
        loss = task.loss(balance, recipe.label_smoothing, device)
        judge = judge_on(data.images, data.tuning, labels, task, preprocess, mean_image=mean_image, device=device)
        network, state = optimise(network, batches, loss, judge, recipe, clock=clock or Clock(), reserve=reserve, folder=folder,
                                  fitted=origin.pretrained, progress=progress)  # fmt: skip
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

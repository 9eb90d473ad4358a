"""Training: from cases, a split and a recipe to a model; and, beneath it, from images and a settled recipe to a model.

:func:`train` looks at the data once, plans, decodes, and calls :func:`fit`. :func:`fit` alone decides nothing and looks
at nothing but its arguments, so that folds, ensembles, searches and clusters may call it as often as they like, on the
same decoded images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from overread.cases.cases import Cases
from overread.cases.split import Split
from overread.core.errors import InputError, UnsoundError, checked, require
from overread.core.files import build, cache_folder, cores, fingerprint, plain, read_fields, sha256, write_json
from overread.core.identifiers import marks
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.preprocess import Preprocess, fit_normalisation
from overread.learning import auto
from overread.learning.checkpoint import forget
from overread.learning.device import layout, pick_device
from overread.learning.linear_probe import fit_head
from overread.learning.loader import Batches, TrainingData, decode
from overread.learning.loop import LoopState, optimise
from overread.learning.model import About, Decision, Model, Origin, initial_network
from overread.learning.predict import judge_on
from overread.learning.recipe import AUTO, Recipe
from overread.networks.backbones import BACKBONES


@checked
def train(
    cases: Cases,
    split: Split,
    recipe: Recipe = AUTO,
    *,
    weights: str | Path | None = None,
    folder: str | Path | None = None,
    cache: str | Path | None = None,
    digests: dict[str, str] | None = None,
    clock: Clock | None = None,
    reserve: float = 0.0,
    device: str = "",
    threads: int = 0,
    network: bool = True,
    progress: Progress = silent,
    say: Say = unheard,
) -> Model:
    """Train a model on the training part, choose its snapshot on the tuning part; the test part is not touched.

    ``weights``: folder of pretrained weights. ``folder``: for checkpoints; training resumes from what it finds there.
    ``digests``: SHA-256 of the image files by address, where an audit has read them already; a file that has changed
    since is refused. ``clock``: bounds the seconds, of which ``reserve`` are left for what follows. ``network``:
    whether weights may be fetched. ``say`` hears what is decided, before anything is trained. Raises
    :class:`UnsoundError` if a class has no training case, :class:`UnavailableError` without weights.
    """
    cases, training, tuning = _rows(cases, split)
    checkpoints, cache = Path(folder) if folder else None, Path(cache) if cache else cache_folder()
    clock, device = clock or Clock(), pick_device(device)
    if threads:
        torch.set_num_threads(threads)
    key = fingerprint([plain(recipe), cases.taught, training.tolist(), clock.limit, str(weights)])
    settled = _resumed_plan(checkpoints, key, clock)
    if settled is None:
        facts = auto.look(cases, training)
        settled = _plan(recipe, facts, weights, device, clock, reserve, network)
        if checkpoints:
            _keep_plan(checkpoints, key, settled, clock.elapsed)
    for decision in settled.decisions:
        say(decision.line)
    if say is not unheard:
        probe = auto.make_probe(settled.facts, device)
        say(f"  time: about {auto.duration(auto.expected_seconds(settled.recipe, settled.facts, probe))} for training")
    data = decode(cases, training, tuning, auto.preprocess_of(settled.recipe, settled.facts), cache, digests=digests,
                  threads=threads or cores(), progress=progress, say=say)  # fmt: skip
    return fit(data, settled.recipe, weights=settled.weights, decisions=settled.decisions, folder=checkpoints, cache=cache, clock=clock,
               reserve=reserve, device=device, threads=threads or cores(), progress=progress, say=say)  # fmt: skip


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
    if origin.pretrained:
        key = [origin, recipe.layers, data.digests]
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


# -- what is settled before anything is fitted ----------------------------------------------------------------------


@dataclass(frozen=True)
class SettledPlan:
    """The facts, the recipe without open fields, the decisions, and the file of the initial weights ("": random)."""

    facts: auto.Facts
    recipe: Recipe
    decisions: tuple[Decision, ...]
    weights: str = ""


def _rows(cases: Cases, split: Split) -> tuple[Cases, NDArray[np.int64], NDArray[np.int64]]:
    """The labelled cases of training and tuning, in the order of the table, and the rows of each."""
    rows = {name: split.rows(cases, name) for name in ("train", "tuning")}
    if not len(rows["train"]) or not len(rows["tuning"]):
        given = f"{len(rows['train'])} and {len(rows['tuning'])}"
        raise UnsoundError("the split leaves no images for training or for tuning", given=given)
    used = np.sort(np.concatenate(list(rows.values())))
    used = used[cases.labelled[used]]
    tuned = np.isin(used, rows["tuning"])
    return cases.take(used), np.flatnonzero(~tuned), np.flatnonzero(tuned)


def _plan(
    recipe: Recipe, facts: auto.Facts, weights: str | Path | None, device: str, clock: Clock, reserve: float,
    network: bool,
) -> SettledPlan:  # fmt: skip
    found = auto.weights_at_hand(recipe, facts, folder=weights, device=device, network=network)
    seconds = None if clock.limit is None else clock.left - reserve
    recipe, decisions = auto.plan(recipe, facts, pretrained=tuple(found), device=device, seconds=seconds,
                                  probe=auto.make_probe(facts, device))  # fmt: skip
    file = found.get(recipe.backbone, "") if recipe.method in ("features", "finetune") else ""
    return SettledPlan(facts, recipe, tuple(decisions), file)


def _keep_plan(folder: Path, key: str, settled: SettledPlan, seconds: float) -> None:
    held = {"key": key, "plan": plain(settled), "seconds": seconds}
    write_json(folder / "plan.json", held | {"digest": fingerprint(held)})


def _resumed_plan(folder: Path | None, key: str, clock: Clock) -> SettledPlan | None:
    """The plan that an interrupted training kept; None, and no checkpoint, where another was trained here.

    Raises :class:`InputError` for a plan that is damaged: its checkpoints would go on by another.
    """
    if folder is None:
        return None
    path = folder / "plan.json"
    if path.exists():
        held = _whole_plan(path)
        if held["key"] == key:
            clock.credit(held["seconds"])
            return build(SettledPlan, held["plan"], where="plan.json")
    forget(folder)  # checkpoints of other cases, another split or recipe must not teach this model
    return None


def _whole_plan(path: Path) -> dict[str, Any]:
    try:
        held = read_fields(path)
        whole = held.pop("digest", "") == fingerprint(held) and {"key", "plan", "seconds"} <= held.keys()
        reason = "its checksum differs"
    except InputError as error:
        whole, reason = False, str(error)
    if not whole:
        raise InputError("the plan of an interrupted training is damaged", given=f"{path}: {reason}",
                         todo=f"delete the folder {path.parent} to train again from the start")  # fmt: skip
    return held


# -- steps of a fit --------------------------------------------------------------------------------------------------


def _refuse_missing_classes(data: TrainingData) -> None:
    target, labels = data.cases.target, data.cases.labels[data.training]
    if target.task.exclusive and len(np.unique(labels)) < 2:
        raise UnsoundError("the training part has one class only", given=", ".join(target.names),
                           todo="check the label column and the split")  # fmt: skip


@checked
def normalisation(data: TrainingData, recipe: Recipe) -> tuple[Preprocess, NDArray | None]:
    """The preprocessing with its numbers: what pretrained weights were trained with, else fitted on training rows.

    The second result is the mean image, where the recipe asks for it.
    """
    preprocess = data.preprocess
    usual = preprocess.normalise == "channel mean and std" and preprocess.channels == 3
    if recipe.method in ("features", "finetune") and usual:
        contract = BACKBONES[recipe.backbone]
        return replace(preprocess, mean=contract.mean, std=contract.std), None
    return fit_normalisation(data, data.training, preprocess)


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

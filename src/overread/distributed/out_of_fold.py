"""Frozen features judged by cross-validation: made once, and everything that is learned of them learned anew in each fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overread.cases.cases import Cases
from overread.cases.extra_inputs import extra_values, fit_extra_inputs
from overread.cases.split import folds as folds_of
from overread.core.errors import UnsoundError, checked
from overread.core.files import cache_folder, cores
from overread.core.progress import Progress, Say, silent, unheard
from overread.learning import auto
from overread.learning.device import layout, pick_device
from overread.learning.ensemble import calibration_of
from overread.learning.linear_probe import cross_validate, extract, feature_key, kept_features, penalties_of
from overread.learning.loader import TrainingData, decode, normalisation
from overread.learning.model import initial_network
from overread.learning.recipe import Recipe, refuse_unfit
from overread.networks.backbones import BACKBONES
from overread.networks.codes import CodedLinear
from overread.networks.numeric_inputs import encode_numbers
from overread.tasks.task import Task


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """What heads say of images that they have not seen, as probabilities (or quantities).

    ``held_out`` (N, K): of each image, by the head that was fitted without its fold. ``inner``: by fold, (N, K) of the
    images outside of that fold by heads of inner folds, which have seen neither the image nor the fold; NaN inside it. On these
    a threshold for the fold may be chosen. ``penalties``: what each fold chose.
    """

    held_out: NDArray[np.float32]
    inner: Mapping[int, NDArray[np.float32]]
    penalties: tuple[float, ...]


@checked
def learns_inside(recipe: Recipe) -> bool:
    """Whether nothing but a linear head is learned from the images, so that :func:`judge_frozen` is the whole training.

    >>> learns_inside(Recipe(method="features", descriptors=("lbp",))), learns_inside(Recipe(method="finetune"))
    (True, False)
    """
    ours = bool(recipe.backbone) and BACKBONES[recipe.backbone].library == "overread"
    published = recipe.normalise in ("", "channel mean and std") and not ours
    return recipe.method == "features" and recipe.fusion == "single" and (recipe.described or published)


@checked
def judge_frozen(
    cases: Cases, fold: NDArray[np.int64], recipe: Recipe, *, weights: str | Path | None = None, cache: str | Path | None = None,
    digests: dict[str, str] | None = None, pairs: tuple[tuple[str, str, str], ...] = (), device: str = "", threads: int = 0,
    network: bool = False, progress: Progress = silent, say: Say = unheard,
) -> OutOfFold:  # fmt: skip
    """Cross-validate a recipe of frozen features on all images of ``cases``, whose ``fold`` (N,) keeps patients whole.

    The features are made once and kept in the ``cache``; they depend on the image alone. Inside each fold, from the
    images outside of it and nothing else: the planes of binary codes, the standardisation, also of numbers beside the pixels, the penalty (by ``recipe.folds`` inner folds of patients,
    ``pairs`` of like cases kept together), the weights of the classes, the head, and the calibration of what it says.
    What is chosen before, of all images: their size and how many orientations are averaged, by the images' own size.
    Raises :class:`UnsoundError` where a fold leaves one class to learn from, :class:`UnavailableError` without weights.
    """
    refuse_unfit(cases, recipe)
    device, every = pick_device(device), np.arange(len(cases))
    facts = auto.look(cases, every)
    found = auto.weights_at_hand(recipe, facts, folder=weights, device=device, network=network)
    settled, decisions = auto.plan(
        recipe, facts, pretrained=tuple(found), device=device, probe=auto.make_probe(facts, device)
    )
    for decision in decisions:
        say(decision.line)
    outside = [np.flatnonzero(fold != number) for number in np.unique(fold)]
    data = decode(cases, outside[0], np.setdiff1d(every, outside[0]), auto.preprocess_of(settled, facts), Path(cache) if cache else cache_folder(),
                  digests=digests, threads=threads or cores(), progress=progress, say=say)  # fmt: skip
    features, codes = _features(
        data, settled, found.get(settled.backbone, ""), Path(cache) if cache else cache_folder(), device, progress, say
    )
    return out_of_fold(features, cases, fold, settled, codes=codes, pairs=pairs, progress=progress)


def _features(
    data: TrainingData, recipe: Recipe, file: str, cache: Path, device: str, progress: Progress, say: Say
) -> tuple[Tensor, CodedLinear | None]:
    """The features (N, F) of every image, and what makes bits of them, if something does."""
    preprocess, mean_image = normalisation(data, recipe)
    network, origin = initial_network(recipe, preprocess, data.cases.target.outputs, weights=file or None)
    key = feature_key(origin, recipe, data.digests)
    kept = kept_features(network, data, recipe, preprocess, key, cache)
    codes = head if isinstance(head := getattr(network, "head", None), CodedLinear) else None
    if kept is not None:
        return kept, codes
    return extract(layout(network, device), data.images, preprocess, key=key, views=recipe.views, cache=cache, device=device,
                   mean_image=mean_image, progress=progress, say=say), codes  # fmt: skip


@checked
def out_of_fold(
    features: Tensor, cases: Cases, fold: NDArray[np.int64], recipe: Recipe, *, codes: CodedLinear | None = None,
    pairs: tuple[tuple[str, str, str], ...] = (), progress: Progress = silent,
) -> OutOfFold:  # fmt: skip
    """The same of ``features`` (N, F), a row for each image of ``cases``; ``codes`` learns its planes in each fold.

    The recipe's ``extra_inputs`` stand beside them, standardised by the images outside of each fold.
    """
    task, numbers = cases.target.task, np.unique(fold)
    held_out = np.full((len(cases), task.outputs), np.nan, np.float32)
    inner, penalties = {}, []
    for place, number in enumerate(numbers):
        progress("judging folds", place, len(numbers))
        rows = np.flatnonzero(fold != number)
        seen = features
        if codes is not None:
            codes.learn(features[torch.from_numpy(rows)], recipe.seed)
            seen = codes.coded(features)
        if recipe.extra_inputs:
            seen = torch.cat([seen, _numbers(cases, rows, recipe.extra_inputs).to(seen)], 1)
        chosen, own, others = _one_fold(seen, cases, rows, np.flatnonzero(fold == number), recipe, pairs)
        held_out[fold == number] = own
        inner[int(number)] = np.full_like(held_out, np.nan)
        inner[int(number)][rows] = others
        penalties.append(chosen)
    progress("judging folds", len(numbers), len(numbers))
    return OutOfFold(held_out, inner, tuple(penalties))


def _numbers(cases: Cases, rows: NDArray[np.int64], columns: tuple[str, ...]) -> Tensor:
    """(N, 2 E) what a head sees of the numbers of every image, by mean and deviation of the ``rows``."""
    scales = torch.tensor([(each.mean, each.std) for each in fit_extra_inputs(cases.take(rows), columns)])
    return encode_numbers(torch.from_numpy(extra_values(cases, columns)), *scales.float().T)


def _one_fold(
    features: Tensor, cases: Cases, rows: NDArray[np.int64], judged: NDArray[np.int64], recipe: Recipe, pairs: tuple[tuple[str, str, str], ...]
) -> tuple[float, NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
    """The penalty that ``rows`` chose, what their head says of the ``judged``, and inner heads of the rows themselves."""
    task, labels = cases.target.task, cases.labels
    if task.distinct(labels[rows]) < 2:
        raise UnsoundError("a fold leaves one class only to learn from", given=f"{len(rows)} images", todo="use fewer folds, or add cases of another class")  # fmt: skip
    scale = task.label_scale(labels[rows])
    truth = torch.from_numpy(np.array(task.scaled(labels, scale)[rows]))
    weights = torch.from_numpy(task.class_weights(labels[rows], recipe.head_balance))
    inside = folds_of(cases.take(rows), k=recipe.folds, seed=recipe.seed, pairs=pairs)
    probe = cross_validate(features[torch.from_numpy(rows)], truth, task, head=recipe.head, weights=weights, folds=inside,
                           penalties=penalties_of(recipe), refit=True)  # fmt: skip
    own = probe.fitted.outputs(features[torch.from_numpy(judged)])[0].double().numpy()
    others = probe.outputs.double().numpy()
    shift = task.prior_shift(labels[rows], recipe.head_balance)
    temperature, offsets = calibration_of(task, others, truth.numpy(), shift)
    told = (_probabilities(task, each / temperature + shift + offsets, scale) for each in (own, others))
    return (probe.penalty, *told)  # type: ignore[return-value]


def _probabilities(task: Task, outputs: NDArray[np.float64], scale: tuple[float, float]) -> NDArray[np.float32]:
    told = task.probabilities(torch.from_numpy(outputs.astype(np.float32))).numpy()
    return np.asarray(task.unscaled(told, scale), np.float32)

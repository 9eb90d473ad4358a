"""Linear heads on frozen features: extracted once, cached by content, judged by folds of patients.

:func:`fit_head` fits the one that a recipe describes; :func:`search_features` tries networks, layers, poolings, heads
and penalties, and classical descriptors beside them, and gives each with its out-of-fold outputs as a recipe to fit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.split import folds as folds_of
from overread.core.errors import InputError, checked, require
from overread.core.files import fingerprint, publish
from overread.core.progress import Clock, Progress, Say, silent, unheard
from overread.images.descriptors import DESCRIPTORS
from overread.images.preprocess import Preprocess
from overread.learning.checkpoint import digest_of
from overread.learning.device import layout, mean_over, to_tensor
from overread.learning.loader import Samples, TrainingData, normalisation
from overread.learning.model import Origin, initial_network
from overread.learning.recipe import Recipe
from overread.networks.backbones import HEADS
from overread.networks.codes import CodedLinear
from overread.networks.fusion import ByView, Fused, spread
from overread.networks.heads import Heads, calibrate, fit_heads
from overread.networks.numeric_inputs import WithNumbers
from overread.networks.state_dict import read_tensors, write_tensors
from overread.networks.taps import Tapped, layers_to_tap
from overread.tasks.task import Task

__all__ = [
    "FeatureRung",
    "Probe",
    "cross_validate",
    "extract",
    "feature_key",
    "fit_head",
    "kept_features",
    "penalties_of",
    "search_features",
    "set_head",
    "tried",
]


@dataclass(frozen=True, eq=False)
class Probe:
    """What folds of patients said of one head on one set of features.

    ``outputs`` (N, C) out-of-fold, of the ``penalty`` with the smallest held-out loss; ``scale`` and ``shift`` (C,) are
    what they were multiplied by and moved with, so that they are log odds; ``head`` on all rows, where it was asked for.
    """

    outputs: Tensor
    penalty: float
    losses: tuple[float, ...]
    head: Heads | None = None

    @property
    def fitted(self) -> Heads:
        """The head on all rows; raises :class:`ArgumentError` where it was not asked for."""
        require(self.head is not None, "the head was judged only", todo="ask for it with refit=True")
        return cast("Heads", self.head)


@checked
def cross_validate(
    features: Tensor,
    labels: Tensor,
    task: Task,
    *,
    head: str = "logistic",
    weights: Tensor,
    folds: NDArray,
    penalties: tuple[float, ...],
    refit: bool = False,
    progress: Progress = silent,
) -> Probe:
    """Fit every penalty on every fold, and on all rows too with ``refit``; choose the penalty by the held-out loss.

    ``folds`` (N,) whole numbers: patients never stand in two. Logistic regression gives log odds; the outputs of other
    heads are scaled and shifted to be such, by what the folds held out (:func:`overread.networks.heads.calibrate`).
    """
    numbers = np.unique(folds)
    fold = torch.as_tensor(folds, device=features.device)
    inside = torch.stack([fold != k for k in [*numbers, *[numbers.max() + 1] * refit]]).to(features.dtype)
    count = len(penalties)
    heads = fit_heads(features, labels, task, head=head, weights=weights, masks=inside.repeat_interleave(count, 0),
                      penalties=features.new_tensor(penalties).repeat(len(inside)), progress=progress)  # fmt: skip
    some = slice(0, len(numbers) * count)
    if head == "logistic":
        outside = (1 - inside[: len(numbers)]).repeat_interleave(count, 0)
        outputs = heads[some].outputs(features)
        each, _ = task.loss_and_slope(outputs, labels, weights)
        held = ((each * outside).sum(1) / outside.sum(1).clamp(min=1)).reshape(-1, count).mean(0)  # (penalties,)
        scale, shift = torch.ones(count, task.outputs), torch.zeros(count, task.outputs)
        outputs = _out_of_fold(outputs, fold, numbers, count)
    else:
        outputs = _out_of_fold(heads[some].outputs(features), fold, numbers, count)
        scale, shift, held = calibrate(outputs, labels, task, weights)
        outputs = outputs * scale[:, None] + shift[:, None]
    best = int(held.argmin())
    last = heads[len(numbers) * count + best :][:1] if refit else None
    if last is not None and head != "logistic":
        last = Heads(last.weight * scale[best], last.bias * scale[best] + shift[best])
    return Probe(outputs[best], penalties[best], tuple(map(float, held)), last)


def _out_of_fold(outputs: Tensor, fold: Tensor, numbers: NDArray, count: int) -> Tensor:
    """(penalties, N, C): of each row what the heads said that did not see it, from (folds · penalties, N, C)."""
    made = outputs.new_empty(count, *outputs.shape[1:])
    for place, number in enumerate(numbers):
        rows = fold == int(number)
        made[:, rows] = outputs[place * count : (place + 1) * count, rows]
    return made


@checked
def fit_head(
    network: nn.Module,
    data: TrainingData,
    recipe: Recipe,
    preprocess: Preprocess,
    labels: Tensor,
    weights: Tensor,
    *,
    samples: Samples,
    key: list[Any],
    cache: Path | None = None,
    device: str = "cpu",
    mean_image: NDArray | None = None,
    progress: Progress = silent,
    say: Say = unheard,
) -> tuple[dict[str, Any], ...]:
    """Fit the network's head, in place, on frozen features of the training samples; the penalty by folds of patients.

    ``labels`` of all samples, ``weights`` of the classes, ``key`` as in :func:`extract`. Returns the held-out loss of
    each penalty, and which was chosen; of one classifier a view, those of each.
    """
    views = recipe.views if recipe.method == "features" else 1
    inner: Any = network.body if isinstance(network, Fused) else network
    body = inner.body if isinstance(inner, WithNumbers) else inner
    features = kept_features(body, data, recipe, preprocess, key, cache)
    if features is None:
        features = extract(body, data.images, preprocess, key=key, views=views, cache=cache, device=device,
                           mean_image=mean_image, progress=progress, say=say)  # fmt: skip
    if isinstance(inner, WithNumbers):
        numbers = torch.from_numpy(np.asarray(data.numbers(recipe))).to(device)
        features = torch.cat([features, inner.encoded(numbers).cpu()], 1)
    rows, members = samples.training, samples.cases
    if isinstance(head := getattr(body, "head", None), CodedLinear):
        head.learn(features[torch.from_numpy(rows)], recipe.seed)
        features = head.coded(features)

    def fitted(features: Tensor, some: NDArray[np.int64]) -> Probe:
        folds = folds_of(data.cases.take(samples.first[some]), k=recipe.folds, seed=recipe.seed)
        return cross_validate(features, labels[torch.from_numpy(some)], data.cases.target.task, head=recipe.head, weights=weights,
                              refit=True, folds=folds, penalties=penalties_of(recipe), progress=progress)  # fmt: skip

    if not isinstance(network, Fused) or members is None:
        return tried(recipe, set_head(network, fitted(features[torch.from_numpy(rows)], rows)))
    if isinstance(network.fuse, ByView):
        history: list[dict[str, Any]] = []
        for place, view in enumerate(samples.views):
            some = rows[members[rows, place] >= 0]
            probe = fitted(features[torch.from_numpy(members[some, place])], some)
            network.fuse.set_classifier(place, probe.fitted.weight[0], probe.fitted.bias[0])
            history += [{"view": view, **row} for row in tried(recipe, probe)]
        return tuple(history)
    there = torch.from_numpy(members[rows] >= 0)
    shown = features[torch.from_numpy(members[rows])[there]].to(device)
    with torch.inference_mode():
        fused = network.fuse(spread(shown, there.to(device)), there.to(device)).float().cpu()
    return tried(recipe, set_head(network, fitted(fused, rows)))


@checked
def feature_key(origin: Origin, recipe: Recipe, digests: tuple[str, ...]) -> list[Any]:
    """What names the features that a recipe reads of a frozen network, for :func:`extract`."""
    return [origin, *recipe.taps, digests, *([recipe.fresh, recipe.seed] if recipe.fresh else [])]


@checked
def kept_features(
    network: nn.Module, data: TrainingData, recipe: Recipe, preprocess: Preprocess, key: list[Any], cache: Path | None
) -> Tensor | None:
    """The features (N, F) of a recipe of frozen features, from the cache; None where they are not there."""
    if cache is None or recipe.method != "features" or preprocess.normalise == "mean image":  # no key tells that one
        return None
    path = _entry(cache, key, preprocess, recipe.views)
    if path.exists() and (found := _cached(path, len(data.images))) is not None:
        return found
    return _found_by_the_search(network, data, recipe, preprocess, key, cache)


@checked
def set_head(network: nn.Module, probe: Probe) -> Probe:
    """Make the head that was fitted on all rows the network's, in place."""
    head = network.get_submodule("head")
    with torch.no_grad():
        head.weight.copy_(probe.fitted.weight[0].T)  # type: ignore[operator, union-attr]
        head.bias.copy_(probe.fitted.bias[0])  # type: ignore[operator, union-attr]
    return probe


@checked
def tried(recipe: Recipe, probe: Probe) -> tuple[dict[str, Any], ...]:
    """The held-out loss of each penalty of a recipe, and which was chosen."""
    return tuple({"penalty": penalty, "held-out loss": loss, "chosen": penalty == probe.penalty}
                 for penalty, loss in zip(penalties_of(recipe), probe.losses))  # fmt: skip


@checked
def penalties_of(recipe: Recipe) -> tuple[float, ...]:
    """Those of the recipe; the closed forms, which shrink all directions alike, are tried at larger ones too."""
    more = (10.0, 100.0, 1000.0) if len(recipe.penalties) > 1 and recipe.head in ("ridge", "nearest-mean") else ()
    return (*recipe.penalties, *(factor * max(recipe.penalties) for factor in more))


# -- the first two rungs of the ladder: descriptors, and frozen networks ------------------------------------------------


@dataclass(frozen=True, eq=False)
class FeatureRung:
    """One way to read frozen features, judged by folds of the training patients.

    ``fit(data, recipe, weights=weights or None)`` makes its model. ``rows``: the training rows it was judged on (all, or
    those of some patients where time was short), ascending; ``outputs`` (len(rows), C): before softmax, of heads that
    did not see the patient; ``score`` of them by :meth:`Task.snapshot_score`, the larger the better. ``seconds``: what
    the features and this head took. The penalty was chosen by the same folds.
    """

    name: str
    recipe: Recipe
    weights: str
    rows: NDArray[np.int64]
    outputs: NDArray[np.float32]
    score: float
    seconds: float


@checked
def search_features(
    data: TrainingData,
    recipe: Recipe,
    pretrained: Mapping[str, str],
    *,
    heads: tuple[str, ...] = HEADS,
    descriptors: bool = True,
    seconds: float = float("inf"),
    cache: Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
    say: Say = unheard,
) -> list[FeatureRung]:
    """Try descriptors, then each network of ``pretrained`` (name to its file of weights, in the order to be tried).

    Of each network ridge regression on every choice of layers and pooling, and the other ``heads`` on the two choices
    that are best by it, with every penalty. The best first; those judged on fewer rows after those judged on more, since
    scores of different patients do not compare.

    ``recipe``: where the rungs start from: its seed, folds, penalties, ``balance``, ``views`` and ``normalise``; the
    images are those of ``data``. ``seconds`` bound the search: a source whose features would take too long is tried on
    some of the patients, the first so that its answer is there after about half of them, or left out, and ``say``
    hears of it. With a ``cache``, :func:`fit_head` finds the features of a rung there. The tuning rows are not looked
    at. Raises :class:`UnsoundError` for fewer patients than folds.
    """
    clock, rungs = Clock(seconds), list[FeatureRung]()
    sources: list[tuple[str, str]] = [("", "")] * descriptors + list(pretrained.items())
    for place, (name, file) in enumerate(sources):
        limit = min(clock.left, _FIRST * seconds if not rungs else _FEATURES * clock.left / (len(sources) - place))
        rows = data.training
        if limit < float("inf"):
            rows = _affordable(data, recipe, name, file, limit, device, say, anyway=descriptors and not place)
            if not len(rows):
                continue
        found = list(_source_rungs(data, rows, recipe, name, file, heads, clock, cache, device, progress, say))
        rungs += found
        best = max(found, key=lambda rung: rung.score)
        say(f"  {best.name}: {best.score:.3f} by folds, after {clock.elapsed:.0f} s")
    return sorted(rungs, key=lambda rung: (-len(rung.rows), -rung.score))


#: The share of the time in which the first rung is there, and that of a network's share which its features may take.
_FIRST, _FEATURES = 0.5, 0.5
#: Below so many patients in a fold nothing is learned about a network.
_FEWEST_PATIENTS = 5
#: Images by which the time of a source's features is foretold.
_PROBED = 8


def _affordable(
    data: TrainingData, recipe: Recipe, name: str, file: str, seconds: float, device: str, say: Say, *, anyway: bool
) -> NDArray[np.int64]:  # fmt: skip
    """The training rows whose features are made within ``seconds``: all, those of some patients, or none.

    ``anyway``: of the fewest patients rather than none, so that there is an answer.
    """
    base = _started(recipe, name)
    preprocess, mean_image = normalisation(data, base)
    network, _ = initial_network(base, preprocess, data.cases.target.outputs, weights=file or None)
    network, some = layout(network, device).eval(), data.images[data.training[:_PROBED]]
    times = []
    for _ in range(2):  # the first warms up
        start = time.monotonic()
        _forward(network, some, preprocess, recipe.views, device, mean_image, silent)
        times.append((time.monotonic() - start) / len(some))
    training = data.cases.take(data.training)
    parts = int(np.ceil(min(times) * len(data.images) / max(seconds, 1e-3)))
    what = name or "the descriptors"
    most = training.patients // (_FEWEST_PATIENTS * recipe.folds)
    parts = min(parts, most) if anyway else parts
    if parts <= 1:
        return data.training
    if parts > most:
        say(f"  {what}: not tried; {min(times):.2f} s an image are too many for {seconds:.0f} s")
        return data.training[:0]
    rows = data.training[folds_of(training, k=parts, seed=recipe.seed) == 0]
    say(
        f"  {what}: tried on {len(rows)} of {len(data.training)} training images; all would take longer than {seconds:.0f} s"
    )
    return rows


def _started(recipe: Recipe, name: str) -> Recipe:
    """The recipe of a network's features, or of all descriptors (""), before anything is chosen."""
    return recipe.changed(method="features", backbone=name, layers=(), pooling="mean", head="logistic",
                          descriptors=() if name else tuple(DESCRIPTORS))  # fmt: skip


def _source_rungs(
    data: TrainingData, rows: NDArray[np.int64], recipe: Recipe, name: str, file: str, heads: tuple[str, ...],
    clock: Clock, cache: Path | None, device: str, progress: Progress, say: Say,
) -> Iterator[FeatureRung]:  # fmt: skip
    """The rungs of the descriptors ("") or of one network: ridge on every choice of columns, every head on the best."""
    start = time.monotonic()
    features, choices = _all_features(data, rows, _started(recipe, name), file, cache, device, progress, say)
    taken = time.monotonic() - start
    task = data.cases.target.task
    labels = task.scaled(data.cases.labels, task.label_scale(data.cases.labels[rows]))[rows]
    weights = torch.from_numpy(task.class_weights(data.cases.labels[rows], recipe.head_balance))
    folds = folds_of(data.cases.take(rows), k=recipe.folds, seed=recipe.seed)
    truth = torch.from_numpy(np.array(labels))

    def judged(changed: Recipe, columns: Tensor, head: str) -> FeatureRung:
        begin = time.monotonic()
        probe = cross_validate(features[:, columns], truth, task, head=head, weights=weights, folds=folds,
                               penalties=penalties_of(recipe.changed(head=head)), progress=progress)  # fmt: skip
        outputs = probe.outputs.numpy()
        score = task.snapshot_score(outputs, np.array(labels), min(probe.losses))
        settled = changed.changed(head=head, penalties=(probe.penalty,))
        return FeatureRung(_title(settled), settled, file, rows, outputs, score, taken + time.monotonic() - begin)

    screened: list[tuple[FeatureRung, Recipe, Tensor]] = []
    for changed, columns in choices:
        if screened and clock.left <= 0:
            break
        screened.append((judged(changed, columns, "ridge"), changed, columns))
    yield from (rung for rung, _, _ in screened)
    screened.sort(key=lambda each: -each[0].score)
    for _, changed, columns in screened[:_FINALISTS]:
        for head in heads:
            if head != "ridge" and clock.left > 0 and (head != "nearest-mean" or not task.continuous):
                yield judged(changed, columns, head)


#: Of a network's choices of layers and pooling, so many are tried with every head.
_FINALISTS = 2


def _title(recipe: Recipe) -> str:
    """``mobilenet_v2, blocks.4 + bn2, mean, logistic``."""
    layers = " + ".join(recipe.layers) or ("last features" if recipe.backbone else "")
    parts = [
        recipe.backbone,
        layers,
        recipe.pooling if recipe.backbone else "",
        " + ".join(recipe.descriptors),
        recipe.head,
    ]
    return ", ".join(part for part in parts if part)


def _all_features(
    data: TrainingData,
    rows: NDArray[np.int64],
    recipe: Recipe,
    file: str,
    cache: Path | None,
    device: str,
    progress: Progress,
    say: Say,
) -> tuple[Tensor, list[tuple[Recipe, Tensor]]]:
    """The features of the rows, all layers and poolings by one pass, and the choices of columns, each with its recipe.

    Where all training rows are asked for, the features of all images are kept: a model will be fitted on them.
    """
    whole = len(rows) == len(data.training)
    images = data.images if whole else data.images[rows]
    digests = data.digests if whole else tuple(data.digests[row] for row in rows)
    preprocess, mean_image = normalisation(data, recipe)
    network, origin = initial_network(recipe, preprocess, data.cases.target.outputs, weights=file or None)
    choices = [(recipe, torch.arange(network.head.in_features))]  # type: ignore[union-attr, arg-type]
    if recipe.backbone:
        found = layers_to_tap(network, preprocess)
        everything = (*found, "dropout")  # of every network: what its head sees
        choices = list(_choices(recipe, found, network.width))  # type: ignore[arg-type]
        network = Tapped(network, everything, preprocess, data.cases.target.outputs, pooling="both")
    key = [origin, _ALL_LAYERS, digests] if recipe.backbone else [origin, *recipe.taps, digests]
    features = extract(layout(network, device), images, preprocess, key=key, views=recipe.views, cache=cache, device=device,
                       mean_image=mean_image, progress=progress, say=say)  # fmt: skip
    return features[torch.from_numpy(rows)] if whole else features, choices


#: Instead of layers, in the key of features that hold all of a network's.
_ALL_LAYERS = "all layers"


def _found_by_the_search(
    network: nn.Module, data: TrainingData, recipe: Recipe, preprocess: Preprocess, key: list[Any], cache: Path
) -> Tensor | None:
    """The features (N, F) of a recipe as columns of what a search has kept of its network; None where it has not."""
    if not recipe.backbone or recipe.descriptors:
        return None
    path = _entry(cache, [key[0], _ALL_LAYERS, key[-1]], preprocess, recipe.views)
    if not path.exists() or (features := _cached(path, len(data.images))) is None:
        return None
    body: Any = network.body if isinstance(network, Tapped) else network
    wanted = (recipe.layers, recipe.pooling)
    choices = _choices(recipe.changed(layers=(), pooling="mean"), layers_to_tap(body, preprocess), body.width)
    return next((features[:, columns] for each, columns in choices if (each.layers, each.pooling) == wanted), None)


def _entry(cache: Path, key: object, preprocess: Preprocess, views: int) -> Path:
    return cache / "features" / f"{fingerprint([key, preprocess, views])}.safetensors"


def _choices(recipe: Recipe, found: dict[str, int], width: int) -> Iterator[tuple[Recipe, Tensor]]:
    """What the head sees; each of the last layers alone; and several of the last together, by mean, maximum or both."""
    starts = dict(zip(found, np.cumsum([0, *(2 * channels for channels in found.values())])))
    total = sum(2 * channels for channels in found.values())
    yield recipe, torch.arange(total, total + width)
    names = list(found)
    sets = [(name,) for name in names[-_ALONE:]] + [tuple(names[-many:]) for many in range(2, len(names) + 1)]
    for layers in sets:
        for pooling, parts in (("mean", (0,)), ("max", (1,)), ("both", (0, 1))):
            columns = [
                torch.arange(found[name]) + int(starts[name]) + part * found[name] for name in layers for part in parts
            ]
            yield recipe.changed(layers=layers, pooling=pooling), torch.cat(columns)


#: Layers, the last ones, that are tried alone too.
_ALONE = 4


# -- frozen features: one pass over the images through a pretrained network, cached by content --------------------


_BATCH = 16


@checked
def extract(
    network: nn.Module,
    images: NDArray[Any],
    preprocess: Preprocess,
    *,
    key: object,
    views: int = 1,
    cache: Path | None = None,
    device: str = "cpu",
    mean_image: NDArray | None = None,
    progress: Progress = silent,
    say: Say = unheard,
) -> Tensor:
    """Pooled features (N, F) float32 of packed images, the mean over ``views``.

    ``key``: plain data that names weights, layers and images; equal keys share a cache entry, which carries a checksum:
    a damaged one is made anew, and ``say`` hears of it. Features less a ``mean_image``, which no key names, are not kept.
    """
    path = _entry(cache, key, preprocess, views) if cache and mean_image is None else None
    if path and path.exists():
        if (found := _cached(path, len(images))) is not None:
            return found
        say(f"  the features of {len(images)} images were damaged in the cache: they are calculated again")
    features = _forward(network.eval(), images, preprocess, views, device, mean_image, progress)
    if path:
        with publish(path) as beside:
            write_tensors({"features": features}, beside, {"digest": digest_of({"features": features})})
    return features


def _cached(path: Path, count: int) -> Tensor | None:
    """The features of a cache entry; None where its checksum does not match."""
    try:
        tensors, header = read_tensors(path)
    except InputError:
        return None
    found = tensors.get("features")
    whole = found is not None and len(found) == count and header.get("digest") == digest_of(tensors)
    return found if whole else None


@torch.inference_mode()
def _forward(
    network: Any,
    images: NDArray[Any],
    preprocess: Preprocess,
    views: int,
    device: str,
    mean_image: Any,
    progress: Progress,
) -> Tensor:
    parts = []
    for start in range(0, len(images), _BATCH):
        x = to_tensor(images[start : start + _BATCH], preprocess, mean_image, device)
        parts.append(mean_over(network.features, x, views).cpu())
        progress("extracting features", min(start + _BATCH, len(images)), len(images))
    return torch.cat(parts)

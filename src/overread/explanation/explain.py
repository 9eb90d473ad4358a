"""Where a model looked: maps of cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor, nn, tensor

from overread.cases.cases import Cases
from overread.core.errors import InputError, checked, one_of, require
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.explanation.attribute import attributions, layer_of
from overread.explanation.checks.criteria import masks_of, require_column
from overread.explanation.checks.faithfulness import Curves
from overread.explanation.explanation import Explanation
from overread.explanation.methods import Method, method_of
from overread.explanation.sanity import blind_curves, check
from overread.explanation.verdict import Checks
from overread.learning.device import layout
from overread.learning.ensemble import Committee, sides_of
from overread.learning.inputs import Inputs, inputs
from overread.learning.model import Model
from overread.learning.predict import outputs_of, predict_images
from overread.networks.fusion import Fused
from overread.networks.numeric_inputs import WithNumbers
from overread.networks.taps import Tapped
from overread.tasks.target import Target

#: Images that are read, answered and explained together.
BATCH = 8


@checked
def explain(
    model: Model, cases: Cases, *, target: str | Mapping[str, str] = "", method: str = "grad-cam", layer: str = "", views: int = 1,
    checks: bool = True, masks: str = "", seed: int = 0, device: str = "", threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> Explanation | tuple[Explanation, ...]:  # fmt: skip
    """A map of each case, or of each image where the model sees images one by one; of one, it alone.

    ``target``: a class or finding, or one for each case by its name; where there is none, the most probable one, and the
    notes say so: of a case it is one, of all of its images together; of a quantity its value. ``method``: of :data:`overread.explanation.methods.METHODS`. ``layer``: chosen
    where blank (:func:`overread.explanation.layers.default_layer`). ``views``: 2, 4 or 8 to average maps over
    orientations, as the model's recipe may average its answers. ``checks``: whether each map is held against maps that know
    nothing of the network (:func:`overread.explanation.sanity.check`), which takes some hundred passes, and gets a verdict. ``masks``: the column of the
    table with the addresses of masks of what the map should point at, relative to where the images are, against which the place is checked too; blank cells have none.
    ``seed``: of SmoothGrad's noise and of the checks.

    Raises :class:`ArgumentError` for an unknown target, method or layer, and for masks without checks, :class:`UnavailableError` for a method that the
    network has nothing for, :class:`InputError` where no image can be read.
    """
    errors: dict[int, str] = {}
    found = tuple(explanations(model, cases, targets=target, methods=(method,), layer=layer, views=views, checks=checks, masks=masks, seed=seed, device=device,
                               threads=threads, errors=errors, progress=progress, say=say))  # fmt: skip
    if not found:
        raise InputError("none of the images can be read", given=next(iter(errors.values()), "an empty table"))
    return found[0] if len(found) == 1 else found


@checked
def explanations(
    model: Model, cases: Cases, *, targets: str | Mapping[str, str] = "", methods: Sequence[str] = ("grad-cam",), layer: str = "",
    views: int = 1, checks: bool = True, masks: str = "", seed: int = 0, device: str = "", threads: int = 0, errors: dict[int, str] | None = None,
    progress: Progress = silent, say: Say = unheard,
) -> Iterator[Explanation]:  # fmt: skip
    """The same by several methods, one case after the other and all methods of each; images are read once.

    ``errors`` takes the reason for each row of the table whose image cannot be read.
    """
    abouts = [method_of(each) for each in methods]
    require(len(abouts) > 0, "name at least one method")
    require(checks or not masks, "masks are held against maps by the checks, which are left out", given=f"masks {masks!r}", todo="leave masks out, or checks in")  # fmt: skip
    require_column(cases, masks)
    for name in {targets} if isinstance(targets, str) else set(targets.values()):
        index_of(model.target, name)
    found = inputs(model, cases, device=device, threads=threads, batch=BATCH, errors=errors, progress=progress, say=say, doing="explaining")  # fmt: skip
    probable = _most_probable(model, cases, targets, device=device, threads=threads, progress=progress)
    return _explained(
        model, cases, found, targets, probable, abouts, _Wish(layer, views, checks, seed, masks, threads), say
    )


def _most_probable(model: Model, cases: Cases, targets: str | Mapping[str, str], **work: Any) -> dict[str, str]:
    """The target of each case that none was named for, where its images are seen one by one and are several: by the mean
    of what is said of them, as ``predict`` has it, so that their maps are of one class."""
    names, target = cases.table["case"].astype(str), model.target
    named = [] if isinstance(targets, str) else [case for case, name in targets.items() if name]
    open_ = names.duplicated(keep=False) & ~names.isin(named)
    if (
        (isinstance(targets, str) and targets)
        or target.outputs == 1
        or model.about.recipe.fusion != "single"
        or not open_.any()
    ):
        return {}
    values, _ = predict_images(model, cases.take(np.flatnonzero(open_)), **work)
    means = pd.DataFrame(values).groupby(names[open_].to_numpy(), sort=False).mean().dropna()
    return {
        str(case): target.names[index_of(target, "", row)]
        for case, row in zip(means.index, means.to_numpy(), strict=True)
    }


@dataclass(frozen=True)
class _Wish:
    """What is asked of every map."""

    layer: str
    views: int
    checks: bool
    seed: int
    masks: str = ""
    threads: int = 0


def _explained(
    model: Model, cases: Cases, found: Iterator[Inputs], targets: str | Mapping[str, str], probable: Mapping[str, str],
    abouts: Sequence[Method], wish: _Wish, say: Say,
) -> Iterator[Explanation]:  # fmt: skip
    unread = 0
    addressed = cases.table[wish.masks].fillna("").astype(str).ne("").to_numpy() if wish.masks else None
    for batch in found:
        network = layout(model.network, str(batch.x.device)).eval()
        answers = _answers(model, network, batch.x)
        wanted = [targets if isinstance(targets, str) else targets.get(case, "") for case in batch.cases]
        chosen = [index_of(model.target, name or probable.get(case, ""), row)
                  for name, case, row in zip(wanted, batch.cases, answers, strict=True)]  # fmt: skip
        index = tensor(chosen, device=batch.x.device)
        masks = masks_of(model, cases, wish.masks, batch, wish.threads)
        if addressed is not None:
            unread += sum(mask is None and bool(addressed[[r for r in rows if r >= 0]].any()) for mask, rows in zip(masks, batch.rows, strict=True))  # fmt: skip
        made = []
        for about in abouts:
            used = layer_of(network, batch.x, about.name, wish.layer)
            maps = attributions(network, batch.x, index, about.name, used, views=wish.views, seed=wish.seed)
            made.append((about, used, maps, notes_on(model, about, wish.views)))
        for row in range(len(batch)):
            usual = model.target.task.most_probable
            said = (f"Target: {usual}, since none was named.",) if usual and not wanted[row] else ()
            names, images = _shown(model, cases, batch, row)
            checker = _Checker(model, network, batch.x[row : row + 1], chosen[row], wish, masks[row])
            for about, used, maps, notes in made:
                values = np.asarray(maps[row].cpu().numpy(), np.float32).reshape(images.shape[:-1])
                one = Explanation(batch.cases[row], model.target.names[chosen[row]], about.name, used, values, images,
                                  float(answers[row, chosen[row]]), names, (*said, *notes))  # fmt: skip
                yield one.judged(checker.checks(about, used, maps[row : row + 1])) if wish.checks else one
    if unread:
        say(
            f"  {count(unread, 'mask')} cannot be read: the place of {'that map' if unread == 1 else 'those maps'} is not checked"
        )


@dataclass(frozen=True, eq=False)
class _Checker:
    """The checks of the maps of one case ``x`` (1, …), for one output."""

    model: Model
    network: nn.Module
    x: Tensor
    target: int
    wish: _Wish
    mask: NDArray[np.bool_] | None = None

    def score(self, outputs: Tensor) -> Tensor:
        """The probability of the target."""
        return self.model.target.task.probabilities(outputs)[:, self.target]

    @cached_property
    def blind(self) -> Curves:
        """What maps do to the probability that know nothing: the same for all methods."""
        sides = sides_of(self.network) or self.x.ndim - 2
        shape = (*self.x.shape[1 : self.x.ndim - sides - 1], *self.x.shape[-sides:])
        return blind_curves(self.network, self.x, self.score, shape, seed=self.wish.seed)

    def checks(self, about: Method, used: str, made: Tensor) -> Checks:
        """Those of the map ``made`` (1, …) by one method, at the layer ``used``."""
        names = dict.fromkeys(used.split(" + "))
        alone = (
            next(iter(names)) if len(names) == 1 else ""
        )  # of one member, whose layer may differ from the next one's

        def again(other: nn.Module, images: Tensor) -> Tensor:
            layer = used if isinstance(other, type(self.network)) else alone
            return attributions(
                other, images, self.target, about.name, layer, views=self.wish.views, seed=self.wish.seed
            )

        nothing = not bool((made.nan_to_num() > 0).any())  # then no curve is drawn
        # a mean over orientations adds up to the mean of their outputs, and to none of them: completeness is not asked
        return check(again, self.network, self.x, target=self.target, score=self.score, made=made, draws=1, seed=self.wish.seed, mask=self.mask,
                     baseline=self.x * 0 if about.complete and self.wish.views == 1 else None, blind=None if nothing else self.blind)  # fmt: skip


def _answers(model: Model, network: nn.Module, x: Tensor) -> NDArray[np.float32]:
    """Probabilities (B, outputs) as ``predict`` gives them, of a quantity its value."""
    made = model.target.task.probabilities(outputs_of(network, x, model.about.recipe.views, x.device.type))
    return np.asarray(model.target.task.unscaled(made.cpu().numpy(), model.about.scale), np.float32)


@checked
def index_of(target: Target, name: str, answers: NDArray | None = None) -> int:
    """The output that a target's name stands for; of a blank name the largest of ``answers`` (outputs,), else the first.

    Raises :class:`ArgumentError` with the nearest name for one that the model does not know.
    """
    if name:
        return list(target.names).index(one_of(name, target.names, "the target"))
    return 0 if answers is None else int(np.argmax(answers))


def _shown(model: Model, cases: Cases, batch: Inputs, row: int) -> tuple[tuple[str, ...], NDArray]:
    """What the images of a case are called, and these (V, …, C), 0 where one is missing."""
    pixels = batch.pixels[row]
    there = next(image for image in pixels if image is not None)
    images = np.stack([np.zeros_like(there) if image is None else image for image in pixels])
    table = cases.table
    alone = len(pixels) == 1 and int((table["case"] == batch.cases[row]).sum()) == 1
    if alone:
        return ("",), images
    if model.about.views and len(model.about.views) == len(pixels):
        return tuple(model.about.views), images
    names = []
    for place, at in enumerate(batch.rows[row]):
        view, time = (str(table[column].iloc[int(at)]) if at >= 0 and column in table else "" for column in ("view", "time"))  # fmt: skip
        names.append(" ".join(filter(None, (view, time))) or f"image {place + 1 if len(pixels) > 1 else int(at) + 1}")
    return tuple(names), images


@checked
def notes_on(model: Model, about: Method, views: int = 1) -> tuple[str, ...]:
    """What a map of this model by this method leaves out or averages, a sentence each."""
    network, recipe, notes = model.network, model.about.recipe, []
    parts = [each.network for each in network.members] if isinstance(network, Committee) else [network]  # type: ignore[union-attr]
    parts = [part.body if isinstance(part, Fused) else part for part in parts]
    parts = [part.body if isinstance(part, WithNumbers) else part for part in parts]
    heads = [part for part in parts if isinstance(part, Tapped)]
    if not about.of_target:
        notes.append("The map is the same for every target.")
    if isinstance(network, Committee) and (about.layered or not about.of_target):
        notes.append(f"Mean of the maps of {count(len(network.members), 'network')} by their shares, each divided by its largest value.")  # fmt: skip
    if about.layered and any(len(part.layers) > 1 for part in heads):
        notes.append("The answer is read from several layers; the map is of the last of them.")
    if about.kind != "occlusion" and any(part.descriptors for part in heads):
        notes.append("The answer is also read from descriptors of the whole image (colour, size, texture), which no such map shows; occlusion does.")  # fmt: skip
    if model.about.extra_inputs:
        notes.append(f"The answer is also read from numbers beside the pixels ({', '.join(each.column for each in model.about.extra_inputs)}), which no map shows.")  # fmt: skip
    if recipe.views > 1 and views == 1:
        notes.append(f"The answer is the mean over {recipe.views} orientations of the image; the map is of the image as it lies.")  # fmt: skip
    if views > 1:
        notes.append(f"Mean of the maps of {views} orientations of the image.")
    return tuple(notes)

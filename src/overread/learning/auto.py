"""The plan: look at the data once, then fill what the recipe left open from patients, weights, hardware and budget.

Rules of thumb of transfer learning (Yosinski 2014, "How transferable are features in deep neural networks?"; Raghu
2019, "Transfusion"): few patients, a linear head on frozen features; more, fine-tuning; small images or no weights, a
small network of one's own. Each decision is written down with its reason.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.cases import Cases, paths
from overread.core.errors import ImageError, InputError, OverreadError, UnavailableError, checked, nearest
from overread.core.phrases import count
from overread.core.sandbox import contained_call
from overread.images.augment import Augmentation
from overread.images.image import Image
from overread.images.preprocess import Preprocess
from overread.images.read import read_image
from overread.learning.device import choose_precision, free_memory, layout, no_memory, out_of_memory, seeded, time_step
from overread.learning.model import Decision
from overread.learning.recipe import AUTO, LEARNED_FUSIONS, MOST_EPOCHS, Recipe
from overread.networks import weights as stores
from overread.networks.backbones import BACKBONES, build, preferred
from overread.networks.own import first_channels, own_name

#: Images that are looked at, spread over the table.
LOOKED_AT = 50
#: Fewer patients than this in the rarest class: only a linear head is fitted ("low dozens per class: too few").
FEW_PATIENTS = 25
#: Up to this side the images are small and a network of our own serves best.
SMALL_SIDE = 64
#: Fine-tuning is worth its time from this many epochs on.
FEWEST_EPOCHS = 10
#: Sides in pixels at which images are described without a network, and about the seconds that one takes.
DESCRIBED_SIDE, DESCRIBED_SECONDS = 128, 0.015
_USUAL_EPOCHS = {"scratch": 30, "finetune": 10, "features": 0}
#: The fewest epochs of each of several networks that answer together, and from random weights the fewest steps: five
#: smaller networks of fewer, or three of half of them, told less than one on radiographs of 28 pixels.
_FOLD_EPOCHS = {"scratch": 10, "finetune": 8}
_FOLD_STEPS = 600
#: The penalties that are tried for the head from which a ladder's fine-tuning starts: it is about to be learned on.
HEAD_PENALTIES = (1e-3, 1e-2, 1e-1)
#: Epochs and rate of a fusion that is learned on frozen features.
EPOCHS_ABOVE, RATE_ABOVE = 60, 1e-3
#: Numbers of folds whose networks answer together, the best first.
FOLDS = (5, 3)
_SIDES = (224, 192, 160, 128, 96)
#: Up to this side in voxels a volume is small.
_SMALL_VOLUME = 48
#: Sides in voxels that a volume is made smaller to, where there is no time for its own.
_VOLUME_SIDES = (96, 64, 48, 32)
#: ``(backbone, side, batch, precision) -> seconds`` of one training step on this machine.
Probe = Callable[[str, int, int, str], float]


@dataclass(frozen=True)
class Facts:
    """What is known of the data before anything is decided.

    ``images``, ``patients`` and ``fewest`` (patients of the rarest class) are of the training rows; ``side`` is the
    median of the images' smaller sides in pixels, ``bits`` the most of any image looked at. ``cases`` of the training
    rows, and ``per_case``: the most images of one. ``held``: images of the tuning rows.
    """

    images: int
    patients: int
    fewest: int
    side: int
    bits: int = 8
    volume: bool = False
    colour: bool = False
    cases: int = 0
    per_case: int = 1
    held: int = 0

    def samples(self, recipe: Recipe) -> tuple[int, int]:
        """What a recipe learns from: how many samples, and how many images each shows (cases where they are fused)."""
        if recipe.fusion == "single":
            return self.images, 1
        return self.cases or self.images, min(self.per_case, recipe.images_per_case or self.per_case)


@checked
def look(cases: Cases, training: NDArray[np.int64]) -> Facts:
    """The facts of a training: patients counted, and some fifty images decoded once.

    ``cases``: the rows that teach or tune; ``training``: which of them teach. Raises :class:`ImageError` where none of
    the fifty can be read.
    """
    addresses, teachers = paths(cases), cases.take(training)
    rows = np.unique(np.linspace(0, len(addresses) - 1, LOOKED_AT).astype(int))
    images, refused = list[Image](), list[ImageError]()
    for row in rows.tolist():
        try:
            images.append(contained_call(read_image, addresses[row]))
        except ImageError as error:  # whoever decodes them all says which cannot be read
            refused.append(error)
    if not images:
        raise refused[0]
    return Facts(
        images=len(teachers),
        patients=teachers.patients,
        fewest=teachers.target.task.fewest_patients(teachers.labels, teachers.table["patient"].to_numpy()),
        side=int(np.median([min(image.pixels.shape[:-1]) for image in images])),
        bits=max(image.bits for image in images),
        volume=images[0].mode == "volume",
        colour=any(image.mode == "colour" for image in images),
        cases=int(teachers.table["case"].nunique()),
        per_case=int(teachers.table["case"].value_counts().max()),
        held=len(cases) - len(teachers),
    )


@checked
def weights_at_hand(
    recipe: Recipe, facts: Facts, *, folder: str | Path | None = None, device: str = "cpu", network: bool = False
) -> dict[str, str]:
    """Backbones with pretrained weights and their files, best first; where there are none, what the network gives.

    ``folder``: of weights, looked into first. Nothing is fetched for a plan that would not use it. Raises
    :class:`UnavailableError` where ``features`` or ``finetune`` is asked for and the weights cannot be fetched.
    """
    if recipe.method == "scratch" or recipe.described:
        return {}
    names = (recipe.backbone,) if recipe.backbone else (*preferred(device), *BACKBONES)
    files = {name: stores.find(name, folder=folder) for name in names}
    found = {name: str(file.path) for name, file in files.items() if file is not None}
    if found or not network or (recipe.method == "auto" and facts.side <= SMALL_SIDE):
        return found
    name = recipe.backbone or preferred(device)[0]
    try:
        return {name: str(stores.get(name, folder=folder, network=True).path)}
    except OverreadError:
        if recipe.method == "auto":
            return {}
        raise


@checked
def require_weights(recipe: Recipe, *, folder: str | Path | None = None, network: bool = False) -> None:
    """Refuse a recipe whose weights can come from nowhere, before anything is read.

    Raises :class:`InputError` for a folder that does not exist, :class:`UnavailableError` as :func:`plan` does.
    """
    stores.require_folder(folder)
    if recipe.method in ("features", "finetune") and not network and not recipe.described:
        names = (recipe.backbone,) if recipe.backbone else tuple(BACKBONES)
        if all(stores.find(name, folder=folder) is None for name in names):
            raise _no_weights(recipe)


@checked
def make_probe(facts: Facts, device: str, filters: float = 1.0) -> Probe:
    """What times training steps on this machine, on black images like those that were looked at; ``filters`` as in the recipe.

    It works on a network of its own and draws from a generator of its own: training never notices it.
    """

    def seconds(backbone: str, side: int, batch: int, precision: str) -> float:
        channels = channels_of(backbone, facts)
        try:
            with seeded(0, 0, 0, "probe"):
                network = layout(build(backbone, outputs=2, channels=channels, filters=filters), device).train()
                x = torch.zeros(batch, channels, *(side,) * (3 if facts.volume else 2), device=device)
                x = x if facts.volume else x.contiguous(memory_format=torch.channels_last)
                return time_step(network, x, precision)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if batch < 4:
                raise no_memory(error, batch) from None
        free_memory()
        return 2 * seconds(backbone, side, batch // 2, precision)  # as training would take it, in parts

    return seconds


@checked
def expected_seconds(recipe: Recipe, facts: Facts, probe: Probe) -> float:
    """About how long training by a recipe without open fields will take, from three steps of a few images each.

    A frozen network is passed forwards once, which takes a third of a step of training.
    """
    if recipe.described:
        return DESCRIBED_SECONDS * facts.images
    some = min(recipe.batch_size or 8, 8)
    precision = "float32" if recipe.precision == "auto" else recipe.precision
    passes = recipe.epochs + (max(recipe.views, 1) / 3 if recipe.method != "scratch" else 0)
    return probe(recipe.backbone, recipe.image_size, some, precision) / some * facts.images * passes


@checked
def plan(
    recipe: Recipe,
    facts: Facts,
    *,
    pretrained: tuple[str, ...] = (),
    device: str = "cpu",
    seconds: float | None = None,
    probe: Probe,
) -> tuple[Recipe, list[Decision]]:
    """A recipe without open fields, and the decisions taken.

    ``pretrained``: backbones with weights at hand, best first. ``seconds`` of the budget for training; None: as long
    as it takes. Raises :class:`UnavailableError` where ``features``, ``finetune`` or a published backbone is asked for
    without weights, :class:`InputError` for a backbone that does not take such images and for a budget below one epoch.
    """
    recipe, method = _method(recipe, facts, pretrained)
    recipe, backbone = _backbone(recipe, facts, pretrained, device)
    recipe, size = _size_and_epochs(recipe, facts, device, seconds, probe)
    recipe, rest = _rest(recipe, facts)
    recipe, precision = _precision(recipe, device, probe, timed=seconds is not None)
    return recipe, [*method, *backbone, *size, *rest, *precision]


@checked
def plan_own(recipe: Recipe, facts: Facts, network: nn.Module) -> tuple[Recipe, tuple[Decision, ...]]:
    """The plan for a network of one's own: trained whole, from the weights that it brings.

    Raises :class:`InputError` for a recipe that names a backbone, or a way to learn that is not of such a network.
    """
    for name, given in (
        ("backbone", recipe.backbone),
        ("method", recipe.method if recipe.method in ("features", "finetune") else ""),
    ):
        if given:
            raise InputError(
                f"a network of your own goes with no {name} of the recipe",
                given=given,
                todo=f"leave {name} out of the recipe",
            )
    side = recipe.image_size or (facts.side if facts.volume else min(facts.side, _SIDES[0]))
    reason = (
        "asked for"
        if recipe.image_size
        else "as large as the images, at most 224; give Recipe(image_size=…) for another"
    )
    recipe = recipe.changed(method="scratch", image_size=side, batch_size=recipe.batch_size or _batch(recipe, facts),
                            epochs=recipe.epochs or _USUAL_EPOCHS["scratch"], precision="float32" if recipe.precision == "auto" else recipe.precision)  # fmt: skip
    recipe, rest = _rest(recipe, facts)
    return recipe, (Decision("network", own_name(network), "your own, trained whole from the weights that it brings"),
                    Decision("image size", str(side), reason), Decision("epochs", str(recipe.epochs), "asked for, or usual for training all layers"), *rest)  # fmt: skip


def _method(recipe: Recipe, facts: Facts, pretrained: tuple[str, ...]) -> tuple[Recipe, list[Decision]]:
    if recipe.method != "auto":
        return recipe, [Decision("method", recipe.method, "asked for")]
    if recipe.filters != 1:
        return recipe.changed(method="scratch"), [Decision("method", "scratch", "its filters are not those of published weights")]  # fmt: skip
    method, named = "scratch", recipe.backbone
    if facts.volume:
        reason = "the images are volumes, for which no pretrained weights are used"
    elif facts.side <= SMALL_SIDE:
        reason = f"the images are small ({facts.side} pixels): a small network of our own learns them best"
        if named and BACKBONES[named].url:
            reason = f"the images are small ({facts.side} pixels), so {named} learns them from random weights (--recipe finetune takes pretrained ones)"  # fmt: skip
    elif named and BACKBONES[named].url and named not in pretrained:
        raise _no_weights(recipe)
    elif not any(named in ("", name) for name in pretrained):
        reason = "no pretrained weights are at hand (--weights FOLDER or `overread weights add FILE` would help)"
    elif facts.fewest < FEW_PATIENTS and recipe.fusion in LEARNED_FUSIONS:
        method = "finetune"
        reason = f"the fusion {recipe.fusion} learns more than a linear head; {count(facts.fewest, 'patient')} of the rarest class in training are few for it"
    elif facts.fewest < FEW_PATIENTS:
        method = "features"
        reason = f"the rarest class has only {count(facts.fewest, 'patient')} in training: too few to move a network"
    else:
        method = "finetune"
        reason = f"the rarest class has {count(facts.fewest, 'patient')} in training and pretrained weights are at hand"
    return recipe.changed(method=method), [Decision("method", method, reason)]


def _backbone(recipe: Recipe, facts: Facts, pretrained: tuple[str, ...], device: str) -> tuple[Recipe, list[Decision]]:
    name = recipe.backbone
    if recipe.described:
        return recipe, [Decision("backbone", "none", "classical descriptors were asked for, without a network")]
    if recipe.method != "scratch" and not any(name in ("", each) for each in pretrained):
        raise _no_weights(recipe)
    if name and BACKBONES[name].dimensions != (3 if facts.volume else 2):
        kind, fitting = ("volumes", 3) if facts.volume else ("flat images", 2)
        raise InputError(f"the backbone {name} does not take {kind}", given=f"--backbone {name}",
                         todo=nearest("", [row.name for row in BACKBONES.values() if row.dimensions == fitting]))  # fmt: skip
    if name:
        return recipe, [Decision("backbone", name, "asked for")]
    if recipe.method == "scratch":
        name = usual_small(facts.volume, facts.side)
        reason = "a small network for training from random weights"
    else:
        name, reason = pretrained[0], f"the first choice on a {device} among the weights at hand"
    return recipe.changed(backbone=name), [Decision("backbone", name, reason)]


def usual_small(volume: bool, side: int) -> str:
    """Our own network that is trained from random weights.

    Of small volumes a plain one, whose first convolution sees every voxel: on those of 28 voxels it told more in as much
    time than a residual one, which begins by halving the side, as is needed of larger ones.
    """
    return "resnet_small" if not volume else "cnn3d_small" if side <= _SMALL_VOLUME else "resnet3d_small"


def _no_weights(recipe: Recipe) -> UnavailableError:
    name, asked = recipe.backbone, f"--recipe {recipe.method}" if recipe.method != "auto" else "--backbone"
    of = f" of {name}" if name else ""
    todo = "give --weights FOLDER, run `overread weights add FILE`, leave out --offline, or train from random weights with --recipe scratch"  # fmt: skip
    return UnavailableError(f"{asked} needs pretrained weights{of} and none are at hand", todo=todo)


def _size_and_epochs(
    recipe: Recipe, facts: Facts, device: str, seconds: float | None, probe: Probe
) -> tuple[Recipe, list[Decision]]:
    recipe = recipe.changed(batch_size=recipe.batch_size or _batch(recipe, facts))
    if recipe.method == "features":
        usual = DESCRIBED_SIDE if recipe.described else BACKBONES[recipe.backbone].size
        size = recipe.image_size or min(facts.side if recipe.described else max(facts.side, 96), usual)
        what = "descriptors look at" if recipe.described else "the network was trained with"
        reason = f"what {what}, unless the images are smaller"
        told = [Decision("image size", str(size), reason)]
        if recipe.learns_above:
            epochs = recipe.epochs or EPOCHS_ABOVE
            told.append(Decision("epochs", str(epochs), f"of the fusion {recipe.fusion} on frozen features, which are made once"))  # fmt: skip
        return recipe.changed(image_size=size, epochs=recipe.epochs or EPOCHS_ABOVE if recipe.learns_above else 0), told
    sizes = [recipe.image_size] if recipe.image_size else _sizes(recipe, facts, device)
    if seconds is not None:
        return _within(recipe, facts, seconds, probe, sizes)
    epochs = recipe.epochs or _USUAL_EPOCHS[recipe.method]
    return recipe.changed(image_size=sizes[0], epochs=epochs), [
        Decision("image size", str(sizes[0]), "asked for" if recipe.image_size else "as large as the network and the images go"),
        Decision("epochs", str(epochs), "asked for" if recipe.epochs else "usual for this method; give --budget to use a given time")]  # fmt: skip


def _within(
    recipe: Recipe, facts: Facts, seconds: float, probe: Probe, sizes: list[int]
) -> tuple[Recipe, list[Decision]]:
    """The largest size at which enough epochs fit into the seconds."""
    samples, each = facts.samples(recipe)
    steps = max(1, round(samples / recipe.batch_size))
    size, fitting, epoch = sizes[0], 0, 1.0
    for size in sizes:
        step = probe(recipe.backbone, size, recipe.batch_size * each, "float32")
        epoch = step * steps * 1.1  # and a tenth for judging and saving
        fitting = max(0, int(seconds / epoch))
        if fitting >= (recipe.epochs or FEWEST_EPOCHS):
            break
    reason = f"an epoch takes about {epoch:.0f} s at {size} pixels and {max(seconds, 0.0):.0f} s are left for training"
    if not fitting and recipe.method == "scratch":
        given = (
            f"an epoch takes about {duration(epoch)} at {size} pixels; left for training: {duration(max(seconds, 0.0))}"
        )
        raise InputError("the budget does not suffice for one epoch", given=given,
                         todo=f"raise --budget by {duration(epoch - seconds)} or more, choose a smaller --image-size or --backbone, "
                         "or leave --budget out")  # fmt: skip
    if not fitting:
        reason += ": less than one epoch, so the linear head stays unless a part of an epoch does better on tuning data"
    epochs = max(1, min(recipe.epochs or MOST_EPOCHS[recipe.method], fitting))
    decisions = [Decision("image size", str(size), reason), Decision("epochs", str(epochs), reason)]
    return recipe.changed(image_size=size, epochs=epochs), decisions


@checked
def within_seconds(settled: Recipe, asked: Recipe, facts: Facts, seconds: float, probe: Probe) -> Recipe:
    """A recipe of frozen features whose images one network passes through within ``seconds``: with fewer orientations, then
    smaller, but for what was ``asked``; the quickest where none does."""
    if math.isinf(seconds) or not settled.backbone:
        return settled
    least = max(BACKBONES[settled.backbone].minimum, 64)
    sides = [settled.image_size] + ([] if asked.image_size else [s for s in _SIDES if least <= s < settled.image_size])
    views = [settled.views] + ([1] if settled.views > 1 and not asked.views else [])
    for side in sides:
        passing = probe(settled.backbone, side, 8, "float32") / 8 / 3 * facts.images  # a third of a step of training
        for many in views if side == sides[0] else views[-1:]:
            settled = settled.changed(image_size=side, views=many)
            if passing * max(many, 1) <= seconds:
                return settled
    return settled


@checked
def network_rung(
    recipe: Recipe, facts: Facts, pretrained: tuple[str, ...], best: str, *, device: str, seconds: float | None, probe: Probe
) -> tuple[Recipe | None, int, list[Decision]]:  # fmt: skip
    """The network that an open recipe trains, how many of it on folds of the patients, and the decisions taken.

    ``best``: the backbone whose frozen features told most. ``seconds`` for all of its trainings. None where the patients
    are too few to move a network. As many folds as leave each enough epochs: 5, 3 or none.
    """
    settled, method = _method(recipe.changed(layers=()), facts, pretrained)
    if settled.method == "features":
        folds = FOLDS[0] if facts.fewest >= FOLDS[0] else 1
        return None, recipe.members or folds, method
    if settled.method == "finetune" and not recipe.backbone and best:
        settled = settled.changed(backbone=best)
        method.append(Decision("backbone", best, "its frozen features told most of the training patients"))
    choose = functools.partial(plan, facts=facts, pretrained=pretrained, device=device, probe=probe)
    made, _ = choose(settled, seconds=None)
    folds = recipe.members or _folds_within(made, facts, seconds, probe, recipe.epochs)
    made, decisions = choose(settled, seconds=None if seconds is None else seconds / folds)
    reason = "asked for" if recipe.members else \
        "the time allows it: each judges patients it has not seen, and all answer together" if folds > 1 else \
        "a network needs the time that there is" if seconds is not None else "without --budget one network is trained"  # fmt: skip
    if made.method == "finetune" and (made.penalties, made.folds) == (AUTO.penalties, AUTO.folds):
        made = made.changed(penalties=HEAD_PENALTIES, folds=2)  # of the head that fine-tuning starts from
    told = {each.what: each for each in (*decisions, *method)}  # those of the method say why it was asked for
    return made, folds, [*told.values(), Decision("networks", str(folds), reason)]


def _folds_within(recipe: Recipe, facts: Facts, seconds: float | None, probe: Probe, epochs: int) -> int:
    """As many folds as can be trained for ``epochs``, or enough of them, within the seconds, judging and saving included."""
    if seconds is None or facts.fewest < FOLDS[0]:
        return 1
    step = probe(recipe.backbone, recipe.image_size, recipe.batch_size, "float32")
    for k in FOLDS:
        steps = (1 - 1 / k) * (facts.images + facts.held) / recipe.batch_size
        enough = _FOLD_STEPS / steps if recipe.method == "scratch" else 0.0
        least = epochs or min(max(_FOLD_EPOCHS[recipe.method], enough), MOST_EPOCHS[recipe.method])
        if k * 1.1 * step * steps * least <= seconds:
            return k
    return 1


@checked
def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``12 min``, ``3.5 h``.

    >>> duration(754)
    '13 min'
    """
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 or not seconds else "1 s"
    return f"{math.ceil(seconds / 60)} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _batch(recipe: Recipe, facts: Facts) -> int:
    usual = 32 if recipe.method == "finetune" or facts.side > SMALL_SIDE or facts.volume else 128
    samples, each = facts.samples(recipe)
    return int(np.clip(samples // 8, 4, max(4, usual // each)))  # at least eight steps in an epoch


def _sizes(recipe: Recipe, facts: Facts, device: str) -> list[int]:
    least = BACKBONES[recipe.backbone].minimum
    if facts.volume:
        return [max(facts.side, least), *(s for s in _VOLUME_SIDES if least <= s < facts.side)]
    if facts.side <= SMALL_SIDE:
        return [max(facts.side, least)]
    sides = _SIDES if recipe.method == "finetune" or device != "cpu" else _SIDES[3:]
    fitting = [s for s in sides if least <= s <= max(facts.side, 96)]
    return fitting or [max(least, 96)]


def _rest(recipe: Recipe, facts: Facts) -> tuple[Recipe, list[Decision]]:
    pretrained = recipe.method in ("features", "finetune")
    rate = (
        recipe.learning_rate
        or (RATE_ABOVE if recipe.learns_above else 0.0)
        or {"scratch": 2e-3, "finetune": 5e-4, "features": 1.0}[recipe.method]
    )
    normalise = recipe.normalise or "channel mean and std"
    recipe = recipe.changed(learning_rate=rate, normalise=normalise)
    published = pretrained and normalise == "channel mean and std" and not recipe.described
    reason = "as the pretrained weights expect" if published else "fitted on the training images"
    if recipe.described:
        reason = "descriptors are made from pixels as they are"
    decisions = [Decision("normalisation", normalise, reason)]
    if recipe.augment == "standard" and recipe.method != "features":
        recipe = recipe.changed(augmentation=standard(facts.colour, facts.volume, facts.side))
        reason = "colour images have no upright" if facts.colour else "volumes are taken to have no upright (where sides matter: --set augment=none)" if facts.volume else "grey images keep their sides"  # fmt: skip
        decisions.append(Decision("augmentation", "standard", f"{reason}; training images only"))
    return recipe.changed(views=recipe.views or usual_views(recipe, facts)), decisions


@checked
def usual_views(recipe: Recipe, facts: Facts) -> int:
    """Orientations to average over, 1 … 8: those under which a label is taken to stay, and the network was shown images."""
    if recipe.method == "features":
        return 2 if facts.colour and recipe.codes == "none" and not recipe.learns_above else 1
    shown = recipe.augmentation
    mirrored, upturned = shown.flip_horizontal > 0, shown.flip_vertical > 0
    further = shown.flip_depth > 0 if facts.volume else shown.turn > 0
    turned = 8 if mirrored and upturned and further else 4 if mirrored and upturned else 2 if mirrored else 1
    return min(turned, 4 if facts.colour else 8 if facts.volume else 1)


def _precision(recipe: Recipe, device: str, probe: Probe, *, timed: bool) -> tuple[Recipe, list[Decision]]:
    if recipe.method == "features":
        return recipe.changed(precision="float32") if recipe.learns_above else recipe, []
    seconds = functools.partial(probe, recipe.backbone, recipe.image_size, 8)
    precision, reason = choose_precision(recipe.precision, device, seconds, timed=timed)
    return recipe.changed(precision=precision), [Decision("precision", precision, reason)]


@checked
def standard(colour: bool, volume: bool = False, side: int = 0) -> Augmentation:
    """The usual augmentation of training images of ``side`` pixels or voxels (0: many).

    Photographs and microscopy turn and flip, radiographs only shift, scale and tilt. Volumes flip along each axis; large ones
    also turn about it, shift, scale and tilt, which of small ones blurs as much as it moves (docs/decisions/learning.md).
    """
    if colour:
        return Augmentation(flip_horizontal=0.5, flip_vertical=0.5, rotate=180.0, scale=(0.8, 1.2), shift=0.05,
                            brightness=0.1, contrast=0.2, saturation=0.2, hue=0.02)  # fmt: skip
    if volume and 0 < side <= _SMALL_VOLUME:
        return Augmentation(flip_horizontal=0.5, flip_vertical=0.5, flip_depth=0.5, contrast=0.1, brightness=0.05)
    if volume:
        return Augmentation(flip_horizontal=0.5, flip_vertical=0.5, flip_depth=0.5, turn=0.5, turn_depth=0.67, rotate=10.0, scale=(0.9, 1.1),
                            shift=0.08, contrast=0.1, brightness=0.05)  # fmt: skip
    return Augmentation(rotate=15.0, scale=(0.85, 1.15), shift=0.1, brightness=0.1, contrast=0.3)


@checked
def preprocess_of(recipe: Recipe, facts: Facts, network: nn.Module | None = None) -> Preprocess:
    """How the images are decoded under a recipe without open fields; the normalisation is fitted with the model.

    ``network``: one's own, whose first convolution says how many channels it takes.
    """
    own = 0 if network is None else first_channels(network)
    channels = (
        own
        if own in (1, 3)
        else 3
        if network is not None and facts.colour
        else 1
        if network is not None
        else channels_of(recipe.backbone, facts)
    )
    return Preprocess(
        size=(recipe.image_size,) * (3 if facts.volume else 2), channels=channels, fit=recipe.fit,
        normalise=recipe.normalise, bits=8 if facts.bits <= 8 else 16, window=recipe.window, crop=recipe.crop, stain=recipe.stain,
    )  # fmt: skip


def channels_of(backbone: str, facts: Facts) -> int:
    """Channels of the network's input: 1 for volumes and, in networks of our own and without one, for grey images; else 3."""
    if facts.volume:
        return 1
    return 3 if facts.colour or (backbone and BACKBONES[backbone].library != "overread") else 1

"""The plan: fills what the recipe left open from patients, weights, hardware and budget, and says why each time.

Rules of thumb of transfer learning (Yosinski 2014, "How transferable are features in deep neural networks?"; Raghu
2019, "Transfusion"): few patients, a linear head on frozen features; more, fine-tuning; small images or no weights, a
small network of one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from overread.cases.cases import Cases
from overread.core.errors import InputError, UnavailableError, checked, nearest
from overread.images.augment import Augmentation
from overread.learning.model import Decision
from overread.learning.recipe import Recipe
from overread.networks.backbones import BACKBONES

#: Fewer patients than this in the rarest class: only a linear head is fitted ("low dozens per class: too few").
FEW_PATIENTS = 25
#: Up to this side the images are small and a network of our own serves best.
SMALL_SIDE = 64
#: Fine-tuning is worth its time from this many epochs on.
FEWEST_EPOCHS = 10
#: More epochs than these were never seen to help; a larger budget is left unused.
MOST_EPOCHS = {"scratch": 80, "finetune": 25, "features": 0}
_USUAL_EPOCHS = {"scratch": 30, "finetune": 10, "features": 0}
_SIDES = (224, 192, 160, 128, 96)
#: Pretrained networks in the order of preference: on a CPU quick ones first, on a GPU accurate ones.
_ON_CPU = ("resnet18", "efficientnet_b0", "mobilenet_v3_large", "mobilenet_v2", "squeezenet1_1", "squeezenet1_0",
           "densenet121", "resnet34", "resnet50")  # fmt: skip
_ON_GPU = ("resnet50", "densenet121", "efficientnet_b0", "resnet34", "resnet18", "squeezenet1_0")


@dataclass(frozen=True)
class Situation:
    """What the plan looks at. ``side`` is the median of the images' smaller sides, ``fewest`` the patients of the
    rarest class in training, ``pretrained`` the backbones with weights at hand, best first."""

    images: int
    patients: int
    fewest: int
    side: int
    volume: bool
    colour: bool
    pretrained: tuple[str, ...]
    device: str
    cores: int
    seconds: float | None = None


#: ``(backbone, side, batch) -> seconds of one training step``: a probe on this machine.
Probe = Callable[[str, int, int], float]


def preferred(device: str) -> tuple[str, ...]:
    """Pretrained backbones in order of preference on this kind of device."""
    return _ON_CPU if device == "cpu" else _ON_GPU


@checked
def fewest_patients(cases: Cases) -> int:
    """Patients of the rarest class (or of the rarer answer of the rarest finding; of a quantity: all patients)."""
    labels, patient = cases.labels, cases.table["patient"]
    if cases.target.kind == "quantity":
        return cases.patients
    if cases.target.kind == "findings":
        return min(int(patient[labels[:, k] == v].nunique()) for k in range(labels.shape[1]) for v in (0, 1))
    return min(int(patient[labels == k].nunique()) for k in range(len(cases.target.names)))


@checked
def decide(recipe: Recipe, situation: Situation, probe: Probe) -> tuple[Recipe, list[Decision]]:
    """A recipe without open fields, and the decisions taken.

    Raises :class:`UnavailableError` where ``features`` or ``finetune`` is asked for and no weights are at hand.
    """
    decisions: list[Decision] = []
    for step in (_method, _backbone, _size_and_epochs, _rest):
        recipe, taken = step(recipe, situation, probe)
        decisions += taken
    return recipe, decisions


def _method(recipe: Recipe, here: Situation, probe: Probe) -> tuple[Recipe, list[Decision]]:
    if recipe.method != "auto":
        return recipe, [Decision("method", recipe.method, "asked for")]
    if here.volume:
        method, why = "scratch", "the images are volumes, for which no pretrained weights are used"
    elif here.side <= SMALL_SIDE:
        method, why = (
            "scratch",
            f"the images are small ({here.side} pixels): a small network of our own learns them best",
        )
    elif not _known(recipe, here):
        method, why = (
            "scratch",
            "no pretrained weights are at hand (--weights FOLDER or `overread weights add FILE` would help)",
        )
    elif here.fewest < FEW_PATIENTS:
        method, why = (
            "features",
            f"the rarest class has only {here.fewest} patients in training: too few to move a network",
        )
    else:
        method, why = (
            "finetune",
            f"the rarest class has {here.fewest} patients in training and pretrained weights are at hand",
        )
    return recipe.changed(method=method), [Decision("method", method, why)]


def _known(recipe: Recipe, here: Situation) -> tuple[str, ...]:
    return tuple(b for b in here.pretrained if not recipe.backbone or b == recipe.backbone)


def _backbone(recipe: Recipe, here: Situation, probe: Probe) -> tuple[Recipe, list[Decision]]:
    if recipe.backbone:
        if recipe.backbone not in BACKBONES:
            raise InputError(
                "there is no such backbone", given=recipe.backbone, todo=nearest(recipe.backbone, BACKBONES)
            )
        return recipe, [Decision("backbone", recipe.backbone, "asked for")]
    if recipe.method == "scratch":
        name = "resnet3d_small" if here.volume else "resnet_small"
        return recipe.changed(backbone=name), [
            Decision("backbone", name, "a small residual network for training from random weights")
        ]
    if not here.pretrained:
        raise UnavailableError(f"--recipe {recipe.method} needs pretrained weights and none are at hand",
                               todo="give --weights FOLDER, run `overread weights add FILE`, or use --recipe scratch")  # fmt: skip
    name = here.pretrained[0]
    return recipe.changed(backbone=name), [
        Decision("backbone", name, f"the first choice on a {here.device} among the weights at hand")
    ]


def _size_and_epochs(recipe: Recipe, here: Situation, probe: Probe) -> tuple[Recipe, list[Decision]]:
    batch = recipe.batch_size or _batch(recipe, here)
    recipe = recipe.changed(batch_size=batch)
    if recipe.method == "features":
        size = recipe.image_size or min(max(here.side, 96), BACKBONES[recipe.backbone].input)
        return recipe.changed(image_size=size, epochs=0), [
            Decision("image size", str(size), "what the network was trained with, unless the images are smaller")
        ]
    sizes = [recipe.image_size] if recipe.image_size else _sizes(recipe, here)
    if here.seconds is None:
        epochs = recipe.epochs or _USUAL_EPOCHS[recipe.method]
        return recipe.changed(image_size=sizes[0], epochs=epochs), [
            Decision("image size", str(sizes[0]), "asked for" if recipe.image_size else "as large as the network and the images go"),
            Decision("epochs", str(epochs), "asked for" if recipe.epochs else "usual for this method; give --budget to use a given time")]  # fmt: skip
    return _within(recipe, here, probe, sizes)


def _within(recipe: Recipe, here: Situation, probe: Probe, sizes: list[int]) -> tuple[Recipe, list[Decision]]:
    """The largest size at which enough epochs fit into the seconds."""
    steps = max(1, round(here.images / recipe.batch_size))
    assert here.seconds is not None
    size, fitting, seconds = sizes[0], 0, 1.0
    for size in sizes:
        seconds = probe(recipe.backbone, size, recipe.batch_size) * steps * 1.1  # and a tenth for judging and saving
        fitting = int(here.seconds / seconds)
        if fitting >= (recipe.epochs or FEWEST_EPOCHS):
            break
    epochs = max(1, min(recipe.epochs or MOST_EPOCHS[recipe.method], fitting))
    why = f"an epoch takes about {seconds:.0f} s at {size} pixels and {here.seconds:.0f} s are left for training"
    return recipe.changed(image_size=size, epochs=epochs), [
        Decision("image size", str(size), why),
        Decision("epochs", str(epochs), why),
    ]


def _batch(recipe: Recipe, here: Situation) -> int:
    usual = 32 if recipe.method == "finetune" or here.side > SMALL_SIDE or here.volume else 128
    return int(np.clip(here.images // 8, 4, usual))  # at least eight steps in an epoch


def _sizes(recipe: Recipe, here: Situation) -> list[int]:
    least = BACKBONES[recipe.backbone].minimum
    if here.side <= SMALL_SIDE or here.volume:
        return [max(here.side, least)]
    sides = _SIDES if recipe.method == "finetune" or here.device != "cpu" else _SIDES[3:]
    fitting = [s for s in sides if least <= s <= max(here.side, 96)]
    return fitting or [max(least, 96)]


def _rest(recipe: Recipe, here: Situation, probe: Probe) -> tuple[Recipe, list[Decision]]:
    pretrained = recipe.method in ("features", "finetune")
    rate = recipe.learning_rate or {"scratch": 2e-3, "finetune": 5e-4, "features": 1.0}[recipe.method]
    normalise = recipe.normalise or "channel mean and std"
    views = recipe.views if here.colour else 1
    recipe = recipe.changed(learning_rate=rate, normalise=normalise, views=views)
    decisions = [
        Decision(
            "normalisation",
            normalise,
            "as the pretrained weights expect" if pretrained else "fitted on the training images",
        )
    ]
    if recipe.augment == "standard" and recipe.method != "features":
        recipe = recipe.changed(augmentation=standard(here.colour, here.volume))
        kind = "colour images have no upright" if here.colour else "grey images keep their sides"
        decisions.append(Decision("augmentation", "standard", f"{kind}; training images only"))
    return recipe, decisions


def standard(colour: bool, volume: bool = False) -> Augmentation:
    """The usual augmentation: photographs and microscopy turn and flip, radiographs only shift, scale and tilt."""
    if colour:
        return Augmentation(flip_horizontal=0.5, flip_vertical=0.5, rotate=180.0, scale=(0.8, 1.2), shift=0.05,
                            brightness=0.1, contrast=0.2, saturation=0.2, hue=0.02)  # fmt: skip
    if volume:
        return Augmentation(rotate=10.0, scale=(0.9, 1.1), shift=0.08, contrast=0.1, brightness=0.05)
    return Augmentation(rotate=15.0, scale=(0.85, 1.15), shift=0.1, brightness=0.1, contrast=0.3)

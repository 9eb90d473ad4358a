"""The losses of what is said place by place: pixels, centres, distances, classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from overread.cells.targets import places_of
from overread.core.errors import checked, one_of
from overread.networks.instance_heads import UNIT, Layout
from overread.tasks.task import Loss

PIXEL_LOSSES = ("cross-entropy", "boundary-weighted", "dice", "focal-tversky")
#: Shares of the other losses beside that of the pixels, which counts 1.
HEAT, GEOMETRY, KIND = 1.0, 0.5, 0.3
#: Of the focal Tversky loss: what a missed and a false pixel weigh, and the exponent (Abraham 2018, arXiv:1810.07842).
MISSED, FALSE, FOCUS = 0.7, 0.3, 0.75


@checked
def dense_loss(layout: Layout, name: str, *, smoothing: float = 0.0) -> Loss:
    """The loss of answers (B, channels, h, w) against :func:`~overread.cells.targets.targets`, each tile counted alike.

    ``name``: of the pixels. ``cross-entropy``: the sum over the pixels, over how many there are, so that a tile of any
    size weighs alike; ``boundary-weighted``: each pixel by its weight (Ronneberger 2015, equation 1); ``dice``: 1 − 2
    |A∩B| / (|A| + |B|) of the probabilities (Milletari 2016), and ``focal-tversky``, in each of which the
    cross-entropy counts half besides, for alone they say nothing where a tile has no object. The heat is learned by
    cross-entropy, offsets and rays by their mean error in radii of the object, classes by cross-entropy within objects.
    """
    one_of(name, PIXEL_LOSSES, "the loss")
    places = places_of(layout, weighted=name == "boundary-weighted")
    area = layout.stride**2
    grid = layout.pixels * area  # the first channel of the answers that stands for whole places

    def loss(outputs: Tensor, labels: Tensor, shares: Tensor | None = None) -> Tensor:
        aims = labels[:, places.pixels]
        said = outputs[:, :grid]
        weights = labels[:, places.weights].repeat(1, layout.pixels, 1, 1) if name == "boundary-weighted" else None
        each = _PIXELS[name](said, aims * (1 - smoothing) + smoothing / 2, weights)  # (B,)
        if layout.geometry:
            heat, radius = labels[:, places.heat], labels[:, places.radius]
            each = each + HEAT * _cross_entropy(outputs[:, grid : grid + 1], heat, None)
            inside = (radius > 0).float()
            apart = (UNIT * outputs[:, grid + 1 : grid + layout.geometry] - labels[:, places.geometry]).abs()
            error = (
                apart.sum(1, keepdim=True) if layout.head == "offsets" else apart.mean(1, keepdim=True)
            ) / radius.clamp(min=1)
            each = each + GEOMETRY * (error * inside).flatten(1).sum(1) / inside.flatten(1).sum(1).clamp(min=1)
        if layout.classes > 1:
            each = each + KIND * _of_kinds(outputs[:, grid + layout.geometry :], labels[:, places.kind][:, 0])
        return (each if shares is None else each * shares).mean()

    return loss


def _cross_entropy(said: Tensor, aims: Tensor, weights: Tensor | None) -> Tensor:
    each = functional.binary_cross_entropy_with_logits(said, aims, reduction="none")
    return (each if weights is None else each * weights).flatten(1).mean(1)


def _dice(said: Tensor, aims: Tensor, weights: Tensor | None) -> Tensor:
    probable, wanted = said.sigmoid().flatten(1), aims.flatten(1)
    overlap = (2 * (probable * wanted).sum(1) + 1) / (probable.sum(1) + wanted.sum(1) + 1)
    return 1 - overlap + 0.5 * _cross_entropy(said, aims, None)


def _focal_tversky(said: Tensor, aims: Tensor, weights: Tensor | None) -> Tensor:
    probable, wanted = said.sigmoid().flatten(1), aims.flatten(1)
    both = (probable * wanted).sum(1)
    index = (both + 1) / (
        both + MISSED * ((1 - probable) * wanted).sum(1) + FALSE * (probable * (1 - wanted)).sum(1) + 1
    )
    return (1 - index).clamp(min=1e-6) ** FOCUS + 0.5 * _cross_entropy(said, aims, None)


_PIXELS: dict[str, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    "cross-entropy": _cross_entropy, "boundary-weighted": _cross_entropy, "dice": _dice, "focal-tversky": _focal_tversky,
}  # fmt: skip


def _of_kinds(said: Tensor, kinds: Tensor) -> Tensor:
    """(B,) cross-entropy of the classes (B, C, h, w) where one (B, h, w) is known; 0 where none is."""
    known = kinds >= 0
    each = functional.cross_entropy(said, kinds.clamp(min=0).long(), reduction="none") * known
    return each.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)


@torch.no_grad()
@checked
def maps_of(outputs: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
    """Answers (B, channels, h, w) as what is said of pixels (B, P, H, W), probabilities, and of places (B, Q, h, w).

    Of the places the heat is a probability, offsets and rays are in pixels, classes are logits.
    """
    grid = layout.pixels * layout.stride**2
    pixels = functional.pixel_shuffle(outputs[:, :grid], layout.stride) if layout.stride > 1 else outputs[:, :grid]
    places = outputs[:, grid:]
    if layout.geometry:
        geometry = UNIT * places[:, 1 : layout.geometry]
        places = torch.cat([places[:, :1].sigmoid(), geometry, places[:, layout.geometry :]], dim=1)
    return pixels.sigmoid(), places

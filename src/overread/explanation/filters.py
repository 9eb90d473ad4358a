"""What a network has learned to look for: its first filters, and the patches of images that excite a unit most.

Zeiler & Fergus 2014, "Visualizing and understanding convolutional networks", figures 2 and 5: of each unit the patches
that its receptive field covers where it answers most, one of a patient at most.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from overread.cases.cases import Cases
from overread.core.errors import ArgumentError, InputError, UnavailableError, checked, require
from overread.core.files import plain, write_bytes, write_json
from overread.core.phrases import count
from overread.core.progress import Progress, Say, silent, unheard
from overread.explanation.layers import default_layer
from overread.explanation.overlay import picture
from overread.images.image import Box
from overread.learning.device import layout
from overread.learning.ensemble import Committee, Member
from overread.learning.inputs import inputs
from overread.learning.model import Model
from overread.networks.backbones import layer as layer_of
from overread.networks.fusion import Fused
from overread.networks.numeric_inputs import WithNumbers
from overread.networks.own import OwnNetwork
from overread.networks.taps import Tapped, channels_last

__all__ = ["Batch", "Patch", "contact_sheet", "exciting_patches", "first_filters", "show_filters", "strongest_units"]

#: Sides of a tile of a sheet, and the white lines between, in pixels.
_TILE, _LINE = 56, 2


@dataclass(frozen=True)
class Patch:
    """Where one image excites one unit most: ``unit`` is a channel of the layer, ``value`` its activation there.

    ``row`` of the table that the image stands in; ``box`` the receptive field, as far as it lies in the image; ``pixels``
    (h, w, C) what stands there before normalisation.
    """

    unit: int
    value: float
    case: str
    patient: str
    row: int
    box: Box
    pixels: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images as a network sees them: ``x`` (B, C, H, W), ``pixels`` (B, H, W, C) before normalisation, and whose they are."""

    x: Tensor
    pixels: Sequence[NDArray[Any]]
    cases: Sequence[str]
    patients: Sequence[str]
    rows: Sequence[int]


@checked
def first_filters(network: nn.Module) -> tuple[str, NDArray[np.float32]]:
    """The name of the first convolution of the flat images that a network sees, and its filters (K, h, w, C).

    Of an ensemble those of its first member. Raises :class:`UnavailableError` where there is none.
    """
    body = _single(network)
    for name, module in body.named_modules():
        if isinstance(module, nn.Conv2d):
            return name, module.weight.detach().float().cpu().numpy().transpose(0, 2, 3, 1)
    raise UnavailableError("the network has no convolution over images whose filters could be shown", given=type(body).__name__,
                           todo="ask for a map of a case: overread explain RUN CASE")  # fmt: skip


def _single(network: nn.Module) -> nn.Module:
    """The network that sees single images, below what wraps it."""
    while True:
        if isinstance(network, Committee):
            network = network.members[0]
        elif isinstance(network, Member | OwnNetwork):
            network = network.network  # type: ignore[assignment]
        elif isinstance(network, Fused | WithNumbers | Tapped) and network.body is not None:
            network = network.body
        else:
            return network


@checked
def strongest_units(network: nn.Module, name: str, x: Tensor, most: int = 8) -> tuple[int, ...]:
    """The channels of a layer that vary most from image to image of ``x`` (B, C, H, W), the most varied first."""
    body = _single(network)
    with _Kept(body, name) as kept, torch.inference_mode():
        body(x)
    peaks = kept.maps().flatten(2).amax(dim=2)  # (B, C)
    spread = peaks.std(dim=0, correction=0)
    return tuple(spread.argsort(descending=True, stable=True)[:most].tolist())


@checked
def exciting_patches(
    network: nn.Module, name: str, units: Sequence[int], batches: Iterable[Batch], *, top: int = 9
) -> dict[int, tuple[Patch, ...]]:
    """Of each unit of the layer ``name`` the ``top`` patches that excite it most, the strongest first, one a patient.

    The receptive field is where the gradient of the activation with respect to the image is not 0: what is taken in, rather
    than what could be. A unit that no image excites (nothing above 0) has no patches. Only the best images are held, so
    that memory does not grow with their number. Raises :class:`ArgumentError` for a unit or layer that is not there, or
    whose activations have no place.
    """
    body, require_unit = _single(network), max(units, default=-1)
    require(
        top >= 1 and len(units) > 0 and min(units) >= 0,
        "name at least one unit and one patch",
        given=(tuple(units), top),
    )
    best: dict[int, _Best] = {unit: _Best(top) for unit in units}
    seen = False
    for batch in batches:
        seen = True
        with _Kept(body, name) as kept, torch.inference_mode():
            body(batch.x)
        maps = kept.maps()
        require(require_unit < maps.shape[1], "the layer has no such unit", given=require_unit,
                todo=f"choose from 0 to {maps.shape[1] - 1}")  # fmt: skip
        values, places = maps[:, list(units)].flatten(2).max(dim=2)  # (B, units)
        for i in range(len(batch.x)):
            for unit, value, place in zip(units, values[i].tolist(), places[i].tolist(), strict=True):
                if best[unit].wants(value, batch.patients[i]):
                    held = _Held(batch.x[i].clone(), batch.pixels[i].copy(), batch.cases[i], batch.rows[i], place)
                    best[unit].take(value, batch.patients[i], held)
    if not seen:
        raise InputError(
            "there are no images whose patches could be looked at", todo="name a part of the run with images"
        )
    return {unit: tuple(_patch(body, name, unit, *each) for each in best[unit].sorted()) for unit in units}


@dataclass(frozen=True, eq=False)
class _Held:
    x: Tensor
    pixels: NDArray[Any]
    case: str
    row: int
    place: int


class _Best:
    """The largest values, each of another patient."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.of: dict[str, tuple[float, _Held]] = {}

    def wants(self, value: float, patient: str) -> bool:
        """Whether a value would stand among the best."""
        if value <= 0:
            return False
        if patient in self.of or len(self.of) < self.top:
            return patient not in self.of or value > self.of[patient][0]
        return value > min(value for value, _ in self.of.values())

    def take(self, value: float, patient: str, held: _Held) -> None:
        """Put it among the best, in place of the patient's own or of the least."""
        if patient not in self.of and len(self.of) >= self.top:
            del self.of[min(self.of, key=lambda name: self.of[name][0])]
        self.of[patient] = (value, held)

    def sorted(self) -> list[tuple[float, str, _Held]]:
        ordered = heapq.nlargest(self.top, self.of.items(), key=lambda each: each[1][0])
        return [(value, patient, held) for patient, (value, held) in ordered]


def _patch(body: nn.Module, name: str, unit: int, value: float, patient: str, held: _Held) -> Patch:
    box = _receptive_field(body, name, unit, held.place, held.x)
    return Patch(unit, value, held.case, patient, held.row, box, held.pixels[box.slices])


def _receptive_field(body: nn.Module, name: str, unit: int, place: int, x: Tensor) -> Box:
    """The box around the pixels of ``x`` (C, H, W) that the activation at a place hangs on, by its gradient."""
    image = x[None].clone().requires_grad_()
    with _Kept(body, name) as kept, torch.enable_grad():
        body(image)
        score = kept.maps().flatten(2)[0, unit, place]
    (slope,) = torch.autograd.grad(score, image, allow_unused=True)
    height, width = x.shape[-2:]
    moved = torch.zeros(height, width) if slope is None else slope[0].abs().amax(dim=0).cpu()
    rows, columns = (np.flatnonzero(moved.amax(dim=axis).numpy()) for axis in (1, 0))
    if not len(rows):
        return Box(0, 0, height, width)
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


class _Kept:
    """Within, the last output of a layer is kept, as maps (B, C, h, w)."""

    def __init__(self, body: nn.Module, name: str) -> None:
        self.body, self.module, self.name = body, layer_of(body, name), name
        self.output: Tensor | None = None

    def __enter__(self) -> _Kept:
        self.hook = self.module.register_forward_hook(self._keep)
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()

    def _keep(self, _: nn.Module, __: Any, output: Any) -> None:
        self.output = output.clone() if isinstance(output, Tensor) else None  # the next layer may work in place

    def maps(self) -> Tensor:
        """(B, C, h, w); of other layers an error."""
        if self.output is None or self.output.ndim != 4:
            shape = None if self.output is None else tuple(self.output.shape)
            raise ArgumentError("the layer has no units with a place in the image", given=f"{self.name}: {shape}",
                                todo="choose a convolution's --layer")  # fmt: skip
        return self.output.movedim(-1, 1) if channels_last(self.body, self.module, 4) else self.output


# -- of a model, to files ---------------------------------------------------------------------------------------------


@checked
def show_filters(
    model: Model, cases: Cases, folder: str | Path, *, layer: str = "", units: Sequence[int] = (), top: int = 9, device: str = "",
    threads: int = 0, progress: Progress = silent, say: Say = unheard,
) -> list[Path]:  # fmt: skip
    """Write what a model's network looks for: ``first.png``, ``patches.png`` and ``patches.json`` in ``folder``.

    ``cases``: the images that patches are taken from, best those of the training. ``layer``: by default the one that maps are
    made of; of an ensemble that of its first member. ``units``: channels of it, by default the eight that vary most over the
    first images. ``top``: patches of a unit. Raises :class:`UnavailableError` for a network without convolutions,
    :class:`ArgumentError` for a layer or unit that is not there, :class:`InputError` where no image can be read.
    """
    folder, network = Path(folder), model.network.eval()
    name, filters = first_filters(network)
    made = [write_bytes(folder / "first.png", picture(contact_sheet(_in_rows(list(filters)), alone=True)))]
    say(f"  {count(len(filters), 'filter')} of {name}")
    batches = _batches(model, cases, device, threads, progress)
    first = next(batches, None)
    if first is None:
        raise InputError("none of the images can be read", given=count(len(cases), "image"))
    body = _single(layout(network, str(first.x.device)))
    layer = layer or default_layer(body, first.x[:1])
    chosen = tuple(units) or tuple(sorted(strongest_units(body, layer, first.x)))
    found = exciting_patches(body, layer, chosen, chain([first], batches), top=top)
    dark = [unit for unit in chosen if not found[unit]]
    if dark:
        say(f"  no image excites {count(len(dark), 'unit')}: {', '.join(map(str, dark))}")
    rows = [[patch.pixels for patch in found[unit]] for unit in chosen if found[unit]]
    if rows:
        made.append(write_bytes(folder / "patches.png", picture(contact_sheet(rows))))
    told = [{"unit": unit, "patches": [{"case": each.case, "value": each.value, "box": plain(each.box)} for each in found[unit]]}
            for unit in chosen]  # fmt: skip
    made.append(write_json(folder / "patches.json", {"layer": layer, "units": told}))
    return made


def _in_rows(tiles: list[NDArray[Any]]) -> list[list[NDArray[Any]]]:
    wide = max(1, round(len(tiles) ** 0.5))
    return [tiles[i : i + wide] for i in range(0, len(tiles), wide)]


def _batches(model: Model, cases: Cases, device: str, threads: int, progress: Progress) -> Iterator[Batch]:
    """The images of cases one by one, also of a network that sees those of a case together."""
    patients = cases.table["patient"].astype(str).tolist()
    for each in inputs(model, cases, device=device, threads=threads, progress=progress, doing="looking for patches"):
        x = each.x.flatten(0, 1) if each.x.ndim > len(model.about.preprocess.size) + 2 else each.x
        rows = each.rows.ravel().tolist()
        images = [image for case in each.pixels for image in case]
        names = [case for case, group in zip(each.cases, each.pixels, strict=True) for _ in group]
        there = [i for i, image in enumerate(images) if image is not None]
        yield Batch(x[there][:, : model.about.preprocess.channels], [image for image in images if image is not None], [names[i] for i in there],
                    [patients[rows[i]] for i in there], [rows[i] for i in there])  # fmt: skip


@checked
def contact_sheet(tiles: Sequence[Sequence[NDArray[Any]]], *, alone: bool = False) -> NDArray[np.uint8]:
    """Rows of pictures (h, w, 1 or 3) as one, (H, W, 3), each enlarged to a square tile, white between.

    ``alone``: each is stretched from its own smallest to its largest value, as filters are shown, in grey where it has
    neither one nor three channels; else whole numbers are shown as they are, 16 bits by their upper eight.
    """
    require(len(tiles) > 0 and max(map(len, tiles)) > 0, "there is nothing to show")
    step = _TILE + _LINE
    sheet = np.full((len(tiles) * step + _LINE, max(map(len, tiles)) * step + _LINE, 3), 255, np.uint8)
    for i, row in enumerate(tiles):
        for j, tile in enumerate(row):
            top, left = i * step + _LINE, j * step + _LINE
            sheet[top : top + _TILE, left : left + _TILE] = _tile(tile, alone)
    return sheet


def _tile(pixels: NDArray[Any], alone: bool) -> NDArray[np.uint8]:
    if pixels.shape[-1] not in (1, 3):
        pixels = pixels.mean(axis=-1, keepdims=True)
    if alone:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * (255 / (high - low)) if high > low else np.full(pixels.shape, 127.0)).astype(
            np.uint8
        )
    elif pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    colour = pixels if pixels.shape[-1] == 3 else np.repeat(pixels, 3, axis=-1)
    return np.asarray(cv2.resize(np.ascontiguousarray(colour), (_TILE, _TILE), interpolation=cv2.INTER_NEAREST))

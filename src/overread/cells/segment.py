"""Outlines of objects in images by a trained model: of cases, of one image, of a file larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.cases import Cases, paths
from overread.cells.enlarged import Enlarged, Middle, enlarged, magnification, median_across, widest
from overread.cells.native_store import histograms, levels_of, whole_numbers
from overread.cells.tiled import Held, Reading, Source, cut_bands, read_bands
from overread.core.errors import ImageError, checked, require
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.images.outlines.outlines import Outlines
from overread.images.read import read_image
from overread.learning.device import for_inference, pick_device
from overread.learning.model import About, Model
from overread.networks.instance_heads import Cutting, layout_of

__all__ = ["segment", "segment_image"]

#: The side of the middle of an image in which the size of its objects is looked at, how often, and how many times it is
#: enlarged where nothing is found there.
LOOKED_AT, LOOKS, UNSEEN = 640, 2, 2.0

Write = Callable[[int, NDArray[np.int32]], None]


@checked
def segment(
    model: Model, cases: Cases, *, device: str = "", threads: int = 0, progress: Progress = silent, say: Say = unheard
) -> Iterator[tuple[int, Outlines]]:
    """``(row of the table, outlines)`` of every image that can be read, in the order of the cases.

    ``say`` hears how many cannot be read, and why the first of them cannot. Raises :class:`ArgumentError` for a model
    that does not outline objects.
    """
    require_segmenter(model)
    return _each(model, cases, device, threads, progress, say)


def _each(
    model: Model, cases: Cases, device: str, threads: int, progress: Progress, say: Say
) -> Iterator[tuple[int, Outlines]]:
    failed: list[ImageError] = []
    larger: list[float] = []
    addresses = paths(cases)
    tasks = ((address, model.about.recipe.window) for address in addresses)
    for row, pixels in enumerate(contained(read_pixels, tasks, workers=1)):
        if isinstance(pixels, ImageError):
            failed.append(pixels)
        else:
            outlines, times = _segmented(model, pixels, device, threads)
            larger += [times] if times > 1 else []
            yield row, outlines
        progress("outlining objects", row + 1, len(addresses))
    if larger:
        say(
            f"  images enlarged since their objects are small: {len(larger)} of {len(addresses)}, at most {max(larger):g} times (as in training; segmentation.enlarge)"
        )
    if failed:
        say(f"  images that cannot be read: {len(failed)} of {len(addresses)} — {failed[0].reason or failed[0]}")


@checked
def read_pixels(address: str, window: str) -> NDArray[Any]:
    """The pixels (H, W, C) of an image as uint8 or uint16, for the sandbox. Raises :class:`ImageError`."""
    pixels = read_image(address, window=window).pixels
    if pixels.ndim != 3:
        raise ImageError("an image whose objects are outlined has 2 sides", given=f"shape {pixels.shape}")
    return whole_numbers(pixels)


@checked
def segment_image(
    model: Model, pixels: NDArray[Any], *, device: str = "", threads: int = 0, progress: Progress = silent
) -> Outlines:
    """The objects in an image (H, W, C) in memory, C 1 or 3 or as many as were learned from, of any whole numbers or floats.

    Levels are taken from the whole image; what does not fit into a tile is seen in tiles with overlap. An image of small
    objects is enlarged as the model's training was (see :mod:`overread.cells.enlarged`).
    """
    return _segmented(model, pixels, device, threads, progress)[0]


def _segmented(
    model: Model, pixels: NDArray[Any], device: str, threads: int, progress: Progress = silent
) -> tuple[Outlines, float]:
    """The objects, and how many times the image was enlarged."""
    require_segmenter(model)
    held = model.about.preprocess.channels
    require(pixels.ndim == 3 and pixels.shape[2] in (held, *((1, 3) if held == 3 else ())), "an image is (H, W, C) of as many channels as were learned from",
            given=f"{pixels.shape}, {held} channels", todo="see stacks as the model did: --frames")  # fmt: skip
    pixels = whole_numbers(pixels)
    asked = model.about.recipe.segmentation
    made = np.zeros(pixels.shape[:2], np.int32)

    def write(top: int, labels: NDArray[np.int32]) -> None:
        made[top : top + len(labels)] = labels

    source, levels = Held(pixels), levels_of(histograms(pixels), asked.low, asked.high)
    found = cut_source(model, source, levels, write, device, threads, progress)
    return Outlines(found.numbers[made], found.classes), found.times


@dataclass(frozen=True, eq=False)
class CutSource:
    """What number each provisional label of an image becomes, the class of each object, and how many times the image was enlarged."""

    numbers: NDArray[np.int32]
    classes: tuple[str, ...]
    times: float


@checked
def cut_source(
    model: Model,
    source: Source,
    levels: NDArray[np.float32],
    write: Write,
    device: str,
    threads: int,
    progress: Progress,
) -> CutSource:
    """Write the provisional labels of an image band by band, ``write(first row, labels)``, from top to bottom."""
    if threads:
        torch.set_num_threads(threads)
    reading = _reading_of_model(model, pick_device(device))
    assert model.about.cutting is not None
    times = times_of(reading, model.about.cutting, source, levels)
    areas = np.zeros(1, np.int64)

    def counted(top: int, labels: NDArray[np.int32]) -> None:
        nonlocal areas
        here = np.bincount(labels.ravel(), minlength=len(areas))
        here[: len(areas)] += areas
        areas = here
        write(top, labels)

    shown = enlarged(source, times)
    joined = cut_bands(read_bands(reading, shown, levels, progress), shown.size, reading.shown, model.about.cutting,
                       shown.smaller(counted) if isinstance(shown, Enlarged) else counted)  # fmt: skip
    numbers, votes = joined.numbers()
    there = (
        np.bincount(numbers, weights=np.pad(areas, (0, len(numbers) - len(areas))), minlength=len(votes) + 1)[1:] > 0
    )
    order = np.concatenate([[0], np.where(there, np.cumsum(there), 0)]).astype(
        np.int32
    )  # none that enlarging alone showed
    names, votes = model.target.names, votes[there]
    several = len(names) > 1
    return CutSource(order[numbers], tuple(names[int(vote.argmax())] if several else "" for vote in votes), times)


@checked
def times_of(reading: Reading, cutting: Cutting, source: Source, levels: NDArray[np.float32]) -> float:
    """How many times an image is enlarged: by the size of the objects that the network finds in its middle as it is,
    and again in what that size makes of it."""
    most, times = widest(source.size[1], max(reading.segmentation.enlarge, 1.0)), 1.0
    for _ in range(LOOKS if most > 1 else 0):
        across = _across(reading, cutting, Middle(source, LOOKED_AT), times, levels)
        unseen = min(most, UNSEEN) if times == 1 else 1.0  # none is found, perhaps since they are so small
        wanted = magnification(across, most) if across > 0 else unseen
        if wanted == times:
            break
        times = wanted
    return times


def _across(reading: Reading, cutting: Cutting, source: Source, times: float, levels: NDArray[np.float32]) -> float:
    """How many pixels the median object found is across, as the network sees the image as it is; NaN where none is."""
    shown = enlarged(source, times)
    areas = np.zeros(0, np.int64)

    def count(top: int, labels: NDArray[np.int32]) -> None:
        nonlocal areas
        areas = np.bincount(labels.ravel())[1:]

    cut_bands(read_bands(reading, shown, levels), shown.size, reading.shown, cutting, count, rows=shown.size[0])
    return median_across(areas) / times / reading.segmentation.zoom


@checked
def reading_of(network: nn.Module, about: About, device: str) -> Reading:
    """How a network is asked on a device."""
    return _reading(_folded(network, about, device), about, device)


#: Networks of finished models as they predict, by device: folding norms takes as long as a small image.
_KNOWN: WeakKeyDictionary[nn.Module, dict[str, nn.Module]] = WeakKeyDictionary()
#: Pixels of an input by which norms are folded: any that the coarsest maps have some places of.
_SAMPLE = (128, 128)


def _reading_of_model(model: Model, device: str) -> Reading:
    known = _KNOWN.get(model.network, {})
    made = known[device] if device in known else _folded(model.network, model.about, device)
    if made is not model.network:  # which would keep itself alive
        _KNOWN[model.network] = {**known, device: made}
    return _reading(made, model.about, device)


def _folded(network: nn.Module, about: About, device: str) -> nn.Module:
    sample = torch.randn((1, about.preprocess.channels, *_SAMPLE), generator=torch.Generator().manual_seed(0))
    return for_inference(network, device, sample)


def _reading(network: nn.Module, about: About, device: str) -> Reading:
    recipe = about.recipe
    return Reading(network, layout_of(recipe.segmentation, about.target.outputs), recipe.segmentation,
                   about.preprocess, max(recipe.views, 1), device, recipe.precision if recipe.precision != "auto" else "float32")  # fmt: skip


@checked
def require_segmenter(model: Model) -> None:
    require(model.target.task.dense and model.about.cutting is not None, "the model outlines no objects", given=str(model),
            todo="train one on a table with masks: overread run index.csv --image image --mask mask")  # fmt: skip

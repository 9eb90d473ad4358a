"""Outlines of objects in images by a trained model: of cases, of one image, of a file larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from overread.cases.cases import Cases, paths
from overread.cells.native_store import histograms, levels_of, whole_numbers
from overread.cells.tiled import Held, Reading, Source, cut_bands, read_bands
from overread.core.errors import ImageError, checked, require
from overread.core.progress import Progress, Say, silent, unheard
from overread.core.sandbox import contained
from overread.images.outlines.outlines import Outlines
from overread.images.read import read_image
from overread.learning.device import layout, pick_device
from overread.learning.model import About, Model
from overread.networks.instance_heads import layout_of

__all__ = ["segment", "segment_image"]


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
    addresses = paths(cases)
    tasks = ((address, model.about.recipe.window) for address in addresses)
    for row, pixels in enumerate(contained(read_pixels, tasks, workers=1)):
        if isinstance(pixels, ImageError):
            failed.append(pixels)
        else:
            yield row, segment_image(model, pixels, device=device, threads=threads)
        progress("outlining objects", row + 1, len(addresses))
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

    Levels are taken from the whole image; what does not fit into a tile is seen in tiles with overlap.
    """
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
    numbers, classes = cut_source(model, source, levels, write, device, threads, progress)
    return Outlines(numbers[made], classes)


@checked
def cut_source(
    model: Model, source: Source, levels: NDArray[np.float32], write: Any, device: str, threads: int, progress: Progress
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Write the provisional labels of an image band by band, from top to bottom; what number each becomes, and the class of each object."""
    if threads:
        torch.set_num_threads(threads)
    reading = reading_of(model.network, model.about, pick_device(device))
    assert model.about.cutting is not None
    joined = cut_bands(
        read_bands(reading, source, levels, progress), source.size, reading.shown, model.about.cutting, write
    )
    numbers, votes = joined.numbers()
    names = model.target.names
    several = len(names) > 1
    return numbers, tuple(names[int(vote.argmax())] if several else "" for vote in votes)


@checked
def reading_of(network: nn.Module, about: About, device: str) -> Reading:
    """How the network of a model is asked on a device."""
    recipe = about.recipe
    return Reading(layout(network, device).eval(), layout_of(recipe.segmentation, about.target.outputs), recipe.segmentation,
                   about.preprocess, max(recipe.views, 1), device, recipe.precision if recipe.precision != "auto" else "float32")  # fmt: skip


@checked
def require_segmenter(model: Model) -> None:
    require(model.target.task.dense and model.about.cutting is not None, "the model outlines no objects", given=str(model),
            todo="train one on a table with masks: overread run index.csv --image image --mask mask")  # fmt: skip

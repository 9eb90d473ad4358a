"""What a network says of an image of any size: tile by tile with overlap, band by band, objects joined across bands.

A tile is seen with a margin around it and answered for within. Tiles begin at multiples of the coarsest map's pixel, so
that a network's grid lies alike in all of them. Objects are cut out of bands of rows that reach into their neighbours;
what lies on both sides of a seam is one object where both bands draw it there. Memory holds a few bands, however long the
image is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from overread.cells.dense_losses import maps_of
from overread.cells.instance_cut import Maps, cut, kinds_of
from overread.cells.tiles import scaled, shrunk
from overread.core.errors import checked
from overread.core.progress import Progress, silent
from overread.images.preprocess import Preprocess
from overread.learning.device import autocast, free_memory, no_memory, out_of_memory
from overread.networks.instance_heads import Cutting, Layout, Segmentation

#: Pixels of a band that objects are cut out of at once, and rows that a band sees of its neighbours.
BAND, REACH = 2**23, 192


@runtime_checkable
class Source(Protocol):
    """An image that is read by rows."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        ...

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Pixels (bottom − top, W, C), uint8 or uint16."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """An image (H, W, C) in memory, or memory-mapped."""

    pixels: NDArray[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """A view of some rows."""
        return np.asarray(self.pixels[top:bottom])


@dataclass(frozen=True, eq=False)
class Reading:
    """How a network is asked: what it expects, on which device, in which precision, how many orientations of a tile.

    ``layout``: of the network's own pixels; :attr:`shown` that of the maps, in pixels of the image.
    """

    network: nn.Module
    layout: Layout
    segmentation: Segmentation
    preprocess: Preprocess
    views: int = 1
    device: str = "cpu"
    precision: str = "float32"

    @property
    def shown(self) -> Layout:
        """The layout of the maps: a place stands for more pixels of the image where the network sees it smaller."""
        return replace(self.layout, stride=self.layout.stride * self.segmentation.zoom)

    def smaller(self) -> Reading | None:
        """The same with tiles of half the side; None where the margin would leave nothing."""
        half = self.segmentation.largest // 64 * 32
        if half <= 2 * self.segmentation.margin:
            return None
        return replace(self, segmentation=replace(self.segmentation, largest=half))


@checked
@torch.inference_mode()
def read_tile(reading: Reading, pixels: NDArray[Any], levels: NDArray[np.float32]) -> Maps:
    """What the network says of one tile (H, W, C), the mean over the orientations that are asked for."""
    layout, zoom = reading.layout, reading.segmentation.zoom
    height, width = pixels.shape[:2]
    image = _standardised(reading, pixels, levels)
    coarse = int(reading.network.coarsest)  # type: ignore[arg-type]
    down, right = -image.shape[2] % coarse, -image.shape[3] % coarse
    image = functional.pad(image, (0, right, 0, down), mode="replicate") if down or right else image
    found: list[tuple[Tensor, Tensor]] = []
    for turn in _TURNS[: reading.views]:
        with autocast(image.device.type, reading.precision):
            outputs = reading.network(turned(image, *turn).contiguous(memory_format=torch.channels_last)).float()
        found.append(_turned_back(*maps_of(outputs, layout), layout, turn))
    said, places = (torch.stack(each).mean(0) if len(each) > 1 else each[0] for each in zip(*found, strict=True))
    if zoom > 1:
        said = functional.interpolate(said, scale_factor=zoom, mode="bilinear", align_corners=False)
        geometry = places[:, 1 : layout.geometry] * zoom
        places = torch.cat([places[:, : min(1, layout.geometry)], geometry, places[:, layout.geometry :]], dim=1)
    step = layout.stride * zoom
    return Maps((said[0, :, :height, :width] * 255).round().to(torch.uint8).cpu().numpy(),
                places[0, :, : -(-height // step), : -(-width // step)].to(torch.float16).cpu().numpy())  # fmt: skip


def _standardised(reading: Reading, pixels: NDArray[Any], levels: NDArray[np.float32]) -> Tensor:
    """A tile (1, C, H, W) on the scale of its image's levels, less the mean of training, over its deviation."""
    preprocess, zoom = reading.preprocess, reading.segmentation.zoom
    grey = pixels.shape[-1] == 1
    seen = scaled(pixels, levels, 1 if grey else preprocess.channels)
    seen = shrunk(seen, zoom) if zoom > 1 else seen
    made = np.empty((1, preprocess.channels, *seen.shape[:2]), np.float32)
    for channel, (mean, std) in enumerate(zip(preprocess.mean, preprocess.std, strict=True)):
        np.multiply(seen[..., 0 if grey else channel], np.float32(1 / std), out=made[0, channel])
        made[0, channel] -= np.float32(mean / std)
    return torch.from_numpy(made).to(reading.device)


#: Mirrored left to right, upside down, rows and columns exchanged: the first 1, 2, 4 or 8.
_TURNS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1))


@checked
def turned(x: Tensor, across: int, down: int, transposed: int) -> Tensor:
    """An image (…, H, W) in another orientation."""
    x = x.flip(-1) if across else x
    x = x.flip(-2) if down else x
    return x.transpose(-1, -2) if transposed else x


def _turned_back(pixels: Tensor, places: Tensor, layout: Layout, turn: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """What was said of a turned image as of the image itself: maps turned, offsets and rays pointing as they should."""
    across, down, transposed = turn
    if transposed:
        pixels, places = pixels.transpose(-1, -2), places.transpose(-1, -2)
    pixels, places = (turned(each, across, down, 0) for each in (pixels, places))
    if layout.geometry:
        geometry = places[:, 1 : layout.geometry]
        if layout.head == "offsets":
            geometry = geometry.flip(1) if transposed else geometry
            geometry = geometry * geometry.new_tensor([1 - 2 * down, 1 - 2 * across])[None, :, None, None]
        else:
            rays = np.arange(layout.rays)  # where the ray at an angle was before: its angle turned as the image was
            rays = (layout.rays // 2 - rays) % layout.rays if across else rays
            rays = -rays % layout.rays if down else rays
            rays = (layout.rays // 4 - rays) % layout.rays if transposed else rays
            geometry = geometry[:, torch.from_numpy(rays).to(geometry.device)]
        places = torch.cat([places[:, :1], geometry, places[:, layout.geometry :]], dim=1)
    return pixels, places


@checked
def read_bands(
    reading: Reading, source: Source, levels: NDArray[np.float32], progress: Progress = silent
) -> Iterator[tuple[int, Maps]]:
    """``(first row, maps)`` of the whole image from top to bottom, a row of tiles at a time.

    Where the memory does not suffice for a tile, what is left is done with tiles of half the side. Raises
    :class:`UnavailableError` where it does not for the smallest.
    """
    height, width = source.size
    top, step = 0, reading.shown.stride
    while top < height:
        margin, core = _sides(reading)
        bottom = min(top + core, height)
        above, below = max(0, top - margin), min(height, bottom + margin)
        try:
            pixels = source.rows(above, below)
            parts = []
            for left in range(0, width, core):
                right = min(left + core, width)
                start, end = max(0, left - margin), min(width, right + margin)
                maps = read_tile(reading, pixels[:, start:end], levels)
                parts.append(_cropped(maps, (top - above, bottom - above), (left - start, right - start), step))
                progress(
                    "reading tiles",
                    (top // core) * -(-width // core) + left // core + 1,
                    -(-height // core) * -(-width // core),
                )
        except (RuntimeError, MemoryError) as error:
            smaller = reading.smaller()
            if not out_of_memory(error):
                raise
            if smaller is None:
                raise no_memory(error, 1) from None
            free_memory()
            reading = smaller
            continue
        yield (
            top,
            Maps(
                np.concatenate([part.pixels for part in parts], axis=2),
                np.concatenate([part.places for part in parts], axis=2),
            ),
        )
        top = bottom


def _sides(reading: Reading) -> tuple[int, int]:
    """The margin of a tile and the side of its core in pixels of the image, both multiples of what every grid is."""
    margin, zoom = reading.segmentation.margin, reading.segmentation.zoom
    return margin * zoom, (reading.segmentation.largest - 2 * margin) * zoom


def _cropped(maps: Maps, rows: tuple[int, int], columns: tuple[int, int], step: int) -> Maps:
    places = maps.places[:, rows[0] // step : -(-rows[1] // step), columns[0] // step : -(-columns[1] // step)]
    return Maps(maps.pixels[:, rows[0] : rows[1], columns[0] : columns[1]], places)


# -- bands to objects ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Joined:
    """The objects of all bands so far, under provisional numbers: which are one, their votes for classes."""

    parent: list[int]
    votes: list[NDArray[np.float64]]

    def root(self, name: int) -> int:
        """The first of the numbers that an object has."""
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def join(self, one: int, other: int) -> int:
        """Make two numbers one object; the lower stands for both."""
        low, high = sorted((self.root(one), self.root(other)))
        self.parent[high] = low
        return low

    def numbers(self) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """What each provisional number becomes, 1 … K in the order of the roots; and the votes of each object."""
        roots = np.array([self.root(name) for name in range(len(self.parent))], np.int64)
        own = np.unique(roots[1:])
        table = np.zeros(len(roots), np.int32)
        table[own] = np.arange(1, len(own) + 1)
        votes = np.zeros((len(own), len(self.votes[0]) if self.votes else 1))
        for name, vote in enumerate(self.votes[1:], 1):
            votes[table[roots[name]] - 1] += vote
        return table[roots], votes


@checked
def cut_bands(
    bands: Iterator[tuple[int, Maps]], size: tuple[int, int], layout: Layout, cutting: Cutting,
    write: Callable[[int, NDArray[np.int32]], None], *, rows: int = 0,
) -> Joined:  # fmt: skip
    """Cut the objects out of bands of maps and ``write(first row, labels)`` them under provisional numbers.

    ``rows``: of a band; 0: so many that a band has :data:`BAND` pixels. An image of one band is cut in one pass.
    """
    height, width = size
    rows = rows or max(512, BAND // max(width, 1))
    rows = -(-rows // layout.stride) * layout.stride
    joined = Joined([0], [np.zeros(layout.classes)])
    held, begins, seam = None, 0, None
    top = 0
    for at, maps in bands:
        held = (
            maps
            if held is None
            else Maps(
                np.concatenate([held.pixels, maps.pixels], axis=1), np.concatenate([held.places, maps.places], axis=1)
            )
        )
        ends = at + maps.size[0]
        while top < height and (ends == height or ends >= top + rows + REACH):
            bottom = height if ends == height and height - top <= rows + REACH else min(top + rows, height)
            above, below = max(0, top - REACH), min(height, bottom + REACH)
            block = held.rows(above - begins, below - begins, layout.stride)
            labels = cut(block, layout, cutting)
            own = labels[top - above : bottom - above]
            table = _numbered(labels, own, seam, top - above, joined)
            votes = kinds_of(own, block.rows(top - above, bottom - above, layout.stride), layout)
            for name, vote in enumerate(votes, 1):
                if table[name]:
                    joined.votes[table[name]] += vote
            write(top, table[own])
            seam = table, labels[bottom - above - 1 : bottom - above + 1] if bottom < height else labels[:0]
            top = bottom
            kept = max(0, top - REACH)
            held, begins = held.rows(kept - begins, ends - begins, layout.stride), kept
    return joined


def _numbered(
    labels: NDArray[np.int32],
    own: NDArray[np.int32],
    seam: tuple[NDArray[np.int32], NDArray[np.int32]] | None,
    first: int,
    joined: Joined,
) -> NDArray[np.int32]:
    """The provisional number of each label of a band: of the band above where both draw one object at the seam."""
    table = np.zeros(int(labels.max(initial=0)) + 1, np.int32)
    if seam is not None:
        numbers, theirs = seam
        ours = labels[first - 1 : first + 1]
        both = (theirs > 0) & (ours > 0)
        pairs, shared = np.unique(np.stack([theirs[both], ours[both]], axis=1), axis=0, return_counts=True)
        widths = np.bincount(theirs.ravel()), np.bincount(ours.ravel())
        for (one, other), pixels in zip(pairs.tolist(), shared.tolist(), strict=True):
            if 2 * pixels > min(widths[0][one], widths[1][other]):
                known = int(numbers[one]) if one < len(numbers) else 0
                if known:
                    table[other] = joined.join(known, int(table[other])) if table[other] else joined.root(known)
    there = np.bincount(own.ravel(), minlength=1)
    for name in (1 + np.flatnonzero(there[1:])).tolist():
        if not table[name]:
            table[name] = len(joined.parent)
            joined.parent.append(len(joined.parent))
            joined.votes.append(np.zeros_like(joined.votes[0]))
    return table

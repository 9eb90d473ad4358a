"""Tiles of images with their targets, batch by batch: order, place and augmentation are functions of (seed, epoch, tile)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from overread.cells.native_store import Native, NativeStore
from overread.cells.targets import targets
from overread.core import random
from overread.core.errors import ImageError, checked
from overread.images.augment import Augmentation, Drawn, draw
from overread.images.preprocess import Preprocess
from overread.images.slides.stain import DARKEST as DARKEST_STAIN
from overread.images.slides.stain import stain_maps
from overread.learning.loader import Mixture, ahead
from overread.networks.instance_heads import Layout, Segmentation

#: Beyond so many times the range of the levels there is nothing to be told apart.
DARKEST, BRIGHTEST = -1.0, 3.0
#: Pixels up to which an image is taken whole where a tile reaches over its border. Tiles of a part differ from it in the
#: last bits, since the library keeps places as 32-bit floats.
WHOLE = 1 << 22


@dataclass(frozen=True, eq=False)
class Tiles:
    """The training tiles of a store, in the form that :func:`overread.learning.loop.optimise` wants batches.

    ``rows``: which images teach, each as often as it stands there in an epoch. ``kinds``: of each image of the store
    which class each object is. ``boundary``: w0 and σ where the loss weighs what lies between objects. ``times``: how many times each
    image of the store is enlarged, none where none is given (see :mod:`.enlarged`).
    """

    store: NativeStore
    rows: NDArray[np.int64]
    size: int
    segmentation: Segmentation
    layout: Layout
    preprocess: Preprocess
    augmentation: Augmentation
    kinds: tuple[NDArray[np.int64], ...]
    boundary: tuple[float, float] | None = None
    seed: int = 0
    device: str = "cpu"
    times: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        """Steps in an epoch."""
        return max(1, round(len(self.rows) / self.size))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """``(rows of the store, tiles (B, C, T, T), targets)`` from step ``start`` on, one batch prepared ahead."""
        order = random.permutation(self.seed, epoch, len(self.rows), "order of tiles")
        yield from ahead(self._load(entries, epoch) for entries in np.array_split(order, len(self))[start:])

    def mixture(self, rows: NDArray[np.int64], epoch: int) -> Mixture | None:
        """None: outlines cannot be mixed."""
        return None

    def _load(self, entries: NDArray[np.int64], epoch: int) -> tuple[NDArray[np.int64], Tensor, Tensor]:
        tile, channels = self.segmentation.tile, self.preprocess.channels
        drawn = draw(
            self.augmentation, seed=self.seed, epoch=epoch, samples=entries, size=(tile, tile), channels=channels
        )
        x, y = zip(*(self._tile(int(entry), epoch, drawn, place) for place, entry in enumerate(entries)), strict=True)
        mean, std = (np.asarray(numbers, np.float32) for numbers in (self.preprocess.mean, self.preprocess.std))
        pixels = (np.stack(x) - mean) / std
        images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).to(self.device)
        return self.rows[entries], images, torch.from_numpy(np.stack(y)).to(self.device)

    def _tile(
        self, entry: int, epoch: int, drawn: Drawn, place: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        row = int(self.rows[entry])
        native = self.store.rows[row]
        matrix = self._aimed(native.size, self._enlarged(row, entry, epoch), entry, epoch, drawn, place)
        pixels, labels = _warped(native, matrix, self.segmentation, self.preprocess.channels)
        pixels = self._recoloured(pixels, entry, epoch, drawn, place)
        return pixels, targets(labels, self.layout, kinds=self.kinds[row].tolist(), boundary=self.boundary)

    def _enlarged(self, row: int, entry: int, epoch: int) -> float:
        if self.times is None or self.times[row] == 1:
            return 1.0
        plain = float(random.uniform(self.seed, epoch, entry, "as it is")) < self.segmentation.as_it_is
        return 1.0 if plain else float(self.times[row])

    def _aimed(
        self, size: tuple[int, int], times: float, entry: int, epoch: int, drawn: Drawn, place: int
    ) -> NDArray[np.float64]:
        """The drawn map from tile to image with the middle of the tile at a place drawn within the image."""
        shown = self.segmentation.zoom / times
        matrix, half = drawn.matrices[place] * shown, self.segmentation.tile / 2 / drawn.scale[place] * shown
        middle = (self.segmentation.tile - 1) / 2
        aims = []
        for axis, side in (("x", size[1]), ("y", size[0])):
            low, high = min(half, side / 2), max(side - half, side / 2)
            aims.append(float(random.uniform(self.seed, epoch, entry, f"tile {axis}", low, high)) - 0.5)
        matrix[:, 2] = np.array(aims) - matrix[:, :2] @ np.array([middle, middle])
        return matrix

    def _recoloured(
        self, pixels: NDArray[np.float32], entry: int, epoch: int, drawn: Drawn, place: int
    ) -> NDArray[np.float32]:
        """On the scale of the levels, without rounding: stain, negative, grey, colours, blur, gamma, noise."""
        if (
            drawn.stain[place] != [[1.0], [0.0]]
        ).any():  # first: a negative has no stain, and grey would be coloured again
            (density,) = stain_maps(drawn.stain[place : place + 1]).astype(np.float32)
            pixels = np.exp(np.log(np.maximum(pixels, DARKEST_STAIN)) @ density[:, :-1].T - density[:, -1])
        if float(random.uniform(self.seed, epoch, entry, "negative")) < self.segmentation.invert:
            pixels = 1 - pixels
        if pixels.shape[-1] > 1 and float(random.uniform(self.seed, epoch, entry, "grey")) < self.segmentation.grey:
            pixels = np.repeat(pixels.mean(axis=-1, keepdims=True), pixels.shape[-1], axis=-1)
        colours = drawn.colours[place].astype(np.float32)
        pixels = pixels @ colours[:, :-1].T + colours[:, -1]
        if drawn.blur[place] > 0.05:
            blurred = cv2.GaussianBlur(pixels, (0, 0), float(drawn.blur[place]))
            pixels = np.asarray(blurred, np.float32).reshape(pixels.shape)
        if drawn.gamma[place] != 1:
            pixels = np.sign(pixels) * np.abs(pixels) ** np.float32(drawn.gamma[place])
        if drawn.noise[place] > 0:
            key = int(random.bits(self.seed, epoch, entry, "noise of a tile"))
            noise = np.random.Generator(np.random.Philox(key=key)).standard_normal(pixels.shape, dtype=np.float32)
            pixels = pixels + noise * np.float32(drawn.noise[place])
        return np.clip(pixels, DARKEST, BRIGHTEST)


@checked
def scaled(pixels: NDArray[Any], levels: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """Pixels (H, W, C) as float32 (H, W, channels): each channel such that its two levels become 0 and 1, clipped.

    Grey becomes three equal channels, colour its luminance where one is asked for. Raises :class:`ImageError` for another
    number of channels.
    """
    if pixels.shape[-1] not in (1, 3, channels) or (pixels.shape[-1] != channels and channels not in (1, 3)):
        raise ImageError("the image has another number of channels than those that were learned from", given=f"{pixels.shape[-1]}, not {channels}",
                         todo="see stacks as the model did: --frames")  # fmt: skip
    if pixels.shape[-1] == 3 and channels == 1:
        grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)[..., None]
        pixels, levels = grey, levels.mean(axis=0, keepdims=True)
    low, span = levels[:, 0], levels[:, 1] - levels[:, 0]
    made = np.subtract(pixels, low, dtype=np.float32)
    made *= 1 / span
    np.clip(made, DARKEST, BRIGHTEST, out=made)
    return np.repeat(made, channels, axis=-1) if made.shape[-1] < channels else made


def _warped(
    native: Native, matrix: NDArray[np.float64], segmentation: Segmentation, channels: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The tile of an image and of its labels by one map; beyond the image lies its mirror image."""
    tile, zoom = segmentation.tile, segmentation.zoom
    sides = [len(range(zoom // 2, side, zoom)) for side in native.size]
    first, last = _seen(native.size, matrix, tile, zoom)
    rows, columns = (_mirrored(*each) for each in zip(first[::-1], last[::-1], sides, strict=True))
    box = tuple(slice(each.min() * zoom, (each.max() + 1) * zoom) for each in (rows, columns))
    moved = matrix.copy()
    moved[:, 2] -= first * zoom
    pixels, labels = scaled(np.asarray(native.pixels[box]), native.levels, channels), np.asarray(native.labels[box])
    if zoom > 1:  # averaged first, so that nothing finer than the tile's pixels is left
        pixels, labels = shrunk(pixels, zoom), labels[zoom // 2 :: zoom, zoom // 2 :: zoom]
        pixels = pixels[: labels.shape[0], : labels.shape[1]]
        moved /= zoom
        moved[:, 2] -= (zoom - 1) / 2 / zoom
    mirrored = np.ix_(rows - rows.min(), columns - columns.min())
    pixels, labels = pixels[mirrored], labels[mirrored]
    how, border = cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101
    image = cv2.warpAffine(pixels, moved, (tile, tile), flags=cv2.INTER_LINEAR | how, borderMode=border)
    names = cv2.warpAffine(
        labels.astype(np.float32), moved, (tile, tile), flags=cv2.INTER_NEAREST | how, borderMode=border
    )
    return np.asarray(image, np.float32).reshape(tile, tile, channels), names.astype(np.int32)


def _seen(
    size: tuple[int, int], matrix: NDArray[np.float64], tile: int, zoom: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From where to where (x, y) a tile sees, in pixels of the network; it may reach beyond an image that is large."""
    corners = np.array([[x, y, 1.0] for x in (0, tile) for y in (0, tile)]) @ matrix.T
    first = np.floor(corners.min(axis=0) / zoom).astype(np.int64) - 2
    last = np.ceil(corners.max(axis=0) / zoom).astype(np.int64) + 3
    if size[0] * size[1] <= WHOLE and (first.min() < 0 or (last * zoom > size[::-1]).any()):
        return np.zeros(2, np.int64), np.array([len(range(zoom // 2, side, zoom)) for side in size[::-1]])
    return first, last


def _mirrored(first: int, last: int, side: int) -> NDArray[np.int64]:
    """Which pixels of a side lie at the places from ``first`` to ``last``: beyond it those of its mirror image, edges once."""
    places = np.arange(first, last) % max(2 * (side - 1), 1)
    return np.where(places < side, places, 2 * (side - 1) - places)


@checked
def shrunk(pixels: NDArray[np.float32], zoom: int) -> NDArray[np.float32]:
    """Pixels (H, W, C) → (⌈H / zoom⌉, ⌈W / zoom⌉, C), the mean of zoom × zoom; the rim is repeated where sides do not fit."""
    height, width = pixels.shape[:2]
    wide = cv2.copyMakeBorder(pixels, 0, -height % zoom, 0, -width % zoom, cv2.BORDER_REPLICATE)
    small = cv2.resize(wide, (wide.shape[1] // zoom, wide.shape[0] // zoom), interpolation=cv2.INTER_AREA)
    return np.asarray(small.reshape(*small.shape[:2], pixels.shape[2]))


#: Flips, quarter turns, sizes and colours: outlines have no upright position, and microscopes no common brightness.
STANDARD = Augmentation(
    flip_horizontal=0.5, turn=0.75, rotate=15.0, scale=(0.6, 1.7), brightness=0.15, contrast=0.35, saturation=0.3, hue=0.06,
    noise=0.08, blur=1.0, gamma=0.4,
)  # fmt: skip


@checked
def pieces(
    store: NativeStore, rows: NDArray[np.int64], tile: int, total: int, times: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """Which rows an epoch of about ``total`` tiles shows: each as often as the root of its tiles says, at least once.

    ``times``: how many times each image of the store is enlarged.

    A large image has more to tell than a small one, but the tiles of one image are alike.
    """
    larger = np.ones(len(store)) if times is None else times
    areas = np.array([math.prod(store.rows[row].size) * larger[row] ** 2 for row in rows.tolist()])
    share = np.sqrt(np.maximum(1.0, areas / tile**2))
    often = np.maximum(1, np.rint(share * (total / share.sum())).astype(np.int64))
    return np.repeat(rows, often)

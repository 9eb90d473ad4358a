"""Where a heat map looks, and how its tiles are read: many overlapping tiles from one region of the slide, read once.

The cells of a map are squares of ``stride`` pixels of the finest magnification from the upper left corner of the slide on; a
tile of each magnification is centred on the middle of a cell. Cells are read in blocks, whose regions have a bounded number
of pixels whatever the slide's size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.slides.slide import Slide, read_region
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import Tissue

#: Pixels of a side of the region of a block at the finest magnification, about.
REGION = 2048
#: Less of a square is no part of it: sums of areas are exact to about a millionth.
NO_SHARE = 1e-5
#: Within this share pixels of a level are those asked for: none is left out over the widest region.
_ALIKE = 1e-6


@dataclass(frozen=True)
class Grid:
    """The cells of a slide's map: ``cell`` µm of a side, ``rows`` and ``columns``, in blocks of ``block`` cells of a side."""

    cell: float
    rows: int
    columns: int
    block: int

    @property
    def bands(self) -> int:
        """How many rows of blocks there are."""
        return -(-self.rows // self.block)

    def band(self, number: int) -> tuple[int, int]:
        """The first row of cells of a row of blocks, and the one after its last."""
        return number * self.block, min(self.rows, (number + 1) * self.block)

    def centre(self, place: NDArray[np.int64]) -> NDArray[np.float64]:
        """Microns of the middles of cells, from left or from above."""
        return middles(place, self.cell)


@dataclass(frozen=True, eq=False)
class Block:
    """The cells of a block that are looked at: their ``rows`` and ``columns`` (n,) in the map."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


@checked
def middles(place: NDArray[np.int64], cell: float) -> NDArray[np.float64]:
    """Microns from left or from above of the middles of cells of a side of ``cell`` µm; ``place``: which ones, from 0."""
    return np.asarray((place + 0.5) * cell, np.float64)


@checked
def grid_of(slide: Slide, tiles: Tiles) -> Grid:
    """The places of a slide, those of its map and those that tiles for training are drawn of: cells of a step's side from its
    upper left corner on, of which the last may reach beyond its edge."""
    width, height = slide.size
    rows, columns = (max(1, math.ceil(side / tiles.step - 1e-6)) for side in (height, width))
    return Grid(tiles.step, rows, columns, max(1, (REGION - tiles.size) // tiles.stride + 1))


@checked
def looked_at(grid: Grid, tissue: Tissue, tiles: Tiles, band: int) -> NDArray[np.bool_]:
    """Which cells (rows, columns) of a row of blocks are looked at: those with :func:`enough_tissue`."""
    first, last = grid.band(band)
    x, y = grid.centre(np.arange(grid.columns)), grid.centre(np.arange(first, last))
    across, down = np.meshgrid(x, y)
    return enough_tissue(tissue, across.ravel(), down.ravel(), tiles).reshape(across.shape)


@checked
def enough_tissue(tissue: Tissue, x: NDArray[np.float64], y: NDArray[np.float64], tiles: Tiles) -> NDArray[np.bool_]:
    """Whether tiles around points (N,), µm, are drawn and looked at, (N,): at least ``least_tissue`` of their middle square is
    tissue, and some of it is. So magnifications and sizes of tiles that share ``centre`` see the same places."""
    return np.asarray(tissue.covered(x, y, tiles.middle) >= max(tiles.least_tissue, NO_SHARE))


@checked
def blocks_of(grid: Grid, wanted: NDArray[np.bool_], band: int) -> list[Block]:
    """The blocks of a row that have cells to be looked at, from left to right; ``wanted`` as :func:`looked_at` gives it."""
    found = []
    for left in range(0, grid.columns, grid.block):
        rows, columns = np.nonzero(wanted[:, left : left + grid.block])
        if len(rows):
            found.append(Block(rows + grid.band(band)[0], columns + left))
    return found


@dataclass(frozen=True, eq=False)
class Pixels:
    """The pixels of a block: of each magnification a region and where its tiles begin in it; or tiles that were read alone.

    ``read`` (n,): which cells can be read. ``regions``: (H, W, 3) of each magnification, with ``tops`` and ``lefts`` (V, n);
    where these are None, ``alone`` holds the tiles (V, size, size, 3) of each cell, None of one that cannot be read, or ``again``
    reads that of a cell when it is asked for: all tiles of a block may be many times its region.
    """

    size: int
    read: NDArray[np.bool_]
    regions: tuple[NDArray[np.uint8], ...] = ()
    tops: NDArray[np.int64] | None = None
    lefts: NDArray[np.int64] | None = None
    alone: tuple[NDArray[np.uint8] | None, ...] = ()
    reason: str = ""
    again: Callable[[int], NDArray[np.uint8]] | None = None

    def tiles(self, which: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(m, V, size, size, 3) of some cells of the block, which can be read."""
        if self.again is not None:
            return np.stack([self.again(each) for each in which.tolist()])
        if self.tops is None or self.lefts is None:
            return np.stack([tile for each in which if (tile := self.alone[each]) is not None])
        made = np.empty((len(which), len(self.regions), self.size, self.size, 3), np.uint8)
        for view, region in enumerate(self.regions):
            for place, each in enumerate(which):
                top, left = self.tops[view, each], self.lefts[view, each]
                made[place, view] = region[top : top + self.size, left : left + self.size]
        return made


@checked
def read_block(slide: Slide, grid: Grid, tiles: Tiles, block: Block) -> Pixels:
    """The pixels of a block: a region of each magnification, read once; where a region cannot be read, tile by tile, so that
    the cells are lost whose own tiles cannot be read, and no others.

    Few cells far apart are read tile by tile too. A tile is that of :func:`read_tile` at its place; where a magnification is made
    from another and a cell is not a whole number of its pixels, it is moved by up to half a pixel.
    """
    x, y = grid.centre(block.columns), grid.centre(block.rows)
    lefts, tops = (np.stack([_starts(slide, place, tiles.size, mpp) for mpp in tiles.mpp]) for place in (x, y))
    widths, heights = (starts.max(axis=1) + tiles.size for starts in (lefts, tops))
    if len(block) * tiles.size**2 * len(tiles.mpp) >= int((widths * heights).sum()):
        try:
            regions = tuple(_region(slide, x.min(), y.min(), int(w), int(h), tiles.size, mpp)
                            for mpp, w, h in zip(tiles.mpp, widths, heights, strict=True))  # fmt: skip
            return Pixels(tiles.size, np.ones(len(block), bool), regions, tops, lefts)
        except ImageError:
            return _alone(slide, tiles, x, y, keep=False)
    return _alone(slide, tiles, x, y, keep=True)


def _alone(slide: Slide, tiles: Tiles, x: NDArray[np.float64], y: NDArray[np.float64], *, keep: bool) -> Pixels:
    """Each tile read by itself; ``keep``: held, as they are fewer than the region has pixels, else read again when asked for."""

    def one(cell: int) -> NDArray[np.uint8]:
        return np.stack(
            [_region(slide, x[cell], y[cell], tiles.size, tiles.size, tiles.size, mpp) for mpp in tiles.mpp]
        )

    made, read = list[NDArray[np.uint8] | None](), np.zeros(len(x), bool)
    reason = ""
    for cell in range(len(x)):
        tile = None
        try:
            tile, read[cell] = one(cell), True
        except ImageError as error:
            reason = reason or error.reason or str(error)
        if keep:
            made.append(tile)
    return Pixels(tiles.size, read, alone=tuple(made), reason=reason, again=None if keep else one)


def _region(slide: Slide, x: float, y: float, width: int, height: int, size: int, mpp: float) -> NDArray[np.uint8]:
    """A region whose first tile is centred on (x, y) µm."""
    half = size * mpp / 2
    return read_region(slide, x - half, y - half, width, height, mpp)


def _starts(slide: Slide, centres: NDArray[np.float64], size: int, mpp: float) -> NDArray[np.int64]:
    """Pixels from the first of some tiles to the beginning of each, as :func:`read_region` places them: those of a level, where
    it has pixels of ``mpp``."""
    own = [level for each in slide.levels if abs(mpp / (level := slide.mpp * each.downsample) - 1) <= _ALIKE]
    corners = (centres - size * mpp / 2) / max(own) if own else (centres - centres.min()) / mpp
    whole = np.floor(corners + 0.5).astype(np.int64)
    return whole - whole.min()


@checked
def places_of(grid: Grid, block: Block, which: NDArray[np.bool_]) -> Iterator[tuple[float, float, float, float]]:
    """The rectangle (x, y, width, height in µm) around some cells of a block; none of none."""
    rows, columns = block.rows[which], block.columns[which]
    if len(rows):
        top, left = int(rows.min()), int(columns.min())
        yield (
            left * grid.cell,
            top * grid.cell,
            (int(columns.max()) + 1 - left) * grid.cell,
            (int(rows.max()) + 1 - top) * grid.cell,
        )

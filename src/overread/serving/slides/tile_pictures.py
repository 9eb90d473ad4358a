"""Tiles as pictures: of a slide as JPEG, of its heat map and of what was skipped on it as PNG that lies over it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.explanation.overlay import even_colours
from overread.images.slides.slide import Slide, read_region
from overread.serving.slides.tile_grid import TileGrid, coarsest

#: Most pixels of a level of the slide to the side of what is read for one tile.
_READ = 4096
#: Pixels of the finest level of an overlay to the side of one of its cells, so that a cell is seen as a square.
ENLARGED = 8
#: Of a stain the colour tells as much as the light: it is kept at full size. On H&E of a scanner an error of 2.6 of 255 on the
#: mean, where halved colours at the same quality cost 5.9, for 1.6 times the bytes.
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 85, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
#: The steps of a threshold between 0 and 1.
STEPS = 1000
#: What was skipped, by the codes of the tissue mask: red, green, blue, how opaque. Tissue, 1, is left as it is.
SKIPPED_COLOURS = (
    (96, 108, 120, 110),
    (0, 0, 0, 0),
    (214, 39, 40, 150),
    (31, 119, 180, 150),
    (230, 159, 0, 150),
    (0, 158, 115, 150),
)


@checked
def slide_grid(slide: Slide) -> TileGrid:
    """The tiles of a slide; levels of which a tile would take too many pixels of its own coarsest level are left out."""
    coarse = max(level.downsample for level in slide.levels)
    return TileGrid(slide.width, slide.height, coarsest(slide.width, slide.height, int(_READ * max(coarse, 1.0))))


@checked
def overlay_grid(rows: int, columns: int) -> TileGrid:
    """The tiles over a map of ``rows`` × ``columns`` cells."""
    width, height = columns * ENLARGED, rows * ENLARGED
    return TileGrid(width, height, coarsest(width, height, _READ * ENLARGED))


@checked
def slide_tile(slide: Slide, grid: TileGrid, level: int, column: int, row: int) -> bytes:
    """A tile of a slide as JPEG, without anything else that its file holds. Raises :class:`ImageError` where it cannot be read."""
    left, top, width, height = grid.box(level, column, row)
    mpp = slide.mpp * grid.reduction(level)
    pixels = read_region(slide, left * mpp, top * mpp, width, height, mpp)
    return _encoded(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _JPEG)


@checked
def cells_of(grid: TileGrid, level: int, column: int, row: int) -> tuple[slice, slice]:
    """The rows and columns of cells that a tile over a map shows."""
    left, top, width, height = grid.box(level, column, row)
    by = grid.reduction(level)
    return tuple(
        slice(at * by // ENLARGED, -(-(at + size) * by // ENLARGED)) for at, size in ((top, height), (left, width))
    )  # type: ignore[return-value]


@checked
def map_tile(
    codes: NDArray[np.unsignedinteger], grid: TileGrid, level: int, column: int, row: int, least: int
) -> bytes:
    """A tile of a heat map as PNG: ``codes`` of :func:`cells_of` it, 0 where nothing was looked at.

    What is below ``least`` of :data:`STEPS`, as it is told in thousandths, is transparent. A pixel of a coarse level is the strongest of its cells, so
    that nothing above the threshold is lost from sight.
    """
    shown = _sized(codes, grid, level, column, row, strongest=True)
    most = int(np.iinfo(codes.dtype).max)
    probability = (shown.astype(np.float64) - 1) / (most - 1)
    seen = (shown > 0) & (np.rint(probability * STEPS) >= least)
    colours = np.dstack([even_colours(probability), np.where(seen, 255, 0).astype(np.uint8)])
    colours[colours[..., 3] == 0] = 0
    return _encoded(".png", cv2.cvtColor(colours, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 3])


@checked
def skipped_tile(kinds: NDArray[np.uint8], grid: TileGrid, level: int, column: int, row: int) -> bytes:
    """A tile of what was skipped as PNG: ``kinds`` of :func:`cells_of` it, by the codes of the tissue mask."""
    shown = _sized(kinds, grid, level, column, row, strongest=False)
    table = np.zeros((256, 4), np.uint8)
    table[: len(SKIPPED_COLOURS)] = SKIPPED_COLOURS
    return _encoded(".png", cv2.cvtColor(table[shown], cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_PNG_COMPRESSION, 3])


def _sized(cells: NDArray[np.unsignedinteger], grid: TileGrid, level: int, column: int, row: int, *, strongest: bool) -> NDArray[np.unsignedinteger]:  # fmt: skip
    """Cells as pixels of a tile: repeated, or the strongest (else the first) of each block."""
    _, _, width, height = grid.box(level, column, row)
    by = grid.reduction(level)
    if by >= ENLARGED:
        block = by // ENLARGED
        if not strongest:
            return cells[::block, ::block][:height, :width]
        padded = np.pad(cells, [(0, -size % block) for size in cells.shape])
        return padded.reshape(padded.shape[0] // block, block, -1, block).max(axis=(1, 3))[:height, :width]
    times = ENLARGED // by
    return cells.repeat(times, axis=0).repeat(times, axis=1)[:height, :width]


def _encoded(ending: str, pixels: NDArray[Any], how: list[int]) -> bytes:
    return bytes(cv2.imencode(ending, pixels, how)[1])

"""Pyramidal TIFF in tiles, written with a few tiles in memory whatever its size, and read at any place.

Slides of phantoms and heat maps are such files. Every program that opens whole slides reads them (TIFF 6.0, section 15; BigTIFF; levels
above the first are marked as reduced copies).
"""

from __future__ import annotations

import math
import tempfile
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ArgumentError, ImageError, checked, one_of, require
from overread.core.files import publish
from overread.core.progress import Progress, silent
from overread.images.image import broken_as
from overread.images.slides.files.tiled_tiff import TileFile

__all__ = ["PyramidReader", "read_plane", "write_pyramid"]

#: How a level is made of the one below, from squares of 2 x 2 pixels.
REDUCTIONS = ("mean", "maximum")
#: Quality of JPEG: at 90 its error lies below the noise of a scanner.
_QUALITY = 90
_DEFLATE = 1  # level: twice as quick as the usual one, and a few hundredths larger
_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
#: Pixels of one piece that is read at once.
_LARGEST = 2**28

Tile = NDArray[Any]


@checked
def write_pyramid(
    path: str | PathLike[str],
    tile_of: Callable[[int, int], Tile],
    *,
    width: int,
    height: int,
    mpp: float,
    tile: int = 256,
    channels: int = 3,
    dtype: Any = np.uint8,
    compression: str = "deflate",
    reduction: str = "mean",
    description: str = "",
    progress: Progress = silent,
) -> Path:
    """Write a pyramidal BigTIFF of ``width`` x ``height`` pixels of ``mpp`` µm, and give its path.

    ``tile_of(row, column)`` is asked once for each tile of level 0, counted in tiles, row by row: (h, w) where
    ``channels`` is 1, else (h, w, channels), of ``dtype`` (uint8 or uint16), cut off at the right and lower edge. Each level above
    has half the width and height (rounded up) and is the ``reduction`` (``mean``, ``maximum``) of 2 x 2 pixels, until
    one tile holds it. ``compression``: ``deflate``, which loses nothing, or ``jpeg``. The same tiles make the same bytes.

    Raises :class:`ArgumentError` for a tile of another shape, :class:`UnavailableError` where the disk is full.
    """
    shape = _Shape(width, height, tile, channels, np.dtype(dtype), compression, reduction)
    with publish(path) as beside, ExitStack() as temporary:
        levels = _levels_above(shape, beside.parent, temporary)
        _write(beside, shape, levels, tile_of, mpp, description, progress)
    return Path(path)


class _Shape:
    """The geometry of one level, and how its tiles are encoded."""

    def __init__(
        self, width: int, height: int, tile: int, channels: int, dtype: np.dtype, compression: str, reduction: str
    ) -> None:
        require(width > 0 and height > 0, "a pyramid has pixels", given=f"{width} x {height}")
        require(16 <= tile <= 4096 and tile % 16 == 0, "the side of a tile is a multiple of 16", given=tile)
        require(channels in (1, 3), "a pyramid has 1 or 3 channels", given=channels)
        require(dtype in _TYPES, "a pyramid holds uint8 or uint16", given=str(dtype))
        one_of(compression, ("deflate", "jpeg"), "compression")
        one_of(reduction, REDUCTIONS, "reduction")
        require(
            compression == "deflate" or dtype == _TYPES[0], "JPEG holds uint8", given=str(dtype), todo="say deflate"
        )
        self.width, self.height, self.tile, self.channels, self.dtype = width, height, tile, channels, dtype
        self.compression, self.reduction = compression, reduction
        self._plain: dict[bytes, bytes] = {}  # encoded tiles of one colour, by that colour

    @property
    def columns(self) -> int:
        return math.ceil(self.width / self.tile)

    @property
    def rows(self) -> int:
        return math.ceil(self.height / self.tile)

    def size(self, row: int, column: int) -> tuple[int, int]:
        """Height and width of a tile, cut off at the edges."""
        t = self.tile
        return min(t, self.height - row * t), min(t, self.width - column * t)

    def above(self) -> _Shape:
        """The level of half the size."""
        half = (self.width + 1) // 2, (self.height + 1) // 2
        return _Shape(*half, self.tile, self.channels, self.dtype, self.compression, self.reduction)

    def encoded(self, pixels: Tile) -> bytes:
        """The bytes of a tile in full size: what is beyond the edge repeats it."""
        plain = _one_colour(pixels)
        if plain and plain in self._plain:  # most of a slide is bare glass, most of a heat map not looked at
            return self._plain[plain]
        missing = [(0, self.tile - side) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
        whole = np.ascontiguousarray(np.pad(pixels, missing, mode="edge") if any(b for _, b in missing) else pixels)
        made = self._compressed(whole)
        if plain and len(self._plain) < 256:
            self._plain[plain] = made
        return made

    def _compressed(self, whole: Tile) -> bytes:
        import imagecodecs

        if self.compression == "deflate":
            return bytes(imagecodecs.deflate_encode(whole.tobytes(), level=_DEFLATE, raw=False))
        if self.channels == 1:
            return bytes(imagecodecs.jpeg8_encode(whole, level=_QUALITY))
        return bytes(
            imagecodecs.jpeg8_encode(whole, level=_QUALITY, colorspace="RGB", outcolorspace="YCBCR", subsampling=(2, 2))
        )

    def halved(self, pixels: Tile) -> Tile:
        """Of each 2 x 2 pixels one; at an odd edge of what there is."""
        odd = [(0, side % 2) for side in pixels.shape[:2]] + [(0, 0)] * (pixels.ndim - 2)
        even = np.pad(pixels, odd, mode="edge") if any(b for _, b in odd) else pixels
        if self.reduction == "maximum":
            return np.maximum(
                np.maximum(even[::2, ::2], even[1::2, ::2]), np.maximum(even[::2, 1::2], even[1::2, 1::2])
            )
        size = even.shape[1] // 2, even.shape[0] // 2
        return cv2.resize(even, size, interpolation=cv2.INTER_AREA).astype(self.dtype, copy=False)


def _one_colour(pixels: Tile) -> bytes:
    """The bytes of its pixel where all are the same, else none."""
    line = pixels[0].ravel()
    same = bool((pixels[0] == pixels[0, 0]).all()) and bool((pixels.reshape(len(pixels), -1) == line).all())
    return bytes(pixels[0, 0].tobytes()) if same else b""


class _Level:
    """A level above the first while it is made: its encoded tiles in a temporary file, the upper half of one row of tiles in another."""

    def __init__(self, shape: _Shape, folder: Path, temporary: ExitStack) -> None:
        self.shape = shape
        self._encoded = _scratch(folder, temporary)
        self._upper = _scratch(folder, temporary)
        self._counts = array("Q")
        self._left: list[Tile] = []

    def take(self, row: int, column: int, pixels: Tile, below: _Shape) -> tuple[int, int, Tile] | None:
        """Take a tile of the level below; the tile of this level that is whole with it: its row, its column, its pixels."""
        part = below.halved(pixels)
        last_row, last_column = row == below.rows - 1, column == below.columns - 1
        if row % 2 == 0 and not last_row:
            self._upper.seek(column * self._slot)
            self._upper.write(np.ascontiguousarray(part).tobytes())
            return None
        if row % 2:
            part = np.concatenate([self._above(row - 1, column, below), part])
        if column % 2 == 0 and not last_column:
            self._left = [part]
            return None
        whole = np.concatenate([*self._left, part], axis=1) if column % 2 else part
        self._left = []
        self._keep(self.shape.encoded(whole))
        return row // 2, column // 2, whole

    @property
    def _slot(self) -> int:
        return (self.shape.tile // 2) ** 2 * self.shape.channels * self.shape.dtype.itemsize

    def _above(self, row: int, column: int, below: _Shape) -> Tile:
        height, width = ((side + 1) // 2 for side in below.size(row, column))
        shape = (height, width) if self.shape.channels == 1 else (height, width, self.shape.channels)
        self._upper.seek(column * self._slot)
        data = self._upper.read(math.prod(shape) * self.shape.dtype.itemsize)
        return np.frombuffer(data, self.shape.dtype).reshape(shape)

    def _keep(self, data: bytes) -> None:
        self._encoded.write(data)
        self._counts.append(len(data))

    def tiles(self) -> Iterator[bytes]:
        """The encoded tiles in order."""
        self._encoded.seek(0)
        for count in self._counts:
            yield self._encoded.read(count)


def _scratch(folder: Path, temporary: ExitStack) -> IO[bytes]:
    """A file without a name: nothing stays of it, also after a kill."""
    return temporary.enter_context(tempfile.TemporaryFile(dir=folder))


def _levels_above(shape: _Shape, folder: Path, temporary: ExitStack) -> list[_Level]:
    levels: list[_Level] = []
    while max(shape.width, shape.height) > shape.tile:
        shape = shape.above()
        levels.append(_Level(shape, folder, temporary))
    return levels


def _write(
    path: Path, shape: _Shape, levels: list[_Level], tile_of: Callable[[int, int], Tile], mpp: float, description: str, progress: Progress
) -> None:  # fmt: skip
    import tifffile

    require(math.isfinite(mpp) and mpp > 0, "mpp must be above 0", given=mpp)
    finest = _encoded_tiles(shape, levels, tile_of, progress)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, (level, tiles) in enumerate([(shape, finest), *((one.shape, one.tiles()) for one in levels)]):
            each = 10_000 / (mpp * 2**number)  # pixels a centimetre
            tiff.write(
                tiles, shape=(level.height, level.width) + ((3,) if level.channels == 3 else ()), dtype=level.dtype,
                tile=(level.tile, level.tile), photometric="rgb" if level.channels == 3 else "minisblack",
                compression=level.compression, predictor=False, subfiletype=1 if number else 0,
                resolution=(each, each), resolutionunit="CENTIMETER", software="overread", metadata=None,
                description=description or None if number == 0 else None,
            )  # fmt: skip


def _encoded_tiles(
    shape: _Shape, levels: list[_Level], tile_of: Callable[[int, int], Tile], progress: Progress
) -> Iterator[bytes]:
    """The tiles of level 0 in order; those of the levels above are made on the way."""
    total = shape.rows * shape.columns
    for row in range(shape.rows):
        for column in range(shape.columns):
            pixels = tile_of(row, column)
            expected = shape.size(row, column) + ((3,) if shape.channels == 3 else ())
            if pixels.shape != expected or pixels.dtype != shape.dtype:
                given = f"{pixels.shape} of {pixels.dtype} at row {row}, column {column}"
                raise ArgumentError("a tile has another shape", given=given, todo=f"give {expected} of {shape.dtype}")
            below, made = shape, (row, column, pixels)
            for level in levels:
                found = level.take(*made, below)
                if found is None:
                    break
                below, made = level.shape, found
            progress("writing the pyramid", row * shape.columns + column + 1, total)
            yield shape.encoded(pixels)


# -- reading --------------------------------------------------------------------------------------------------------


class PyramidReader:
    """A pyramidal TIFF of one or three channels, read at any place with a few tiles in memory.

    ``sizes``: (width, height) of each level, the finest first; ``mpp``: µm of a pixel of level 0; ``description``: the text that was
    written with it. Raises :class:`ImageError` for what is no such file. Close it, or use it in a ``with``.
    """

    @checked
    def __init__(self, path: str | PathLike[str]) -> None:
        with broken_as("the pyramid cannot be opened"):
            self._file = TileFile(str(path))
        with ExitStack() as unless_whole, broken_as("the pyramid cannot be opened"):
            unless_whole.callback(self._file.close)
            pages: list[Any] = list(self._file.pages)
            for page in pages:
                if (
                    not page.is_tiled
                    or page.dtype not in _TYPES
                    or page.samplesperpixel not in (1, 3)
                    or page.planarconfig != 1
                ):
                    raise ImageError(
                        "this is not a pyramid of ours", given=f"{page.dtype} in {page.samplesperpixel} samples"
                    )
            self._placed = [self._file.placed(page) for page in pages]
            self.sizes = tuple((int(page.imagewidth), int(page.imagelength)) for page in pages)
            self.dtype = np.dtype(pages[0].dtype)
            self.channels = int(pages[0].samplesperpixel)
            self.mpp = self._file.microns(pages[0])[0]
            self.description = str(pages[0].description or "")
            unless_whole.pop_all()

    @checked
    def read(self, left: int, top: int, width: int, height: int, level: int = 0) -> Tile:
        """(height, width) or (height, width, 3) pixels of a level, all within it. Raises :class:`ImageError` where they are damaged."""
        require(0 <= level < len(self.sizes), "there is no such level", given=level)
        across, down = self.sizes[level]
        inside = 0 <= left < left + width <= across and 0 <= top < top + height <= down
        require(
            inside,
            "the pixels lie outside of the level",
            given=f"{left}, {top}, {width} x {height} of {across} x {down}",
        )
        require(width * height <= _LARGEST, "so many pixels are not read at once", given=f"{width} x {height}")
        with broken_as("a part of the pyramid cannot be read"):
            pixels = self._file.window([self._placed[level]], level, left, top, width, height, 0)
        return pixels[..., 0] if self.channels == 1 else pixels

    @checked
    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> PyramidReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@checked
def read_plane(path: str | PathLike[str], level: int = 0) -> Tile:
    """All pixels (H, W) or (H, W, 3) of a level. Raises :class:`ImageError`, and :class:`ArgumentError` for more than 268 million."""
    with PyramidReader(path) as reader:
        require(0 <= level < len(reader.sizes), "there is no such level", given=level)
        return reader.read(0, 0, *reader.sizes[level], level)

"""The heat map of a slide as a file: a pyramidal TIFF of codes, which says in its description what it is a map of.

A cell is a square of the slide; its code is 0 where nobody looked (no tissue, or it cannot be read), else
1 + p × (2^bits − 2), rounded. Of each level above the first a cell holds the highest of four below it, so that a small
lesion is seen from afar. Nothing in the file names a slide or a patient: it knows its slide by a digest.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, require
from overread.core.files import build, plain, require_file
from overread.images.slides.pyramid import PyramidReader, write_pyramid
from overread.slides.lesions import found_lesions, windowed
from overread.slides.slide_score import slide_score

#: Cells of a side of a tile of the file; a level that fits into one has none above it.
TILE = 256
#: Longest description in bytes.
_LONGEST = 1 << 20
#: Cells of a map at most: of a side of 100,000 µm and more at 4 µm a cell.
MOST_CELLS = 2**28


@dataclass(frozen=True)
class MapAbout:
    """What the description of a heat map holds.

    ``cell``: µm of a side of a cell, ``stride`` pixels of ``mpp[0]``; ``origin`` of the map and ``size`` of the slide in µm;
    ``shape`` rows and columns. ``mpp``, ``tile``, ``centre``, ``least_tissue``: how tiles were read (see
    :class:`overread.images.slides.tile_settings.Tiles`), ``views``: orientations of each. ``model``, ``slide`` and
    ``tissue``: digests of what it was made of. ``looked``: cells with an answer; ``unread``: cells that cannot be read,
    ``unread_places`` the first rectangles of them (x, y, width, height in µm). ``threshold``: what tuning slides chose, NaN where
    nothing did.
    """

    cell: float
    shape: tuple[int, int]
    size: tuple[float, float]
    bits: int
    stride: int
    mpp: tuple[float, ...]
    tile: int
    centre: int
    least_tissue: float
    views: int
    model: str
    slide: str
    tissue: str
    looked: int = 0
    unread: int = 0
    unread_places: tuple[tuple[float, float, float, float], ...] = ()
    origin: tuple[float, float] = (0.0, 0.0)
    threshold: float = math.nan
    kind: str = "overread heat map"
    format: int = 1

    def __post_init__(self) -> None:
        sound = self.kind == "overread heat map" and self.bits in (8, 16) and 0 < self.cell < math.inf
        require(sound and min(self.shape) >= 1 and math.prod(self.shape) <= MOST_CELLS, "the description is of no heat map", given=f"{self.kind[:40]}, {self.bits} bits, {self.shape}, cell {self.cell}")  # fmt: skip

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)


@dataclass(frozen=True)
class HeatMap:
    """The heat map of a slide: the file, and what it says of itself. Codes are read when they are asked for."""

    path: Path
    about: MapAbout
    levels: tuple[tuple[int, int], ...]

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HeatMap:
        """Open a map. Raises :class:`InputError` for a file that is missing, none, damaged, or of a later overread."""
        file = require_file(path)
        with _opened(file) as reader:
            held = _described(file, reader.description)
            if isinstance(held.get("format"), int) and held["format"] > 1:
                raise InputError("the heat map was written by a later overread", given=f"format {held['format']}", todo="upgrade overread")  # fmt: skip
            about = build(MapAbout, held, where=file.name, null_is_nan=True)
            sizes = tuple((height, width) for width, height in reader.sizes)
            fits = sizes == tuple(_sizes(about.shape)) and reader.dtype == about.dtype and reader.channels == 1
            require(fits, "the heat map does not hold the cells that it describes", given=f"{sizes[:1]}, described {about.shape}")  # fmt: skip
        return cls(file, about, sizes)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.about.shape

    @property
    def mpp(self) -> float:
        """Microns of a side of a cell."""
        return self.about.cell

    @property
    def origin(self) -> tuple[float, float]:
        """The upper left corner of the map, in µm from that of the slide."""
        return self.about.origin

    def cells(self, level: int = 0) -> NDArray[Any]:
        """The codes (H, W), uint8 or uint16, of a level; the higher ones hold the highest of 4, 16 … cells."""
        require(0 <= level < len(self.levels), "the heat map has no such level", given=f"{level} of {len(self.levels)}")
        with _opened(self.path) as reader:
            height, width = self.levels[level]
            return reader.read(0, 0, width, height, level)

    def means(self, window: int) -> NDArray[Any]:
        """The codes (H, W) of the finest level, each the mean over a square of ``window`` cells a side: :func:`.windowed`."""
        return windowed(self.cells(), window)

    def with_threshold(self, threshold: float) -> HeatMap:
        """The same map whose description says the ``threshold``, written anew where it says another."""
        return (
            self
            if self.about.threshold == threshold
            else write_map(self.path, self.cells(), replace(self.about, threshold=threshold))
        )

    def values(self, level: int = 0) -> NDArray[np.float32]:
        """The probabilities (H, W), NaN where nobody looked."""
        codes = self.cells(level)
        found = (codes.astype(np.float32) - 1) / np.float32(2**self.about.bits - 2)
        found[codes == 0] = np.nan
        return found

    def score(self, rule: str = "maximum") -> float:
        """The slide's score by a rule, see :mod:`overread.slides.slide_score`; NaN where nobody looked."""
        return slide_score(self.cells(), rule)

    def lesions(self, *, radius: float, least: float, most: int = 0) -> pd.DataFrame:
        """The lesions, see :func:`overread.slides.lesions.found_lesions`; ``radius`` in µm."""
        return found_lesions(self.cells(), cell=self.mpp, radius=radius, least=least, origin=self.origin, most=most)


@dataclass(frozen=True)
class SlideMaps:
    """Heat maps of the slides of a table, by row; and of rows that have none the reason, without the name of a file."""

    maps: dict[int, HeatMap] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)


@checked
def write_map(path: str | os.PathLike[str], codes: NDArray[np.unsignedinteger], about: MapAbout) -> HeatMap:
    """Write ``codes`` (H, W) as a heat map, atomically; the same bytes for the same codes and description."""
    require(codes.shape == about.shape and codes.dtype == about.dtype, "codes and description do not fit", given=f"{codes.dtype} {codes.shape}")  # fmt: skip
    height, width = about.shape

    def tile_of(row: int, column: int) -> NDArray[Any]:
        return codes[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE]

    description = json.dumps(plain(about), allow_nan=False)
    write_pyramid(path, tile_of, width=width, height=height, mpp=about.cell, tile=TILE, channels=1, dtype=about.dtype,
                  reduction="maximum", description=description)  # fmt: skip
    return HeatMap(Path(path), about, tuple(_sizes(about.shape)))


def _sizes(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns of each level."""
    height, width = shape
    yield height, width
    while max(height, width) > TILE:
        height, width = -(-height // 2), -(-width // 2)
        yield height, width


@contextmanager
def _opened(path: Path) -> Iterator[PyramidReader]:
    """The cells of a map."""
    try:
        with PyramidReader(path) as reader:
            yield reader
    except ImageError as error:
        raise InputError(
            "the heat map cannot be read", given=f"{path.name}: {str(error)[:120]}", todo="make it again"
        ) from error


def _described(path: Path, text: str) -> dict[str, Any]:
    """The fields of a map's description."""
    try:
        held = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or held.get("kind") != "overread heat map":
        raise InputError("the file is no heat map of overread", given=path.name, todo="name one of predictions/maps")
    return held

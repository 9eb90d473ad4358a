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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from overread.core.errors import InputError, checked, require
from overread.core.files import build, plain, publish, require_file
from overread.slides.lesions import found_lesions
from overread.slides.slide_score import slide_score

#: Cells of a side of a tile of the file; a level that fits into one has none above it.
TILE = 256
#: Longest description in bytes.
_LONGEST = 1 << 20
#: Cells of a map at most: of a side of 100,000 µm and more at 4 µm a cell.
MOST_CELLS = 2**30


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
        with _opened(file) as pages:
            held = _described(file, pages[0])
            if isinstance(held.get("format"), int) and held["format"] > 1:
                raise InputError(
                    "the heat map was written by a later overread",
                    given=f"format {held['format']}",
                    todo="upgrade overread",
                )
            about = build(MapAbout, held, where=file.name, null_is_nan=True)
            sizes = tuple((int(page.shape[0]), int(page.shape[1])) for page in pages)
            fits = sizes == tuple(_sizes(about.shape)) and all(page.dtype == about.dtype for page in pages)
            require(
                fits,
                "the heat map does not hold the cells that it describes",
                given=f"{sizes[:1]}, described {about.shape}",
            )
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
        with _opened(self.path) as pages:
            return np.asarray(pages[level].asarray())

    def values(self, level: int = 0) -> NDArray[np.float32]:
        """The probabilities (H, W), NaN where nobody looked."""
        codes = self.cells(level)
        found = (codes.astype(np.float32) - 1) / np.float32(2**self.about.bits - 2)
        found[codes == 0] = np.nan
        return found

    def score(self, rule: str = "maximum") -> float:
        """The slide's score by a rule, see :mod:`overread.slides.slide_score`; NaN where nobody looked."""
        return slide_score(self.cells(), rule)

    def lesions(self, *, radius: float, least: float) -> pd.DataFrame:
        """The lesions, see :func:`overread.slides.lesions.found_lesions`; ``radius`` in µm."""
        return found_lesions(self.cells(), cell=self.mpp, radius=radius, least=least, origin=self.origin)


@checked
def write_map(path: str | os.PathLike[str], codes: NDArray[np.unsignedinteger], about: MapAbout) -> HeatMap:
    """Write ``codes`` (H, W) as a heat map, atomically; the same bytes for the same codes and description."""
    require(codes.shape == about.shape and codes.dtype == about.dtype, "codes and description do not fit", given=f"{codes.dtype} {codes.shape}")  # fmt: skip
    import tifffile

    levels = _pyramid(codes)
    description = json.dumps(plain(about), allow_nan=False)
    how: dict[str, Any] = {"tile": (TILE, TILE), "photometric": "minisblack", "compression": "zlib", "software": "overread",
                           "metadata": None, "resolutionunit": "CENTIMETER"}  # fmt: skip
    with publish(path) as beside, tifffile.TiffWriter(beside, bigtiff=codes.nbytes > 2**31) as file:
        for number, level in enumerate(levels):
            per_centimetre = 1e4 / (about.cell * 2**number)
            first: dict[str, Any] = {"description": description, "subifds": len(levels) - 1} if number == 0 else {"subfiletype": 1}  # fmt: skip
            file.write(level, resolution=(per_centimetre, per_centimetre), **how, **first)
    return HeatMap(Path(path), about, tuple(level.shape for level in levels))


def _sizes(shape: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows and columns of each level."""
    height, width = shape
    yield height, width
    while max(height, width) > TILE:
        height, width = -(-height // 2), -(-width // 2)
        yield height, width


def _pyramid(codes: NDArray[Any]) -> list[NDArray[Any]]:
    """The codes, and above them the highest of each four."""
    levels = [codes]
    for height, width in list(_sizes((codes.shape[0], codes.shape[1])))[1:]:
        below = levels[-1]
        padded = np.zeros((2 * height, 2 * width), codes.dtype)
        padded[: below.shape[0], : below.shape[1]] = below
        levels.append(padded.reshape(height, 2, width, 2).max(axis=(1, 3)))
    return levels


@contextmanager
def _opened(path: Path) -> Iterator[list[Any]]:
    """The pages of a map, one a level. What the reader of TIFF raises is our error."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            first: Any = file.pages[0]
            yield [first, *(first.pages or [])] if first.subifds else [first]
    except (
        tifffile.TiffFileError,
        OSError,
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("the heat map cannot be read", given=f"{path.name}: {(str(error) or type(error).__name__)[:120]}", todo="make it again") from error  # fmt: skip


def _described(path: Path, page: Any) -> dict[str, Any]:
    """The fields of a map's description."""
    text = str(page.description)
    try:
        held = json.loads(text) if len(text) <= _LONGEST else None
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict) or held.get("kind") != "overread heat map":
        raise InputError("the file is no heat map of overread", given=path.name, todo="name one of predictions/maps")
    return held

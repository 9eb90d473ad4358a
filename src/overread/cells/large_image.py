"""Images that are larger than memory: read by rows from disk, outlined band by band, their labels written tile by tile."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.cells.native_store import histograms, levels_of
from overread.cells.segment import cut_source, read_pixels, require_segmenter
from overread.cells.tiled import Held, Source
from overread.core.errors import ImageError, checked
from overread.core.files import publish
from overread.core.progress import Progress, silent
from overread.core.sandbox import contained, contained_call
from overread.images.outlines.outlines import MOST_IN_16_BITS
from overread.images.read import naming
from overread.learning.model import Model

__all__ = ["SegmentedFile", "segment_file"]

#: Rows that are read at once where a whole image is walked through; the side of a tile of the labels that are written.
ROWS, TILE = 512, 512
#: Seconds that unpacking a file may take in its own process.
PATIENCE = 1800.0


@dataclass(frozen=True)
class SegmentedFile:
    """Labels of an image that were written to ``path``: its ``size``, how many objects, and the class of each."""

    path: Path
    size: tuple[int, int]
    objects: int
    classes: tuple[str, ...]
    times: float = 1.0


@dataclass(frozen=True, eq=False)
class RawRows:
    """Pixels (H, W, C) that lie in a file in one piece from ``start`` on; rows are read, never mapped."""

    path: str
    start: int
    shape: tuple[int, int, int]
    kind: np.dtype[Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[0], self.shape[1]

    def rows(self, top: int, bottom: int) -> NDArray[Any]:
        """Pixels (bottom − top, W, C)."""
        _, width, channels = self.shape
        row = width * channels
        read = np.fromfile(
            self.path, self.kind, (bottom - top) * row, offset=self.start + top * row * self.kind.itemsize
        )
        if read.size != (bottom - top) * row:
            raise ImageError(
                "the image ends before its last row", given=f"row {top + read.size // row} of {self.shape[0]}"
            )
        return read.reshape(bottom - top, width, channels).astype(self.kind.newbyteorder("="), copy=False)


@checked
def segment_file(
    model: Model, address: str | os.PathLike[str], out: str | os.PathLike[str], *, device: str = "", threads: int = 0,
    progress: Progress = silent,
) -> SegmentedFile:  # fmt: skip
    """Outline the objects of an image of any size and write their labels to ``out``, a tiled TIFF of 16 bits, or of 32
    beyond 65,535 objects.

    A TIFF whose pixels lie in one piece is read from where it is, another is unpacked beside ``out``; other formats are
    decoded in memory, within the limits of images. Levels are those of the whole image, in a pass of their own. Memory
    holds some bands of rows: 20,000 × 20,000 pixels take less than 2 GB. An image of small objects is enlarged (see
    :mod:`overread.cells.enlarged`), so far that it is at most 24,000 pixels across; ``times`` says how far it was. Raises :class:`ImageError` for what cannot be
    read.
    """
    require_segmenter(model)
    out, asked = Path(out), model.about.recipe.segmentation
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".outlines-", dir=out.parent) as folder, naming(os.fspath(address)):
        with opened(os.fspath(address), Path(folder), model.about.recipe.window) as source:
            levels = levels_of(_counted(source, progress), asked.low, asked.high)
            scratch = Path(folder) / "labels.raw"
            with open(scratch, "wb") as handle:
                found = cut_source(
                    model, source, levels, lambda top, labels: _append(handle, labels), device, threads, progress
                )
        with publish(out) as beside:
            _write_tiff(beside, scratch, source.size, found.numbers, len(found.classes))
    return SegmentedFile(out, source.size, len(found.classes), found.classes, found.times)


@checked
@contextmanager
def opened(address: str, scratch: Path, window: str = "") -> Iterator[Source]:
    """An image that is read by rows; what has to be unpacked lies in the folder ``scratch``."""
    if os.path.splitext(address)[1].lower() in (".tif", ".tiff"):
        (found,) = contained(_tiff_rows, [(address, str(scratch / "pixels.raw"))], workers=1, seconds=PATIENCE)
        if isinstance(found, ImageError):
            raise found
        if found is not None:
            path, start, shape, kind = found
            yield RawRows(path, int(start), (int(shape[0]), int(shape[1]), int(shape[2])), np.dtype(kind))
            return
    yield Held(contained_call(read_pixels, address, window))


def _tiff_rows(address: str, scratch: str) -> list[Any] | None:
    """For the sandbox: file, place, shape and type of the rows of a TIFF of one page, which are unpacked to ``scratch``
    strip by strip where they are compressed or tiled; None of a TIFF that only the reader of images understands.
    """
    import tifffile

    with tifffile.TiffFile(address) as file:
        page: Any = file.pages[0]
        samples = int(page.samplesperpixel)
        plain = page.photometric.name in ("MINISBLACK", "RGB") and page.dtype in (np.uint8, np.uint16)
        if len(file.pages) != 1 or samples not in (1, 3) or not plain or (samples == 3 and int(page.planarconfig) != 1):
            return None
        shape = (int(page.imagelength), int(page.imagewidth), samples)
        if page.is_contiguous:
            return [
                address,
                int(page.dataoffsets[0]),
                list(shape),
                np.dtype(page.dtype).newbyteorder(file.byteorder).str,
            ]
        row = shape[1] * samples * page.dtype.itemsize
        with open(scratch, "w+b") as out:
            out.truncate(shape[0] * row)
            for part, index, _ in page.segments(maxworkers=1):
                if part is None:
                    continue
                top, left = int(index[2]), int(index[3])
                block = np.asarray(part)[0, : shape[0] - top, : shape[1] - left]
                for place, line in enumerate(block):
                    out.seek((top + place) * row + left * samples * page.dtype.itemsize)
                    out.write(np.ascontiguousarray(line).tobytes())
        return [scratch, 0, list(shape), np.dtype(page.dtype).str]


def _counted(source: Source, progress: Progress) -> NDArray[np.int64]:
    """The histograms of all rows."""
    height = source.size[0]
    total: Any = 0
    for top in range(0, height, ROWS):
        total = total + histograms(source.rows(top, min(top + ROWS, height)))
        progress("looking at levels", min(top + ROWS, height), height)
    return np.asarray(total)


def _append(handle: Any, labels: NDArray[np.int32]) -> None:
    handle.write(np.ascontiguousarray(labels).tobytes())


def _write_tiff(path: Path, scratch: Path, size: tuple[int, int], numbers: NDArray[np.int32], objects: int) -> None:
    """The labels of a scratch file under their last numbers, as a tiled TIFF; a row of tiles in memory at a time."""
    import tifffile

    kind = np.dtype(np.uint16 if objects <= MOST_IN_16_BITS else np.uint32)
    height, width = size
    table = numbers.astype(kind)

    def tiles() -> Iterator[NDArray[Any]]:
        for top in range(0, height, TILE):
            rows = min(TILE, height - top)
            held = np.fromfile(scratch, np.int32, rows * width, offset=top * width * 4).reshape(rows, width)
            band = np.zeros((TILE, -(-width // TILE) * TILE), kind)
            band[:rows, :width] = table[held]
            for left in range(0, band.shape[1], TILE):
                yield np.ascontiguousarray(band[:, left : left + TILE])

    tifffile.imwrite(
        path,
        tiles(),
        shape=size,
        dtype=kind,
        tile=(TILE, TILE),
        compression="zlib",
        software="",
        photometric="minisblack",
    )

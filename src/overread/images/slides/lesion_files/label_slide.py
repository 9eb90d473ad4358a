"""Outlines from a label image of a slide: a TIFF, best a pyramid, of the same extent, whose pixels above 0 are lesion."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked
from overread.core.phrases import count
from overread.images.formats.tiff import quiet_tifffile
from overread.images.outlines.polygons import object_polygons
from overread.images.slides.files.tiled_tiff import PLAIN, require_sound
from overread.images.slides.lesion_files.drawn_outlines import DrawnOutline, DrawnOutlines

#: Microns of a pixel at which a label image is looked at, or the next finer level that it holds.
LABEL_MPP = 4.0
#: Cells of a label image that are kept; of a larger slide they are coarser.
_MOST_CELLS, _MOST_OUTLINES = 100_000_000, 100_000
#: Compressions without loss: those of samples alone, and CCITT of bilevel ones.
_LOSSLESS = (*PLAIN, 2, 3, 4)


@checked
def read_label_slide(path: Path, width: int, height: int, mpp: float) -> DrawnOutlines:
    """The lesions that a label image holds, for a slide of ``width`` × ``height`` pixels of ``mpp`` microns.

    Read in pieces, at about 4 µm a pixel: a cell is lesion where any of its pixels is. Raises :class:`ImageError` for a
    label image that is not grey, is compressed with loss, is of another extent than the slide, or is damaged.
    """
    import tifffile

    quiet_tifffile()
    require_sound(str(path))
    try:
        with tifffile.TiffFile(path) as file:
            page = _level(file, width * mpp)
            _require_fit(page, width, height)
            cells, values = _cells(page, max(LABEL_MPP, (width * height * mpp**2 / _MOST_CELLS) ** 0.5), width * mpp)
            sides = int(page.imagewidth), int(page.imagelength)
    except (tifffile.TiffFileError, ValueError, TypeError, KeyError, IndexError, OSError, RuntimeError, struct.error, ZeroDivisionError) as error:  # fmt: skip
        raise ImageError("the label image cannot be read", given=f"{type(error).__name__}: {error}"[:120], todo="export it again") from error  # fmt: skip
    drawn = _outlines(cells[0], np.array([cells[1] * width / sides[0], cells[1] * height / sides[1]]))
    several = len(values) > 1
    notes = [
        f"the label image holds the values {', '.join(map(str, sorted(values)))}: all above 0 are taken for lesion"
    ]
    return DrawnOutlines(drawn, tuple(notes if several else []))


def _level(file: Any, extent: float) -> Any:
    """The coarsest level whose pixels are no larger than ``LABEL_MPP``, the finest where none is. ``extent``: µm across."""
    pages = [level.pages[0] for level in file.series[0].levels]
    fine = [page for page in pages if extent / max(page.imagewidth, 1) <= LABEL_MPP * 1.01]
    return min(fine or pages[:1], key=lambda page: page.imagewidth)


def _require_fit(page: Any, width: int, height: int) -> None:
    if page.samplesperpixel != 1 or page.dtype is None or page.dtype.kind not in "bui":
        raise ImageError("a label image holds one whole number a pixel", given=f"{page.samplesperpixel} × {page.dtype}")
    if int(page.compression) not in _LOSSLESS:
        raise ImageError("a label image must be compressed without loss", given=page.compression.name)
    sides = np.array([page.imagewidth, page.imagelength], np.float64)
    scale = sides / (width, height)
    if (np.abs(scale - scale.mean()) * (width, height) > np.maximum(2, 0.01 * sides)).any():
        raise ImageError("the label image is of another extent than the slide", given=f"{page.imagewidth} × {page.imagelength} for {width} × {height} pixels",
                         todo="see that it belongs to this slide")  # fmt: skip
    whole = page.tilewidth * page.tilelength if page.is_tiled else page.imagewidth * max(1, min(page.rowsperstrip, page.imagelength))  # fmt: skip
    if whole > _MOST_CELLS:
        raise ImageError("a piece of the label image is too large", given=f"{whole:,} pixels", todo="save it in tiles")


def _cells(page: Any, mpp: float, extent: float) -> tuple[tuple[NDArray[np.bool_], int], set[int]]:
    """Cells of ``step`` × ``step`` pixels that hold any lesion, the step, and the values above 0."""
    step = max(1, int(mpp / (extent / page.imagewidth) * 1.01))
    found = np.zeros((-(-page.imagelength // step), -(-page.imagewidth // step)), bool)
    values: set[int] = set()
    for data, index, shape in page.segments(maxworkers=1):
        if data is None:  # not written: empty
            continue
        piece = data.reshape(shape)[0, :, :, 0][: page.imagelength - index[2], : page.imagewidth - index[3]]
        rows, columns = np.nonzero(piece)
        if len(rows):
            found[(rows + index[2]) // step, (columns + index[3]) // step] = True
            values |= set(np.unique(piece[rows, columns])[:100].tolist())
    return (found, step), values


def _outlines(cells: NDArray[np.bool_], scale: NDArray[np.float64]) -> tuple[DrawnOutline, ...]:
    """Pieces of cells as rings in pixels of the slide. ``scale``: of a cell, across and down."""
    from scipy import ndimage

    labels, many = ndimage.label(cells)
    if many > _MOST_OUTLINES:
        raise InputError("the label image holds too many pieces", given=count(many, "piece"), todo="see that it is a mask of lesions")  # fmt: skip
    return tuple(
        DrawnOutline(piece[0] * scale, (), tuple(hole * scale for hole in piece[1:]))
        for _, pieces in object_polygons(labels)
        for piece in pieces
    )

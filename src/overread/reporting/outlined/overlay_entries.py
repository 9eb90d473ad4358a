"""An image with its outlines as a page keeps it: a picture that can be looked at, and what each outline says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.images.outlines.polygons import Polygon, object_polygons, smooth_ring
from overread.reporting.case_rows import OutlineShape, OverlayEntry

#: Pixels of the longer side of a picture; of a larger image a window is shown.
SIDE = 1024
#: A picture whose brightest 2 ‰ lie below this is brightened, so that it reaches it.
_DIM, _BRIGHT = 100, 235
#: Qualities of the JPEG of a picture, the first with which it is small enough for a page; its largest size in bytes.
_QUALITIES, _LARGEST = (88, 80, 65, 45), 400_000


@dataclass(frozen=True, eq=False)
class Outlined:
    """The objects of one side: label image (H, W), the status of each object, and what is said of each.

    ``status`` and ``said``: (K,) for the objects 1 … K.
    """

    labels: NDArray[np.integer]
    status: tuple[str, ...]
    said: tuple[str, ...]

    def __post_init__(self) -> None:
        many = int(self.labels.max(initial=0))
        require(len(self.status) == len(self.said) >= many, "each object has a status and words", given=f"{len(self.status)} and {len(self.said)} for {many}")  # fmt: skip


@checked
def overlay_entry(
    case: str, pixels: NDArray[np.uint8], drawn: Sequence[Outlined], counts: Mapping[str, int], *, why: str = "",
    source: str = "", ap: float = float("nan"), calm: Sequence[str] = ("hit", "found"), side: int = SIDE,
) -> tuple[OverlayEntry, bytes]:  # fmt: skip
    """The row of an image (H, W) or (H, W, 3), and the JPEG of its picture, which the row does not name yet.

    ``drawn``: the sides whose objects are drawn, objects with a blank status left out. ``calm``: the status of objects
    that are no error; of an image larger than ``side`` the window with the largest area of the others is shown.
    """
    full = pixels.shape[:2]
    for each in drawn:
        require(each.labels.shape == full, "outlines have the size of their image", given=f"{each.labels.shape} and {full}")  # fmt: skip
    top, left = _window(full, side, drawn, set(calm))
    rows, columns = slice(top, top + side), slice(left, left + side)
    seen, brighter = brightened(np.ascontiguousarray(pixels[rows, columns]))
    height, width = seen.shape[:2]
    shapes = tuple(shape for each in drawn for shape in _shapes(each, rows, columns))
    entry = OverlayEntry(case, why, source, ap, dict(counts), "", width, height, left, top, (full[1], full[0]), brighter, False, shapes)  # fmt: skip
    return entry, jpeg(seen)


@checked
def brightened(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    """A dark picture made so bright that its brightest pixels are nearly white, and by how much; others as they are."""
    bright = float(np.percentile(pixels if pixels.ndim == 2 else pixels.max(-1), 99.8))
    if not 0 < bright < _DIM:
        return pixels, 1.0
    factor = _BRIGHT / bright
    return np.clip(pixels.astype(np.float32) * factor, 0, 255).astype(np.uint8), round(factor, 2)


@checked
def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a JPEG of (h, w) or RGB (h, w, 3)."""
    shown = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    for quality in _QUALITIES:
        data = bytes(cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
        if len(data) <= _LARGEST:
            break
    return data


@checked
def path_of(pieces: Sequence[Polygon]) -> str:
    """The pieces of an object as the data of an SVG path, smooth, in pixels.

    >>> path_of([(np.array([[0, 0], [1, 0], [1, 1], [0, 1]]),)])
    'M.5 0L1 .5L.5 1L0 .5Z'
    """
    return "".join(f"M{'L'.join(f'{_short(x)} {_short(y)}' for x, y in smooth_ring(ring).tolist())}Z" for piece in pieces for ring in piece)  # fmt: skip


def _short(value: float) -> str:
    text = f"{value:g}"
    return text[1:] if text.startswith("0.") else text


def _shapes(drawn: Outlined, rows: slice, columns: slice) -> list[OutlineShape]:
    return [
        OutlineShape(drawn.status[number - 1], path_of(pieces), drawn.said[number - 1])
        for number, pieces in object_polygons(drawn.labels[rows, columns])
        if drawn.status[number - 1]
    ]


def _window(full: tuple[int, int], side: int, drawn: Sequence[Outlined], calm: set[str]) -> tuple[int, int]:
    """The upper left corner of the window of ``side`` pixels that holds the largest area of errors; of equals the first."""
    if max(full) <= side:
        return 0, 0
    wrong = np.zeros(full, np.uint8)
    for each in drawn:
        bad = np.array([False, *(status not in calm and status != "" for status in each.status)])
        wrong |= bad[each.labels].astype(np.uint8)
    sums = cv2.integral(wrong).astype(np.int64)
    high, wide = (min(length, side) for length in full)
    area = sums[high:, wide:] - sums[:-high, wide:] - sums[high:, :-wide] + sums[:-high, :-wide]
    top, left = np.unravel_index(int(area.argmax()), area.shape)
    return int(top), int(left)

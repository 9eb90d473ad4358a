"""Where the picture is within an image: black borders, the round field of a fundus camera or an endoscope, text.

Everything is found on a small grey copy: dark is what is below :data:`DARK` of the brightest. Nothing here learns.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, one_of, require
from overread.images.burned_in_text import text_boxes
from overread.images.image import Box, Circle

__all__ = ["Box", "Circle", "black_border", "brightest", "circular_field", "crop", "text_boxes"]

#: Dark is less than this part of the brightest.
DARK = 0.07
#: A border narrower than this part of the side is none.
_NARROW = 0.01
_SIDE = 384  # of the small copy, at most
_WHOLE, _SOLID = 0.6, 0.4  # what a picture is of all that is not dark, and of its own hull
_AROUND = 0.06  # what may be lit outside of the picture: labels, scales
_ROUND = 0.02  # how far the rim may be off the circle, of the radius


@checked
def black_border(pixels: NDArray[Any]) -> Box | None:
    """The picture within rows and columns that are dark all along, or None if there are none to speak of.

    ``pixels`` (H, W, C). Noise, and labels that are small beside the picture, do not count as picture.

    >>> pixels = np.zeros((100, 200, 1), np.uint8)
    >>> pixels[10:90, 30:160] = 200
    >>> black_border(pixels)
    Box(top=10, left=30, bottom=90, right=160)
    """
    return _border(pixels, _without_dark(pixels, _SIDE))


@checked
def surroundings(pixels: NDArray[Any]) -> tuple[Box | None, Circle | None]:
    """What :func:`black_border` and :func:`circular_field` find, together."""
    seen = _without_dark(pixels, _SIDE)
    return _border(pixels, seen), _circle(pixels, seen)


def _border(pixels: NDArray[Any], seen: NDArray[np.bool_] | None) -> Box | None:
    height, width = pixels.shape[:2]
    if seen is None or seen.all():
        return None
    picture = _picture(seen)
    if picture is None:
        return None
    rows, columns = (np.flatnonzero(picture.any(axis)) for axis in (1, 0))
    down, across = height / seen.shape[0], width / seen.shape[1]
    rough = Box(
        int(rows[0] * down), int(columns[0] * across),
        min(height, int(np.ceil((rows[-1] + 1) * down))), min(width, int(np.ceil((columns[-1] + 1) * across))),
    )  # fmt: skip
    box = _tightened(pixels, rough)
    margins = (box.top / height, 1 - box.bottom / height, box.left / width, 1 - box.right / width)
    return box if max(margins) >= _NARROW else None


@checked
def circular_field(pixels: NDArray[Any]) -> Circle | None:
    """The circle that holds the picture of a fundus camera, an endoscope or a dermatoscope; None if there is none.

    ``pixels`` (H, W, C). The circle may be cut at the sides of the image. A circle is fitted to the rim of what is
    not dark by least squares, twice, the second time without what lies off the first (a notch, a label).
    """
    return _circle(pixels, _without_dark(pixels, _SIDE))


def _circle(pixels: NDArray[Any], seen: NDArray[np.bool_] | None) -> Circle | None:
    if seen is None or not 0.15 < seen.mean() < 0.985:
        return None
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8), connectivity=4)
    largest = pieces == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    outlines, _ = cv2.findContours(largest.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = max(outlines, key=len)[:, 0, ::-1].astype(np.float64)  # (n, 2) rows, columns
    last = np.array(seen.shape) - 1
    rim = outline[((outline > 1) & (outline < last - 1)).all(1)]
    if len(rim) < 40:
        return None
    found = _fitted(rim)
    if found is None or not _is_field(found, seen, rim):
        return None
    scale = np.array(pixels.shape[:2]) / seen.shape
    row, column, radius = found
    return Circle((row + 0.5) * scale[0] - 0.5, (column + 0.5) * scale[1] - 0.5, (radius + 0.5) * float(scale.mean()))


@checked
def crop(pixels: NDArray[Any], how: str) -> tuple[NDArray[Any], str]:
    """``pixels`` (H, W, C) cropped, and a note of what was done.

    ``how``: ``none``; ``border``: black borders off; ``field``: the square around the circular field, black outside of
    the circle, or ``border`` where no circle is found.

    >>> crop(np.zeros((4, 4, 1), np.uint8), "border")[1]
    'no black border'
    """
    one_of(how, ("none", "border", "field"), "crop")
    require(pixels.ndim == 3, "pixels must be (H, W, C)", given=pixels.shape)
    circle = circular_field(pixels) if how == "field" else None
    if circle is not None:
        return _within(pixels, circle), f"cropped to a circular field of radius {circle.radius:.0f}"
    box = black_border(pixels) if how != "none" else None
    if box is not None:
        return pixels[box.slices], f"black border cropped to {box.bottom - box.top} x {box.right - box.left}"
    return pixels, "" if how == "none" else "no black border"


def _within(pixels: NDArray[Any], circle: Circle) -> NDArray[Any]:
    """The square around a circle, black outside of the circle."""
    rows, columns = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    inside = (rows - circle.row) ** 2 + (columns - circle.column) ** 2 <= circle.radius**2
    box = _around(circle, pixels.shape)
    return pixels[box.slices] * inside[box.slices][..., None].astype(pixels.dtype)


def _around(circle: Circle, shape: tuple[int, ...]) -> Box:
    """The square around a circle, as far as it lies in the image."""
    return Box(
        max(0, round(circle.row - circle.radius)), max(0, round(circle.column - circle.radius)),
        min(shape[0], round(circle.row + circle.radius) + 1), min(shape[1], round(circle.column + circle.radius) + 1),
    )  # fmt: skip


@checked
def crop_alike(mask: NDArray[Any], pixels: NDArray[Any], how: str) -> NDArray[Any]:
    """A mask (H, W, …) of an image cut as :func:`crop` cuts the image's ``pixels`` (H, W, C).

    >>> pixels = np.zeros((100, 200, 1), np.uint8)
    >>> pixels[10:90, 30:160] = 200
    >>> crop_alike(pixels > 0, pixels, "border").shape
    (80, 130, 1)
    """
    one_of(how, ("none", "border", "field"), "crop")
    require(
        mask.shape[:2] == pixels.shape[:2], "mask and image must have one size", given=f"{mask.shape}, {pixels.shape}"
    )
    circle = circular_field(pixels) if how == "field" else None
    box = _around(circle, pixels.shape) if circle else black_border(pixels) if how != "none" else None
    return mask[box.slices] if box else mask


def _without_dark(pixels: NDArray[Any], side: int) -> NDArray[np.bool_] | None:
    """Where a small copy is not dark; None where all of it is one brightness."""
    height, width = pixels.shape[:2]
    shrink = max(1.0, max(height, width) / side)
    size = max(1, round(width / shrink)), max(1, round(height / shrink))
    bright = brightest(pixels)
    small = cv2.resize(bright, size, interpolation=cv2.INTER_AREA) if shrink > 1 else bright
    small = cv2.medianBlur(small if small.dtype == np.uint8 else small.astype(np.float32), 3)
    low, high = float(small.min()), _percentile_99(small)
    return small > _threshold(low, high) if high > low else None


def _percentile_99(values: NDArray[Any]) -> float:
    """The 99th percentile; of bytes by counting them, which is ten times as fast."""
    if values.dtype != np.uint8:
        return float(np.percentile(values, 99))
    upto = np.cumsum(cv2.calcHist([np.ascontiguousarray(values)], [0], None, [256], [0, 256]), dtype=np.float64)
    place = 0.99 * (values.size - 1)
    below, above = np.searchsorted(upto, [np.floor(place), np.ceil(place)], "right").tolist()
    return float(below + (above - below) * (place % 1))


@checked
def brightest(pixels: NDArray[Any]) -> NDArray[Any]:
    """The largest channel of each pixel, (H, W); by OpenCV, twenty times as fast as by numpy."""
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    if pixels.shape[-1] != 3:
        return pixels.max(axis=-1)
    red, green, blue = cv2.split(pixels)
    return np.asarray(cv2.max(cv2.max(red, green), blue))


def _threshold(low: float, high: float) -> float:
    return max(low, 0.0) + DARK * (high - max(low, 0.0)) if low < DARK * high else -1.0


def _picture(seen: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """The pieces that are large beside the largest; None for scattered ones, as cells on a dark ground are.

    Writing and specks are no picture.
    """
    opened = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA] * (np.arange(count) > 0)
    largest = int(areas.argmax())
    outlines, _ = cv2.findContours((labels == largest).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hull = cv2.contourArea(cv2.convexHull(max(outlines, key=len)))
    if not largest or areas[largest] < _WHOLE * areas.sum() or areas[largest] < _SOLID * hull:
        return None
    picture = np.isin(labels, np.flatnonzero(areas >= 0.1 * areas[largest]))
    rows, columns = np.any(picture, 1, keepdims=True), np.any(picture, 0, keepdims=True)
    around = ~(rows & columns)
    return picture if opened[around].sum() <= _AROUND * around.sum() else None


def _tightened(pixels: NDArray[Any], box: Box) -> Box:
    """The edges of a box moved inwards over rows and columns that are dark, by at most a step of the small copy."""
    inner = pixels[box.slices]
    bright = brightest(inner)
    low, high = float(bright.min()), _percentile_99(bright[::4, ::4])
    lit = bright > _threshold(low, high)
    most = 2 * max(1, max(pixels.shape[:2]) // _SIDE)
    rows, columns = lit.mean(1) > 0.02, lit.mean(0) > 0.02
    return Box(
        box.top + _dark_run(rows, most), box.left + _dark_run(columns, most),
        box.bottom - _dark_run(rows[::-1], most), box.right - _dark_run(columns[::-1], most),
    )  # fmt: skip


def _dark_run(lit: NDArray[np.bool_], most: int) -> int:
    return min(int(lit.argmax()), most) if lit.any() else 0


def _fitted(rim: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Row, column and radius of the circle through (n, 2) points, by least squares (Kåsa 1976), off ones left out."""
    kept = rim
    for _ in range(3):
        if len(kept) < 40:
            return None
        system = np.column_stack([2 * kept, np.ones(len(kept))])
        (row, column, rest), *_ = np.linalg.lstsq(system, (kept**2).sum(1), rcond=None)
        radius = float(np.sqrt(max(rest + row**2 + column**2, 0.0)))
        off = np.abs(np.hypot(rim[:, 0] - row, rim[:, 1] - column) - radius)
        kept = rim[off <= max(np.quantile(off, 0.8), 1.0)]
    return float(row), float(column), radius


def _is_field(circle: tuple[float, float, float], seen: NDArray[np.bool_], rim: NDArray[np.float64]) -> bool:
    """Whether rim, inside and outside are those of a field: round, filled, and dark around."""
    row, column, radius = circle
    height, width = seen.shape
    if not 0.25 * min(height, width) < radius < 0.8 * max(height, width):
        return False
    off = np.abs(np.hypot(rim[:, 0] - row, rim[:, 1] - column) - radius)
    angles = np.arctan2(rim[:, 0] - row, rim[:, 1] - column)
    sectors = len(np.unique(np.floor((angles + np.pi) * (36 / (2 * np.pi))).astype(int) % 36))
    rows, columns = np.ogrid[:height, :width]
    distance = np.hypot(rows - row, columns - column)
    inside, outside = seen[distance < 0.97 * radius], seen[distance > 1.03 * radius]
    return bool(
        (off <= max(_ROUND * radius, 1.5)).mean() > 0.8
        and sectors >= 8
        and inside.size and inside.mean() > 0.85
        and outside.size > 0.01 * seen.size and outside.mean() < 0.1
    )  # fmt: skip

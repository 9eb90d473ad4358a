"""Writing burned into the pixels: names, dates and settings that a device drew over its picture. Classical, no model.

Letters are small, thin, of one brightness, sharp at their edges, of one height, and stand in a row. Strokes are
found by a top-hat, bright and dark, at several scales; pieces that look like letters are joined to rows, and rows that
keep the rules are reported. A single letter (a side marker) is not looked for. Nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked, require
from overread.images.image import Box

#: The longer side of the copy that is searched, at most: writing below about 7 pixels there is not found.
SIDE = 1600
#: Letters that a row has at least.
LETTERS = 4
_CONTRASTS = (36, 120)  # of 255, between strokes and what they stand on; at the higher one, close letters come apart
_QUICK = 600_000  # pixels; a larger copy is searched at the lower contrast only
_STROKE = 13  # pixels, the widest stroke at a scale
_LOW, _TALL = 7, 44  # pixels, height of a letter at a scale
_SMALL = 400  # pixels; a copy up to this size is also searched at twice of it
_FLAT = 0.5  # of a stroke has nearly all the ink: drawn writing is sharp, blurred things are not
_STANDS_OUT = 0.15  # of the pieces that look like letters stand in rows; in a texture some do by chance
_MANY = 1500  # pieces that are joined at most; a texture has more


@dataclass(frozen=True)
class _Letters:
    """Pieces that look like letters, as arrays: their boxes, their ``ink`` (the brightness of the
    stroke), the width of the ``stroke``, and how much of it has nearly all the ink (``flat``).
    """

    left: NDArray[np.float64]
    top: NDArray[np.float64]
    width: NDArray[np.float64]
    height: NDArray[np.float64]
    ink: NDArray[np.float64]
    stroke: NDArray[np.float64]
    flat: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.left)

    def __getitem__(self, index: Any) -> _Letters:
        return _Letters(*(value[index] for value in vars(self).values()))


_NO_LETTERS = _Letters(*(np.empty(0),) * 7)


@checked
def text_boxes(pixels: NDArray[Any]) -> tuple[Box, ...]:
    """Boxes around rows of writing in ``pixels`` (H, W, C) of whole numbers, from the top down; empty if none.

    >>> text_boxes(np.zeros((64, 64, 1), np.uint8))
    ()
    """
    require(pixels.ndim == 3, "pixels must be (H, W, C)", given=pixels.shape)
    height, width = pixels.shape[:2]
    if min(height, width) < 2 * _LOW:
        return ()
    grey = _grey(pixels)
    found = [box for small in _scales(grey) for box in _rows_of(small, height / small.shape[0], width / small.shape[1])]
    found = [Box(max(b.top, 0), max(b.left, 0), min(b.bottom, height), min(b.right, width)) for b in found]
    return tuple(sorted(_joined(found), key=lambda box: (box.top, box.left)))


def _grey(pixels: NDArray[Any]) -> NDArray[Any]:
    """Luminance in 8 bits, at most :data:`SIDE` long; other depths from their smallest to their largest value."""
    shrink = max(pixels.shape[:2]) / SIDE
    if shrink > 1:
        size = round(pixels.shape[1] / shrink), round(pixels.shape[0] / shrink)
        small = pixels if pixels.dtype in (np.uint8, np.uint16) else pixels.astype(np.float32)
        pixels = cv2.resize(small, size, interpolation=cv2.INTER_AREA)
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != np.uint8:
        low, high = float(pixels.min()), float(pixels.max())
        pixels = ((pixels - low) * np.float32(255 / (high - low or 1))).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[-1] == 3 else np.ascontiguousarray(pixels[..., 0])


def _scales(grey: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The copy itself, half and a quarter of it; of a small one also the double, for small letters."""
    if max(grey.shape) <= _SMALL:
        yield cv2.resize(grey, (grey.shape[1] * 2, grey.shape[0] * 2), interpolation=cv2.INTER_CUBIC)
    yield grey
    for _ in range(2):
        if min(grey.shape) < 8 * _LOW:
            return
        grey = cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)
        yield grey


def _rows_of(grey: NDArray[Any], down: float, across: float) -> Iterator[Box]:
    """Rows of writing at one scale, in pixels of the image."""
    kernel = np.ones((_STROKE, _STROKE), np.uint8)
    for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        strokes = cv2.morphologyEx(grey, operation, kernel)
        for contrast in _CONTRASTS if grey.size < _QUICK else _CONTRASTS[:1]:
            letters = _letters(strokes, contrast)
            rows = list(filter(_is_writing, _lines(letters)))
            if sum(map(len, rows)) >= _STANDS_OUT * len(letters):
                yield from (_box(row, down, across) for row in rows)


def _box(row: _Letters, down: float, across: float) -> Box:
    bottom, right = (row.top + row.height).max(), (row.left + row.width).max()
    return Box(
        int(row.top.min() * down), int(row.left.min() * across), int(np.ceil(bottom * down)), int(np.ceil(right * across))
    )  # fmt: skip


def _letters(strokes: NDArray[Any], contrast: int) -> _Letters:
    """Pieces of the strokes with size, thinness and sharp edges of letters."""
    _, mask = cv2.threshold(strokes, contrast - 1, 1, cv2.THRESH_BINARY)
    if cv2.countNonZero(mask) < 3 * _LOW:
        return _NO_LETTERS
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    left, top, width, height, area = stats.T.astype(np.float64)
    fill = area / (width * height)
    fits = (height >= _LOW) & (height <= _TALL) & (width <= 6 * height) & (area >= _LOW)
    fits &= (fill > 0.12) & (fill < 0.95) | (width <= 0.4 * height)
    fits[0] = False
    if fits.sum() < 3:
        return _NO_LETTERS
    at = np.flatnonzero(mask.ravel())
    owner = labels.ravel()[at]
    at, owner = at[fits[owner]], owner[fits[owner]]
    value, ink = strokes.ravel()[at].astype(np.float64), np.zeros(count)
    np.maximum.at(ink, owner, value)
    flat = np.bincount(owner, value > 0.7 * ink[owner], count) / area
    kept = np.flatnonzero(fits & (flat > 0.35))
    kept = kept[np.argsort(-ink[kept], kind="stable")[:_MANY]]
    stroke = _strokes(mask, stats[kept])
    thin = stroke <= np.maximum(0.5 * height[kept], 3)
    kept, stroke = kept[thin], stroke[thin]
    return _Letters(left[kept], top[kept], width[kept], height[kept], ink[kept], stroke, flat[kept])


def _strokes(mask: NDArray[Any], boxes: NDArray[Any]) -> NDArray[np.float64]:
    """The widest stroke within each box: twice the largest distance to where there is none."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    pieces = (padded[y : y + h + 2, x : x + w + 2] for x, y, w, h, _ in boxes.tolist())
    return np.array([2 * cv2.distanceTransform(p, cv2.DIST_L2, 3).max() for p in pieces], np.float64)


def _lines(letters: _Letters) -> Iterator[_Letters]:
    """Letters that stand beside each other: near, of about one height, on one line, of one brightness."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    if len(letters) < 3:
        return
    here, there = (slice(None), None), (None, slice(None))
    right, bottom = letters.left + letters.width, letters.top + letters.height
    height = np.minimum(letters.height[here], letters.height[there])
    gap = letters.left[there] - right[here]
    linked = (gap > -0.4 * height) & (gap < 1.1 * height) & (letters.left[there] > letters.left[here])
    linked &= np.maximum(letters.height[here], letters.height[there]) <= 1.9 * height
    foot, head = np.abs(bottom[there] - bottom[here]), np.abs(letters.top[there] - letters.top[here])
    linked &= np.minimum(foot, head) <= np.maximum(0.15 * height, 1)
    linked &= np.abs(letters.ink[there] - letters.ink[here]) <= 0.2 * np.maximum(letters.ink[here], letters.ink[there])
    count, names = connected_components(csr_array(linked), directed=False)
    for name in np.flatnonzero(np.bincount(names, minlength=count) >= 3):
        yield letters[names == name]


def _is_writing(row: _Letters) -> bool:
    """Whether a row of pieces keeps the rules of writing."""
    tall = float(np.median(row.height))
    letters = np.maximum(1, np.round(row.width / (0.75 * row.height))).sum()  # some touch
    bars = (row.width <= 0.3 * row.height).mean()
    bottom = row.top + row.height
    aligned = max((np.abs(edge - np.median(edge)) <= max(0.12 * tall, 1)).mean() for edge in (row.top, bottom))
    return bool(
        letters >= LETTERS
        and bars <= 0.6
        and row.flat.mean() >= _FLAT
        and bottom.max() - row.top.min() <= 1.8 * tall
        and aligned >= 0.6
        and row.ink.std() <= 0.12 * row.ink.mean()
        and row.height.std() <= 0.3 * tall
        and row.stroke.std() <= 0.35 * row.stroke.mean() + 0.4
    )


def _joined(boxes: list[Box]) -> list[Box]:
    """Boxes of several scales that overlap become one."""
    done: list[Box] = []
    for box in boxes:
        for other in [o for o in done if _overlap(o, box)]:
            done.remove(other)
            box = Box(
                min(box.top, other.top), min(box.left, other.left),
                max(box.bottom, other.bottom), max(box.right, other.right),
            )  # fmt: skip
        done.append(box)
    return done


def _overlap(one: Box, two: Box) -> bool:
    return one.top < two.bottom and two.top < one.bottom and one.left < two.right and two.left < one.right

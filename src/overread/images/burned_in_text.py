"""Writing burned into the pixels: names, dates and settings that a device drew over its picture. Classical, no model.

Letters are small, thin, of one brightness, sharp at their edges, of one height, and stand in a row. Strokes are
found by a top-hat, bright and dark, at several scales; pieces that look like letters are joined to rows, and rows that
keep the rules are reported. A single letter (a side marker) is not looked for. Nothing is read.

Most photographs hold none, and two cheap looks say so: no rows of pixels with as many steps of brightness as letters in
a row make, or no rows in which as many strokes stand. Only what passes them is searched.
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
_PIECES = 3  # in a row at least: letters may touch
_SHARED = 4  # rows of pixels that these share at least, of the 7 of the smallest letters
_FEW = 200  # pieces that are compared before they are measured
_KINDS = (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT)  # bright strokes, dark strokes
_SPARE = 0.6  # of the contrast that a stroke has at its own scale, it has at half of it at least
_STEP = 22  # of 255, between neighbours: less than a stroke of the lowest contrast makes at one of its sides


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
    scales = _scales(_grey(pixels))
    found = [
        box
        for small, kinds in scales
        for kind in kinds
        for box in _rows_of(small, kind, height / small.shape[0], width / small.shape[1])
    ]
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


def _scales(grey: NDArray[Any]) -> Iterator[tuple[NDArray[Any], tuple[int, ...]]]:
    """The copy itself, half and a quarter of it, those of them that have steps enough for writing; of a small one also
    the double, for small letters. Each with the kinds of strokes to look for, bright or dark.

    Of blurred writing, half the copy has the steps that the copy itself has not.
    """
    copies = [grey]
    while min(copies[-1].shape) >= 8 * _LOW and len(copies) < 4:
        size = copies[-1].shape[1] // 2, copies[-1].shape[0] // 2
        copies.append(cv2.resize(copies[-1], size, interpolation=cv2.INTER_AREA))
    steps = [*map(_has_steps, copies), False]
    for number, copy in enumerate(copies[:3]):
        if not (steps[number] or steps[number + 1]):
            continue
        small = copy is grey and max(grey.shape) <= _SMALL
        if small and (kinds := tuple(kind for kind in _KINDS if _has_thin_pieces(grey, kind))):
            yield cv2.resize(grey, (grey.shape[1] * 2, grey.shape[0] * 2), interpolation=cv2.INTER_CUBIC), kinds
        yield copy, _KINDS


def _has_steps(grey: NDArray[Any]) -> bool:
    """Whether neighbouring rows have as many steps of brightness as the two sides of a few strokes make."""
    steps = cv2.threshold(cv2.absdiff(grey[:, 1:], grey[:, :-1]), _STEP, 1, cv2.THRESH_BINARY)[1]
    return _are_together(_per_row(steps) >= 2 * _PIECES, _SHARED // 2)


def _has_thin_pieces(grey: NDArray[Any], kind: int) -> bool:
    """Whether strokes stand in rows that the double of a copy shows as thin as it looks for, with some contrast to spare."""
    strokes = cv2.morphologyEx(grey, kind, np.ones((_STROKE // 2 + 1, _STROKE // 2 + 1), np.uint8))
    return _has_pieces(cv2.threshold(strokes, _SPARE * _CONTRASTS[0], 1, cv2.THRESH_BINARY)[1], _SHARED // 2)


def _has_pieces(mask: NDArray[Any], rows: int) -> bool:
    """Whether so many neighbouring rows of a mask have as many runs as letters in a row make: each has one in each row."""
    begin = cv2.threshold(cv2.subtract(mask[:, 1:], mask[:, :-1]), 0, 1, cv2.THRESH_BINARY)[1]
    return _are_together(_per_row(begin) + mask[:, 0] >= _PIECES, rows)


def _per_row(marks: NDArray[Any]) -> NDArray[np.int32]:
    """How many marks, 1 among 0, each row of (H, W) has."""
    return np.asarray(cv2.reduce(marks, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0])


def _are_together(rows: NDArray[np.bool_], count: int) -> bool:
    """Whether so many neighbours are true."""
    if np.count_nonzero(rows) < count:
        return False
    run = rows[count - 1 :].copy()
    for back in range(1, count):
        run &= rows[count - 1 - back : len(rows) - back]
    return bool(run.any())


def _rows_of(grey: NDArray[Any], kind: int, down: float, across: float) -> Iterator[Box]:
    """Rows of writing of one kind of strokes at one scale, in pixels of the image."""
    strokes = cv2.morphologyEx(grey, kind, np.ones((_STROKE, _STROKE), np.uint8))
    for contrast in _CONTRASTS if grey.size < _QUICK else _CONTRASTS[:1]:
        _, mask = cv2.threshold(strokes, contrast - 1, 1, cv2.THRESH_BINARY)
        if cv2.countNonZero(mask) < _PIECES * _LOW:  # nor is there more at a higher one
            return
        letters = _letters(strokes, mask)
        rows = list(filter(_is_writing, _lines(letters)))
        if sum(map(len, rows)) >= _STANDS_OUT * len(letters):
            yield from (_box(row, down, across) for row in rows)


def _box(row: _Letters, down: float, across: float) -> Box:
    bottom, right = (row.top + row.height).max(), (row.left + row.width).max()
    return Box(
        int(row.top.min() * down), int(row.left.min() * across), int(np.ceil(bottom * down)), int(np.ceil(right * across))
    )  # fmt: skip


def _letters(strokes: NDArray[Any], mask: NDArray[Any]) -> _Letters:
    """Pieces of the strokes within a mask of 1 and 0, with size, thinness and sharp edges of letters."""
    if not _has_pieces(mask, _SHARED):
        return _NO_LETTERS
    kind = cv2.CV_16U if mask.size < 2**18 else cv2.CV_32S  # the quicker one numbers 65,535 pieces, of four pixels each
    count, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(mask, 8, kind, cv2.CCL_SPAGHETTI)
    left, top, width, height, area = stats.T.astype(np.float64)
    fill = area / (width * height)
    fits = (height >= _LOW) & (height <= _TALL) & (width <= 6 * height) & (area >= _LOW)
    fits &= (fill > 0.12) & (fill < 0.95) | (width <= 0.4 * height)
    fits[0] = False
    some = np.flatnonzero(fits)
    few = len(some) <= _FEW  # to compare all with all
    if len(some) < _PIECES or (few and _are_apart(_beside(left[some], top[some], width[some], height[some]))):
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
    if len(letters) < _PIECES:
        return
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    ink = letters.ink
    linked = _beside(letters.left, letters.top, letters.width, letters.height)
    linked &= np.abs(ink[None] - ink[:, None]) <= 0.2 * np.maximum(ink[None], ink[:, None])
    if _are_apart(linked):
        return
    count, names = connected_components(csr_array(linked), directed=False)
    for name in np.flatnonzero(np.bincount(names, minlength=count) >= _PIECES):
        yield letters[names == name]


def _beside(
    left: NDArray[np.float64], top: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which boxes (N,) stand to the right of which: near, of about one height, on one line, (N, N)."""
    here, there = (slice(None), None), (None, slice(None))
    right, bottom = left + width, top + height
    least = np.minimum(height[here], height[there])
    gap = left[there] - right[here]
    beside = (gap > -0.4 * least) & (gap < 1.1 * least) & (left[there] > left[here])
    beside &= np.maximum(height[here], height[there]) <= 1.9 * least
    foot, head = np.abs(bottom[there] - bottom[here]), np.abs(top[there] - top[here])
    return np.asarray(beside & (np.minimum(foot, head) <= np.maximum(0.15 * least, 1)))


def _are_apart(linked: NDArray[np.bool_]) -> bool:
    """Whether no row of pieces can come of so few links."""
    return bool(np.count_nonzero(linked) < _PIECES - 1)


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

"""The one defined conversion of each oddity: windows, alpha, ink, odd depths, cameras that were turned.

A window says which values become black and which white. It is named (``lung``), given as ``centre/width`` in the
values' own unit, Hounsfield units for CT, or left to the file. The presets are round figures in wide use at
workstations (compare Radiopaedia.org, "Windowing (CT)"); sites and vendors differ, so name centre and width where it
matters.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked, nearest, require

#: Pixels (H, W, C) with C 1 or 3, or (D, H, W, 1), and notes of what was converted: what every reader of a format
#: gives.
Pixels = tuple[NDArray[Any], tuple[str, ...]]
#: Chunks, boxes or segments of one file that are walked at most.
PIECES = 1_000_000
_STRIP = 1 << 20  # values


# -- windows: which values become black, which white, and how it goes in between --------------------------


@dataclass(frozen=True)
class Window:
    """``centre`` and ``width`` in the unit of the values. An infinite width stands for smallest to largest."""

    centre: float
    width: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.centre), "the centre of a window must be a finite number", given=self.centre)
        require(self.width > 0, "the width of a window must be positive", given=self.width)


#: From the smallest to the largest value, whatever they are.
FULL = Window(0.0, math.inf)
#: Named windows, Hounsfield units.
PRESETS: dict[str, Window] = {
    "lung": Window(-600, 1500),
    "mediastinum": Window(50, 350),
    "soft tissue": Window(40, 400),
    "bone": Window(400, 1800),
    "brain": Window(40, 80),
    "stroke": Window(40, 40),
    "subdural": Window(80, 200),
    "temporal bone": Window(600, 2800),
    "abdomen": Window(50, 400),
    "liver": Window(30, 150),
    "spine": Window(50, 250),
    "angio": Window(300, 600),
}


@checked
def parse_window(text: str) -> Window | None:
    """The window that ``text`` names: a preset, ``centre/width``, ``low:high``, ``full``, or None for what the file says.

    Case, ``-`` and ``_`` between words do not matter. Raises :class:`InputError` that names the nearest preset.

    >>> parse_window("lung"), parse_window("Soft_Tissue"), parse_window("-600/1500")
    (Window(centre=-600, width=1500), Window(centre=40, width=400), Window(centre=-600.0, width=1500.0))
    >>> parse_window("-1000:400")
    Window(centre=-300.0, width=1400.0)
    >>> parse_window("") is None, parse_window("stored") is None, parse_window("full") is FULL
    (True, True, True)
    """
    name = " ".join(text.lower().replace("_", " ").replace("-", " ").split())
    if name in ("", "stored"):
        return None
    if name == "full":
        return FULL
    if name in PRESETS:
        return PRESETS[name]
    return _in_numbers(text)


def _in_numbers(text: str) -> Window:
    given = repr(text[:40])
    try:
        ends = ":" in text
        first, second = (float(part) for part in text.split(":" if ends else "/"))
        centre, width = ((first + second) / 2, second - first) if ends else (first, second)
    except ValueError as error:
        what = "the window is no name that is known, nor centre/width such as -600/1500, nor low:high such as -1000:400"
        raise InputError(what, given=given, todo=nearest(text[:40], [*PRESETS, "stored", "full"])) from error
    if not math.isfinite(centre) or not math.isfinite(width) or width <= 0:
        what = "a window needs finite ends, the upper one above the lower"
        raise InputError(what, given=given, todo="give centre/width, such as -600/1500, or low:high, such as -1350:150")
    return Window(centre, width)


@checked
def spanning(values: NDArray[Any]) -> tuple[float, float]:
    """The smallest and the largest finite value; (0, 0) where there is none.

    >>> spanning(np.array([3, -1, 8]))
    (-1.0, 8.0)
    """
    kept = values[np.isfinite(values)] if np.issubdtype(values.dtype, np.floating) else values
    return (float(kept.min()), float(kept.max())) if kept.size else (0.0, 0.0)


@checked
def between(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    """Values on 0 … 1 from ``low`` to ``high``, clipped; 0 everywhere if they are equal.

    >>> between(np.array([0, 5, 20]), 0, 10).tolist()
    [0.0, 0.5, 1.0]
    """
    if high <= low:
        return np.zeros(values.shape)
    return np.clip((values.astype(np.float64) - low) / (high - low), 0.0, 1.0)


@checked
def windowed(values: NDArray[Any], window: Window, function: str = "LINEAR") -> NDArray[np.float64]:
    """Values on 0 … 1 by a window and a VOI LUT function (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    ``function``: LINEAR, in which a width of 1 is a threshold, LINEAR_EXACT or SIGMOID. :data:`FULL` goes from the
    smallest to the largest of ``values``.

    >>> windowed(np.array([0.0, 50.0, 200.0]), Window(50.5, 101)).tolist()
    [0.0, 0.5, 1.0]
    """
    if math.isinf(window.width):
        return between(values, *spanning(values))
    x = values.astype(np.float64) - window.centre
    if function == "SIGMOID":
        return 1.0 / (1.0 + np.exp(np.clip(-4.0 * x / window.width, -500, 500)))
    if function == "LINEAR_EXACT":
        return np.clip(x / window.width + 0.5, 0.0, 1.0)
    if window.width <= 1:  # a threshold
        return (x > -0.5).astype(np.float64)
    return np.clip((x + 0.5) / (window.width - 1.0) + 0.5, 0.0, 1.0)


# -- samples to 8 or 16 bits, grey or RGB, upright ---------------------------------------------------------


@checked
def by_cv2(data: bytes, flag: int) -> NDArray[Any]:
    """Pixels as OpenCV decodes them under ``flag``. Raises :class:`ImageError` where it gives up."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise ImageError("the image is damaged", given="the decoder gave up")
    return pixels


@checked
def strips(pixels: NDArray[Any]) -> Iterator[slice]:
    """Slices of the first axis, a million values each or one row: what takes many bytes a pixel on the way is done by
    them.

    >>> list(strips(np.zeros((3, 600_000))))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    rows = max(1, _STRIP * len(pixels) // max(pixels.size, 1))
    return (slice(at, min(at + rows, len(pixels))) for at in range(0, len(pixels), rows))


@checked
def with_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) as (H, W, 1); (H, W, C) as it is."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


@checked
def onto_black(pixels: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The colours of (…, C+1) pixels weighted by the last channel, and whether any of it was transparent."""
    full = np.iinfo(pixels.dtype).max
    colour, alpha = pixels[..., :-1], pixels[..., -1:]
    if alpha.min(initial=full) == full:
        return np.ascontiguousarray(colour), False
    weighted = np.empty(colour.shape, pixels.dtype)
    for rows in strips(pixels):
        weighted[rows] = (colour[rows].astype(np.uint32) * alpha[rows] + full // 2) // full
    return weighted, True


@checked
def ink_to_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """CMYK (…, 4), full ink at the largest value, as RGB: (1 − ink)(1 − black)."""
    full = int(np.iinfo(pixels.dtype).max)
    colour = np.empty((*pixels.shape[:-1], 3), pixels.dtype)
    for rows in strips(pixels):
        ink, black = (full - part.astype(np.uint32) for part in (pixels[rows][..., :3], pixels[rows][..., 3:]))
        colour[rows] = (ink * black + full // 2) // full
    return colour


@checked
def stretched(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Unsigned samples of so many bits on the whole range of 8 or 16 bits; of more, the upper 16 are kept.

    >>> stretched(np.array([0, 3], np.uint8), 2).tolist(), stretched(np.array([4095], np.uint16), 12).tolist()
    ([0, 255], [65535])
    """
    if bits > 16:
        return (pixels >> pixels.dtype.type(bits - 16)).astype(np.uint16)
    kind, most = np.uint8 if bits <= 8 else np.uint16, 2**bits - 1
    full = np.iinfo(kind).max
    if most == full:
        return pixels.astype(kind, copy=False)
    wide = np.empty(pixels.shape, kind)
    for rows in strips(pixels):
        wide[rows] = np.minimum(pixels[rows], most).astype(np.uint32) * full // most
    return wide


@checked
def upright(pixels: NDArray[Any], orientation: int, notes: tuple[str, ...]) -> Pixels:
    """Apply an EXIF orientation (Exif 2.32, tag 274) to (H, W, C) pixels, and note it."""
    if orientation == 1:
        return pixels, notes
    if orientation >= 5:  # 5 … 8 are transposed
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels, (*notes, "EXIF rotation applied")


@checked
def exif_orientation(block: bytes) -> int:
    """The orientation 1 … 8 in a block of EXIF (TIFF 6.0 directory, tag 274); 1 where it is absent or damaged."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 14:
        return 1
    (at,) = struct.unpack(order + "I", block[4:8])
    (count,) = struct.unpack(order + "H", block[at : at + 2].ljust(2, b"\0"))
    for entry in range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, _, value = struct.unpack(order + "HHIH", block[entry : entry + 10])
        if tag == 274 and kind == 3:
            return value if 1 <= value <= 8 else 1
    return 1


# -- as a screen shows it ----------------------------------------------------------------------------------


@checked
def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """The same shape in 8 bits: deeper pixels from their 0.5th to their 99.5th percentile, for the eye and no network.

    Whole numbers that are the same nearly everywhere, where there is nothing to stretch, keep their share of the range.

    >>> eight_bits(np.array([[0, 30_000, 60_000]], np.uint16)).tolist(), eight_bits(np.full((1, 2), 32_768, np.uint16)).tolist()
    ([[0, 127, 255]], [[127, 127]])
    """
    if pixels.dtype == np.uint8:
        return pixels
    low, high = np.percentile(pixels, (0.5, 99.5))
    if low == high and pixels.dtype.kind in "iu":
        return np.asarray(pixels // (np.iinfo(pixels.dtype).max // 255), np.uint8)
    return np.asarray(np.clip((pixels - low) / max(float(high - low), 1e-6) * 255, 0, 255), np.uint8)

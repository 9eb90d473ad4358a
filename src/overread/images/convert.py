"""The one defined conversion of each oddity of a photograph: alpha, ink, odd depths, turned cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import checked


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
    weighted = (colour.astype(np.uint32) * alpha + full // 2) // full
    return weighted.astype(pixels.dtype), True


@checked
def ink_to_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """CMYK (…, 4), full ink at the largest value, as RGB: (1 − ink)(1 − black)."""
    full = int(np.iinfo(pixels.dtype).max)
    ink, black = full - pixels[..., :3].astype(np.uint32), full - pixels[..., 3:].astype(np.uint32)
    return ((ink * black + full // 2) // full).astype(pixels.dtype)


@checked
def stretched(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Samples of 1 … 7 bits stretched to 8, those of 9 … 15 to 16: the largest stays the largest.

    >>> stretched(np.array([0, 3], np.uint8), 2).tolist()
    [0, 255]
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.uint16) or bits in (8, 16):
        return pixels
    wide = np.uint8 if bits < 8 else np.uint16
    return (pixels.astype(np.uint32) * np.iinfo(wide).max // (2**bits - 1)).astype(wide)


@checked
def upright(
    pixels: NDArray[Any], orientation: int, notes: tuple[str, ...]
) -> tuple[NDArray[Any], tuple[str, ...]]:
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

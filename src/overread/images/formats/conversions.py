"""The one defined conversion of each oddity of a photograph: alpha, ink, odd depths, cameras that were turned."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked

#: Pixels (H, W, C) with C 1 or 3, or (D, H, W, 1), and notes of what was converted: what every reader of a format gives.
Pixels = tuple[NDArray[Any], tuple[str, ...]]
#: Chunks, boxes or segments of one file that are walked at most.
PIECES = 1_000_000


@checked
def by_cv2(data: bytes, flag: int) -> NDArray[Any]:
    """Pixels as OpenCV decodes them under ``flag``. Raises :class:`ImageError` where it gives up."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise ImageError("the image is damaged", given="the decoder gave up")
    return pixels


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
def upright(pixels: NDArray[Any], orientation: int, notes: tuple[str, ...]) -> tuple[NDArray[Any], tuple[str, ...]]:
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
    """The orientation 1 … 8 in a block of EXIF (TIFF 6.0 directory, tag 274); 1 where it is absent or
    damaged.
    """
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

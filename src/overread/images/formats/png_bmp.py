"""PNG, JPEG and BMP: photographs of one plane of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.formats import headers
from overread.images.formats.headers import onto_black, upright, with_channels

Pixels = tuple[NDArray[Any], tuple[str, ...]]


@checked
def decode_png(data: bytes, check: Callable[..., None]) -> Pixels:
    """Pixels (H, W, C) of a PNG, and notes. ``check(height, width)`` is asked first."""
    header = headers.png(data)
    check(header.height, header.width)
    pixels = by_cv2(header.payload, cv2.IMREAD_UNCHANGED)
    notes = header.notes
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels, seen = onto_black(pixels)
        notes += ("alpha composited onto black",) if seen else ()
    if pixels.ndim == 3:
        pixels = pixels[..., :1] if header.samples < 3 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    pixels = with_channels(pixels)
    if header.transparent:
        pixels[(pixels == np.array(header.transparent)).all(-1)] = 0
        notes += ("the transparent colour made black",)
    return upright(pixels, header.orientation, notes)


@checked
def by_cv2(data: bytes, flag: int) -> NDArray[Any]:
    """Pixels as OpenCV decodes them under ``flag``. Raises :class:`ImageError` where it gives up."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise ImageError("the image is damaged", given="the decoder gave up")
    return pixels


@checked
def decode_bmp(data: bytes, check: Callable[..., None]) -> Pixels:
    """Pixels (H, W, C) of a BMP without compression, 1, 4, 8, 24 or 32 bits; a palette of greys stays grey."""
    header = headers.bmp(data)
    check(header.height, header.width)
    pixels = by_cv2(header.payload, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 2::-1])  # BGR, the fourth byte has no meaning
    if pixels.ndim == 3 and header.bits < 24 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    notes = ("palette converted to RGB",) if header.bits < 24 and pixels.ndim == 3 else ()
    return with_channels(pixels), notes

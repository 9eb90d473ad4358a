"""Slides in the formats of scanners, read by OpenSlide (the extra ``slides``).

OpenSlide places a region by a pixel of level 0. Where a level is not a whole number of times smaller, a place on that level
falls between two pixels of level 0 and is blended from its neighbours; there the level is read in blocks at fixed places, so that a pixel
does not depend on the region that it was asked with.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import UnavailableError
from overread.images.slides.files.handles import CACHE, SlideHeader

#: Side of the blocks in which a level that is not a whole number of times smaller is read, and in which others are, in their pixels.
_BLENDED, _PLAIN = 256, 1024
_CACHES = threading.local()


@cache
def has_openslide() -> bool:
    """Whether OpenSlide is installed: its binding, and the library that this needs."""
    try:
        openslide_module()
    except UnavailableError:
        return False
    return True


def openslide_module() -> Any:
    """The module ``openslide``. Raises :class:`UnavailableError` that says how to install it."""
    try:
        import openslide
    except (ImportError, OSError) as error:  # the binding without its library raises either
        raise UnavailableError(
            "OpenSlide is not installed, which reads the formats of scanners", todo="pip install 'overread[slides]'"
        ) from error
    return openslide


def vendor_of(path: str) -> str:
    """The format by OpenSlide's name, ``""`` where it knows none; only headers are read."""
    openslide = openslide_module()
    try:
        return str(openslide.OpenSlide.detect_format(path) or "")
    except openslide.OpenSlideError:  # it begins as a slide does and is not whole
        return ""


class VendorSlide:
    """A slide opened by OpenSlide. See :class:`~overread.images.slides.files.handles.OpenedSlide`."""

    def __init__(self, path: str) -> None:
        openslide = openslide_module()
        self._slide = openslide.OpenSlide(path)
        self._slide.set_cache(_cache(openslide))
        said = self._slide.properties
        self._downsamples = tuple(float(x) for x in self._slide.level_downsamples)
        self.identity = str(said.get("openslide.quickhash-1", ""))
        self.header = SlideHeader(
            str(said.get("openslide.vendor", "")),
            tuple((int(w), int(h)) for w, h in self._slide.level_dimensions),
            (_number(said.get("openslide.mpp-x")), _number(said.get("openslide.mpp-y"))),
            _colour(said.get("openslide.background-color")),
            _number(said.get("openslide.objective-power")),
        )

    def read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) pixels of a level."""
        whole = self._downsamples[level].is_integer()
        if whole and width * height <= _PLAIN * _PLAIN:
            return self._block(level, left, top, width, height)
        side = _PLAIN if whole else _BLENDED
        pixels = np.empty((height, width, 3), np.uint8)
        across, down = self.header.sizes[level]
        for y in range(top // side * side, top + height, side):
            for x in range(left // side * side, left + width, side):
                block = self._block(level, x, y, min(side, across - x), min(side, down - y))
                rows = slice(max(y, top), min(y + len(block), top + height))
                columns = slice(max(x, left), min(x + block.shape[1], left + width))
                pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = block[
                    rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
                ]
        return pixels

    def _block(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        scale = self._downsamples[level]
        region = self._slide.read_region((round(left * scale), round(top * scale)), level, (width, height))
        rgba = np.asarray(region)
        if rgba.view("<u4").min() >= 0xFF000000:  # opaque: the last of four bytes is 255
            return cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB).astype(np.uint8, copy=False)
        opacity = rgba[..., 3:].astype(np.uint32)
        behind = np.array(self.header.background, np.uint32)
        return ((rgba[..., :3] * opacity + behind * (255 - opacity) + 127) // 255).astype(np.uint8)

    def close(self) -> None:
        """Let go of the file."""
        self._slide.close()


def _cache(openslide: Any) -> Any:
    """The cache that all open slides of this thread share."""
    if not hasattr(_CACHES, "cache"):
        _CACHES.cache = openslide.OpenSlideCache(CACHE)
    return _CACHES.cache


def _number(text: Any) -> float:
    with suppress(TypeError, ValueError):
        value = float(text)
        return value if np.isfinite(value) and value > 0 else 0.0
    return 0.0


def _colour(text: Any) -> tuple[int, int, int]:
    with suppress(TypeError, ValueError, IndexError):
        red, green, blue = bytes.fromhex(text)
        return red, green, blue
    return 255, 255, 255

"""Small pictures of cases, for pages: read where a malicious file can do no harm, and without what may name a patient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import checked
from overread.core.sandbox import contained
from overread.images.burned_in_text import text_boxes
from overread.images.conversions import eight_bits
from overread.images.image import Image
from overread.images.read import read_image

#: Pixels of the longer side.
THUMBNAIL = 176
#: The same of a picture with writing in it, and its share of the image's own side at most: what a box misses cannot be read.
UNREADABLE, SHRUNK = 96, 4
_COVER = 128  # grey, of the boxes over writing


@checked
def thumbnails(addresses: Sequence[str], *, side: int = THUMBNAIL, covered: bool = False) -> Iterator[bytes]:
    """A PNG of each image, in their order; ``b""`` of one that cannot be read.

    ``side``: pixels of the longer side. ``covered``: rows of writing lie under grey boxes, and the picture is so small that
    a row that was not found cannot be read.
    """
    return (b"" if image is None else png(_unread(image) if covered else small(flat(image), side)) for image in _read(addresses))  # fmt: skip


@checked
def covered(addresses: Sequence[str]) -> Iterator[NDArray[np.uint8] | None]:
    """Each image (h, w, C) as :func:`thumbnails` covers it; None of one that cannot be read."""
    return (None if image is None else np.atleast_3d(_unread(image)) for image in _read(addresses))


def _read(addresses: Sequence[str]) -> Iterator[Image | None]:
    with closing(contained(read_image, ((address,) for address in addresses), workers=1)) as found:
        yield from (image if isinstance(image, Image) else None for image in found)


@checked
def flat(image: Image) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) in 8 bits, from the 0.5th to the 99.5th percentile of deeper images; a volume by its middle slice,
    frames as channels by their mean."""
    pixels = image.pixels[len(image.pixels) // 2] if image.mode == "volume" else image.pixels
    if image.mode == "frames":
        pixels = np.rint(pixels.mean(axis=-1, keepdims=True)).astype(pixels.dtype)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels[..., :3]
    return eight_bits(pixels)


@checked
def small(pixels: NDArray[np.uint8], side: int = THUMBNAIL) -> NDArray[np.uint8]:
    """(h, w) or (h, w, 3) uint8 with a longer side of ``side`` pixels."""
    scale = side / max(pixels.shape[:2])
    shape = tuple(max(1, round(length * scale)) for length in pixels.shape[1::-1])
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST if scale > 3 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), shape, interpolation=how), np.uint8)


@checked
def png(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a PNG of (h, w) or RGB (h, w, 3)."""
    return bytes(cv2.imencode(".png", pixels[..., ::-1] if pixels.ndim == 3 else pixels)[1].tobytes())


def _unread(image: Image) -> NDArray[np.uint8]:
    pixels = np.array(flat(image))
    boxes: Iterable[Any] = text_boxes(pixels[..., None] if pixels.ndim == 2 else pixels)
    for box in boxes:
        more = round((box.bottom - box.top) / 2)
        rows = slice(max(0, round(box.top) - more), round(box.bottom) + more)
        pixels[rows, max(0, round(box.left) - more) : round(box.right) + more] = _COVER
    return small(pixels, max(1, min(UNREADABLE, max(pixels.shape[:2]) // SHRUNK)))

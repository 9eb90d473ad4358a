"""Label images: a number for each object, one mask whose components are the objects, or a number for each class.

Numbers are read as they are stored: indices of a palette, samples of few bits and 32-bit pages are not brought to a
range for the eye, as images are.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.phrases import count
from overread.images.conversions import by_cv2, upright, with_channels
from overread.images.formats.png_bmp_webp import png_header
from overread.images.formats.signatures import VOLUMES, sniff
from overread.images.formats.tiff import decode_numbers
from overread.images.image import LIMITS, Limits
from overread.images.outlines.raster import Raster, components_of, components_of_classes
from overread.images.read import read_image

#: The value of a mask's inside, by how masks are stored.
_INSIDE = (1, 255, 65_535, 2**32 - 1)
_PALETTE, _GREY = 3, (0, 4)  # colour types of a PNG
#: Of a mask that was made smooth by a resize or by JPEG: the share of the inside that is full.
_FULL = 0.5


@checked
def read_label_image(data: bytes, names: Mapping[int, str] | None = None, *, limits: Limits = LIMITS) -> Raster:
    """The objects of a PNG, TIFF or another image of labels. ``names``: the classes by number, where it is a class mask.

    An image of 0 and one of 1, 255 and 65535 is one mask whose components are the objects. One of colours has an
    object for each colour but black. Raises :class:`ImageError` for what is damaged, beyond the limits, or no labels.
    """
    values, notes = numbers(data, limits)
    return raster_of_numbers(values, names, notes)


@checked
def raster_of_numbers(
    values: NDArray[Any], names: Mapping[int, str] | None = None, notes: tuple[str, ...] = ()
) -> Raster:
    """The objects of numbers (H, W), or (H, W, C) of colours, as :func:`read_label_image` understands them."""
    if values.ndim == 3:
        values = _plane(values)
    values, notes = _whole(values, notes)
    if names:
        return components_of_classes(values, dict(names), notes)
    if values.dtype == bool:
        return components_of(values, notes)
    held = np.unique(values)
    held = held[held > 0]
    if len(held) == 1 and int(held[0]) in _INSIDE:
        return components_of(values > 0, notes)
    if _is_smooth_mask(values, held):
        told = f"a mask with grey values between background and inside ({len(held) - 1:,} of them), cut at half"
        return components_of(values > int(held[-1]) // 2, (*notes, told))
    return Raster(values, (), notes)


def _is_smooth_mask(values: NDArray[Any], held: NDArray[Any]) -> bool:
    """Whether it is one mask whose edge a resize, or JPEG, made grey: most of the inside has the highest value there is."""
    if len(held) < 3 or int(held[-1]) not in (255, 65_535):
        return False
    return bool((values == held[-1]).sum() > _FULL * (values > 0).sum())


@checked
def numbers(data: bytes, limits: Limits = LIMITS) -> tuple[NDArray[Any], tuple[str, ...]]:
    """The numbers (H, W) that an image stores, bool where it has one bit a pixel, and notes; colours are numbered.

    Raises :class:`ImageError` for what is damaged, beyond the limits, or of a format that is not read.
    """
    kind = sniff(data)
    if kind in VOLUMES or kind == "DICOM":
        raise ImageError("a mask is read from an image, not from a volume", given=kind, todo="export it as PNG or TIFF")
    if kind == "PNG":
        pixels, notes = _png(data, limits)
    elif kind == "TIFF":
        pixels, notes = decode_numbers(data, limits.check)
    else:
        image = read_image(data, limits=limits)
        pixels, notes = image.pixels, image.notes
        if kind == "JPEG":
            return _of_jpeg(pixels, notes)
    return _plane(pixels), notes


def _of_jpeg(pixels: NDArray[Any], notes: tuple[str, ...]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """A mask that was saved as JPEG: nearly black and nearly white."""
    grey = pixels.max(-1)
    between = float(((grey > 64) & (grey < 192)).mean())
    if between > 0.03:
        raise ImageError("numbers of objects do not survive JPEG", given=f"{between:.0%} of the pixels are grey",
                         todo="save label images as PNG or TIFF")  # fmt: skip
    return grey >= 128, (*notes, "a mask saved as JPEG, cut at half")


def _png(data: bytes, limits: Limits) -> tuple[NDArray[Any], tuple[str, ...]]:
    header = png_header(data)
    limits.check(header.height, header.width, each=4 * header.samples * header.bits // 8)
    bits, kind = data[24], data[25]  # of IHDR, which png_header found to be there
    if kind == _PALETTE:
        from PIL import Image

        with Image.open(BytesIO(header.payload)) as image:
            pixels = np.asarray(image)
        return upright(
            with_channels(pixels), header.orientation, (*header.notes, "indices of the palette are the numbers")
        )
    pixels = with_channels(by_cv2(header.payload, cv2.IMREAD_UNCHANGED))
    if kind in _GREY:
        pixels = pixels[..., :1]
        if bits < 8:
            pixels = pixels // (255 // (2**bits - 1))
    elif pixels.shape[-1] >= 3:
        pixels = pixels[..., 2::-1]  # without opacity, as RGB
    pixels = pixels.astype(bool) if bits == 1 else pixels
    return upright(pixels, header.orientation, header.notes)


def _plane(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) of (H, W, C): the one channel, or a number for each colour but black."""
    if pixels.ndim != 3:
        raise ImageError("a mask is one plane", given=f"{len(pixels)} pages", todo="give a file for each image")
    if pixels.shape[-1] == 1 or (pixels[..., :1] == pixels).all():
        return pixels[..., 0]
    if pixels.dtype.kind not in "ub" or pixels.dtype.itemsize > 2:
        raise ImageError("colours of a mask are 8 or 16 bits", given=str(pixels.dtype))
    wide = pixels.astype(np.int64)
    return (wide[..., 0] << 32) | (wide[..., 1] << 16) | wide[..., 2]


def _whole(values: NDArray[Any], notes: tuple[str, ...]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Whole numbers from 0 on; those below 0 become background."""
    if values.dtype == bool or values.dtype.kind == "u":
        return values, notes
    if values.dtype.kind == "f":
        if not np.isfinite(values).all() or (values != np.rint(values)).any():
            raise ImageError("labels are whole numbers", given="fractions, NaN or infinity",
                             todo="save the label image as whole numbers, without a resize that mixes them")  # fmt: skip
        values = values.astype(np.int64)
    below = int((values < 0).sum())
    told = (f"{count(below, 'pixel')} with numbers below 0 are background",) if below else ()
    return np.maximum(values, 0), (*notes, *told)

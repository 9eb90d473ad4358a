"""What an image is, in numbers: hashes, a small likeness, sizes, brightness, borders, or why it cannot be read."""

from __future__ import annotations

import hashlib
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.crop import brightest, surroundings, text_boxes
from overread.images.read import Image, read_image
from overread.images.slides.stain import macenko, mean_density

#: Side of the likeness that near-duplicates are confirmed on.
THUMB = 32
#: The description of an image of which nothing is known.
NOTHING: dict[str, Any] = {
    "error": "", "digest": "", "pixels": "", "phash": 0, "height": 0, "width": 0, "depth": 0, "channels": 0,
    "bits": 0, "mode": "", "format": "", "mean": float("nan"), "std": float("nan"), "notes": "", "thumb": b"",
    "border": 0.0, "circle": False, "text": 0,
    "haematoxylin": 0.0, "eosin": 0.0, "microns": 0.0, "levels": 0, "glass_red": 0, "glass_green": 0, "glass_blue": 0,
}  # fmt: skip
_LOW = tuple(np.array([(i, s - i) for s in range(1, 12) for i in range(s + 1)][:64]).T)  # lowest frequencies, no mean


@checked
def describe(address: str) -> dict[str, Any]:
    """The keys of :data:`NOTHING` for one image; one that cannot be read has the reason, without its name, in
    ``error``.

    ``digest``: SHA-256 of the bytes decoded. ``pixels``: hash of what was decoded. ``phash``: perceptual hash, 64 bits.
    ``depth``: 1 for a flat image. ``mean`` and ``std``: of the full scale, 0 to 1. ``thumb``: a likeness of 32 × 32
    bytes. ``border``: the part of a flat image that is black border, 0 to 1; ``circle``: whether it is a circular
    field; ``text``: burned-in text boxes, of a volume in that of some planes which has most. ``haematoxylin`` and ``eosin``: of the
    overview of a slide, by how much each of the two stains takes more of red than of blue, of densities of length 1; ``microns``: of a pixel of its finest level; ``levels``:
    of its pyramid; ``glass_red``, ``glass_green`` and ``glass_blue``: the colour of its empty glass, of 255. All 0 of what is no slide.
    """
    try:
        image = read_image(address)
        return description(image) | (_of_file(address, image.pixels) if image.format.startswith("slide") else {})
    except ImageError as error:
        return NOTHING | {"error": error.reason or str(error)}


@checked
def description(image: Image) -> dict[str, Any]:
    """What :func:`describe` tells, of an image that has been read."""
    pixels = image.pixels
    scale = 1.0 if pixels.dtype == np.float32 else float(np.iinfo(pixels.dtype).max)
    grey = flat(pixels)
    small = cv2.resize(np.ascontiguousarray(grey), (THUMB, THUMB), interpolation=cv2.INTER_AREA).astype(np.float32)
    low, high = float(small.min()), float(small.max())  # all zero where there is nothing to see
    thumb = np.round((small - low) * (255.0 / (high - low or 1.0))).astype(np.uint8)
    spread = float(np.mean(cv2.meanStdDev(pixels.reshape(-1, 1, pixels.shape[-1]))[1]))
    return NOTHING | {
        "error": "", "digest": image.digest, "pixels": pixel_hash(pixels), "phash": perceptual_hash(small),
        "height": pixels.shape[-3], "width": pixels.shape[-2], "depth": pixels.shape[0] if pixels.ndim == 4 else 1,
        "channels": pixels.shape[-1], "bits": image.bits, "mode": image.mode, "format": image.format,
        "mean": float(grey.mean(dtype=np.float64)) / scale, "std": spread / scale, "notes": "; ".join(image.notes),
        "thumb": thumb.tobytes(), **_field(pixels), **_stains(image),
    }  # fmt: skip


def _field(pixels: NDArray[Any]) -> dict[str, Any]:
    """What surrounds and covers the picture; of volumes what some of their planes are covered with."""
    if pixels.ndim == 4:
        return {"border": 0.0, "circle": False, "text": max(len(text_boxes(plane)) for plane in _some_planes(pixels))}
    bright = brightest(pixels)[..., None]
    (inner, circle), area = surroundings(bright), pixels.shape[0] * pixels.shape[1]
    kept = area if inner is None else (inner.bottom - inner.top) * (inner.right - inner.left)
    return {"border": 1.0 - kept / area, "circle": circle is not None, "text": len(text_boxes(pixels))}


def _stains(image: Image) -> dict[str, float]:
    """By how much the two stains of a slide take more of red than of blue; where they cannot be told apart, both together."""
    if not image.format.startswith("slide") or image.mode != "colour":
        return {}
    found, mixed = macenko(image.pixels), mean_density(image.pixels)
    both = [mixed, mixed] if found.undefined else [found.haematoxylin, found.eosin]
    return {name: float(each[0] - each[2]) for name, each in zip(("haematoxylin", "eosin"), both, strict=True)}


def _of_file(address: str, pixels: NDArray[Any]) -> dict[str, Any]:
    """What scanner and file decide of a slide, and nothing on it: microns, levels, and the colour of the glass."""
    from overread.images.slides.slide import slide_at
    from overread.images.slides.tissue import glass_colour

    slide = slide_at(address)
    colours = np.broadcast_to(pixels, (*pixels.shape[:2], 3))  # a grey slide has one channel
    red, green, blue = map(round, glass_colour(colours, slide.background) or (0, 0, 0))
    return {"microns": slide.mpp, "levels": len(slide.levels), "glass_red": red, "glass_green": green, "glass_blue": blue}  # fmt: skip


def _some_planes(pixels: NDArray[Any]) -> list[NDArray[Any]]:
    """Planes (…, 1) at a quarter, the half and three quarters of each axis: writing stands in most slices of a series."""
    return [
        np.ascontiguousarray(np.take(pixels, pixels.shape[axis] * quarter // 4, axis))
        for axis in range(3)
        for quarter in (1, 2, 3)
    ]


@checked
def flat(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """One grey plane (H, W) of pixels (H, W, C) or (D, H, W, 1): luminance, or the mean over the depth."""
    if pixels.ndim == 4:
        return pixels[..., 0].mean(0, dtype=np.float32)
    if pixels.shape[-1] not in (1, 3):  # frames as channels
        return pixels.mean(-1, dtype=np.float32)
    plane = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[-1] == 3 else pixels[..., 0]
    return plane.astype(np.float32)


@checked
def pixel_hash(pixels: NDArray[Any]) -> str:
    """Hash of decoded pixels; grey stored as three equal channels counts as grey."""
    if _is_grey(pixels[::16, ::16]) and _is_grey(pixels):  # most colour images are told by a few pixels
        pixels = pixels[..., :1]
    digest = hashlib.sha256(f"{pixels.shape} {pixels.dtype} ".encode())  # processors have instructions for it
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()[:32]


def _is_grey(pixels: NDArray[Any]) -> bool:
    return pixels.shape[-1] == 3 and bool((pixels[..., :1] == pixels[..., 1:]).all())


@checked
def perceptual_hash(small: NDArray[np.float32]) -> int:
    """64 signs of the lowest cosine coefficients of a 32 × 32 likeness, without the mean.

    Zauner 2010, "Implementation and benchmarking of perceptual image hash functions", section 3.2.1, with a zigzag of
    64 coefficients in place of a block, and the sign in place of the median: brightness and contrast do not matter.
    """
    spectrum = cv2.dct(small)
    return int(np.packbits(spectrum[_LOW] > 0).view(">u8")[0])

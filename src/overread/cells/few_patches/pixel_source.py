"""Grey images of any size, read by windows: what does not fit into memory stays on disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.core.sandbox import contained_call
from overread.images.formats.tiff import require_directories
from overread.images.image import read_bytes
from overread.images.read import naming, read_image

#: Rows that are looked at at once where a whole image is walked through.
BAND = 512
#: Seconds that the sandbox may take to unpack one image that is larger than the limits of images in memory.
PATIENCE = 1800.0


@dataclass(frozen=True, eq=False)
class PixelSource:
    """A grey image (H, W) of which windows are read; ``mean`` and ``std`` are of all its pixels."""

    pixels: NDArray[Any]
    mean: float
    std: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def window(self, top: int, left: int, height: int, width: int) -> NDArray[np.float32]:
        """(height, width) in standard deviations from the mean, at most 5; beyond the image lies its mirror image."""
        rows, columns = (
            _mirrored(start, length, side)
            for start, length, side in ((top, height, self.size[0]), (left, width, self.size[1]))
        )
        block = np.asarray(self.pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])
        seen = block[np.ix_(rows - rows.min(), columns - columns.min())].astype(np.float32)
        return np.clip((seen - np.float32(self.mean)) / np.float32(self.std), -5, 5)


def _mirrored(start: int, length: int, side: int) -> NDArray[np.int64]:
    """Places start … start + length − 1 on a side, folded back at its ends."""
    places = np.arange(start, start + length)
    if side == 1:
        return np.zeros(length, np.int64)
    places = np.abs(places) % (2 * side - 2)
    return np.asarray(np.where(places < side, places, 2 * side - 2 - places), np.int64)


@checked
@contextmanager
def open_pixels(address: str) -> Iterator[PixelSource]:
    """A grey image as windows: a TIFF that is stored plainly is memory-mapped, another that is large is unpacked to a
    temporary file, everything else is decoded. Colour becomes luminance. Raises :class:`ImageError`.
    """
    with tempfile.TemporaryDirectory(prefix="overread-") as scratch, naming(address):
        pixels = _mapped(address) if os.path.splitext(address)[1].lower() in (".tif", ".tiff") else None
        if pixels is None:
            pixels = _decoded(address, Path(scratch) / "pixels.raw")
        mean, std = _moments(pixels)
        yield PixelSource(pixels, mean, std)
        del pixels


def _mapped(address: str) -> NDArray[Any] | None:
    """The one grey page of a TIFF that is stored without compression in one piece; None of another."""
    import tifffile

    head = read_bytes(address, most=1 << 16)
    if head[:2] not in (b"II", b"MM"):
        return None
    with suppress(ValueError, OSError, tifffile.TiffFileError):
        pixels = tifffile.memmap(address, mode="r", page=0)
        if pixels.ndim == 2 and pixels.dtype.kind in "uif" and _pages(address) == 1:
            return pixels  # type: ignore[no-any-return]
    return None


def _pages(address: str) -> int:
    import tifffile

    with tifffile.TiffFile(address) as file:
        return len(file.pages)


def _decoded(address: str, scratch: Path) -> NDArray[Any]:
    try:
        image = contained_call(read_image, address)
    except ImageError as error:
        if "larger than the limit" not in str(error) or os.path.splitext(address)[1].lower() not in (".tif", ".tiff"):
            raise
        height, width, kind = contained_call(unpack_tiff, address, str(scratch))
        return np.memmap(scratch, np.dtype(kind), "r", shape=(int(height), int(width)))
    if image.pixels.ndim != 3:
        raise ImageError(
            "patches are marked in flat images",
            given=f"shape {image.pixels.shape}",
            todo="save each slice as an image of its own",
        )
    if image.pixels.shape[-1] == 3:
        return np.asarray(cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY))
    return np.asarray(image.pixels.mean(-1) if image.pixels.shape[-1] > 1 else image.pixels[..., 0])


@checked
def unpack_tiff(address: str, scratch: str) -> list[Any]:
    """Height, width and type of the one grey page of a TIFF, whose pixels are written as they are to a file, strip by strip
    or tile by tile. For the sandbox. Raises :class:`ImageError`.
    """
    import tifffile

    require_directories(read_bytes(address), 4096)
    with tifffile.TiffFile(address) as file:
        page: Any = file.pages[0]
        if len(file.pages) != 1 or page.samplesperpixel != 1 or page.dtype is None or page.dtype.kind not in "uif":
            raise ImageError(
                "a large image is one grey page", given=f"{len(file.pages)} pages of {page.samplesperpixel} samples"
            )
        pixels = np.memmap(scratch, page.dtype, "w+", shape=(page.imagelength, page.imagewidth))
        for part, index, _ in page.segments(maxworkers=1):
            if part is not None:
                top, left = int(index[2]), int(index[3])
                block = part.reshape(part.shape[1:3])[: page.imagelength - top, : page.imagewidth - left]
                pixels[top : top + block.shape[0], left : left + block.shape[1]] = block
        pixels.flush()
    return [int(page.imagelength), int(page.imagewidth), page.dtype.str]


def _moments(pixels: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation, band by band."""
    total = squares = 0.0
    shift = float(pixels[: min(8, len(pixels))].mean())
    for top in range(0, len(pixels), BAND):
        band = np.asarray(pixels[top : top + BAND], np.float64) - shift
        if not np.isfinite(band).all():
            raise ImageError("the image holds NaN or infinite pixels")
        total += float(band.sum())
        squares += float((band * band).sum())
    mean = total / pixels.size
    return mean + shift, max(float(np.sqrt(max(squares / pixels.size - mean**2, 0.0))), 1e-6)

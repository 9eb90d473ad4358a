"""Read an image by its content, from a short list of allowed formats, under limits.

Every oddity has one defined conversion: EXIF rotation is applied; palettes become colour; CMYK becomes RGB by
(1 − ink)(1 − black); alpha is composited onto black; 1 to 7 bits are stretched to 8, 9 to 15 to 16; 16 bits
stay 16 bits; MINISWHITE and MONOCHROME1 are inverted last. NaN and infinity are refused. The digest is of
the bytes decoded.
"""

from __future__ import annotations

import logging
import os
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.errors import ImageError, checked, require
from overread.images import arrays, dicom, headers
from overread.record import sha256

#: What decoders raise on damaged input; anything else is a bug of ours and must show.
BROKEN = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    EOFError,
    OSError,
    RuntimeError,
    MemoryError,
    AssertionError,
    ImportError,
    SyntaxError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
    cv2.error,
)
_EXTENSIONS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".dcm": "DICOM",
}


@dataclass(frozen=True)
class Limits:
    """What is refused before decoding: more ``pixels`` (all frames), ``frames`` or ``file_bytes`` than
    these.
    """

    pixels: int = 200_000_000
    frames: int = 4096
    file_bytes: int = 2**31

    def __post_init__(self) -> None:
        require(min(self.pixels, self.frames, self.file_bytes) > 0, "limits must be positive", given=self)

    def check(self, height: int, width: int, frames: int = 1) -> None:
        """Raise :class:`ImageError` if an image of that size is beyond the limits."""
        if frames > self.frames or height * width * frames > self.pixels:
            raise ImageError(
                "the image is larger than the limit",
                given=f"{frames} x {height} x {width} pixels",
                todo=f"read it with Limits(pixels=…, frames=…), now {self.pixels:,} and {self.frames:,}",
            )


#: The limits where none are given.
LIMITS = Limits()


@dataclass(frozen=True, eq=False)
class Image:
    """Decoded pixels and where they came from.

    ``pixels``: (H, W, C) with C 1 (grey) or 3 (RGB), or (D, H, W, 1) for volumes; uint8, uint16 or float32.
    ``mode``: ``grey``, ``colour`` or ``volume``; ``bits``: 8, 16 or 32; ``format``: PNG, JPEG, TIFF, DICOM
    or array; ``digest``: SHA-256 of the bytes decoded; ``notes``: which conversions were made.
    """

    pixels: NDArray[Any]
    mode: str
    bits: int
    format: str
    digest: str
    notes: tuple[str, ...] = ()


@checked
def read_image(
    source: str | os.PathLike[str] | bytes,
    *,
    limits: Limits = LIMITS,
    at_least: tuple[int, int] | None = None,
) -> Image:
    """Read one image from a path, an address ``file.npz#array/row`` or bytes, by content.

    ``at_least`` (height, width) lets a JPEG be decoded at 1/2, 1/4 or 1/8 of its size while it stays at
    least that large on both sides: quicker, and the pixels differ from a box average by about half a grey
    level.

    Raises :class:`ImageError` for what is missing, empty, cut off, damaged, too large, not finite or not of
    an allowed format. The message names the file, never the patient.
    """
    name = "bytes" if isinstance(source, bytes) else arrays.short_name(os.fspath(source))
    try:
        if not isinstance(source, bytes) and arrays.is_address(os.fspath(source)):
            return _from_array(os.fspath(source), limits)
        data = source if isinstance(source, bytes) else read_bytes(source, limits=limits)
        return _decode(data, name, limits, at_least)
    except ImageError as error:
        raise ImageError(f"{name}: {error.what}", given=error.given, todo=error.todo) from error
    except BROKEN as error:
        raise ImageError(f"{name}: the image is damaged", given=_short(error)) from error


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:160]


@checked
def read_bytes(path: str | os.PathLike[str], *, limits: Limits = LIMITS) -> bytes:
    """The bytes of a regular file within the limits. Raises :class:`ImageError` otherwise, without opening
    devices.
    """
    try:
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            raise ImageError("this is not a regular file")
        if about.st_size > limits.file_bytes:
            raise ImageError(
                "the file is larger than the limit",
                given=f"{about.st_size:,} bytes",
                todo=f"read it with Limits(file_bytes=…), now {limits.file_bytes:,}",
            )
        with open(path, "rb", buffering=0) as handle:
            return handle.readall()
    except FileNotFoundError as error:
        raise ImageError("the file does not exist", todo="check the image column and the folder") from error
    except (OSError, ValueError) as error:
        raise ImageError("the file cannot be opened", given=_short(error)) from error


@checked
def content_digest(address: str | os.PathLike[str], *, limits: Limits = LIMITS) -> str:
    """The digest that :func:`read_image` would report, without decoding. Raises :class:`ImageError` as it
    does.
    """
    text = os.fspath(address)
    if arrays.is_address(text):
        return arrays.digest(arrays.read_row(text, limits.pixels))
    return sha256(read_bytes(text, limits=limits))


def _decode(data: bytes, name: str, limits: Limits, at_least: tuple[int, int] | None) -> Image:
    kind = headers.sniff(data)
    readers = {"PNG": _png, "JPEG": partial(_jpeg, at_least=at_least), "TIFF": _tiff, "DICOM": _dicom}
    pixels, notes = readers[kind](data, limits)  # type: ignore[operator]
    claimed = _EXTENSIONS.get(Path(name).suffix.lower())
    if claimed not in (None, kind):
        notes = (f"extension {Path(name).suffix}, content {kind}", *notes)
    return _finish(pixels, kind, sha256(data), notes)


def _finish(pixels: NDArray[Any], kind: str, digest: str, notes: tuple[str, ...]) -> Image:
    """Bring ``pixels`` to uint8, uint16 or finite float32 with a channel axis, and name the mode."""
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    elif pixels.dtype not in (np.uint8, np.uint16):
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise ImageError("the image holds NaN or infinite pixels")
    if not pixels.size:
        raise ImageError("the image has no pixels", given=f"shape {pixels.shape}")
    mode = "volume" if pixels.ndim == 4 else ("colour" if pixels.shape[-1] == 3 else "grey")
    return Image(np.ascontiguousarray(pixels), mode, pixels.dtype.itemsize * 8, kind, digest, notes)


# -- PNG and JPEG ----------------------------------------------------------------------------------------


def _png(data: bytes, limits: Limits) -> tuple[NDArray[Any], tuple[str, ...]]:
    header = headers.png(data)
    limits.check(header.height, header.width)
    pixels = _cv2(header.payload, cv2.IMREAD_UNCHANGED)
    notes = header.notes
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels, seen = _onto_black(pixels)
        notes += ("alpha composited onto black",) if seen else ()
    if pixels.ndim == 3:
        pixels = pixels[..., :1] if header.samples < 3 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return _upright(_channels(pixels), header.orientation, notes)


def _jpeg(
    data: bytes, limits: Limits, at_least: tuple[int, int] | None = None
) -> tuple[NDArray[Any], tuple[str, ...]]:
    header = headers.jpeg(data)
    limits.check(header.height, header.width)
    if header.samples == 4:
        return _upright(_cmyk_jpeg(data), header.orientation, ("CMYK converted to RGB",))
    flag = _reduced(header, at_least) | cv2.IMREAD_IGNORE_ORIENTATION
    return _upright(_channels(_cv2(data, flag)), header.orientation, ())


def _reduced(header: headers.Header, at_least: tuple[int, int] | None) -> int:
    """The cv2 flag that decodes, colour as RGB, at the smallest size that is still large enough."""
    flag = cv2.IMREAD_GRAYSCALE if header.samples == 1 else cv2.IMREAD_COLOR_RGB
    if at_least is not None:
        height, width = at_least if header.orientation < 5 else at_least[::-1]
        times = min(header.height // height, header.width // width)
        for factor, bit in ((8, 64), (4, 32), (2, 16)):  # cv2.IMREAD_REDUCED_GRAYSCALE_8, _4, _2
            if times >= factor:
                return int(flag | bit)
    return int(flag)


def _cv2(data: bytes, flag: int) -> NDArray[Any]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if pixels is None:
        raise ImageError("the image is damaged", given="the decoder gave up")
    return pixels


def _cmyk_jpeg(data: bytes) -> NDArray[Any]:
    from PIL import Image as Pillow

    with Pillow.open(BytesIO(data), formats=["JPEG"]) as image:
        return np.asarray(image.convert("RGB"))


def _channels(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _onto_black(pixels: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The colours of (…, C+1) pixels weighted by the last channel, and whether any of it was transparent."""
    full = np.iinfo(pixels.dtype).max
    colour, alpha = pixels[..., :-1], pixels[..., -1:]
    if alpha.min() == full:
        return np.ascontiguousarray(colour), False
    weighted = (colour.astype(np.uint32) * alpha + full // 2) // full
    return weighted.astype(pixels.dtype), True


def _upright(
    pixels: NDArray[Any], orientation: int, notes: tuple[str, ...]
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Apply an EXIF orientation (Exif 2.32, tag 274) to (H, W, C) pixels."""
    if orientation == 1:
        return pixels, notes
    if orientation >= 5:  # 5 … 8 are transposed
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels, (*notes, "EXIF rotation applied")


# -- TIFF ------------------------------------------------------------------------------------------------


def _tiff(data: bytes, limits: Limits) -> tuple[NDArray[Any], tuple[str, ...]]:
    import tifffile

    log = logging.getLogger("tifffile")
    if not log.handlers:  # a damaged file is told by our error, not on stderr
        log.addHandler(logging.NullHandler())
    with tifffile.TiffFile(BytesIO(data)) as file:
        pages = _pages(file, limits.frames)
        first: Any = pages[0]
        limits.check(first.imagelength, first.imagewidth, len(pages))
        if len(pages) == 1:
            return _page(first, len(data))
        if all(
            (p.imagelength, p.imagewidth, p.samplesperpixel) == (first.imagelength, first.imagewidth, 1)
            for p in pages
        ):
            planes = [_page(page, len(data))[0] for page in pages]
            return np.stack(planes), (f"{len(pages)} pages as a volume",)
        pixels, notes = _page(first, len(data))
        return pixels, (*notes, f"first of {len(pages)} unlike pages")


def _pages(file: Any, most: int) -> list[Any]:
    """The pages; more than ``most``, or a chain that comes back to its first directory, is refused."""
    pages: list[Any] = []
    for page in file.pages:
        if len(pages) == most or (pages and page.offset == pages[0].offset):
            raise ImageError(
                "the TIFF has too many pages, or a cycle of them", given=f"more than {len(pages)}"
            )
        pages.append(page)
    return pages


def _page(page: Any, size: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """One page as (H, W, C), C 1 or 3."""
    ends = [at + count for at, count in zip(page.dataoffsets, page.databytecounts)]
    if not ends or max(ends) > size or min(page.databytecounts) == 0:
        raise ImageError("the TIFF is cut off", given=f"{size:,} bytes, {max(ends, default=0):,} declared")
    if page.imagedepth != 1 or page.photometric.name not in _PHOTOMETRIC:
        raise ImageError(
            "this kind of TIFF is not read",
            given=f"{page.photometric.name}, depth {page.imagedepth}",
            todo="convert it to grey or RGB",
        )
    pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    pixels = _scaled(_channels(pixels), int(page.bitspersample), page.photometric.name)
    colours = _PHOTOMETRIC[page.photometric.name]
    notes: tuple[str, ...] = ()
    if pixels.shape[-1] == colours + 1 and pixels.dtype in (np.uint8, np.uint16):
        pixels, seen = (
            _onto_black(pixels)
            if tuple(page.extrasamples) in ((1,), (2,))
            else (pixels[..., :colours], False)
        )
        notes = ("alpha composited onto black",) if seen else ()
    elif pixels.shape[-1] != colours:
        raise ImageError("the TIFF has an odd number of channels", given=pixels.shape[-1])
    pixels, more = _photometric(pixels, page)
    tag = page.tags.get(274)
    return _upright(
        pixels, int(tag.value) if tag is not None and tag.value in range(1, 9) else 1, notes + more
    )


_PHOTOMETRIC = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3}


def _scaled(pixels: NDArray[Any], bits: int, photometric: str) -> NDArray[Any]:
    """Samples of an odd number of bits stretched to 8 or 16; palettes keep their index."""
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.uint16) or bits in (8, 16) or photometric == "PALETTE":
        return pixels
    wide = np.uint8 if bits < 8 else np.uint16
    return (pixels.astype(np.uint32) * np.iinfo(wide).max // (2**bits - 1)).astype(wide)


def _photometric(pixels: NDArray[Any], page: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    name = page.photometric.name
    if name == "MINISWHITE":
        inverted = np.iinfo(pixels.dtype).max - pixels if pixels.dtype.kind == "u" else -pixels
        return inverted, ("MINISWHITE inverted",)
    if name == "PALETTE":
        table = (page.colormap >> 8).astype(np.uint8).T  # 16-bit entries, (2**bits, 3)
        return table[np.minimum(pixels[..., 0], len(table) - 1)], ("palette converted to RGB",)
    if name == "SEPARATED":
        full = int(np.iinfo(pixels.dtype).max)
        ink, black = full - pixels[..., :3].astype(np.uint32), full - pixels[..., 3:].astype(np.uint32)
        return ((ink * black + full // 2) // full).astype(pixels.dtype), ("CMYK converted to RGB",)
    if name == "YCBCR" and page.compression.name not in ("JPEG", "OJPEG"):
        raise ImageError(
            "this kind of TIFF is not read", given="YCbCr without JPEG compression", todo="convert it to RGB"
        )
    return pixels, ()


# -- DICOM and arrays ------------------------------------------------------------------------------------


def _dicom(data: bytes, limits: Limits) -> tuple[NDArray[Any], tuple[str, ...]]:
    return dicom.decode(data, limits.check)


def _from_array(address: str, limits: Limits) -> Image:
    row = arrays.read_row(address, limits.pixels)
    digest = arrays.digest(row)
    if row.ndim == 2 or (row.ndim == 3 and row.shape[-1] not in (1, 3)):
        row = row[..., None]
    if row.ndim not in (3, 4) or row.shape[-1] not in (1, 3) or (row.ndim == 4 and row.shape[-1] != 1):
        raise ImageError("a row of the array is not an image", given=f"shape {row.shape}")
    return _finish(row, "array", digest, ())

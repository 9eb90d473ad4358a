"""TIFF: photographs, scanned films, stacks. TIFF 6.0 with its technical notes, BigTIFF; decoded by tifffile.

Pages of one size in grey are a volume; of other pages the first is the image, unless one is asked for. Reduced
copies (thumbnails, pyramids) and masks are passed over. Before anything is decoded, the size of image, strips and
tiles is held against the limits, and each strip or tile must lie within the file.
"""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.conversions import Pixels, ink_to_rgb, onto_black, stretched, upright, with_channels
from overread.images.formats import jpeg2000
from overread.images.formats.jpeg import jpeg_header

#: Samples of a pixel, by the kind of colour (PhotometricInterpretation).
_SAMPLES = {"MINISWHITE": 1, "MINISBLACK": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3}
_JPEG, _JPEG_2000 = (7,), (33003, 33004, 33005, 34712)
#: Compressions that are read: none, CCITT, LZW, deflate, PackBits, LZMA, Zstandard, JPEG, JPEG 2000.
_COMPRESSIONS = (1, 2, 3, 4, 5, 8, 32946, 32773, 34925, 50000, *_JPEG, *_JPEG_2000)
#: Weights of red, green and blue in the luminance: section 21 defaults to CCIR 601.
_LUMA = (0.299, 0.587, 0.114)
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_PREMULTIPLIED, _OPACITY = 1, 2  # values of ExtraSamples


@checked
def decode_tiff(data: bytes, check: Callable[..., None], *, most: int = 4096, frame: int | None = None) -> Pixels:
    """Pixels (H, W, C), or (D, H, W, 1) of a stack of at most ``most`` pages, and notes; or the page ``frame``.

    ``check(height, width, pages)`` is asked before decoding. Raises :class:`ImageError`.
    """
    import tifffile

    quiet_tifffile()
    require_directories(data, most)
    with tifffile.TiffFile(BytesIO(data), is_ndpi=False, is_lsm=False, is_scanimage=False) as file:
        every: list[Any] = list(file.pages)
        pages = [page for page in every if not int(page.subfiletype) & (_REDUCED | _MASK)] or every[:1]
        if frame is not None:
            return _one(pages, frame, data, check)
        kinds = {(p.imagelength, p.imagewidth, p.dtype, p.samplesperpixel, p.photometric) for p in pages}
        if len(pages) > 1 and len(kinds) == 1 and pages[0].photometric.name in ("MINISBLACK", "MINISWHITE"):
            return _stack(pages, data, check)
        pixels, notes = _one(pages, 0, data, check)
        many = (f"first of {len(pages)} {'unlike ' * (len(kinds) > 1)}pages",) if len(pages) > 1 else ()
        return pixels, notes + many


@checked
def stack_pages(
    data: bytes, check: Callable[..., None], *, most: int = 4096, decode: bool = True
) -> Iterator[NDArray[Any]]:
    """The pages (H, W, C) of a TIFF one by one, at most ``most`` of them; without ``decode`` only nothing for each.

    ``check(height, width)`` is asked of each page before it is decoded. Raises :class:`ImageError`.
    """
    import tifffile

    require_directories(data, most)
    with tifffile.TiffFile(BytesIO(data), is_ndpi=False, is_lsm=False, is_scanimage=False) as file:
        for page in file.pages:
            held: Any = page
            if int(held.subfiletype) & (_REDUCED | _MASK):
                continue
            if not decode:
                yield np.empty(0)
                continue
            check(held.imagelength, held.imagewidth, each=_work(held))
            yield _page(held, data, check)[0]


@checked
def decode_numbers(data: bytes, check: Callable[..., None]) -> Pixels:
    """The samples (H, W, C) of the one page of a TIFF as they are stored, for label images, and notes.

    ``check(height, width)`` is asked before decoding. Raises :class:`ImageError` for several pages of one size.
    """
    import tifffile

    require_directories(data, 4096)
    with tifffile.TiffFile(BytesIO(data), is_ndpi=False, is_lsm=False, is_scanimage=False) as file:
        every: list[Any] = list(file.pages)
        pages = [page for page in every if not int(page.subfiletype) & (_REDUCED | _MASK)] or every
        page = pages[0]
        if len({(p.imagelength, p.imagewidth) for p in pages}) < len(pages):
            raise ImageError("a label image is one page", given=f"{len(pages)} pages", todo="save each page as a file")
        colours = _require_known(page)
        check(page.imagelength, page.imagewidth, each=_work(page))
        _require_whole(page, data, check)
        pixels = page.asarray()
        pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else with_channels(pixels)
        pixels = pixels.astype(bool) if int(page.bitspersample) == 1 else pixels[..., :colours]
        tag = page.tags.get(274)
        return upright(pixels, int(tag.value) if tag is not None and tag.value in range(1, 9) else 1, ())


def _one(pages: list[Any], frame: int, data: bytes, check: Callable[..., None]) -> Pixels:
    if frame >= len(pages):
        raise ImageError(f"there is no frame {frame}", given=f"{len(pages)} pages, counted from 0")
    check(pages[frame].imagelength, pages[frame].imagewidth, each=_work(pages[frame]))
    return _page(pages[frame], data, check)


def _stack(pages: list[Any], data: bytes, check: Callable[..., None]) -> Pixels:
    check(pages[0].imagelength, pages[0].imagewidth, len(pages), each=_work(pages[0]))
    planes = [_page(page, data, check)[0] for page in pages]
    if planes[0].shape[-1] != 1:
        raise ImageError("a stack of pages with several samples is not read", given=f"{len(planes)} pages")
    return np.stack(planes), (f"{len(pages)} pages as a volume",)


def _page(page: Any, data: bytes, check: Callable[..., None]) -> Pixels:
    """One page as (H, W, C), C 1 or 3."""
    colours = _require_known(page)
    _require_whole(page, data, check)
    pixels = page.asarray()
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else with_channels(pixels)
    if page.photometric.name != "PALETTE" and pixels.dtype in (np.bool_, np.uint8, np.uint16):
        pixels = stretched(pixels, int(page.bitspersample))
    pixels, notes = _without_alpha(pixels, colours, tuple(page.extrasamples))
    pixels, more = _colour(pixels, page)
    tag = page.tags.get(274)
    return upright(pixels, int(tag.value) if tag is not None and tag.value in range(1, 9) else 1, notes + more)


def _work(page: Any) -> int:
    """Bytes that a pixel takes as it is stored, and once more for what is made of it."""
    return 2 * int(page.samplesperpixel) * (8 if page.dtype is None else page.dtype.itemsize)


def _require_known(page: Any) -> int:
    """Raise unless the page is of a kind that is read; the samples of its kind of colour."""
    photometric = getattr(page.photometric, "name", str(page.photometric))
    extra = page.samplesperpixel - _SAMPLES.get(photometric, 0)
    if photometric not in _SAMPLES or page.imagedepth != 1 or int(page.compression) not in _COMPRESSIONS:
        given = f"{photometric}, depth {page.imagedepth}, compression {getattr(page.compression, 'name', '?')}"
        raise ImageError("this kind of TIFF is not read", given=given, todo="convert it to grey or RGB")
    if not 0 <= extra <= 1 or page.dtype is None or not isinstance(page.bitspersample, int):
        raise ImageError("this kind of TIFF is not read", given=f"{photometric} in {page.samplesperpixel} samples")
    return _SAMPLES[photometric]


def _require_whole(page: Any, data: bytes, check: Callable[..., None]) -> None:
    """Raise unless every strip or tile is there, within the file, and no larger than the limits."""
    height, width = (page.tilelength, page.tilewidth) if page.is_tiled else (page.imagelength, page.imagewidth)
    check(height, width, each=_work(page))
    ends = [at + count for at, count in zip(page.dataoffsets, page.databytecounts)]
    wanted = prod(page.chunked)
    if min(len(page.dataoffsets), len(page.databytecounts)) < wanted:
        raise ImageError("the TIFF is damaged", given=f"{len(ends):,} strips or tiles, {wanted:,} expected")
    if max(ends) > len(data) or min(page.databytecounts) <= 0 or min(page.dataoffsets) <= 0:
        raise ImageError("the TIFF is cut off", given=f"{len(data):,} bytes, {max(ends):,} declared")
    if int(page.compression) in _JPEG + _JPEG_2000:
        for at, end in zip(page.dataoffsets, ends):
            _require_segment(data[at:end], int(page.compression) in _JPEG, height, width)


def _require_segment(segment: bytes, is_jpeg: bool, height: int, width: int) -> None:
    """A strip or tile that is an image of its own must be whole, and no larger than its place."""
    head: Any = jpeg_header(segment) if is_jpeg else jpeg2000.sound(segment)
    if head.height > height or head.width > width:
        raise ImageError("the TIFF is damaged", given=f"{head.width} x {head.height} in a place of {width} x {height}")


def _without_alpha(pixels: NDArray[Any], colours: int, extra: tuple[Any, ...]) -> Pixels:
    """The colours, onto black where the last sample is their opacity; premultiplied ones are that already."""
    if pixels.shape[-1] == colours:
        return pixels, ()
    if extra == (_OPACITY,) and pixels.dtype.itemsize <= 2 and np.issubdtype(pixels.dtype, np.unsignedinteger):
        pixels, seen = onto_black(pixels)
        return pixels, ("alpha composited onto black",) if seen else ()
    note = "alpha composited onto black" if extra == (_PREMULTIPLIED,) else "last channel left out"
    return pixels[..., :colours], (note,)


def _colour(pixels: NDArray[Any], page: Any) -> Pixels:
    name = page.photometric.name
    if name == "MINISWHITE":
        inverted = np.iinfo(pixels.dtype).max - pixels if np.issubdtype(pixels.dtype, np.unsignedinteger) else -pixels
        return inverted, ("MINISWHITE inverted",)
    if name == "PALETTE":
        shift = 8 if page.colormap.max() > 255 else 0  # 16-bit entries; some programs write 8
        table = (page.colormap >> shift).astype(np.uint8).T  # (2**bits, 3)
        return table[np.minimum(pixels[..., 0], len(table) - 1)], ("palette converted to RGB",)
    if name == "SEPARATED":
        return ink_to_rgb(pixels), ("CMYK converted to RGB",)
    if name == "YCBCR" and int(page.compression) not in _JPEG:
        return _ycbcr(pixels, page), ("YCbCr converted to RGB",)
    return pixels, ()


def _ycbcr(pixels: NDArray[Any], page: Any) -> NDArray[np.uint8]:
    """Luminance and colour differences of full range as RGB (TIFF 6.0, section 21)."""
    tag, reference = page.tags.get(529), page.tags.get(532)
    full = reference is None or tuple(reference.value)[::2] == (0, 255, 128, 255, 128, 255)
    if pixels.dtype != np.uint8 or not full:
        raise ImageError("this kind of TIFF is not read", given="YCbCr of a range other than 0 … 255")
    values = [float(n) / d for n, d in zip(tag.value[::2], tag.value[1::2])] if tag is not None else []
    to_red, to_green, to_blue = values[:3] or _LUMA
    y, cb, cr = np.moveaxis(pixels.astype(np.float32), -1, 0) - np.array([0, 128, 128], np.float32)[:, None, None]
    red, blue = y + cr * (2 - 2 * to_red), y + cb * (2 - 2 * to_blue)
    green = (y - to_red * red - to_blue * blue) / to_green
    return np.clip(np.rint(np.stack([red, green, blue], -1)), 0, 255).astype(np.uint8)


# -- the chain of directories of a TIFF, walked before any library reads a tag. TIFF 6.0, section 2; BigTIFF ------


#: Numbers that one tag may hold: so many strips or tiles are more than any image within the limits has.
NUMBERS = 1_000_000
#: Entries that one directory may have.
ENTRIES = 4096
#: Types that are text or bytes: any count of them is no more than the file is long.
_BYTES = (1, 2, 6, 7)


@checked
def quiet_tifffile() -> None:
    """Keep tifffile from writing to stderr: a damaged file is told by our error."""
    log = logging.getLogger("tifffile")
    if not log.handlers:
        log.addHandler(logging.NullHandler())


@checked
def require_directories(data: bytes | mmap.mmap, most: int) -> None:
    """Raise :class:`ImageError` if a TIFF has no directory or more than ``most``, if their chain comes back to any of
    them, or if one is cut off or absurd.
    """
    from tifffile import TIFF

    forms = {b"II*\0": TIFF.CLASSIC_LE, b"MM\0*": TIFF.CLASSIC_BE, b"II+\0": TIFF.BIG_LE, b"MM\0+": TIFF.BIG_BE}
    form = forms[data[:4]]
    if form.offsetsize == 8 and (len(data) < 16 or struct.unpack_from(f"{form.byteorder}HH", data, 4) != (8, 0)):
        raise ImageError("the TIFF header is not valid")
    found: set[int] = set()
    at = _number(data, form.offsetformat, form.offsetsize)
    while at:
        if len(found) >= most or at in found:
            raise ImageError("the TIFF has too many pages, or a cycle of them", given=f"more than {len(found)}")
        found.add(at)
        at = _after(data, form, at)
    if not found:
        raise ImageError("the TIFF holds no image")


def _after(data: bytes | mmap.mmap, form: Any, at: int) -> int:
    """Where the directory after the one at ``at`` is; 0 after the last."""
    entries = _number(data, form.tagnoformat, at)
    start = at + form.tagnosize
    end = start + form.tagsize * entries
    if not 1 <= entries <= ENTRIES:
        raise ImageError("the TIFF has a directory that is not valid", given=f"{entries:,} entries")
    for entry in range(start, end, form.tagsize):
        kind = _number(data, f"{form.byteorder}H", entry + 2)
        values = _number(data, form.offsetformat, entry + 4)
        if values > NUMBERS and kind not in _BYTES:
            raise ImageError("the TIFF declares more strips, tiles or values than is allowed", given=f"{values:,}")
    return _number(data, form.offsetformat, end)


def _number(data: bytes | mmap.mmap, code: str, at: int) -> int:
    if at + struct.calcsize(code) > len(data):
        raise ImageError("the TIFF is cut off", given=f"{len(data):,} bytes, a directory at {at:,}")
    return int(struct.unpack_from(code, data, at)[0])

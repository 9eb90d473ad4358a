"""A slide: what it is, and any part of it at any size of pixels, in microns from the upper left corner of level 0.

How a region is read, so that its pixels depend on nothing but the file and the region:

1. The level is the coarsest whose pixels are no larger than those asked for; a hundredth more is allowed.
2. Pixels within a hundredth of the size asked for are taken as they are: each is that of the level whose corner is nearest to
   its own. Where the sizes differ one is left out or stands twice here and there, so that nothing drifts over a wide region.
3. Other pixels are made from blocks of the level whose edges are rounded to its whole pixels (half up), by the mean of the area that each covers, or by linear
   interpolation where the slide is coarser than asked.
4. What lies beyond the slide, and what was never scanned, has the background colour of the slide.

Label and photograph of the glass are never read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked, require
from overread.images.address import Address, parse
from overread.images.image import Limits, broken_as, file_key, printable, read_bytes
from overread.images.slides.files.handles import INDEX_ENDINGS, SLIDE_ENDINGS, OpenedSlide, borrowed, dropped
from overread.images.slides.files.tiled_tiff import MAGIC, NO_PYRAMID, READ_HERE, TiledTiff, tiff_slide_kind
from overread.images.slides.files.vendor_slide import VendorSlide, has_openslide, vendor_of

__all__ = ["OVERVIEW_MPP", "Level", "Slide", "is_slide", "open_slide", "read_region", "read_tile", "slide_digest"]

#: Microns of a pixel of the overview, which stands for the slide wherever one image of it is asked for.
OVERVIEW_MPP = 32.0
#: Microns of a pixel of level 0 that a slide may have; 72 dots per inch would be 352.
_PLAUSIBLE = (0.02, 20.0)
#: Within this share two sizes of pixels are one, of a region and of a level.
_ALIKE = 0.01
#: A drift over a region, in pixels, that is none: sizes of pixels are stored rounded.
_NO_DRIFT = 0.01
#: Within this share what a person says of the pixels agrees with the file, and their width with their height.
_AGREES = 0.02
#: Side of the blocks in which a level is read to be made smaller, in its pixels.
_BLOCK = 2048
#: Pixels that one region may have.
_LARGEST = 2**28
#: The class of whole slides in DICOM (PS3.4, B.5).
_DICOM_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
#: Endings that the file of a slide may have.
_ENDINGS = (*SLIDE_ENDINGS, ".czi", ".dcm", ".tif", ".tiff")
#: Seconds that reading a slide through may take at least, and bytes of a file that the slowest machine reads in one: some 2 million pixels in JPEG.
_AT_LEAST, _READ_A_SECOND = 3600.0, 200_000
#: Of the digest: so many blocks of so many bytes, spread evenly.
_SAMPLES, _SAMPLE = 64, 2**16


@dataclass(frozen=True)
class Level:
    """One level of the pyramid: its size in pixels, and how many pixels of level 0 one of its pixels spans."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class Slide:
    """A whole slide.

    ``format``: ``aperio``, ``hamamatsu``, ``generic-tiff``, ``ome-tiff``, ``dicom``, … ``width`` and ``height``: pixels of
    level 0; ``mpp``: microns of one, above 0; ``objective``: the magnification that the file names, 0 if it names none; ``background``:
    RGB of what was never scanned; ``notes``: what is odd about the file.
    """

    path: str
    format: str
    width: int
    height: int
    mpp: float
    levels: tuple[Level, ...]
    background: tuple[int, int, int] = (255, 255, 255)
    objective: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in microns."""
        return self.width * self.mpp, self.height * self.mpp


@checked
def open_slide(path: str | os.PathLike[str], *, mpp: float = 0.0) -> Slide:
    """The slide in a file. ``mpp``: microns of a pixel of level 0 where the file does not say (0: as the file says).

    Raises :class:`ImageError` that names the file: missing, damaged, of a format that is not read, without microns, with
    pixels that are not square, or with others than ``mpp``; :class:`UnavailableError` where OpenSlide is needed and missing.
    """
    with _named(path):
        return slide_of(os.fspath(path), mpp)


@checked
def slide_at(address: str) -> Slide:
    """The slide of an address ``file#slide&mpp=…``. Raises :class:`ImageError` as :func:`open_slide` does."""
    held = parse(address)
    return open_slide(held.path, mpp=held.mpp)


@checked
def is_slide(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a whole slide, by its content: of a format of scanners, or a TIFF in tiles with a pyramid.

    Quick: only headers are read. False for what is not there or cannot be read.
    """
    path = os.fspath(path)
    try:
        head = read_bytes(path, most=4096)
    except ImageError:
        return False
    if head[:4] in MAGIC:
        return tiff_slide_kind(path) != ""
    if head[128:132] == b"DICM":
        return _DICOM_SLIDE in head
    return (has_openslide() and vendor_of(path) != "") or head.startswith(b"ZISRAWFILE")


@checked
def read_region(slide: Slide, x: float, y: float, width: int, height: int, mpp: float) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of a part of the slide: from its upper left corner at ``x``, ``y`` (µm), in pixels of ``mpp`` (µm).

    Beyond the slide is its background. Raises :class:`ImageError` that names file and place where it cannot be read.
    """
    with _named(slide.path):
        return region_of(slide, x, y, width, height, mpp)


@checked
def read_tile(slide: Slide, x: float, y: float, size: int, mpp: float) -> NDArray[np.uint8]:
    """(size, size, 3) RGB around ``x``, ``y`` (µm), in pixels of ``mpp`` (µm); otherwise as :func:`read_region`."""
    half = size * mpp / 2
    return read_region(slide, x - half, y - half, size, size, mpp)


@checked
def slide_digest(path: str | os.PathLike[str]) -> str:
    """A quick digest of a slide: SHA-256 of its size and of 64 blocks of 64 KiB that are spread evenly over it.

    Of a slide of several files (DICOM, .mrxs, .vms, .vmu) it is that of the slide and not of the file: of its identifier, or what
    OpenSlide hashes of them. Raises :class:`ImageError`.
    """
    with _named(path):
        return digest_of(os.fspath(path))


@checked
def slide_seconds(paths: Iterable[str]) -> float:
    """Seconds that reading any one of these slides through may take: an hour, and more for one of many bytes, so that it does not
    depend on the machine which slides can be read. ``paths``: files or addresses."""
    largest = 0
    for path in paths:
        with suppress(OSError, ImageError):
            largest = max(largest, os.path.getsize(parse(path).path))
    return max(_AT_LEAST, largest / _READ_A_SECOND)


# -- the same without the name of the file in errors: read_image gives them that of the address --------------------


def slide_of(path: str, mpp: float) -> Slide:
    """As :func:`open_slide`, with errors that do not name the file."""
    require(math.isfinite(mpp) and mpp >= 0, "mpp must be a number of microns, or 0 for what the file says", given=mpp)
    key = (file_key(path, "slide"), mpp)
    found = _KNOWN.get(key)
    if found is None:
        read_bytes(path, most=16)  # refuses what is no file
        slide, said = _described(path)
        found = replace(slide, mpp=_agreed(said, mpp))
        _kept(_KNOWN, key, found)
    return found


#: Slides by file and what was told of their microns.
_KNOWN: dict[Any, Slide] = {}


def _kept(known: dict[Any, Any], key: Hashable, value: Any) -> None:
    """Keep what is known of a file; of very many files it is found out again."""
    if len(known) >= 4096:
        known.clear()
    known[key] = value


def _described(path: str) -> tuple[Slide, tuple[float, float]]:
    header = _opened(path).header
    width, height = header.sizes[0]
    if width < 1 or height < 1:
        raise ImageError("the slide has no pixels", given=f"{width} x {height}")
    levels = tuple(Level(w, h, _downsample((width, height), (w, h))) for w, h in header.sizes)
    notes = header.notes
    if len(levels) == 1 and NO_PYRAMID not in notes:
        notes += (NO_PYRAMID,)
    notes += tuple(_extension(path, header.format))
    about = Slide(path, header.format, width, height, 1.0, levels, header.background, header.objective, notes)
    return about, header.mpp


def _extension(path: str, kind: str) -> Iterator[str]:
    ending = Path(path).suffix.lower()
    if ending not in _ENDINGS:
        yield f"extension {ending or 'none'}, content {kind}"


def _agreed(said: tuple[float, float], given: float) -> float:
    """The microns of a pixel that file and person agree on."""
    across, down = (value if _PLAUSIBLE[0] <= value <= _PLAUSIBLE[1] else 0.0 for value in said)
    if not (across and down):
        if given:
            _require_plausible(given)
            return given
        odd = max(said)
        told = f"{odd:.4g} µm, as if it were not a slide" if odd else "nothing"
        raise ImageError("the slide does not say how large its pixels are", given=told,
                         todo="say the microns of a pixel of the finest level: --mpp 0.25")  # fmt: skip
    if abs(across - down) > _AGREES * max(across, down):
        raise ImageError("the pixels of the slide are not square", given=f"{across:.4g} x {down:.4g} µm")
    mean = (across + down) / 2
    if given and abs(given - mean) > _AGREES * mean:
        raise ImageError("the slide says another size of its pixels", given=f"{mean:.4g} µm in the file, {given:.4g} µm told",
                         todo="leave out --mpp, or mend the file")  # fmt: skip
    return mean


def _require_plausible(given: float) -> None:
    low, high = _PLAUSIBLE
    if not low <= given <= high:
        raise ImageError(
            "no slide has pixels of that size", given=f"{given:g} µm", todo=f"say {low} to {high:g} microns: --mpp 0.25"
        )


def _downsample(whole: tuple[int, int], level: tuple[int, int]) -> float:
    """How many pixels of level 0 one of a level spans: a whole number wherever the sizes are what rounding makes of it."""
    mean = (whole[0] / level[0] + whole[1] / level[1]) / 2
    for number in (round(mean), math.floor(mean), math.ceil(mean)):
        if number >= 1 and all(
            math.floor(all_ / number) <= part <= math.ceil(all_ / number) for all_, part in zip(whole, level)
        ):
            return float(number)
    return mean


def _opened(path: str) -> OpenedSlide:
    """This thread's handle of a slide. Raises :class:`ImageError` for what is no slide."""
    key = file_key(path, "slide")
    opener = _OPENERS.get(key)
    if opener is None:
        opener = _opener(path, key)
        _kept(_OPENERS, key, opener)
    with broken_as("the slide cannot be opened"):
        return borrowed(key, path, opener)


#: By which of the two each file is opened.
_OPENERS: dict[Any, Callable[[str], OpenedSlide]] = {}


def _opener(path: str, key: Hashable) -> Callable[[str], OpenedSlide]:
    """By which of the two a file is opened: other formats by OpenSlide, plain TIFF in tiles by tifffile whether OpenSlide is there or not.

    Aperio's tiles are plain, unless they are in JPEG 2000 or some are missing, which OpenSlide knows to fill.
    """
    if read_bytes(path, most=4) not in MAGIC:
        if not vendor_of(path):
            raise ImageError("this is not a slide that is read", todo="convert it to a pyramidal TIFF in tiles")
        return VendorSlide
    kind = _tiff_kind(path)
    if kind not in READ_HERE:
        return VendorSlide
    if kind == "aperio":
        try:
            with broken_as("the slide cannot be opened"):
                plain = borrowed(key, path, TiledTiff)
        except ImageError as error:
            if has_openslide() or "compression" in error.what:
                return VendorSlide
            raise
        if getattr(plain, "has_holes", False):
            dropped(plain)
            return VendorSlide
    return TiledTiff


def _tiff_kind(path: str) -> str:
    vendor = vendor_of(path) if has_openslide() else ""
    if vendor in ("", "generic-tiff"):
        return tiff_slide_kind(path) or "generic-tiff"
    return vendor


def read_address(address: Address, limits: Limits) -> tuple[NDArray[np.uint8], tuple[str, ...], str, str]:
    """Pixels (H, W, 3), notes, digest and format of the overview of a slide or a tile of it, as an address names them.

    Raises :class:`ImageError` that does not name the file.
    """
    slide = slide_of(address.path, address.mpp)
    if address.tile is not None:
        x, y, size, mpp = address.tile
        limits.check(size, size, each=6)
        half = size * mpp / 2
        pixels = region_of(slide, x - half, y - half, size, size, mpp)
    else:
        width, height = (max(1, math.ceil(side / OVERVIEW_MPP)) for side in slide.size)
        limits.check(height, width, each=6)
        pixels = region_of(slide, 0.0, 0.0, width, height, OVERVIEW_MPP)
    return pixels, slide.notes, address_digest(address), f"slide ({slide.format})"


def address_digest(address: Address) -> str:
    """The digest that :func:`read_address` reports: two places of one slide are two images."""
    part = str(address)[len(address.path) :]
    return sha256(f"{digest_of(address.path)}{part}".encode()).hexdigest()


def digest_of(path: str) -> str:
    """As :func:`slide_digest`, with errors that do not name the file."""
    key = file_key(path, "slide")
    digest = _DIGESTS.get(key)
    if digest is None:
        digest = _digested(path)
        _kept(_DIGESTS, key, digest)
    return digest


_DIGESTS: dict[Any, str] = {}


def _digested(path: str) -> str:
    head = read_bytes(path, most=4096)
    if (head[128:132] == b"DICM" and _DICOM_SLIDE in head) or path.lower().endswith(INDEX_ENDINGS):
        identity = getattr(_opened(path), "identity", "")
        if identity:
            return sha256(identity.encode()).hexdigest()
    size = os.stat(path).st_size
    digest = sha256(f"{size} ".encode())
    with open(path, "rb", buffering=0) as file:
        for at in sorted(
            {(size - _SAMPLE) * number // (_SAMPLES - 1) for number in range(_SAMPLES)} if size > _SAMPLE else {0}
        ):
            file.seek(max(at, 0))
            digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


def region_of(slide: Slide, x: float, y: float, width: int, height: int, mpp: float) -> NDArray[np.uint8]:
    """As :func:`read_region`, with errors that name the place and not the file."""
    require(width > 0 and height > 0, "a region has pixels", given=f"{width} x {height}")
    require(width * height <= _LARGEST, "a region has at most 268 million pixels", given=f"{width} x {height}")
    require(
        math.isfinite(x) and math.isfinite(y) and max(abs(x), abs(y)) < 1e9, "x and y are microns", given=f"{x}, {y}"
    )
    require(math.isfinite(mpp) and mpp > 0, "mpp must be above 0", given=mpp)
    number = _level_for(slide, mpp)
    each = slide.mpp * slide.levels[number].downsample
    ratio = mpp / each
    require(ratio <= _BLOCK, "the pixels asked for are too large for the slide", given=f"{mpp:g} µm")
    if abs(ratio - 1) <= _ALIKE:
        return _nearest(slide, number, (x / each, y / each), width, height, ratio)
    pixels = np.empty((height, width, 3), np.uint8)
    step = max(1, int(_BLOCK / max(ratio, 1)))
    columns = [(at, min(at + step, width)) for at in range(0, width, step)]
    for top in range(0, height, step):
        bottom = min(top + step, height)
        y0, y1 = _span(y / each, ratio, top, bottom)
        for left, right in columns:
            x0, x1 = _span(x / each, ratio, left, right)
            part = _part(slide, number, x0, y0, x1 - x0, y1 - y0)
            pixels[top:bottom, left:right] = _resized(part, right - left, bottom - top, ratio)
    return pixels


def _nearest(
    slide: Slide, number: int, corner: tuple[float, float], width: int, height: int, ratio: float
) -> NDArray[np.uint8]:
    """Pixels of a level as they are, from ``corner`` (x, y) in its pixels, the far ones where a ``ratio`` of almost 1 puts them."""
    left, top = map(_whole, corner)
    if abs(ratio - 1) * max(width, height) < _NO_DRIFT:
        return _part(slide, number, left, top, width, height)
    columns, rows = (
        np.floor(start + ratio * np.arange(many) + 0.5).astype(np.int64) for start, many in zip(corner, (width, height))
    )
    part = _part(slide, number, left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1)
    return np.ascontiguousarray(part[rows - top][:, columns - left])


def _level_for(slide: Slide, mpp: float) -> int:
    """The coarsest level whose pixels are no larger than those asked for, the finest where all are."""
    fits = [number for number, level in enumerate(slide.levels) if slide.mpp * level.downsample <= mpp * (1 + _ALIKE)]
    return max(fits, key=lambda number: slide.levels[number].downsample, default=0)


def _whole(value: float) -> int:
    """The nearest whole number, a half upwards."""
    return math.floor(value + 0.5)


def _span(start: float, ratio: float, first: int, last: int) -> tuple[int, int]:
    """The whole pixels of a level that pixels ``first`` to ``last`` of the region cover; at least one."""
    begin = _whole(start + first * ratio)
    return begin, max(_whole(start + last * ratio), begin + 1)


def _resized(part: NDArray[np.uint8], width: int, height: int, ratio: float) -> NDArray[np.uint8]:
    how = cv2.INTER_AREA if ratio > 1 else cv2.INTER_LINEAR
    return cv2.resize(part, (width, height), interpolation=how).astype(np.uint8, copy=False)


def _part(slide: Slide, number: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    """(height, width, 3) pixels of a level, with the background beyond it."""
    level = slide.levels[number]
    x0, x1 = max(left, 0), min(left + width, level.width)
    y0, y1 = max(top, 0), min(top + height, level.height)
    if (x0, y0, x1, y1) == (left, top, left + width, top + height):
        return _pixels(slide, number, left, top, width, height)
    part = np.empty((height, width, 3), np.uint8)
    part[:] = slide.background
    if x0 < x1 and y0 < y1:
        part[y0 - top : y1 - top, x0 - left : x1 - left] = _pixels(slide, number, x0, y0, x1 - x0, y1 - y0)
    return part


def _pixels(slide: Slide, number: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
    handle = _opened(slide.path)
    try:
        with broken_as("it is damaged"):
            return handle.read(number, left, top, width, height)
    except ImageError as error:
        dropped(handle)
        scale = slide.mpp * slide.levels[number].downsample
        place = f"{width} x {height} pixels at x {left * scale:.0f} µm, y {top * scale:.0f} µm of level {number}"
        raise ImageError("a part of the slide cannot be read", given=f"{place}: {error.in_general}",
                         todo="copy the slide anew from its scanner") from None  # fmt: skip


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Give errors the name of the file, without its folder."""
    try:
        yield
    except ImageError as error:
        name = printable(Path(path).name)
        named = ImageError(f"{name}: {error.what}", given=error.given, todo=error.todo)
        named.reason = str(error)
        raise named from error

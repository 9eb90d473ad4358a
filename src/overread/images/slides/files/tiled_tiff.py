"""Slides as tiled TIFF, pyramidal TIFF and OME-TIFF, read by tifffile a tile at a time: with or without OpenSlide the same.

A level is a page in tiles; those above it are pages or sub-directories marked as reduced copies. Nothing else in the file is read:
not the label, not the photograph of the whole glass, not a thumbnail. A tile without bytes was never scanned.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, InputError, checked
from overread.images.formats.jpeg import require_picture
from overread.images.formats.tiff import quiet_tifffile, require_directories
from overread.images.outlines.annotation_xml import Element, parse_xml
from overread.images.slides.files.handles import CACHE, SlideHeader

#: First bytes of TIFF and BigTIFF.
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Pixels that one tile may have: more is no tile.
_TILE = 2**24
_PAGES = 4096
_REDUCED = 1  # bit of NewSubfileType
#: Compressions whose bytes are those of samples and nothing else: none, LZW, deflate as two number it, PackBits, LZMA, Zstandard.
PLAIN = (1, 5, 8, 32946, 32773, 34925, 50000)
#: JPEG, and JPEG 2000 as TIFF and as Aperio number it.
JPEG, JPEG_2000 = 7, (33003, 33004, 33005, 34712)
#: What is decoded here: these, PNG, WebP, JPEG XL; JPEG 2000 not as Aperio numbers it.
_COMPRESSIONS = (*PLAIN, JPEG, 34712, 34933, 50001, 50002, 52546)
#: What tifffile reads; the formats of other makers place their tiles in ways of their own.
READ_HERE = ("aperio", "ome-tiff", "generic-tiff")
#: Makers of scanners by a tag and what stands in it: description, software, XMP, and a tag of Hamamatsu's.
_MAKERS = (
    ("aperio", 270, r"Aperio"), ("ome-tiff", 270, r"<OME[\s>]"), ("leica", 270, r"leica-microsystems\.com/scn"),
    ("philips-tiff", 305, r"Philips"), ("trestle", 305, r"MedScan"), ("ventana", 700, r"iScan"), ("hamamatsu", 65420, ""),
)  # fmt: skip
#: Microns of the units of OME (PhysicalSizeXUnit).
_MICRONS = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micrometer": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
#: Microns of the units of TIFF (ResolutionUnit).
_UNITS = {2: 25_400.0, 3: 10_000.0}


@dataclass(frozen=True)
class Plane:
    """The tiles of one page: where each is and how many bytes it has; ``first``: of the samples asked for."""

    page: Any
    offsets: NDArray[np.uint64]
    counts: NDArray[np.uint64]
    first: int = 0


#: Numbers of open files: those of objects in memory are given again.
_NUMBERS = itertools.count(1)


class TileFile:
    """A TIFF in tiles that is open: its pages, and any window of their samples. Each thread keeps the tiles that it decoded."""

    def __init__(self, path: str) -> None:
        import tifffile

        quiet_tifffile()
        require_sound(path)
        self._number, self._lock = next(_NUMBERS), threading.Lock()
        self._size = os.stat(path).st_size
        self.tiff = tifffile.TiffFile(path, is_ndpi=False, is_lsm=False, is_scanimage=False)

    @property
    def pages(self) -> Sequence[Any]:
        """The pages of the chain, without those below them."""
        return self.tiff.pages

    def close(self) -> None:
        """Let go of the file and of its decoded tiles."""
        _DECODED.forget(self._number)
        self.tiff.close()

    def placed(self, page: Any, first: int = 0) -> Plane:
        """A page and where its tiles are. Raises :class:`ImageError` where some are missing."""
        _require_tiles(page)
        if not 0 < page.tilewidth * page.tilelength <= _TILE or page.imagedepth != 1:
            raise ImageError("the tiles are too large", given=f"{page.tilewidth} x {page.tilelength} pixels")
        offsets, counts = np.array(page.dataoffsets, np.uint64), np.array(page.databytecounts, np.uint64)
        wanted = math.ceil(page.imagewidth / page.tilewidth) * math.ceil(page.imagelength / page.tilelength)
        if min(len(offsets), len(counts)) < first + wanted:
            raise ImageError("tiles are missing", given=f"{len(offsets):,} tiles, {first + wanted:,} expected")
        return Plane(page, offsets, counts, first)

    def raw(self, plane: Plane, index: int) -> bytes:
        """The coded bytes of a tile, none where it was never scanned. Raises :class:`ImageError` where the file is cut off."""
        at, count = int(plane.offsets[index]), int(plane.counts[index])
        if count == 0:
            return b""
        if at + count > self._size:
            raise ImageError("the file is cut off", given=f"{self._size:,} bytes, a tile ends at {at + count:,}")
        with self._lock:
            self.tiff.filehandle.seek(at)
            data = self.tiff.filehandle.read(count)
        if len(data) != count:
            raise ImageError("the file is cut off", given=f"{len(data):,} of {count:,} bytes of a tile")
        return bytes(data)

    @staticmethod
    def microns(page: Any) -> tuple[float, float]:
        """Microns of a pixel across and down by the resolution of a page, 0 where it does not say."""
        unit = page.tags.get(296)
        each = _UNITS.get(int(unit.value) if unit is not None else 2, 0.0)
        return _resolution(page, 282, each), _resolution(page, 283, each)

    def window(
        self, planes: Sequence[Plane], level: int, left: int, top: int, width: int, height: int, blank: int
    ) -> NDArray[Any]:
        """(height, width, samples) of a window within a level whose ``planes`` stand behind one another.

        ``blank``: of tiles without bytes.
        """
        page = planes[0].page
        across, down = int(page.tilewidth), int(page.tilelength)
        pixels: NDArray[Any] | None = None
        for y in range(top // down * down, top + height, down):
            for x in range(left // across * across, left + width, across):
                tile = self._tile(planes, level, x // across, y // down, blank)
                if pixels is None:
                    pixels = np.empty((height, width, tile.shape[-1]), tile.dtype)
                rows = slice(max(y, top), min(y + down, top + height))
                columns = slice(max(x, left), min(x + across, left + width))
                pixels[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = tile[
                    rows.start - y : rows.stop - y, columns.start - x : columns.stop - x
                ]
        assert pixels is not None
        return pixels

    def _tile(self, planes: Sequence[Plane], level: int, column: int, row: int, blank: int) -> NDArray[Any]:
        key = (self._number, level, column, row)
        kept = _DECODED.get(key)
        if kept is None:
            samples = [self._samples(plane, column, row, blank) for plane in planes]
            kept = samples[0] if len(samples) == 1 else np.concatenate(samples, axis=-1)
            _DECODED.put(key, kept)
        return kept

    def _samples(self, plane: Plane, column: int, row: int, blank: int) -> NDArray[Any]:
        """(H, W, samples) of one tile, in full size, without opacity."""
        page = plane.page
        index = plane.first + row * math.ceil(page.imagewidth / page.tilewidth) + column
        data = self.raw(plane, index)
        if not data:
            samples = page.samplesperpixel if page.planarconfig == 1 else 1
            return np.full((page.tilelength, page.tilewidth, min(samples, 3)), blank, page.dtype)
        decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables, _fullsize=True)
        if decoded is None or decoded.dtype != page.dtype:
            raise ImageError("a tile holds no pixels", given=f"{len(data):,} bytes")
        if int(page.compression) == JPEG:  # its decoder fills what is missing
            tables = page.jpegtables
            require_picture(tables[:-2] + data[2:] if tables else data, decoded[0])
        return np.ascontiguousarray(decoded[0][..., :3])


class TiledTiff:
    """A slide opened by tifffile. See :class:`~overread.images.slides.files.handles.OpenedSlide`."""

    def __init__(self, path: str) -> None:
        self._file = TileFile(path)
        with ExitStack() as unless_whole:
            unless_whole.callback(self._file.close)
            kind, levels = slide_levels(self._file.tiff)
            self._levels = [[self._file.placed(page, first) for page, first in planes] for planes in levels]
            for level in levels:
                for page, _ in level:
                    page.dataoffsets, page.databytecounts = (), ()  # tuples of numbers take eight times as much
            described = str(self._file.pages[0].description or "")
            self.has_holes = any((plane.counts == 0).any() for level in self._levels for plane in level)
            self.header = SlideHeader(
                kind,
                tuple((int(one[0][0].imagewidth), int(one[0][0].imagelength)) for one in levels),
                microns_of(levels[0][0][0], kind),
                objective=description_numbers(described)[0] or _after(described, r'NominalMagnification="([\d.]+)"'),
                notes=(NO_PYRAMID,) if len(levels) == 1 else (),
            )
            unless_whole.pop_all()

    def read(self, level: int, left: int, top: int, width: int, height: int) -> NDArray[np.uint8]:
        """(height, width, 3) pixels of a level; white where nothing was scanned."""
        pixels = self._file.window(self._levels[level], level, left, top, width, height, 255)
        if pixels.shape[-1] == 1:
            return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB).astype(np.uint8, copy=False)
        return pixels

    def close(self) -> None:
        """Let go of the file and of its decoded tiles."""
        self._file.close()


#: Note on a slide of one level.
NO_PYRAMID = "no pyramid: what is seen from afar is made from all of its pixels, which takes long"


@checked
def tiff_slide_kind(path: str) -> str:
    """The format of a TIFF that is a slide: of a maker of scanners, or in tiles and with a pyramid or large; else ``""``.

    ``aperio``, ``ome-tiff`` and ``generic-tiff`` are read here. Only the headers are read.
    """
    import tifffile

    quiet_tifffile()
    try:
        require_sound(path)
        with tifffile.TiffFile(path, is_ndpi=False, is_lsm=False, is_scanimage=False) as tiff:
            first: Any = tiff.pages[0]
            kind = _kind(first)
            if kind not in READ_HERE:
                return kind
            large = max(first.imagewidth, first.imagelength) >= 8192
            pyramid = bool(first.subifds) or (len(tiff.pages) > 1 and _reduced(tiff.pages[1]))
            return kind if first.is_tiled and (kind == "aperio" or large or pyramid) else ""
    except (ImageError, ValueError, LookupError, TypeError, OSError, AttributeError, tifffile.TiffFileError):
        return ""


def _kind(page: Any) -> str:
    for kind, tag, words in _MAKERS:
        if tag in page.tags and re.search(words, _text(page.tags[tag].value)[:4096]):
            return kind
    return "generic-tiff"


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


@checked
def require_sound(path: str) -> None:
    """Walk the directories of a TIFF before any library reads a tag. Raises :class:`ImageError` for one that is not sound."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size < 8 or file.read(4) not in MAGIC:
            raise ImageError("this is not a TIFF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            require_directories(data, _PAGES)


# -- which pages are levels -----------------------------------------------------------------------------------------


@checked
def slide_levels(tiff: Any, *, decoded: bool = True) -> tuple[str, list[list[tuple[Any, int]]]]:
    """The kind, and of each level its planes: a page and the first of its tiles; ``decoded``: only what can be decoded here."""
    kind = _kind(tiff.pages[0])
    if kind == "ome-tiff":
        levels = _ome_levels(tiff)
    else:
        pages = list(tiff.pages)
        base = pages[0]
        more = [page for page in pages[1:] if page.is_tiled and (_reduced(page) or kind == "aperio")]
        levels = [_planes([page]) for page in (base, *_below(base), *more)]
    base = levels[0][0][0]
    kept = [levels[0]]
    for level in sorted(levels[1:], key=lambda one: -int(one[0][0].imagewidth)):
        if _is_reduced_copy(base, level[0][0]) and level[0][0].imagewidth < kept[-1][0][0].imagewidth:
            kept.append(level)
    for level in kept:
        for page, _ in level:
            if decoded:
                _require_page(page)
    return kind, kept


def _ome_levels(tiff: Any) -> list[list[tuple[Any, int]]]:
    """The largest series of an OME-TIFF: others are its label and its photograph."""
    series = max(tiff.series, key=lambda one: int(np.prod(one.shape)))
    found = []
    for level in series.levels:
        pages = [page.aspage() if hasattr(page, "aspage") else page for page in level.pages if page is not None]
        many = dict(zip(level.axes, level.shape))
        if any(many.get(axis, 1) > 1 for axis in "ZTQ") or len(pages) not in (1, 3):
            given = " x ".join(f"{axis} {count}" for axis, count in many.items())
            raise ImageError("a slide is one plane in colour or grey", given=given, todo="save it as RGB of 8 bits")
        found.append(_planes(pages))
    return found


def _planes(pages: Sequence[Any]) -> list[tuple[Any, int]]:
    if len(pages) == 1 and pages[0].is_tiled and pages[0].planarconfig == 2 and pages[0].samplesperpixel >= 3:
        page = pages[0]
        each = math.ceil(page.imagewidth / page.tilewidth) * math.ceil(page.imagelength / page.tilelength)
        return [(page, number * each) for number in range(3)]
    return [(page, 0) for page in pages]


def _below(page: Any) -> list[Any]:
    """The sub-directories of a page."""
    return [one.aspage() if hasattr(one, "aspage") else one for one in (page.pages or ())] if page.subifds else []


def _reduced(page: Any) -> bool:
    page = page.aspage() if hasattr(page, "aspage") else page
    return bool(page.is_tiled and int(page.subfiletype) & _REDUCED)


def _is_reduced_copy(base: Any, page: Any) -> bool:
    """Whether a page shows what level 0 shows: of its shape, within the pixels that rounding costs."""
    if not page.is_tiled or page.imagewidth < 1 or page.imagelength < 1:
        return False
    scale = base.imagewidth / page.imagewidth
    return abs(base.imagelength - page.imagelength * scale) <= 2 * scale + 1


def _require_tiles(page: Any) -> None:
    if not page.is_tiled:
        raise ImageError("the slide is not in tiles", given=f"{page.imagewidth} x {page.imagelength} pixels",
                         todo="convert it to a pyramidal TIFF in tiles")  # fmt: skip


def _require_page(page: Any) -> None:
    _require_tiles(page)
    colours = ("MINISBLACK", "RGB", "YCBCR") if int(page.compression) == JPEG else ("MINISBLACK", "RGB")
    if page.dtype != np.uint8 or page.samplesperpixel not in (1, 3, 4) or page.photometric.name not in colours:
        given = f"{page.samplesperpixel} samples of {page.bitspersample} bits, {page.photometric.name}"
        raise ImageError("a slide is read in colour or grey of 8 bits", given=given, todo="save it as RGB of 8 bits")
    if int(page.compression) not in _COMPRESSIONS:
        raise ImageError(
            "the slide is in a compression that is not read", given=f"TIFF compression {int(page.compression)}"
        )


# -- microns ------------------------------------------------------------------------------------------------------


@checked
def microns_of(page: Any, kind: str) -> tuple[float, float]:
    """Microns of a pixel of level 0 across and down, 0 where the file does not say."""
    described = str(page.description or "")
    if kind == "aperio":
        said = description_numbers(described)[1]
        return said, said
    if kind == "ome-tiff":
        found = _ome_sizes(page)
        if all(found):
            return found
    return TileFile.microns(page)


@checked
def description_numbers(described: str) -> tuple[float, float]:
    """Magnification and microns of a pixel in a description by Aperio, 0 where it does not say.

    >>> description_numbers("Aperio Image Library v11|AppMag = 20|MPP = 0.4990")
    (20.0, 0.499)
    """
    return _after(described, r"AppMag\s*=\s*([\d.]+)"), _after(described, r"MPP\s*=\s*([\d.]+)")


def _ome_sizes(page: Any) -> tuple[float, float]:
    """Microns across and down that the first page's OME-XML says of the image that is as large as this page; 0 where it does not.

    Of several of that size the one at the place of the page's series.
    """
    described = str(page.parent.pages[0].description or "")
    try:
        root = parse_xml(described.encode("utf-8", "replace"), "the description")
    except InputError:
        return 0.0, 0.0
    held = [next(iter(_named(image, "Pixels")), None) for image in _named(root, "Image")]
    sides = str(int(page.imagewidth)), str(int(page.imagelength))
    fits = [at for at, one in enumerate(held) if one and (one.attributes.get("SizeX"), one.attributes.get("SizeY")) == sides]  # fmt: skip
    if len(fits) > 1:
        mine = [at for at in fits if at < len(page.parent.series) and any(one is not None and one.index == page.index for one in page.parent.series[at].pages)]  # fmt: skip
        fits = mine or fits
    if not fits or (pixels := held[fits[0]]) is None:
        return 0.0, 0.0
    return _ome_size(pixels.attributes, "X"), _ome_size(pixels.attributes, "Y")


def _named(element: Element, name: str) -> list[Element]:
    """The elements of a name right in another, whatever the prefix of its namespace."""
    return [each for each in element.inside if each.name.rpartition(":")[2] == name]


def _ome_size(told: Mapping[str, str], axis: str) -> float:
    with suppress(ValueError):
        return float(told.get(f"PhysicalSize{axis}", "")) * _MICRONS.get(told.get(f"PhysicalSize{axis}Unit", "µm"), 0.0)
    return 0.0


def _resolution(page: Any, tag: int, unit: float) -> float:
    with suppress(AttributeError, TypeError, ValueError, ZeroDivisionError, KeyError):
        pixels, units = page.tags[tag].value
        return unit * units / pixels
    return 0.0


def _after(text: str, pattern: str) -> float:
    with suppress(ValueError):
        match = re.search(pattern, text)
        return float(match[1]) if match else 0.0
    return 0.0


# -- tiles that were decoded last -----------------------------------------------------------------------------------


class _Decoded(threading.local):
    """The tiles that this thread decoded last, up to :data:`CACHE` bytes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable) -> NDArray[np.uint8] | None:
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, key: Hashable, tile: NDArray[np.uint8]) -> None:
        self._kept[key] = tile
        self._bytes += tile.nbytes
        while self._bytes > CACHE and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes

    def forget(self, owner: int) -> None:
        for key in [key for key in self._kept if isinstance(key, tuple) and key[0] == owner]:
            self._bytes -= self._kept.pop(key).nbytes


_DECODED = _Decoded()

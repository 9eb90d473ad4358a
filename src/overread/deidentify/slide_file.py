"""A copy of a whole slide without its label: the levels of a tiled TIFF, their tiles as they are, and nothing else.

Beside the tissue, scanners store the label of the glass with its name and number, a photograph of the whole glass that shows the label, and
a thumbnail; they write file names, users and dates into the description. Only what is needed to decode and place the tiles is
copied; of the description the magnification and the microns of a pixel stay. Comments within the tiles are blanked. Slides
of which the label cannot be cut out in this way are refused by name of their format.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from overread.core.errors import ImageError, checked
from overread.core.files import publish
from overread.deidentify.instance import blank_jpeg, blank_jpeg_2000
from overread.images.image import broken_as
from overread.images.slides.files.tiled_tiff import (
    JPEG,
    JPEG_2000,
    PLAIN,
    READ_HERE,
    Plane,
    TileFile,
    description_numbers,
    microns_of,
    slide_levels,
    tiff_slide_kind,
)

__all__ = ["CANNOT", "CleanedSlide", "clean_slide"]

#: Why a slide of another format is refused.
CANNOT = "the label cannot be cut out of slides of this format"

#: Tags that are copied: kind of samples and colours, geometry of tiles, how they are coded. A colour profile may hold any text.
_COPIED = (256, 257, 258, 259, 262, 277, 284, 317, 322, 323, 338, 339, 347, 529, 530, 532)
_KIND, _DESCRIPTION, _ACROSS, _DOWN, _UNIT, _OFFSETS, _COUNTS = 254, 270, 282, 283, 296, 324, 325
_ASCII, _SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG_8 = 2, 3, 4, 5, 7, 16
_PACKED = {1: "B", _SHORT: "H", _LONG: "I", _RATIONAL: "I", 11: "f", 12: "d", _LONG_8: "Q"}
_WORDS = (("label", re.compile("label")), ("photograph of the glass", re.compile("macro")),
          ("thumbnail", re.compile("thumbnail|->")))  # fmt: skip


@dataclass(frozen=True)
class CleanedSlide:
    """What was copied of a slide: its ``format``, how many ``levels``, and which images were ``dropped``."""

    format: str
    levels: int
    dropped: tuple[str, ...]


@checked
def clean_slide(path: str, output: Path) -> CleanedSlide:
    """Write the levels of the slide at ``path`` to ``output``, a BigTIFF.

    Raises :class:`ImageError` for a format whose label cannot be cut out here, and for a damaged file.
    """
    kind = tiff_slide_kind(path)
    if kind not in READ_HERE:
        told = kind or "not in one TIFF"
        raise ImageError(CANNOT, given=told, todo="convert it to DICOM")
    with broken_as("the slide is damaged"), closing(TileFile(path)) as file:
        _, levels = slide_levels(file.tiff, decoded=False)
        if any(len({id(page) for page, _ in level}) > 1 for level in levels):
            raise ImageError("slides whose colours are pages of their own are not cleaned", todo="save it as RGB")
        planes = [file.placed(level[0][0]) for level in levels]
        _require_copied(file, planes)
        described = _description(planes[0].page, kind)
        each = microns_of(planes[0].page, kind)
        dropped = _dropped(file, planes)
        with publish(output) as beside, open(beside, "wb") as out:
            _write(out, file, planes, described, each)
            out.flush()
            _require_same(file, planes, str(beside))
    return CleanedSlide(kind, len(planes), dropped)


def _require_copied(file: TileFile, planes: Sequence[Plane]) -> None:
    """Refuse tiles whose bytes would mean something else in the copy, and those that may hold text."""
    for plane in planes:
        page, big = plane.page, file.tiff.byteorder == ">"
        if int(page.compression) not in (*PLAIN, JPEG, *JPEG_2000):
            raise ImageError("tiles that may hold text are not cleaned", given=f"TIFF compression {int(page.compression)}", todo="save them as JPEG, or without loss by deflate")  # fmt: skip
        if big and int(page.bitspersample) > 8 and int(page.compression) not in (JPEG, *JPEG_2000):
            raise ImageError("samples of several bytes in big endian are not copied", given=f"{page.bitspersample} bits", todo="save the slide in little endian")  # fmt: skip
        if 266 in page.tags and int(page.tags[266].value) != 1:
            raise ImageError("bits in another order are not copied", given=f"FillOrder {page.tags[266].value}", todo="save the slide with FillOrder 1")  # fmt: skip


def _require_same(file: TileFile, planes: Sequence[Plane], copied: str) -> None:
    """Compare the first tile of each level with that of the copy, decoded."""
    with closing(TileFile(copied)) as made:
        for number, plane in enumerate(planes):
            stored = np.flatnonzero(plane.counts)
            across = -(-plane.page.imagewidth // plane.page.tilewidth)
            row, column = divmod(int(stored[0]) if len(stored) else 0, across)
            if row * plane.page.tilelength >= plane.page.imagelength:  # of another channel
                continue
            top, left = row * plane.page.tilelength, column * plane.page.tilewidth
            sides = min(plane.page.tilewidth, plane.page.imagewidth - left), min(plane.page.tilelength, plane.page.imagelength - top)  # fmt: skip
            copy = made.placed(made.pages[number])
            one, other = (each.window([held], number, left, top, *sides, 255) for each, held in ((file, plane), (made, copy)))  # fmt: skip
            if not np.array_equal(one, other):
                raise ImageError("the copy of the slide shows something else", given=f"level {number}")


def _description(page: Any, kind: str) -> str:
    """What Aperio's programs need to know the file as theirs: magnification and microns, no name, no date."""
    if kind != "aperio":
        return ""
    objective, each = description_numbers(str(page.description or ""))
    told = [f"AppMag = {objective:g}"] * bool(objective) + [f"MPP = {each:g}"] * bool(each)
    return "|".join([f"Aperio Image Library\r\n{page.imagewidth}x{page.imagelength}", *told])


def _dropped(file: TileFile, planes: Sequence[Plane]) -> tuple[str, ...]:
    """What the pages that are not copied show, by the words of their maker."""
    kept = {int(plane.page.offset) for plane in planes}
    found = []
    for page in file.pages:
        page = page.aspage() if hasattr(page, "aspage") else page
        if int(page.offset) not in kept:
            words = str(page.description or "").lower()
            found.append(next((name for name, word in _WORDS if word.search(words)), "another image"))
    return tuple(found)


# -- writing (TIFF 6.0, sections 2 and 15; BigTIFF) --------------------------------------------------------------


def _write(out: BinaryIO, file: TileFile, planes: Sequence[Plane], described: str, each: tuple[float, float]) -> None:
    out.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    link = 8  # where the place of the next directory is written
    for number, plane in enumerate(planes):
        offsets, counts = _copied_tiles(out, file, plane)
        entries = [_entry(plane.page, tag) for tag in _COPIED if tag in plane.page.tags]
        entries += [
            (_KIND, _LONG, 1, struct.pack("<I", 1 if number else 0)),
            _numbers(_OFFSETS, offsets),
            _numbers(_COUNTS, counts),
        ]
        if described and number == 0:
            text = described.encode("ascii") + b"\0"
            entries.append((_DESCRIPTION, _ASCII, len(text), text))
        if all(each):
            scale = planes[0].page.imagewidth / plane.page.imagewidth
            entries += [
                _resolution(_ACROSS, each[0] * scale),
                _resolution(_DOWN, each[1] * scale),
                (_UNIT, _SHORT, 1, struct.pack("<H", 3)),
            ]
        link = _directory(out, entries, link)


def _copied_tiles(out: BinaryIO, file: TileFile, plane: Plane) -> tuple[list[int], list[int]]:
    offsets, counts = [], []
    for index in range(len(plane.offsets)):
        data = _without_comments(file.raw(plane, index), int(plane.page.compression))
        offsets.append(out.tell() if data else 0)
        counts.append(len(data))
        out.write(data)
    return offsets, counts


def _without_comments(data: bytes, compression: int) -> bytes:
    if not data or compression not in (JPEG, *JPEG_2000):
        return data
    blanked = bytearray(data)
    if compression == JPEG:
        blank_jpeg(blanked)
    else:
        blank_jpeg_2000(blanked)
    return bytes(blanked)


def _entry(page: Any, number: int) -> tuple[int, int, int, bytes]:
    """A tag as it is, in little endian."""
    tag = page.tags[number]
    kind, value = int(tag.dtype), tag.value
    if number == 347:  # tables of JPEG
        tables = bytearray(value)
        blank_jpeg(tables)
        value = bytes(tables)
    if isinstance(value, bytes):
        return number, _UNDEFINED, len(value), value
    if kind not in _PACKED:
        raise ImageError("the slide has a tag that is not copied", given=f"tag {number} of type {kind}")
    values = [
        int(part) if kind not in (11, 12) else float(part) for part in (value if isinstance(value, tuple) else (value,))
    ]
    count = len(values) // 2 if kind == _RATIONAL else len(values)
    return number, kind, count, struct.pack(f"<{len(values)}{_PACKED[kind]}", *values)


def _numbers(tag: int, values: Sequence[int]) -> tuple[int, int, int, bytes]:
    return tag, _LONG_8, len(values), np.asarray(values, "<u8").tobytes()


def _resolution(tag: int, mpp: float) -> tuple[int, int, int, bytes]:
    """Pixels a centimetre."""
    return tag, _RATIONAL, 1, struct.pack("<2I", round(10_000 / mpp * 1000), 1000)


def _directory(out: BinaryIO, entries: Iterable[tuple[int, int, int, bytes]], link: int) -> int:
    """Write a directory, link it from ``link``, and give where the next one is to be linked."""
    entries = sorted(entries)
    placed = []
    for tag, kind, count, value in entries:
        if len(value) > 8:
            out.write(bytes(-out.tell() % 8))
            place = struct.pack("<Q", out.tell())
            out.write(value)
        else:
            place = value.ljust(8, b"\0")
        placed.append(struct.pack("<HHQ", tag, kind, count) + place)
    out.write(bytes(-out.tell() % 8))
    at = out.tell()
    out.write(struct.pack("<Q", len(placed)) + b"".join(placed) + bytes(8))
    end = out.tell()
    out.seek(link)
    out.write(struct.pack("<Q", at))
    out.seek(end)
    return end - 8

"""Find the pixels and the elements that describe them in the bytes of a DICOM file, under limits.

The elements are walked here (PS3.5 chapter 7), without recursion and without an object for each; only those that
the pixels need are given to pydicom. A name or an identifier is therefore never even parsed, a thousand nested
sequences cost nothing, and a length that points beyond the file is an error rather than a short value.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, NamedTuple

from overread.core.errors import ImageError, checked

#: A deflated file may hold this many bytes when inflated (PS3.5 A.5).
INFLATED = 2**28
#: Data elements that are walked before a file is refused; a long enhanced film has some 300,000.
ELEMENTS = 1_000_000
#: Levels of sequences within sequences; real files stay below ten.
NESTING = 64
#: Items of a sequence and fragments of coded pixels; a film has one or a few for each frame.
PARTS = 2**17

#: Transfer syntaxes of PS3.5 A by what must be done to read them.
IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
_NATIVE = (IMPLICIT, EXPLICIT, BIG, DEFLATED, "")
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT")
    + (b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US")
)
_ITEM, _ITEM_END, _SEQUENCE_END, _UNDEFINED = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0xFFFFFFFF
_PIXELS = {0x7FE00008: "float32", 0x7FE00009: "float64", 0x7FE00010: "int"}
_SYNTAX = 0x00020010
#: Sequences whose items are kept: functional groups (shared, per frame), modality LUT, VOI LUT.
SHARED, PER_FRAME, MODALITY_LUT, VOI_LUT = 0x52009229, 0x52009230, 0x00283000, 0x00283010
_SEQUENCES = frozenset((SHARED, PER_FRAME, MODALITY_LUT, VOI_LUT))
#: Plain elements that are kept: modality, image pixel module, padding, rescale, windows, palettes, tables,
#: dose scaling, offset tables.
_PLAIN = frozenset(
    (0x00080060, 0x3004000E, 0x7FE00001, 0x7FE00002)
    + (0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011)
    + (0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120, 0x00280121, 0x00280122, 0x00280124, 0x00280125)
    + (0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281054, 0x00281056)
    + (0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203)
    + (0x00281221, 0x00281222, 0x00281223, 0x00283002, 0x00283006)
)


@dataclass(frozen=True)
class Parsed:
    """What a file says about its pixels.

    ``head``: the needed elements (a pydicom Dataset). ``syntax``: transfer syntax UID, empty where the file does
    not say. ``little``: byte order. ``samples``: int, float32 or float64. ``native``: the bytes of the pixels, or
    None where they are coded in ``fragments``, the offset table first. ``wide``: the pixels are written in words
    (OW). ``items``: the bytes of the items of the sequences that matter, by tag.
    """

    head: Any
    syntax: str
    implicit: bool
    little: bool
    samples: str
    native: memoryview | None
    fragments: tuple[memoryview, ...]
    wide: bool
    items: dict[int, tuple[bytes, ...]]

    def within(self, item: bytes, tag: int) -> bytes:
        """The first item of the sequence ``tag`` within ``item``; empty where there is none."""
        walk = _Walk(item, self.implicit, self.little)
        found = (e for e in walk.elements(0) if e.tag == tag)
        return next((part for e in found for part in walk.items(e)), b"")

    def read(self, item: bytes) -> Any:
        """The plain elements of ``item`` that matter, as a pydicom Dataset."""
        return _plain(item, _Walk(item, self.implicit, self.little).elements(0), self.implicit, self.little)


class _Element(NamedTuple):  # made for each element of a file, and quicker than a dataclass
    tag: int
    vr: bytes  # empty where the coding does not say
    at: int  # of the tag
    value: int  # of the value
    length: int  # _UNDEFINED for sequences and coded pixels with an end mark
    end: int  # of the whole element; ``value`` for coded pixels, which are not walked here


@checked
def parse(data: bytes) -> Parsed:
    """The pixels of a DICOM file and what describes them (PS3.10 chapter 7, PS3.5 chapter 7).

    Raises :class:`ImageError` for what is no DICOM file, holds no pixels, is cut off or beyond a limit.
    """
    syntax, at = _meta(data)
    if syntax == DEFLATED:
        data, at = _inflate(data[at:]), 0
    implicit, little = _coding(data, at, syntax)
    kept: list[_Element] = []
    pixels = None
    for element in _Walk(data, implicit, little).elements(at):
        if element.tag in _PIXELS:
            pixels = element
            break
        if element.tag in _PLAIN or element.tag in _SEQUENCES:
            kept.append(element)
    if pixels is None:
        raise ImageError("the DICOM file holds no image", given="without pixel data")
    coded = pixels.length == _UNDEFINED
    if coded == (syntax in _NATIVE):
        raise ImageError(
            "the pixels of the DICOM file are not coded as it says",
            given=f"transfer syntax {syntax[:64] or 'none'}, {'coded' if coded else 'plain'} pixels",
        )
    walk = _Walk(data, implicit, little)
    return Parsed(
        head=_plain(data, kept, implicit, little),
        syntax=syntax,
        implicit=implicit,
        little=little,
        samples=_PIXELS[pixels.tag],
        native=None if coded else memoryview(data)[pixels.value : pixels.end],
        fragments=tuple(walk.fragments(pixels)) if coded else (),
        wide=pixels.vr != b"OB",
        items={element.tag: tuple(walk.items(element)) for element in kept if element.tag in _SEQUENCES},
    )


def _plain(data: bytes, elements: Iterable[_Element], implicit: bool, little: bool) -> Any:
    """The plain elements that matter, read by pydicom; sequences never reach it."""
    from pydicom.filereader import read_dataset

    kept = [data[e.at : e.end] for e in elements if e.tag in _PLAIN and e.length != _UNDEFINED and e.vr != b"SQ"]
    return read_dataset(BytesIO(b"".join(kept)), implicit, little)


@checked
def raw(head: Any, name: str) -> bytes:
    """The bytes of an element, before pydicom makes something of them; empty where it is absent.

    VRs are often wrong, absent or ambiguous, and pydicom refuses those that it does not know.
    """
    value = head.get_item(name).value if name in head else b""
    return value if isinstance(value, bytes) else b""


@checked
def text(head: Any, name: str) -> str:
    """A code string in capitals (PS3.5 6.2), without padding; what is not ASCII becomes ``?``."""
    return " ".join(raw(head, name).replace(b"\0", b" ").decode("ascii", "replace").upper().split())


def _meta(data: bytes) -> tuple[str, int]:
    """Transfer syntax of the file meta information (PS3.10 7.1) and where the data set begins."""
    at = 132 if data[128:132] == b"DICM" else 0
    walk, syntax = _Walk(data, implicit=False, little=True), ""
    while data[at : at + 2] == b"\x02\x00":
        element = walk.element(at)
        if element.tag == _SYNTAX:
            syntax = data[element.value : element.end].rstrip(b"\0 ").decode("ascii", "replace")
        at = element.end
    if not all(letter in "0123456789." for letter in syntax):
        raise ImageError("the DICOM file does not say how its pixels are coded", given="no valid transfer syntax")
    return syntax, at


def _inflate(data: bytes) -> bytes:
    """The deflated data set, up to the limit."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, INFLATED)
    except zlib.error as error:
        raise ImageError("the deflated DICOM file is damaged", given=str(error)[:80]) from error
    if inflater.unconsumed_tail or len(plain) == INFLATED:
        raise ImageError("the deflated DICOM file is larger than the limit", given=f"above {INFLATED:,} bytes")
    if not inflater.eof:
        raise ImageError("the deflated DICOM file is cut off", given=f"{len(data):,} bytes")
    return plain


def _coding(data: bytes, at: int, syntax: str) -> tuple[bool, bool]:
    """Whether VRs are implicit and bytes little-endian: as the syntax says, or as the first element looks.

    A wrong or missing syntax is common; the first element shows a VR in capitals or does not, and a group that is
    large in one byte order is small in the other.
    """
    first = data[at : at + 6]
    if len(first) < 6:
        raise ImageError("the DICOM file is cut off", given=f"{len(data):,} bytes")
    implicit = first[4:6] not in _LONG | _SHORT
    little = syntax != BIG if syntax else (implicit or first[0] >= first[1])
    return implicit, little


class _Walk:
    """Walks the elements of ``data`` in one coding; counts them against the limit."""

    def __init__(self, data: bytes, implicit: bool, little: bool) -> None:
        order = "<" if little else ">"
        self._data, self._size, self._implicit, self._left = data, len(data), implicit, ELEMENTS
        self._tag, self._long, self._short = (struct.Struct(order + x).unpack_from for x in ("HH", "I", "H"))

    def elements(self, at: int) -> Iterator[_Element]:
        """The elements of the top level from ``at`` on. Trailing bytes too few for an element end them."""
        while at + 8 <= len(self._data):
            element = self.element(at)
            yield element
            at = element.end

    def element(self, at: int) -> _Element:
        """The element at ``at``; its end is found by its length, or by walking what it holds."""
        tag, vr, value, length = self._header(at)
        if length != _UNDEFINED:
            return _Element(tag, vr, at, value, length, self._within(value + length))
        return _Element(tag, vr, at, value, length, value if tag in _PIXELS else self._end(value))

    def items(self, sequence: _Element) -> Iterator[bytes]:
        """The contents of the items of a sequence."""
        at = sequence.value
        for _ in range(PARTS):
            tag, length = self._mark(at) if at + 8 <= sequence.end else (0, 0)
            if tag != _ITEM:
                return
            stop = at + 8 + length if length != _UNDEFINED else self._end(at + 8, item=True)
            yield self._data[at + 8 : self._within(stop)]
            at = stop
        raise ImageError("a sequence of the DICOM file has too many items", given=f"more than {PARTS:,}")

    def fragments(self, pixels: _Element) -> Iterator[memoryview]:
        """The items of coded pixels (PS3.5 A.4), the offset table first."""
        at, view = pixels.value, memoryview(self._data)
        for _ in range(PARTS):
            tag, length = self._mark(at)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM or length == _UNDEFINED:
                raise ImageError("the coded pixels of the DICOM file are damaged", given=f"no item at byte {at:,}")
            yield view[at + 8 : self._within(at + 8 + length)]
            at += 8 + length
        raise ImageError("the coded pixels have too many parts", given=f"more than {PARTS:,}")

    def _header(self, at: int) -> tuple[int, bytes, int, int]:
        """Tag, VR, place and length of the value (PS3.5 7.1)."""
        self._left -= 1
        if self._left < 0 or at + 8 > self._size:
            self._stop(at + 8)
        group, number = self._tag(self._data, at)
        vr = b"" if self._implicit else self._data[at + 4 : at + 6]
        if vr in _LONG:
            self._within(at + 12)
            return group << 16 | number, vr, at + 12, self._long(self._data, at + 8)[0]
        if vr in _SHORT or (vr.isalpha() and vr.isupper()):
            return group << 16 | number, vr, at + 8, self._short(self._data, at + 6)[0]
        return group << 16 | number, b"", at + 8, self._long(self._data, at + 4)[0]

    def _end(self, at: int, *, item: bool = False) -> int:
        """The end of the sequence (or item) without a length whose contents begin at ``at``."""
        open_items = [item]  # one entry for each level without a length: is it an item?
        while open_items:
            if len(open_items) > 2 * NESTING:
                raise ImageError("the DICOM file nests its sequences too deeply", given=f"more than {NESTING} levels")
            tag, length = self._mark(at)
            if tag in (_ITEM_END, _SEQUENCE_END):
                if (tag == _ITEM_END) != open_items.pop():
                    raise ImageError("the DICOM file is damaged", given=f"a stray end at byte {at:,}")
                at += 8
            elif not open_items[-1]:
                if tag != _ITEM:
                    raise ImageError("the DICOM file is damaged", given=f"no item at byte {at:,}")
                at += 8
                if length == _UNDEFINED:
                    open_items.append(True)
                else:
                    at = self._within(at + length)
            else:
                _, _, at, length = self._header(at)
                if length == _UNDEFINED:
                    open_items.append(False)
                else:
                    at = self._within(at + length)
        return at

    def _mark(self, at: int) -> tuple[int, int]:
        """Tag and length of an item or end mark, which never have a VR."""
        self._left -= 1
        if self._left < 0 or at + 8 > self._size:
            self._stop(at + 8)
        group, number = self._tag(self._data, at)
        return group << 16 | number, self._long(self._data, at + 4)[0]

    def _stop(self, stop: int) -> None:
        self._within(stop)
        raise ImageError("the DICOM file has too many elements", given=f"more than {ELEMENTS:,}")

    def _within(self, stop: int) -> int:
        if stop > self._size:
            raise ImageError("the DICOM file is cut off", given=f"{len(self._data):,} bytes, {stop:,} declared")
        return stop

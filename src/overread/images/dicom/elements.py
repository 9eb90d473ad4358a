"""Where the elements of a DICOM file begin and end, without reading what nobody asked for (PS3.5 §7.1, §7.5, A.4, A.5).

One walk for all who read DICOM. :func:`read_elements` gives some thirty short values of a file for a scan of thousands:
the file is read in blocks, and everything else is jumped over. :func:`parse` gives the pixels and the elements that
describe them; only these are given to pydicom, so that a name or an identifier is never even parsed. The walk never
calls itself. A length that points behind the end, an end mark that ends nothing, too many elements and sequences nested
too deeply are errors.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from overread.core.errors import ImageError, checked

#: Data elements that are walked before a file is refused; a long enhanced film has some 300,000.
MAX_ELEMENTS = 1_000_000
#: Sequences within sequences; real files stay below ten.
MAX_DEPTH = 64
#: Items of a sequence and fragments of coded pixels; a film has one or a few for each frame.
MAX_ITEMS = 1 << 17
#: Bytes of one value that is read; functional groups of long films take megabytes.
MAX_VALUE = 64 << 20
#: Bytes that a deflated data set may hold when inflated (PS3.5 A.5).
MAX_INFLATED = 1 << 28
#: For the header alone: bytes of a deflated data set that are read, and bytes of it that are inflated.
HEADER_DEFLATED, HEADER_INFLATED = 4 << 20, 16 << 20

#: FloatPixelData, DoubleFloatPixelData, PixelData, and what their samples are.
PIXELS = {0x7FE00008: "float32", 0x7FE00009: "float64", 0x7FE00010: "int"}
_DATA_SET, _BEFORE_PIXELS = 0x00030000, 0x7FE00008
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_NOWHERE = 1 << 32  # no tag is that large
_BLOCK = 1 << 15
_PAD = bytes(12)  # behind each block: the header of an element may be read at its very end
#: Value representations with a length of 4 bytes (PS3.5 table 7.1-1).
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_SYNTAX, _DEFLATED = 0x00020010, "1.2.840.10008.1.2.1.99"
#: Transfer syntaxes of pixels that are not coded (PS3.5 A.1 to A.5); empty where the file does not say.
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", _DEFLATED, "")
#: Sequences whose items are kept: functional groups (shared, per frame), modality LUT, VOI LUT.
SHARED, PER_FRAME, MODALITY_LUT, VOI_LUT = 0x52009229, 0x52009230, 0x00283000, 0x00283010
_SEQUENCES = frozenset((SHARED, PER_FRAME, MODALITY_LUT, VOI_LUT))
#: Plain elements that are kept: modality, image pixel module, padding, rescale, windows, palettes, tables,
#: dose scaling, offset tables, shape of presentation.
_PLAIN = frozenset(
    (0x00080060, 0x3004000E, 0x7FE00001, 0x7FE00002)
    + (0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011)
    + (0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280120, 0x00280121, 0x00280122, 0x00280124, 0x00280125)
    + (0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281054, 0x00281056)
    + (0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203)
    + (0x00281221, 0x00281222, 0x00281223, 0x00283002, 0x00283006, 0x20500020)
)


@dataclass(frozen=True)
class Form:
    """How elements are written: byte order ``<`` or ``>``, and whether without value representations."""

    order: str
    implicit: bool


@dataclass(frozen=True, eq=False)
class Elements:
    """The wanted top-level values of a file as bytes, how they are written, and whether pixels follow them."""

    values: dict[int, bytes]
    form: Form
    pixels: bool


class Element(NamedTuple):  # quicker than a dataclass
    """Where an element is: of its tag, ``start`` of its value, ``end`` (``start`` for pixels, which are not walked)."""

    tag: int
    vr: bytes  # empty where the coding does not say
    at: int
    start: int
    length: int  # _UNDEFINED for sequences and coded pixels with an end mark
    end: int


#: What is read: a file without a buffer, or bytes.
Handle = io.RawIOBase | io.BufferedIOBase
_META = Form("<", False)


class Blocks:
    """A file read in blocks, from the position that is asked for. ``left``: elements that may still be walked over."""

    def __init__(self, handle: Handle, size: int) -> None:
        self._handle, self.size, self.left = handle, size, MAX_ELEMENTS
        self.start, self.block, self.edge = 0, b"", 0
        self.move(0)

    def move(self, at: int) -> None:
        """Let the block begin at ``at``."""
        self._handle.seek(at)
        self.start, self.block = at, (self._handle.read(_BLOCK) or b"") + _PAD
        self.edge = len(self.block) - 2 * len(_PAD)  # the last header that surely lies in the block

    def step(self, at: int, end: int) -> None:
        """Count an element that begins at ``at``. Raises where there is none before ``end``, or one too many."""
        self.left -= 1
        if at + 8 > end:
            raise _cut_off(end, at + 8)
        if self.left < 0:
            raise ImageError("the DICOM file has too many elements", given=f"more than {MAX_ELEMENTS:,}")

    def read(self, at: int, count: int) -> bytes:
        """``count`` bytes at ``at``; fewer at the end of the file."""
        begin = at - self.start
        if begin >= 0 and begin + count <= len(self.block) - len(_PAD):
            return self.block[begin : begin + count]
        if count > MAX_VALUE:
            raise ImageError("a value of the DICOM header is larger than the limit", given=f"{count:,} bytes")
        self._handle.seek(at)
        return self._handle.read(min(count, max(self.size - at, 0))) or b""


@checked
def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """A regular file, open for reading. Raises :class:`ImageError`; a device or FIFO is never waited for."""
    try:
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        raise ImageError("the file does not exist", todo="check the path") from error
    except (OSError, ValueError) as error:  # a null byte in the name
        reason = getattr(error, "strerror", None) or "not a name of a file"
        raise ImageError("the file cannot be opened", given=reason) from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ImageError("this is not a regular file")
    return io.FileIO(number)


@checked
def looks_like_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes are those of a DICOM file, with or without a preamble.

    >>> looks_like_dicom(bytes(128) + b"DICM"), looks_like_dicom(b"\\x08\\0\\x05\\0CS\\x0a\\0ISO"), looks_like_dicom(b"GIF89a")
    (True, True, False)
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8 or head[:2] not in (b"\x08\0", b"\x02\0", b"\0\x08"):
        return False
    order = ">" if head[0] == 0 else "<"
    element, length = struct.unpack(order + "2xHL", head[:8])
    return element <= 0x60 and (_lettered(head[4:6]) or length <= 256)


def _lettered(vr: bytes) -> bool:
    return b"AA" <= vr <= b"ZZ" and vr.isalpha() and vr.isupper()


@checked
def read_elements(handle: Handle, wanted: frozenset[int], *, limit: int = MAX_VALUE) -> Elements:
    """The ``wanted`` values before the pixels, those of the file meta information included, clipped to ``limit`` bytes.

    Raises :class:`ImageError` for what is not DICOM, or is cut off before its pixels.
    """
    size = handle.seek(0, os.SEEK_END)
    blocks = Blocks(handle, size)
    if not looks_like_dicom(blocks.block[:132]):
        raise ImageError("this is not a DICOM file", given=f"{size:,} bytes without its marks")
    found, at, syntax = _meta(blocks, wanted)
    values = _values(blocks, found, limit)
    if syntax == _DEFLATED:
        # long enough for any header, and short enough for any bomb
        plain, _ = _inflated(blocks.read(at, HEADER_DEFLATED), HEADER_INFLATED)
        blocks, at = Blocks(io.BytesIO(plain), len(plain)), 0
    form = _form(blocks.read(at, 6))
    found, _, pixels = _walk(blocks, at, blocks.size, form, wanted, _BEFORE_PIXELS)
    has_pixels = pixels is not None and pixels.tag in PIXELS and pixels.length > 0 and pixels.start < blocks.size
    return Elements(values | _values(blocks, found, limit), form, has_pixels)


def _values(blocks: Blocks, found: dict[int, Element], limit: int) -> dict[int, bytes]:
    return {tag: blocks.read(one.start, min(one.end - one.start, limit)) for tag, one in found.items()}


def _meta(blocks: Blocks, wanted: frozenset[int]) -> tuple[dict[int, Element], int, str]:
    """The ``wanted`` of the file meta information (PS3.10 7.1), where the data set begins, and its transfer syntax."""
    at = 132 if blocks.block[128:132] == b"DICM" else 0
    if blocks.read(at, 2) != b"\x02\0":
        return {}, at, ""
    found, at, _ = _walk(blocks, at, blocks.size, _META, wanted | {_SYNTAX}, _DATA_SET)
    syntax = found.get(_SYNTAX)
    value = b"" if syntax is None else blocks.read(syntax.start, min(syntax.end - syntax.start, 256))
    return found, at, value.decode("ascii", "replace").rstrip("\0 ")


def _form(head: bytes) -> Form:
    """How the first element is written, whatever the transfer syntax says; group 0008 as 0800 is big-endian."""
    implicit = not _lettered(head[4:6])
    return Form(">" if len(head) == 6 and head[0] == 0 and head[1] != 0 else "<", implicit)


# -- the walk ------------------------------------------------------------------------------------------------------


def _walk(
    blocks: Blocks, at: int, end: int, form: Form, wanted: frozenset[int], stop: int
) -> tuple[dict[int, Element], int, Element | None]:
    """The wanted elements, where the walk ended, and the element from ``stop`` on that ended it, if one did.

    Trailing bytes too few for an element end it, too.
    """
    found: dict[int, Element] = {}
    header = struct.Struct(form.order + "HH2sH").unpack_from
    four = struct.Struct(form.order + "L").unpack_from
    implicit, block, origin, edge = form.implicit, blocks.block, blocks.start, blocks.edge
    while at + 8 <= end:
        blocks.step(at, end)
        begin = at - origin
        if not 0 <= begin <= edge:
            blocks.move(at)
            block, origin, edge, begin = blocks.block, at, blocks.edge, 0
        group, element, vr, length = header(block, begin)
        tag, start = group << 16 | element, at + 8
        if implicit or (vr not in _SHORT and vr not in _LONG and not _lettered(vr)):
            vr, length = b"", four(block, begin + 4)[0]
        elif vr in _LONG:
            length, start = four(block, begin + 8)[0], at + 12
        if tag >= stop:
            return found, at, Element(tag, vr, at, start, length, start)
        if length == _UNDEFINED:
            after = _past(blocks, start, end, Form(form.order, form.implicit or vr == b"UN"), item=False)
            block, origin, edge = blocks.block, blocks.start, blocks.edge
        else:
            after = start + length
        if after > end:
            raise _cut_off(end, after)
        if tag in wanted:
            found[tag] = Element(tag, vr, at, start, length, after)
        at = after
    return found, at, None


def _cut_off(size: int, declared: int) -> ImageError:
    return ImageError("the DICOM file is cut off", given=f"{size:,} bytes, {declared:,} declared")


def _past(blocks: Blocks, at: int, end: int, form: Form, *, item: bool) -> int:
    """The position behind a sequence or ``item`` of undefined length, its delimiter included (PS3.5 §7.5)."""
    opened = [(item, form)]  # for each that is open: is it an item, and how it is written
    while opened:
        blocks.step(at, end)
        is_item, form = opened[-1]
        tag, vr, length, start = _header(blocks, at, form)
        if tag in (_ITEM_END, _SEQUENCE_END):
            if (tag == _ITEM_END) != is_item:
                raise ImageError("the DICOM file is damaged", given=f"a stray end at byte {at:,}")
            opened.pop()
            at = start
        elif not is_item and tag != _ITEM:
            raise ImageError("the DICOM file is damaged", given=f"no item at byte {at:,}")
        elif length == _UNDEFINED:
            opened.append((not is_item, Form(form.order, form.implicit or vr == b"UN")))
            at = start
        else:
            at = start + length
        if len(opened) > 2 * MAX_DEPTH:
            raise ImageError("the DICOM file nests its sequences too deeply", given=f"more than {MAX_DEPTH} levels")
    return at


def _header(blocks: Blocks, at: int, form: Form) -> tuple[int, bytes, int, int]:
    """Tag, value representation, length and start of the value; item and end marks never have a representation."""
    begin = at - blocks.start
    if not 0 <= begin <= blocks.edge:
        blocks.move(at)
        begin = 0
    group, element, vr, length = struct.unpack_from(form.order + "HH2sH", blocks.block, begin)
    tag = group << 16 | element
    if group == 0xFFFE or form.implicit or not _lettered(vr):
        return tag, b"", struct.unpack_from(form.order + "L", blocks.block, begin + 4)[0], at + 8
    if vr in _LONG:
        return tag, vr, struct.unpack_from(form.order + "L", blocks.block, begin + 8)[0], at + 12
    return tag, vr, length, at + 8


@checked
def items(data: bytes, form: Form, wanted: frozenset[int], most: int) -> Iterator[dict[int, bytes]]:
    """The ``wanted`` values of each of the first ``most`` items of a sequence's bytes.

    Raises :class:`ImageError` where they are cut off.
    """
    return (_inside(item, form, wanted) for item in islice(_items(data, form), most))


@checked
def functional_groups(
    data: bytes, form: Form, groups: frozenset[int], wanted: frozenset[int], most: int
) -> list[dict[int, bytes]]:
    """The ``wanted`` values within the ``groups`` of each of the first ``most`` items (PS3.3 C.7.6.16.2)."""
    found = []
    for item in items(data, form, groups, most):
        inside = [inner for group in item.values() for inner in items(group, form, wanted, 1)]
        found.append({tag: value for inner in inside for tag, value in inner.items()})
    return found


def _items(data: bytes, form: Form) -> Iterator[bytes]:
    """The contents of the items of a sequence's bytes."""
    blocks, at, end = Blocks(io.BytesIO(data), len(data)), 0, len(data)
    while at + 8 <= end:
        tag, _, length, start = _header(blocks, at, form)
        if tag != _ITEM:
            return
        at = start + length if length != _UNDEFINED else _past(blocks, start, end, form, item=True)
        if at > end:
            raise _cut_off(end, at)
        yield data[start : at if length != _UNDEFINED else at - 8]


def _inside(data: bytes, form: Form, wanted: frozenset[int]) -> dict[int, bytes]:
    blocks = Blocks(io.BytesIO(data), len(data))
    return _values(blocks, _walk(blocks, 0, len(data), form, wanted, _NOWHERE)[0], MAX_VALUE)


# -- the pixels and what describes them ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Parsed:
    """What a file says about its pixels.

    ``head``: the needed elements (a pydicom Dataset). ``syntax``: transfer syntax UID, empty where the file does not
    say. ``form``: how its elements are written. ``samples``: int, float32 or float64. ``native``: the bytes of the
    pixels, or None where they are coded in ``fragments``, the offset table first. ``wide``: the pixels are written in
    words (OW). ``items``: the bytes of the items of the sequences that matter, by tag.
    """

    head: Any
    syntax: str
    form: Form
    samples: str
    native: memoryview | None
    fragments: tuple[memoryview, ...]
    wide: bool
    items: dict[int, tuple[bytes, ...]]

    @property
    def little(self) -> bool:
        """Whether the lower byte comes first."""
        return self.form.order == "<"

    def within(self, item: bytes, tag: int) -> bytes:
        """The first item of the sequence ``tag`` within ``item``; empty where there is none."""
        sequence = _inside(item, self.form, frozenset({tag})).get(tag, b"")
        return next(_items(sequence, self.form), b"")

    def read(self, item: bytes) -> Any:
        """The plain elements of ``item`` that matter, as a pydicom Dataset."""
        found, _, _ = _walk(Blocks(io.BytesIO(item), len(item)), 0, len(item), self.form, _PLAIN, _NOWHERE)
        return _plain(item, found.values(), self.form)


@checked
def parse(data: bytes) -> Parsed:
    """The pixels of a DICOM file and what describes them (PS3.10 chapter 7, PS3.5 chapter 7).

    Raises :class:`ImageError` for what is no DICOM file, holds no pixels, is cut off or beyond a limit.
    """
    blocks = Blocks(io.BytesIO(data), len(data))
    _, at, syntax = _meta(blocks, frozenset())
    if not all(letter in "0123456789." for letter in syntax):
        raise ImageError("the DICOM file does not say how its pixels are coded", given="no valid transfer syntax")
    if syntax == _DEFLATED:
        data = _whole(data[at:])
        blocks, at = Blocks(io.BytesIO(data), len(data)), 0
    if at + 6 > len(data):
        raise _cut_off(len(data), at + 6)
    form = _form(data[at : at + 6])
    found, _, pixels = _walk(blocks, at, len(data), form, _PLAIN | _SEQUENCES, _BEFORE_PIXELS)
    if pixels is None or pixels.tag not in PIXELS:
        raise ImageError("the DICOM file holds no image", given="without pixel data")
    coded, end = pixels.length == _UNDEFINED, pixels.start + pixels.length
    if coded == (syntax in _NATIVE):
        given = f"transfer syntax {syntax[:64] or 'none'}, {'coded' if coded else 'plain'} pixels"
        raise ImageError("the pixels of the DICOM file are not coded as it says", given=given)
    if not coded and end > len(data):
        raise _cut_off(len(data), end)
    return Parsed(
        head=_plain(data, found.values(), form),
        syntax=syntax,
        form=form,
        samples=PIXELS[pixels.tag],
        native=None if coded else memoryview(data)[pixels.start : end],
        fragments=tuple(_fragments(data, pixels.start)) if coded else (),
        wide=pixels.vr != b"OB",
        items={tag: _all_items(data[one.start : one.end], form) for tag, one in found.items() if tag in _SEQUENCES},
    )


def _all_items(sequence: bytes, form: Form) -> tuple[bytes, ...]:
    found = tuple(islice(_items(sequence, form), MAX_ITEMS + 1))
    if len(found) > MAX_ITEMS:
        raise ImageError("a sequence of the DICOM file has too many items", given=f"more than {MAX_ITEMS:,}")
    return found


def _fragments(data: bytes, at: int) -> Iterator[memoryview]:
    """The items of coded pixels (PS3.5 A.4), the offset table first."""
    view = memoryview(data)
    for _ in range(MAX_ITEMS):
        if at + 8 > len(data):
            raise _cut_off(len(data), at + 8)
        group, element, length = struct.unpack_from("<HHL", data, at)
        tag, end = group << 16 | element, at + 8 + length
        if tag == _SEQUENCE_END:
            return
        if tag != _ITEM or length == _UNDEFINED:
            raise ImageError("the coded pixels of the DICOM file are damaged", given=f"no item at byte {at:,}")
        if end > len(data):
            raise _cut_off(len(data), end)
        yield view[at + 8 : end]
        at = end
    raise ImageError("the coded pixels have too many parts", given=f"more than {MAX_ITEMS:,}")


def _inflated(data: bytes, most: int) -> tuple[bytes, Any]:
    """The beginning of a deflated data set (PS3.5 A.5), up to ``most`` bytes, and its inflater."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        return inflater.decompress(data, most), inflater
    except zlib.error as error:
        raise ImageError("the DICOM file is damaged", given="its deflated data set cannot be inflated") from error


def _whole(data: bytes) -> bytes:
    """A deflated data set, which ends before the limit."""
    plain, inflater = _inflated(data, MAX_INFLATED)
    if inflater.unconsumed_tail or len(plain) == MAX_INFLATED:
        raise ImageError("the deflated DICOM file is larger than the limit", given=f"above {MAX_INFLATED:,} bytes")
    if not inflater.eof:
        raise ImageError("the deflated DICOM file is cut off", given=f"{len(data):,} bytes")
    return plain


def _plain(data: bytes, elements: Iterable[Element], form: Form) -> Any:
    """The plain elements that matter, read by pydicom; sequences never reach it."""
    from pydicom.filereader import read_dataset

    kept = [data[e.at : e.end] for e in elements if e.tag in _PLAIN and e.length != _UNDEFINED and e.vr != b"SQ"]
    return read_dataset(io.BytesIO(b"".join(kept)), form.implicit, form.order == "<")


@checked
def decimals(value: bytes) -> tuple[float, ...]:
    """Decimal strings (PS3.5 6.2) as numbers; empty where one is none, or not finite."""
    try:
        found = tuple(float(part.strip(b" \0")) for part in value.split(b"\\"))
    except ValueError:
        return ()
    return found if all(map(math.isfinite, found)) else ()


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

"""Where the elements of a DICOM file begin and end, without reading what nobody asked for (PS3.5 §7.1, §7.5, A.5).

A scan of thousands of files needs some thirty short values of each. This walk reads the file in blocks, jumps over
everything else, and never calls itself: a thousand nested sequences cost a thousand steps. A length that points
behind the end, too many elements and a deflated data set that does not end are errors.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from overread.core.errors import ImageError, checked

#: Elements walked over in one file, and sequences within sequences.
MAX_ELEMENTS, MAX_DEPTH = 1_000_000, 1_000
#: Bytes of one value that is read; functional groups of long films take megabytes.
MAX_VALUE = 64 << 20
#: Bytes of a deflated data set that are read, and bytes of it that are inflated.
DEFLATED, INFLATED = 4 << 20, 16 << 20

#: PixelData, FloatPixelData, DoubleFloatPixelData.
PIXELS = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})
_DATA_SET, _BEFORE_PIXELS = 0x00030000, 0x7FE00008
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_BLOCK = 1 << 15
_PAD = bytes(12)  # behind each block: the header of an element may be read at its very end
#: Value representations with a length of 4 bytes (PS3.5 table 7.1-1).
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_SYNTAX, _DEFLATED = 0x00020010, b"1.2.840.10008.1.2.1.99"


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


#: What is read: a file without a buffer, or bytes.
Handle = io.RawIOBase | io.BufferedIOBase
_META = Form("<", False)


class Blocks:
    """A file read in blocks, from the position that is asked for."""

    def __init__(self, handle: Handle, size: int) -> None:
        self._handle, self.size = handle, size
        self.start, self.block, self.edge = 0, b"", 0
        self.move(0)

    def move(self, at: int) -> None:
        """Let the block begin at ``at``."""
        self._handle.seek(at)
        self.start, self.block = at, (self._handle.read(_BLOCK) or b"") + _PAD
        self.edge = len(self.block) - 2 * len(_PAD)  # the last header that surely lies in the block

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
    at = 132 if blocks.block[128:132] == b"DICM" else 0
    values: dict[int, bytes] = {}
    if blocks.read(at, 2) == b"\x02\0":
        found, at, _ = _walk(blocks, at, size, _META, wanted | {_SYNTAX}, _DATA_SET)
        values = _read(blocks, found, limit)
    if values.get(_SYNTAX, b"").rstrip(b"\0 ") == _DEFLATED:
        blocks, at = _inflated(blocks, at), 0
    form = _form(blocks.read(at, 6))
    found, at, pixels = _walk(blocks, at, blocks.size, form, wanted, _BEFORE_PIXELS)
    return Elements(values | _read(blocks, found, limit), form, pixels)


def _read(blocks: Blocks, found: dict[int, tuple[int, int]], limit: int) -> dict[int, bytes]:
    return {tag: blocks.read(start, min(length, limit)) for tag, (start, length) in found.items()}


def _inflated(blocks: Blocks, at: int) -> Blocks:
    """The beginning of a deflated data set (PS3.5 A.5), long enough for any header and short enough for any bomb."""
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(blocks.read(at, DEFLATED), INFLATED)
    except zlib.error as error:
        raise ImageError("the DICOM file is damaged", given="its deflated data set cannot be inflated") from error
    return Blocks(io.BytesIO(data), len(data))


def _form(head: bytes) -> Form:
    """How the first element is written, whatever the transfer syntax says; group 0008 as 0800 is big-endian."""
    implicit = not _lettered(head[4:6])
    return Form(">" if len(head) == 6 and head[0] == 0 and head[1] != 0 else "<", implicit)


def _walk(
    blocks: Blocks, at: int, end: int, form: Form, wanted: frozenset[int], stop: int
) -> tuple[dict[int, tuple[int, int]], int, bool]:
    """Places (start, length) of the wanted values, where the walk ended, and whether pixels begin there."""
    found: dict[int, tuple[int, int]] = {}
    header = struct.Struct(form.order + "HH2sH").unpack_from
    four = struct.Struct(form.order + "L").unpack_from
    implicit, block, origin, edge = form.implicit, blocks.block, blocks.start, blocks.edge
    for _ in range(MAX_ELEMENTS):
        if at + 8 > end:
            return found, at, False
        begin = at - origin
        if not 0 <= begin <= edge:
            blocks.move(at)
            block, origin, edge, begin = blocks.block, at, blocks.edge, 0
        group, element, vr, length = header(block, begin)
        tag, start = group << 16 | element, at + 8
        if implicit or (vr not in _SHORT and vr not in _LONG and not _lettered(vr)):
            length = four(block, begin + 4)[0]
        elif vr in _LONG:
            length, start = four(block, begin + 8)[0], at + 12
        if tag >= stop:
            return found, at, tag in PIXELS and length > 0 and start < end
        if length == _UNDEFINED:
            at = _past(blocks, start, end, Form(form.order, form.implicit or vr == b"UN"))
        else:
            at = start + length
        if at > end:
            raise ImageError("the DICOM header is cut off", given=f"{end:,} bytes, {at:,} announced")
        if tag in wanted:
            found[tag] = (start, at - start)
    raise ImageError("the DICOM header has too many elements", given=f"more than {MAX_ELEMENTS:,}")


def _past(blocks: Blocks, at: int, end: int, form: Form) -> int:
    """The position behind a sequence of undefined length, its delimiter included (PS3.5 §7.5)."""
    open_forms = [form]  # one for each sequence or item that is open
    for _ in range(MAX_ELEMENTS):
        if at + 8 > end:
            raise ImageError("the DICOM header is cut off", given=f"{end:,} bytes, within a sequence")
        tag, length, start, unknown = _header(blocks, at, open_forms[-1])
        if tag in (_ITEM_END, _SEQUENCE_END):
            open_forms.pop()
            if not open_forms:
                return start
            at = start
        elif length == _UNDEFINED:
            form = open_forms[-1]
            open_forms.append(Form(form.order, form.implicit or unknown))
            at = start
        else:
            at = start + length
        if len(open_forms) > 2 * MAX_DEPTH:
            raise ImageError("the DICOM header is nested too deeply", given=f"more than {MAX_DEPTH:,} sequences")
    raise ImageError("the DICOM header has too many elements", given=f"more than {MAX_ELEMENTS:,}")


def _header(blocks: Blocks, at: int, form: Form) -> tuple[int, int, int, bool]:
    """Tag, length, start of the value, and whether it is of unknown representation (then written implicitly)."""
    begin = at - blocks.start
    if not 0 <= begin <= blocks.edge:
        blocks.move(at)
        begin = 0
    group, element, vr, length = struct.unpack_from(form.order + "HH2sH", blocks.block, begin)
    tag = group << 16 | element
    if group == 0xFFFE or form.implicit or not _lettered(vr):
        return tag, struct.unpack_from(form.order + "L", blocks.block, begin + 4)[0], at + 8, False
    if vr in _LONG:
        return tag, struct.unpack_from(form.order + "L", blocks.block, begin + 8)[0], at + 12, vr == b"UN"
    return tag, length, at + 8, False


@checked
def items(data: bytes, form: Form, wanted: frozenset[int], most: int) -> Iterator[dict[int, bytes]]:
    """The ``wanted`` values of each of the first ``most`` items of a sequence's bytes.

    Raises :class:`ImageError` where they are cut off.
    """
    return _items(data, form, wanted, most)


def _items(data: bytes, form: Form, wanted: frozenset[int], most: int) -> Iterator[dict[int, bytes]]:
    blocks, at, end = Blocks(io.BytesIO(data), len(data)), 0, len(data)
    for _ in range(most):
        if at + 8 > end:
            return
        tag, length, start, _ = _header(blocks, at, form)
        if tag != _ITEM:
            return
        if length == _UNDEFINED:
            stop = _past(blocks, start, end, form)  # the item's delimiter included
            inside = data[start : stop - 8]
        else:
            stop = start + length
            inside = data[start:stop]
        if stop > end:
            raise ImageError("the DICOM header is cut off", given="within a sequence")
        yield _inside(inside, form, wanted)
        at = stop


def _inside(data: bytes, form: Form, wanted: frozenset[int]) -> dict[int, bytes]:
    blocks = Blocks(io.BytesIO(data), len(data))
    found, _, _ = _walk(blocks, 0, len(data), form, wanted, 0x100000000)
    return {tag: blocks.read(*place) for tag, place in found.items()}

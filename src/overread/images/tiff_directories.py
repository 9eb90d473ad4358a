"""The chain of directories of a TIFF, walked before any library reads a tag. TIFF 6.0, section 2; BigTIFF.

A chain that comes back to itself, more directories than allowed, and tags that count absurdly many values end
here, before they cost memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from overread.errors import ImageError, checked

#: Numbers that one tag may hold: so many strips or tiles are more than any image within the limits has.
NUMBERS = 1_000_000
#: Entries that one directory may have.
ENTRIES = 4096
#: Types that are text or bytes: any count of them is no more than the file is long.
_BYTES = (1, 2, 6, 7)


@dataclass(frozen=True)
class _Layout:
    order: str  # of bytes
    offset: str  # struct codes: an offset, the count of entries
    count: str
    entry: int  # bytes of an entry
    first: int  # where the offset of the first directory is


@checked
def directories(data: bytes, most: int) -> list[int]:
    """Where the directories of a TIFF are, in order.

    Raises :class:`ImageError` if there are more than ``most``, if the chain comes back to any of them, or if a
    directory is cut off or absurd.
    """
    layout = _layout(data)
    found: dict[int, None] = {}  # an ordered set
    at = _number(data, layout.order + layout.offset, layout.first)
    while at:
        if len(found) >= most or at in found:
            raise ImageError(
                "the TIFF has too many pages, or a cycle of them", given=f"more than {len(found)}"
            )
        found[at] = None
        at = _after(data, layout, at)
    if not found:
        raise ImageError("the TIFF holds no image")
    return list(found)


def _layout(data: bytes) -> _Layout:
    order = "<" if data[:2] == b"II" else ">"
    if data[2:4] in (b"*\0", b"\0*"):
        return _Layout(order, "I", "H", 12, 4)
    if len(data) < 16 or struct.unpack_from(order + "HH", data, 4) != (8, 0):
        raise ImageError("the TIFF header is not valid")
    return _Layout(order, "Q", "Q", 20, 8)


def _after(data: bytes, layout: _Layout, at: int) -> int:
    """Where the directory after the one at ``at`` is; 0 after the last."""
    entries = _number(data, layout.order + layout.count, at)
    start = at + struct.calcsize(layout.count)
    if not 1 <= entries <= ENTRIES:
        raise ImageError("the TIFF has a directory that is not valid", given=f"{entries:,} entries")
    for entry in range(start, start + layout.entry * entries, layout.entry):
        kind = _number(data, layout.order + "H", entry + 2)
        values = _number(data, layout.order + layout.offset, entry + 4)
        if values > NUMBERS and kind not in _BYTES:
            raise ImageError(
                "the TIFF declares more strips, tiles or values than is allowed", given=f"{values:,}"
            )
    return _number(data, layout.order + layout.offset, start + layout.entry * entries)


def _number(data: bytes, code: str, at: int) -> int:
    if at + struct.calcsize(code) > len(data):
        raise ImageError("the TIFF is cut off", given=f"{len(data):,} bytes, a directory at {at:,}")
    return int(struct.unpack_from(code, data, at)[0])

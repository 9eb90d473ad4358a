"""What the first bytes of a file say, without running a decoder: format, size, and whether the end is there.

PNG: W3C Recommendation "Portable Network Graphics", third edition, §5. JPEG: ITU-T T.81, Annex B. A decoder
is only started on what passed here, so a header that lies about its size costs nothing, and a file that was
cut off is an error rather than an image with a grey end.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from overread.errors import ImageError, checked

PNG = b"\x89PNG\r\n\x1a\n"
#: Formats that are read, by their first bytes. Everything else is refused before any decoder sees it.
MAGIC = (
    (b"DICM", 128, "DICOM"),
    (PNG, 0, "PNG"),
    (b"\xff\xd8\xff", 0, "JPEG"),
    (b"II*\0", 0, "TIFF"),
    (b"MM\0*", 0, "TIFF"),
    (b"II+\0", 0, "TIFF"),
    (b"MM\0+", 0, "TIFF"),
)
#: Formats that are recognised only to name them in the refusal.
_OTHERS = (
    (b"GIF8", 0, "GIF"),
    (b"BM", 0, "BMP"),
    (b"RIFF", 0, "WebP or RIFF"),
    (b"%PDF", 0, "PDF"),
    (b"%!PS", 0, "PostScript"),
    (b"SIMPLE  =", 0, "FITS"),
    (b"PK\x03\x04", 0, "ZIP or NPZ"),
    (b"\x1f\x8b", 0, "gzip"),
    (b"<svg", 0, "SVG"),
    (b"<?xml", 0, "XML or SVG"),
    (b"\x93NUMPY", 0, "NPY"),
    (b"\0\0\0\x0cjP  ", 0, "JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG 2000"),
)
_VR = (b"UL", b"UI", b"CS", b"OB", b"DA", b"\0\0")
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, without DHT, JPG, DAC


@dataclass(frozen=True)
class Header:
    """Size, ``samples`` per pixel as stored, ``bits`` per sample, EXIF ``orientation`` (1 = upright), notes.

    ``payload`` are the bytes for the decoder: for PNG without text, profiles and further frames.
    """

    height: int
    width: int
    samples: int
    bits: int
    orientation: int
    payload: bytes
    notes: tuple[str, ...] = ()


@checked
def sniff(data: bytes) -> str:
    """The format of ``data`` by content: ``PNG``, ``JPEG``, ``TIFF`` or ``DICOM``.

    Raises :class:`ImageError` for an empty file and for everything that is not on the list.

    >>> sniff(b"\\x89PNG\\r\\n\\x1a\\n....")
    'PNG'
    """
    if not data:
        raise ImageError("the file is empty", given="0 bytes")
    for magic, at, name in MAGIC:
        if data[at : at + len(magic)] == magic:
            return name
    if data[:2] in (b"\x08\0", b"\x02\0") and data[2:4] < b"\x20" and data[4:6] in _VR:
        return "DICOM"  # without a preamble: group 0002 or 0008 comes first
    found = next(
        (name for magic, at, name in _OTHERS if data[at : at + len(magic)] == magic), "unknown content"
    )
    raise ImageError(
        "the format is not one that is read", given=found, todo="convert it to PNG, JPEG, TIFF or DICOM"
    )


# -- PNG -------------------------------------------------------------------------------------------------


@checked
def png(data: bytes) -> Header:
    """Walk the chunks of a PNG. Raises :class:`ImageError` if it is cut off or has no proper header."""
    chunks, frames, orientation = [], 1, 1
    for name, start, stop in _chunks(data):
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"):
            chunks.append((name, start, stop))
        elif name == b"acTL" and stop - start >= 16:
            frames = struct.unpack(">I", data[start + 8 : start + 12])[0]
        elif name == b"eXIf":
            orientation = exif_orientation(data[start + 8 : stop - 4])
    if not chunks or chunks[0][0] != b"IHDR" or chunks[0][2] - chunks[0][1] != 25:
        raise ImageError("the PNG has no header")
    width, height, bits, kind = struct.unpack(">IIBB", data[chunks[0][1] + 8 : chunks[0][1] + 18])
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind)
    if samples is None or not width or not height:
        raise ImageError("the PNG header is not valid", given=f"{width} x {height}, colour type {kind}")
    notes = (f"animated, first of {frames} frames",) if frames > 1 else ()
    return Header(
        height, width, samples, 16 if bits == 16 else 8, orientation, _critical(data, chunks, kind), notes
    )


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    at, found = len(PNG), []
    while at + 12 <= len(data):
        length = struct.unpack(">I", data[at : at + 4])[0]
        name, stop = data[at + 4 : at + 8], at + 12 + length
        if stop > len(data):
            break
        found.append((name, at, stop))
        if name == b"IEND":
            return found
        at = stop
    raise ImageError("the PNG is cut off", given=f"{len(data):,} bytes without an end")


def _critical(data: bytes, chunks: list[tuple[bytes, int, int]], kind: int) -> bytes:
    """The bytes without text, profiles and animation; transparency is kept for palettes only."""
    kept = [c for c in chunks if c[0] != b"tRNS" or kind == 3]
    if len(kept) >= 2 and len(PNG) + sum(stop - start for _, start, stop in kept) == len(data):
        return data
    return PNG + b"".join(data[start:stop] for _, start, stop in kept)


# -- JPEG ------------------------------------------------------------------------------------------------


@checked
def jpeg(data: bytes) -> Header:
    """Walk the markers of a JPEG. Raises :class:`ImageError` if it is cut off or of a kind that is not
    read.
    """
    at, orientation, frame = 2, 1, None
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            raise ImageError("the JPEG is damaged", given=f"no marker at byte {at:,}")
        marker = data[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # fill bytes and markers without a length
            at += 1 if marker == 0xFF else 2
            continue
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            return _jpeg_frame(data, frame, orientation, stop)
        if marker in _SOF and stop - at >= 10:
            frame = (marker, *struct.unpack(">BHHB", data[at + 4 : at + 10]))
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 10 : stop])
        at = stop
    raise ImageError("the JPEG is cut off", given=f"{len(data):,} bytes without an image")


def _jpeg_frame(data: bytes, frame: tuple | None, orientation: int, scan: int) -> Header:
    if frame is None:
        raise ImageError("the JPEG is damaged", given="a scan before its frame")
    marker, precision, height, width, samples = frame
    if (
        marker not in (0xC0, 0xC1, 0xC2)
        or precision != 8
        or samples not in (1, 3, 4)
        or not width
        or not height
    ):
        raise ImageError(
            "this kind of JPEG is not read",
            todo="convert it to PNG, or to baseline JPEG",
            given=f"process {marker - 0xC0}, {precision} bits, {samples} samples, {width} x {height}",
        )
    # In coded data FF is followed by 00 or a restart marker: FFD9 after the first scan is the end.
    if data.rfind(b"\xff\xd9", scan) < 0:
        raise ImageError("the JPEG is cut off", given=f"{len(data):,} bytes without an end")
    return Header(height, width, samples, 8, orientation, data)


@checked
def exif_orientation(block: bytes) -> int:
    """The orientation 1 … 8 in a block of EXIF (TIFF 6.0 directory, tag 274); 1 where it is absent or
    damaged.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 14:
        return 1
    (at,) = struct.unpack(order + "I", block[4:8])
    (count,) = struct.unpack(order + "H", block[at : at + 2].ljust(2, b"\0"))
    for entry in range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, _, value = struct.unpack(order + "HHIH", block[entry : entry + 10])
        if tag == 274 and kind == 3:
            return value if 1 <= value <= 8 else 1
    return 1

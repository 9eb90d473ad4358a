"""What the first bytes of a file say, without running a decoder: format, size, and whether the end is there.

PNG: W3C Recommendation "Portable Network Graphics", third edition, §5. JPEG: ITU-T T.81, Annex B. A decoder
is only started on what passed here, so a header that lies about its size costs nothing, and a file that was
cut off is an error rather than an image with a grey end.
"""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked

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
    (b"\0\0\0\x0cjP  \r\n\x87\n", 0, "JPEG 2000"),
    (b"\xff\x4f\xff\x51", 0, "JPEG 2000"),
    (b"WEBP", 8, "WebP"),
    (b"NRRD000", 0, "NRRD"),
    (b"n+1\0", 344, "NIfTI"),
    (b"n+2\0\r\n\x1a\n", 4, "NIfTI"),
    (b"BM", 0, "BMP"),
)
#: Formats that are recognised only to name them in the refusal.
_OTHERS = (
    (b"GIF8", 0, "GIF"),
    (b"RIFF", 0, "RIFF"),
    (b"%PDF", 0, "PDF"),
    (b"%!PS", 0, "PostScript"),
    (b"\xc5\xd0\xd3\xc6", 0, "EPS"),
    (b"SIMPLE  =", 0, "FITS"),
    (b"PK\x03\x04", 0, "ZIP or NPZ"),
    (b"PK\x05\x06", 0, "ZIP or NPZ"),
    (b"\x1f\x8b", 0, "gzip"),
    (b"<svg", 0, "SVG"),
    (b"<?xml", 0, "XML or SVG"),
    (b"\x93NUMPY", 0, "NPY"),
    (b"8BPS", 0, "Photoshop"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"\0\0\0\x0cJXL ", 0, "JPEG XL"),
    (b"\x89HDF", 0, "HDF5"),
    (b"ni1\0", 344, "NIfTI in two files"),
    (b"II\xbc\x01", 0, "JPEG XR"),
)
_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"heim": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF",
    b"avif": "AVIF", b"avis": "AVIF",
}  # fmt: skip
#: MetaImage is text without a magic number: a key it begins with, and the type of its elements further on.
_META = re.compile(rb"\s*(?:ObjectType|NDims|Comment|ObjectSubType)\s*=(?s:.*)\bElementType\s*=")
_VR = (b"UL", b"UI", b"CS", b"OB", b"DA", b"\0\0")
#: Chunks, boxes or segments of one file that are walked at most.
PIECES = 1_000_000
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # start of frame, without DHT, JPG, DAC
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS = 0xC0, 0xC1, 0xC2, 0xC3
_PROCESS = {
    BASELINE: "baseline", EXTENDED: "extended", PROGRESSIVE: "progressive", LOSSLESS: "lossless",
    0xC9: "arithmetic coding", 0xCA: "progressive arithmetic coding", 0xCB: "lossless arithmetic coding",
    0xF7: "JPEG-LS",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """Size, ``samples`` per pixel as stored, ``bits`` per sample, EXIF ``orientation`` (1 = upright), notes.

    ``payload`` are the bytes for the decoder: for PNG without text, profiles and further frames. Of a JPEG,
    ``process`` is the marker of the frame, ``frame`` where it is, and ``scan`` where the first scan begins. Of a
    PNG, ``transparent`` is the one colour that is, as decoded.
    """

    height: int
    width: int
    samples: int
    bits: int
    orientation: int
    payload: bytes
    notes: tuple[str, ...] = ()
    process: int = 0
    frame: int = 0
    scan: int = 0
    transparent: tuple[int, ...] = ()


@checked
def sniff(data: bytes) -> str:
    """The format of ``data`` by content: PNG, JPEG, JPEG 2000, TIFF, WebP, BMP, DICOM, NIfTI, NRRD or MetaImage.

    Raises :class:`ImageError` for an empty file and for everything that is not on the list.

    >>> sniff(b"\\x89PNG\\r\\n\\x1a\\n....")
    'PNG'
    """
    if not data:
        raise ImageError("the file is empty", given="0 bytes")
    for magic, at, name in MAGIC:
        if data[at : at + len(magic)] == magic:
            return name
    if _is_bare_dicom(data):
        return "DICOM"
    if data[:2] == b"\x1f\x8b" and _is_nifti(_inflated(data)):
        return "NIfTI"
    if _META.match(data[:4096]):
        return "MetaImage"
    raise ImageError(
        "the format is not one that is read", given=_other(data), todo="convert it to PNG, JPEG, TIFF or DICOM"
    )


def _is_bare_dicom(data: bytes) -> bool:
    """Without a preamble: group 0002 or 0008 comes first, in either byte order, with or without its type."""
    little = data[:2] in (b"\x08\0", b"\x02\0") and data[2:4] < b"\x20"
    implicit = data[:2] == b"\x08\0" and data[6:8] == b"\0\0"
    return (little and (data[4:6] in _VR or implicit)) or (data[:2] == b"\0\x08" and data[4:6] in _VR)


def _other(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        return _BRANDS.get(data[8:12], "video or HEIF")
    return next((n for magic, at, n in _OTHERS if data[at : at + len(magic)] == magic), "unknown content")


def _is_nifti(data: bytes) -> bool:
    return data[344:348] == b"n+1\0" or data[4:8] == b"n+2\0"


def _inflated(data: bytes) -> bytes:
    """The first bytes inside gzip."""
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data[:4096], 1024)
    except zlib.error:
        return b""


# -- PNG -------------------------------------------------------------------------------------------------


@checked
def png(data: bytes) -> Header:
    """Walk the chunks of a PNG. Raises :class:`ImageError` if it is cut off or has no proper header."""
    chunks, frames, orientation, transparent = [], 1, 1, b""
    for name, start, stop in _chunks(data):
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"):
            chunks.append((name, start, stop))
            transparent = data[start + 8 : stop - 4] if name == b"tRNS" else transparent
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
        height, width, samples, 16 if bits == 16 else 8, orientation, _critical(data, chunks, kind), notes,
        transparent=_key(transparent, samples, bits) if kind in (0, 2) else (),
    )  # fmt: skip


def _key(body: bytes, samples: int, bits: int) -> tuple[int, ...]:
    """The transparent grey or colour, stretched as the pixels are (third edition, 11.3.2.1)."""
    if len(body) != 2 * samples:
        return ()
    return tuple(value * (255 // (2**bits - 1)) if bits < 8 else value for value in struct.unpack(f">{samples}H", body))


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    at = len(PNG)
    found: list[tuple[bytes, int, int]] = []
    while at + 12 <= len(data) and len(found) < PIECES:
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


# -- BMP -------------------------------------------------------------------------------------------------


@checked
def bmp(data: bytes) -> Header:
    """The header of a BMP (BITMAPINFOHEADER and later). Raises :class:`ImageError` if it is cut off, compressed
    or of an older kind.
    """
    if len(data) < 54:
        raise ImageError("the BMP is cut off", given=f"{len(data):,} bytes")
    start, size, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", data, 10)
    if size not in (40, 52, 56, 108, 124) or bits not in (1, 4, 8, 24, 32) or packing != 0:
        raise ImageError(
            "this kind of BMP is not read", given=f"header {size}, {bits} bits, packing {packing}",
            todo="convert it to PNG",
        )  # fmt: skip
    height = abs(height)  # negative: from the top
    if width < 1 or height < 1:
        raise ImageError("the BMP header is not valid", given=f"{width} x {height}")
    end = start + (width * bits + 31) // 32 * 4 * height  # rows are filled up to four bytes
    if start < 14 + size or end > len(data):
        raise ImageError("the BMP is cut off", given=f"{len(data):,} bytes, {end:,} declared")
    return Header(height, width, 1 if bits <= 8 else 3, bits, 1, data)


# -- JPEG ------------------------------------------------------------------------------------------------


@checked
def jpeg(data: bytes) -> Header:
    """Walk the markers of a JPEG. Raises :class:`ImageError` if it is cut off or of a kind that is not
    read.
    """
    at, orientation, frame = 2, 1, 0
    for _ in range(PIECES):
        if at + 4 > len(data):
            break
        if data[at] != 0xFF:
            raise ImageError("the JPEG is damaged", given=f"no marker at byte {at:,}")
        marker = data[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # fill bytes and markers without a length
            at += 1 if marker == 0xFF else 2
            continue
        stop = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            return _jpeg_frame(data, frame, orientation, at)
        if marker in _SOF and stop - at >= 10:
            frame = at
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = exif_orientation(data[at + 10 : stop])
        at = stop
    raise ImageError("the JPEG is cut off", given=f"{len(data):,} bytes without an image")


def _jpeg_frame(data: bytes, frame: int, orientation: int, scan: int) -> Header:
    if not frame:
        raise ImageError("the JPEG is damaged", given="a scan before its frame")
    marker, _, bits, height, width, samples = struct.unpack_from(">BHBHHB", data, frame + 1)
    if not width or not height or not _is_read(marker, bits, samples):
        raise ImageError(
            "this kind of JPEG is not read",
            todo="convert it to PNG, or to baseline JPEG",
            given=f"{_PROCESS.get(marker, 'hierarchical')}, {bits} bits, {samples} samples, {width} x {height}",
        )
    # In coded data FF is followed by 00 or a restart marker: FFD9 after the first scan is the end.
    if not data.endswith(b"\xff\xd9") and data.find(b"\xff\xd9", scan) < 0:
        raise ImageError("the JPEG is cut off", given=f"{len(data):,} bytes without an end")
    return Header(height, width, samples, bits, orientation, data, (), marker, frame, scan)


def _is_read(marker: int, bits: int, samples: int) -> bool:
    if marker == LOSSLESS:
        return 2 <= bits <= 16 and samples in (1, 3)
    return marker in _PROCESS and marker < LOSSLESS and (bits, samples) in ((8, 1), (8, 3), (8, 4), (12, 1), (12, 3))


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


# -- the one defined conversion of each oddity of a photograph: alpha, ink, odd depths, turned cameras ------------


@checked
def with_channels(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W) as (H, W, 1); (H, W, C) as it is."""
    return pixels[..., None] if pixels.ndim == 2 else pixels


@checked
def onto_black(pixels: NDArray[Any]) -> tuple[NDArray[Any], bool]:
    """The colours of (…, C+1) pixels weighted by the last channel, and whether any of it was transparent."""
    full = np.iinfo(pixels.dtype).max
    colour, alpha = pixels[..., :-1], pixels[..., -1:]
    if alpha.min(initial=full) == full:
        return np.ascontiguousarray(colour), False
    weighted = (colour.astype(np.uint32) * alpha + full // 2) // full
    return weighted.astype(pixels.dtype), True


@checked
def ink_to_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """CMYK (…, 4), full ink at the largest value, as RGB: (1 − ink)(1 − black)."""
    full = int(np.iinfo(pixels.dtype).max)
    ink, black = full - pixels[..., :3].astype(np.uint32), full - pixels[..., 3:].astype(np.uint32)
    return ((ink * black + full // 2) // full).astype(pixels.dtype)


@checked
def stretched(pixels: NDArray[Any], bits: int) -> NDArray[Any]:
    """Samples of 1 … 7 bits stretched to 8, those of 9 … 15 to 16: the largest stays the largest.

    >>> stretched(np.array([0, 3], np.uint8), 2).tolist()
    [0, 255]
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype not in (np.uint8, np.uint16) or bits in (8, 16):
        return pixels
    wide = np.uint8 if bits < 8 else np.uint16
    return (pixels.astype(np.uint32) * np.iinfo(wide).max // (2**bits - 1)).astype(wide)


@checked
def upright(pixels: NDArray[Any], orientation: int, notes: tuple[str, ...]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Apply an EXIF orientation (Exif 2.32, tag 274) to (H, W, C) pixels, and note it."""
    if orientation == 1:
        return pixels, notes
    if orientation >= 5:  # 5 … 8 are transposed
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels, (*notes, "EXIF rotation applied")

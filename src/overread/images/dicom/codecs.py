"""Coded DICOM frames to samples: headers first, then one fixed decoder for each code, all from imagecodecs.

| code | library within imagecodecs |
|---|---|
| JPEG baseline, extended and lossless (T.81), 2 to 16 bits | libjpeg-turbo |
| JPEG-LS (T.87) | CharLS |
| JPEG 2000 and High-Throughput JPEG 2000 (T.800, T.814) | OpenJPEG |
| run lengths (PS3.5 G) | its own PackBits |
| deflated frames (PS3.5 A.4.13) | Python's zlib |

There is one decoder for each, so that a file gives the same pixels wherever the same versions are installed. The
codestream's own header must agree with the tags before a decoder runs, and a codestream that was cut off is an
error: libjpeg alone would fill the rest with grey.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import ImageError, checked

RLE, DEFLATED_FRAMES = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
_JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
#: Tiles of a JPEG 2000 image, each of which costs the decoder some kilobytes.
TILES = 4096
#: Scans of a JPEG, each of which is a pass over the whole image.
SCANS = 64
#: Run-length bytes beyond a frame that are taken for padding.
PADDING = 256
#: Put before the end mark of a JPEG: a decoder reaches these bytes only where its own have run out.
_FILLER = bytes((0x5A, 0x13, 0xC7, 0x2E, 0x91, 0x68, 0xF4, 0x0D)) * 8


@dataclass(frozen=True)
class Wanted:
    """What the tags say that a codestream holds."""

    rows: int
    columns: int
    samples: int
    allocated: int
    photometric: str


@dataclass(frozen=True)
class Stream:
    """What the header of a codestream says: size, ``samples``, ``bits`` of a sample, and how colour is coded.

    ``coding``: ``RGB``, ``YBR_FULL`` or empty where the codestream does not say. ``parts``: scans or tiles.
    """

    rows: int
    columns: int
    samples: int
    bits: int
    coding: str
    parts: int = 1


@checked
def decode(syntax: str, data: bytes, wanted: Wanted) -> tuple[NDArray[Any], int, str]:
    """Unsigned samples (H, W) or (H, W, 3), their number of bits, and the photometric interpretation they are in.

    Raises :class:`ImageError` for a transfer syntax without a decoder, and for a codestream that contradicts the
    tags, is cut off or damaged.
    """
    readers = {
        **dict.fromkeys(_JPEG, _jpeg),
        **dict.fromkeys(_JPEG_LS, _jpeg_ls),
        **dict.fromkeys(_JPEG_2000, _jpeg_2000),
    }
    if syntax not in readers:
        raise ImageError(
            "there is no decoder for this DICOM file",
            given=f"transfer syntax {syntax[:64]}",
            todo="convert it to an uncompressed one",
        )
    pixels, stream = readers[syntax](data, wanted)
    if pixels.shape != (wanted.rows, wanted.columns, 3)[: 2 + (wanted.samples == 3)]:
        raise ImageError(
            "the coded image is damaged", given=f"decoded to {' x '.join(map(str, pixels.shape))}"
        )
    return pixels, stream.bits, stream.coding or wanted.photometric


def _agree(stream: Stream, wanted: Wanted) -> None:
    sizes = (stream.rows, stream.columns, stream.samples)
    if sizes != (wanted.rows, wanted.columns, wanted.samples) or not 1 <= stream.bits <= max(
        wanted.allocated, 8
    ):
        raise ImageError(
            "the coded image contradicts the DICOM header",
            given=f"{stream.rows} x {stream.columns} x {stream.samples} samples of {stream.bits} bits, header "
            f"{wanted.rows} x {wanted.columns} x {wanted.samples} of {wanted.allocated}",
        )


def _cut(data: bytes) -> ImageError:
    return ImageError("the coded image is cut off", given=f"{len(data):,} bytes")


# -- JPEG and JPEG-LS ------------------------------------------------------------------------------------


def _jpeg(data: bytes, wanted: Wanted) -> tuple[NDArray[Any], Stream]:
    """T.81. libjpeg fills what is missing without a word, so the end is tried with other bytes behind it."""
    stream, scan = jpeg_stream(data)
    _agree(stream, wanted)
    if stream.parts > SCANS:
        raise ImageError("the coded image has too many scans", given=f"{stream.parts:,}")
    end = data.rfind(b"\xff\xd9")
    if end < scan:
        raise _cut(data)
    pixels = _libjpeg(data, stream)
    if not np.array_equal(pixels, _libjpeg(data[:end] + _FILLER + data[end:], stream)):
        raise _cut(data)
    return pixels, stream


def _libjpeg(data: bytes, stream: Stream) -> NDArray[Any]:
    import imagecodecs

    if stream.samples == 1:
        return _sound(lambda: imagecodecs.jpeg8_decode(data))
    # the same colour space on both sides: samples as they are coded
    return _sound(lambda: imagecodecs.jpeg8_decode(data, colorspace="YCBCR", outcolorspace="YCBCR"))


def _sound(decode: Callable[[], Any]) -> NDArray[Any]:
    """What ``decode`` gives; what it raises on a damaged codestream becomes our error."""
    try:
        return np.asarray(decode())
    except (RuntimeError, ValueError, MemoryError) as error:
        raise ImageError("the coded image is damaged", given=_short(error)) from error


def _jpeg_ls(data: bytes, wanted: Wanted) -> tuple[NDArray[Any], Stream]:
    """T.87. CharLS itself refuses what is cut off, though without an end mark only after 2**31 steps."""
    import imagecodecs

    stream, scan = jpeg_stream(data)
    _agree(stream, wanted)
    if data.rfind(b"\xff\xd9") < scan:
        raise _cut(data)
    return _sound(lambda: imagecodecs.jpegls_decode(data)), stream


@checked
def jpeg_stream(data: bytes) -> tuple[Stream, int]:
    """The header of a JPEG or JPEG-LS codestream (T.81 B.2) and where its first scan begins.

    How colour is coded: an Adobe segment says (T.872 6.5.3), else JFIF means YCbCr (T.871), else components named
    R, G, B; else the codestream does not say and the tags are believed. Raises :class:`ImageError`.
    """
    at, coding, frame = 2, "", None
    while data[:2] == b"\xff\xd8" and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xDA and frame is not None:
            return _with_coding(frame, coding, data.count(b"\xff\xda", at)), at
        if marker in (0xC0, 0xC1, 0xC2, 0xC3, 0xF7) and len(body) >= 6:
            frame = body
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            coding = "YBR_FULL" if body[11] else "RGB"
        elif marker == 0xE0 and body[:4] == b"JFIF" and not coding:
            coding = "YBR_FULL"
        at += 2 + length
    raise ImageError("the coded image is damaged", given="no header of a JPEG that is read")


def _with_coding(frame: bytes, coding: str, scans: int) -> Stream:
    bits, rows, columns, samples = struct.unpack(">BHHB", frame[:6])
    if samples != 3:
        coding = ""
    elif not coding and frame[6:15:3].upper() == b"RGB":
        coding = "RGB"
    return Stream(rows, columns, samples, bits, coding, scans)


# -- JPEG 2000 -------------------------------------------------------------------------------------------


def _jpeg_2000(data: bytes, wanted: Wanted) -> tuple[NDArray[Any], Stream]:
    """T.800 and T.814. OpenJPEG runs strictly: missing data are an error."""
    import imagecodecs

    at = data.find(b"\xff\x4f\xff\x51")  # behind the boxes of a JP2 file, where there are any
    stream = jpeg_2000_stream(data[at:] if at >= 0 else b"")
    _agree(stream, wanted)
    if not 0 < stream.parts <= TILES:
        raise ImageError("the coded image has too many tiles", given=f"{stream.parts:,}")
    if data.rfind(b"\xff\xd9") < at:
        raise _cut(data)
    pixels = _sound(lambda: imagecodecs.jpeg2k_decode(data[at:]))
    kind = np.dtype(f"u{pixels.dtype.itemsize}").type
    return pixels.view(kind) & kind(2**stream.bits - 1), stream


@checked
def jpeg_2000_stream(data: bytes) -> Stream:
    """The header of a JPEG 2000 codestream (T.800 A.5.1 and A.6.1). Raises :class:`ImageError`.

    With the multiple component transformation, and for images tagged YBR_ICT or YBR_RCT, decoders give RGB.
    """
    if len(data) < 45:
        raise ImageError("the coded image is damaged", given="no header of a JPEG 2000 image")
    _, wide, high, left, top, tile_w, tile_h, tile_x, tile_y, samples = struct.unpack(">H8IH", data[6:42])
    parts = data[42 : 42 + 3 * samples]
    if (
        len(parts) != 3 * samples
        or not samples
        or len(set(parts[0::3])) > 1
        or max(parts[1::3] + parts[2::3]) > 1
    ):
        raise ImageError(
            "this kind of JPEG 2000 image is not read",
            given=f"{samples} samples, unlike or subsampled",
            todo="convert it to one without subsampling",
        )
    tiles = -(-(wide - tile_x) // max(tile_w, 1)) * -(-(high - tile_y) // max(tile_h, 1))
    style = data.find(b"\xff\x52", 42, 4096)
    mixed = samples == 3 and style >= 0 and data[style + 8 : style + 9] == b"\x01"
    return Stream(high - top, wide - left, samples, (parts[0] & 0x7F) + 1, "RGB" if mixed else "", tiles)


# -- run lengths and deflate -----------------------------------------------------------------------------


@checked
def run_lengths(data: bytes, pixels: int, size: int, samples: int) -> NDArray[np.uint8]:
    """Run-length segments (PS3.5 G) of ``pixels`` with so many ``samples`` of ``size`` bytes each.

    The bytes of a sample come little-endian, colours by plane. Raises :class:`ImageError` for another number of
    segments, and for ones that hold fewer or more pixels; no room is made for more.
    """
    segments, *starts = struct.unpack("<16I", data[:64].ljust(64, b"\0"))
    if len(data) < 64 or segments != samples * size or segments > 15:
        raise ImageError(
            "the coded image contradicts the DICOM header",
            given=f"{segments} run-length segments, {samples * size} needed",
        )
    ends = [*starts[1:segments], len(data)]
    if starts[0] != 64 or any(start >= end for start, end in zip(starts, ends)):
        raise ImageError("the coded image is damaged", given="run-length segments out of order")
    planes = [_run_length(data[start:end], pixels) for start, end in zip(starts, ends)]
    whole = np.stack(planes).reshape(samples, size, pixels)[:, ::-1]  # the high byte comes first
    return np.ascontiguousarray(whole.transpose(0, 2, 1)).reshape(-1)


def _run_length(segment: bytes, size: int) -> NDArray[np.uint8]:
    import imagecodecs

    room = bytearray(size + PADDING)
    try:
        plain = np.frombuffer(imagecodecs.packbits_decode(segment, out=room), np.uint8)
    except (RuntimeError, ValueError) as error:
        raise ImageError(
            "the run lengths are cut off or go beyond the image", given=f"{size:,} pixels"
        ) from error
    if len(plain) < size:
        raise _cut(segment)
    return plain[:size]


@checked
def inflate(data: bytes, size: int) -> NDArray[np.uint8]:
    """A deflated frame (PS3.5 A.4.13) of ``size`` bytes. Raises :class:`ImageError` for more or fewer."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(data, size + 2)
    except zlib.error as error:
        raise ImageError("the coded image is damaged", given=_short(error)) from error
    if not inflater.eof or not size <= len(plain) <= size + 1:
        raise ImageError("the size of the image and its bytes disagree", given=f"{size:,} bytes needed")
    return np.frombuffer(plain[:size], np.uint8)


def _short(error: BaseException) -> str:
    text = (str(error) or type(error).__name__).splitlines()[0][:120]
    return "".join(letter if letter.isprintable() else "?" for letter in text)

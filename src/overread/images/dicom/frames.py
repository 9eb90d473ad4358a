"""The stored samples of DICOM frames, one by one: from plain bytes here, from coded ones with a codec.

PS3.5 chapter 8 and annex D: bits allocated, bits stored, high bit, sign, byte order, one bit per pixel, planes and
subsampled colour. What lies outside the stored bits is masked away.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.dicom.elements import Parsed, text
from overread.images.formats import jpeg, jpeg2000
from overread.images.image import short

GREY = ("MONOCHROME1", "MONOCHROME2")
YBR = ("YBR_FULL", "YBR_FULL_422")
COLOUR = ("RGB", *YBR, "YBR_ICT", "YBR_RCT")
#: Photometric interpretations of the standard that are not read.
_KNOWN = ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB")
_MANY = ("PALETTE COLOR", *GREY, *COLOUR)


@dataclass(frozen=True)
class Layout:
    """How the samples lie (PS3.3 C.7.6.3): sizes, bits, sign, ``number`` (int, float32 or float64), photometric."""

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    planar: bool
    photometric: str
    number: str

    @property
    def size(self) -> str:
        """Frames, rows and columns in words."""
        return f"{self.frames} x {self.rows} x {self.columns} pixels"

    @property
    def channels(self) -> int:
        """The samples of a pixel that the photometric interpretation asks for."""
        return 3 if self.photometric in COLOUR else 1


@dataclass(frozen=True, eq=False)
class Frame:
    """Stored samples of a frame, (H, W) or (H, W, 3), the ``bits`` of a sample, and what colour they are in.

    ``beyond``: which samples (of the same shape) have bits set outside of the stored ones, None where none has.
    """

    pixels: NDArray[Any]
    bits: int
    photometric: str
    beyond: NDArray[np.bool_] | None = None


@checked
def layout(parsed: Parsed, check: Callable[..., None], *, one: bool = False) -> Layout:
    """The layout of the pixels, asked of ``check(height, width, frames, each=bytes)`` and held against the bytes
    present.

    ``one``: only one frame will be decoded, so that only one is checked; of colour it never is more. Raises
    :class:`ImageError` for what is missing, out of range, or more than the bytes can hold.
    """
    photometric = text(parsed.head, "PhotometricInterpretation")
    bits = {"float32": 32, "float64": 64}.get(parsed.samples, 0)
    allocated = _number(parsed, "BitsAllocated", bits or None)
    stored = bits or _number(parsed, "BitsStored", allocated)
    made = Layout(
        rows=_number(parsed, "Rows"),
        columns=_number(parsed, "Columns"),
        frames=_number(parsed, "NumberOfFrames", 1),
        samples=_number(parsed, "SamplesPerPixel", 3 if photometric in COLOUR else 1),
        allocated=allocated,
        stored=stored,
        high=max(bits - 1 if bits else _number(parsed, "HighBit", stored - 1), stored - 1),
        signed=_number(parsed, "PixelRepresentation", 0) == 1,
        planar=_number(parsed, "PlanarConfiguration", 0) == 1,
        photometric=photometric,
        number=parsed.samples,
    )
    _valid(made)
    frames = 1 if one or made.photometric not in GREY else made.frames
    check(made.rows, made.columns, frames, each=2 * max(made.allocated // 8, 1) * made.samples + 2)
    _present(parsed, made)
    return made


def _number(parsed: Parsed, name: str, otherwise: int | None = None) -> int:
    """A whole number of the head; ``otherwise`` where it is absent or empty."""
    try:
        value = parsed.head.get(name)
        value = otherwise if value in (None, "") else value
        if value is None:
            raise ImageError("the DICOM file holds no image", given=f"without {name}")
        return int(value)  # type: ignore[call-overload]
    except (ValueError, TypeError, struct.error, OverflowError, NotImplementedError) as error:
        raise ImageError("the DICOM header is not valid", given=f"{name} is not a whole number") from error


def _valid(made: Layout) -> None:
    if made.photometric not in _MANY:
        given = made.photometric if made.photometric in _KNOWN else "an unknown photometric interpretation"
        raise ImageError("this kind of DICOM image is not read", given=given, todo="convert it to RGB or MONOCHROME2")
    sane = 0 < made.rows < 2**16 and 0 < made.columns < 2**16 and made.frames > 0
    if not sane or made.allocated not in (1, 8, 16, 32, 64) or not 0 < made.stored <= made.high + 1 <= made.allocated:
        given = f"{made.size}, {made.stored} of {made.allocated} bits, high bit {made.high}"
        raise ImageError("the DICOM header is not valid", given=given)
    if made.samples != made.channels:
        raise ImageError("the DICOM header contradicts itself", given=f"{made.samples} samples of {made.photometric}")


def _present(parsed: Parsed, made: Layout) -> None:
    """Refuse fewer bytes than declared, and a whole frame more: rows, columns or frames would be wrong."""
    if parsed.native is None:
        return
    have, one = len(parsed.native), _frame_bits(parsed, made)
    more = have * 8 - one * made.frames
    if more < 0 or (more >= one and more > 8):  # a byte to make an even number is always there
        given = f"{made.size} of {made.samples} x {made.allocated} bits in {have:,} bytes"
        raise ImageError("the size of the image and its bytes disagree", given=given)


def _frame_bits(parsed: Parsed, made: Layout) -> int:
    """Bits of a plain frame; every second pixel has colour in YBR_FULL_422, unless all of it is there."""
    whole = made.rows * made.columns * made.samples * made.allocated
    full = len(parsed.native or b"") * 8 >= whole * made.frames
    return whole if made.photometric != "YBR_FULL_422" or full else whole * 2 // 3


@checked
def decode_frame(parsed: Parsed, made: Layout, index: int) -> Frame:
    """The stored samples of one frame, counted from 0.

    The codestream has the last word on colour: YBR_ICT and YBR_RCT come as RGB. Raises :class:`ImageError`.
    """
    if not 0 <= index < made.frames:
        raise ImageError("there is no such frame", given=f"frame {index} of {made.frames}", todo="count from 0")
    if parsed.native is not None:
        pixels, beyond = _plain(parsed, made, index)
        return Frame(pixels, made.stored, made.photometric, beyond)
    coded = encoded(parsed, made.frames, index)
    if parsed.syntax in (RLE, DEFLATED_FRAMES):
        pixels, beyond = _unpacked(parsed.syntax, coded, made)
        return Frame(pixels, made.stored, made.photometric, beyond)
    raw, bits, photometric = decode(parsed.syntax, coded, made)
    return Frame(interpret(raw, bits, bits - 1, made.signed), bits, photometric)


@checked
def encoded(parsed: Parsed, frames: int, index: int) -> bytes:
    """The codestream of one frame, its fragments joined (PS3.5 A.4).

    One fragment for each frame needs no table; otherwise the offset table says where frames begin; otherwise each
    ends with an end mark. Raises :class:`ImageError` where fragments and frames do not fit.
    """
    table, parts = parsed.fragments[:1], parsed.fragments[1:]
    if len(parts) == frames:
        return bytes(parts[index])
    if frames == 1 and parts:
        return b"".join(parts)
    starts = _offsets(b"".join(table), parts) or _marks(parts)
    if len(starts) != frames:
        raise ImageError(
            "the number of frames and the coded pixels disagree", given=f"{frames} frames in {len(parts)} parts"
        )
    return b"".join(parts[starts[index] : [*starts, len(parts)][index + 1]])


def _offsets(table: bytes, parts: tuple[memoryview, ...]) -> list[int]:
    """The first fragment of each frame by the basic offset table; empty where it fits no fragments."""
    at, places = 0, {}
    for number, part in enumerate(parts):
        places[at] = number
        at += 8 + len(part)
    starts = [places.get(offset, -1) for (offset,) in struct.iter_unpack("<I", table[: len(table) // 4 * 4])]
    return starts if starts == sorted(set(starts)) and starts[:1] == [0] else []


def _marks(parts: tuple[memoryview, ...]) -> list[int]:
    """The first fragment of each frame where each frame ends with an end-of-image mark."""
    ends = [number for number, part in enumerate(parts) if b"\xff\xd9" in bytes(part[-10:])]
    return [0, *(number + 1 for number in ends if number + 1 < len(parts))]


#: Samples, and which of them have bits set outside of the stored ones.
_Samples = tuple[NDArray[Any], NDArray[np.bool_] | None]


# -- plain samples ---------------------------------------------------------------------------------------


def _plain(parsed: Parsed, made: Layout, index: int) -> _Samples:
    assert parsed.native is not None
    bits = _frame_bits(parsed, made)
    subsampled = bits < made.rows * made.columns * made.samples * made.allocated
    first = index * bits // 8
    swapped = not parsed.little and parsed.wide and made.allocated <= 8  # words of two small samples
    data = np.frombuffer(parsed.native, np.uint8)
    if swapped:
        first -= first % 2
    data = data[first : (index * bits + bits + 7) // 8 + swapped]
    data = data[: len(data) // 2 * 2].reshape(-1, 2)[:, ::-1].reshape(-1) if swapped else data
    return _shaped(data, made, index * bits - first * 8, little=parsed.little, subsampled=subsampled)


def _shaped(data: NDArray[np.uint8], made: Layout, skip: int, *, little: bool, subsampled: bool) -> _Samples:
    """Samples from bytes: ``skip`` bits, then pixels as the layout says."""
    count = made.rows * made.columns * made.samples
    if made.allocated == 1:
        return np.unpackbits(data, bitorder="little")[skip : skip + count].reshape(made.rows, made.columns), None
    size, kind = made.allocated // 8, "u" if made.number == "int" else "f"
    count = count * 2 // 3 if subsampled else count
    raw = data[skip // 8 : skip // 8 + count * size].view(f"{'<' if little else '>'}{kind}{size}")
    raw = raw.astype(raw.dtype.newbyteorder("="))
    if made.number != "int":
        return _in_place(raw, made, subsampled), None
    outside = beyond(raw, made.stored, made.high, made.signed)
    within = interpret(raw, made.stored, made.high, made.signed)
    return _in_place(within, made, subsampled), None if outside is None else _in_place(outside, made, subsampled)


def _in_place(raw: NDArray[Any], made: Layout, subsampled: bool) -> NDArray[Any]:
    """Samples in a row as (H, W) or (H, W, 3)."""
    if subsampled:
        return _spread(raw, made)
    if made.samples == 1:
        return raw.reshape(made.rows, made.columns)
    if made.planar:
        return np.moveaxis(raw.reshape(made.samples, made.rows, made.columns), 0, -1)
    return raw.reshape(made.rows, made.columns, made.samples)


def _spread(raw: NDArray[Any], made: Layout) -> NDArray[Any]:
    """YBR_FULL_422, two luminances and one pair of colours at a time, to three samples per pixel."""
    if made.columns % 2:
        raise ImageError("subsampled colour needs an even width", given=f"{made.columns} columns")
    quads = raw.reshape(made.rows, made.columns // 2, 4)
    whole = np.empty((made.rows, made.columns, 3), raw.dtype)
    whole[:, 0::2, 0], whole[:, 1::2, 0] = quads[..., 0], quads[..., 1]
    whole[:, :, 1:] = np.repeat(quads[..., 2:], 2, axis=1)
    return whole


@checked
def beyond(raw: NDArray[Any], stored: int, high: int, signed: bool) -> NDArray[np.bool_] | None:
    """Which unsigned words have bits set outside of the ``stored`` ones up to ``high``; None where none has.

    A sign that goes on to the end of the word is none.

    >>> beyond(np.array([0x0FFF, 0x1000], np.uint16), 12, 11, False).tolist()
    [False, True]
    """
    bits = raw.dtype.itemsize * 8
    if stored == bits:
        return None
    kind = raw.dtype.type
    outside = raw & kind(~(2**stored - 1 << (high + 1 - stored)) & 2**bits - 1)
    found = outside != 0
    if signed and found.any():
        found &= (outside != kind(2**bits - 2 ** (high + 1))) | (raw & kind(2**high) == 0)
    return found if found.any() else None


@checked
def interpret(raw: NDArray[Any], stored: int, high: int, signed: bool) -> NDArray[Any]:
    """Unsigned words to values: ``stored`` bits up to bit ``high``, two's complement if ``signed`` (PS3.5 8.1.1).

    >>> interpret(np.array([0xF7FF, 0x0800], np.uint16), 12, 11, True).tolist()
    [2047, -2048]
    """
    bits = raw.dtype.itemsize * 8
    if not signed:
        return raw if stored == bits else (raw >> (high + 1 - stored)) & raw.dtype.type(2**stored - 1)
    values = (raw << raw.dtype.type(bits - 1 - high)).view(f"i{bits // 8}")
    return values >> (bits - stored)


def _unpacked(syntax: str, coded: bytes, made: Layout) -> _Samples:
    """Samples that were packed without loss: run lengths, which come by plane, or deflated."""
    pixels = made.rows * made.columns
    if syntax == DEFLATED_FRAMES:
        data = inflate(coded, (pixels * made.samples * made.allocated + 7) // 8)
        return _shaped(data, made, 0, little=True, subsampled=False)
    if made.allocated == 1:
        data = run_lengths(coded, (pixels + 7) // 8, 1, 1)
    else:
        data = run_lengths(coded, pixels, made.allocated // 8, made.samples)
    return _shaped(data, replace(made, planar=True), 0, little=True, subsampled=False)


# -- coded DICOM frames to samples: headers first, then one fixed decoder for each code, all from imagecodecs -----


RLE, DEFLATED_FRAMES = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"
_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70))
_PROCESSES = (jpeg.BASELINE, jpeg.EXTENDED, jpeg.PROGRESSIVE, jpeg.LOSSLESS, jpeg.JPEG_LS)
_JPEG_LS = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (80, 81))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
#: Tiles of a JPEG 2000 image, each of which costs the decoder some kilobytes.
TILES = 4096
#: Run-length bytes beyond a frame that are taken for padding.
PADDING = 256
#: Put before the end mark of a JPEG: a decoder reaches these bytes only where its own have run out.
_FILLER = bytes((0x5A, 0x13, 0xC7, 0x2E, 0x91, 0x68, 0xF4, 0x0D)) * 8


@checked
def decode(syntax: str, data: bytes, made: Layout) -> tuple[NDArray[Any], int, str]:
    """Unsigned samples (H, W) or (H, W, 3), their number of bits, and the photometric interpretation they are in.

    How colour is coded the codestream says; where it does not, the tags are believed. Raises :class:`ImageError` for a
    transfer syntax without a decoder, and for a codestream that contradicts the tags, is cut off or damaged.
    """
    readers = dict.fromkeys(_JPEG, _jpeg) | dict.fromkeys(_JPEG_LS, _jpeg_ls) | dict.fromkeys(_JPEG_2000, _jpeg_2000)
    if syntax not in readers:
        given = f"transfer syntax {syntax[:64]}"
        todo = "convert it to an uncompressed one"
        raise ImageError("there is no decoder for this DICOM file", given=given, todo=todo)
    pixels, header = readers[syntax](data, made)
    if pixels.shape != (made.rows, made.columns, 3)[: 2 + (made.samples == 3)]:
        raise _damaged(f"decoded to {' x '.join(map(str, pixels.shape))}")
    return pixels, header.bits, header.coding or made.photometric


def _agree(header: jpeg.JpegHeader | jpeg2000.CodestreamHeader, made: Layout) -> None:
    sizes = (header.height, header.width, header.samples)
    if sizes != (made.rows, made.columns, made.samples) or not 1 <= header.bits <= max(made.allocated, 8):
        coded = f"{header.height} x {header.width} x {header.samples} samples of {header.bits} bits"
        tagged = f"{made.rows} x {made.columns} x {made.samples} of {made.allocated}"
        raise ImageError("the coded image contradicts the DICOM header", given=f"{coded}, header {tagged}")


def _cut(data: bytes) -> ImageError:
    return ImageError("the coded image is cut off", given=f"{len(data):,} bytes")


def _damaged(given: str) -> ImageError:
    return ImageError("the coded image is damaged", given=given)


def _decoded(codec: str, data: bytes, **options: str) -> NDArray[Any]:
    """What a codec gives; what it raises on a damaged codestream becomes our error."""
    import imagecodecs

    try:
        return np.asarray(getattr(imagecodecs, codec)(data, **options))
    except (RuntimeError, ValueError, MemoryError) as error:
        raise _damaged(short(error)) from error


def _jpeg(data: bytes, made: Layout) -> tuple[NDArray[Any], jpeg.JpegHeader]:
    """T.81. libjpeg fills what is missing without a word, so the end is tried with other bytes behind it."""
    header = _jpeg_header(data, made)
    # the same colour space on both sides: samples as they are coded
    options = {} if header.samples == 1 else {"colorspace": "YCBCR", "outcolorspace": "YCBCR"}
    end = data.rfind(jpeg.END)
    pixels = _decoded("jpeg8_decode", data, **options)
    if not np.array_equal(pixels, _decoded("jpeg8_decode", data[:end] + _FILLER + data[end:], **options)):
        raise _cut(data)
    return pixels, header


def _jpeg_ls(data: bytes, made: Layout) -> tuple[NDArray[Any], jpeg.JpegHeader]:
    """T.87. CharLS itself refuses what is cut off, though without an end mark only after 2**31 steps."""
    header = _jpeg_header(data, made)
    return _decoded("jpegls_decode", data), header


def _jpeg_header(data: bytes, made: Layout) -> jpeg.JpegHeader:
    header = jpeg.jpeg_stream(data)
    if header.process not in _PROCESSES:
        raise _damaged("no header of a JPEG that is read")
    _agree(header, made)
    jpeg.require_few_scans(data, header)
    if data.rfind(jpeg.END) < header.scan:
        raise _cut(data)
    return header


def _jpeg_2000(data: bytes, made: Layout) -> tuple[NDArray[Any], jpeg2000.CodestreamHeader]:
    """T.800 and T.814. OpenJPEG runs strictly: missing data are an error."""
    at = max(data.find(b"\xff\x4f\xff\x51"), 0)  # behind the boxes of a JP2 file, where there are any
    header = jpeg2000.codestream_header(data[at:])
    _agree(header, made)
    if header.tiles > TILES:
        raise ImageError("the coded image has too many tiles", given=f"{header.tiles:,}")
    if data.rfind(jpeg.END) < at:
        raise _cut(data)
    jpeg2000.require_no_hole(data[at:], header, len(data) - at)
    pixels = _decoded("jpeg2k_decode", data[at:])
    kind = np.dtype(f"u{pixels.dtype.itemsize}").type
    return pixels.view(kind) & kind(2**header.bits - 1), header


# -- run lengths and deflate -----------------------------------------------------------------------------


@checked
def run_lengths(data: bytes, pixels: int, size: int, samples: int) -> NDArray[np.uint8]:
    """Run-length segments (PS3.5 G) of ``pixels`` with so many ``samples`` of ``size`` bytes each.

    The bytes of a sample come little-endian, colours by plane. Raises :class:`ImageError` for another number of
    segments, and for ones that hold fewer or more pixels; no room is made for more.
    """
    segments, *starts = struct.unpack("<16I", data[:64].ljust(64, b"\0"))
    if len(data) < 64 or segments != samples * size or segments > 15:
        given = f"{segments} run-length segments, {samples * size} needed"
        raise ImageError("the coded image contradicts the DICOM header", given=given)
    ends = [*starts[1:segments], len(data)]
    if starts[0] != 64 or any(start >= end for start, end in zip(starts, ends)):
        raise _damaged("run-length segments out of order")
    planes = [_run_length(data[start:end], pixels) for start, end in zip(starts, ends)]
    whole = np.stack(planes).reshape(samples, size, pixels)[:, ::-1]  # the high byte comes first
    return np.ascontiguousarray(whole.transpose(0, 2, 1)).reshape(-1)


def _run_length(segment: bytes, size: int) -> NDArray[np.uint8]:
    import imagecodecs

    room = bytearray(size + PADDING)
    try:
        plain = np.frombuffer(imagecodecs.packbits_decode(segment, out=room), np.uint8)
    except (RuntimeError, ValueError) as error:
        raise ImageError("the run lengths are cut off or go beyond the image", given=f"{size:,} pixels") from error
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
        raise _damaged(short(error)) from error
    if not inflater.eof or not size <= len(plain) <= size + 1:
        raise ImageError("the size of the image and its bytes disagree", given=f"{size:,} bytes needed")
    return np.frombuffer(plain[:size], np.uint8)

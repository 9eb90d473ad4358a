"""The stored samples of DICOM frames, one by one: from plain bytes here, from coded ones with a codec.

PS3.5 chapter 8 and annex D: bits allocated, bits stored, high bit, sign, byte order, one bit per pixel, planes and
subsampled colour. What lies outside the stored bits is masked away.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.errors import ImageError, checked
from overread.images.dicom import codecs as dicom_codecs
from overread.images.dicom.parse import Parsed, text

GREY = ("MONOCHROME1", "MONOCHROME2")
YBR = ("YBR_FULL", "YBR_FULL_422")
COLOUR = ("RGB", *YBR, "YBR_ICT", "YBR_RCT")
_MANY = ("PALETTE COLOR", *GREY, *COLOUR)


@dataclass(frozen=True)
class Layout:
    """How the samples lie (PS3.3 C.7.6.3): sizes, bits, sign, ``kind`` (int, float32, float64), photometric."""

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
    kind: str


@dataclass(frozen=True, eq=False)
class Frame:
    """Stored samples of a frame, (H, W) or (H, W, 3), the ``bits`` of a sample, and what colour they are in."""

    pixels: NDArray[Any]
    bits: int
    photometric: str


@checked
def layout(parsed: Parsed, check: Callable[[int, int, int], None], *, one: bool = False) -> Layout:
    """The layout of the pixels, asked of ``check(height, width, frames)`` and held against the bytes present.

    ``one``: only one frame will be decoded, so that only one is checked; of colour it never is more. Raises :class:`ImageError` for what is missing, out of range, or more than the bytes can hold.
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
        kind=parsed.samples,
    )
    _valid(made)
    check(made.rows, made.columns, 1 if one or made.photometric not in GREY else made.frames)
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
        known = made.photometric in ("YBR_PARTIAL_422", "YBR_PARTIAL_420", "HSV", "ARGB", "CMYK", "XYB")
        raise ImageError(
            "this kind of DICOM image is not read",
            given=made.photometric if known else "an unknown photometric interpretation",
            todo="convert it to RGB or MONOCHROME2",
        )
    sane = 0 < made.rows < 2**16 and 0 < made.columns < 2**16 and made.frames > 0
    if (
        not sane
        or made.allocated not in (1, 8, 16, 32, 64)
        or not 0 < made.stored <= made.high + 1 <= made.allocated
    ):
        raise ImageError(
            "the DICOM header is not valid",
            given=f"{made.frames} x {made.rows} x {made.columns} pixels, {made.stored} of {made.allocated} bits, "
            f"high bit {made.high}",
        )
    if made.samples != (3 if made.photometric in COLOUR else 1):
        raise ImageError(
            "the DICOM header contradicts itself", given=f"{made.samples} samples of {made.photometric}"
        )


def _present(parsed: Parsed, made: Layout) -> None:
    """Refuse fewer bytes than declared, and a whole frame more: rows, columns or frames would be wrong."""
    if parsed.native is None:
        return
    have, one = len(parsed.native), _frame_bits(parsed, made)
    more = have * 8 - one * made.frames
    if more < 0 or (more >= one and more > 8):  # a byte to make an even number is always there
        raise ImageError(
            "the size of the image and its bytes disagree",
            given=f"{made.frames} x {made.rows} x {made.columns} pixels of {made.samples} x {made.allocated} bits "
            f"in {have:,} bytes",
        )


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
        raise ImageError(
            "there is no such frame", given=f"frame {index} of {made.frames}", todo="count from 0"
        )
    if parsed.native is not None:
        return Frame(_plain(parsed, made, index), made.stored, made.photometric)
    coded = encoded(parsed, made.frames, index)
    if parsed.syntax in (dicom_codecs.RLE, dicom_codecs.DEFLATED_FRAMES):
        return Frame(_unpacked(parsed.syntax, coded, made), made.stored, made.photometric)
    wanted = dicom_codecs.Wanted(made.rows, made.columns, made.samples, made.allocated, made.photometric)
    raw, bits, photometric = dicom_codecs.decode(parsed.syntax, coded, wanted)
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
            "the number of frames and the coded pixels disagree",
            given=f"{frames} frames in {len(parts)} parts",
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


# -- plain samples ---------------------------------------------------------------------------------------


def _plain(parsed: Parsed, made: Layout, index: int) -> NDArray[Any]:
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


def _shaped(
    data: NDArray[np.uint8], made: Layout, skip: int, *, little: bool, subsampled: bool
) -> NDArray[Any]:
    """Samples from bytes: ``skip`` bits, then pixels as the layout says."""
    count = made.rows * made.columns * made.samples
    if made.allocated == 1:
        return np.unpackbits(data, bitorder="little")[skip : skip + count].reshape(made.rows, made.columns)
    size, kind = made.allocated // 8, "u" if made.kind == "int" else "f"
    count = count * 2 // 3 if subsampled else count
    raw = data[skip // 8 : skip // 8 + count * size].view(f"{'<' if little else '>'}{kind}{size}")
    raw = raw.astype(raw.dtype.newbyteorder("="))
    if made.kind == "int":
        raw = interpret(raw, made.stored, made.high, made.signed)
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


def _unpacked(syntax: str, coded: bytes, made: Layout) -> NDArray[Any]:
    """Samples that were packed without loss: run lengths, which come by plane, or deflated."""
    pixels = made.rows * made.columns
    if syntax == dicom_codecs.DEFLATED_FRAMES:
        data = dicom_codecs.inflate(coded, (pixels * made.samples * made.allocated + 7) // 8)
        return _shaped(data, made, 0, little=True, subsampled=False)
    if made.allocated == 1:
        data = dicom_codecs.run_lengths(coded, (pixels + 7) // 8, 1, 1)
    else:
        data = dicom_codecs.run_lengths(coded, pixels, made.allocated // 8, made.samples)
    return _shaped(data, replace(made, planar=True), 0, little=True, subsampled=False)

"""JPEG 2000, as a file (.jp2: boxes) or bare (.j2k: a codestream): ISO/IEC 15444-1, Annexes A and I.

OpenJPEG fills in silently what is missing, and allocates by what headers say. So the headers are read here first:
size, tiles and packets against limits, then every tile-part to the end marker, before a decoder runs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.conversions import PIECES, Pixels, ink_to_rgb, onto_black, stretched, with_channels

#: Packets that a codestream may declare: the decoder keeps a record of each.
PACKETS = 10_000_000
_SUPER = b"jp2h"
_ZEROS = 64  # in a row, beside those of empty packets
_CMYK, _OPACITY, _PREMULTIPLIED = 12, 1, 2


@dataclass(frozen=True)
class CodestreamHeader:
    """What a codestream says (SIZ and COD, A.5.1 and A.6.1): size, ``samples`` of so many ``bits``, ``tiles``.

    ``coding``: ``RGB`` where the multiple component transformation is used, which decoders undo. ``start`` of the
    codestream and ``style``, where its coding style is; 0 if nowhere.
    """

    height: int
    width: int
    samples: int
    bits: int
    signed: bool
    tiles: int
    tile: tuple[int, int]
    coding: str
    start: int
    style: int


@checked
def decode_jpeg2000(data: bytes, check: Callable[..., None]) -> Pixels:
    """Pixels (H, W, C) of a JPEG 2000 image, and notes. ``check(height, width)`` is asked before decoding.

    Raises :class:`ImageError` for what is cut off, damaged, or of a kind that is not read: signed samples,
    samples of several sizes, more than 16 bits.
    """
    import imagecodecs

    boxes = _places(data)
    header = _sound(data, boxes, check)
    pixels = with_channels(imagecodecs.jpeg2k_decode(data))
    if pixels.shape[:2] != (header.height, header.width) or pixels.dtype not in (np.uint8, np.uint16):
        raise ImageError("this kind of JPEG 2000 is not read", given=f"{pixels.dtype} {pixels.shape}")
    pixels = stretched(pixels, header.bits) if b"pclr" not in boxes else pixels
    return _colours(pixels, data, boxes)


@checked
def sound(data: bytes) -> CodestreamHeader:
    """The header of a JPEG 2000 image that is whole and asks for no absurd work. Raises :class:`ImageError`."""
    return _sound(data, _places(data))


def _sound(
    data: bytes, boxes: dict[bytes, tuple[int, int]], check: Callable[..., None] = lambda *sizes, **each: None
) -> CodestreamHeader:
    start, stop = boxes[b"jp2c"]
    header = codestream_header(data, start)
    if header.signed or header.samples > 4 or header.bits > 16:
        raise _unread(f"{header.samples} samples, {header.bits} bits, signed or of several sizes")
    check(header.height, header.width, each=header.samples * (4 + 2 * (1 if header.bits <= 8 else 2)))
    _packets(data, header)
    _require_whole(data, header, stop)
    require_no_hole(data, header, stop)
    return header


def _unread(given: str) -> ImageError:
    return ImageError("this kind of JPEG 2000 is not read", given=given, todo="convert it to PNG or TIFF")


def _places(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Where each box is; ``jp2c`` is the codestream."""
    if data[:4] == b"\xff\x4f\xff\x51":
        return {b"jp2c": (0, len(data))}
    boxes = dict(_boxes(data, 0, len(data)))
    if b"jp2c" not in boxes:
        raise ImageError("the JPEG 2000 file holds no image")
    return boxes


def _boxes(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Name and place of each box (I.4), and of those in the header box; an image that is cut off is an error."""
    for _ in range(PIECES):
        if at + 8 > stop:
            return
        length, name, head = *struct.unpack_from(">I4s", data, at), 8
        if length == 1:
            length, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        end = stop if length == 0 else at + length
        if end > stop or end < at + head:
            raise ImageError("the JPEG 2000 file is cut off", given=f"{len(data):,} bytes, {end:,} declared")
        if name == _SUPER:
            yield from _boxes(data, at + head, end)
        yield name, (at + head, end)
        if name == b"jp2c":
            return
        at = end


@checked
def codestream_header(data: bytes, at: int = 0) -> CodestreamHeader:
    """The header of the codestream at ``at``. Raises :class:`ImageError`, also for samples that are not alike."""
    if data[at : at + 4] != b"\xff\x4f\xff\x51" or len(data) < at + 42:
        raise ImageError("the JPEG 2000 codestream has no header")
    length, _, *places, samples = struct.unpack_from(">HH8IH", data, at + 4)
    right, bottom, left, top, *tile, tile_left, tile_top = places
    width, height = right - left, bottom - top
    sizes = data[at + 42 : at + 42 + 3 * samples]
    if min(width, height, *tile) < 1 or tile_left > left or tile_top > top or length != 38 + 3 * samples:
        raise ImageError("the JPEG 2000 header is not valid", given=f"{width} x {height}, tiles of {tile}")
    if not sizes or sizes != bytes((sizes[0], 1, 1)) * samples:
        raise _unread(f"{samples} samples, unlike or subsampled")
    tiles = -(-(right - tile_left) // tile[0]) * -(-(bottom - tile_top) // tile[1])
    style = next((place for marker, place in _segments(data, at) if marker == 0xFF52), 0)
    coding = "RGB" if style and samples == 3 and data[style + 8] == 1 else ""
    bits, signed = (sizes[0] & 0x7F) + 1, sizes[0] > 0x7F
    return CodestreamHeader(height, width, samples, bits, signed, tiles, (tile[1], tile[0]), coding, at, style)


def _segments(data: bytes, start: int) -> Iterator[tuple[int, int]]:
    """Marker and place of each segment of the main header, up to the first tile-part."""
    at = start + 2
    for _ in range(PIECES):
        if at + 4 > len(data):
            break
        marker, length = struct.unpack_from(">HH", data, at)
        yield marker, at
        if marker == 0xFF90:
            return
        at += 2 + length
    raise ImageError("the JPEG 2000 codestream is cut off", given=f"{len(data):,} bytes without an image")


def _packets(data: bytes, header: CodestreamHeader) -> int:
    """Tiles × components × layers × precincts (B.6, B.10). Raises :class:`ImageError` for more than :data:`PACKETS`."""
    at = header.style
    if not at:
        raise ImageError("the JPEG 2000 codestream has no coding style")
    style, layers, levels = data[at + 4], int.from_bytes(data[at + 6 : at + 8], "big"), data[at + 9]
    if not layers or levels > 32:
        raise ImageError("the JPEG 2000 header is not valid", given=f"{layers} layers, {levels} levels")
    sizes = data[at + 14 : at + 15 + levels] if style & 1 else b"\xff" * (levels + 1)
    height, width = min(header.tile[0], header.height), min(header.tile[1], header.width)
    precincts = 0
    for level, size in enumerate(sizes):  # from the smallest resolution up
        shrunk = levels - level
        precincts += prod(-(-n >> shrunk + p) for n, p in ((height, size >> 4), (width, size & 15)))
    packets = header.tiles * header.samples * layers * max(precincts, 1)
    if header.tiles > 65_535 or packets > PACKETS:
        given = f"{header.tiles:,} tiles, {packets:,} packets"
        raise ImageError("the JPEG 2000 declares more tiles or packets than is allowed", given=given)
    return packets


@checked
def require_no_hole(data: bytes, header: CodestreamHeader, stop: int) -> None:
    """Raise :class:`ImageError` where the codestream, which ends at ``stop``, is overwritten by zeros.

    To the decoder they are empty packets, each of one byte that is zero (B.10.3), and a tile has so many; within
    code-blocks the arithmetic coder writes no such run (Annex C), though coders of plain bits may: the bypass (D.6) and
    that of part 15, which a CAP segment announces.
    """
    plain = data[header.style + 12] & 1 or any(marker == 0xFF50 for marker, _ in _segments(data, header.start))
    packets = _packets(data, header) // header.tiles
    if not plain and data.find(bytes(packets + _ZEROS), header.start, stop) >= 0:
        raise ImageError("the JPEG 2000 codestream is damaged", given="a part of it is overwritten by zeros")


def _require_whole(data: bytes, header: CodestreamHeader, stop: int) -> None:
    """Every tile has a part, and the parts end at the end marker (A.4.2, A.4.4)."""
    *_, (_, at) = _segments(data, header.start)
    seen = set()
    for _ in range(PIECES):
        if data[at : at + 2] != b"\xff\x90" or at + 12 > stop:
            break
        tile, length = struct.unpack_from(">HI", data, at + 4)
        seen.add(tile)
        end = data.rfind(b"\xff\xd9", at, stop) if length == 0 else at + length
        if end < at + 14 or end > stop:
            break
        at = end
    if data[at : at + 2] != b"\xff\xd9" or at + 2 > stop or len(seen) != header.tiles:
        raise ImageError("the JPEG 2000 codestream is cut off or damaged", given=f"{len(seen)} of {header.tiles} tiles")


def _colours(pixels: NDArray[Any], data: bytes, boxes: dict[bytes, tuple[int, int]]) -> Pixels:
    """One or three channels: alpha by its definition (cdef, I.5.3.6), ink by the colour space (colr, I.5.3.3)."""
    notes = ("palette converted to RGB",) if b"pclr" in boxes and pixels.shape[-1] == 3 else ()
    if pixels.shape[-1] in (1, 3):
        return pixels, notes
    colr = data[slice(*boxes.get(b"colr", (0, 0)))]
    if pixels.shape[-1] == 4 and colr[:1] == b"\1" and colr[3:7] == _CMYK.to_bytes(4, "big"):
        return ink_to_rgb(pixels), ("CMYK converted to RGB",)
    cdef = data[slice(*boxes.get(b"cdef", (0, 0)))]
    kinds = {struct.unpack_from(">HHH", cdef, at)[1] for at in range(2, len(cdef) - 5, 6)}
    if _OPACITY in kinds:
        pixels, seen = onto_black(pixels)
        return pixels, ("alpha composited onto black",) if seen else ()
    if _PREMULTIPLIED in kinds:
        return pixels[..., :-1], ("alpha composited onto black",)
    return pixels[..., :-1], ("last channel left out",)

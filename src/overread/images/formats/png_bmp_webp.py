"""PNG, BMP and WebP: photographs of one plane of samples.

PNG: W3C Recommendation "Portable Network Graphics", third edition, §5. WebP: RFC 9649, lossy, lossless, with alpha; of
an animation the first frame. The chunks are walked before the decoder is started, so a header that lies about its size
costs nothing, and a file that was cut off is an error.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.conversions import PIECES, Pixels, by_cv2, exif_orientation, onto_black, upright, with_channels

PNG = b"\x89PNG\r\n\x1a\n"
_WEBP_WORK = 16  # bytes of a pixel: two canvases of the decoder, its picture, and ours
_ZEROS = bytes(16)
_OTHER_ENDS = (b"Z[\\]", b"\xa5\xa4\xa3\xa2", b"\xff\xff\xff\xff")  # an encoder fills up at most two bytes


@dataclass(frozen=True)
class PngHeader:
    """Size, ``samples`` per pixel and ``bits`` as decoded, EXIF ``orientation`` (1 = upright), notes.

    ``payload``: the bytes for the decoder, without text, profiles and further frames. ``transparent``: the one colour
    that is, as decoded.
    """

    height: int
    width: int
    samples: int
    bits: int
    orientation: int
    payload: bytes
    notes: tuple[str, ...] = ()
    transparent: tuple[int, ...] = ()


@checked
def decode_png(data: bytes, check: Callable[..., None]) -> Pixels:
    """Pixels (H, W, C) of a PNG, and notes. ``check(height, width)`` is asked first."""
    header = png_header(data)
    check(header.height, header.width, each=2 * header.samples * header.bits // 8)
    pixels = by_cv2(header.payload, cv2.IMREAD_UNCHANGED)
    notes = header.notes
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels, seen = onto_black(pixels)
        notes += ("alpha composited onto black",) if seen else ()
    if pixels.ndim == 3:
        pixels = pixels[..., :1] if header.samples < 3 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    pixels = with_channels(pixels)
    if header.transparent:
        pixels[(pixels == np.array(header.transparent)).all(-1)] = 0
        notes += ("the transparent colour made black",)
    return upright(pixels, header.orientation, notes)


@checked
def decode_bmp(data: bytes, check: Callable[..., None]) -> Pixels:
    """Pixels (H, W, C) of a BMP without compression, 1, 4, 8, 24 or 32 bits; a palette of greys stays grey."""
    height, width, bits = bmp_header(data)
    check(height, width, each=6)
    pixels = by_cv2(data, cv2.IMREAD_UNCHANGED)
    if pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 2::-1])  # BGR, the fourth byte has no meaning
    if pixels.ndim == 3 and bits < 24 and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    notes = ("palette converted to RGB",) if bits < 24 and pixels.ndim == 3 else ()
    return with_channels(pixels), notes


@checked
def decode_webp(data: bytes, check: Callable[..., None]) -> Pixels:
    """Pixels (H, W, 3) of a WebP, and notes. ``check(height, width)`` is asked before decoding."""
    chunks = list(_webp_chunks(data))
    for width, height in (size for name, at, stop in chunks if (size := _webp_size(name, data[at:stop]))):
        if not width or not height:
            raise ImageError("the WebP header is not valid", given=f"{width} x {height}")
        check(height, width, each=_WEBP_WORK)
    names = [name for name, _, _ in chunks]
    if not {b"VP8 ", b"VP8L", b"ANMF"} & set(names):
        raise ImageError("the WebP holds no image")
    decoded = _webp(data)
    _require_read_to_its_end(data, chunks, decoded)
    pixels, seen = onto_black(decoded)
    frames = names.count(b"ANMF")
    notes: tuple[str, ...] = (f"animated, first of {frames} frames",) if frames > 1 else ()
    notes += ("alpha composited onto black",) if seen else ()
    exif = next((data[at:stop] for name, at, stop in chunks if name == b"EXIF"), b"")
    return upright(pixels, exif_orientation(exif.removeprefix(b"Exif\0\0")), notes)


@checked
def png_header(data: bytes) -> PngHeader:
    """Walk the chunks of a PNG. Raises :class:`ImageError` if it is cut off or has no proper header."""
    chunks, frames, orientation, transparent = [], 1, 1, b""
    for name, start, stop in _chunks(data):
        if name in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS"):
            chunks.append((name, start, stop))
            transparent = data[start + 8 : stop - 4] if name == b"tRNS" else transparent
        elif name == b"acTL" and stop - start >= 16:
            frames = struct.unpack_from(">I", data, start + 8)[0]
        elif name == b"eXIf":
            orientation = exif_orientation(data[start + 8 : stop - 4])
    if not chunks or chunks[0][0] != b"IHDR" or chunks[0][2] - chunks[0][1] != 25:
        raise ImageError("the PNG has no header")
    width, height, bits, kind = struct.unpack_from(">IIBB", data, chunks[0][1] + 8)
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(kind)
    if samples is None or not width or not height:
        raise ImageError("the PNG header is not valid", given=f"{width} x {height}, colour type {kind}")
    notes = (f"animated, first of {frames} frames",) if frames > 1 else ()
    key = _key(transparent, samples, bits) if kind in (0, 2) else ()
    deep, payload = 16 if bits == 16 else 8, _critical(data, chunks, kind)
    return PngHeader(height, width, samples, deep, orientation, payload, notes, key)


def _key(body: bytes, samples: int, bits: int) -> tuple[int, ...]:
    """The transparent grey or colour, stretched as the pixels are (third edition, 11.3.2.1)."""
    if len(body) != 2 * samples:
        return ()
    return tuple(value * (255 // (2**bits - 1)) if bits < 8 else value for value in struct.unpack(f">{samples}H", body))


def _chunks(data: bytes) -> list[tuple[bytes, int, int]]:
    at = len(PNG)
    found: list[tuple[bytes, int, int]] = []
    while at + 12 <= len(data) and len(found) < PIECES:
        length = struct.unpack_from(">I", data, at)[0]
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


@checked
def bmp_header(data: bytes) -> tuple[int, int, int]:
    """Height, width and bits of a pixel of a BMP (BITMAPINFOHEADER and later). Raises :class:`ImageError` if it is cut
    off, compressed or of an older kind.
    """
    if len(data) < 54:
        raise ImageError("the BMP is cut off", given=f"{len(data):,} bytes")
    start, size, width, height, _, bits, packing = struct.unpack_from("<IIiiHHI", data, 10)
    if size not in (40, 52, 56, 108, 124) or bits not in (1, 4, 8, 24, 32) or packing != 0:
        given = f"header {size}, {bits} bits, packing {packing}"
        raise ImageError("this kind of BMP is not read", given=given, todo="convert it to PNG")
    height = abs(height)  # negative: from the top
    if width < 1 or height < 1:
        raise ImageError("the BMP header is not valid", given=f"{width} x {height}")
    end = start + (width * bits + 31) // 32 * 4 * height  # rows are filled up to four bytes
    if start < 14 + size or end > len(data):
        raise ImageError("the BMP is cut off", given=f"{len(data):,} bytes, {end:,} declared")
    return height, width, bits


def _webp(data: bytes) -> NDArray[np.uint8]:
    import imagecodecs

    return np.asarray(imagecodecs.webp_decode(data, hasalpha=True))


def _require_read_to_its_end(data: bytes, chunks: list[tuple[bytes, int, int]], pixels: NDArray[np.uint8]) -> None:
    """Raise :class:`ImageError` for a picture with zeros in place of its coded data.

    To the decoder zeros are good data that mean next to nothing: it is done with the picture before it has read all.
    A flat picture holds such zeros as well, but needs them to the last. So where there are any, the last bytes are
    changed: a whole picture changes with them.
    """
    coded = next(((at, stop) for name, at, stop in _pictures(data, chunks) if name in (b"VP8 ", b"VP8L")), None)
    if coded is None or data.find(_ZEROS, *coded) < 0:
        return
    stop = coded[1]
    others = (data[: stop - len(end)] + end + data[stop:] for end in _OTHER_ENDS)
    if all(_is_same(other, pixels) for other in others):
        raise ImageError("the WebP is damaged", given="a part of it is overwritten by zeros")


def _is_same(data: bytes, pixels: NDArray[np.uint8]) -> bool:
    try:
        return np.array_equal(_webp(data), pixels)
    except RuntimeError:  # so the change was read
        return False


def _pictures(data: bytes, chunks: list[tuple[bytes, int, int]]) -> Iterator[tuple[bytes, int, int]]:
    """The chunks, and those within the first frame of an animation, 16 bytes from where it begins (2.7.1.1)."""
    for name, at, stop in chunks:
        yield name, at, stop
        if name == b"ANMF":
            yield from _chunks_between(data, at + 16, stop)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name and place of each chunk of the file (section 2.3)."""
    stop = 8 + struct.unpack_from("<I", data.ljust(8, b"\0"), 4)[0]
    if stop > len(data):
        raise ImageError("the WebP is cut off", given=f"{len(data):,} bytes, {stop:,} declared")
    yield from _chunks_between(data, 12, stop)


def _chunks_between(data: bytes, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    for _ in range(PIECES):
        if at + 8 > stop:
            return
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > stop:
            raise ImageError("the WebP is cut off", given=f"{stop:,} bytes, {at + 8 + length:,} declared")
        yield name, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _webp_size(name: bytes, body: bytes) -> tuple[int, int] | None:
    """Width and height as a chunk says them: canvas, lossy (RFC 6386, 9.1) and lossless picture, frame."""
    if name == b"VP8X" and len(body) >= 10:
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if name == b"VP8 " and body[3:6] == b"\x9d\x01\x2a" and len(body) >= 10:
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"ANMF" and len(body) >= 16:
        return int.from_bytes(body[6:9], "little") + 1, int.from_bytes(body[9:12], "little") + 1
    return None if name not in (b"VP8X", b"VP8 ", b"VP8L", b"ANMF") else (0, 0)

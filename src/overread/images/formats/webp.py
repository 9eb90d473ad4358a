"""WebP: lossy, lossless, with alpha; of an animation the first frame. RFC 9649.

The chunks are walked first: sizes against the limits, and every chunk complete, before a decoder runs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.formats.conversions import PIECES, exif_orientation, onto_black, upright


@checked
def decode_webp(data: bytes, check: Callable[..., None]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Pixels (H, W, 3) of a WebP, and notes. ``check(height, width)`` is asked before decoding."""
    chunks = list(_chunks(data))
    for width, height in (size for name, at, stop in chunks if (size := _size(name, data[at:stop]))):
        if not width or not height:
            raise ImageError("the WebP header is not valid", given=f"{width} x {height}")
        check(height, width)
    names = [name for name, _, _ in chunks]
    if not {b"VP8 ", b"VP8L", b"ANMF"} & set(names):
        raise ImageError("the WebP holds no image")
    pixels, seen = onto_black(_decoded(data))
    frames = names.count(b"ANMF")
    notes: tuple[str, ...] = (f"animated, first of {frames} frames",) if frames > 1 else ()
    notes += ("alpha composited onto black",) if seen else ()
    exif = next((data[at:stop] for name, at, stop in chunks if name == b"EXIF"), b"")
    return upright(pixels, exif_orientation(exif.removeprefix(b"Exif\0\0")), notes)


def _decoded(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image as Pillow

    try:
        with Pillow.open(BytesIO(data), formats=["WEBP"]) as image:
            return np.asarray(image.convert("RGBA"))
    except Pillow.DecompressionBombError as error:  # a limit of the decoder's own, beside ours
        raise ImageError("the WebP is larger than its decoder allows", todo="convert it to PNG or TIFF") from error


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name and place of each chunk, frames of an animation opened up (sections 2.3 and 2.7.1.1)."""
    stop = 8 + struct.unpack_from("<I", data.ljust(8, b"\0"), 4)[0]
    if stop > len(data):
        raise ImageError("the WebP is cut off", given=f"{len(data):,} bytes, {stop:,} declared")
    at = 12
    for _ in range(PIECES):
        if at + 8 > stop:
            return
        name, length = struct.unpack_from("<4sI", data, at)
        if at + 8 + length > stop:
            raise ImageError("the WebP is cut off", given=f"{stop:,} bytes, {at + 8 + length:,} declared")
        yield name, at + 8, at + 8 + length
        at += 8 + length + (length & 1)


def _size(name: bytes, body: bytes) -> tuple[int, int] | None:
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

"""JPEG (ITU-T T.81): baseline, progressive, 12 bits, lossless; and whether all of its picture is there.

libjpeg fills what is missing with middle grey and only whispers a warning. What is found here instead, without a
second decoder running over every image: a missing end; restart markers missing or out of order; a progressive file
without its last scans; and coded data that run out before the picture is full. For the last, only an image that ends
in the grey of the filling, or holds a run of zeros where no encoder writes one, is looked at twice: it is decoded
again with more coded data before each marker, which a whole picture ignores and a short one swallows.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from overread.core.errors import ImageError, checked
from overread.images.conversions import PIECES, Pixels, by_cv2, exif_orientation, stretched, upright, with_channels

END = b"\xff\xd9"
_SOF = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # start of frame, without DHT, JPG, DAC
BASELINE, EXTENDED, PROGRESSIVE, LOSSLESS, JPEG_LS = 0xC0, 0xC1, 0xC2, 0xC3, 0xF7
_PROCESS = {
    BASELINE: "baseline", EXTENDED: "extended", PROGRESSIVE: "progressive", LOSSLESS: "lossless",
    0xC9: "arithmetic coding", 0xCA: "progressive arithmetic coding", 0xCB: "lossless arithmetic coding",
    JPEG_LS: "JPEG-LS",
}  # fmt: skip
#: Scans of a JPEG: programs write about ten, at most some three dozen. And pixels times scans, at some 10 ms a million.
SCANS, WORK = 64, 2_500_000_000
_FILLING = 128  # what zero coefficients decode to
_MARKER = re.compile(rb"\xff+[^\x00\xff]")  # in coded data FF is followed by 00
_MORE = bytes(range(90, 122)) * 2  # coded data that mean something in any Huffman table, without FF
_ZEROS = bytes(32)


@dataclass(frozen=True)
class JpegHeader:
    """Size, ``samples`` per pixel as stored, ``bits`` per sample, EXIF ``orientation`` (1 = upright).

    ``coding`` of colour: ``RGB``, ``YBR_FULL`` or empty where the file does not say. ``process``: the marker of the
    frame, ``frame`` where it is, ``scan`` where the first scan begins.
    """

    height: int
    width: int
    samples: int
    bits: int
    orientation: int
    coding: str
    process: int
    frame: int
    scan: int


@checked
def decode_jpeg(data: bytes, check: Callable[..., None], *, at_least: tuple[int, int] | None = None) -> Pixels:
    """Pixels (H, W, C) of a JPEG, and notes; at 1/2, 1/4 or 1/8 where that is still ``at_least`` as large.

    ``check(height, width)`` is asked before decoding. Raises :class:`ImageError`, also where a part of the picture
    is missing (see above).
    """
    header = jpeg_header(data)
    check(header.height, header.width, each=header.samples * (4 if header.process == PROGRESSIVE else 2))
    notes: tuple[str, ...] = ()
    if header.samples == 4:
        pixels, notes = _by_pillow(data, "RGB"), ("CMYK converted to RGB",)
    elif header.bits != 8 or header.process == LOSSLESS:
        pixels = stretched(with_channels(_deep(data, header)), header.bits)
    else:
        pixels = with_channels(by_cv2(data, _reduced(header, at_least) | cv2.IMREAD_IGNORE_ORIENTATION))
    _require_whole(data, header, pixels)
    return upright(pixels, header.orientation, notes)


def _reduced(header: JpegHeader, at_least: tuple[int, int] | None) -> int:
    """The cv2 flag that decodes, colour as RGB, at the smallest size that is still large enough."""
    flag = cv2.IMREAD_GRAYSCALE if header.samples == 1 else cv2.IMREAD_COLOR_RGB
    if at_least is not None:
        height, width = at_least if header.orientation < 5 else at_least[::-1]
        times = min(header.height // height, header.width // width)
        for factor, bit in ((8, 64), (4, 32), (2, 16)):  # cv2.IMREAD_REDUCED_GRAYSCALE_8, _4, _2
            if times >= factor:
                return int(flag | bit)
    return int(flag)


def _deep(data: bytes, header: JpegHeader) -> NDArray[Any]:
    """Lossless, or more than 8 bits."""
    import imagecodecs

    pixels = imagecodecs.jpeg8_decode(data)
    if pixels.shape[:2] != (header.height, header.width):
        raise ImageError("the image is damaged", given=f"decoded to {pixels.shape}")
    return pixels


def _by_pillow(data: bytes, mode: str, *, part: int = 1) -> NDArray[Any]:
    """Pixels as Pillow decodes them, at 1/``part`` of the size."""
    from PIL.JpegImagePlugin import JpegImageFile

    with JpegImageFile(BytesIO(data)) as image:  # past Image.open, which has a limit of its own beside ours
        if part > 1:
            image.draft(None, (max(1, image.width // part), max(1, image.height // part)))
        return np.asarray(image.convert(mode) if mode else image)


@checked
def jpeg_header(data: bytes) -> JpegHeader:
    """The header of a JPEG of a kind that is read, with an end and few scans. Raises :class:`ImageError` otherwise."""
    header = jpeg_stream(data)
    if not header.width or not header.height or not _is_read(header.process, header.bits, header.samples):
        size, kind = f"{header.width} x {header.height}", _PROCESS.get(header.process, "hierarchical")
        given = f"{kind}, {header.bits} bits, {header.samples} samples, {size}"
        todo = "convert it to PNG, or to baseline JPEG"
        raise ImageError("this kind of JPEG is not read", given=given, todo=todo)
    # In coded data FF is followed by 00 or a restart marker: FFD9 after the first scan is the end.
    if not data.endswith(END) and data.find(END, header.scan) < 0:
        raise ImageError("the JPEG is cut off", given=f"{len(data):,} bytes without an end")
    require_few_scans(data, header)
    return header


@checked
def require_few_scans(data: bytes, header: JpegHeader) -> None:
    """Raise :class:`ImageError` for more than :data:`SCANS` scans, or for more work than :data:`WORK`, before any is
    decoded: each scan may be a pass over the whole picture, and takes a few bytes.
    """
    if header.process == JPEG_LS:  # in its coded data FF is followed by a bit, which makes such pairs
        return
    scans = data.count(b"\xff\xda", header.scan, _end(data, header.scan))
    if scans > SCANS or (scans > header.samples and scans * header.height * header.width > WORK):
        given = f"{scans:,} of {header.width} x {header.height} pixels"
        raise ImageError("the JPEG has too many scans", given=given, todo="save it anew, as a baseline JPEG")


def _end(data: bytes, at: int) -> int:
    """Where the picture ends: what follows may hold others."""
    found = data.find(END, at)
    return found if found >= 0 else len(data)


@checked
def jpeg_stream(data: bytes) -> JpegHeader:
    """Walk the markers of a JPEG or JPEG-LS up to its first scan (T.81 Annex B, T.87 Annex C).

    How colour is coded: an Adobe segment says (T.872 6.5.3), else JFIF means YCbCr (T.871), else components named
    R, G, B. Raises :class:`ImageError` if it is cut off or damaged.
    """
    orientation, coding, frame, at = 1, "", 0, 0
    for marker, at, stop in _markers(data):
        body = data[at + 4 : stop]
        if marker in _SOF and len(body) >= 6:
            frame = at
        elif marker == 0xE1 and body[:6] == b"Exif\0\0":
            orientation = exif_orientation(body[6:])
        elif marker == 0xEE and body[:5] == b"Adobe" and len(body) >= 12:
            coding = "YBR_FULL" if body[11] else "RGB"
        elif marker == 0xE0 and body[:4] == b"JFIF":
            coding = coding or "YBR_FULL"
    if not frame:
        raise ImageError("the JPEG is damaged", given="a scan before its frame")
    process, _, bits, height, width, samples = struct.unpack_from(">BHBHHB", data, frame + 1)
    named = "RGB" if data[frame + 10 : frame + 19 : 3].upper() == b"RGB" else ""
    coding = (coding or named) if samples == 3 else ""
    return JpegHeader(height, width, samples, bits, orientation, coding, process, frame, at)


def _markers(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, place and end of each segment, up to that of the first scan."""
    at = 2
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
        yield marker, at, stop
        if marker == 0xDA:
            return
        at = stop
    raise ImageError("the JPEG is cut off", given=f"{len(data):,} bytes without an image")


def _is_read(marker: int, bits: int, samples: int) -> bool:
    if marker == LOSSLESS:
        return 2 <= bits <= 16 and samples in (1, 3)
    return marker in _PROCESS and marker < LOSSLESS and (bits, samples) in ((8, 1), (8, 3), (8, 4), (12, 1), (12, 3))


@checked
def require_picture(data: bytes, pixels: NDArray[Any]) -> None:
    """Raise :class:`ImageError` where a part of a JPEG is missing or damaged (see above) that was decoded to ``pixels`` (H, W, C) by others."""
    header = jpeg_header(data)
    if (header.height, header.width) != pixels.shape[:2]:
        given = f"{header.width} x {header.height} in a place of {pixels.shape[1]} x {pixels.shape[0]}"
        raise ImageError("the JPEG has another size", given=given)
    _require_whole(data, header, pixels)


# -- is all of it there? -----------------------------------------------------------------------------------


def _require_whole(data: bytes, header: JpegHeader, pixels: NDArray[Any]) -> None:
    """Raise :class:`ImageError` where a part of the picture is missing."""
    restart = data.find(b"\xff\xdd\0\x04", 0, header.scan)
    several = header.process == PROGRESSIVE or data[header.scan + 4] < header.samples
    if several:
        _require_scans(data, header)
    elif restart >= 0:
        _require_restarts(data, header, int.from_bytes(data[restart + 4 : restart + 6], "big"))
    zeros = data.find(_ZEROS, header.scan) >= 0  # what follows the end may be anything
    zeros = zeros and data.find(_ZEROS, header.scan, data.find(END, header.scan)) >= 0
    if zeros and not several and not _zeros_are_flat(data, header):
        raise ImageError("the JPEG is damaged", given="a part of it is overwritten by zeros")
    if (zeros or _may_be_filled(header, pixels, restart >= 0)) and _runs_short(data, header, zeros):
        raise ImageError("the JPEG is damaged", given="a part of the picture is missing")


def _may_be_filled(header: JpegHeader, pixels: NDArray[Any], restarts: bool) -> bool:
    """Whether the last pixel, or with restart markers the middle of a block, has the grey of the filling."""
    if header.samples == 4 or header.bits != 8 or header.process == LOSSLESS:
        return True  # rare: always looked at twice
    at_end = set(pixels[-1, -1].tolist()) == {_FILLING}
    step = max(1, 8 * pixels.shape[1] // header.width)  # a block of 8 x 8, as decoded
    return at_end or (restarts and bool((pixels[step // 2 :: step, step // 2 :: step] == _FILLING).all(-1).any()))


def _zeros_are_flat(data: bytes, header: JpegHeader) -> bool:
    """Whether zeros in the coded data can mean a flat part: the code of zeros says so in each table of the scan.

    In the tables that most programs write they mean 63 equal coefficients a block, which no picture has.
    """
    tables = {kind: symbols[0] for kind, symbols in _tables(data) if symbols}
    used = data[header.scan + 6 : header.scan + 5 + 2 * header.samples : 2]
    return not any(tables.get(pair >> 4, 0) or tables.get(16 + (pair & 15), 0) for pair in used)


def _tables(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Class (× 16) and number of each Huffman table before the scan, and its symbols by their code (T.81 B.2.4.2)."""
    for marker, at, stop in _markers(data):
        place = at + 4 if marker == 0xC4 else stop
        while place + 17 <= stop:
            count = sum(data[place + 1 : place + 17])
            yield data[place], data[place + 17 : place + 17 + count]
            place += 17 + count


def _runs_short(data: bytes, header: JpegHeader, zeros: bool) -> bool:
    """Whether more coded data would change the picture; after a run of ``zeros`` also: whether less would not."""
    try:
        once = _again(data, header)
        more = _again(b"".join(_with_more(data, header)), header)
        if not np.array_equal(once, more):
            return True
        end = data.find(END, header.scan)
        single = header.process != PROGRESSIVE and end > header.scan + 64
        if not (zeros and single) or once.min() == once.max():
            return False
        return np.array_equal(once, _again(data[: end - 16] + _MORE[:16] + data[end:], header))
    except OSError:  # Pillow raises on more than libjpeg does
        return True


def _again(data: bytes, header: JpegHeader) -> NDArray[Any]:
    """The picture decoded once more, small where that is quicker and shows the same."""
    if header.bits != 8 or header.process == LOSSLESS:
        return _deep(data, header)
    return _by_pillow(data, "", part=1 if header.process == PROGRESSIVE else 8)


def _with_more(data: bytes, header: JpegHeader) -> Iterator[bytes]:
    """The file in pieces, with more coded data before each marker that ends some."""
    done = 0
    for _, end in _scans(data, header.scan):
        yield data[done:end]
        yield _MORE
        done = end
    yield data[done:]


def _scans(data: bytes, at: int) -> Iterator[tuple[bytes, int]]:
    """Every stretch of coded data from the scan at ``at``: the header of its scan, and where it ends.

    A restart marker ends a stretch, as does any other marker, whether it belongs there or not.
    """
    scan = b""
    for _ in range(4 * PIECES):
        if at + 4 > len(data) or data[at + 1] == 0xD9:
            return
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        length = 0 if 0xD0 <= marker <= 0xD7 else int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xDA:
            scan = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xDA or 0xD0 <= marker <= 0xD7:
            found = _MARKER.search(data, at)
            if found is None:
                return
            at = found.start()
            yield scan, at
        elif data[at : at + 1] != b"\xff":  # no marker after a segment: coded data with a marker in it
            return


def _require_scans(data: bytes, header: JpegHeader) -> None:
    """Each component was sent; of a progressive file, the first one to its last bit (T.81 G.1.1.1)."""
    sent: dict[int, list[int]] = {}
    for scan, _ in _scans(data, header.scan):
        count = scan[0]
        first, last, low = scan[1 + 2 * count], scan[2 + 2 * count], scan[3 + 2 * count] & 15
        for component in scan[1 : 1 + 2 * count : 2]:
            bits = sent.setdefault(component, [16] * 64)
            bits[first : last + 1] = [low] * (min(last, 63) + 1 - first)
    whole = len(sent) >= header.samples and all(bits[0] == 0 for bits in sent.values())
    if not whole or any(next(iter(sent.values()))):
        raise ImageError("the JPEG is damaged", given="some of its scans are missing")


def _require_restarts(data: bytes, header: JpegHeader, interval: int) -> None:
    """Restart markers count 0 … 7 around, and there are as many as the picture needs (T.81 B.2.1, E.1.4)."""
    end = data.find(END, header.scan)
    found = re.findall(rb"\xff([\xd0-\xd7])", data[header.scan : end])
    numbers = np.frombuffer(b"".join(found), np.uint8) - 0xD0
    wanted = -(-_units(data, header) // interval) - 1 if interval else 0
    if len(numbers) != wanted or (numbers != np.arange(wanted) % 8).any():
        raise ImageError("the JPEG is damaged", given=f"{len(numbers)} restart markers, {wanted} expected")


def _units(data: bytes, header: JpegHeader) -> int:
    """Minimum coded units of the picture (T.81 A.2)."""
    factors = [data[header.frame + 11 + 3 * i] for i in range(header.samples)]
    across = max(factor >> 4 for factor in factors) * 8 if header.samples > 1 else 8
    down = max(factor & 15 for factor in factors) * 8 if header.samples > 1 else 8
    return -(-header.width // across) * -(-header.height // down)

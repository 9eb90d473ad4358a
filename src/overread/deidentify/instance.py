"""Pixels as they are, without what travels beside them: comments in compressed frames, bytes behind the last pixel.

Comments are blanked in place, so no length and no offset of a frame changes and every decoder gives the same pixels:
in JPEG and JPEG-LS the segments COM and APPn but for what decoding needs (JFIF, Adobe, the colour transform of
JPEG-LS), in JPEG 2000 the marker COM and boxes that are not the picture, in all of them what follows the end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from overread import __version__
from overread.core.errors import ImageError
from overread.images.image import BROKEN

_JPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81))
_JPEG_2000 = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 92, 93, 201, 202, 203))
_RLE, _DEFLATED_FRAMES = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_IN_SCAN = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")  # a marker that ends entropy-coded data (T.81 B.1.1, T.87 A.1)
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
_BOXES = (b"jP  ", b"ftyp", b"jp2h", b"jp2c")


def settled(dataset: Any, syntax: str) -> None:
    """Blank or cut in ``dataset`` what is beside the pixels, which are written in transfer syntax ``syntax``.

    Raises :class:`ImageError` for pixels that are cut off or compressed in a way that is not known here.
    """
    if syntax in _NATIVE:
        _cut_native(dataset, syntax)
        return
    blank = _blanker(syntax)
    element = dataset["PixelData"]
    value = bytearray(_with_true_offsets(element.value))
    for places in _frames(bytes(value), int(dataset.get("NumberOfFrames", 1) or 1)):
        frame = bytearray().join(value[start:end] for start, end in places)
        blank(frame)
        at = 0
        for start, end in places:
            value[start:end] = frame[at : at + end - start]
            at += end - start
    if value != element.value:
        dataset["PixelData"] = type(element)(element.tag, element.VR, bytes(value), is_undefined_length=True)


def _blanker(syntax: str) -> Callable[[bytearray], None]:
    from pydicom.uid import UID_dictionary

    if syntax in _JPEG:
        return blank_jpeg
    if syntax in _JPEG_2000:
        return blank_jpeg_2000
    if syntax == _RLE:
        return _blank_rle
    if syntax == _DEFLATED_FRAMES:
        return lambda frame: None
    named = syntax if syntax in UID_dictionary else "one that is not of the standard"
    raise ImageError("this compression cannot be searched for comments", given=named)


def _cut_native(dataset: Any, syntax: str) -> None:
    from pydicom.pixels.utils import get_expected_length

    if "PixelData" not in dataset:
        return
    element, wanted = dataset["PixelData"], get_expected_length(dataset)
    if len(element.value) < wanted:
        raise ImageError("the pixels are cut off", given=f"{len(element.value):,} of {wanted:,} bytes")
    if len(element.value) > wanted:
        end = wanted + wanted % 2
        swapped = syntax == _NATIVE[2] and element.VR != "OB"  # the last two bytes: the padding comes first
        pixels = element.value[:end] if swapped else element.value[:wanted] + bytes(end - wanted)
        dataset["PixelData"] = type(element)(element.tag, element.VR, pixels)


# -- frames and fragments ---------------------------------------------------------------------------------------


def _frames(value: bytes, frames: int) -> Iterator[list[tuple[int, int]]]:
    """For each frame, where its fragments begin and end (PS3.5 A.4)."""
    from pydicom.encaps import generate_fragmented_frames

    _offsets, *places = _fragments(value)
    if frames == 1:
        yield places
    elif len(places) == frames:
        yield from ([place] for place in places)
    else:
        for parts in generate_fragmented_frames(value, number_of_frames=frames):
            yield places[: len(parts)]
            places = places[len(parts) :]


def _fragments(value: bytes) -> list[tuple[int, int]]:
    """Where the items of encapsulated pixels begin and end, the table of offsets first."""
    found, at = [], 0
    while value[at : at + 4] == _ITEM and at + 8 <= len(value):
        length = int.from_bytes(value[at + 4 : at + 8], "little")
        if at + 8 + length > len(value):
            raise ImageError("the compressed pixels are cut off")
        found.append((at + 8, at + 8 + length))
        at += 8 + length
    if len(found) < 2 or value[at : at + 4] not in (b"", _DELIMITER):
        raise ImageError("the compressed pixels are damaged")
    return found


def _with_true_offsets(value: bytes) -> bytes:
    """Coded pixels without their table of offsets where it holds anything but places where fragments begin (PS3.5 A.4)."""
    (start, end), *places = _fragments(value)
    begins = {place - places[0][0] for place, _ in places}
    whole = (end - start) % 4 == 0 and all(at in begins for (at,) in struct.iter_unpack("<I", value[start:end]))
    return value if whole else _ITEM + bytes(4) + value[end:]


def _blank(frame: bytearray, start: int, end: int) -> None:
    frame[start:end] = bytes(max(0, end - start))


def _blank_rle(frame: bytearray) -> None:
    """The unused part of the table of segments (PS3.5 G.5)."""
    _blank(frame, 4 + 4 * min(int.from_bytes(frame[:4], "little"), 15), 64)


# -- JPEG and JPEG-LS -------------------------------------------------------------------------------------------


def blank_jpeg(frame: bytearray) -> None:
    """Blank comments and application data of a JPEG or JPEG-LS frame in place (T.81 annex B, T.87 annex C)."""
    if frame[:2] != b"\xff\xd8":
        raise ImageError("the compressed pixels are not what the header says", given="no JPEG")
    at = 2
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            raise ImageError("the compressed pixels are damaged", given="a JPEG marker is missing")
        code = frame[at + 1]
        if code == 0xFF or 0xD0 <= code <= 0xD8:  # fill, restart, start
            at += 1 if code == 0xFF else 2
            continue
        if code == 0xD9:
            break
        end = at + 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
        if end > len(frame) or end < at + 4:
            raise ImageError("the compressed pixels are damaged", given="a JPEG segment is cut off")
        _blank(frame, at + 4 + _needed(code, bytes(frame[at + 4 : end])), end)
        at = _behind_scan(frame, end) if code == 0xDA else end
    _blank(frame, at + 2, len(frame))


def _needed(code: int, payload: bytes) -> int:
    """Bytes of a segment that decoding needs."""
    if code in (0xF7, 0xF8) or 0xC0 <= code < 0xE0:
        return len(payload)
    if code == 0xE0 and payload[:5] == b"JFIF\0" and len(payload) >= 14:
        return 12  # without its thumbnail
    if code == 0xEE and payload[:5] == b"Adobe" and len(payload) >= 12:
        return 12
    return 5 if code == 0xE8 and payload[:4] == b"mrfx" else 0


def _behind_scan(frame: bytearray, at: int) -> int:
    found = _IN_SCAN.search(frame, at)
    return found.start() if found else len(frame)


# -- JPEG 2000 --------------------------------------------------------------------------------------------------


def blank_jpeg_2000(frame: bytearray) -> None:
    """Blank the comments of a JPEG 2000 frame in place, and boxes around it (T.800 annexes A and I)."""
    if frame[:4] == b"\xff\x4f\xff\x51":
        _blank_codestream(frame, 0, len(frame))
        return
    at, found = 0, False
    while at + 8 <= len(frame):
        start, end, kind = _box(frame, at)
        if kind == b"jp2c":
            _blank_codestream(frame, start, end)
            found = True
        elif kind not in _BOXES:
            _blank(frame, start, end)
        at = end
    if not found:
        raise ImageError("the compressed pixels are not what the header says", given="no JPEG 2000")


def _box(frame: bytearray, at: int) -> tuple[int, int, bytes]:
    """Where the content of a box begins and ends, and its type (T.800 I.4)."""
    length, kind = struct.unpack_from(">I4s", frame, at)
    start = at + 8
    if length == 1 and at + 16 <= len(frame):
        length, start = struct.unpack_from(">Q", frame, start)[0], at + 16
    end = len(frame) if length == 0 else at + length
    if end < start or end > len(frame):
        raise ImageError("the compressed pixels are damaged", given="a JPEG 2000 box is cut off")
    return start, end, kind


def _blank_codestream(frame: bytearray, at: int, end: int) -> None:
    tile_end = at = at + 2
    while at + 4 <= end and frame[at : at + 2] != b"\xff\xd9":
        code, length = struct.unpack_from(">HH", frame, at)
        if code == 0xFF93:  # start of data: on to the next tile part
            at = min(end, max(tile_end, at + 2))
            continue
        if code < 0xFF00 or length < 2 or at + 2 + length > end:
            raise ImageError("the compressed pixels are damaged", given="a JPEG 2000 marker is missing")
        if code == 0xFF90:
            size = int.from_bytes(frame[at + 6 : at + 10], "big")
            tile_end = at + size if size else _last_end(frame, at, end)
        elif code == 0xFF64:
            _blank(frame, at + 4, at + 2 + length)
        at += 2 + length
    _blank(frame, at + 2, end)


def _last_end(frame: bytearray, at: int, end: int) -> int:
    """Where the last tile part ends if it does not say so: before the end of the codestream."""
    found = frame.rfind(b"\xff\xd9", at, end)
    return found if found >= 0 else end


# -- the file around a cleaned data set: how it is coded, its meta information, its bytes -------------------------


#: The implementation class of files written here: 2.25 and a number of our own (PS3.5 B.2).
IMPLEMENTATION = "2.25.186083033758014709499219619881222828323"


@cache
def broken() -> tuple[type[Exception], ...]:
    """What reading a damaged data set raises: pydicom has two kinds of its own, which quote the value."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    return (*BROKEN, BytesLengthException, InvalidDicomError)


def transfer_syntax(dataset: Any) -> str:
    """How the file is written: as its meta information says, else as it was found to be."""
    named = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if named:
        return str(named)
    implicit, little = getattr(dataset, "original_encoding", (None, None))
    if implicit is None or little is None:
        raise ImageError("the DICOM file does not say how it is written", given="no transfer syntax")
    return "1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"


def meta(new: Any, syntax: str) -> Any:
    """The meta information of a cleaned data set, made anew: nothing of who wrote or sent the original (PS3.10 7.1)."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    made = FileMetaDataset()
    made.FileMetaInformationVersion = b"\0\1"
    made.MediaStorageSOPClassUID, made.MediaStorageSOPInstanceUID = new.SOPClassUID, new.SOPInstanceUID
    made.TransferSyntaxUID, made.ImplementationClassUID = UID(syntax), UID(IMPLEMENTATION)
    made.ImplementationVersionName = f"OVERREAD {__version__}"[:16]
    return made


def as_bytes(new: Any) -> bytes:
    """The file of a cleaned data set: an empty preamble, its meta information, itself (PS3.10 chapter 7)."""
    import pydicom
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_dataset, write_file_meta_info

    out = DicomBytesIO()
    if new.file_meta.TransferSyntaxUID in pydicom.uid.UID_dictionary:
        pydicom.dcmwrite(out, new, enforce_file_format=True)
        return out.getvalue()
    out.is_little_endian = True  # as every compressed syntax is written (PS3.5 A.4)
    out.is_implicit_VR = False
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(out, new.file_meta)
    write_dataset(out, new)
    return out.getvalue()

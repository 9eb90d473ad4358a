"""Formats that are read, one row each: what a file begins with, how its name ends, and who reads it.

A new format of images is a file beside this one and a row here: :func:`sniff` and :mod:`overread.images.read` go by
the rows. Everything else is refused before any decoder sees it.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from overread.core.errors import ImageError, checked
from overread.images import dicom
from overread.images.dicom.elements import looks_like_dicom
from overread.images.formats import jpeg, jpeg2000, png_bmp_webp, tiff


@dataclass(frozen=True)
class Format:
    """A format by ``name``; ``magic``: first bytes and where they stand; ``endings`` of its files' names.

    ``reader(data, check, **options)`` gives pixels and notes; it takes those of the options ``at_least``, ``window``,
    ``frame`` and ``most`` that ``options`` names. Without a reader it is a volume, which :mod:`overread.images.volumes`
    reads.
    """

    name: str
    magic: tuple[tuple[bytes, int], ...]
    endings: tuple[str, ...]
    reader: Callable[..., Any] | None = None
    options: tuple[str, ...] = ()


FORMATS = (
    Format("DICOM", ((b"DICM", 128),), (".dcm",), dicom.decode, ("window", "frame")),
    Format("PNG", ((png_bmp_webp.PNG, 0),), (".png",), png_bmp_webp.decode_png),
    Format("JPEG", ((b"\xff\xd8\xff", 0),), (".jpg", ".jpeg"), jpeg.decode_jpeg, ("at_least",)),
    Format("TIFF", ((b"II*\0", 0), (b"MM\0*", 0), (b"II+\0", 0), (b"MM\0+", 0)), (".tif", ".tiff"),
           tiff.decode_tiff, ("frame", "most")),
    Format("JPEG 2000", ((b"\0\0\0\x0cjP  \r\n\x87\n", 0), (b"\xff\x4f\xff\x51", 0)),
           (".jp2", ".j2k", ".j2c", ".jpx"), jpeg2000.decode_jpeg2000),
    Format("WebP", ((b"WEBP", 8),), (".webp",), png_bmp_webp.decode_webp),
    Format("NRRD", ((b"NRRD000", 0),), (".nrrd", ".nhdr")),
    Format("NIfTI", ((b"n+1\0", 344), (b"n+2\0\r\n\x1a\n", 4)), (".nii", ".nii.gz")),
    Format("MetaImage", (), (".mha", ".mhd")),  # text without magic: see sniff
    Format("BMP", ((b"BM", 0),), (".bmp",), png_bmp_webp.decode_bmp),
)  # fmt: skip
#: What is a volume by its first bytes, whatever the address says.
VOLUMES = tuple(row.name for row in FORMATS if row.reader is None)
#: Formats that are recognised only to name them in the refusal; ``ftyp`` stands behind the length of its box.
_OTHERS = {
    b"GIF8": "GIF", b"RIFF": "RIFF", b"%PDF": "PDF", b"%!PS": "PostScript", b"\xc5\xd0\xd3\xc6": "EPS",
    b"SIMPLE  =": "FITS", b"PK\x03\x04": "ZIP or NPZ", b"PK\x05\x06": "ZIP or NPZ", b"\x1f\x8b": "gzip", b"<svg": "SVG",
    b"<?xml": "XML or SVG", b"\x93NUMPY": "NPY", b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL", b"\x89HDF": "HDF5", b"II\xbc\x01": "JPEG XR", b"ftypheic": "HEIC", b"ftypheix": "HEIC",
    b"ftyphevc": "HEIC", b"ftypheim": "HEIC", b"ftypmif1": "HEIF", b"ftypmsf1": "HEIF", b"ftypavif": "AVIF",
    b"ftypavis": "AVIF",
}  # fmt: skip
#: The size of its header, 348 bytes, begins a header of Analyze, in either byte order.
_ANALYZE = (b"\x5c\x01\0\0", b"\0\0\x01\x5c")
#: MetaImage is text without a magic number: a key it begins with, and the type of its elements further on.
_META = re.compile(rb"\s*(?:ObjectType|NDims|Comment|ObjectSubType)\s*=(?s:.*)\bElementType\s*=")


@checked
def sniff(data: bytes) -> str:
    """The format of ``data`` by content: PNG, JPEG, JPEG 2000, TIFF, WebP, BMP, DICOM, NIfTI, NRRD or MetaImage.

    Raises :class:`ImageError` for an empty file and for everything that is not on the list.

    >>> sniff(b"\\x89PNG\\r\\n\\x1a\\n....")
    'PNG'
    """
    if not data:
        raise ImageError("the file is empty", given="0 bytes")
    for row in FORMATS:
        if any(data[at : at + len(magic)] == magic for magic, at in row.magic):
            return row.name
    if looks_like_dicom(data[:132]):
        return "DICOM"
    with suppress(ImageError):
        inside = start_of(data[:4096], 1024)
        if inside[344:348] == b"n+1\0" or inside[4:8] == b"n+2\0":
            return "NIfTI"
    if _META.match(data[:4096]):
        return "MetaImage"
    given = next((name for magic, name in _OTHERS.items() if data.startswith(magic)), "unknown content")
    if data[4:8] == b"ftyp":
        given = _OTHERS.get(data[4:12], "video or HEIF")
    todo = "convert it to PNG, JPEG, TIFF or DICOM"
    if given == "unknown content" and len(data) >= 348 and data[:4] in _ANALYZE:
        given = "the header of NIfTI in two files" if data[344:348] == b"ni1\0" else "the header of Analyze 7.5"
        todo = "convert it to NIfTI in one file (.nii.gz); Analyze does not say which side is left, so check it"
    raise ImageError("the format is not one that is read", given=given, todo=todo)


@checked
def start_of(data: bytes, count: int) -> bytes:
    """The first ``count`` bytes, inflated where they are gzip; fewer where there are no more.

    >>> import gzip
    >>> start_of(gzip.compress(b"12345"), 3), start_of(b"12345", 3)
    (b'123', b'123')
    """
    if data[:2] != b"\x1f\x8b":
        return data[:count]
    try:
        return zlib.decompressobj(31).decompress(data, count)
    except zlib.error as error:
        raise ImageError("the file is damaged", given="gzip that cannot be inflated") from error

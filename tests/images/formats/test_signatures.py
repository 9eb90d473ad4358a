"""The first bytes tell the format; everything else is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from overread.core.errors import ImageError
from overread.images.conversions import exif_orientation
from overread.images.formats.signatures import sniff
from overread.images.read import read_image

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    handle = io.BytesIO()
    Pillow.fromarray(PIXELS).save(handle, kind, **options)
    return handle.getvalue()


@pytest.mark.parametrize(
    ("kind", "name"),
    [("PNG", "PNG"), ("JPEG", "JPEG"), ("TIFF", "TIFF"), ("WEBP", "WebP"), ("BMP", "BMP"), ("JPEG2000", "JPEG 2000")],
)
def test_formats_are_told_by_their_content(kind: str, name: str) -> None:
    assert sniff(encoded(kind)) == name


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (bytes(128) + b"DICM", "DICOM"),
        (b"\x08\0\x05\0CS\x0a\0ISO_IR 100", "DICOM"),
        (bytes(344) + b"n+1\0", "NIfTI"),
        (b"\x1c\x02\0\0n+2\0\r\n\x1a\n", "NIfTI"),
        (b"NRRD0004\n", "NRRD"),
        (b"ObjectType = Image\nNDims = 3\nElementType = MET_SHORT\n", "MetaImage"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
    ],
)
def test_medical_formats_are_told_by_their_content(data: bytes, name: str) -> None:
    assert sniff(data) == name


@pytest.mark.parametrize(
    "data", [b"", b"RIFF\0\0\0\0WAVE", b"ObjectType = Image\n", b"\x1f\x8b\x08" + bytes(30), bytes(600)]
)
def test_everything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        sniff(data)


def test_exif_of_both_byte_orders() -> None:
    for value in range(1, 9):
        exif = Pillow.Exif()
        exif[274] = value
        block = exif.tobytes().removeprefix(b"Exif\0\0")
        assert exif_orientation(block) == value
        big = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0" + bytes([value]) + bytes(6)
        assert exif_orientation(big) == value
    assert exif_orientation(b"rubbish") == 1


@pytest.mark.parametrize("order", ["little", "big"])
def test_analyze_is_said_by_its_name(order: str, tmp_path: Path) -> None:
    header = (348).to_bytes(4, order) + bytes(344)
    (tmp_path / "v.hdr").write_bytes(header)
    (tmp_path / "v.img").write_bytes(bytes(1000))
    (tmp_path / "alone.img").write_bytes(bytes(1000))
    for name in ("v.hdr", "v.img"):
        with pytest.raises(ImageError, match=r"Analyze 7.5.*which side is left"):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="unknown content"):
        read_image(tmp_path / "alone.img")
    with pytest.raises(ImageError, match="NIfTI in two files"):
        read_image(header[:344] + b"ni1\0")

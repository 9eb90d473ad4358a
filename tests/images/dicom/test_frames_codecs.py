"""Codestreams on their own: how colour is coded, what the headers say, run lengths and deflate."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from overread.core.errors import ImageError
from overread.images.dicom.frames import Layout, decode, inflate, run_lengths
from overread.images.formats.jpeg import jpeg_stream
from overread.images.formats.jpeg2000 import codestream_header

BASELINE, LOSSLESS = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70"
RGB = np.empty((64, 80, 3), np.uint8)
RGB[..., 0], RGB[..., 1], RGB[..., 2] = np.arange(80) * 2, np.arange(64)[:, None] * 2, 90
ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"


def jfif(pixels: np.ndarray) -> bytes:
    handle = io.BytesIO()
    Image.fromarray(pixels).save(handle, "JPEG", quality=95, subsampling=0)
    return handle.getvalue()


def wanted(photometric: str, samples: int = 3, bits: int = 8) -> Layout:
    return Layout(64, 80, 1, samples, bits, bits, bits - 1, False, False, photometric, "int")


def without_jfif(stream: bytes) -> bytes:
    assert stream[2:4] == b"\xff\xe0"
    return stream[:2] + stream[4 + int.from_bytes(stream[4:6], "big") :]


@pytest.mark.parametrize("tags", ["RGB", "YBR_FULL_422"])
def test_how_colour_is_coded(tags: str) -> None:
    """Adobe's segment goes before JFIF, JFIF before the tags; without either the tags are believed."""
    stream = jfif(RGB)
    bare = without_jfif(stream)
    cases = {stream: "YBR_FULL", bare: tags, bare[:2] + ADOBE + b"\0" + bare[2:]: "RGB"}
    cases[bare[:2] + ADOBE + b"\1" + bare[2:]] = "YBR_FULL"
    with Image.open(io.BytesIO(stream)) as image:
        image.draft("YCbCr", image.size)
        coded = np.asarray(image)
    for data, photometric in cases.items():
        pixels, bits, found = decode(BASELINE, data, wanted(tags))
        assert (bits, found) == (8, photometric)
        assert np.abs(pixels.astype(int) - coded).max() <= 1  # the samples are never converted here


def test_components_named_rgb() -> None:
    stream = bytearray(without_jfif(jfif(RGB)))
    frame = stream.index(b"\xff\xc0") + 10
    scan = stream.index(b"\xff\xda") + 5
    for n, letter in enumerate(b"RGB"):
        stream[frame + 3 * n] = stream[scan + 2 * n] = letter
    assert decode(BASELINE, bytes(stream), wanted("YBR_FULL"))[2] == "RGB"


@pytest.mark.parametrize("predictor", range(1, 8))
def test_lossless_jpeg_with_each_predictor(predictor: int) -> None:
    pixels = np.random.default_rng(predictor).integers(0, 2**16, (64, 80), dtype=np.uint16)
    stream = imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=16)
    ours, bits, _ = decode(LOSSLESS, bytes(stream), wanted("MONOCHROME2", 1, 16))
    assert bits == 16
    assert np.array_equal(ours, pixels)
    assert np.array_equal(imagecodecs.ljpeg_decode(stream), pixels)


def test_a_film_of_scans_is_refused() -> None:
    stream = jfif(RGB)
    with pytest.raises(ImageError, match="too many scans"):
        decode(BASELINE, stream[:-2] + b"\xff\xda" * 100 + b"\xff\xd9", wanted("RGB"))


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\2", b"\xff\xd8\xff\xc0\0\3\1", b"\xff" * 99])
def test_headers_that_are_none(data: bytes) -> None:
    with pytest.raises(ImageError):
        jpeg_stream(data)
    with pytest.raises(ImageError):
        codestream_header(data)


def test_header_of_jpeg_2000() -> None:
    for pixels, samples, coding in ((RGB, 3, "RGB"), (RGB[..., 0].copy(), 1, "")):
        stream = imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", level=0, reversible=True, mct=samples == 3)
        about = codestream_header(bytes(stream))
        assert (about.height, about.width, about.samples, about.bits, about.coding) == (64, 80, samples, 8, coding)
    bad = bytearray(stream)
    bad[41:44] = b"\x01\x07\x02"  # one sample that is subsampled
    with pytest.raises(ImageError, match="subsampled"):
        codestream_header(bytes(bad))


def test_run_lengths_by_hand() -> None:
    """PS3.5 G.3.1: literal runs, repetitions, and bytes that mean nothing; the high byte comes first."""
    high, low = b"\xfd\x01", b"\x80\x01\xaa\xbb\xff\xcc"
    frame = struct.pack("<16I", 2, 64, 66, *[0] * 13) + high + low
    assert run_lengths(frame, 4, 2, 1).view("<u2").tolist() == [0x01AA, 0x01BB, 0x01CC, 0x01CC]
    with pytest.raises(ImageError):
        run_lengths(frame, 5, 2, 1)
    with pytest.raises(ImageError, match="segments"):
        run_lengths(frame, 4, 1, 1)


def test_inflate_to_the_byte() -> None:
    squeeze = zlib.compressobj(wbits=-15)
    data = squeeze.compress(bytes(range(100))) + squeeze.flush()
    assert inflate(data, 100).tolist() == list(range(100))
    assert len(inflate(data, 99)) == 99  # one byte more makes the number even
    for size in (101, 98, 10):
        with pytest.raises(ImageError, match="disagree"):
            inflate(data, size)

"""Faults 1 to 12 and 49 of images: cut, empty, misnamed, absurd and hostile files of every format.

Each is refused with a typed error, soon and in little memory, or read by its one defined conversion.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from overread.core.errors import ImageError
from overread.images.read import Limits, read_image

RNG = np.random.default_rng(44)
COLOUR = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
SMOOTH = cv2.normalize(
    cv2.GaussianBlur(RNG.random((96, 128, 3), np.float32), (0, 0), 2), None, 0, 255, cv2.NORM_MINMAX
).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    handle = io.BytesIO()
    Pillow.fromarray(pixels).save(handle, kind, **options)
    return handle.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    handle = io.BytesIO()
    tifffile.imwrite(handle, pixels, **options)
    return handle.getvalue()


def png(header: bytes, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
    chunks = [(b"IHDR", header), *more, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


FORMATS: dict[str, Callable[[], bytes]] = {
    "PNG": lambda: encoded(COLOUR, "PNG"),
    "JPEG": lambda: encoded(SMOOTH, "JPEG", quality=90),
    "progressive JPEG": lambda: encoded(SMOOTH, "JPEG", quality=90, progressive=True),
    "JPEG with restarts": lambda: encoded(SMOOTH, "JPEG", quality=90, restart_marker_rows=1),
    "TIFF strips": lambda: tiff(COLOUR, photometric="rgb", rowsperstrip=8),
    "TIFF tiles": lambda: tiff(COLOUR, photometric="rgb", tile=(32, 32)),
    "TIFF deflate": lambda: tiff(COLOUR, photometric="rgb", compression="zlib", rowsperstrip=8),
    "TIFF LZW": lambda: tiff(COLOUR, photometric="rgb", compression="lzw"),
    "TIFF JPEG": lambda: tiff(SMOOTH, photometric="rgb", compression="jpeg", tile=(32, 32)),
    "TIFF JPEG 2000": lambda: tiff(SMOOTH, photometric="rgb", compression="jpeg2000", tile=(32, 32)),
    "TIFF pages": lambda: tiff(COLOUR[None, ..., 0].repeat(4, 0), photometric="minisblack"),
    "BigTIFF": lambda: tiff(COLOUR, photometric="rgb", bigtiff=True),
    "TIFF of Pillow": lambda: encoded(COLOUR, "TIFF"),
    "JPEG 2000": lambda: encoded(COLOUR, "JPEG2000"),
    "JPEG 2000 codestream": lambda: encoded(
        SMOOTH, "JPEG2000", no_jp2=True, irreversible=True, quality_layers=[20, 10]
    ),
    "JPEG 2000 tiles": lambda: encoded(SMOOTH, "JPEG2000", tile_size=(32, 32)),
    "WebP": lambda: encoded(SMOOTH, "WEBP"),
    "WebP lossless": lambda: encoded(COLOUR, "WEBP", lossless=True),
    "BMP": lambda: encoded(COLOUR, "BMP"),
}


# -- 1, 2, 3: cut, empty, misnamed -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_01_cut_at_every_sixteenth(kind: str, refused, sixteenths, tmp_path: Path, canary: str) -> None:
    data = FORMATS[kind]()
    path = tmp_path / canary / "image.bin"
    path.parent.mkdir()
    for _ in sixteenths(path, data):
        error = refused(read_image, path)
        assert isinstance(error, ImageError)
        assert str(error).startswith("image.bin: ")
    assert read_image(path).pixels.size


@pytest.mark.parametrize("kind", FORMATS)
def test_01_a_damaged_byte_never_ends_in_anything_else_than_pixels_or_an_error(kind: str, survived) -> None:
    data = FORMATS[kind]()
    for at in np.linspace(0, len(data) - 1, 60).astype(int):
        broken = bytearray(data)
        broken[at] ^= 0xFF
        survived(read_image, bytes(broken))


def test_02_an_empty_file(refused, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").touch()
    assert "empty" in str(refused(read_image, tmp_path / "x.jpg"))


@pytest.mark.parametrize("kind", FORMATS)
def test_03_a_wrong_extension_is_noted(kind: str, tmp_path: Path) -> None:
    wrong = "dcm"
    (tmp_path / f"x.{wrong}").write_bytes(FORMATS[kind]())
    image = read_image(tmp_path / f"x.{wrong}")
    assert image.notes[0] == f"extension .dcm, content {image.format}"


# -- 4, 5: huge headers, bombs -----------------------------------------------------------------------------


def test_04_huge_sizes_are_refused_from_the_header(refused) -> None:
    side = 50_000
    small = {
        "PNG": png(struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0), zlib.compress(bytes(1000))),
        "BMP": bytearray(encoded(COLOUR, "BMP")),
        "JPEG": bytearray(encoded(SMOOTH, "JPEG")),
        "JPEG 2000": bytearray(encoded(COLOUR, "JPEG2000", no_jp2=True)),
        "WebP": bytearray(encoded(COLOUR, "WEBP", lossless=True)),
    }
    struct.pack_into("<ii", small["BMP"], 18, side, 2**31 - 1)
    struct.pack_into(">HH", small["JPEG"], small["JPEG"].index(b"\xff\xc0") + 5, side, side)
    struct.pack_into(">II", small["JPEG 2000"], 8, side, side)
    struct.pack_into("<I", small["WebP"], small["WebP"].index(b"VP8L") + 9, 0x0FFFFFFF)
    for kind, data in small.items():
        assert refused(read_image, bytes(data)), kind
    for factory in FORMATS.values():
        assert "larger than the limit" in str(refused(read_image, factory(), limits=Limits(pixels=100)))


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """Half a megabyte that inflates to half a gigabyte."""
    press = zlib.compressobj(6)
    return b"".join([press.compress(bytes(1 << 20)) for _ in range(500)]) + press.flush()


def test_05_text_and_profile_bombs_are_never_inflated(survived, bomb: bytes) -> None:
    lines = b"".join(b"\0" + row.tobytes() for row in COLOUR)
    data = png(
        struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0), zlib.compress(lines),
        (b"zTXt", b"k\0\0" + bomb), (b"iCCP", b"p\0\0" + bomb), (b"iTXt", b"k\0\1\0\0\0" + bomb),
    )  # fmt: skip
    assert np.array_equal(survived(read_image, data).pixels, COLOUR)


def test_05_pixels_that_inflate_to_more_than_the_image_stay_small(survived, bomb: bytes) -> None:
    survived(read_image, png(struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0), bomb))
    data = bytearray(tiff(COLOUR, photometric="rgb", compression="zlib"))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        places = tags[273].valueoffset, tags[279].valueoffset
    struct.pack_into("<I", data, places[0], len(data))
    struct.pack_into("<H" if tags[279].dtype == 3 else "<I", data, places[1], min(len(bomb), 60_000))
    survived(read_image, bytes(data) + bomb)


# -- 6: refused formats ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"SIMPLE  =                    T", "FITS"), (b"%!PS-Adobe-3.0 EPSF-3.0", "PostScript"), (b"\xc5\xd0\xd3\xc6", "EPS"),
     (b"%PDF-1.7", "PDF"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"), (b"<?xml version='1.0'?><svg/>", "SVG"),
     (b"GIF89a" + bytes(100), "GIF"), (b"\0\0\0\x18ftypheic" + bytes(90), "HEIC"), (b"8BPS" + bytes(90), "Photoshop"),
     (b"\0\0\0\x18ftypavif" + bytes(90), "AVIF"), (b"\0\0\0\x18ftypmif1" + bytes(90), "HEIF"), (b"\x93NUMPY", "NPY")],
)  # fmt: skip
def test_06_other_formats_are_refused_by_name_before_a_decoder(data: bytes, name: str, refused, monkeypatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("a decoder ran")

    monkeypatch.setattr(cv2, "imdecode", never)
    monkeypatch.setattr(Pillow, "open", never)
    assert name in str(refused(read_image, data))


# -- 7, 8, 9: tiles, pages, frames -------------------------------------------------------------------------


def entries(data: bytes) -> dict[int, int]:
    """Where the entry of each tag of the first directory is, in a little-endian classic TIFF."""
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    places = range(first + 2, first + 2 + 12 * count, 12)
    return {struct.unpack_from("<H", data, place)[0]: place for place in places}


@pytest.mark.parametrize(
    ("tag", "value"), [(256, 2**31), (257, 2**31), (277, 60_000), (322, 2**28), (323, 2**28), (322, 0), (258, 77)]
)
def test_07_absurd_sizes_in_a_tiff(tag: int, value: int, refused) -> None:
    data = bytearray(tiff(COLOUR[..., 0], photometric="minisblack", tile=(32, 32), compression="zlib"))
    place = entries(data)[tag]
    struct.pack_into("<HII", data, place + 2, 4, 1, value)
    refused(read_image, bytes(data))


@pytest.mark.parametrize("tag", [324, 325])
@pytest.mark.parametrize("count", [1, 3, 2**20 + 1, 2**31, 2**32 - 1])
def test_07_absurd_counts_of_tiles(tag: int, count: int, refused) -> None:
    data = bytearray(tiff(COLOUR[..., 0], photometric="minisblack", tile=(16, 16)))
    struct.pack_into("<I", data, entries(data)[tag] + 4, count)
    refused(read_image, bytes(data))


def test_07_a_tile_that_is_a_larger_image_of_its_own(refused) -> None:
    data = bytearray(tiff(SMOOTH, photometric="rgb", compression="jpeg", tile=(32, 32)))
    at = data.index(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, 60_000, 60_000)
    refused(read_image, bytes(data))


def test_07_absurd_tiles_and_packets_in_jpeg_2000(refused) -> None:
    plain = encoded(COLOUR, "JPEG2000", no_jp2=True)
    assert plain[:4] == b"\xff\x4f\xff\x51"
    for place, value in ((24, 1), (28, 1), (24, 0), (8, 0), (16, 2**31)):  # tile size, size, offset
        data = bytearray(plain)
        struct.pack_into(">I", data, place, value)
        refused(read_image, bytes(data))
    style = plain.index(b"\xff\x52")
    for place, code, value in ((6, ">H", 65_535), (9, ">B", 33), (6, ">H", 0)):  # layers, levels
        data = bytearray(plain)
        struct.pack_into(code, data, style + place, value)
        data[style + 4] |= 1  # sizes of precincts follow: what follows is read as such
        refused(read_image, bytes(data))


def test_07_jpeg_2000_that_lost_its_end_or_a_tile_is_not_filled(refused) -> None:
    data = encoded(SMOOTH, "JPEG2000", no_jp2=True, tile_size=(32, 32))
    parts = [at for at in range(len(data) - 1) if data[at : at + 4] == b"\xff\x90\x00\x0a"]
    assert len(parts) == 12
    for broken in (
        data[: parts[5]] + data[parts[6] :],
        data[: parts[9]] + b"\xff\xd9",
        data[:-2],
        data[: len(data) // 2] + b"\xff\xd9",
    ):
        assert "cut off" in str(refused(read_image, broken))


def test_08_pages_without_end(refused, survived) -> None:
    data = tiff(np.zeros((50, 8, 8), np.uint8), photometric="minisblack")
    assert "too many pages" in str(refused(read_image, data, limits=Limits(frames=40)))
    one = struct.pack("<H", 1) + struct.pack("<HHII", 256, 3, 1, 8)
    chain = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(200_000):
        chain += one + struct.pack("<I", 8 + (number + 1) * 18)
    refused(read_image, bytes(chain) + one + bytes(4))


@pytest.mark.parametrize("back_to", [0, 1, 2, 3])
@pytest.mark.parametrize("big", [False, True])
def test_08_a_cycle_of_directories_wherever_it_closes(back_to: int, big: bool, refused) -> None:
    data = bytearray(tiff(np.zeros((4, 8, 8), np.uint8), photometric="minisblack", bigtiff=big, metadata=None))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        places = [page.offset for page in file.pages]
    assert len(places) == 4
    code, count, entry, head = ("<Q", "<Q", 20, 8) if big else ("<I", "<H", 12, 2)
    (entries_,) = struct.unpack_from(count, data, places[-1])
    struct.pack_into(code, data, places[-1] + head + entry * entries_, places[back_to])
    assert "cycle" in str(refused(read_image, bytes(data)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_09_animations_are_their_first_frame(kind: str, survived) -> None:
    frames = [Pillow.fromarray(np.roll(COLOUR, i, 0)) for i in range(120)]
    handle = io.BytesIO()
    options = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    frames[0].save(handle, kind, save_all=True, append_images=frames[1:], **options)
    image = survived(read_image, handle.getvalue())
    assert np.array_equal(image.pixels, COLOUR)
    assert "animated, first of 120 frames" in image.notes


def test_09_chunks_and_segments_without_end(refused) -> None:
    many = (struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))) * 1_100_000
    refused(read_image, b"\x89PNG\r\n\x1a\n" + many)
    refused(read_image, b"\xff\xd8" + b"\xff" * 5_000_000)
    refused(read_image, b"\xff\xd8\xff" + b"\xd0\xff" * 2_000_000)
    refused(read_image, b"RIFF" + struct.pack("<I", 8_000_004) + b"WEBP" + b"JUNK\0\0\0\0" * 1_000_000)
    refused(read_image, b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0\0\0\x08free" * 1_100_000)
    refused(
        read_image,
        b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 41, 0, 8, 8, 0, 0, 8, 8, 0, 0, 1) + b"\x07\1\1" + bytes(8_000_000),
    )


# -- 10, 11: one defined conversion, and what is no number -------------------------------------------------


def test_10_every_oddity_has_one_conversion_against_pillow() -> None:
    full = Pillow.fromarray(COLOUR)
    exif = Pillow.Exif()
    exif[274] = 8
    rgba = np.dstack([COLOUR, COLOUR[..., 0]])
    composited = Pillow.alpha_composite(Pillow.new("RGBA", (64, 48), (0, 0, 0, 255)), Pillow.fromarray(rgba)).convert(
        "RGB"
    )
    wanted = {
        "rotation": (encoded(COLOUR, "PNG", exif=exif), full.transpose(Pillow.Transpose.ROTATE_90), 0),
        "palette": (_saved(full.quantize(99), "PNG"), full.quantize(99).convert("RGB"), 0),
        "alpha": (encoded(rgba, "PNG"), composited, 1),
        "one bit": (_saved(full.convert("1"), "PNG"), full.convert("1").convert("L"), 0),
        "CMYK": (_saved(full.convert("CMYK"), "TIFF"), full.convert("CMYK").convert("RGB"), 1),
        "grey": (_saved(full.convert("L"), "PNG"), full.convert("L"), 0),
    }
    for name, (data, image, tolerance) in wanted.items():
        mine = read_image(data).pixels.squeeze().astype(int)
        assert np.abs(mine - np.asarray(image)).max() <= tolerance, name
    deep = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    assert np.array_equal(read_image(encoded(deep, "PNG")).pixels[..., 0], deep)


def _saved(image: Pillow.Image, kind: str) -> bytes:
    handle = io.BytesIO()
    image.save(handle, kind)
    return handle.getvalue()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_11_pixels_that_are_no_finite_number(value: float, refused) -> None:
    pixels = np.ones((8, 8), np.float64)
    pixels[3, 4] = value
    assert "NaN or infinite" in str(refused(read_image, tiff(pixels, photometric="minisblack")))


# -- 49: names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\nb.png", "a\x1b[31mb.png", "a\u202eb.png", "\udcff.png"])
def test_49_a_name_with_control_characters_is_printable_in_the_message(name: str, refused, tmp_path: Path) -> None:
    refused(read_image, str(tmp_path / name))

"""Each format and each oddity against another decoder: Pillow, or arithmetic by its definition."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from overread.core.errors import ImageError
from overread.images.read import read_image

RNG = np.random.default_rng(21)
COLOUR = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (48, 64, 1), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (48, 64), dtype=np.uint16)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[0:96, 0:128], 40), -1).astype(np.uint8)
OVER_BLACK = "alpha composited onto black"


def saved(image: Pillow.Image, kind: str, **options: object) -> bytes:
    handle = io.BytesIO()
    image.save(handle, kind, **options)
    return handle.getvalue()


def encoded(pixels: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    return saved(Pillow.fromarray(pixels, mode), kind, **options)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    handle = io.BytesIO()
    tifffile.imwrite(handle, pixels, **options)
    return handle.getvalue()


def by_pillow(data: bytes, mode: str = "RGB") -> np.ndarray:
    with Pillow.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert(mode))


# -- JPEG 2000 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"no_jp2": True}, {"tile_size": (16, 16)}, {"irreversible": True, "quality_layers": [8]}]
)
def test_jpeg_2000_is_what_pillow_decodes(options: dict[str, object]) -> None:
    data = encoded(COLOUR, "JPEG2000", **options)
    image = read_image(data)
    assert (image.format, image.mode, image.notes) == ("JPEG 2000", "colour", ())
    assert np.array_equal(image.pixels, by_pillow(data))


def test_jpeg_2000_of_other_depths() -> None:
    assert np.array_equal(read_image(encoded(DEEP, "JPEG2000")).pixels[..., 0], DEEP)
    assert np.array_equal(read_image(encoded(COLOUR[..., 0], "JPEG2000")).pixels[..., 0], COLOUR[..., 0])
    twelve = read_image(imagecodecs.jpeg2k_encode(DEEP >> 4, bitspersample=12)).pixels[..., 0]
    assert np.abs(twelve - (DEEP >> 4) * (65535 / 4095)).max() < 1


def test_jpeg_2000_with_alpha_is_composited() -> None:
    image = read_image(encoded(np.concatenate([COLOUR, ALPHA], -1), "JPEG2000"))
    assert np.abs(image.pixels - COLOUR * (ALPHA / 255.0)).max() <= 0.5001
    assert OVER_BLACK in image.notes
    grey = read_image(encoded(np.concatenate([COLOUR[..., :1], ALPHA], -1), "JPEG2000", "LA"))
    assert np.abs(grey.pixels - COLOUR[..., :1] * (ALPHA / 255.0)).max() <= 0.5001


# -- WebP and BMP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}])
def test_webp_is_what_pillow_decodes(options: dict[str, object]) -> None:
    data = encoded(COLOUR, "WEBP", **options)
    image = read_image(data)
    assert (image.format, image.mode) == ("WebP", "colour")
    own = imagecodecs.webp_decode(data)
    assert np.array_equal(image.pixels, own)
    assert not options.get("lossless") or np.array_equal(image.pixels, COLOUR)


def test_webp_with_alpha_and_exif() -> None:
    data = encoded(np.concatenate([COLOUR, ALPHA], -1), "WEBP", lossless=True, exact=True)
    image = read_image(data)
    assert np.abs(image.pixels - COLOUR * (ALPHA / 255.0)).max() <= 0.5001
    exif = Pillow.Exif()
    exif[274] = 6
    turned = read_image(encoded(COLOUR, "WEBP", lossless=True, exif=exif))
    assert np.array_equal(turned.pixels, np.rot90(COLOUR, -1))


def test_an_animated_webp_is_its_first_frame() -> None:
    frames = [Pillow.fromarray(np.roll(COLOUR, 5 * i, 0)) for i in range(5)]
    image = read_image(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert np.array_equal(image.pixels, COLOUR)
    assert image.notes == ("animated, first of 5 frames",)


def test_bmp_is_what_pillow_decodes() -> None:
    full = Pillow.fromarray(COLOUR)
    for image in (full, full.quantize(200), full.quantize(12), full.convert("L"), full.convert("1")):
        data = saved(image, "BMP")
        mine = read_image(data)
        assert mine.format == "BMP"
        mode = "L" if mine.mode == "grey" else "RGB"
        assert np.array_equal(mine.pixels.squeeze(), by_pillow(data, mode))
    assert read_image(saved(full.convert("L"), "BMP")).mode == "grey"
    assert np.array_equal(read_image(saved(full.convert("RGBA"), "BMP")).pixels, COLOUR)


# -- PNG ---------------------------------------------------------------------------------------------------


def png(width: int, height: int, bits: int, kind: int, lines: bytes, *more: tuple[bytes, bytes]) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_stretched_to_eight(bits: int) -> None:
    values = RNG.integers(0, 2**bits, (6, 16), dtype=np.uint8)
    packed = np.packbits(np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(6, -1), axis=-1)
    data = png(16, 6, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed))
    image = read_image(data)
    assert np.array_equal(image.pixels[..., 0], values * (255 // (2**bits - 1)))
    key = struct.pack(">H", 1)
    masked = read_image(png(16, 6, bits, 0, b"".join(b"\0" + row.tobytes() for row in packed), (b"tRNS", key)))
    assert np.array_equal(masked.pixels[..., 0], np.where(values == 1, 0, image.pixels[..., 0]))


def test_the_transparent_colour_becomes_black_as_alpha_would() -> None:
    pixels = COLOUR.copy()
    pixels[::3, ::2] = (10, 200, 30)
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    data = png(64, 48, 8, 2, lines, (b"tRNS", struct.pack(">3H", 10, 200, 30)))
    rgba = by_pillow(data, "RGBA").astype(float)
    assert np.array_equal(read_image(data).pixels, rgba[..., :3] * (rgba[..., 3:] / 255))
    assert "the transparent colour made black" in read_image(data).notes


def test_a_palette_with_transparency_is_composited() -> None:
    palette = Pillow.fromarray(COLOUR).quantize(16)
    data = saved(palette, "PNG", transparency=bytes(range(0, 256, 16)))
    rgba = by_pillow(data, "RGBA").astype(float)
    assert np.abs(read_image(data).pixels - rgba[..., :3] * (rgba[..., 3:] / 255)).max() <= 0.5001


# -- JPEG --------------------------------------------------------------------------------------------------


def test_twelve_bits_and_lossless_jpeg() -> None:
    smooth = (np.add(*np.ogrid[0:64, 0:80]) * 28).astype(np.uint16)  # 0 … 3976
    twelve = read_image(imagecodecs.jpeg8_encode(smooth, bitspersample=12, level=98))
    assert twelve.bits == 16
    assert np.abs(twelve.pixels[..., 0] - smooth * (65535 / 4095)).max() < 16 * 12
    assert np.array_equal(
        read_image(imagecodecs.jpeg8_encode(DEEP, lossless=True, bitspersample=16)).pixels[..., 0], DEEP
    )
    assert np.array_equal(read_image(imagecodecs.jpeg8_encode(COLOUR, lossless=True)).pixels, COLOUR)


def test_cmyk_is_one_minus_ink_times_one_minus_black() -> None:
    ink = np.concatenate([SMOOTH, SMOOTH[..., :1] // 2], -1)
    data = saved(Pillow.frombytes("CMYK", (128, 96), ink.tobytes()), "JPEG", quality=98)
    wanted = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    assert np.abs(read_image(data).pixels - wanted).max() < 12
    exact = (255.0 - ink[..., :3]) * (255.0 - ink[..., 3:]) / 255
    assert np.abs(read_image(tiff(ink, photometric="separated")).pixels - exact).max() <= 0.5001


@pytest.mark.parametrize("kind", ["arithmetic", "JPEG-LS"])
def test_other_kinds_of_jpeg_are_named(kind: str) -> None:
    data = bytearray(encoded(SMOOTH, "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = 0xC9
    other = imagecodecs.jpegls_encode(DEEP) if kind == "JPEG-LS" else bytes(data)
    with pytest.raises(ImageError, match=kind):
        read_image(other)


# -- TIFF --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "zstd", "lzma"])
@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}, {"rowsperstrip": 7}, {"bigtiff": True}, {"byteorder": ">"}])
def test_lossless_tiff_is_what_was_written(compression: str | None, layout: dict[str, object]) -> None:
    for pixels, kind in ((COLOUR, "rgb"), (DEEP, "minisblack"), (DEEP.astype(np.float32) / 7, "minisblack")):
        image = read_image(tiff(pixels, photometric=kind, compression=compression, **layout))
        assert np.array_equal(image.pixels.squeeze(), pixels)
        assert image.pixels.dtype == pixels.dtype


def test_tiff_with_a_predictor_planes_and_other_types() -> None:
    assert np.array_equal(
        read_image(tiff(COLOUR, photometric="rgb", compression="zlib", predictor=True)).pixels, COLOUR
    )
    planes = np.ascontiguousarray(np.moveaxis(COLOUR, -1, 0))
    for layout in ({}, {"tile": (32, 32), "compression": "zlib"}):
        data = tiff(planes, photometric="rgb", planarconfig="separate", **layout)
        assert np.array_equal(read_image(data).pixels, COLOUR)
    for kind in (np.int16, np.int32, np.uint32, np.float64):
        values = (DEEP // 4).astype(kind)
        assert np.array_equal(read_image(tiff(values, photometric="minisblack")).pixels[..., 0], values)


@pytest.mark.parametrize("layout", [{}, {"tile": (32, 32)}])
def test_tiff_of_jpeg_and_jpeg_2000(layout: dict[str, object]) -> None:
    for kind in ("rgb", "ycbcr"):
        data = tiff(SMOOTH, photometric=kind, compression="jpeg", compressionargs={"outcolorspace": kind}, **layout)
        assert np.abs(read_image(data).pixels.astype(int) - by_pillow(data)).max() <= 1
    data = tiff(COLOUR, photometric="rgb", compression="jpeg2000", **layout)
    assert np.array_equal(read_image(data).pixels, COLOUR)


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt", "packbits"])
def test_one_bit_tiff_of_scanners(compression: str) -> None:
    mask = COLOUR[..., 0] > 128
    image = read_image(saved(Pillow.fromarray(mask), "TIFF", compression=compression))
    assert np.array_equal(image.pixels[..., 0], mask * np.uint8(255))


def test_tiff_in_ycbcr_is_what_pillow_decodes() -> None:
    data = saved(Pillow.fromarray(SMOOTH).convert("YCbCr"), "TIFF")
    image = read_image(data)
    assert np.abs(image.pixels.astype(int) - by_pillow(data)).max() <= 1
    assert "YCbCr converted to RGB" in image.notes


def test_alpha_of_tiff_premultiplied_or_not() -> None:
    both = np.concatenate([COLOUR, ALPHA], -1)
    straight = read_image(tiff(both, photometric="rgb", extrasamples=["unassalpha"]))
    assert np.abs(straight.pixels - COLOUR * (ALPHA / 255.0)).max() <= 0.5001
    done = (COLOUR * (ALPHA / 255.0)).astype(np.uint8)
    premultiplied = read_image(tiff(np.concatenate([done, ALPHA], -1), photometric="rgb", extrasamples=["assocalpha"]))
    assert np.array_equal(premultiplied.pixels, done)
    unknown = read_image(tiff(both, photometric="rgb", extrasamples=["unspecified"]))
    assert np.array_equal(unknown.pixels, COLOUR)
    assert "last channel left out" in unknown.notes


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_tiff_palettes(colours: int) -> None:
    palette = Pillow.fromarray(COLOUR).quantize(colours)
    assert np.array_equal(read_image(saved(palette, "TIFF")).pixels, np.asarray(palette.convert("RGB")))


def test_thumbnails_pyramids_and_masks_are_passed_over() -> None:
    handle = io.BytesIO()
    with tifffile.TiffWriter(handle) as writer:
        writer.write(COLOUR[::4, ::4].copy(), photometric="rgb", subfiletype=1)
        writer.write(COLOUR, photometric="rgb", subifds=1)
        writer.write(COLOUR[::2, ::2].copy(), photometric="rgb", subfiletype=1)
    image = read_image(handle.getvalue())
    assert np.array_equal(image.pixels, COLOUR)
    assert image.notes == ()


def test_pages_in_colour_are_the_first_of_them() -> None:
    image = read_image(tiff(np.stack([COLOUR, COLOUR[::-1]]), photometric="rgb"))
    assert np.array_equal(image.pixels, COLOUR)
    assert image.notes == ("first of 2 pages",)

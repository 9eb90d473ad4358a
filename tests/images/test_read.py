"""Reading by content, one defined conversion each, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from overread.core.errors import ArgumentError, ImageError
from overread.images import read
from overread.images.image import read_bytes
from overread.images.read import Limits, content_digest, read_image

RNG = np.random.default_rng(5)
COLOUR = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(*np.ogrid[0:96, 0:128], 40), -1).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str, mode: str | None = None, **options: object) -> bytes:
    handle = io.BytesIO()
    Pillow.fromarray(pixels, mode).save(handle, kind, **options)
    return handle.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    handle = io.BytesIO()
    tifffile.imwrite(handle, pixels, **options)
    return handle.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_lossless_formats_give_the_same_pixels(kind: str) -> None:
    data = encoded(COLOUR, kind)
    image = read_image(data)
    assert (image.mode, image.bits, image.format) == ("colour", 8, kind)
    assert np.array_equal(image.pixels, COLOUR)
    assert image.digest == hashlib.sha256(data).hexdigest()


def test_jpeg_is_what_pillow_decodes() -> None:
    data = encoded(SMOOTH, "JPEG", quality=95)
    mine, theirs = read_image(data).pixels, np.asarray(Pillow.open(io.BytesIO(data)))
    assert np.abs(mine.astype(int) - theirs).max() <= 1  # two builds of the same decoder
    grey = read_image(encoded(SMOOTH[..., 0], "JPEG"))
    assert grey.mode == "grey"
    assert grey.pixels.shape == (96, 128, 1)


def test_a_jpeg_decoded_at_a_fraction_is_close_to_its_box_average() -> None:
    data = encoded(SMOOTH, "JPEG", quality=95)
    full, half = read_image(data).pixels, read_image(data, at_least=(40, 60)).pixels
    assert half.shape == (48, 64, 3)
    assert np.abs(full.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3)) - half).mean() < 1
    assert read_image(data, at_least=(49, 60)).pixels.shape == full.shape


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_kept(kind: str) -> None:
    grey = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
    image = read_image(tiff(grey) if kind == "TIFF" else encoded(grey, "PNG"))
    assert (image.bits, image.mode) == (16, "grey")
    assert np.array_equal(image.pixels[..., 0], grey)
    colour = RNG.integers(0, 65536, (20, 30, 3), dtype=np.uint16)
    assert np.array_equal(read_image(tiff(colour, photometric="rgb")).pixels, colour)


def test_sixteen_bit_colour_png() -> None:
    colour = RNG.integers(0, 65536, (5, 4, 3), dtype=np.uint16)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colour)
    data = png(struct.pack(">IIBBBBB", 4, 5, 16, 2, 0, 0, 0), zlib.compress(lines))
    assert np.array_equal(read_image(data).pixels, colour)


def png(header: bytes, body: bytes, *more: tuple[bytes, bytes]) -> bytes:
    chunks = [(b"IHDR", header), *more, (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


# -- one defined conversion each ---------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_exif_rotation_is_that_of_pillow(kind: str, orientation: int) -> None:
    from PIL import ImageOps

    exif = Pillow.Exif()
    exif[274] = orientation
    data = encoded(SMOOTH, kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Pillow.open(io.BytesIO(data))))
    image = read_image(data)
    assert image.pixels.shape == expected.shape
    assert np.abs(image.pixels.astype(int) - expected).max() <= 1
    assert ("EXIF rotation applied" in image.notes) == (orientation > 1)


def test_a_rotated_jpeg_is_decoded_at_a_fraction_by_its_upright_size() -> None:
    exif = Pillow.Exif()
    exif[274] = 6
    data = encoded(SMOOTH, "JPEG", exif=exif)  # 96 x 128, upright 128 x 96
    assert read_image(data, at_least=(64, 48)).pixels.shape == (64, 48, 3)
    assert read_image(data, at_least=(48, 64)).pixels.shape == (128, 96, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_palette_becomes_colour(kind: str) -> None:
    quantised = Pillow.fromarray(COLOUR).quantize(40)
    handle = io.BytesIO()
    quantised.save(handle, kind)
    assert np.array_equal(read_image(handle.getvalue()).pixels, np.asarray(quantised.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_one_bit_becomes_black_and_white(kind: str) -> None:
    mask = COLOUR[..., 0] > 128
    handle = io.BytesIO()
    Pillow.fromarray(mask).save(handle, kind)
    image = read_image(handle.getvalue())
    assert image.mode == "grey"
    assert np.array_equal(image.pixels[..., 0], mask * np.uint8(255))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_composited_onto_black(kind: str) -> None:
    alpha = RNG.integers(0, 256, (48, 64, 1), dtype=np.uint8)
    image = read_image(encoded(np.concatenate([COLOUR, alpha], -1), kind))
    assert np.abs(image.pixels - COLOUR * (alpha / 255.0)).max() <= 0.5001
    assert "alpha composited onto black" in image.notes
    opaque = read_image(encoded(np.concatenate([COLOUR, np.full_like(alpha, 255)], -1), kind))
    assert np.array_equal(opaque.pixels, COLOUR)
    assert opaque.notes == ()


def test_grey_with_alpha_stays_grey() -> None:
    pixels = np.stack([COLOUR[..., 0], np.full((48, 64), 255, np.uint8)], -1)
    image = read_image(encoded(pixels, "PNG", "LA"))
    assert image.mode == "grey"
    assert np.array_equal(image.pixels[..., 0], COLOUR[..., 0])


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    cmyk = Pillow.fromarray(SMOOTH).convert("CMYK")
    handle = io.BytesIO()
    cmyk.save(handle, kind, **({"quality": 95} if kind == "JPEG" else {}))
    image = read_image(handle.getvalue())
    assert image.mode == "colour"
    assert np.abs(image.pixels.astype(int) - SMOOTH).mean() < 2
    assert "CMYK converted to RGB" in image.notes


def test_min_is_white_is_inverted() -> None:
    grey = COLOUR[..., 0]
    image = read_image(tiff(grey, photometric="miniswhite"))
    assert np.array_equal(image.pixels[..., 0], 255 - grey)


@pytest.mark.parametrize("compression", ["zlib", "lzw"])
def test_compressed_tiff(compression: str) -> None:
    if compression == "lzw":
        pytest.importorskip("imagecodecs")
    assert np.array_equal(read_image(tiff(COLOUR, compression=compression, photometric="rgb")).pixels, COLOUR)


def test_pages_of_one_size_are_a_volume_and_others_are_not() -> None:
    stack = RNG.integers(0, 256, (5, 20, 30), dtype=np.uint8)
    image = read_image(tiff(stack, photometric="minisblack"))
    assert image.mode == "volume"
    assert np.array_equal(image.pixels[..., 0], stack)
    handle = io.BytesIO()
    with tifffile.TiffWriter(handle) as writer:
        writer.write(stack[0], photometric="minisblack")
        writer.write(stack[0, ::2, ::2].copy(), photometric="minisblack")
    image = read_image(handle.getvalue())
    assert np.array_equal(image.pixels[..., 0], stack[0])
    assert "first of 2 unlike pages" in image.notes


def test_float_tiff_and_not_finite_pixels() -> None:
    values = RNG.normal(size=(20, 30)).astype(np.float32)
    assert np.array_equal(read_image(tiff(values)).pixels[..., 0], values)
    for bad in (np.nan, np.inf, -np.inf):
        values[3, 4] = bad
        with pytest.raises(ImageError, match="NaN or infinite"):
            read_image(tiff(values))


def test_a_wrong_extension_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(encoded(SMOOTH, "JPEG"))
    image = read_image(path)
    assert image.format == "JPEG"
    assert "extension .png, content JPEG" in image.notes
    assert content_digest(path) == image.digest


# -- refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "progressive", "TIFF", "tifffile", "TIFF zlib"])
def test_cut_off_at_every_sixteenth(kind: str) -> None:
    data = {
        "PNG": lambda: encoded(COLOUR, "PNG"),
        "JPEG": lambda: encoded(COLOUR, "JPEG", exif=_thumbnail()),
        "progressive": lambda: encoded(COLOUR, "JPEG", progressive=True),
        "TIFF": lambda: encoded(COLOUR, "TIFF"),
        "tifffile": lambda: tiff(COLOUR, photometric="rgb"),
        "TIFF zlib": lambda: tiff(COLOUR, photometric="rgb", compression="zlib", rowsperstrip=8),
    }[kind]()
    for part in range(16):
        with pytest.raises(ImageError):
            read_image(data[: len(data) * part // 16])
    read_image(data)


def _thumbnail() -> Pillow.Exif:
    """EXIF that holds a whole small JPEG: its end must not pass for the end of the image."""
    exif = Pillow.Exif()
    exif[0x010E] = encoded(COLOUR[:8, :8], "JPEG").decode("latin-1")
    return exif


@pytest.mark.parametrize("at", [0.3, 0.5, 0.9])
def test_a_flipped_byte_in_a_png_is_found(at: float) -> None:
    data = bytearray(encoded(COLOUR, "PNG"))
    data[int(len(data) * at)] ^= 0xFF
    with pytest.raises(ImageError):
        read_image(bytes(data))


def test_a_huge_png_is_refused_from_its_header() -> None:
    data = png(struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0), zlib.compress(bytes(1000)))
    with pytest.raises(ImageError, match="larger than the limit"):
        read_image(data)
    with pytest.raises(ImageError, match="larger than the limit"):
        read_image(encoded(COLOUR, "JPEG"), limits=Limits(pixels=1000))
    with pytest.raises(ImageError, match="larger than the limit"):
        read_image(tiff(COLOUR, photometric="rgb"), limits=Limits(pixels=1000))
    with pytest.raises(ImageError, match="too many pages"):
        read_image(tiff(np.zeros((9, 8, 8), np.uint8), photometric="minisblack"), limits=Limits(frames=4))


@pytest.mark.parametrize("kind", ["PNG", "PNG 16", "JPEG", "progressive", "TIFF", "WEBP", "BMP", "JPEG2000", "DICOM"])
def test_one_cap_of_memory_holds_for_every_format(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked of the header: no decoder runs."""
    deep = RNG.integers(0, 65536, (48, 64), dtype=np.uint16)
    data = {
        "PNG 16": lambda: encoded(deep, "PNG"), "progressive": lambda: encoded(COLOUR, "JPEG", progressive=True),
        "DICOM": lambda: dicom_bytes(deep),
    }.get(kind, lambda: encoded(COLOUR, kind))()  # fmt: skip
    read_image(data, limits=Limits(memory=48 * 64 * 24))
    for decoder in ("cv2.imdecode", "imagecodecs.jpeg2k_decode", "tifffile.TiffPage.asarray"):
        monkeypatch.setattr(decoder, lambda *data, **options: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="larger than the limit.*memory=3,072"):
        read_image(data, limits=Limits(memory=48 * 64))


def test_the_pages_of_a_stack_are_capped_together(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(np.zeros((12, 48, 64), np.uint8), photometric="minisblack")
    assert read_image(data, limits=Limits(memory=12 * 48 * 64 * 8)).pixels.shape == (12, 48, 64, 1)
    monkeypatch.setattr("tifffile.TiffPage.asarray", lambda *data, **options: pytest.fail("it was decoded"))
    with pytest.raises(ImageError, match="larger than the limit.*12 x 48 x 64"):
        read_image(data, limits=Limits(memory=12 * 48 * 64))


def dicom_bytes(pixels: np.ndarray) -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PixelRepresentation = 1, "MONOCHROME2", 0
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelData = 16, 16, 15, pixels.tobytes()
    handle = io.BytesIO()
    made.save_as(handle, enforce_file_format=True)
    return handle.getvalue()


@pytest.mark.parametrize("mode", ["CMYK", "L", "P"])
def test_the_limit_of_pillow_is_none_of_ours(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers of 179 to 200 million pixels made it raise an error of a kind of its own, which ended the audit."""
    grey = Pillow.new("RGB", (64, 48), (128, 128, 128))  # looked at twice: the end has the grey of the filling
    handle = io.BytesIO()
    grey.convert("L" if mode == "P" else mode).save(handle, "WEBP" if mode == "P" else "JPEG")
    wanted = read_image(handle.getvalue()).pixels
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 100)
    assert np.array_equal(read_image(handle.getvalue()).pixels, wanted)


@pytest.mark.parametrize("error", [Pillow.DecompressionBombError("x"), Exception("Doe^Jane"), RecursionError()])
def test_whatever_a_decoder_raises_sets_the_file_aside(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from overread.images.perceptual_hash import describe

    def stumble(*data: object) -> None:
        raise error

    monkeypatch.setitem(read._READERS, "PNG", dataclasses.replace(read._READERS["PNG"], reader=stumble))
    with pytest.raises(ImageError, match=f"bytes: the image is damaged .given: {type(error).__name__}.$"):
        read_image(encoded(COLOUR, "PNG"))
    monkeypatch.setattr("overread.images.perceptual_hash.read_image", lambda path: read_image(encoded(COLOUR, "PNG")))
    assert describe("a.png")["error"] == f"the image is damaged (given: {type(error).__name__})"


def test_an_error_keeps_the_cause_that_it_was_raised_from(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = ValueError("what the decoder said")

    def stumble(*data: object) -> None:
        raise ImageError("it cannot be decoded") from cause

    monkeypatch.setitem(read._READERS, "PNG", dataclasses.replace(read._READERS["PNG"], reader=stumble))
    with pytest.raises(ImageError, match="it cannot be decoded") as caught:
        read_image(encoded(COLOUR, "PNG"))
    assert caught.value.__cause__ is not None
    assert caught.value.__cause__.__cause__ is cause


def test_text_and_profile_bombs_never_reach_a_decoder() -> None:
    bomb = zlib.compress(bytes(50_000_000), 9)
    lines = b"".join(b"\0" + row.tobytes() for row in COLOUR)
    data = png(
        struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0), zlib.compress(lines),
        (b"zTXt", b"k\0\0" + bomb), (b"iCCP", b"p\0\0" + bomb),
    )  # fmt: skip
    assert np.array_equal(read_image(data).pixels, COLOUR)


def test_an_animation_is_its_first_frame() -> None:
    frames = [Pillow.fromarray(np.ascontiguousarray(COLOUR + np.uint8(i))) for i in range(4)]
    handle = io.BytesIO()
    frames[0].save(handle, "PNG", save_all=True, append_images=frames[1:])
    image = read_image(handle.getvalue())
    assert np.array_equal(image.pixels, COLOUR)
    assert image.notes == ("animated, first of 4 frames",)


def test_a_directory_cycle_ends() -> None:
    data = bytearray(tiff(COLOUR[..., 0]))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * entries, first)  # the next directory is this one
    with pytest.raises(ImageError, match="too many pages"):
        read_image(bytes(data))


def test_absurd_counts_of_tiles_are_refused() -> None:
    data = bytearray(tiff(COLOUR[..., 0]))
    (first,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, first)
    for entry in range(first + 2, first + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] in (273, 279):
            struct.pack_into("<I", data, entry + 4, 2**31)
    with pytest.raises(ImageError):
        read_image(bytes(data))


@pytest.mark.parametrize(
    ("data", "named"),
    [(b"", "empty"), (b"GIF89a" + bytes(50), "GIF"), (b"%PDF-1.4", "PDF"), (b"<svg xmlns=''/>", "SVG"),
     (b"SIMPLE  =                    T", "FITS"), (b"%!PS-Adobe-3.0 EPSF", "PostScript"),
     (b"BM" + bytes(60), "BMP"), (b"5b8ec22111764596", "unknown"), (b"PK\3\4" + bytes(40), "ZIP"),
     (bytes(4) + b"ftypheic" + bytes(20), "HEIC"), (bytes(4) + b"ftypmif1" + bytes(20), "HEIF"),
     (bytes(4) + b"ftypavif" + bytes(20), "AVIF"), (b"\xc5\xd0\xd3\xc6" + bytes(30), "EPS"),
     (b"\xff\x0a" + bytes(30), "JPEG XL")],
)  # fmt: skip
def test_what_is_not_on_the_list_is_refused(data: bytes, named: str) -> None:
    with pytest.raises(ImageError, match=named):
        read_image(data)


def test_what_is_not_a_regular_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", tmp_path, tmp_path / "absent.png"):
        with pytest.raises(ImageError):
            read_image(path)
    (tmp_path / "big.png").write_bytes(encoded(COLOUR, "PNG"))
    with pytest.raises(ImageError, match="larger than the limit"):
        read_bytes(tmp_path / "big.png", limits=Limits(file_bytes=10))


def test_the_error_names_the_file_without_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "patient-4711" / "x.png"
    path.parent.mkdir()
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="x.png") as error:
        read_image(path)
    assert "4711" not in str(error.value)


def test_random_bytes_after_every_magic_number_are_errors() -> None:
    for magic in (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"II+\0", bytes(128) + b"DICM"):
        for size in (0, 1, 7, 100, 3000):
            with pytest.raises(ImageError):
                read_image(magic + RNG.bytes(size))


def test_arguments_are_checked() -> None:
    with pytest.raises(ArgumentError):
        read_image(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        Limits(pixels=0)


# -- addresses ---------------------------------------------------------------------------------------------


def test_a_member_of_an_archive_is_the_image_itself(tmp_path: Path) -> None:
    data = encoded(COLOUR, "PNG")
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM/0001.png", data)
    address = f"{tmp_path / 'study.zip'}#entry=IM/0001.png"
    image = read_image(address)
    assert np.array_equal(image.pixels, COLOUR)
    assert image.digest == content_digest(address) == hashlib.sha256(data).hexdigest()
    with pytest.raises(ImageError, match=r"^study\.zip#entry=0002: "):
        read_image(f"{tmp_path / 'study.zip'}#entry=DOE/0002")


def test_a_frame_is_a_page_with_a_digest_of_its_own(tmp_path: Path) -> None:
    stack = RNG.integers(0, 256, (5, 20, 30), dtype=np.uint8)
    path = tmp_path / "film.tif"
    path.write_bytes(tiff(stack, photometric="minisblack"))
    digests = {content_digest(path)}
    for number in range(5):
        image = read_image(f"{path}#frame={number}")
        assert np.array_equal(image.pixels[..., 0], stack[number])
        assert image.digest == content_digest(f"{path}#frame={number}")
        digests.add(image.digest)
    assert len(digests) == 6
    for number in (5, -1):
        with pytest.raises(ImageError, match="frame"):
            read_image(f"{path}#frame={number}")
    (tmp_path / "one.png").write_bytes(encoded(COLOUR, "PNG"))
    assert np.array_equal(read_image(f"{tmp_path / 'one.png'}#frame=0").pixels, COLOUR)
    with pytest.raises(ImageError, match="one frame"):
        read_image(f"{tmp_path / 'one.png'}#frame=1")


def test_an_address_that_is_none_is_an_error_of_the_image(tmp_path: Path) -> None:
    for fragment in ("frame=x", "plane=diagonal", "plane=axial&point=1,2"):
        for door in (read_image, content_digest):
            with pytest.raises(ImageError, match=r"^a\.nii#") as error:
                door(f"{tmp_path}/a.nii#{fragment}")
            assert error.value.reason
            assert "a.nii" not in error.value.reason


def test_a_volume_is_told_by_its_content_and_a_photograph_by_its_own(tmp_path: Path) -> None:
    (tmp_path / "photo.nii").write_bytes(encoded(COLOUR, "PNG"))
    image = read_image(tmp_path / "photo.nii")
    assert image.format == "PNG"
    assert np.array_equal(image.pixels, COLOUR)
    nibabel = pytest.importorskip("nibabel")
    voxels = RNG.integers(0, 200, (6, 5, 4)).astype(np.int16)
    for name in ("scan.nii", "scan.nii.gz"):
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / name)
        (tmp_path / "renamed.dcm").write_bytes((tmp_path / name).read_bytes())
        for path in (tmp_path / name, tmp_path / "renamed.dcm"):
            image = read_image(path)
            assert (image.format, image.mode) == ("NIfTI", "volume")
            assert image.pixels.shape == (4, 5, 6, 1)
            assert content_digest(path) == image.digest
    with pytest.raises(ImageError, match="not from bytes"):
        read_image((tmp_path / "scan.nii").read_bytes())


def test_the_reason_is_the_message_without_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"GIF89a")
    with pytest.raises(ImageError) as error:
        read_image(tmp_path / "x.png")
    assert str(error.value) == f"x.png: {error.value.reason}"
    assert "GIF" in error.value.reason


def test_an_image_is_hashed_as_it_was_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are read once: what is put in their place meanwhile changes neither digest nor pixels."""
    path, data = tmp_path / "x.png", encoded(COLOUR, "PNG")
    path.write_bytes(data)
    real = read.sha256

    def swapped(content: bytes) -> str:
        path.write_bytes(encoded(SMOOTH, "PNG"))
        return real(content)

    monkeypatch.setattr(read, "sha256", swapped)
    image = read_image(path)
    assert np.array_equal(image.pixels, COLOUR)
    assert image.digest == hashlib.sha256(data).hexdigest()

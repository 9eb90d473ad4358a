"""Every DICOM file of the shared folder: the samples of an independent decoder, or our error, file by file.

In use are the libraries within imagecodecs: libjpeg-turbo, CharLS, OpenJPEG, PackBits. The oracles are GDCM with
libraries of its own, CharLS in pyjpegls, OpenJPEG in pylibjpeg-openjpeg, pylibjpeg-rle, pillow, OpenJPH and jpegsof3
(two other codecs within imagecodecs), zlib, or numpy on the bytes. They take their parameters from pydicom, whose
parser is not ours. GDCM ends the process on some files (one-bit run lengths, doses of one frame), and misreads run
lengths of 16-bit colour: it is not asked there.
"""

from __future__ import annotations

import csv
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import expand_ybr422

from overread.core.errors import ImageError
from overread.images.dicom import pixels as dicom
from overread.images.read import LIMITS, read_image

#: Oracles by file, or what our error says.
TABLE: dict[str, tuple[str, ...]] = {
    "HTJ2KLossless_08_RGB.dcm": ("openjph", "gdcm"),
    "JLSL_08_07_0_1F.dcm": ("charls",),
    "JLSL_16_15_1_1F.dcm": ("charls", "gdcm"),
    "JLSL_RGB_ILV0.dcm": ("charls", "gdcm"),
    "JLSL_RGB_ILV1.dcm": ("charls", "gdcm"),
    "JLSL_RGB_ILV2.dcm": ("charls", "gdcm"),
    "JPEG-LL.dcm": ("jpegsof3", "gdcm"),
    "JPGLosslessP14SV1_1s_1f_8b.dcm": ("jpegsof3", "gdcm"),
    "OBXXXX1A.dcm": ("numpy",),
    "OBXXXX1A_rle.dcm": ("rle", "gdcm"),
    "OT-PAL-8-face.dcm": ("numpy", "gdcm"),
    "SC_rgb.dcm": ("numpy",),
    "SC_rgb_16bit.dcm": ("numpy",),
    "SC_rgb_2frame.dcm": ("numpy",),
    "SC_rgb_gdcm2k_uncompressed.dcm": ("numpy",),
    "SC_ybr_full_uncompressed.dcm": ("numpy",),
    "emri_small.dcm": ("numpy",),
    "emri_small_RLE.dcm": ("rle", "gdcm"),
    "emri_small_big_endian.dcm": ("numpy", "gdcm"),
    "emri_small_jpeg_2k_lossless.dcm": ("openjpeg", "gdcm"),
    "emri_small_jpeg_ls_lossless.dcm": ("charls", "gdcm"),
    "explicit_VR-UN.dcm": ("openjpeg", "gdcm"),
    "liver.dcm": ("numpy",),
    "liver_deflate.dcm": ("zlib",),
    "liver_expb.dcm": ("numpy",),
    "liver_j2k.dcm": ("openjpeg", "gdcm"),
    "liver_nonbyte_aligned.dcm": ("numpy",),
    "liver_nonbyte_aligned_deflate.dcm": ("zlib",),
    "liver_nonbyte_aligned_j2k.dcm": ("openjpeg", "gdcm"),
    "liver_nonbyte_aligned_rle.dcm": ("rle",),
    "liver_rle.dcm": ("rle",),
    "CT_small.dcm": ("numpy", "gdcm"),
    "ExplVR_BigEnd.dcm": ("numpy", "gdcm"),
    "GDCMJ2K_TextGBR.dcm": ("openjpeg", "gdcm"),
    "J2K_pixelrep_mismatch.dcm": ("openjpeg",),
    "JPEG-lossy.dcm": ("gdcm",),
    "JPEG2000.dcm": ("openjpeg", "gdcm"),
    "JPEGLSNearLossless_08.dcm": ("charls", "gdcm"),
    "JPEGLSNearLossless_16.dcm": ("charls", "gdcm"),
    "JPGExtended.dcm": ("gdcm",),
    "MR_small.dcm": ("numpy", "gdcm"),
    "MR_small_RLE.dcm": ("rle", "gdcm"),
    "MR_small_bigendian.dcm": ("numpy", "gdcm"),
    "MR_small_expb.dcm": ("numpy", "gdcm"),
    "MR_small_implicit.dcm": ("numpy", "gdcm"),
    "MR_small_jp2klossless.dcm": ("openjpeg", "gdcm"),
    "MR_small_jpeg_ls_lossless.dcm": ("charls", "gdcm"),
    "MR_small_padded.dcm": ("numpy", "gdcm"),
    "SC_jpeg_no_color_transform.dcm": ("gdcm",),
    "SC_jpeg_no_color_transform_2.dcm": ("gdcm",),
    "SC_rgb_gdcm_KY.dcm": ("openjpeg", "gdcm"),
    "SC_rgb_jls_lossy_line.dcm": ("charls", "gdcm"),
    "SC_rgb_jls_lossy_sample.dcm": ("charls", "gdcm"),
    "SC_rgb_jpeg.dcm": ("gdcm", "pillow"),
    "SC_rgb_jpeg_app14_dcmd.dcm": ("gdcm", "pillow"),
    "SC_rgb_jpeg_dcmd.dcm": ("numpy",),
    "SC_rgb_jpeg_dcmtk.dcm": ("gdcm", "pillow"),
    "SC_rgb_jpeg_gdcm.dcm": ("jpegsof3", "gdcm"),
    "SC_rgb_jpeg_lossy_gdcm.dcm": ("gdcm", "pillow"),
    "SC_rgb_rle.dcm": ("rle", "gdcm"),
    "SC_rgb_rle_16bit.dcm": ("rle",),
    "SC_rgb_rle_16bit_2frame.dcm": ("rle",),
    "SC_rgb_rle_2frame.dcm": ("rle", "gdcm"),
    "SC_rgb_rle_32bit.dcm": ("rle",),
    "SC_rgb_rle_32bit_2frame.dcm": ("rle",),
    "SC_rgb_small_odd.dcm": ("numpy",),
    "SC_rgb_small_odd_big_endian.dcm": ("numpy", "gdcm"),
    "SC_rgb_small_odd_jpeg.dcm": ("gdcm", "pillow"),
    "SC_ybr_full_422_uncompressed.dcm": ("numpy", "gdcm"),
    "examples_jpeg2k.dcm": ("openjpeg", "gdcm"),
    "examples_overlay.dcm": ("numpy",),
    "examples_palette.dcm": ("numpy",),
    "examples_rgb_color.dcm": ("numpy",),
    "examples_ybr_color.dcm": ("gdcm", "pillow"),
    "image_dfl.dcm": ("numpy", "gdcm"),
    "liver_1frame.dcm": ("numpy",),
    "liver_expb_1frame.dcm": ("numpy",),
    "rtdose.dcm": ("numpy",),
    "rtdose_1frame.dcm": ("numpy",),
    "rtdose_expb.dcm": ("numpy",),
    "rtdose_expb_1frame.dcm": ("numpy",),
    "rtdose_rle.dcm": ("rle",),
    "rtdose_rle_1frame.dcm": ("rle",),
}
ERRORS = {
    "JPEG2000-embedded-sequence-delimiter.dcm": "contradicts the DICOM header",  # its width is 3,722,445,056
    "MR_truncated.dcm": "cut off",
    "badVR.dcm": "NumberOfFrames is not a whole number",
    "emri_small_jpeg_2k_lossless_too_short.dcm": "cut off",
    "meta_missing_tsyntax.dcm": "holds no image",
    "nested_priv_SQ.dcm": "holds no image",
    "rtplan_truncated.dcm": "cut off",
}
#: Coded with loss by a cosine transform, which libraries may round apart by one level.
LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
Head = Any


def index(shared: Path) -> dict[str, bool]:
    with open(shared / "data" / "dicom" / "index.csv", newline="") as handle:
        return {row["file"]: row["has_pixels"] == "True" for row in csv.DictReader(handle)}


def coded(head: Head) -> list[bytes]:
    return list(generate_frames(head.PixelData, number_of_frames=count(head)))


def count(head: Head) -> int:
    return int(head.get("NumberOfFrames", 1) or 1)


def shaped(head: Head, samples: np.ndarray) -> np.ndarray:
    """(frames, H, W) or (frames, H, W, 3) from samples that lie as the file says."""
    n, colours = count(head), head.SamplesPerPixel
    samples = samples[: n * head.Rows * head.Columns * colours]
    if colours == 1:
        return samples.reshape(n, head.Rows, head.Columns)
    if head.PlanarConfiguration:
        return np.moveaxis(samples.reshape(n, colours, head.Rows, head.Columns), 1, -1)
    return samples.reshape(n, head.Rows, head.Columns, colours)


def one_bit(head: Head, data: bytes, frames: int) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return bits[: frames * head.Rows * head.Columns].reshape(frames, head.Rows, head.Columns)


def by_numpy(head: Head, path: Path) -> np.ndarray:
    data = head.PixelData
    little = head.original_encoding[1]
    if not little and head["PixelData"].VR == "OW" and head.BitsAllocated <= 8:
        data = np.frombuffer(data, ">u2").astype("<u2").tobytes()
    if head.BitsAllocated == 1:
        return one_bit(head, data, count(head))
    if head.PhotometricInterpretation == "YBR_FULL_422":
        data = expand_ybr422(data, head.BitsAllocated)
    kind = f"{'<' if little else '>'}{'ui'[head.PixelRepresentation]}{head.BitsAllocated // 8}"
    return shaped(head, np.frombuffer(data, kind))


def by_rle(head: Head, path: Path) -> np.ndarray:
    rle = pytest.importorskip("rle.rle")
    return np.stack([run_lengths(head, frame, rle.decode_segment) for frame in coded(head)])


def run_lengths(head: Head, frame: bytes, unpack: Callable[[bytes], bytes]) -> np.ndarray:
    """Segments of PS3.5 G: the high bytes of a sample first."""
    number, *starts = struct.unpack("<16I", frame[:64])
    ends = [*starts[1:number], len(frame)]
    planes = [bytes(unpack(frame[start:end])) for start, end in zip(starts, ends)]
    if head.BitsAllocated == 1:
        return one_bit(head, planes[0], 1)[0]
    size, pixels = head.BitsAllocated // 8, head.Rows * head.Columns
    raw = np.stack([np.frombuffer(plane[:pixels], np.uint8) for plane in planes], axis=-1)
    words = raw.reshape(head.Rows, head.Columns, head.SamplesPerPixel, size)
    kind = f">{'ui'[head.PixelRepresentation]}{size}"
    samples = np.ascontiguousarray(words).view(kind)[..., 0]
    return samples if head.SamplesPerPixel > 1 else samples[..., 0]


def by_zlib(head: Head, path: Path) -> np.ndarray:
    return np.concatenate([one_bit(head, zlib.decompress(frame, -15), 1) for frame in coded(head)])


def by_openjpeg(head: Head, path: Path) -> np.ndarray:
    openjpeg = pytest.importorskip("openjpeg")
    frames = np.stack([openjpeg.decode(frame) for frame in coded(head)])
    return frames if head.BitsAllocated == 1 else signed(head, frames)


def by_charls(head: Head, path: Path) -> np.ndarray:
    jpeg_ls = pytest.importorskip("jpeg_ls")
    frames = []
    for frame in coded(head):
        buffer, about = jpeg_ls.decode_pixel_data(frame)
        samples = np.frombuffer(buffer, np.uint8 if about["bits_per_sample"] <= 8 else np.uint16)
        if about["components"] > 1 and about["interleave_mode"] == 0:
            samples = np.moveaxis(samples.reshape(3, head.Rows, head.Columns), 0, -1)
        frames.append(samples.reshape(head.Rows, head.Columns, *[3] * (about["components"] > 1)))
    return signed(head, np.stack(frames))


def by_imagecodecs(name: str) -> Callable[[Head, Path], np.ndarray]:
    def decode(head: Head, path: Path) -> np.ndarray:
        codecs = pytest.importorskip("imagecodecs")
        frames = [np.asarray(getattr(codecs, f"{name}_decode")(frame)) for frame in coded(head)]
        return signed(head, np.stack(frames))

    return decode


def signed(head: Head, samples: np.ndarray) -> np.ndarray:
    """Two's complement of the stored bits, which a codestream without a sign leaves to the tags."""
    if not head.PixelRepresentation or samples.dtype.kind == "i":
        return samples
    values = samples.astype(np.int64) % 2**head.BitsStored
    return np.where(values >= 2 ** (head.BitsStored - 1), values - 2**head.BitsStored, values)


def by_gdcm(head: Head, path: Path) -> np.ndarray:
    gdcm = pytest.importorskip("gdcm")
    gdcm.Trace.WarningOff()
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    image = reader.GetImage()
    raw = image.GetBuffer().encode("utf-8", "surrogateescape")
    about, sizes = (image.GetPixelFormat(), [image.GetDimension(n) for n in range(image.GetNumberOfDimensions())])
    bits = 8 if about.GetBitsAllocated() == 1 else about.GetBitsAllocated()
    samples = np.frombuffer(raw, f"<{'ui'[about.GetPixelRepresentation()]}{bits // 8}")
    colours, frames = about.GetSamplesPerPixel(), sizes[2] if len(sizes) > 2 else 1
    if colours == 1:
        return signed(head, samples.view(f"<u{bits // 8}").reshape(frames, sizes[1], sizes[0]))
    if image.GetPlanarConfiguration():
        return np.moveaxis(samples.reshape(frames, colours, sizes[1], sizes[0]), 1, -1)
    return samples.reshape(frames, sizes[1], sizes[0], colours)


def by_pillow(head: Head, path: Path) -> np.ndarray:
    from PIL import Image

    frames = []
    for frame in coded(head):
        with Image.open(io.BytesIO(frame)) as image:
            if "adobe_transform" not in image.info:
                image.draft("YCbCr", image.size)  # samples as coded
            frames.append(np.asarray(image))
    return np.stack(frames)


ORACLES: dict[str, Callable[[Head, Path], np.ndarray]] = {
    "numpy": by_numpy, "rle": by_rle, "zlib": by_zlib, "gdcm": by_gdcm, "pillow": by_pillow, "charls": by_charls,
    "openjpeg": by_openjpeg, "openjph": by_imagecodecs("htj2k"), "jpegsof3": by_imagecodecs("jpegsof3"),
}  # fmt: skip


def test_every_file_with_pixels_is_in_the_table(shared: Path) -> None:
    with_pixels = {name for name, pixels in index(shared).items() if pixels}
    assert with_pixels <= TABLE.keys() | ERRORS.keys()
    assert not TABLE.keys() & ERRORS.keys()
    assert TABLE.keys() <= with_pixels


@pytest.mark.parametrize(("name", "oracle"), [(name, one) for name, many in TABLE.items() for one in many])
def test_samples_are_those_of_an_independent_decoder(shared: Path, name: str, oracle: str) -> None:
    path = shared / "data" / "dicom" / name
    ours = dicom.stored(path.read_bytes(), LIMITS.check)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = pydicom.dcmread(path, force=True)
        theirs = ORACLES[oracle](head, path)
    assert ours.shape == theirs.shape
    apart = int(np.abs(ours.astype(np.int64) - theirs.astype(np.int64)).max())
    assert apart <= (1 if head.file_meta.get("TransferSyntaxUID") in LOSSY else 0)


@pytest.mark.parametrize("name", TABLE)
def test_every_such_file_is_an_image(shared: Path, name: str) -> None:
    path = shared / "data" / "dicom" / name
    image = read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        head = pydicom.dcmread(path, stop_before_pixels=True, force=True)
    colour = head.SamplesPerPixel == 3 or head.PhotometricInterpretation == "PALETTE COLOR"
    frames = () if count(head) == 1 or colour else (count(head),)
    assert image.pixels.shape == (*frames, head.Rows, head.Columns, 3 if colour else 1)
    assert image.mode == ("colour" if colour else "volume" if frames else "grey")
    assert image.pixels.dtype in (np.uint8, np.uint16)
    assert image.pixels.min() < image.pixels.max()


def test_every_other_file_ends_in_our_error(shared: Path) -> None:
    others = [name for name in index(shared) if name not in TABLE]
    assert others
    for name in others:
        with pytest.raises(ImageError, match=ERRORS.get(name, "holds no image|the format is not")):
            read_image(shared / "data" / "dicom" / name)


def test_a_palette_without_a_preamble_or_a_transfer_syntax(shared: Path) -> None:
    path = shared / "data" / "dicom" / "OT-PAL-8-face.dcm"
    pixels, notes = dicom.decode(path.read_bytes(), LIMITS.check)
    assert pixels.shape == (480, 640, 3)
    assert notes == ("palette converted to RGB",)


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_padded.dcm", "MR_small.dcm"),
        ("emri_small_RLE.dcm", "emri_small.dcm"),
        ("emri_small_big_endian.dcm", "emri_small.dcm"),
        ("emri_small_jpeg_2k_lossless.dcm", "emri_small.dcm"),
        ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm"),
        ("liver_deflate.dcm", "liver.dcm"),
        ("liver_expb.dcm", "liver.dcm"),
        ("liver_j2k.dcm", "liver.dcm"),
        ("liver_rle.dcm", "liver.dcm"),
        ("liver_nonbyte_aligned_deflate.dcm", "liver_nonbyte_aligned.dcm"),
        ("liver_nonbyte_aligned_j2k.dcm", "liver_nonbyte_aligned.dcm"),
        ("liver_nonbyte_aligned_rle.dcm", "liver_nonbyte_aligned.dcm"),
        ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_16bit.dcm"),
        ("SC_rgb_rle_2frame.dcm", "SC_rgb_2frame.dcm"),
        ("SC_rgb_jpeg_dcmd.dcm", "SC_rgb_jpeg.dcm"),
        ("rtdose_rle.dcm", "rtdose.dcm"),
        ("rtdose_expb.dcm", "rtdose.dcm"),
    ],
)
def test_the_same_image_in_another_syntax_is_the_same_image(shared: Path, name: str, same_as: str) -> None:
    folder = shared / "data" / "dicom"
    assert np.array_equal(read_image(folder / name).pixels, read_image(folder / same_as).pixels)


def test_frames_one_by_one_are_those_of_the_film(shared: Path) -> None:
    for name in ("emri_small_jpeg_2k_lossless.dcm", "liver_nonbyte_aligned.dcm", "examples_ybr_color.dcm"):
        data = (shared / "data" / "dicom" / name).read_bytes()
        film = dicom.stored(data, LIMITS.check)
        for number in (0, len(film) // 2, len(film) - 1):
            assert np.array_equal(dicom.stored(data, LIMITS.check, frame=number)[0], film[number])


def test_a_sign_that_jpeg_2000_forgot_is_the_one_of_the_tags(shared: Path) -> None:
    """The codestream says unsigned, the tags say signed: air outside the circle is -2000, not 6192."""
    data = (shared / "data" / "dicom" / "J2K_pixelrep_mismatch.dcm").read_bytes()
    values, _ = dicom.physical(data, LIMITS.check)
    assert values.min() == -2000
    assert read_image(data).notes == ("window 40/100, the first of 3",)


def test_hounsfield_units_and_doses(shared: Path) -> None:
    folder = shared / "data" / "dicom"
    values, _ = dicom.physical((folder / "CT_small.dcm").read_bytes(), LIMITS.check)
    assert values.dtype == np.int16
    assert (int(values.min()), int(values.max())) == (-896, 1167)  # air and bone
    doses, _ = dicom.physical((folder / "rtdose.dcm").read_bytes(), LIMITS.check)
    head = pydicom.dcmread(folder / "rtdose.dcm")
    assert np.allclose(doses, head.pixel_array * float(head.DoseGridScaling), rtol=1e-6)

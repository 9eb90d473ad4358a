"""Comments inside compressed frames are gone, the pixels are those that Pillow, pydicom and imagecodecs decode."""

from __future__ import annotations

import io
import struct

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames

from overread.core.errors import ImageError
from overread.deidentify.export import Rules, clean
from overread.deidentify.instance import as_bytes, blank_jpeg, blank_jpeg_2000

NAME = b"KANARIENVOGEL"
RULES = Rules(b"a salt of sixteen bytes and more")


def gradient(channels: int = 1) -> np.ndarray:
    grey = (np.add.outer(np.arange(32), np.arange(48)) * 3).astype(np.uint8)
    return grey if channels == 1 else np.stack([grey, grey[::-1], grey[:, ::-1]], -1)


def jpeg(pixels: np.ndarray, **options) -> bytes:
    exif = Image.Exif()
    exif[0x010E], exif[0x9286] = NAME.decode(), NAME.decode()
    out = io.BytesIO()
    Image.fromarray(pixels).save(
        out, "JPEG", comment=NAME, exif=exif.tobytes(), icc_profile=NAME * 3, quality=90, **options
    )
    return out.getvalue()


def with_segment(data: bytes, code: int, payload: bytes) -> bytes:
    return data[:2] + bytes([0xFF, code]) + struct.pack(">H", len(payload) + 2) + payload + data[2:]


# -- JPEG and JPEG-LS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"subsampling": 0}])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_comments_go_and_pixels_stay(options, channels):
    data = jpeg(gradient(channels), **options)
    data = with_segment(data, 0xED, b"Photoshop 3.0\0" + NAME)
    frame = bytearray(data + NAME)
    assert frame.count(NAME) >= 6
    blank_jpeg(frame)
    assert NAME not in frame
    assert len(frame) == len(data) + len(NAME)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(frame))), np.asarray(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(bytes(frame)), imagecodecs.jpeg8_decode(data))


def test_what_decoding_needs_stays():
    """The Adobe marker tells colour spaces apart, JFIF gives the density; their ends are no place for a name."""
    data = imagecodecs.jpeg8_encode(gradient(3), colorspace="RGB", outcolorspace="RGB")
    assert b"Adobe" in data
    plain = imagecodecs.jpeg8_decode(data)
    frame = bytearray(with_segment(data, 0xE0, b"JFXX\0" + NAME))
    blank_jpeg(frame)
    assert b"Adobe" in frame
    assert NAME not in frame
    np.testing.assert_array_equal(imagecodecs.jpeg8_decode(bytes(frame)), plain)
    thumbnail = bytearray(with_segment(jpeg(gradient()), 0xE0, b"JFIF\0\1\2\1\0\x48\0\x48\3\1" + NAME[:9]))
    blank_jpeg(thumbnail)
    assert thumbnail[6:20] == b"JFIF\0\1\2\1\0\x48\0\x48\0\0"


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_ls(channels):
    data = imagecodecs.jpegls_encode(gradient(channels))
    frame = bytearray(with_segment(with_segment(data, 0xFE, NAME), 0xE8, NAME))
    blank_jpeg(frame)
    assert NAME not in frame
    np.testing.assert_array_equal(imagecodecs.jpegls_decode(bytes(frame)), gradient(channels))


def test_lossless_jpeg_of_16_bits():
    pixels = gradient().astype(np.uint16) * 257
    frame = bytearray(with_segment(imagecodecs.ljpeg_encode(pixels), 0xFE, NAME) + NAME)
    blank_jpeg(frame)
    assert NAME not in frame
    np.testing.assert_array_equal(imagecodecs.ljpeg_decode(bytes(frame)), pixels)


# -- JPEG 2000 ----------------------------------------------------------------------------------------------------


def with_comment(codestream: bytes) -> bytes:
    """A comment in the main header, behind the size marker, and one in the header of each tile part."""
    comment = b"\xff\x64" + struct.pack(">HH", len(NAME) + 4, 1) + NAME
    size = 4 + struct.unpack(">H", codestream[4:6])[0]
    head, at = codestream[:size] + comment, codestream.index(b"\xff\x90", size)
    tile, length = codestream[at:], struct.unpack(">I", codestream[at + 6 : at + 10])[0]
    tile = tile[:6] + struct.pack(">I", length + len(comment) if length else 0) + tile[10:12] + comment + tile[12:]
    return head + codestream[size:at] + tile


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_2000_comments_go_and_pixels_stay(channels):
    data = with_comment(imagecodecs.jpeg2k_encode(gradient(channels), codecformat="j2k", reversible=True, level=0))
    frame = bytearray(data + NAME)
    assert frame.count(NAME) == 3
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(data), gradient(channels))
    blank_jpeg_2000(frame)
    assert NAME not in frame
    assert len(frame) == len(data) + len(NAME)
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(bytes(frame)), gradient(channels))


def test_boxes_around_jpeg_2000():
    data = imagecodecs.jpeg2k_encode(gradient(), codecformat="jp2", reversible=True, level=0)
    box = struct.pack(">I4s", 8 + len(NAME), b"xml ") + NAME
    frame = bytearray(data[:12] + data[12:32] + box + data[32:])
    plain = imagecodecs.jpeg2k_decode(bytes(frame))
    blank_jpeg_2000(frame)
    assert NAME not in frame
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(bytes(frame)), plain)


@pytest.mark.parametrize("data", [b"", NAME, b"\xff\xd8\xff\xfe\xff\xff" + NAME, b"\xff\xd8" + NAME])
def test_what_is_no_jpeg_is_refused(data):
    with pytest.raises(ImageError):
        blank_jpeg(bytearray(data))
    with pytest.raises(ImageError):
        blank_jpeg_2000(bytearray(data))


@pytest.mark.parametrize("blank", [blank_jpeg, blank_jpeg_2000])
def test_cut_anywhere_it_ends_with_a_frame_of_the_same_length_or_our_error(blank):
    data = jpeg(gradient()) if blank is blank_jpeg else imagecodecs.jpeg2k_encode(gradient(), codecformat="j2k")
    for end in range(len(data)):
        frame = bytearray(data[:end])
        try:
            blank(frame)
        except ImageError:
            continue
        assert len(frame) == end


# -- in a file ----------------------------------------------------------------------------------------------------


def image(pixels: np.ndarray, frames: list[bytes], syntax: str, **encapsulation) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.PatientID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = pixels.shape[2] if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation, made.Modality = made.BitsStored - 1, 0, "CT"
    made.NumberOfFrames = len(frames)
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PixelData = encapsulate(frames, **encapsulation)
    made["PixelData"].is_undefined_length = True
    made["PixelData"].VR = "OB"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    return made


@pytest.mark.parametrize("how", [{}, {"has_bot": False}, {"fragments_per_frame": 3}])
@pytest.mark.parametrize("count", [1, 3])
def test_every_frame_and_fragment_is_searched(count, how):
    frames = [jpeg(np.roll(gradient(), 5 * n, 0)) for n in range(count)]
    source = image(gradient(), frames, "1.2.840.10008.1.2.4.50", **how)
    made = pydicom.dcmread(io.BytesIO(as_bytes(clean(source, RULES))))
    assert NAME not in made.PixelData
    assert len(made.PixelData) == len(source.PixelData)
    assert made.PixelData.count(b"\xfe\xff\x00\xe0") == source.PixelData.count(b"\xfe\xff\x00\xe0")
    for old, new in zip(frames, generate_frames(made.PixelData, number_of_frames=count), strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(old))), np.asarray(Image.open(io.BytesIO(new))))


def test_run_length_coding_keeps_its_pixels_and_no_bytes_beside_them():
    source = image(gradient(), [b"\0\0"], "1.2.840.10008.1.2.5")
    source.PixelData = gradient().tobytes()
    source["PixelData"].is_undefined_length = False
    source.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    source.compress(pydicom.uid.RLELossless)
    at = source.PixelData.index(b"\1\0\0\0\x40\0\0\0")
    source.PixelData = source.PixelData[: at + 12] + NAME + source.PixelData[at + 12 + len(NAME) :]
    source["PixelData"].is_undefined_length = True
    made = pydicom.dcmread(io.BytesIO(as_bytes(clean(source, RULES))))
    assert NAME not in made.PixelData
    np.testing.assert_array_equal(made.pixel_array, gradient())


def test_bytes_behind_the_last_pixel_are_cut():
    source = image(gradient(), [b"\0\0"], "1.2.840.10008.1.2.1")
    source["PixelData"].is_undefined_length = False
    source.PixelData = gradient().tobytes() + NAME * 2
    made = clean(source, RULES)
    assert made.PixelData == gradient().tobytes()
    source.Rows, source.Columns, source.PixelData = 3, 3, bytes(range(9)) + b"K"
    assert clean(source, RULES).PixelData == bytes(range(9)) + b"\0"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.103", "1.2.840.10008.1.2.4.110", "1.2.840.113619.5.2"])
def test_films_and_unknown_compressions_are_refused(syntax):
    with pytest.raises(ImageError, match="searched for comments"):
        clean(image(gradient(), [jpeg(gradient())], syntax), RULES)


def test_cut_off_pixels_are_refused():
    source = image(gradient(), [jpeg(gradient())], "1.2.840.10008.1.2.4.50")
    source["PixelData"].value = source.PixelData[:-40]
    with pytest.raises(ImageError, match="cut off"):
        clean(source, RULES)


def test_a_table_of_offsets_that_holds_text_is_dropped() -> None:
    from overread.deidentify.instance import _with_true_offsets

    item, frames = b"\xfe\xff\x00\xe0", [bytes(10), bytes(6)]
    coded = b"".join(item + len(frame).to_bytes(4, "little") + frame for frame in frames)
    true = (0).to_bytes(4, "little") + (18).to_bytes(4, "little")
    for table in (b"", true):
        whole = item + len(table).to_bytes(4, "little") + table + coded
        assert _with_true_offsets(whole) == whole
    for table in (b"DOE^JANE", b"MUELLER HANS", true[:4] + b"JANE", b"odd"):
        assert _with_true_offsets(item + len(table).to_bytes(4, "little") + table + coded) == item + bytes(4) + coded

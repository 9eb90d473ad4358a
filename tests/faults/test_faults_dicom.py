"""Broken and hostile DICOM (faults 1, 14, 15, 16, 19, 22 and 23): an error in one paragraph, or the right pixels."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from overread.images.dicom import pixels as dicom
from overread.images.read import LIMITS, read_image

EXPLICIT, DEFLATED, FRAMES = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.8.1"
RLE, JPEG, LOSSLESS, JPEG_LS = (f"1.2.840.10008.1.2.{end}" for end in ("5", "4.50", "4.70", "4.80"))
EXTENDED, JPEG_2000, HTJ2K = (f"1.2.840.10008.1.2.{end}" for end in ("4.51", "4.90", "4.201"))
Refused = Callable[..., Exception]


def picture(bits: int) -> np.ndarray:
    """A slope with some noise: every row differs, so that a missing end shows."""
    noise = np.random.default_rng(7).integers(0, 2**bits // 64, (64, 80))
    slope = np.add.outer(np.arange(64), np.arange(80)) * (2**bits * 3 // 4) // 144
    return (slope + noise).astype(np.uint8 if bits <= 8 else np.uint16)


def coded(syntax: str, pixels: np.ndarray, bits: int) -> bytes:
    """One frame as a codestream."""
    if syntax == RLE:
        planes = pixels.view(np.uint8).reshape(pixels.size, -1).T[::-1]  # the high byte first
        parts = [bytes(imagecodecs.packbits_encode(plane.tobytes())) for plane in planes]
        starts = [64 + sum(map(len, parts[:n])) for n in range(len(parts))]
        return struct.pack("<16I", len(parts), *starts, *[0] * (15 - len(parts))) + b"".join(parts)
    if syntax == FRAMES:
        squeeze = zlib.compressobj(wbits=-15)
        return squeeze.compress(pixels.tobytes()) + squeeze.flush()
    encode: dict[str, Callable[[], bytes]] = {
        JPEG: lambda: imagecodecs.jpeg8_encode(pixels, level=90),
        EXTENDED: lambda: imagecodecs.jpeg8_encode(pixels, level=90, bitspersample=bits),
        LOSSLESS: lambda: imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=bits),
        JPEG_LS: lambda: imagecodecs.jpegls_encode(pixels),
        JPEG_2000: lambda: imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", level=0, reversible=True),
        HTJ2K: lambda: imagecodecs.htj2k_encode(pixels),
    }
    return bytes(encode[syntax]())


def head(pixels: np.ndarray, bits: int, syntax: str = EXPLICIT, **tags: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.PatientName, made.PatientID = "KANARIENVOGEL^A", "KANARIENVOGEL"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    made.PixelRepresentation = 0
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def written(made: Dataset, codestream: bytes | None = None) -> bytes:
    if codestream is not None:
        made.PixelData = encapsulate([codestream], has_bot=False)
        made["PixelData"].VR = "OB"
        made["PixelData"].is_undefined_length = True
    handle = io.BytesIO()
    syntax = made.file_meta.TransferSyntaxUID
    if syntax in pydicom.uid.AllTransferSyntaxes:
        pydicom.dcmwrite(handle, made, enforce_file_format=True)
        return handle.getvalue()
    made.file_meta.TransferSyntaxUID = UID(JPEG_LS)  # one that pydicom does not know is put in its place
    pydicom.dcmwrite(handle, made, enforce_file_format=True)
    return handle.getvalue().replace(JPEG_LS.encode(), syntax.encode().ljust(len(JPEG_LS), b"\0"))


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit little-endian element with a length of four bytes."""
    number = len(value) if length is None else length
    return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr, 0, number) + value


def with_extra(extra: bytes) -> bytes:
    """A good file of 16 x 16 pixels with ``extra`` bytes before the pixel data."""
    data = written(head(picture(8)[:16, :16].copy(), 8))
    at = data.rindex(b"\xe0\x7f\x10\x00")
    return data[:at] + extra + data[at:]


SYNTAXES = [
    (EXPLICIT, 12), (DEFLATED, 12), (FRAMES, 8), (RLE, 16), (JPEG, 8), (EXTENDED, 12), (LOSSLESS, 16), (LOSSLESS, 8),
    (JPEG_LS, 16), (JPEG_2000, 16), (HTJ2K, 16),
]  # fmt: skip


def good(syntax: str, bits: int) -> tuple[bytes, bytes | None]:
    """A file, and the codestream in it."""
    pixels = picture(bits)
    if syntax == EXPLICIT:
        return written(head(pixels, bits)), None
    if syntax == DEFLATED:
        plain, squeeze = written(head(pixels, bits, DEFLATED)), zlib.compressobj(wbits=-15)
        if b"\x28\x00\x10\x00US" not in plain:  # pydicom deflates by itself
            return plain, None
        at = plain.index(b"\x08\x00\x16\x00")
        return plain[:at] + squeeze.compress(plain[at:]) + squeeze.flush(), None
    stream = coded(syntax, pixels, bits)
    return written(head(pixels, bits, syntax), stream), stream


# -- 1: cut off ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("syntax", "bits"), SYNTAXES)
def test_a_file_cut_at_every_sixteenth(refused: Refused, syntax: str, bits: int) -> None:
    data, _ = good(syntax, bits)
    whole = dicom.stored(data, LIMITS.check)[0].astype(int)
    assert np.abs(whole - picture(bits)).max() <= (0 if syntax not in (JPEG, EXTENDED) else 2**bits // 40)
    for part in range(16):
        refused(read_image, data[: len(data) * part // 16])
    for missing in (1, 2, 9, 17):  # the end mark, its length, the last bytes of the pixels
        if syntax == EXPLICIT or missing > 8:
            refused(read_image, data[:-missing])


@pytest.mark.parametrize(("syntax", "bits"), [pair for pair in SYNTAXES if pair[0] not in (EXPLICIT, DEFLATED)])
def test_a_codestream_cut_within_a_whole_file(refused: Refused, syntax: str, bits: int) -> None:
    """The file is whole, the frame in it is not: with and without an end mark, which some decoders are content with."""
    _, stream = good(syntax, bits)
    assert stream is not None
    ends = (b"",) if syntax in (RLE, FRAMES) else (b"", b"\xff\xd9", b"\0" * 64 + b"\xff\xd9")
    for part in range(1, 16):
        for end in ends:
            cut = stream[: len(stream) * part // 16] + end
            refused(dicom.decode, written(head(picture(bits), bits, syntax), cut), LIMITS.check)


@pytest.mark.parametrize(("syntax", "bits"), [(JPEG, 8), (EXTENDED, 12), (LOSSLESS, 16)])
def test_the_last_bytes_of_a_jpeg(refused: Refused, syntax: str, bits: int) -> None:
    """libjpeg would paint over the few missing blocks."""
    _, stream = good(syntax, bits)
    assert stream is not None
    for missing in (4, 6, 10):
        short = stream[: -2 - missing] + b"\xff\xd9"
        error = refused(dicom.decode, written(head(picture(bits), bits, syntax), short), LIMITS.check)
        assert "cut off" in str(error)


# -- 14: nested sequences --------------------------------------------------------------------------------


def nested(levels: int, *, lengths: bool, tag: int = 0x00081115) -> bytes:
    inner = b""
    if not lengths:
        opening = element(tag, b"SQ", b"", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        ending = struct.pack("<HHIHHI", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
        return opening * levels + ending * levels
    for _ in range(levels):
        inner = element(tag, b"SQ", struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner)
    return inner


@pytest.mark.parametrize("tag", [0x00081115, 0x00283010, 0x52009230])
@pytest.mark.parametrize("lengths", [True, False])
def test_a_thousand_nested_sequences(survived: Callable[..., Any], lengths: bool, tag: int) -> None:
    result = survived(read_image, with_extra(nested(1000, lengths=lengths, tag=tag)))
    if lengths or isinstance(result, Exception):
        assert "nests" in str(result) or not isinstance(result, Exception)
    few = survived(read_image, with_extra(nested(20, lengths=lengths)))
    assert few.pixels.shape == (16, 16, 1)


def test_a_million_nested_sequences(refused: Refused) -> None:
    assert "nests" in str(refused(read_image, with_extra(nested(1_000_000, lengths=False))))


# -- 15: lengths -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("vr", [b"OB", b"UN", b"SQ", b"UT"])
@pytest.mark.parametrize("length", [0x7FFFFFFF, 0xFFFFFFFE, 100_000])
def test_a_length_beyond_the_file(refused: Refused, vr: bytes, length: int) -> None:
    assert "cut off" in str(refused(read_image, with_extra(element(0x00091010, vr, b"KANARIENVOGEL ", length))))


def test_lengths_of_pixels_and_fragments_beyond_the_file(refused: Refused) -> None:
    data = with_extra(b"")
    at = data.rindex(b"\xe0\x7f\x10\x00") + 8
    for length in (257, 2**31, 2**32 - 2):
        refused(read_image, data[:at] + struct.pack("<I", length) + data[at + 4 :])
    data, stream = good(RLE, 16)
    assert stream is not None
    at = data.rindex(stream) - 4
    for length in (len(stream) + 1000, 2**31, 2**32 - 1):
        refused(read_image, data[:at] + struct.pack("<I", length) + data[at + 4 :])


def test_an_undefined_length_that_does_not_end(refused: Refused) -> None:
    refused(read_image, with_extra(element(0x00091010, b"SQ", b"", 0xFFFFFFFF)))
    refused(
        read_image, with_extra(element(0x00091010, b"UN", struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF), 0xFFFFFFFF))
    )


# -- 16: bombs -------------------------------------------------------------------------------------------


def test_a_deflated_bomb(refused: Refused) -> None:
    """Of 260 MB of nothing in a quarter of one, the data set before the pixels; the limit is at 256."""
    squeeze = zlib.compressobj(wbits=-15)
    bomb = squeeze.compress(element(0x00091010, b"OB", b"", 260 * 2**20))
    bomb += b"".join(squeeze.compress(bytes(2**20)) for _ in range(260)) + squeeze.flush()
    assert "larger than the limit" in str(refused(read_image, deflated_meta() + bomb))


def deflated_meta() -> bytes:
    """Preamble and file meta information of a deflated file."""
    syntax = DEFLATED.encode()
    return bytes(128) + b"DICM" + struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax


def test_a_deflated_frame_bomb(refused: Refused) -> None:
    squeeze = zlib.compressobj(wbits=-15)
    bomb = b"".join(squeeze.compress(bytes(2**20)) for _ in range(64)) + squeeze.flush()
    error = refused(read_image, written(head(picture(8), 8, FRAMES), bomb))
    assert "disagree" in str(error)


def test_a_run_length_bomb(refused: Refused) -> None:
    """Ten megabytes that would become 640."""
    bomb = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x55" * 5_000_000
    assert "beyond the image" in str(refused(read_image, written(head(picture(8), 8, RLE), bomb)))


def test_run_lengths_with_lies_in_the_header(refused: Refused) -> None:
    _, stream = good(RLE, 16)
    assert stream is not None
    for lie in ((1, 64), (15, 64), (2**31, 64), (2, 2**31), (2, 64, 2**31), (2, 10**6, 64), (2, 0, 0)):
        bad = struct.pack(f"<{len(lie)}I", *lie) + stream[4 * len(lie) :]
        refused(read_image, written(head(picture(16), 16, RLE), bad))


def test_half_a_million_empty_items(survived: Callable[..., Any]) -> None:
    """Four megabytes that would be half a million objects."""
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
    for tag in (0x00081115, 0x00283010, 0x52009230):
        survived(read_image, with_extra(element(tag, b"SQ", item * 500_000)))
        end = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        survived(read_image, with_extra(element(tag, b"SQ", item * 500_000 + end, 0xFFFFFFFF)))


def test_a_million_elements(refused: Refused) -> None:
    many = struct.pack("<HH2sH", 0x0009, 0x1010, b"LO", 0) * 1_100_000
    assert "too many elements" in str(refused(read_image, with_extra(many)))


def test_a_segmented_palette_bomb(refused: Refused) -> None:
    """Linear segments of 65,535 entries, and repetitions of repetitions."""
    linear = struct.pack("<HHH", 0, 1, 0) + struct.pack("<HHH", 1, 65535, 9) * 20_000
    again = struct.pack("<HHH", 0, 1, 0) + struct.pack("<HHHH", 2, 65535, 6, 0) * 20_000
    endless = struct.pack("<HHH", 0, 1, 7) + struct.pack("<HHHH", 2, 65535, 0, 0) * 20_000
    for bomb in (linear, again, endless):
        tags: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
        for name in ("Red", "Green", "Blue"):
            tags[f"{name}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
            tags[f"Segmented{name}PaletteColorLookupTableData"] = bomb[:60_000]
        made = head(picture(8), 8, EXPLICIT, **tags)
        if bomb is linear:
            assert read_image(written(made)).pixels.shape == (64, 80, 3)  # ends with its 65,536th entry
        else:
            refused(read_image, written(made))


def test_headers_of_codestreams_that_lie(refused: Refused) -> None:
    """The size in a frame's own header is held against the tags before a decoder sees it."""
    _, stream = good(JPEG, 8)
    assert stream is not None
    at = stream.index(b"\xff\xc0") + 5
    for rows, columns in ((65500, 65500), (64, 81), (0, 80), (1, 1)):
        lie = stream[:at] + struct.pack(">HH", rows, columns) + stream[at + 4 :]
        assert "contradicts" in str(refused(read_image, written(head(picture(8), 8, JPEG), lie)))
    _, stream = good(JPEG_2000, 16)
    assert stream is not None
    for lie in ((2**31, 2**31), (80, 65), (2**32 - 1, 64)):
        bad = stream[:8] + struct.pack(">II", *lie) + stream[16:]
        assert "contradicts" in str(refused(read_image, written(head(picture(16), 16, JPEG_2000), bad)))
    for tile in ((1, 1), (0, 0)):
        bad = stream[:24] + struct.pack(">II", *tile) + stream[32:]
        assert "tiles" in str(refused(read_image, written(head(picture(16), 16, JPEG_2000), bad)))


def test_a_film_that_is_declared_but_not_there(refused: Refused) -> None:
    for frames in (2, 4096, 2**31 - 1):
        refused(read_image, written(head(picture(8), 8, EXPLICIT, NumberOfFrames=frames)))
    made = head(np.zeros((1, 1), np.uint8), 8, EXPLICIT)
    made.Rows = made.Columns = 65535
    assert "larger than the limit" in str(refused(read_image, written(made)))


# -- 19: numbers that disagree ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tags",
    [
        {"Rows": 128}, {"Rows": 32}, {"Columns": 160}, {"Columns": 40}, {"Rows": 0}, {"BitsAllocated": 16},
        {"BitsAllocated": 12}, {"BitsAllocated": 0}, {"BitsStored": 9}, {"BitsStored": 0}, {"HighBit": 12},
        {"SamplesPerPixel": 3}, {"SamplesPerPixel": 0}, {"PhotometricInterpretation": "RGB"},
        {"PhotometricInterpretation": "PALETTE COLOR"}, {"PhotometricInterpretation": "KANARIENVOGEL"},
        {"PhotometricInterpretation": "YBR_PARTIAL_422", "SamplesPerPixel": 3}, {"PhotometricInterpretation": ""},
        {"NumberOfFrames": 0}, {"NumberOfFrames": -1}, {"RescaleSlope": float("nan")},
        {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
    ],
    ids=str,
)  # fmt: skip
def test_tags_that_contradict_the_bytes(refused: Refused, tags: dict[str, object]) -> None:
    made = head(picture(8), 8, EXPLICIT)
    with warnings.catch_warnings(action="ignore"):
        for name, value in tags.items():
            setattr(made, name, value)
        data = written(made)
    refused(read_image, data)


@pytest.mark.parametrize("name", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation", "PixelData"])
def test_what_is_needed_and_absent(refused: Refused, name: str) -> None:
    made = head(picture(8), 8, EXPLICIT)
    delattr(made, name)
    assert "without" in str(refused(read_image, written(made))) or name == "PhotometricInterpretation"


@pytest.mark.parametrize("name", ["Rows", "BitsStored", "NumberOfFrames", "RescaleSlope", "WindowCenter"])
def test_numbers_that_are_none(refused: Refused, name: str) -> None:
    made = head(picture(8), 8, EXPLICIT)
    data = written(made)
    tag = pydicom.datadict.tag_for_keyword(name)
    assert tag is not None
    bad = struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"IS", 14) + b"KANARIENVOGEL "
    at = data.rindex(b"\xe0\x7f\x10\x00")
    refused(read_image, data[:at] + bad + data[at:])


def test_frames_and_fragments_that_disagree(refused: Refused) -> None:
    stream = coded(RLE, picture(16), 16)
    made = head(picture(16), 16, RLE, NumberOfFrames=3)
    for number in (1, 2, 4, 7):
        made.PixelData = encapsulate([stream] * number, has_bot=False)
        made["PixelData"].VR = "OB"
        refused(read_image, written(made))


def test_a_transfer_syntax_that_is_wrong_or_unknown(refused: Refused) -> None:
    data, stream = good(JPEG_LS, 16)
    for other in (JPEG, JPEG_2000, RLE, FRAMES, "1.2.840.10008.1.2.4.102", "1.2.3.4"):
        refused(read_image, written(head(picture(16), 16, other), stream))
    for other in (RLE, JPEG):
        refused(
            read_image,
            written(head(picture(16), 16, EXPLICIT)).replace(
                b"1.2.840.10008.1.2.1\0", f"{other}\0".encode().ljust(20, b"\0")
            ),
        )
    bad = data.replace(JPEG_LS.encode(), b"<script>KANARIENVOGEL<"[: len(JPEG_LS)])
    refused(read_image, bad)


# -- 22 and 23: tags that must not matter ----------------------------------------------------------------

HOSTILE = (
    "KANARIENVOGEL\x00\x1b[31m", "<script>KANARIENVOGEL</script>", "=HYPERLINK(KANARIENVOGEL)", "../../KANARIENVOGEL",
    "KANARIENVOGEL\r\n\x85", "\N{RIGHT-TO-LEFT OVERRIDE}KANARIENVOGEL",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_text_in_tags_changes_no_pixel_and_reaches_no_message(refused: Refused, text: str) -> None:
    clean = read_image(written(head(picture(8), 8, EXPLICIT)))
    raw = text.encode("utf-8")
    raw += b" " * (len(raw) % 2)
    parts = [(0x00080005, b"CS"), (0x00080008, b"CS"), (0x00100010, b"PN"), (0x00081030, b"LO")]
    extra = b"".join(struct.pack("<HH2sH", t >> 16, t & 0xFFFF, vr, len(raw)) + raw for t, vr in parts)
    data = written(head(picture(8), 8, EXPLICIT))
    at = data.rindex(b"\xe0\x7f\x10\x00")
    assert np.array_equal(read_image(data[:at] + extra + data[at:]).pixels, clean.pixels)
    refused(read_image, data[:at] + extra + data[at:-20])
    modality = struct.pack("<HH2sH", 0x0008, 0x0060, b"CS", len(raw)) + raw
    noted = dicom.decode(data[:at] + modality + data[at:], LIMITS.check, window="full")[1]
    assert "KANARIENVOGEL" not in "".join(noted)


# -- any bytes -------------------------------------------------------------------------------------------


def damaged(data: bytes, times: int, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    for _ in range(times):
        bad = bytearray(data)
        for at in rng.integers(128, len(bad), rng.integers(1, 6)):
            bad[at] = rng.integers(0, 256)
        yield bytes(bad)


@pytest.mark.parametrize(("syntax", "bits"), SYNTAXES)
def test_a_few_wrong_bytes(survived: Callable[..., Any], syntax: str, bits: int) -> None:
    data, _ = good(syntax, bits)
    for bad in damaged(data, 60, seed=bits):
        survived(read_image, bad)


@pytest.mark.parametrize("read", [dicom.decode, dicom.physical, dicom.stored])
def test_19_a_number_of_another_length_than_its_type(refused, read: Callable[..., Any]) -> None:
    """Found by fuzzing: pydicom's own exception is no ValueError, and quotes the bytes of the tag."""
    data = written(head(picture(8), 8))
    rows = struct.pack("<HH", 0x0028, 0x0010)
    assert data.count(rows + b"US") == 1
    broken = data.replace(rows + b"US", rows + b"UL")
    error = refused(read, broken, LIMITS.check)
    assert error.__cause__ is None
    refused(read_image, broken)

"""DICOM made here, one oddity at a time: against pydicom's own processing and the formulas of the standard."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import (
    apply_color_lut,
    apply_modality_lut,
    apply_voi_lut,
    apply_windowing,
    convert_color_space,
)
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from overread.core.errors import ImageError, InputError
from overread.images.conversions import PRESETS
from overread.images.dicom import pixels as dicom
from overread.images.read import LIMITS, Limits, read_image

RNG = np.random.default_rng(9)
STORED = RNG.integers(0, 4096, (12, 10), dtype=np.uint16)


def dataset(pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int | None = None, **tags: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    colour = photometric in ("RGB", "YBR_FULL", "YBR_RCT")
    frames = pixels.shape[0] if pixels.ndim == 3 + colour else 1
    made.Rows, made.Columns = pixels.shape[-2 - colour], pixels.shape[-1 - colour]
    made.SamplesPerPixel = 3 if colour else 1
    if colour:
        made.PlanarConfiguration = 0
    if frames > 1:
        made.NumberOfFrames = frames
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = pixels.dtype.itemsize * 8
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OB" if made.BitsAllocated <= 8 else "OW"
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def written(made: Dataset) -> bytes:
    handle = io.BytesIO()
    pydicom.dcmwrite(handle, made, enforce_file_format=True)
    return handle.getvalue()


def read(*args: object, **tags: object) -> np.ndarray:
    return read_image(written(dataset(*args, **tags))).pixels  # type: ignore[arg-type]


@pytest.mark.parametrize(("centre", "width"), [(2048, 4096), (600, 400), (-100, 350), (40, 1)])
def test_window_is_that_of_pydicom(centre: int, width: int) -> None:
    tags = {"WindowCenter": centre, "WindowWidth": width, "RescaleSlope": 2, "RescaleIntercept": -1024}
    made = dataset(STORED, bits=12, **tags)
    theirs = apply_windowing(STORED * 2.0 - 1024, made)
    low, high = -1024.0, 4095 * 2 - 1024.0  # what pydicom scales to
    expected = (theirs - low) / (high - low) * 65535
    assert np.abs(read_image(written(made)).pixels[..., 0] - expected).max() <= 1


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_other_window_functions(function: str) -> None:
    grey = read(STORED, bits=12, WindowCenter=2000, WindowWidth=1000, VOILUTFunction=function)[..., 0] / 65535
    x = (STORED.astype(float) - 2000) / 1000
    expected = np.clip(x + 0.5, 0, 1) if function == "LINEAR_EXACT" else 1 / (1 + np.exp(-4 * x))
    assert np.abs(grey - expected).max() < 1e-4


def test_the_first_of_several_windows_is_taken() -> None:
    both = read(STORED, bits=12, WindowCenter=[600, 2000], WindowWidth=[400, 10])
    assert np.array_equal(both, read(STORED, bits=12, WindowCenter=600, WindowWidth=400))


def test_without_a_window_the_range_is_stretched_and_padding_left_out() -> None:
    signed = STORED.astype(np.int16) - 1000
    signed[0, :5] = -2000
    grey = read(signed, PixelPaddingValue=-2000)[..., 0]
    inside = signed[signed != -2000]
    assert grey.dtype == np.uint16
    assert grey[signed == inside.min()].max() == 0
    assert grey[signed == inside.max()].min() == 65535
    assert (grey[0, :5] == 0).all()


def test_eight_bits_without_a_window_stay_as_they_are() -> None:
    stored = STORED.astype(np.uint8) // 2
    image = read_image(written(dataset(stored)))
    assert image.bits == 8
    assert np.array_equal(image.pixels[..., 0], stored)


def test_monochrome1_is_inverted_last() -> None:
    tags = {"WindowCenter": 600, "WindowWidth": 400}
    assert np.array_equal(read(STORED, "MONOCHROME1", 12, **tags), 65535 - read(STORED, "MONOCHROME2", 12, **tags))


def test_frames_are_a_volume() -> None:
    frames = RNG.integers(0, 256, (4, 12, 10), dtype=np.uint8)
    image = read_image(written(dataset(frames)))
    assert image.mode == "volume"
    assert np.array_equal(image.pixels[..., 0], frames)


def test_colour() -> None:
    rgb = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    assert np.array_equal(read(rgb, "RGB"), rgb)
    grey_as_ybr = np.full((12, 10, 3), 128, np.uint8)
    assert np.abs(read(grey_as_ybr, "YBR_FULL").astype(int) - 128).max() <= 1


def test_palette() -> None:
    index = RNG.integers(0, 4, (12, 10), dtype=np.uint8)
    table = np.array([[0, 0, 0], [65535, 0, 0], [0, 65535, 0], [257, 514, 65535]], np.uint16)
    tags = {}
    for channel, name in enumerate(("Red", "Green", "Blue")):
        tags[f"{name}PaletteColorLookupTableDescriptor"] = [4, 0, 16]
        tags[f"{name}PaletteColorLookupTableData"] = table[:, channel].tobytes()
    made = dataset(index, "PALETTE COLOR")
    for name, value in tags.items():
        setattr(made, name, value)
    assert np.array_equal(read_image(written(made)).pixels, (table >> 8).astype(np.uint8)[index])


def test_a_voi_table_is_used() -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [4096, 0, 16], (np.arange(4096, dtype="<u2") * 15).tobytes()
    made = dataset(STORED, bits=12)
    made.VOILUTSequence = [item]
    assert np.array_equal(read_image(written(made)).pixels[..., 0], STORED * 15)


def test_refused() -> None:
    data = written(dataset(STORED))
    with pytest.raises(ImageError, match="larger than the limit"):
        read_image(data, limits=Limits(pixels=50))
    for part in range(1, 16):
        with pytest.raises(ImageError):
            read_image(data[: len(data) * part // 16])
    made = dataset(STORED)
    made.Rows = 500  # rows and bytes that disagree
    with pytest.raises(ImageError):
        read_image(written(made))
    made.NumberOfFrames = 100_000
    with pytest.raises(ImageError, match="larger than the limit"):
        read_image(written(made))
    del made.PixelData
    with pytest.raises(ImageError, match="no image"):
        read_image(written(made))


def test_no_patient_in_any_error() -> None:
    made = dataset(STORED, PatientName="CANARY^PATIENT", PatientID="CANARY")
    for damage in ({"Rows": 999}, {"PhotometricInterpretation": "CANARY"}, {"BitsAllocated": 7}):
        for name, value in damage.items():
            setattr(made, name, value)
        with pytest.raises(ImageError) as error:
            read_image(written(made))
        assert "CANARY^PATIENT" not in str(error.value)


# -- samples ---------------------------------------------------------------------------------------------


def stored(made: Dataset) -> np.ndarray:
    return dicom.stored(written(made), LIMITS.check)


def test_bits_that_are_not_stored_are_masked() -> None:
    junk = STORED | RNG.integers(0, 16, STORED.shape, dtype=np.uint16) << 12
    assert np.array_equal(stored(dataset(junk, bits=12))[0], STORED)


@pytest.mark.parametrize("bits", range(8, 16))
def test_the_sign_is_that_of_the_stored_bits(bits: int) -> None:
    values = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (9, 7), dtype=np.int16)
    words = values.astype(np.uint16) & np.uint16(2**bits - 1)  # nothing above: no sign is extended
    made = dataset(words, bits=bits, PixelRepresentation=1)
    assert np.array_equal(stored(made)[0], values)
    assert np.array_equal(dicom.physical(written(made), LIMITS.check)[0][0], values)


def test_a_high_bit_that_is_the_highest() -> None:
    shifted = (STORED << 4) | RNG.integers(0, 16, STORED.shape, dtype=np.uint16)
    assert np.array_equal(stored(dataset(shifted, bits=12, HighBit=15))[0], STORED)
    signed = stored(dataset(shifted, bits=12, HighBit=15, PixelRepresentation=1))[0]
    assert np.array_equal(signed, shifted.view(np.int16) >> 4)


@pytest.mark.parametrize("kind", ["u4", "i4", "u1", "i1"])
def test_other_sizes_of_words(kind: str) -> None:
    limits = np.iinfo(kind)
    values = RNG.integers(limits.min, limits.max, (5, 6), dtype=kind, endpoint=True)
    assert np.array_equal(stored(dataset(values))[0], values)


@pytest.mark.parametrize(("name", "kind"), [("FloatPixelData", "f4"), ("DoubleFloatPixelData", "f8")])
def test_floating_point(name: str, kind: str) -> None:
    values = RNG.normal(size=(5, 6)).astype(kind)
    made = dataset(np.zeros((5, 6), np.uint8))
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.BitsAllocated = values.itemsize * 8
    setattr(made, name, values.tobytes())
    assert np.array_equal(stored(made)[0], values)
    assert np.allclose(dicom.physical(written(made), LIMITS.check)[0][0], values)
    scaled = (values - values.min()) / (values.max() - values.min()) * 65535
    assert np.abs(read_image(written(made)).pixels[..., 0] - scaled).max() <= 1
    values[2, 2] = np.nan
    setattr(made, name, values.tobytes())
    with pytest.raises(ImageError, match="NaN"):
        read_image(written(made))
    made.add_new(0x00280122 if kind == "f4" else 0x00280123, "FL" if kind == "f4" else "FD", 0.0)
    with pytest.raises(ImageError, match="NaN"):
        read_image(written(made))


def test_one_bit_whose_frames_end_within_a_byte() -> None:
    masks = RNG.integers(0, 2, (5, 7, 3), dtype=np.uint8)
    made = dataset(masks, BitsAllocated=1, BitsStored=1, HighBit=0)
    made.PixelData = np.packbits(masks.reshape(-1), bitorder="little").tobytes()
    data = written(made)
    assert np.array_equal(dicom.stored(data, LIMITS.check), masks)
    for number, mask in enumerate(masks):
        assert np.array_equal(dicom.stored(data, LIMITS.check, frame=number)[0], mask)
    assert np.array_equal(read_image(data).pixels[..., 0], masks * 255)


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=str
)
def test_plain_syntaxes(syntax: UID) -> None:
    made = dataset(STORED, bits=12, WindowCenter=600, WindowWidth=400)
    made.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        made.PixelData = STORED.byteswap().tobytes()
    expected = read(STORED, bits=12, WindowCenter=600, WindowWidth=400)
    assert np.array_equal(read_image(written(made)).pixels, expected)


def test_bytes_that_stand_in_big_endian_words() -> None:
    pixels = RNG.integers(0, 256, (3, 3), dtype=np.uint8)  # an odd number of them
    made = dataset(pixels)
    made.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    made.PixelData = np.frombuffer(pixels.tobytes() + b"\0", "<u2").astype(">u2").tobytes()
    made["PixelData"].VR = "OW"
    assert np.array_equal(stored(made)[0], pixels)


def test_without_preamble_and_without_meta_information() -> None:
    made = dataset(STORED, bits=12)
    whole = written(made)
    assert np.array_equal(dicom.stored(whole[132:], LIMITS.check)[0], STORED)
    bare = whole[whole.index(b"\x08\0\x16\0") :]
    assert np.array_equal(dicom.stored(bare, LIMITS.check)[0], STORED)


def test_more_bytes_than_pixels_are_padding_up_to_a_frame() -> None:
    made = dataset(STORED, bits=12)
    made.PixelData += bytes(100)
    assert np.array_equal(stored(made)[0], STORED)
    made.PixelData += bytes(140)
    with pytest.raises(ImageError, match="disagree"):
        stored(made)


@pytest.mark.parametrize(("table", "ends"), [(True, False), (False, True)])
def test_frames_of_several_fragments(table: bool, ends: bool) -> None:
    import imagecodecs

    frames = RNG.integers(0, 4096, (3, 16, 12), dtype=np.uint16)
    streams = [imagecodecs.jpegls_encode(frame) for frame in frames]
    made = dataset(frames, bits=12)
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.80")
    made.PixelData = encapsulate([bytes(s) for s in streams], fragments_per_frame=3, has_bot=table)
    made["PixelData"].is_undefined_length = True
    data = written(made)
    assert np.array_equal(dicom.stored(data, LIMITS.check), frames)
    assert np.array_equal(dicom.stored(data, LIMITS.check, frame=1)[0], frames[1])


@pytest.mark.parametrize("signed", [True, False])
def test_jpeg_2000_that_disagrees_about_the_sign(signed: bool) -> None:
    import imagecodecs

    values = RNG.integers(-2000, 2000, (16, 12), dtype=np.int16)
    words = values.view(np.uint16) if signed else (values + 2000).view(np.int16)
    stream = imagecodecs.jpeg2k_encode(words, codecformat="J2K", level=0, reversible=True)
    made = dataset(values if signed else words.view(np.uint16))
    made.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.90")
    made.PixelData = encapsulate([bytes(stream)])
    made["PixelData"].is_undefined_length = True
    assert np.array_equal(stored(made)[0], values if signed else values + 2000)


# -- values ----------------------------------------------------------------------------------------------


def table(entries: np.ndarray, first: int, bits: int, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, vr, [len(entries), first, bits])
    item.add_new(0x00283006, "OW", entries.astype("<u2").tobytes())
    return item


def physical(made: Dataset) -> np.ndarray:
    return dicom.physical(written(made), LIMITS.check)[0]


@pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2.5, 0), (-1, 100), (0.001, 3)])
def test_rescale_is_that_of_pydicom(slope: float, intercept: float) -> None:
    made = dataset(STORED, bits=12, RescaleSlope=slope, RescaleIntercept=intercept)
    assert np.allclose(physical(made)[0], apply_modality_lut(STORED, made), rtol=1e-6)


def test_a_modality_table_is_that_of_pydicom() -> None:
    entries = RNG.integers(0, 65536, 3000)
    made = dataset(STORED, bits=12)
    made.ModalityLUTSequence = [table(entries, 500, 16)]
    made.ModalityLUTSequence[0].ModalityLUTType = "HU"
    assert np.array_equal(physical(made)[0], apply_modality_lut(STORED, made))


def test_a_voi_table_after_rescale_is_that_of_pydicom() -> None:
    entries = RNG.integers(0, 4096, 4096)
    made = dataset(STORED, bits=12, RescaleSlope=1, RescaleIntercept=-1024)
    made.VOILUTSequence = [table(entries, -1000, 12, "SS"), table(entries, 0, 12)]
    made.WindowCenter, made.WindowWidth = 40, 400  # the table goes first
    theirs = apply_voi_lut(apply_modality_lut(STORED, made).astype(np.int32), made)
    assert np.abs(read_image(written(made)).pixels[..., 0] - theirs / 4095 * 65535).max() <= 1


def test_doses_are_scaled() -> None:
    dose = RNG.integers(0, 2**32, (3, 4, 5), dtype=np.uint32)
    made = dataset(dose, DoseGridScaling="1e-9")
    assert np.allclose(physical(made), dose * 1e-9)
    assert read_image(written(made)).mode == "volume"


def groups(name: str, **tags: object) -> Dataset:
    item, inner = Dataset(), Dataset()
    for tag, value in tags.items():
        setattr(inner, tag, value)
    setattr(item, name, [inner])
    return item


@pytest.mark.parametrize("undefined", [True, False])
def test_frames_have_their_own_rescale_and_window(undefined: bool) -> None:
    frames = RNG.integers(0, 4096, (3, 6, 5), dtype=np.uint16)
    made = dataset(frames, bits=12, RescaleSlope=9, RescaleIntercept=9)  # what frames say goes first
    made.PerFrameFunctionalGroupsSequence = [
        groups("PixelValueTransformationSequence", RescaleSlope=n + 1, RescaleIntercept=-n) for n in range(3)
    ]
    made.SharedFunctionalGroupsSequence = [groups("FrameVOILUTSequence", WindowCenter=2000, WindowWidth=4000)]
    for sequence in (made["PerFrameFunctionalGroupsSequence"], made["SharedFunctionalGroupsSequence"]):
        sequence.is_undefined_length = undefined
        for item in sequence.value:
            item.is_undefined_length_sequence_item = undefined
    values = np.stack([frame * (n + 1.0) - n for n, frame in enumerate(frames)])
    assert np.array_equal(physical(made), values)
    image = read_image(written(made))
    assert image.notes == ("window 2000/4000",)
    expected = np.clip((values - 1999.5) / 3999 + 0.5, 0, 1) * 65535
    assert np.abs(image.pixels[..., 0] - expected).max() <= 1
    one, notes = dicom.decode(written(made), LIMITS.check, frame=2)
    assert np.array_equal(one, image.pixels[2])
    assert notes == ("frame 2 of 3", "window 2000/4000")


def test_padding_is_black_in_both_polarities() -> None:
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        signed = STORED.astype(np.int16)
        signed[0, :5], signed[1, :5] = -2000, -1990
        tags = {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}
        for more in ({}, {"WindowCenter": 40, "WindowWidth": 10000}):
            grey = read(signed, photometric, **tags, **more)[..., 0]
            assert (grey[:2, :5] == 0).all()
            assert grey.max() > 30000


# -- windows ---------------------------------------------------------------------------------------------


def test_a_window_of_the_user_is_one_of_physical_values() -> None:
    made = dataset(STORED, bits=12, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=1, WindowWidth=2)
    made.Modality = "CT"
    for name in ("lung", "40/400"):
        pixels, notes = dicom.decode(written(made), LIMITS.check, window=name)
        centre, width = (-600, 1500) if name == "lung" else (40, 400)
        expected = np.clip((STORED - 1024.0 - centre + 0.5) / (width - 1) + 0.5, 0, 1) * 65535
        assert np.abs(pixels[..., 0] - expected).max() <= 1
        assert notes == (f"window {centre}/{width}",)
    full, notes = dicom.decode(written(made), LIMITS.check, window="full")
    assert (full.min(), full.max(), notes) == (0, 65535, ("smallest to largest value",))
    assert PRESETS["lung"].width == 1500
    with pytest.raises(InputError, match="Did you mean 'lung'"):
        dicom.decode(written(made), LIMITS.check, window="lungs")


def test_a_window_leaves_eight_bits_and_colours_alone() -> None:
    stored = STORED.astype(np.uint8)
    pixels, notes = dicom.decode(written(dataset(stored)), LIMITS.check, window="lung")
    assert np.array_equal(pixels[..., 0], stored)
    assert "not applied" in notes[0]
    full, _ = dicom.decode(written(dataset(stored // 2 + 10)), LIMITS.check, window="full")
    assert (full.min(), full.max()) == (0, 65535)
    rgb = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    pixels, notes = dicom.decode(written(dataset(rgb, "RGB")), LIMITS.check, window="lung")
    assert np.array_equal(pixels, rgb)
    assert "not applied" in notes[0]


def test_a_window_that_cannot_be_used_is_passed_over() -> None:
    for centre, width in ((40, 0), (40, -5), ("", ""), ([40, 600], [0, 400])):
        image = read_image(written(dataset(STORED, bits=12, WindowCenter=centre, WindowWidth=width)))
        expected = "window 600/400" if isinstance(centre, list) else "smallest to largest value"
        assert image.notes == (expected,)


# -- colour ----------------------------------------------------------------------------------------------


def test_planes_of_colour() -> None:
    rgb = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    made = dataset(rgb, "RGB", PlanarConfiguration=1)
    made.PixelData = np.moveaxis(rgb, -1, 0).tobytes()
    assert np.array_equal(read_image(written(made)).pixels, rgb)


def test_ybr_is_that_of_pydicom() -> None:
    ybr = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    theirs = convert_color_space(ybr, "YBR_FULL", "RGB").astype(int)
    assert np.abs(read(ybr, "YBR_FULL").astype(int) - theirs).max() <= 1


def test_subsampled_ybr() -> None:
    quads = RNG.integers(0, 256, (6, 4, 4), dtype=np.uint8)  # two luminances, blue, red
    whole = np.empty((6, 8, 3), np.uint8)
    whole[:, 0::2, 0], whole[:, 1::2, 0] = quads[..., 0], quads[..., 1]
    whole[:, :, 1:] = np.repeat(quads[..., 2:], 2, axis=1)
    made = dataset(whole, "YBR_FULL", PhotometricInterpretation="YBR_FULL_422")
    assert np.array_equal(stored(made)[0], whole)  # written in full, as some do
    made.PixelData = quads.tobytes()
    assert np.array_equal(stored(made)[0], whole)
    theirs = convert_color_space(whole, "YBR_FULL", "RGB").astype(int)
    assert np.abs(read_image(written(made)).pixels.astype(int) - theirs).max() <= 1


@pytest.mark.parametrize("bits", [12, 16])
def test_deep_colour_is_stretched_to_16_bits(bits: int) -> None:
    rgb = RNG.integers(0, 2**bits, (4, 5, 3), dtype=np.uint16)
    assert np.array_equal(read(rgb, "RGB", bits), rgb.astype(np.uint32) * 65535 // (2**bits - 1))


def test_colour_of_32_bits_keeps_the_upper_ones() -> None:
    rgb = RNG.integers(0, 2**32, (4, 5, 3), dtype=np.uint32)
    image = read_image(written(dataset(rgb, "RGB")))
    assert np.array_equal(image.pixels, rgb >> 16)
    assert image.notes == ("32 bits reduced to 16",)


def test_a_film_in_colour_is_read_frame_by_frame() -> None:
    film = RNG.integers(0, 256, (3, 6, 4, 3), dtype=np.uint8)
    data = written(dataset(film, "RGB"))
    image = read_image(data)
    assert np.array_equal(image.pixels, film[0])
    assert image.notes == ("first of 3 frames",)
    pixels, notes = dicom.decode(data, LIMITS.check, frame=2)
    assert np.array_equal(pixels, film[2])
    assert notes == ("frame 2 of 3",)
    for frame in (3, -1):
        with pytest.raises(ImageError, match="no such frame"):
            dicom.decode(data, LIMITS.check, frame=frame)
    with pytest.raises(ImageError, match="physical"):
        dicom.physical(data, LIMITS.check)


def palette(index: np.ndarray, descriptor: list[int], name: str, tables: list[np.ndarray], **tags: object) -> Dataset:
    made = dataset(index, "PALETTE COLOR", **tags)  # type: ignore[arg-type]
    for colour, entries in zip(("Red", "Green", "Blue"), tables):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", descriptor)
        setattr(made, name.format(colour), entries.tobytes())
    return made


@pytest.mark.parametrize(("bits", "first"), [(16, 0), (16, 30), (8, 0), (8, 100)])
def test_palettes_are_those_of_pydicom(bits: int, first: int) -> None:
    index = RNG.integers(0, 256, (12, 10), dtype=np.uint8)
    tables = [RNG.integers(0, 2**bits, 150).astype("<u2" if bits == 16 else np.uint8) for _ in range(3)]
    made = palette(index, [150, first, bits], "{}PaletteColorLookupTableData", tables)
    theirs = apply_color_lut(index, made) >> (bits - 8)
    assert np.array_equal(read_image(written(made)).pixels, theirs)


def test_palettes_in_segments_are_those_of_pydicom() -> None:
    """Discrete, linear and repeated segments (PS3.3 C.7.9.2)."""
    words = [0, 3, 10, 20, 3000, 1, 50, 60000, 0, 2, 7, 9, 1, 10, 500, 2, 2, 5, 0]
    count = 3 + 50 + 2 + 10 + 50 + 2
    index = RNG.integers(0, count, (12, 10), dtype=np.uint16)
    tables = [np.array(words, "<u2")] * 3
    made = palette(index, [count, 0, 16], "Segmented{}PaletteColorLookupTableData", tables)
    theirs = apply_color_lut(index, made).astype(int)
    assert np.abs(read_image(written(made)).pixels.astype(int) - (theirs >> 8)).max() <= 1


def test_a_film_limit_counts_the_frames_that_are_read() -> None:
    data = written(dataset(np.zeros((8, 4, 4), np.uint8)))
    with pytest.raises(ImageError, match="larger than the limit"):
        dicom.decode(data, Limits(frames=5).check)
    assert dicom.decode(data, Limits(frames=5).check, frame=7)[0].shape == (4, 4, 1)

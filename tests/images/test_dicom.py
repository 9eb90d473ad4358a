"""Simple DICOM, made here: against pydicom's own processing and the formulas of the standard."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels.processing import apply_windowing
from pydicom.uid import ExplicitVRLittleEndian

from overread.errors import ImageError
from overread.images.read import Limits, read_image

RNG = np.random.default_rng(9)
STORED = RNG.integers(0, 4096, (12, 10), dtype=np.uint16)


def dataset(
    pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int | None = None, **tags: object
) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    colour = photometric in ("RGB", "YBR_FULL")
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
    assert np.array_equal(
        read(STORED, "MONOCHROME1", 12, **tags), 65535 - read(STORED, "MONOCHROME2", 12, **tags)
    )


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
    film = np.zeros((3, 4, 4, 3), np.uint8)
    with pytest.raises(ImageError, match="colour film"):
        read_image(written(dataset(film, "RGB")))


def test_no_patient_in_any_error() -> None:
    made = dataset(STORED, PatientName="CANARY^PATIENT", PatientID="CANARY")
    for damage in ({"Rows": 999}, {"PhotometricInterpretation": "CANARY"}, {"BitsAllocated": 7}):
        for name, value in damage.items():
            setattr(made, name, value)
        with pytest.raises(ImageError) as error:
            read_image(written(made))
        assert "CANARY^PATIENT" not in str(error.value)

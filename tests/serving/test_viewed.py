"""Pixels for a viewer: every value arrives, and the window in which the file wants to be seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from overread.core.errors import ImageError
from overread.serving import viewed as module
from overread.serving.policy import ServingLimits
from overread.serving.viewed import viewed


def unpacked(data: bytes) -> list[tuple[dict[str, Any], NDArray[np.float64]]]:
    """What a client makes of the answer: each image's description and its values (D, H, W, C)."""
    line, _, rest = data.partition(b"\n")
    images, at = [], 0
    for head in json.loads(line)["images"]:
        shape = tuple(head[name] for name in ("slices", "height", "width", "channels"))
        kind = np.dtype("<u2" if head["bits"] == 16 else "u1")
        stored = np.frombuffer(rest, kind, int(np.prod(shape)), at).reshape(shape)
        at += stored.nbytes + stored.nbytes % 2
        images.append((head, head["least"] + (head["most"] - head["least"]) * stored / np.iinfo(kind).max))
    assert at == len(rest)
    return images


def dicom(
    path: Path, stored: NDArray[np.int16], *, photometric: str = "MONOCHROME2", centre: float = 40, width: float = 400
) -> Path:
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = pydicom.uid.CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = pydicom.uid.generate_uid()
    file.Modality, file.PhotometricInterpretation = "CT", photometric
    file.Rows, file.Columns = stored.shape
    file.SamplesPerPixel, file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 1, 16, 16, 15, 1
    file.RescaleSlope, file.RescaleIntercept, file.WindowCenter, file.WindowWidth = 2, -1000, centre, width
    file.PixelData = stored.astype("<i2").tobytes()
    file.save_as(path, enforce_file_format=True)
    return path


STORED = np.linspace(0, 1400, 24 * 30).reshape(24, 30).astype(np.int16)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_hounsfield_units_arrive_whole_with_the_window_of_the_file(tmp_path, photometric):
    path = dicom(tmp_path / "a.dcm", STORED, photometric=photometric)
    ((head, values),) = unpacked(viewed([str(path)], ServingLimits()))
    np.testing.assert_allclose(values[0, ..., 0], STORED * 2.0 - 1000)  # also beyond the window, of 0 … 1800
    assert head["unit"] == "HU"
    assert head["inverted"] == (photometric == "MONOCHROME1")
    # PS3.3 C.11.2.1.2.1: black up to c - 0.5 - (w - 1) / 2, white from c - 0.5 + (w - 1) / 2 on
    assert (head["low"], head["high"]) == pytest.approx((40 - 0.5 - 399 / 2, 40 - 0.5 + 399 / 2), abs=0.1)


def test_a_volume_lies_as_a_radiologist_looks_at_it(tmp_path):
    voxels = np.arange(3 * 4 * 5, dtype="<i2").reshape(3, 4, 5)
    head = "NRRD0004\ntype: int16\ndimension: 3\nsizes: 5 4 3\nencoding: raw\nendian: little\nspace: right-anterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\n\n"
    (tmp_path / "v.nrrd").write_bytes(head.encode() + voxels.tobytes())
    ((about, values),) = unpacked(viewed([str(tmp_path / "v.nrrd")], ServingLimits()))
    np.testing.assert_allclose(values[..., 0], voxels[:, ::-1, ::-1])
    assert about["slices"] == 3


def test_colour_and_deep_pixels_of_one_case(tmp_path):
    rng = np.random.default_rng(0)
    colour, deep = rng.integers(0, 256, (5, 7, 3), np.uint8), rng.integers(300, 4000, (6, 8), np.uint16)
    for name, pixels in (("a.png", colour[..., ::-1]), ("b.tiff", deep)):
        (tmp_path / name).write_bytes(bytes(cv2.imencode(Path(name).suffix, pixels)[1]))
    first, second = unpacked(viewed([str(tmp_path / "a.png"), str(tmp_path / "b.tiff")], ServingLimits()))
    np.testing.assert_array_equal(first[1][0], colour)
    np.testing.assert_allclose(second[1][0, ..., 0], deep)
    assert [head["name"] for head, _ in (first, second)] == ["image 1", "image 2"]
    assert (second[0]["low"], second[0]["high"]) == pytest.approx(tuple(np.percentile(deep, (0.5, 99.5))))


def test_what_is_too_large_is_averaged_down_and_says_so(tmp_path):
    made = module._within(module.Viewed(np.full((2, 40, 60, 1), 9, np.uint16), 0, 65_535, 0, 1), 2 * 40 * 60 // 2)
    assert made.pixels.shape == (2, 20, 30, 1)
    assert made.shrunk == 2
    assert (made.pixels == 9).all()


def test_a_damaged_image_is_an_error_of_ours(tmp_path):
    (tmp_path / "a.dcm").write_bytes(dicom(tmp_path / "b.dcm", STORED).read_bytes()[:700])
    with pytest.raises(ImageError):
        viewed([str(tmp_path / "a.dcm")], ServingLimits())


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm"])
def test_real_files_have_the_values_that_pydicom_reads(shared, name):
    path = shared / "data" / "dicom" / name
    ((_, values),) = unpacked(viewed([str(path)], ServingLimits()))
    file = pydicom.dcmread(path)
    own = pydicom.pixels.apply_modality_lut(file.pixel_array, file)
    np.testing.assert_allclose(values[0, ..., 0], own)

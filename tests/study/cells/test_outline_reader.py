"""A model that outlines objects sees an image as it did in training: in its window, with all of its channels."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import tifffile
from pydicom.dataset import FileDataset, FileMetaDataset

from overread.cells import segment
from overread.images.outlines.outlines import outlines_of
from overread.images.read import read_image
from overread.study.cells.outline_reader import OutlineReader


@pytest.fixture
def seen(monkeypatch):
    """The pixels that the network is shown."""
    held: list[np.ndarray] = []

    def segment_image(model, pixels, **asked):
        held.append(pixels)
        return outlines_of(np.ones(pixels.shape[:2], np.int32))

    monkeypatch.setattr(segment, "segment_image", segment_image)
    return held


def reader(channels: int, window: str = "") -> OutlineReader:
    about = SimpleNamespace(recipe=SimpleNamespace(window=window), preprocess=SimpleNamespace(channels=channels))
    return OutlineReader(SimpleNamespace(about=about), ())


def ct(path):
    made = FileDataset(str(path), {}, preamble=b"\0" * 128, file_meta=FileMetaDataset())
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = pydicom.uid.CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = pydicom.uid.generate_uid()
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 8, 10, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.RescaleSlope, made.RescaleIntercept, made.WindowCenter, made.WindowWidth = 1, 0, 40, 400
    made.Modality = "CT"
    made.PixelData = (np.arange(80, dtype=np.int16) * 20 - 800).tobytes()
    made.save_as(path, enforce_file_format=True)
    return str(path)


def test_an_image_is_seen_in_the_window_of_the_model(seen, tmp_path):
    path = ct(tmp_path / "ct.dcm")
    found = reader(3, "-600/1500").outline(path)
    expected = read_image(path, window="-600/1500").pixels
    assert (seen[0] == expected).all()
    assert not np.array_equal(expected, read_image(path).pixels), "the window of the file is another"
    assert found.measures["intensity mean"].tolist() == pytest.approx([expected.mean()])


def test_frames_are_channels_all_of_which_are_shown_and_colour_has_three(seen, tmp_path):
    path = tmp_path / "film.tif"
    tifffile.imwrite(path, np.random.default_rng(0).integers(0, 255, (16, 12, 14)).astype(np.uint8))
    reader(8).outline(f"{path}#frames=channels:8")
    assert seen[0].shape == (12, 14, 8)
    reader(3).outline(f"{path}#frames=channels:8")
    assert seen[1].shape == (12, 14, 3)

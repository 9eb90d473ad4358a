"""From what is sent to one case: all of it or none, whose it is, and where it lies meanwhile."""

from __future__ import annotations

import io
import tempfile

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from served import StandIn, a_volume_model, encoded, files, zipped

from overread.serving.admission.refusal import Refusal
from overread.serving.uploads import patient_of


def slice_of(number: int, series: str = "1.2.3", **fields: object) -> bytes:
    """A slice of a CT series."""
    made = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    made.SeriesInstanceUID, made.SOPInstanceUID, made.InstanceNumber = series, f"{series}.{number}", number
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.ImagePositionPatient = [0, 0, 2 * number]
    for name, value in fields.items():
        setattr(made, name, value)
    buffer = io.BytesIO()
    made.save_as(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def volumes() -> StandIn:
    return StandIn(a_volume_model())


def test_the_slices_of_a_series_are_one_volume(opened, volumes):
    client = opened(reader=volumes)
    slices = [slice_of(number) for number in range(4)]
    loose = client.post("/predict", files=files(*slices, name="slice.dcm"))
    assert loose.status_code == 200, loose.text
    inside = client.post("/predict", files=files(zipped({f"ct/{i}.dcm": each for i, each in enumerate(slices)})))
    assert inside.json()["answers"] == loose.json()["answers"]


MIXED = {
    "two series": {"a/0.dcm": slice_of(0), "a/1.dcm": slice_of(1), "a/2.dcm": slice_of(0, "1.2.4")},
    "two folders": {"a/0.dcm": slice_of(0), "b/1.dcm": slice_of(1)},
    "another file": {"a/0.dcm": slice_of(0), "a/readme.txt": b"hello"},
}  # fmt: skip


@pytest.mark.parametrize("held", MIXED)
def test_what_would_be_left_out_of_a_volume_is_refused(opened, volumes, held):
    answer = opened(reader=volumes).post("/predict", files=files(zipped(MIXED[held])))
    assert (answer.status_code, answer.json()["error"]) == (422, "not-one-volume"), answer.text
    assert "one series" in answer.json()["todo"]


def test_series_that_are_sent_loose_are_not_mixed(opened, volumes):
    answer = opened(reader=volumes).post("/predict", files=files(slice_of(0), slice_of(1, "1.2.4"), name="slice.dcm"))
    assert answer.status_code == 422
    assert answer.json()["what"] == "the files are of 2 series"


def test_the_patient_is_the_one_that_headers_name(tmp_path):
    paths = [tmp_path / name for name in ("a.dcm", "b.dcm", "c.png")]
    for path, data in zip(paths, (slice_of(0, PatientID="one"), slice_of(1, PatientID="two"), b"none"), strict=True):
        path.write_bytes(data)
    first, second, other = map(str, paths)
    assert patient_of([other, first, first]) == "one"
    assert patient_of([other]) == ""
    with pytest.raises(Refusal, match="of 2 patients"):
        patient_of([first, second])


def test_a_large_upload_lies_in_the_private_folder_only(opened, tmp_path, monkeypatch):
    """Also while it arrives: where the system keeps temporary files it is never written."""
    client = opened()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    large = encoded(np.random.default_rng(0).integers(0, 256, (1500, 1500), np.uint8))
    assert len(large) > 2_000_000
    answer = client.post("/predict", files=files(large))
    assert answer.status_code == 200, answer.text

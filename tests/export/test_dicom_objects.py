"""What a PACS gets: valid by two other programs' rules, of the patient of the image, or of nobody."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from highdicom.sr import srread
from installed import program

from overread.core.errors import ImageError, InputError
from overread.deidentify.rules import Rules
from overread.evaluation.decision.single_case import Answer, Call, Opinion
from overread.export.dicom_objects import (
    SCHEME,
    WARNING,
    Algorithm,
    burnt_in,
    picture_of,
    read_source,
    report_of,
    write_object,
)

OPINION = Opinion("a", ("a.dcm",), "binary", (Answer("benign", 0.13), Answer("malignant", 0.87)), "malignant", "score ≥ 0.4",
                  (Call("malignant", True, 0.87, 0.4, "at 95 % sensitivity"),), calibration="calibrated in training")  # fmt: skip
ALGORITHM = Algorithm("overread resnet18", "0.1.0", "0123456789abcdef")
RULES = Rules(b"0123456789abcdef")
#: 16 bits, MONOCHROME1, several frames, compressed, colour, big endian, ACR-NEMA dates, a palette.
FILES = ("CT_small.dcm", "MR_small_RLE.dcm", "emri_small.dcm", "SC_rgb_2frame.dcm", "JPEG2000.dcm", "ExplVR_BigEnd.dcm", "OT-PAL-8-face.dcm",
         "image_dfl.dcm", "MR_small_bigendian.dcm")  # fmt: skip


@pytest.fixture(scope="module")
def dicom(shared: Path) -> Path:
    return shared / "data" / "dicom"


@pytest.fixture(scope="module")
def shown() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (96, 192, 3), dtype=np.uint8)


def written(source, shown, folder: Path) -> tuple[Path, Path]:
    frames = [0 if int(source.get("NumberOfFrames", 1) or 1) > 1 else None]
    return (write_object(report_of([source], OPINION, ALGORITHM, frames), folder / "report.dcm"),
            write_object(picture_of([source], shown, OPINION, ALGORITHM), folder / "map.dcm"))  # fmt: skip


@pytest.mark.parametrize("rules", [None, RULES], ids=["patient", "nobody"])
@pytest.mark.parametrize("name", FILES)
def test_dciodvfy_finds_no_error(dicom, shown, tmp_path, name, rules) -> None:
    dciodvfy = program("dciodvfy", "dicom3tools")
    for path in written(read_source(str(dicom / name), rules), shown, tmp_path):
        done = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True)
        errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
        assert not errors, f"{path.name}: {errors}"


def test_dcmtk_reads_the_report(dicom, shown, tmp_path) -> None:
    dsrdump = program("dsrdump", "dcmtk")
    report, _ = written(read_source(str(dicom / "CT_small.dcm")), shown, tmp_path)
    done = subprocess.run([dsrdump, str(report)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Probability of malignant" in done.stdout
    assert "0.87" in done.stdout


def test_highdicom_reads_back_what_was_said(dicom, shown, tmp_path) -> None:
    source = read_source(str(dicom / "CT_small.dcm"))
    report, _ = written(source, shown, tmp_path)
    made = srread(report)
    (group,) = made.content.get_image_measurement_groups()
    assert {one.name.meaning: one.value for one in group.get_measurements()} == {
        "Probability of benign": 0.13,
        "Probability of malignant": 0.87,
    }
    said = {one.name.meaning: one.value.meaning for one in group.get_qualitative_evaluations()}
    assert said == {"malignant, at 95 % sensitivity": "Positive", "Called by the model": "malignant"}
    text = made.to_json()
    assert all(
        part in text for part in ("0123456789abcdef", WARNING, "overread resnet18", SCHEME, str(source.SOPInstanceUID))
    )
    assert made.PatientID == source.PatientID
    assert made.StudyInstanceUID == source.StudyInstanceUID


def test_every_object_is_new_and_the_original_as_it_was(dicom, shown, tmp_path) -> None:
    before = (dicom / "CT_small.dcm").read_bytes()
    source = read_source(str(dicom / "CT_small.dcm"))
    found = [pydicom.dcmread(path) for path in written(source, shown, tmp_path)]
    uids = {source.SOPInstanceUID, *(one.SOPInstanceUID for one in found)}
    series = {source.SeriesInstanceUID, *(one.SeriesInstanceUID for one in found)}
    assert (len(uids), len(series)) == (3, 3)
    assert (dicom / "CT_small.dcm").read_bytes() == before
    assert all((tmp_path / name).read_bytes()[:128] == bytes(128) for name in ("report.dcm", "map.dcm"))
    with pytest.raises(InputError, match="no DICOM file is written over"):
        written(source, shown, tmp_path)


def test_without_the_patient_no_byte_of_him_is_there(dicom, shown, tmp_path) -> None:
    canary = pydicom.dcmread(dicom / "CT_small.dcm")
    canary.PatientName, canary.PatientID, canary.AccessionNumber = "Canary^Yellow", "CAN-4711", "ACC-4711"
    canary.save_as(tmp_path / "canary.dcm")
    names = [
        b"Canary",
        b"CAN-4711",
        b"ACC-4711",
        str(canary.SOPInstanceUID).encode(),
        str(canary.StudyInstanceUID).encode(),
    ]
    for path in written(read_source(str(tmp_path / "canary.dcm"), RULES), shown, tmp_path):
        assert not any(name in path.read_bytes() for name in names)
        assert pydicom.dcmread(path).PatientIdentityRemoved == "YES"
    (tmp_path / "with").mkdir()
    report, _ = written(read_source(str(tmp_path / "canary.dcm")), shown, tmp_path / "with")
    assert b"Canary" in report.read_bytes()  # what is looked for would be found


def test_a_name_in_another_script_stays_whole(dicom, shown, tmp_path) -> None:
    source = pydicom.dcmread(dicom / "CT_small.dcm")
    source.SpecificCharacterSet, source.PatientName = "ISO_IR 144", "Иванов^Пётр"
    source.save_as(tmp_path / "a.dcm")
    for path in written(read_source(str(tmp_path / "a.dcm")), shown, tmp_path):
        assert str(pydicom.dcmread(path).PatientName) == "Иванов^Пётр"


def test_the_picture_bears_the_warning_above_the_map_and_the_answers_below(shown) -> None:
    page = burnt_in(shown, OPINION, ALGORITHM)
    assert page.shape[1] == 1024
    assert (page[:34] == (255, 210, 0)).all(axis=2).sum() > 200
    assert (page[560:] == 255).all(axis=2).sum() > 200
    without = burnt_in(shown, OPINION.renamed("b", ("b.dcm",)), ALGORITHM)
    assert (without == page).all()  # the name of a file is not burnt in


@pytest.mark.parametrize(
    ("name", "said"),
    [("LICENSE", "no DICOM image|which image of which study"), ("HTJ2KLossless_08_RGB.dcm", "no StudyInstanceUID")],
)
def test_what_has_no_study_is_refused(dicom, name, said) -> None:
    with pytest.raises(ImageError, match=said):
        read_source(str(dicom / name))


def test_images_of_two_studies_make_no_report(dicom) -> None:
    sources = [read_source(str(dicom / name)) for name in ("CT_small.dcm", "MR_small.dcm")]
    with pytest.raises(InputError, match="several studies"):
        report_of(sources, OPINION, ALGORITHM)

"""``overread deidentify``: what it says, what it leaves, and how it ends."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import typer
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from typer.testing import CliRunner

from overread.cli.deidentify import deidentify
from overread.core.errors import OverreadError

NAME = "KANARIENVOGEL"
app = typer.Typer()
app.command()(deidentify)


def image(number: int, **changes: object) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = (
        "1.2.840.10008.5.1.4.1.1.2",
        f"1.2.3.{number}",
        "1.2.3",
    )
    made.PatientName, made.PatientID, made.Modality, made.StudyDate = (f"{NAME}^Anna", "MRN-4711", "CT", "20240131")
    made.Rows, made.Columns, made.SamplesPerPixel, made.BitsAllocated, made.BitsStored = 8, 8, 1, 8, 8
    made.HighBit, made.PixelRepresentation, made.PhotometricInterpretation = 7, 0, "MONOCHROME2"
    made.BodyPartExamined, made.PixelData = "CHEST", np.full(64, number, np.uint8).tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


@pytest.fixture
def tree(tmp_path) -> Path:
    folder = tmp_path / "in" / NAME
    folder.mkdir(parents=True)
    for number in (1, 2):
        pydicom.dcmwrite(folder / f"{number}.dcm", image(number), enforce_file_format=True)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_it_writes_says_and_ends_well(tree, tmp_path):
    answer = run(tree, "-o", tmp_path / "clean")
    assert answer.exit_code == 0, answer.output
    assert NAME not in answer.output
    assert "MRN" not in answer.output
    assert "PS3.15 2026c" in answer.output
    assert "forgotten" in answer.output
    assert "next: " in answer.output
    assert len(list((tmp_path / "clean").rglob("*.dcm"))) == 2


def test_a_salt_is_made_and_used_again(tree, tmp_path):
    salt = tmp_path / "secret" / "salt"
    for name in ("a", "b"):
        answer = run(tree, "-o", tmp_path / name, "--salt", salt)
        assert answer.exit_code == 0, answer.output
        assert "forgotten" not in answer.output
        assert salt.read_text("ascii").strip() not in answer.output
    names = [{p.relative_to(tmp_path / n) for p in (tmp_path / n).rglob("*.dcm")} for n in ("a", "b")]
    assert names[0] == names[1]
    if sys.platform != "win32":
        assert stat.S_IMODE(salt.stat().st_mode) == 0o600


def test_a_salt_inside_the_copy_is_refused_before_anything_is_written(tree, tmp_path):
    answer = run(tree, "-o", tmp_path / "clean", "--salt", tmp_path / "clean" / "salt")
    assert isinstance(answer.exception, OverreadError)
    assert answer.exception.exit_code == 2
    assert not (tmp_path / "clean").exists()


def test_refused_images_end_with_one_and_the_override_writes_them(tree, tmp_path):
    pydicom.dcmwrite(tree / "3.dcm", image(3, BurnedInAnnotation="YES"), enforce_file_format=True)
    salt = tmp_path / "salt"
    answer = run(tree, "-o", tmp_path / "clean", "--salt", salt)
    assert answer.exit_code == 1
    assert "refused" in answer.output
    assert "--allow-burned-in" in answer.output
    assert len(list((tmp_path / "clean").rglob("*.dcm"))) == 2
    answer = run(tree, "-o", tmp_path / "clean", "--salt", salt, "--allow-burned-in")
    assert answer.exit_code == 0, answer.output
    found = [pydicom.dcmread(p) for p in (tmp_path / "clean").rglob("*.dcm")]
    assert len(found) == 3
    assert sorted(str(f.get("BurnedInAnnotation", "")) for f in found) == ["", "", "YES"]


def test_options_reach_the_files(tree, tmp_path):
    pydicom.dcmwrite(tree / "1.dcm", image(1, PatientAge="063Y", DeviceSerialNumber="SN"), enforce_file_format=True)
    answer = run(
        tree / "1.dcm", "-o", tmp_path / "clean", "--keep-dates", "shifted", "--keep-device", "--keep-characteristics"
    )
    assert answer.exit_code == 0, answer.output
    found = pydicom.dcmread(next((tmp_path / "clean").rglob("*.dcm")))
    assert (found.PatientAge, found.DeviceSerialNumber) == ("063Y", "SN")
    assert found.StudyDate
    assert found.StudyDate != "20240131"
    assert [item.CodeValue for item in found.DeidentificationMethodCodeSequence] == [
        "113100",
        "113107",
        "113108",
        "113109",
    ]


@pytest.mark.parametrize("extra", [("--keep-dates", "all"), ("--key", "{clean}/key.csv")])
def test_wrong_usage(tree, tmp_path, extra):
    answer = run(tree, "-o", tmp_path / "clean", *(e.format(clean=tmp_path / "clean") for e in extra))
    assert isinstance(answer.exception, OverreadError)
    assert answer.exception.exit_code == 2
    assert not (tmp_path / "clean").exists()


def test_nothing_to_clean(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("x", encoding="utf-8")
    answer = run(tmp_path / "in", "-o", tmp_path / "clean")
    assert answer.exit_code == 1
    assert "no DICOM image" in answer.output


def test_faces_are_spoken_of(tree, tmp_path):
    pydicom.dcmwrite(tree / "1.dcm", image(1, BodyPartExamined="HEAD"), enforce_file_format=True)
    assert "may show a face" in run(tree, "-o", tmp_path / "clean").output

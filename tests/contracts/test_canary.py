"""No byte that a run writes, or says, holds a patient's name, identifier, birth date, or a path with a name in it."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import signal
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread.cli import main

#: What must come out nowhere: a name, an identifier, a birth date, an accession number, a name in a private tag.
CANARIES = ("KANARIENVOGEL", "8812345678", "19630229", "ACC0077441", "PRIVATGELB")
PATIENTS = 40
RECIPE = ("--recipe", "scratch", "--backbone", "cnn_small", "--epochs", "1", "--image-size", "32", "--threads", "1")


def _picture(number: int, sick: bool) -> np.ndarray:
    random = np.random.default_rng(number)
    picture = random.integers(0, 120, (48, 48), np.uint8)
    row, column = random.integers(8, 30, 2)
    picture[row : row + 10, column : column + 10] += np.uint8(120 if sick else 20)
    return picture


def _identity(number: int) -> dict[str, str]:
    return {
        "name": f"{CANARIES[0]}^ANNA{number}",
        "mrn": f"{CANARIES[1]}{number:02d}",
        "born": CANARIES[2],
        "accession": f"{CANARIES[3]}{number:02d}",
    }


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """PNG files in folders with names, a table with every kind of identifier, and files that cannot be read."""
    import cv2

    home, rows = tmp_path_factory.mktemp("table"), []
    for number in range(PATIENTS):
        who, sick = _identity(number), number % 2 == 0
        file = home / who["name"] / f"{who['name']}_{who['mrn']}.png"
        file.parent.mkdir()
        cv2.imwrite(str(file), _picture(number, sick))
        if number in (5, 6):
            file.write_bytes(file.read_bytes()[:200])
        if number == 7:
            file.unlink()
        sex = "F" if number % 3 else "M"
        rows.append({"file": str(file.relative_to(home)), "patient": who["mrn"], "PatientName": who["name"], "birthdate": who["born"],
                     "dx": "sick" if sick else "well", "sex": sex, "remarks": f"seen with {who['name']}"})  # fmt: skip
    pd.DataFrame(rows).to_csv(home / "table.csv", index=False)
    return home / "table.csv"


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A DICOM export in folders with names, names in tags, private tags, sequences and overlays; a table of labels."""
    home, rows = tmp_path_factory.mktemp("export"), []
    for number in range(PATIENTS):
        who, sick = _identity(number), number % 2 == 0
        file = home / "export" / who["name"] / f"{who['mrn']}.dcm"
        file.parent.mkdir(parents=True)
        _dicom(file, number, who, _picture(number, sick))
        if number == 5:
            file.write_bytes(file.read_bytes()[:-500])
        rows.append({"AccessionNumber": who["accession"], "dx": "sick" if sick else "well"})
    pd.DataFrame(rows).to_csv(home / "labels.csv", index=False)
    return home / "export", home / "labels.csv"


def _dicom(path: Path, number: int, who: dict[str, str], pixels: np.ndarray) -> None:
    import pydicom
    from pydicom.uid import ExplicitVRLittleEndian

    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}.1"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.3.{number}.2", f"1.2.3.{number}.3"
    data.PatientName, data.PatientID, data.PatientBirthDate = who["name"], who["mrn"], who["born"]
    data.AccessionNumber, data.StudyDate, data.Modality = who["accession"], "20240105", "CR"
    data.PatientSex, data.PatientAge, data.ViewPosition = ("F", "061Y", "PA")
    data.Manufacturer, data.StudyDescription = "maker", f"chest of {who['name']}"
    data.OtherPatientIDsSequence = [pydicom.Dataset()]
    data.OtherPatientIDsSequence[0].PatientID = who["mrn"]
    data.private_block(0x0099, "owner", create=True).add_new(1, "LO", f"{CANARIES[4]} {who['name']}")
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 7, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.add_new(0x60000010, "US", 8), data.add_new(0x60000011, "US", 8)
    data.add_new(0x60003000, "OW", CANARIES[0].encode() + b"\0")
    data.PixelData = pixels.tobytes()
    data.save_as(path, enforce_file_format=True)


@contextmanager
def _heard(path: Path) -> Iterator[None]:
    """What this process and its children say goes into a file: also what C code says, and a decoder."""
    before = [os.dup(number) for number in (1, 2)]
    with path.open("wb") as file, pytest.MonkeyPatch.context() as patch:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(file.fileno(), number)
            raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
            patch.setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8"))
        try:
            yield
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            for number, held in zip((1, 2), before, strict=True):
                os.dup2(held, number)
                os.close(held)


def _overread(*arguments: object, home: Path) -> str:
    """What a command said, which is called in this process: to start one takes as long as it does; its cache and data lie in ``home``."""
    said, stopped = home / "said.txt", signal.getsignal(signal.SIGINT)
    with _heard(said), pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERREAD_CACHE", str(home / "cache"))
        patch.setenv("XDG_DATA_HOME", str(home / "data"))
        patch.setattr(sys, "argv", ["overread", *map(str, arguments)])
        try:
            main.main()
            code = None
        except SystemExit as stop:
            code = stop.code
        finally:
            signal.signal(signal.SIGINT, stopped)
    text = said.read_text("utf-8")
    said.unlink()
    assert not code, text
    return text


@pytest.fixture
def overread(tmp_path) -> Callable[..., str]:
    """``overread("predict", …)`` → what the command said; its cache and its data lie in ``tmp_path``."""
    return partial(_overread, home=tmp_path)


def _bytes(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below ``folder``, its name, and what is compressed in it."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        yield path.name, str(path.relative_to(folder)).encode() + data
        if path.suffix == ".parquet":
            yield f"{path.name}, read", pd.read_parquet(path).to_csv().encode()
        if data[:2] == b"\x1f\x8b":
            yield f"{path.name}, inflated", gzip.decompress(data)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((f"{path.name}/{name}", archive.read(name)) for name in archive.namelist())
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            yield f"{path.name}, pixels", zlib.decompress(b"".join(_idat(data)))


def _idat(data: bytes) -> Iterator[bytes]:
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IDAT":
            yield data[at + 8 : at + 8 + length]
        at += 12 + length


def _assert_clean(folder: Path, said: str) -> None:
    files = list(_bytes(folder))
    assert not [canary for canary in CANARIES if canary in said]
    for canary in CANARIES:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
            found = [name for name, data in files if canary.encode(encoding) in data]
            assert not found, (canary, encoding, found)


def test_the_search_finds_a_canary(tmp_path) -> None:
    pd.DataFrame({"a": [CANARIES[0]] * 100}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(AssertionError):
        _assert_clean(tmp_path, "")


@pytest.fixture(scope="module")
def done(table, tmp_path_factory) -> tuple[Path, str]:
    """The home of a whole run on the table, and what it said."""
    home = tmp_path_factory.mktemp("home")
    columns = ["--image", "file", "--label", "dx", "--patient", "patient", "--subgroup", "sex"]
    despite = [
        "--despite",
        "unreadable",
        "--despite",
        "shortcut",
        "--test",
        "0.4",
    ]  # the labels are bright, some files broken
    return home, _overread("run", table, *columns, "-o", home / "run", *RECIPE, *despite, home=home)


def test_a_table_of_pictures(done, overread) -> None:
    home, said = done
    assert "PatientName, birthdate, remarks" in said  # the columns are named, and left out
    _assert_clean(home, said)
    _assert_clean(home, overread("report", home / "run"))


def test_an_export_of_dicom_files(export, tmp_path, overread) -> None:
    files, labels = export
    said = overread("scan", files, "-o", tmp_path / "scan.csv")
    said += overread(
        "run", files, "--labels-from", labels, "--key", "accession", "--label", "dx", "-o", tmp_path / "run", *RECIPE, "--despite", "shortcut",
        "--test", "0.4",
    )  # fmt: skip
    _assert_clean(tmp_path, said)


def test_new_images_of_a_model(done, export, tmp_path, overread) -> None:
    said = overread("predict", done[0] / "run", export[0], "--names", "hash", "-o", tmp_path / "new.csv")
    _assert_clean(tmp_path, said)


def test_only_the_key_says_who_it_is(done, tmp_path, overread) -> None:
    overread("key", done[0] / "run", "-o", tmp_path / "key.csv")
    key = pd.read_csv(tmp_path / "key.csv", dtype=str)
    cases = pd.read_csv(done[0] / "run" / "cases.csv", dtype=str)
    assert list(key["code"]) == list(cases["case"])
    assert key["patient"].str.startswith(CANARIES[1]).all()
    if os.name == "posix":
        assert (tmp_path / "key.csv").stat().st_mode & 0o077 == 0


def test_the_report_does_not_hold_what_the_codes_were_made_with(done) -> None:
    salt = next(
        line.split('"')[1]
        for line in (done[0] / "run" / "study.toml").read_text().splitlines()
        if line.startswith("salt")
    )
    for name in ("report.html", "model_card.md", "cases.csv", "predictions/test.csv"):
        assert salt not in (done[0] / "run" / name).read_text()


def test_a_report_can_be_written_without_the_table(done, table, tmp_path, overread) -> None:
    shutil.copytree(done[0] / "run", tmp_path / "run")
    study = tmp_path / "run" / "study.toml"
    study.write_text(study.read_text().replace(str(table), str(tmp_path / "gone.csv")))
    (tmp_path / "run" / "report.html").unlink()
    said = overread("report", tmp_path / "run")
    assert "not drawn anew: the file does not exist" in said
    assert (tmp_path / "run" / "report.html").exists()

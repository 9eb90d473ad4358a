"""An export of DICOM files as a table, against the files that were written."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from overread.cases.sources.dicom_export import COLUMNS, is_tree, read_tree
from overread.cases.sources.labels import join_labels
from overread.core.errors import ImageError, InputError
from overread.images.address import parse
from overread.images.dicom.header import DicomHeader, read_header

CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MG": "1.2.840.10008.5.1.4.1.1.1.2", "DX": "1.2.840.10008.5.1.4.1.1.1.1"}


def write(path: Path, pixels: bool = True, **tags: object) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values = {"PatientID": "P1", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1", "AccessionNumber": "A1",
              "Modality": "CT", "Rows": 2, "Columns": 2, "BitsAllocated": 8, "Manufacturer": "Acme",
              "ManufacturerModelName": "One", "StudyDate": "20200102"} | tags  # fmt: skip
    made.SOPClassUID = CLASSES.get(str(values["Modality"]), "1.2.840.10008.5.1.4.1.1.7")
    made.SOPInstanceUID = f"1.2.9.{int.from_bytes(str(path).encode()[-12:], 'big')}"
    for name, value in values.items():
        setattr(made, name, value)
    if pixels:
        made.PixelData = bytes(4)
        made["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def write_slices(folder: Path, count: int, **tags: object) -> list[Path]:
    """Slices from above downwards, under names that sort otherwise."""
    names = np.random.default_rng(3).permutation(count)
    common = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.5]} | tags
    return [
        write(folder / f"IM{name}", ImagePositionPatient=[0, 0, -3 * i], InstanceNumber=str(i), **common)
        for i, name in enumerate(names)
    ]


@pytest.fixture
def export(tmp_path) -> Path:
    """Two patients: a CT with a scout and a report, and four mammograms."""
    root = tmp_path / "export"
    write_slices(root / "P1" / "CT", 6, SeriesNumber="2")
    write(
        root / "P1" / "CT" / "scout",
        SeriesNumber="1",
        SeriesInstanceUID="1.2.1.0",
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
    )
    write(root / "P1" / "report", pixels=False, Modality="SR")
    write(root / "P1" / "odd", pixels=False, Modality="KANARIENVOGEL")
    for n, (side, view) in enumerate((("L", "CC"), ("R", "CC"), ("L", "MLO"), ("L", "MLO"))):
        write(root / "P2" / f"MG{n}", Modality="MG", PatientID="P2", StudyInstanceUID="1.2.2", SeriesInstanceUID=f"1.2.2.{n}",
              SeriesNumber=str(n), AccessionNumber="0002", ImageLaterality=side, ViewPosition=view, InstitutionName="Spital",
              PatientAge="061Y", PatientSex="F", BurnedInAnnotation="YES")  # fmt: skip
    (root / "viewer.exe").write_bytes(b"MZ not an image")
    (root / "P2" / "MG9").write_bytes((root / "P2" / "MG0").read_bytes()[:300])
    return root


def summary(table: pd.DataFrame) -> dict[str, tuple[object, ...]]:
    return {row.image: (row.view, row.modality, row.slices) for row in table.itertuples()}


def first_of(folder: Path) -> str:
    """The lowest slice."""
    paths = [path for path in folder.iterdir() if path.name.startswith("IM")]
    return min(paths, key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2])).name


def test_a_folder(export):
    found = read_tree(export)
    assert tuple(found.table.columns) == COLUMNS
    assert summary(found.table) == {
        f"P1/CT/{first_of(export / 'P1' / 'CT')}#series": ("axial", "CT", 6),
        "P1/CT/scout": ("localizer", "CT", 1),
        "P2/MG0": ("L-CC", "MG", 1),
        "P2/MG1": ("R-CC", "MG", 1),
        "P2/MG2": ("L-MLO", "MG", 1),
        "P2/MG3": ("L-MLO 2", "MG", 1),
    }
    volume, mammogram = found.table.iloc[0], found.table.iloc[2]
    assert (volume.patient, volume.case, volume.series, volume.step, volume.spacing) == (
        "P1",
        "1.2.1",
        "1.2.1.1",
        "3",
        "0.5",
    )
    assert (volume.source, mammogram.source, mammogram.device) == ("Acme One", "Spital", "Acme One")
    assert (mammogram.age, mammogram.sex, mammogram.date, mammogram.accession) == ("61", "F", "2020-01-02", "0002")
    assert found.notes == (
        "11 DICOM images in 2 studies of 2 patients",
        "6 slices are 1 volume, a row each",
        "2 DICOM files without pixels left out (SR 1, other 1)",
        "1 file of another kind left out",
    )
    assert found.unreadable == (("P2/MG9", "the DICOM file is cut off"),)
    assert found.problems == (
        "1 file cannot be read: the DICOM file is cut off",
        "4 of 6 rows have text burned into their pixels, by their headers",
    )
    assert not found.table.duplicated(["case", "view"]).any()


def test_slices_one_by_one(export):
    table = read_tree(export, slices=True).table
    assert len(table) == 11
    axial = table[table["view"].str.startswith("axial")]
    assert sorted(axial["view"], key=lambda view: int(view[6:] or 1)) == ["axial", *(f"axial {n}" for n in range(2, 7))]
    assert all(os.path.isfile(export / image) for image in table["image"])


def test_a_zip_is_its_folder(export, tmp_path):
    archive = tmp_path / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(export.rglob("*")):
            made.write(path, path.relative_to(export))
    folder, zipped = read_tree(export), read_tree(archive)
    assert is_tree(archive)
    assert zipped.root == str(tmp_path)
    addresses = [parse(image) for image in zipped.table["image"]]
    assert {address.path for address in addresses} == {"study.zip"}
    assert [a.entry + "#series" * a.series for a in addresses] == folder.table["image"].tolist()
    pd.testing.assert_frame_equal(zipped.table.drop(columns="image"), folder.table.drop(columns="image"))
    assert zipped.notes == folder.notes
    again = read_tree(tmp_path)  # a folder that holds the archive, beside the folder itself
    assert len(again.table) == 2 * len(folder.table)


def test_processes_find_what_one_finds(export):
    many = export / "many"
    for n in range(420):
        os.link(export / "P2" / "MG0", many.mkdir(exist_ok=True) or many / f"{n:03}")
    said: list[tuple[str, int, int]] = []
    alone = read_tree(export, threads=1)
    both = read_tree(export, threads=2, progress=lambda *what: said.append(what))
    pd.testing.assert_frame_equal(alone.table, both.table)
    assert alone.problems == both.problems
    assert said[-1] == ("reading headers", 435, 435)


def test_a_broken_series_is_told(tmp_path):
    paths = write_slices(tmp_path / "a", 6)
    paths[2].unlink()
    paths[3].unlink()
    row = read_tree(tmp_path).table.iloc[0]
    assert (row.slices, row.problems) == (4, "gaps: 1, the widest 9 mm where slices stand 3 mm apart")


def test_two_slices_are_no_volume(tmp_path):
    write_slices(tmp_path / "a", 2)
    assert read_tree(tmp_path).table["view"].tolist() == ["axial 2", "axial"]  # by instance number, not by name


def test_a_series_in_two_folders_is_two_rows(tmp_path):
    for name in "ab":
        write_slices(tmp_path / name, 3)
    assert read_tree(tmp_path).table["slices"].tolist() == [3, 3]


def test_issuers_tell_equal_numbers_apart(tmp_path):
    for n, issuer in enumerate(("North", "South", "")):
        write(tmp_path / str(n), IssuerOfPatientID=issuer, StudyInstanceUID=f"1.{n}")
    assert read_tree(tmp_path).table["patient"].tolist() == ["P1^^^North", "P1^^^South", "P1"]
    (tmp_path / "1").unlink()
    assert set(read_tree(tmp_path).table["patient"]) == {"P1"}


def test_nothing_known(tmp_path):
    for n in range(2):
        write(
            tmp_path / f"{n}.dcm",
            PatientID="",
            StudyInstanceUID="",
            SeriesInstanceUID="",
            Manufacturer="",
            ManufacturerModelName="",
            StudyDate="",
        )
    found = read_tree(tmp_path)
    assert found.table["case"].nunique() == 2
    assert (found.table[["patient", "source", "age", "date"]] == "").all(axis=None)
    assert found.problems == (
        "2 of 2 rows do not say whose they are",
        "2 images without a study, counted as cases of their own",
    )


def test_what_is_a_tree(export, tmp_path):
    assert is_tree(export)
    (tmp_path / "pictures" / "cat").mkdir(parents=True)
    (tmp_path / "pictures" / "cat" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (tmp_path / "table.csv").write_text("image,label\na,b\n", encoding="utf-8")
    for path in (tmp_path / "pictures", tmp_path / "table.csv", tmp_path / "absent", export / "P2" / "MG0"):
        assert not is_tree(path)
    for path, what in (
        (tmp_path / "pictures", "no DICOM images"),
        (tmp_path / "table.csv", "no export"),
        (tmp_path / "absent", "not exist"),
    ):
        with pytest.raises(InputError, match=what):
            read_tree(path)


# -- DICOMDIR ------------------------------------------------------------------------------------------------------


def write_directory(root: Path, references: list[list[str]]) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    made.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    made.DirectoryRecordSequence = pydicom.Sequence([Dataset() for _ in references])
    for record, parts in zip(made.DirectoryRecordSequence, references):
        record.DirectoryRecordType = "IMAGE" if parts else "STUDY"
        if parts:
            record.ReferencedFileID = parts
    path = root / "DICOMDIR"
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_a_dicomdir_lists_its_files(export):
    directory = write_directory(export, [[], ["P2", "MG0"], ["P2", "mg1"], ["P2", "ABSENT"]])
    assert is_tree(directory)
    found = read_tree(directory)
    assert found.table["image"].tolist() == ["P2/MG0", "P2/MG1"]
    assert found.problems[0] == "1 files that the DICOMDIR lists are not there"
    assert found.root == str(export)
    assert len(read_tree(export).table) == 6


def test_an_empty_dicomdir_leaves_its_folder(export):
    found = read_tree(write_directory(export, []))
    assert len(found.table) == 6
    assert "its folder was read instead" in found.problems[0]


def test_the_dicomdirs_of_pydicom():
    root = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    listed = pydicom.dcmread(root / "DICOMDIR").DirectoryRecordSequence
    wanted = {"/".join(record.ReferencedFileID) for record in listed if "ReferencedFileID" in record}
    found = read_tree(root / "DICOMDIR", slices=True)
    assert set(found.table["image"]) == wanted
    for image in wanted:
        theirs, ours = pydicom.dcmread(root / image), found.table[found.table["image"] == image].iloc[0]
        assert (ours.series, ours.modality, ours.date) == (
            theirs.SeriesInstanceUID,
            theirs.Modality,
            read_header(root / image).date,
        )


# -- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "on", "key"),
    [
        ({"acc": ["A1", "0002"], "y": ["ill", "well"]}, "", "accession"),
        ({"acc": ["A1", "2"], "y": ["ill", "well"]}, "", "accession"),  # a spreadsheet was here
        ({"StudyUID": ["1.2.1", "1.2.2"], "y": ["ill", "well"]}, "study", "study"),
        ({"mrn": ["P2", "P1", "P7"], "y": ["well", "ill", "well"]}, "mrn", "patient"),
        ({"file": ["MG0", "MG1", "MG2", "MG3", "scout"], "y": ["well"] * 4 + ["ill"]}, "", "file"),
        ({"PatientID": ["P1", "P2"], "accession": ["A1", "0002"], "y": ["ill", "well"]}, "", "accession"),
    ],
)  # fmt: skip
def test_labels_are_joined(export, labels, on, key):
    found = read_tree(export)
    joined, notes = join_labels(found.table, pd.DataFrame(labels), on)
    assert f"joined by {key}" in notes[0]
    assert len(joined) == len(found.table)
    wanted = found.table["patient"].map({"P1": "ill", "P2": "well"})
    known = joined["y"] != ""
    assert known.sum() >= 5
    assert (joined["y"] == wanted)[known].all()


def test_rows_without_labels_stay(export):
    joined, notes = join_labels(
        read_tree(export).table,
        pd.DataFrame({"accession": ["0002", "X"], "y": ["1", "0"], "sex": ["", ""], "age": ["62", "1"]}),
    )
    assert joined["y"].tolist() == ["", "", "1", "1", "1", "1"]
    assert joined["age"].tolist() == ["", "", "62", "62", "62", "62"]
    assert joined["sex"].tolist() == ["", "", "F", "F", "F", "F"]
    assert notes == [
        "labels: joined by accession with the column 'accession': 4 of 6 rows have labels, 1 of 2 rows of labels have no image",
        "labels: 2 rows without",
        "labels: the columns sex, age are taken from the table of labels",
    ]


def test_labels_that_do_not_fit(export):
    found = read_tree(export)
    with pytest.raises(InputError, match="at best 1 of 6 rows and 1 of 3 rows of labels share file"):
        join_labels(found.table, pd.DataFrame({"name": ["scout", "KANARIENVOGEL", "x"], "y": ["1", "0", "0"]}))
    with pytest.raises(InputError, match="Did you mean 'accession'"):
        join_labels(found.table, pd.DataFrame({"acc": ["A1"], "y": ["1"]}), "accesion")


def test_a_key_with_two_labels(export):
    found = read_tree(export)
    labels = pd.DataFrame({"patient": ["P1", "P2", "P2", "P1"], "y": ["1", "0", "1", "1"]})
    with pytest.raises(InputError, match="rows 2 and 3") as caught:
        join_labels(found.table, labels)
    assert "P2" not in str(caught.value)
    joined, _ = join_labels(found.table, labels.iloc[[0, 1, 3]])  # said twice, the same
    assert joined["y"].tolist() == ["1", "1", "0", "0", "0", "0"]


def test_an_unknown_file_is_refused(tmp_path):
    with pytest.raises(ImageError):
        is_tree(_bad_zip(tmp_path))


def _bad_zip(folder: Path) -> Path:
    path = folder / "bad.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("../evil", b"1")
    return path


def test_the_real_files(shared):
    shared_dicom = shared / "data" / "dicom"
    found = read_tree(shared_dicom)
    index = pd.read_csv(shared_dicom / "index.csv")
    wanted = set(index["file"][index["has_pixels"].astype(str) == "True"])
    assert {parse(image).path for image in found.table["image"]} >= wanted
    assert not found.table.duplicated(["case", "view", "date"]).any()
    assert all(isinstance(read_header(shared_dicom / image), DicomHeader) for image in found.table["image"])

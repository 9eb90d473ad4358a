"""DICOM exports as cases: folder, zip, DICOMDIR; labels from a table, a column or folders."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

import overread as ov
from overread.cases.cases import Planes, paths
from overread.cases.sources.dicom_export import read_tree
from overread.cases.sources.read_cases import read_images
from overread.core.errors import InputError
from overread.images.read import read_image
from overread.images.volumes import read_volume


def dicom(
    path: Path, number: int, *, patient: str, study: int, series: int = 1, at: float | None = None, **tags: object
) -> None:
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.{study}.{series}.{number}"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.{study}", f"1.2.{study}.{series}"
    data.PatientID, data.AccessionNumber, data.Modality = patient, f"A{study}", "CR" if at is None else "CT"
    data.InstitutionName, data.StudyDate, data.PatientSex, data.PatientAge = ("Hospital A", "20240105", "F", "061Y")
    if at is not None:
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, at], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness = [1, 1], 2
    data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 16, 16, 15
    data.PixelRepresentation, data.SamplesPerPixel, data.PhotometricInterpretation = 0, 1, "MONOCHROME2"
    data.PixelData = np.random.default_rng(study * 100 + number).integers(0, 4096, (16, 12), np.uint16).tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Four patients: two chests in two views each, two CT series; and a table of labels by accession."""
    home = tmp_path / "export"
    for study in (1, 2):
        dicom(home / "yes" / f"s{study}" / "a.dcm", 1, patient=f"P{study}", study=study, ViewPosition="PA")
        dicom(home / "yes" / f"s{study}" / "b.dcm", 2, patient=f"P{study}", study=study, ViewPosition="LL")
    for study in (3, 4):
        for number in range(5):
            dicom(
                home / "no" / f"s{study}" / f"{9 - number}.dcm",
                number,
                patient=f"P{study}",
                study=study,
                at=2.0 * number,
            )
    rows = {"AccessionNumber": ["A1", "A2", "A3", "A4"], "finding": ["yes", "yes", "no", "no"]}
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)
    return home


def check(cases: ov.Cases) -> None:
    table = cases.table
    assert len(cases) == 6
    assert table["case"].nunique() == table["patient"].nunique() == 4
    assert table.groupby("case")["label"].nunique().eq(1).all()
    assert sorted(table["label"]) == ["no", "no", "yes", "yes", "yes", "yes"]
    assert table.groupby("case")["view"].nunique().sum() == 6
    assert set(table["source"]) == {"Hospital A"}
    assert {read_image(path).mode for path in paths(cases)} == {"grey", "volume"}


def test_labels_from_a_table(export) -> None:
    cases = ov.read_cases(export, labels_from=export.parent / "labels.csv", key="accession", label="finding")
    check(cases)
    written = cases.table.drop(columns="image").to_csv()
    assert not any(word in written for word in ("1.2.", "A1", "P1"))
    found = ov.read_cases(export, labels_from=export.parent / "labels.csv", label="finding")  # without a key
    assert found == cases


def test_labels_from_folders(export) -> None:
    check(ov.read_cases(export))
    named = ov.read_cases(export, names="keep")
    assert sorted(named.table["patient"].unique()) == ["P1", "P2", "P3", "P4"]  # of the headers, not the folders


def test_a_column_of_the_headers_can_be_the_label(export) -> None:
    cases = ov.read_cases(export, label="modality", positive=["CT"])
    assert sorted(cases.target.names) == ["CR", "CT"]


def test_some_rows_of_it(export) -> None:
    cases = ov.read_cases(export, where="modality == 'CR' and age > 60", label="view", positive=["PA"])
    assert sorted(cases.target.names) == ["LL", "PA"]
    assert any("4 of 6 rows" in note for note in cases.notes)
    with pytest.raises(InputError, match="no row fulfils"):
        ov.read_cases(export, where="modality == 'MG'")


def test_a_zip_of_the_same(export, tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(export.rglob("*.dcm")):
            archive.write(file, file.relative_to(export))
    cases = ov.read_cases(tmp_path / "study.zip", labels_from=tmp_path / "labels.csv", label="finding")
    check(cases)
    plain = ov.read_cases(export, labels_from=tmp_path / "labels.csv", label="finding")
    pixels = lambda some: sorted(read_image(path).pixels.tobytes() for path in paths(some))
    assert pixels(cases) == pixels(plain)


def test_slices_of_a_series_are_images_of_one_case(export) -> None:
    cases = ov.read_cases(export, planes=Planes("slices"))
    assert len(cases) == 4 + 2 * 5
    assert cases.table["case"].nunique() == 4


def test_new_images_from_an_export(export) -> None:
    cases = ov.read_cases(export)
    new = read_images(export, cases.target, salt=cases.salt)
    assert set(new.table["patient"]) == set(cases.table["patient"])
    assert not new.labelled.any()


def test_a_key_that_fits_nobody(export, tmp_path) -> None:
    pd.DataFrame({"AccessionNumber": ["B1", "B2"], "finding": ["yes", "no"]}).to_csv(
        tmp_path / "other.csv", index=False
    )
    with pytest.raises(InputError) as error:
        ov.read_cases(export, labels_from=tmp_path / "other.csv", label="finding")
    assert not any(word in str(error.value) for word in ("A1", "B1"))


def test_labels_for_what_is_no_export(tmp_path) -> None:
    pd.DataFrame({"a": ["x"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError):
        ov.read_cases(tmp_path / "t.csv", labels_from=tmp_path / "t.csv", label="a")
    with pytest.raises(InputError, match="does not exist"):
        ov.read_cases(tmp_path / "none", labels_from=tmp_path / "t.csv", label="a")


@pytest.fixture
def mammograms(tmp_path: Path) -> Path:
    """Six patients, each view raw and for people, one raw only, a result of CAD; labels by patient."""
    home, capture = tmp_path / "breast", "1.2.840.10008.5.1.4.1.1.7"
    for p in range(6):
        about = {"patient": f"P{p}", "study": 50 + p, "Modality": "MG"}
        for n, (side, view) in enumerate((s, v) for s in "LR" for v in ("CC", "MLO")):
            for intent in ("FOR PROCESSING", "FOR PRESENTATION"):
                if p == 5 and n == 3 and intent == "FOR PRESENTATION":
                    continue
                dicom(home / f"{p}/{side}{view}{intent[4:8]}.dcm", 2 * n + ("PROC" not in intent), **about, ImageLaterality=side,
                      ViewPosition=view, PresentationIntentType=intent, ImageType=["DERIVED", "PRIMARY"])  # fmt: skip
        dicom(home / f"{p}/cad.dcm", 99, **about, SOPClassUID=capture, ImageType=["DERIVED", "SECONDARY"])
    table = {"patient": [f"P{p}" for p in range(6)], "finding": ["yes", "no"] * 3}
    pd.DataFrame(table).to_csv(tmp_path / "labels.csv", index=False)
    return home


def test_one_rendering_of_each_view_is_learned_from(mammograms: Path) -> None:
    labels = mammograms.parent / "labels.csv"
    cases = ov.read_cases(mammograms, labels_from=labels, label="finding", names="keep")
    assert sorted(set(cases.table["view"])) == ["L-CC", "L-MLO", "R-CC", "R-MLO"]
    assert (len(cases), cases.table["intent"].tolist().count("FOR PROCESSING")) == (24, 1)
    assert any("left out: 23 of 53 images, FOR PROCESSING beside" in note for note in cases.notes)
    assert any("left out: 6 of 53 images, secondary captures" in note for note in cases.notes)
    raw = ov.read_cases(
        mammograms, labels_from=labels, label="finding", names="keep", where="intent == 'FOR PROCESSING'"
    )
    assert (len(raw), set(raw.table["intent"])) == (24, {"FOR PROCESSING"})
    every = ov.read_cases(mammograms, labels_from=labels, label="finding", names="keep", where="image_type != ''")
    assert len(every) == 53
    new = read_images(mammograms, cases.target)
    assert len(new) == 24
    assert any("left out: 23 of 53" in note for note in new.notes)


def test_captures_alone_are_images_like_others(tmp_path: Path) -> None:
    """As in the RSNA pneumonia set: every radiograph is a secondary capture."""
    for p in range(4):
        dicom(
            tmp_path / ("yes" if p % 2 else "no") / f"{p}.dcm",
            1,
            patient=f"P{p}",
            study=p,
            SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        )
    assert len(ov.read_cases(tmp_path)) == 4


@pytest.mark.parametrize("names", ["shuffled", "numbered"])
def test_each_echo_is_a_volume_of_its_own(tmp_path: Path, names: str) -> None:
    order = np.random.default_rng(2).permutation(12) if names == "shuffled" else np.arange(12)
    for n in range(12):
        place, echo = divmod(n, 2)
        bright = np.full((16, 12), 3000 if echo else 100, np.uint16)
        bright[place] += 50
        dicom(tmp_path / "x" / f"{order[n]:03d}", n, patient="P", study=7, at=3.0 * place, Modality="MR", InstanceNumber=place + 1,
              EchoTime=str(90 if echo else 20), PixelData=bright.tobytes())  # fmt: skip
    cases = read_images(tmp_path / "x", ov.read_cases(_labelled(tmp_path / "y"), label="label").target, names="keep")
    assert sorted(cases.table["view"]) == ["axial echo time 1", "axial echo time 2"]
    for view, path in zip(cases.table["view"], paths(cases)):
        volume = read_volume(path).voxels
        assert volume.shape == (6, 16, 12)
        assert np.median(volume) == (100 if view.endswith("1") else 3000)
        assert volume.max() - volume.min() == 50  # no slice of the other


def _labelled(folder: Path) -> Path:
    folder.mkdir()
    for n in range(4):
        dicom(folder / f"{n}.dcm", n, patient=f"P{n}", study=n)
    pd.DataFrame({"image": [f"{n}.dcm" for n in range(4)], "label": ["no", "yes"] * 2}).to_csv(
        folder / "t.csv", index=False
    )
    return folder / "t.csv"


def test_a_gap_is_not_bridged(tmp_path: Path) -> None:
    for n in range(22):
        dicom(tmp_path / f"{n:03d}", n, patient="P", study=7, at=1.25 * n + 90 * (n >= 12))
    found = read_tree(tmp_path)
    assert sorted(found.table["slices"]) == [10, 12]
    assert any("2 of 2 rows are one of several stacks" in problem for problem in found.problems)
    for image in found.table["image"]:
        assert read_volume(tmp_path / image).voxels.shape[0] in (10, 12)

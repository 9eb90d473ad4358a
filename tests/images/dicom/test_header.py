"""Headers of DICOM files against pydicom's own reader."""

from __future__ import annotations

import io
import math
import os
import struct
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from overread.core.errors import ImageError
from overread.images.dicom import elements as dicom_elements
from overread.images.dicom.elements import MAX_DEPTH
from overread.images.dicom.header import TRAITS, DicomHeader, clean, read_header
from overread.images.dicom.header import is_dicom_file as looks_like_dicom

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
PACKAGED = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))
#: Field of ours: keyword of pydicom's.
TEXTS = {"patient": "PatientID", "study": "StudyInstanceUID", "series": "SeriesInstanceUID", "instance": "SOPInstanceUID",
         "accession": "AccessionNumber", "modality": "Modality", "site": "InstitutionName", "manufacturer": "Manufacturer",
         "device": "ManufacturerModelName", "body_part": "BodyPartExamined", "issuer": "IssuerOfPatientID",
         "class_uid": "SOPClassUID"}  # fmt: skip


def dataset(**tags: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3.4"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = "1.2.3", "1.2.3.9", "CT"
    made.PatientID, made.PatientName = "P-1", "DOE^JANE"
    made.Rows, made.Columns, made.BitsAllocated = 4, 6, 8
    made.PixelData = bytes(24)
    made["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(made, name, value)
    return made


def written(made: Dataset, syntax: pydicom.uid.UID = ExplicitVRLittleEndian) -> bytes:
    made.file_meta.TransferSyntaxUID = syntax
    handle = io.BytesIO()
    pydicom.dcmwrite(handle, made, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)  # fmt: skip
    return handle.getvalue()


def item(**tags: object) -> Dataset:
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


FULL = {
    "SpecificCharacterSet": "ISO_IR 100", "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "StudyDate": "20200229",
    "AcquisitionTime": "070907.0705", "AccessionNumber": "A1", "Manufacturer": "Röntgen & Söhne", "InstitutionName": "Spital Zürich",
    "ManufacturerModelName": "Strahler 3", "PatientSex": "F", "PatientAge": "045Y", "BodyPartExamined": "CHEST",
    "IssuerOfPatientID": "ZH", "SliceThickness": "2.5", "SeriesNumber": "7", "AcquisitionNumber": "2", "InstanceNumber": "12",
    "ImagePositionPatient": [-1.5, 2, 30.25], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [0.5, 0.75],
    "EchoTime": "20.50", "DiffusionBValue": 1000.0, "DiffusionGradientOrientation": [0.0, 0.6, -0.8], "ConvolutionKernel": "B30f",
    "PresentationIntentType": "FOR PROCESSING", "BurnedInAnnotation": "YES", "ViewPosition": "AP", "ImageLaterality": "L", "NumberOfFrames": "3",
}  # fmt: skip


def same_as_pydicom(ours: DicomHeader, path_or_bytes: object) -> None:
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    theirs = pydicom.dcmread(source, force=True, stop_before_pixels=True)  # type: ignore[arg-type]
    for field, keyword in TEXTS.items():
        value = theirs.get(keyword)
        if value is not None or field not in ("instance", "class_uid"):  # ours fall back on the file meta information
            assert getattr(ours, field) == clean(str(value if value is not None else "")), field
    for field, keyword in (("rows", "Rows"), ("columns", "Columns")):
        assert getattr(ours, field) == (theirs.get(keyword) or 0)
    for field, keyword in (("position", "ImagePositionPatient"), ("orientation", "ImageOrientationPatient")):
        value = theirs.get(keyword)
        if "PerFrameFunctionalGroupsSequence" not in theirs:  # where ours looks, too
            assert getattr(ours, field) == (tuple(map(float, value)) if value else None)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_every_field_in_every_encoding(syntax):
    data = written(dataset(**FULL), syntax)
    found = read_header(data)
    same_as_pydicom(found, data)
    told = dict(zip(TRAITS, found.traits, strict=True))
    assert {name: value for name, value in told.items() if value} == {
        "acquisition time": "70907.1", "echo time": "20.5", "b-value": "1000", "gradient direction": "0 0.6 -0.8",
        "reconstruction kernel": "B30f",
    }  # fmt: skip
    assert replace(found, traits=()) == DicomHeader(
        patient="P-1", study="1.2.3", series="1.2.3.9", instance="1.2.3.4", accession="A1", modality="CT", site="Spital Zürich",
        manufacturer="Röntgen & Söhne", device="Strahler 3", view="AP", laterality="L", age=45.0, sex="F", date="2020-02-29",
        body_part="CHEST", rows=4, columns=6, frames=3, position=(-1.5, 2.0, 30.25), orientation=(1, 0, 0, 0, 1, 0),
        spacing=(0.5, 0.75), thickness=2.5, number=12, time="07:09:07", burned_in="YES", has_pixels=True, issuer="ZH",
        series_number=7, acquisition=2, image_type=("ORIGINAL", "PRIMARY", "AXIAL"), class_uid="1.2.840.10008.5.1.4.1.1.2", intent="FOR PROCESSING",
    )  # fmt: skip


@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.name)
def test_files_of_pydicom(path):
    try:
        found = read_header(path)
    except ImageError:
        assert path.name in ("no_meta.dcm", "rtplan_truncated.dcm")  # begins within an element; cut off
        return
    same_as_pydicom(found, path)
    whole = pydicom.dcmread(path, force=True)
    assert found.has_pixels == any(name in whole for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"))


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda s: s.name)
def test_sequences_of_unknown_length_are_passed(syntax):
    inner = item(CodeValue="1", ReferencedImageSequence=Sequence([item(ReferencedSOPInstanceUID="1.2.9")]))
    made = dataset(
        ReferencedStudySequence=Sequence([inner, inner]), InstanceNumber="4", RequestAttributesSequence=Sequence([])
    )
    for sequence in (made["ReferencedStudySequence"], inner["ReferencedImageSequence"]):
        sequence.is_undefined_length = True
    inner.is_undefined_length_sequence_item = True
    private = made.private_block(0x0009, "OVERREAD", create=True)
    private.add_new(1, "SQ", Sequence([inner]))
    made[0x00091001].is_undefined_length = True
    data = written(made, syntax)
    assert b"\xff\xff\xff\xff" in data
    assert read_header(data).number == 4
    same_as_pydicom(read_header(data), data)


def test_an_image_within_the_header_is_not_the_image():
    icon = item(Rows=1, Columns=1, BitsAllocated=8, PixelData=b"\0\0")
    icon["PixelData"].VR = "OB"
    made = dataset(IconImageSequence=Sequence([icon]))
    del made.PixelData
    found = read_header(written(made))
    assert not found.has_pixels
    assert found.rows == 4


def test_functional_groups():
    shared = item(PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]),
                  PixelMeasuresSequence=Sequence([item(PixelSpacing=[0.25, 0.5], SliceThickness="3")]))  # fmt: skip
    frames = [item(PlanePositionSequence=Sequence([item(ImagePositionPatient=[1, 2, z])])) for z in (5, 8, 11)]
    made = dataset(
        SharedFunctionalGroupsSequence=Sequence([shared]),
        PerFrameFunctionalGroupsSequence=Sequence(frames),
        NumberOfFrames="3",
    )
    for syntax in SYNTAXES:
        found = read_header(written(made, syntax))
        assert found.position == (1, 2, 5)
        assert found.orientation == (0, 1, 0, 0, 0, -1)
        assert (found.spacing, found.thickness, found.frames) == ((0.25, 0.5), 3.0, 3)


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("ISO_IR 192", "東京病院"),
        (["", "ISO 2022 IR 87"], "東京病院"),
        ("GB18030", "北京医院"),
        ("ISO_IR 144", "Больница"),
        (["ISO_IR 6", "ISO 2022 IR 149"], "서울병원"),
    ],
    ids=str,
)
def test_character_sets(charset, text):
    data = written(dataset(SpecificCharacterSet=charset, InstitutionName=text))
    assert read_header(data).site == text == str(pydicom.dcmread(io.BytesIO(data)).InstitutionName)


def test_an_unknown_character_set_is_no_reason_to_fail():
    data = written(dataset(SpecificCharacterSet="ISO_IR 100", InstitutionName="Zürich")).replace(
        b"ISO_IR 100", b"ISO_IR 999"
    )
    assert read_header(data).site.endswith("rich")


def test_control_characters_and_reversed_text_are_stripped():
    dirty = "A\x07\x1b[31m\r\nB\u202eC"
    found = read_header(written(dataset(SpecificCharacterSet="ISO_IR 192", InstitutionName=dirty)))
    assert found.site.isprintable()
    assert "\x1b" not in found.site


@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "007Y"}, 7),
        ({"PatientAge": "018M"}, 1.5),
        ({"PatientAge": "010D"}, 0.03),
        ({"PatientAge": "026W"}, 0.5),
        ({"PatientBirthDate": "19700301", "StudyDate": "20200229"}, 49),
        ({"PatientBirthDate": "19700229", "StudyDate": "20200229"}, math.nan),  # there was no such day
        ({"PatientBirthDate": "20200101", "StudyDate": "20200704"}, 0.5),
        ({"PatientBirthDate": "20210101", "StudyDate": "20200704"}, math.nan),  # not born yet
        ({"PatientAge": "old", "PatientBirthDate": "19700228", "StudyDate": "20200229"}, 50),
        ({}, math.nan),
    ],
    ids=str,
)
def test_ages(tags, age):
    with pydicom.config.disable_value_validation():
        data = written(dataset(**tags))
    assert read_header(data).age == pytest.approx(age, nan_ok=True)
    assert "1970" not in repr(read_header(data))


def test_views_by_code():
    code = item(CodeValue="399368009", CodingSchemeDesignator="SCT", CodeMeaning="medio-lateral oblique")
    found = read_header(written(dataset(Modality="MG", ViewCodeSequence=Sequence([code]), ImageLaterality="R")))
    assert (found.view, found.laterality) == ("MLO", "R")


@pytest.mark.parametrize(
    "tags",
    [
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"PixelSpacing": [0, 1]},
        {"PixelSpacing": [-1, 1]},
        {"NumberOfFrames": "-3"},
        {"SliceThickness": "0"},
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_not_known(tags):
    found = read_header(written(dataset(**tags)))
    assert (found.orientation, found.spacing, found.frames) == (None, None, 1)
    assert math.isnan(found.thickness)


def test_the_pixels_are_not_read(tmp_path):
    """A header in front of a hole of a terabyte."""
    path = tmp_path / "large.dcm"
    path.write_bytes(written(dataset()))
    os.truncate(path, 2**30)
    assert read_header(path).has_pixels


def test_only_files(tmp_path):
    for path in (tmp_path, tmp_path / "absent.dcm", "a\0b"):
        with pytest.raises(ImageError):
            read_header(path)
        assert not looks_like_dicom(path)


def header_or_error(data: bytes) -> DicomHeader | str:
    """The header, or the text of our error; any other exception is a bug."""
    try:
        return read_header(data)
    except ImageError as caught:
        text = str(caught)
    assert text.isprintable()
    return text


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_cut_off_anywhere(syntax):
    """Every sixteenth: an error, or the header as it was."""
    data = written(dataset(**FULL), syntax)
    whole = read_header(data)
    for at in range(0, len(data), len(data) // 16):
        found = header_or_error(data[:at])
        assert isinstance(found, str) or not found.has_pixels or found == whole


def test_the_walk_is_bounded():
    nested = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    head = written(dataset())[:132]
    for data, what in (
        (head + nested * 1_000_000, "nests its sequences too deeply"),
        (head + nested * (MAX_DEPTH - 1), "cut off"),
        (head + struct.pack("<HH2sH", 0x0008, 0x0008, b"CS", 0) * 1_100_000, "too many elements"),
        (head + struct.pack("<HH2sHL", 0x0008, 0x1140, b"OB", 0, 2**31), "cut off"),
    ):
        with pytest.raises(ImageError, match=what):
            read_header(data)


def test_a_deflated_bomb_is_not_inflated(monkeypatch):
    monkeypatch.setattr(dicom_elements, "HEADER_INFLATED", 1 << 16)
    made = dataset()
    made.add_new(0x00091001, "OB", bytes(1 << 20))
    with pytest.raises(ImageError, match="cut off"):
        read_header(written(made, DeflatedExplicitVRLittleEndian))


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_bytes_of_any_kind(tail):
    for head in (
        bytes(128) + b"DICM",
        b"\x08\0\x05\0CS",
        bytes(128) + b"DICM\x02\0\x10\0UI\x16\0" + DeflatedExplicitVRLittleEndian.encode(),
    ):
        header_or_error(head + tail)


@pytest.mark.parametrize(
    ("stated", "years", "doubt"),
    [
        ("058Y", 58, ""), ("58", 58, ""), ("018M", 1.5, ""), ("010D", 0.03, ""), ("90+", 90, "bound"), ("90Y+", 90, "bound"),
        (">89", 89, "bound"), ("89+Y", 89, "bound"), ("412Y", math.nan, "unreadable"), ("old", math.nan, "unreadable"),
        ("-5", math.nan, "unreadable"), ("", math.nan, ""),
    ],
)  # fmt: skip
def test_ages_as_they_are_written(stated, years, doubt):
    found = read_header(written(dataset(PatientAge=stated)))
    assert found.age == pytest.approx(years, abs=0.01, nan_ok=True)
    assert found.age_doubt == doubt
    born = read_header(written(dataset(PatientAge=stated, PatientBirthDate="19500101", StudyDate="20200601")))
    assert born.age == pytest.approx(70 if math.isnan(years) else years, abs=0.01)

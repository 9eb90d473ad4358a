"""Faults 13, 18, 20, 21 and 23 of an export: what must not leave the house, and what must not be executed.

Every test goes the whole way: files on disk, processes of their own, a copy whose every byte is searched.
"""

from __future__ import annotations

import csv
import io
import re
import struct
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from overread.deidentify.export import Rules, clean, deidentify

pytestmark = pytest.mark.filterwarnings("ignore")  # of pydicom, where a test writes what is not allowed
RULES = Rules(b"a salt of sixteen bytes and more")
CT, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"


def image(pixels: np.ndarray | None = None, **changes: object) -> Dataset:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) if pixels is None else pixels
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = CT, "1.2.3.4", "1.2.3"
    made.PatientName, made.PatientID, made.Modality, made.BodyPartExamined = ("Doe^Jane", "4711-0815", "CT", "CHEST")
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.BitsAllocated, made.BitsStored, made.HighBit = 1, 8, 8, 7
    made.PixelRepresentation, made.PhotometricInterpretation = 0, "MONOCHROME2"
    made.PixelData = pixels.tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for keyword, value in changes.items():
        setattr(made, keyword, value)
    return made


def save(made: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


def every_byte(folder: Path) -> bytes:
    """All names and all contents in a folder."""
    return b"\n".join(
        str(p.relative_to(folder)).encode() + b"\n" + (p.read_bytes() if p.is_file() else b"")
        for p in folder.rglob("*")
    )


def assert_silent(data: bytes, canary: str) -> None:
    for text in (canary, canary.lower(), canary.title(), canary[::-1]):
        for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
            assert text.encode(code) not in data, (text, code)


# -- 13: an executable in the preamble ----------------------------------------------------------------------------


@pytest.mark.parametrize("head", [b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\nrm -rf ~\n", b"II*\0"])
def test_13_the_preamble_is_zero_on_every_write(tmp_path, head):
    source = image()
    source.preamble = head.ljust(128, b"\x90")
    save(source, tmp_path / "in" / "x.dcm")
    assert (tmp_path / "in" / "x.dcm").read_bytes().startswith(head)
    made = deidentify(tmp_path / "in", tmp_path / "clean", rules=RULES)
    (out,) = made.folder.rglob("*.dcm")
    assert out.read_bytes()[:132] == bytes(128) + b"DICM"
    cleaned = clean(source, RULES)
    pydicom.dcmwrite(tmp_path / "by hand.dcm", cleaned)
    assert (tmp_path / "by hand.dcm").read_bytes()[:132] == bytes(128) + b"DICM"


# -- 14, 15: nested without end, longer than the file -------------------------------------------------------------


def test_14_a_thousand_nested_sequences(tmp_path, survived, canary):
    inner = canary.encode().ljust(14, b" ")
    data = struct.pack("<HH2sH", 0x0010, 0x4000, b"LT", len(inner)) + inner
    for _ in range(1000):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(data)) + data
        data = struct.pack("<HH2sHI", 0x0008, 0x1115, b"SQ", 0, len(item)) + item
    save(image(), tmp_path / "in" / "x.dcm")
    whole = (tmp_path / "in" / "x.dcm").read_bytes()
    at = whole.index(b"\x10\0\x10\0PN")
    (tmp_path / "in" / "x.dcm").write_bytes(whole[:at] + data + whole[at:])
    made = survived(deidentify, tmp_path / "in", tmp_path / "clean", rules=RULES)
    assert made.written + sum(made.refused.values()) == 1
    assert_silent(every_byte(tmp_path / "clean"), canary)


def test_15_lengths_beyond_the_file(tmp_path, survived, canary):
    save(image(PatientComments=canary), tmp_path / "in" / "0.dcm")
    whole = (tmp_path / "in" / "0.dcm").read_bytes()
    for number, tag in enumerate((b"\x10\0\x10\0PN", b"\x08\0\x18\0UI", b"\x28\0\x10\0US"), 1):
        at = whole.index(tag) + 6
        (tmp_path / "in" / f"{number}.dcm").write_bytes(whole[:at] + b"\xff\xff" + whole[at + 2 :])
    at = whole.index(b"\xe0\x7f\x10\0OW") + 8
    (tmp_path / "in" / "9.dcm").write_bytes(whole[:at] + b"\xfe\xff\xff\xff" + whole[at + 4 :])
    made = survived(deidentify, tmp_path / "in", tmp_path / "clean", rules=RULES)
    assert made.written == 1
    assert_silent(every_byte(tmp_path / "clean"), canary)


# -- 18: identifiers that look like paths -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uid",
    ["../../../../etc/passwd", "/tmp/x", "..\\..\\x", "1.2.3/../../x", "", "x" * 300, "CON", "a\0b", "~/x", "%2e%2e/"],
)
def test_18_a_uid_or_identifier_like_a_path(tmp_path, uid):
    source = image()
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        tag = pydicom.tag.Tag(keyword)
        value = uid.encode() or b"1"
        value += b"\0" * (len(value) % 2)
        source[tag] = pydicom.dataelem.RawDataElement(
            tag, "LO" if keyword == "PatientID" else "UI", len(value), value, 0, False, True
        )
    save(source, tmp_path / "in" / "x.dcm")
    before = set(tmp_path.rglob("*"))
    deidentify(tmp_path / "in", tmp_path / "deep" / "clean", rules=RULES)
    new = {p for p in tmp_path.rglob("*") if p.is_file()} - before
    for path in new:
        inside = path.relative_to(tmp_path / "deep" / "clean").as_posix()
        assert re.fullmatch(r"deidentified\.(csv|json)|p-[0-9a-f]{16}/s-[0-9a-f]{16}/[0-9a-f]{16}\.dcm", inside), inside
    (out,) = (tmp_path / "deep").rglob("*.dcm")
    assert re.fullmatch(r"2\.25\.\d+", pydicom.dcmread(out).SOPInstanceUID)


# -- 20: burned-in annotation -------------------------------------------------------------------------------------


def drawn(canary: str) -> np.ndarray:
    picture = np.zeros((240, 320), np.uint8)
    cv2.putText(picture, canary, (12, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    return picture


@pytest.mark.parametrize(
    "what", [{"BurnedInAnnotation": "YES"}, {"Modality": "US"}, {"SOPClassUID": CAPTURE}, {"Modality": "OT"}]
)
def test_20_text_in_pixels_is_flagged_and_not_exported_without_an_override(tmp_path, canary, what):
    save(image(drawn(canary), **what), tmp_path / "in" / "x.dcm")
    made = deidentify(tmp_path / "in", tmp_path / "clean", rules=RULES)
    assert made.written == 0
    assert [reason.split(":")[0] for reason in made.refused] == ["burned-in annotation"]
    assert not list((tmp_path / "clean").rglob("*.dcm"))
    assert not list((tmp_path / "clean").rglob("p-*"))
    made = deidentify(tmp_path / "in", tmp_path / "clean", rules=RULES, allow_burned_in=True)
    assert made.written == 1
    (out,) = (tmp_path / "clean").rglob("*.dcm")
    assert pydicom.dcmread(out).BurnedInAnnotation == "YES"
    with open(made.files[0], encoding="utf-8", newline="") as handle:
        assert "burned-in annotation" in next(csv.DictReader(handle))["reason"]


def test_20_what_cannot_be_looked_at_is_not_exported(tmp_path):
    save(image(Modality="US", PhotometricInterpretation="YBR_PARTIAL_420"), tmp_path / "in" / "x.dcm")
    made = deidentify(tmp_path / "in", tmp_path / "clean", rules=RULES)
    assert made.refused == {"burned-in annotation: the pixels cannot be searched for text": 1}


# -- 21: a canary -------------------------------------------------------------------------------------------------


def photograph(canary: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = canary
    out = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(
        out, "JPEG", comment=canary.encode(), exif=exif.tobytes()
    )
    return out.getvalue()


def sequences(canary: str) -> Dataset:
    item = Dataset()
    item.PatientName = item.PersonName = canary
    item.TextValue = item.CodeMeaning = item.InstitutionName = item.UnformattedTextValue = canary
    item.private_block(0x0029, canary, create=True).add_new(0x10, "UN", canary.encode() + b"!")
    deeper = Dataset()
    deeper.update(item)
    item.RequestAttributesSequence = item.OriginalAttributesSequence = item.ContentSequence = [deeper]
    item.ReferencedSeriesSequence = item.AnatomicRegionSequence = item.FrameAnatomySequence = [deeper]
    return item


@pytest.fixture
def infested(tmp_path, canary) -> Path:
    """A tree with the canary wherever a name may hide, in four codings."""
    tree = tmp_path / "in" / f"{canary}, Anna" / canary.lower()
    for number, syntax in enumerate(
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, ExplicitVRLittleEndian)
    ):
        made = image()
        made.file_meta.TransferSyntaxUID = syntax
        if syntax == JPEGBaseline8Bit:
            made.PixelData = encapsulate([photograph(canary), photograph(canary)])
            made.NumberOfFrames = 2
            made["PixelData"].is_undefined_length = True
            made["PixelData"].VR = "OB"
        made.SpecificCharacterSet = ["ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 100"][number]
        made.PatientName, made.PatientID, made.OtherPatientNames = (
            f"{canary}^Anna",
            f"ID-{canary}",
            [canary, f"X^{canary}"],
        )
        made.PatientComments = made.StudyDescription = made.ImageComments = made.AdditionalPatientHistory = (
            f"{canary} again"
        )
        made.Manufacturer = made.ManufacturerModelName = made.StationName = made.ProtocolName = canary
        made.BodyPartExamined, made.ImageType = canary, ["ORIGINAL", "PRIMARY", canary]
        made.ReferencedImageSequence = made.SourceImageSequence = made.ReferencedStudySequence = [sequences(canary)]
        made.OriginalAttributesSequence = made.StructuredDisplayTextBoxSequence = made.ViewCodeSequence = [
            sequences(canary)
        ]
        made.IconImageSequence = [image(PatientName=canary)]
        del made.IconImageSequence[0].file_meta
        block = made.private_block(0x0009, canary, create=True)
        block.add_new(0x01, "LO", canary)
        block.add_new(0x02, "SQ", [sequences(canary)])
        block.add_new(0x03, "OB", canary.encode("utf-16-le"))
        for group in (0x5000, 0x6000, 0x601E):
            made[group << 16 | 0x3000] = DataElement(group << 16 | 0x3000, "OW", canary.encode() + b"!")
            made[group << 16 | 0x0022] = DataElement(group << 16 | 0x0022, "LO", canary)
        made[0xFFFCFFFC] = DataElement(0xFFFCFFFC, "OB", canary.encode() + b"!")
        made.file_meta.PrivateInformationCreatorUID, made.file_meta.PrivateInformation = (
            "1.2.3",
            canary.encode() + b"!",
        )
        made.file_meta.SourceApplicationEntityTitle = canary
        made.preamble, made.SOPInstanceUID = canary.encode().ljust(128), f"1.2.3.{number}"
        save(made, tree / f"{canary}_{number}.dcm")
    report = image(PatientName=canary, ContentSequence=[sequences(canary)], SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    del report.PixelData
    save(report, tree / "SR")
    document = image(
        PatientName=canary, EncapsulatedDocument=b"%PDF " + canary.encode(), SOPClassUID="1.2.840.10008.5.1.4.1.1.104.1"
    )
    del document.PixelData
    save(document, tree / "PDF")
    whole = (tree / f"{canary}_0.dcm").read_bytes()
    (tree / f"cut {canary}.dcm").write_bytes(whole[: len(whole) // 2])
    (tree / f"trailing {canary}.dcm").write_bytes(whole + canary.encode() * 3)
    (tree / f"{canary}.txt").write_text(canary, encoding="utf-8")
    return tmp_path / "in"


@pytest.mark.parametrize("rules", [RULES, Rules(RULES.salt, "shifted", True, True)], ids=["all", "kept"])
def test_21_a_canary_is_in_no_byte_of_the_export(infested, tmp_path, canary, capfd, rules):
    assert every_byte(infested).count(canary.encode()) > 300
    made = deidentify(infested, tmp_path / "clean", rules=rules)
    assert made.written >= 4, made
    assert_silent(every_byte(tmp_path / "clean"), canary)
    out, err = capfd.readouterr()
    assert_silent((out + err + repr(made) + repr(rules)).encode(), canary)
    for path in (tmp_path / "clean").rglob("*.dcm"):
        found = pydicom.dcmread(path)
        assert not [e for e in found.iterall() if e.tag.is_private]
        np.testing.assert_allclose(
            np.atleast_3d(found.pixel_array).reshape(-1, 8, 8)[0], np.arange(64).reshape(8, 8), atol=6
        )


def test_21_errors_name_nobody(infested, tmp_path, canary, refused):
    for source, output in (
        (infested / canary, tmp_path / "clean"),
        (infested, infested / canary),
        (infested, infested),
    ):
        refused(deidentify, source, output, rules=RULES)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / f"{canary}.dcm").write_bytes(b"")
    refused(deidentify, infested, tmp_path / "full", rules=RULES)


# -- 23: markup and formulas in tags ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "<script>alert(1)</script>", "a\nb", "\x1b[31m"]
)
def test_23_tags_reach_no_table(tmp_path, text):
    source = image()
    for keyword, kind in (("Modality", "CS"), ("PatientID", "LO"), ("StudyInstanceUID", "UI"), ("Manufacturer", "LO")):
        tag, value = pydicom.tag.Tag(keyword), text.encode()
        value += b" " * (len(value) % 2)
        source[tag] = pydicom.dataelem.RawDataElement(tag, kind, len(value), value, 0, False, True)
    save(source, tmp_path / "in" / "x.dcm")
    made = deidentify(tmp_path / "in", tmp_path / "clean", rules=RULES, allow_burned_in=True)
    table = made.files[0].read_text("utf-8")
    assert text.strip() not in table.replace("p-", "").replace("s-", "") or len(text) < 3
    with open(made.files[0], encoding="utf-8", newline="") as handle:
        cells = [cell for row in csv.reader(handle) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    assert all(cell.isprintable() for cell in cells)

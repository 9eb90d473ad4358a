"""Cleaning one data set: held against the table of the standard, two other libraries, and a planted name."""

from __future__ import annotations

import copy
import warnings
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from overread.core.errors import ArgumentError, ImageError
from overread.deidentify.export import Rules, clean
from overread.deidentify.instance import as_bytes

NAME = "KANARIENVOGEL"
SALT = b"a salt of sixteen bytes and more"
RULES = Rules(SALT)
UID = "1.2.826.0.1.3680043.8.498.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
TEXT = ("SH", "LO", "ST", "LT", "UT", "UC", "UR", "AE", "PN")


def image(pixels: bytes | None = None) -> Dataset:
    """A small CT of a patient who is named only in the name."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CT, f"{UID}.3"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = (f"{UID}.1", f"{UID}.2", f"{UID}.4")
    made.PatientName, made.PatientID, made.PatientBirthDate = f"{NAME}^Anna", "MRN-0815-4711", "19610203"
    made.Modality, made.StudyDate, made.StudyTime = "CT", "20240131", "101112"
    made.Rows, made.Columns, made.SamplesPerPixel, made.BitsAllocated, made.BitsStored = 4, 6, 1, 16, 12
    made.HighBit, made.PixelRepresentation, made.PhotometricInterpretation = 11, 0, "MONOCHROME2"
    made.PixelData = pixels if pixels is not None else np.arange(24, dtype="<u2").tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def reread(dataset: Dataset) -> Dataset:
    return pydicom.dcmread(BytesIO(as_bytes(dataset)))


def said(data: bytes, text: str = NAME) -> bool:
    """Whether ``text`` stands in ``data``, in any of the usual encodings and cases."""
    wanted = {
        form.encode(code)
        for form in (text, text.lower(), text.title())
        for code in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le")
    }
    return any(form in data for form in wanted)


# -- the table ----------------------------------------------------------------------------------------------------

#: Some rows of Table E.1-1 as the standard prints them: tag, action of the Basic Profile.
PRINTED = """
00080050 Z  00184000 X  00400555 X/Z  00080022 X/Z  0008002A X/Z/D  00181400 X/D  001811BB D  00080032 X/Z  001021B0 X
00080023 Z/D  00080033 Z/D  00180010 Z/D  00081155 U  0020000D U  00080018 U  0020000E U  00080020 Z  00080030 Z
00100010 Z  00100020 Z/D  00100030 Z  00100040 Z  00101010 X  00101020 X  00101030 X  00102160 X  00104000 X  00080080 X/Z/D
00080081 X  00081010 X/Z/D  00081030 X  0008103E X  00081070 X/Z/D  00181000 X/Z/D  00181030 X/D  00200010 Z  00204000 X
00400275 X  04000561 X  00880200 X  FFFAFFFA X  FFFCFFFC X  00081140 X/Z/U  00082112 X/Z/U  00081110 X/Z  00081111 X/Z/D
00400244 X  0040A730 D  00700001 D  00080090 Z  00081048 X  00102154 X  00321032 X  00380300 X  00400006 X  00181002 U
"""


def test_the_table_is_that_of_the_standard():
    from overread.deidentify.rules import actions

    printed = PRINTED.split()
    for tag, action in zip(printed[::2], printed[1::2], strict=True):
        assert actions()[int(tag, 16)] == action, tag


def table(kind: str) -> list[int]:
    """Tags with that action, from the library itself: not by way of what is tested."""
    from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as lists

    return [
        tag[0] << 16 | tag[1] for tag in getattr(lists, f"{kind}_TAGS") if len(tag) == 2 and tag[0] not in (0, 2, 4)
    ]


KINDS = ["X", "Z", "D", "U", "Z_D", "X_Z", "X_D", "X_Z_D"]


def value_for(vr: str) -> object:
    """Something that could tell on a patient."""
    return {"DA": "19610203", "TM": "010203", "DT": "19610203010203", "AS": "063Y", "DS": "4711.5", "IS": "4711", "UI": f"{UID}.99",
            "CS": "VOGEL", "SQ": Sequence([Dataset()]), "OB": b"VOGEL!", "UN": b"VOGEL!", "OW": b"VOGEL!", "US": 4711, "FD": 47.11,
            "FL": 47.5, "UL": 4711, "SL": 4711, "AT": 0x00100010}.get(vr, "VOGEL")  # fmt: skip


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_attribute_of_the_table(kind, nested, enhanced):
    source = image()
    inner = Dataset() if nested else source
    before = {}
    for tag in table(kind):
        if tag in DicomDictionary:
            vr = dictionary_VR(tag).split(" or ")[0]
            inner[tag] = DataElement(tag, vr, value_for(vr))
            before[tag] = inner[tag].value
    if nested:
        deeper = Dataset()
        deeper.ReferencedSeriesSequence = [inner]
        source.ReferencedSeriesSequence = [deeper]
    if enhanced:
        source.SharedFunctionalGroupsSequence = [Dataset()]
    made = reread(clean(source, RULES))
    after = made.ReferencedSeriesSequence[0].ReferencedSeriesSequence[0] if nested else made
    assert before
    for tag, old in before.items():
        here = after.get(tag)
        if kind == "X":
            assert here is None, keyword_for_tag(tag)
        elif kind == "U":
            assert here.value.startswith("2.25."), keyword_for_tag(tag)
        elif kind == "Z":
            assert not here.value or here.value == made.PatientID, keyword_for_tag(tag)
        else:
            assert here is None or here.value != old, keyword_for_tag(tag)


def test_a_dummy_is_valid_where_an_enhanced_image_needs_a_value():
    source = image()
    source.SharedFunctionalGroupsSequence = [Dataset()]
    source.AcquisitionDateTime, source.ContentDate, source.ContentTime, source.DeviceSerialNumber = (
        "20240131101112",
        "20240131",
        "101112",
        "4711",
    )
    made = clean(source, RULES)
    assert (made.AcquisitionDateTime, made.ContentDate, made.ContentTime) == ("19000101000000", "19000101", "000000")
    assert made.DeviceSerialNumber == "REMOVED"


@pytest.mark.parametrize("edition", ["2023", "2024b", "2026c"])
def test_dicom_anonymizer_leaves_nothing_out_that_ours_keeps(edition):
    from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions

    def theirs(dataset):
        anonymize_dataset(dataset, base_rules_gen=lambda: initialize_actions(f"dicomfields_{edition}"))

    _compare(theirs)


@pytest.mark.filterwarnings("ignore:Invalid value")
def test_dicognito_leaves_nothing_out_that_ours_keeps():
    from dicognito.anonymizer import Anonymizer

    _compare(Anonymizer(seed="1").anonymize)


def _compare(theirs) -> None:
    """What another library takes away or changes is not with its old value in ours either."""
    source = image()
    source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if (
            keyword
            and not retired
            and tag >> 16 > 8
            and tag not in source
            and vr in (*TEXT, "DA", "TM", "DT", "AS", "UI")
        ):
            source[tag] = DataElement(tag, vr, value_for(vr))
    other, ours = copy.deepcopy(source), clean(source, RULES)
    theirs(other)
    changed = [e for e in source if e.tag not in other or other[e.tag].value != e.value]
    assert len(changed) > 100
    kept = [e.keyword for e in changed if e.tag in ours and ours[e.tag].value == e.value]
    assert not kept


# -- a planted name -----------------------------------------------------------------------------------------------


def test_a_name_in_every_attribute_of_the_dictionary():
    """Whatever attribute of the standard may hold text or bytes, the name in it is gone; nothing else of a file is text."""
    from overread.deidentify.rules import PIXELS

    source = image()
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        first = vr.split(" or ")[0]
        free = (
            tag >> 16 > 8 and tag not in source and keyword not in (*PIXELS, "NumberOfFrames") and tag >> 16 != 0xFFFE
        )
        if free and (
            first in (*TEXT, "CS", "AS", "DA", "TM", "DT", "UI", "DS", "IS") or first[0] == "O" or first == "UN"
        ):
            if first in ("OB", "OW", "OF", "OD", "OL", "OV", "UN"):
                source[tag] = DataElement(tag, first, (NAME * 8).encode())
            else:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    source.add(pydicom.dataelem.DataElement(tag, "LO", NAME))
                    source[tag].VR = first
    assert len(source) > 1800
    assert not said(as_bytes(clean(source, RULES)))


def planted() -> Dataset:
    """The name wherever people and devices have been seen to put it."""
    source = image()
    source.OtherPatientNames, source.StudyDescription, source.ImageComments = (
        f"{NAME}^B",
        f"for {NAME}",
        f"{NAME}\r\nseen",
    )
    source.AdditionalPatientHistory, source.BodyPartExamined, source.Manufacturer = NAME, NAME, f"{NAME} Inc"
    source.InstitutionName = source.StationName = source.ProtocolName = NAME
    source.PatientComments, source.ReferringPhysicianName = NAME.title(), f"Dr^{NAME}"
    source.ImageType = ["ORIGINAL", "PRIMARY", NAME]
    block = source.private_block(0x0029, f"{NAME} CREATOR", create=True)
    block.add_new(0x01, "LO", NAME)
    block.add_new(0x02, "UN", f"<name>{NAME}</name>".encode())
    deep = Dataset()
    deep.PatientName = NAME
    deep.private_block(0x0011, "X", create=True).add_new(0x01, "LT", NAME)
    block.add_new(0x03, "SQ", [deep])
    nested = Dataset()
    nested.ReferencedSOPClassUID, nested.ReferencedSOPInstanceUID = CT, f"{UID}.7"
    nested.private_block(0x0019, NAME, create=True).add_new(0x01, "SH", NAME)
    nested.PersonName = nested.TextValue = NAME
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-D3000", "SRT", NAME
    local = Dataset()
    local.CodeValue, local.CodingSchemeDesignator, local.CodeMeaning = NAME, "99LOCAL", NAME
    nested.PurposeOfReferenceCodeSequence = [code, local]
    source.ReferencedImageSequence = [nested]
    before = Dataset()
    before.ModifiedAttributesSequence = [copy.deepcopy(nested)]
    before.SourceOfPreviousValues = NAME
    source.OriginalAttributesSequence = [before]
    request = Dataset()
    request.RequestedProcedureDescription = request.ScheduledProcedureStepDescription = NAME
    source.RequestAttributesSequence = [request]
    content = Dataset()
    content.ValueType, content.PersonName = "PNAME", NAME
    source.ContentSequence = [content]
    box = Dataset()
    box.TextString, box.UnformattedTextValue = NAME, NAME
    source.StructuredDisplayTextBoxSequence = [box]
    icon = image(NAME.encode() + bytes(35))
    del icon.file_meta
    source.IconImageSequence = [icon]
    for group in (0x6000, 0x6002, 0x50FE):
        source[group << 16 | 0x3000] = DataElement(group << 16 | 0x3000, "OW", (NAME * 2).encode())
        source[group << 16 | 0x1500] = DataElement(group << 16 | 0x1500, "LO", NAME)
    source[0xFFFCFFFC] = DataElement(0xFFFCFFFC, "OB", (NAME * 2).encode())
    source[0x00091001] = DataElement(0x00091001, "LO", NAME)  # private without a creator
    source[0x00180011] = DataElement(0x00180011, "LO", NAME)  # no attribute of the standard
    source.file_meta.PrivateInformationCreatorUID, source.file_meta.PrivateInformation = (
        f"{UID}.8",
        NAME.encode() + b"\0",
    )
    source.file_meta.SourceApplicationEntityTitle = source.file_meta.SendingApplicationEntityTitle = NAME
    source.file_meta.ImplementationVersionName = NAME
    source.preamble = NAME.encode().ljust(128, b"\0")
    return source


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_planted_name_is_in_no_byte(syntax):
    source = planted()
    source.file_meta.TransferSyntaxUID = syntax
    source.file_meta.MediaStorageSOPClassUID, source.file_meta.MediaStorageSOPInstanceUID = CT, f"{UID}.3"
    data = BytesIO()
    pydicom.dcmwrite(data, source, enforce_file_format=True)
    data = data.getvalue()
    assert data.count(NAME.encode()) > 40
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = as_bytes(clean(pydicom.dcmread(BytesIO(data)), RULES))
    for text in (NAME, "MRN-0815", "4711", "19610203", "20240131", "Anna", UID):
        assert not said(out, text), text
    assert out[:128] == bytes(128)
    made = pydicom.dcmread(BytesIO(out))
    (reference,) = made.ReferencedImageSequence
    assert reference.ReferencedSOPInstanceUID == RULES.uid(f"{UID}.7")
    (code,) = reference.PurposeOfReferenceCodeSequence
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("T-D3000", "SRT")
    assert list(made.ImageType) == ["ORIGINAL", "PRIMARY", ""]


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
        ("ISO_IR 144", "Люкceмбypг"),
        (["ISO_IR 100", "ISO 2022 IR 144"], "Müller"),
    ],
)
def test_names_in_other_character_sets(charset, name):
    source = image()
    source.SpecificCharacterSet = charset
    source.PatientName, source.OtherPatientNames, source.StudyDescription = name, name, name
    source.PatientComments = name
    data = BytesIO()
    pydicom.dcmwrite(data, source, enforce_file_format=True)
    stored = pydicom.dcmread(BytesIO(data.getvalue())).get_item("PatientName").value
    out = as_bytes(clean(pydicom.dcmread(BytesIO(data.getvalue())), RULES))
    for part in stored.replace(b"=", b"^").split(b"^"):
        assert not part or part not in out
    assert not any(said(out, part) for part in name.replace("=", "^").split("^"))
    assert "SpecificCharacterSet" not in pydicom.dcmread(BytesIO(out))


def test_a_number_that_is_text_and_text_that_claims_to_be_a_number():
    """In a file with explicit kinds, any attribute may claim to be text; the dictionary knows better."""
    source = image()
    source[0x00280106] = DataElement(0x00280106, "LT", NAME)  # Smallest Image Pixel Value
    source[0x00185100] = DataElement(0x00185100, "UT", NAME)  # Patient Position
    data = BytesIO()
    pydicom.dcmwrite(data, source, enforce_file_format=True)
    source = pydicom.dcmread(BytesIO(data.getvalue()))
    source[0x00181151] = pydicom.dataelem.RawDataElement(
        pydicom.tag.Tag(0x00181151), "IS", len(NAME), NAME.encode(), 0, False, True
    )
    out = as_bytes(clean(source, RULES))
    assert not said(out)


# -- what is kept -------------------------------------------------------------------------------------------------


def test_pixels_and_what_describes_them_stay():
    source = image()
    source.RescaleSlope, source.RescaleIntercept, source.WindowCenter, source.WindowWidth = ("2", "-1024", "40", "400")
    source.ImagePositionPatient, source.PixelSpacing = ["1.5", "-2.25", "3"], ["0.5", "0.5"]
    source.Manufacturer, source.ConvolutionKernel, source.BodyPartExamined = "ACME", "B30f", "CHEST"
    made = reread(clean(source, RULES))
    for keyword in ("PixelData", "Rows", "Columns", "BitsStored", "RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth",
                    "ImagePositionPatient", "PixelSpacing", "Manufacturer", "ConvolutionKernel", "BodyPartExamined", "Modality",
                    "SOPClassUID"):  # fmt: skip
        assert made[keyword].value == source[keyword].value, keyword
    np.testing.assert_array_equal(made.pixel_array, np.arange(24).reshape(4, 6))


def test_the_argument_is_not_changed():
    source = planted()
    before = copy.deepcopy(source)
    clean(source, RULES)
    assert source == before
    assert source.preamble == before.preamble


def test_it_says_what_was_done():
    made = clean(image(), Rules(SALT, dates="shifted", keep_device=True, keep_characteristics=True))
    assert made.PatientIdentityRemoved == "YES"
    assert made.DeidentificationMethod[0] == "DICOM PS3.15 2026c Table E.1-1"
    assert [item.CodeValue for item in made.DeidentificationMethodCodeSequence] == [
        "113100",
        "113107",
        "113108",
        "113109",
    ]
    assert {item.CodingSchemeDesignator for item in made.DeidentificationMethodCodeSequence} == {"DCM"}
    assert made.LongitudinalTemporalInformationModified == "MODIFIED"
    plain = clean(image(), RULES)
    assert [item.CodeValue for item in plain.DeidentificationMethodCodeSequence] == ["113100"]
    assert plain.LongitudinalTemporalInformationModified == "REMOVED"
    assert sorted(e.keyword for e in made.file_meta) == [
        "FileMetaInformationVersion", "ImplementationClassUID", "ImplementationVersionName", "MediaStorageSOPClassUID",
        "MediaStorageSOPInstanceUID", "TransferSyntaxUID"]  # fmt: skip
    assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID


def test_codes_depend_on_the_salt_and_on_nothing_else():
    one, same, other = (clean(image(), Rules(salt)) for salt in (SALT, SALT, SALT + b"!"))
    assert as_bytes(one) == as_bytes(same)
    assert one.PatientID != other.PatientID
    assert one.StudyInstanceUID != other.StudyInstanceUID
    assert one.PatientID.startswith("p-")
    assert len(one.PatientID) == 18
    assert pydicom.uid.UID(one.SOPInstanceUID).is_valid
    assert repr(SALT) not in repr(Rules(SALT))


def test_cleaning_again_takes_nothing_more_away():
    once = clean(planted(), RULES)
    twice = clean(pydicom.dcmread(BytesIO(as_bytes(once))), RULES)
    assert [e.tag for e in once.iterall()] == [e.tag for e in twice.iterall()]


def test_device_and_characteristics_are_kept_on_request():
    source = image()
    source.PatientAge, source.PatientSex, source.PatientWeight, source.EthnicGroup = ("063Y", "F", "61.5", "somewhere")
    source.DeviceSerialNumber, source.StationName, source.SoftwareVersions, source.DeviceUID = (
        "SN-1",
        "ROOM2",
        "V1",
        f"{UID}.5",
    )
    made = clean(source, Rules(SALT, keep_device=True))
    assert (made.DeviceSerialNumber, made.StationName, made.SoftwareVersions, made.DeviceUID) == (
        "SN-1",
        "ROOM2",
        "V1",
        f"{UID}.5",
    )
    assert "PatientAge" not in made
    made = clean(source, Rules(SALT, keep_characteristics=True))
    assert (made.PatientAge, made.PatientSex, made.PatientWeight) == ("063Y", "F", 61.5)
    assert "EthnicGroup" not in made
    assert not made.StationName
    source.StationName = f"{NAME}-PC"
    assert "StationName" not in clean(source, Rules(SALT, keep_device=True))


@pytest.mark.parametrize(
    ("age", "kept"), [("089Y", "089Y"), ("090Y", "090Y"), ("097Y", "090Y"), ("011M", "011M"), ("old", "")]
)
def test_great_ages_are_one_group(age, kept):
    source = image()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.PatientAge = age
    assert (clean(source, Rules(SALT, keep_characteristics=True)).PatientAge or "") == kept


def test_shifted_dates_keep_their_distances():
    from datetime import datetime, timedelta

    rules = Rules(SALT, dates="shifted")
    source = image()
    source.StudyDate, source.SeriesDate, source.AcquisitionDateTime = (
        "20240131",
        "20240302",
        "20240229235959.123+0100",
    )
    source.AcquisitionTime, source.PatientBirthDate = "101112.5", "19610203"
    made = clean(source, rules)
    days = rules.days("MRN-0815-4711")
    assert 1 <= days <= 3650
    shifted = [
        datetime.strptime(text[:8], "%Y%m%d") for text in (made.StudyDate, made.SeriesDate, made.AcquisitionDateTime)
    ]
    assert shifted[1] - shifted[0] == timedelta(31)  # 2024 is a leap year
    assert datetime(2024, 1, 31) - shifted[0] == timedelta(days)
    assert made.AcquisitionDateTime[8:] == "235959.123"
    assert made.AcquisitionTime == "101112.5"
    assert not made.PatientBirthDate
    source.PatientID = "another"
    assert clean(source, rules).StudyDate != made.StudyDate


@pytest.mark.parametrize("text", ["2024.01.31", "00010101", "20241332", "KANARIEN", "20240131-20240201"])
def test_what_is_no_date_is_not_shifted_but_gone(text):
    source = image()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.StudyDate = text
    assert "StudyDate" not in clean(source, Rules(SALT, dates="shifted"))


def test_references_between_two_files_go_on_to_work():
    first, second = image(), image()
    second.SOPInstanceUID = f"{UID}.9"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, first.SOPInstanceUID
    second.SourceImageSequence = [item]
    one, two = clean(first, RULES), clean(second, RULES)
    assert two.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID
    assert two.SourceImageSequence[0].ReferencedSOPClassUID == CT
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.PatientID == two.PatientID


def test_patients_without_an_identifier_are_told_apart_by_name_and_birth_date():
    one, two, three = image(), image(), image()
    for made in (one, two, three):
        made.PatientID = ""
    two.PatientBirthDate = "19700101"
    three.PatientName = ""
    assert len({clean(made, RULES).PatientID for made in (one, two, three)}) == 3


# -- what is refused ----------------------------------------------------------------------------------------------


def without(keyword: str) -> Dataset:
    made = image()
    delattr(made, keyword)
    return made


@pytest.mark.parametrize("keyword", ["PixelData", "SOPInstanceUID", "SOPClassUID", "Rows", "BitsAllocated"])
def test_what_is_no_whole_image_is_refused(keyword, refused_without_a_name):
    refused_without_a_name(without(keyword))


@pytest.fixture
def refused_without_a_name():
    def check(dataset: Dataset) -> None:
        with pytest.raises(ImageError) as caught:
            clean(dataset, RULES)
        assert NAME not in str(caught.value)
        assert "\n" not in str(caught.value)

    return check


def test_a_damaged_header_of_the_pixels_is_refused(refused_without_a_name):
    source = image()
    source[0x00280008] = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(0x00280008), "IS", 4, b"1AB ", 0, False, True)
    refused_without_a_name(source)
    source = image()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source.PhotometricInterpretation = NAME
    refused_without_a_name(source)


def test_a_salt_must_be_a_secret():
    with pytest.raises(ArgumentError, match="16 bytes"):
        Rules(b"short")
    with pytest.raises(ArgumentError, match="dates"):
        Rules(SALT, dates="kept")

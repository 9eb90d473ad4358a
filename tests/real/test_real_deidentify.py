"""The DICOM files of pydicom's and other public collections, cleaned: no identifier of theirs is left, the pixels are."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from overread.deidentify.export import Deidentified, Rules, deidentify, read_key

SYNTAXES_WITHOUT_PIXEL_CHECK = ("1.2.840.10008.1.2.8.1",)  # pydicom has no decoder for deflated frames


@pytest.fixture(scope="module")
def cleaned(shared, tmp_path_factory) -> tuple[Deidentified, dict[Path, Path]]:
    """The copy, made with every image allowed, and the copies by their originals."""
    folder = tmp_path_factory.mktemp("real")
    made = deidentify(
        shared / "data" / "dicom",
        folder / "clean",
        rules=Rules(b"0123456789abcdef"),
        key=folder / "key.csv",
        allow_burned_in=True,
    )
    lines = read_key(folder / "key.csv").values()
    return made, {Path(line[6]): made.folder / line[1] for line in lines if line[1]}


def read(path: Path) -> Dataset:
    return pydicom.dcmread(path, force=True)


def values(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Kind and text of every value at every depth."""
    for element in dataset.iterall():
        parts = element.value if element.VM > 1 else [element.value]
        yield from ((element.VR, str(part)) for part in parts if element.VR != "SQ")


@pytest.mark.filterwarnings("ignore")
def test_no_identifier_is_left(cleaned):
    made, copies = cleaned
    assert made.written == len(set(copies.values())) >= 79
    for original, copy in copies.items():
        old, data = read(original), copy.read_bytes()
        telling = {
            str(old.get(k, "")) for k in ("PatientID", "PatientName", "AccessionNumber", "InstitutionName", "StudyID")
        }
        telling = {
            text for text in telling if text not in str(old.get("Manufacturer", ""))
        }  # one is the institution, too
        for kind, text in values(old):
            if kind in ("PN", "LT", "ST", "UT", "DT"):
                telling |= set(re.findall(r"[^\W_]{4,}", text)) if kind == "PN" else {text}
            if kind == "DA":
                telling.add(text)
            if kind == "UI" and text not in pydicom.uid.UID_dictionary:
                telling.add(text)
        left = [text for text in telling if len(text) > 3 and text.encode("utf-8", "replace") in data]
        assert not left, original.name


@pytest.mark.filterwarnings("ignore")
def test_pixels_are_the_same(cleaned):
    _, copies = cleaned
    compared = 0
    for original, copy in copies.items():
        old, new = read(original), read(copy)
        for keyword in (
            "Rows",
            "Columns",
            "BitsStored",
            "PhotometricInterpretation",
            "NumberOfFrames",
            "RescaleSlope",
            "WindowCenter",
        ):
            assert old.get(keyword) == new.get(keyword), (original.name, keyword)
        if new.file_meta.TransferSyntaxUID in SYNTAXES_WITHOUT_PIXEL_CHECK:
            assert old.PixelData == new.PixelData
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                before = old.pixel_array
        except (RuntimeError, AttributeError, ValueError, NotImplementedError):
            continue
        np.testing.assert_array_equal(new.pixel_array, before, err_msg=original.name)
        compared += 1
    assert compared >= 70


@pytest.mark.filterwarnings("ignore")
def test_what_is_written_is_sound(cleaned):
    for copy in set(cleaned[1].values()):
        new = pydicom.dcmread(copy)
        assert copy.read_bytes()[:132] == bytes(128) + b"DICM"
        assert new.PatientIdentityRemoved == "YES"
        assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
        assert not [e.tag for e in new.iterall() if e.tag.is_private or e.tag.group >> 8 in (0x50, 0x60)]
        assert not [
            e.keyword
            for e in new.iterall()
            if e.VR in ("PN", "ST", "LT", "UT", "UC", "UR") and e.value not in (None, "", new.PatientName)
        ]


def test_ultrasound_with_text_is_refused(shared, tmp_path):
    """Of these files, those of the ultrasound device with its writing on the screen, and a page of text."""
    source = tmp_path / "in"
    source.mkdir()
    for name in (
        "OBXXXX1A",
        "examples_palette",
        "examples_jpeg2k",
        "examples_rgb_color",
        "GDCMJ2K_TextGBR",
        "CT_small",
        "MR_small",
    ):
        (source / f"{name}.dcm").write_bytes((shared / "data" / "dicom" / f"{name}.dcm").read_bytes())
    made = deidentify(source, tmp_path / "clean")
    assert made.refused == {"burned-in annotation: text is found in the pixels": 5}
    assert made.written == 2


def test_cleaning_is_idempotent_in_what_it_leaves(cleaned, tmp_path):
    made = cleaned[0]
    source = tmp_path / "in"
    source.mkdir()
    chosen = sorted(made.folder.rglob("*.dcm"))[::3]
    for number, path in enumerate(chosen):
        (source / f"{number}.dcm").write_bytes(path.read_bytes())
    again = deidentify(source, tmp_path / "clean", rules=Rules(b"0123456789abcdef"), allow_burned_in=True)
    same = again.left_out.get("the same bytes as another file", 0)  # some differed in nothing but the patient
    assert again.written + same == len(chosen)
    assert not again.refused

    def tags(paths: Iterable[Path]) -> set[tuple[str, ...]]:
        return {tuple(str(e.tag) for e in pydicom.dcmread(path).iterall()) for path in paths}

    assert tags(chosen) == tags(again.folder.rglob("*.dcm"))

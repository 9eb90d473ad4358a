"""A cleaned copy of a tree: nothing of a planted name in any byte, the same twice, on from where it was stopped."""

from __future__ import annotations

import csv
import json
import os
import stat
import sys
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ExplicitVRLittleEndian

from overread.core.errors import InputError
from overread.deidentify.export import Rules, Task, clean_file, deidentify, read_rows, read_salt
from overread.images.image import LIMITS

NAME = "KANARIENVOGEL"
SALT = b"a salt of sixteen bytes and more"
RULES = Rules(SALT)
CT, CAPTURE = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.7"
UID = "1.2.826.0.1.3680043.8.498"


def image(
    patient: str = "1", number: int = 1, syntax: str = ExplicitVRLittleEndian, *, modality: str = "CT"
) -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = CT if modality == "CT" else CAPTURE, f"{UID}.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID = f"{UID}.{patient}.1", f"{UID}.{patient}.2"
    made.PatientName, made.PatientID, made.Modality = f"{NAME}^{patient}", f"MRN-{patient}", modality
    made.StudyDate, made.StudyDescription, made.BodyPartExamined = "20240131", f"for {NAME}", "CHEST"
    made.Rows, made.Columns, made.SamplesPerPixel, made.BitsAllocated, made.BitsStored = 8, 8, 1, 16, 16
    made.HighBit, made.PixelRepresentation, made.PhotometricInterpretation = 15, 0, "MONOCHROME2"
    made.PixelData = (np.arange(64) + number).astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    made["PixelData"].VR = "OW"
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.file_meta.SourceApplicationEntityTitle = NAME
    made.preamble = (b"MZ" + NAME.encode()).ljust(128, b"\0")
    return made


def save(made: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


@pytest.fixture
def tree(tmp_path) -> Path:
    """Three images of two patients, a report, a file that is something else, names in all places of the tree."""
    source = tmp_path / "in" / f"{NAME} Anna"
    save(image("1", 1), source / f"{NAME}.dcm")
    save(image("1", 2, ExplicitVRBigEndian), source / "deeper" / "IM0002")
    save(image("2", 3, DeflatedExplicitVRLittleEndian), source / "deeper" / f"{NAME}_3.dcm")
    report = image("1", 4)
    for keyword in ("PixelData", "Rows", "Columns"):
        delattr(report, keyword)
    report.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, source / "report.dcm")
    (source / f"letter to {NAME}.txt").write_text(NAME, encoding="utf-8")
    return source.parent


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_tree_end_to_end(tree, tmp_path):
    clean = tmp_path / "clean"
    made = deidentify(tree, clean, rules=RULES)
    assert (made.written, made.patients, made.refused, made.not_dicom, made.links) == (3, 2, {}, 1, 0)
    assert sum(made.left_out.values()) == 1
    assert made.edition == "2026c"
    files = bytes_of(clean)
    assert len(files) == 5, list(files)
    for name, data in files.items():
        assert NAME not in name
        for text in (NAME, "MRN-", "20240131", UID):
            for code in ("utf-8", "utf-16-le", "utf-16-be"):
                assert text.encode(code) not in data, name
                assert text.lower().encode(code) not in data, name
    images = [pydicom.dcmread(BytesIO(data)) for name, data in files.items() if name.endswith(".dcm")]
    assert len({i.PatientID for i in images}) == 2
    assert {int(i.pixel_array.reshape(-1)[0]) for i in images} == {1, 2, 3}
    for found in images:
        assert found.preamble == bytes(128)
        assert (
            found.SOPInstanceUID
            == found.file_meta.MediaStorageSOPInstanceUID
            == RULES.uid(f"{UID}.{found.pixel_array[0, 0]}")
        )
        np.testing.assert_array_equal(found.pixel_array, np.arange(64).reshape(8, 8) + found.pixel_array[0, 0])


def test_the_table_and_the_record(tree, tmp_path):
    made = deidentify(tree, tmp_path / "clean", rules=RULES)
    rows = read_rows(made.files[0])
    assert sorted(row.outcome for row in rows) == ["left out", "written", "written", "written"]
    for row in rows:
        assert (row.file == "") == (row.outcome != "written")
        assert not row.file or (made.folder / row.file).exists()
        assert row.private == 0
        assert row.removed > 0 or row.outcome != "written"
    record = json.loads(made.files[1].read_text("utf-8"))
    assert record["standard"] == "DICOM PS3.15 2026c, Table E.1-1"
    assert (record["written"], record["finished"], record["dates"]) == (3, True, "removed")
    assert record["versions"]["dicom-anonymizer"]
    assert SALT.hex() not in json.dumps(record)


def test_the_same_salt_gives_the_same_bytes_another_one_others(tree, tmp_path):
    one, two, three = (
        deidentify(tree, tmp_path / n, rules=Rules(s)).folder for n, s in (("a", SALT), ("b", SALT), ("c", SALT + b"!"))
    )
    assert bytes_of(one) == bytes_of(two)
    assert not {n for n in bytes_of(one) if n.endswith(".dcm")} & set(bytes_of(three))


def test_called_again_it_goes_on(tree, tmp_path):
    clean = tmp_path / "clean"
    deidentify(tree, clean, rules=RULES)
    before = bytes_of(clean)
    times = {p: p.stat().st_mtime_ns for p in clean.rglob("*.dcm")}
    gone = next(iter(times))
    gone.unlink()
    (clean / f".{gone.name}.1-2.part").unlink(missing_ok=True)
    (gone.parent / f".{gone.name}.1-2.part").write_bytes(b"half")
    calls = []
    deidentify(tree, clean, rules=RULES, progress=lambda what, done, total: calls.append(total))
    (gone.parent / f".{gone.name}.1-2.part").unlink()
    assert bytes_of(clean) == before
    assert [p for p, t in times.items() if p.stat().st_mtime_ns != t] == [gone]
    assert max(calls) == 2, "the file that was gone, and the one that is no DICOM"
    save(image("3", 9), tree / "late.dcm")
    assert deidentify(tree, clean, rules=RULES).written == 4


def test_another_salt_does_not_go_on_with_it(tree, tmp_path):
    deidentify(tree, tmp_path / "clean", rules=RULES)
    for other in (Rules(SALT + b"!"), replace(RULES, keep_device=True), None):
        with pytest.raises(InputError, match="another salt"):
            deidentify(tree, tmp_path / "clean", rules=other)


def test_equal_files_are_written_once(tree, tmp_path):
    save(image("1", 1), tree / "copy.dcm")
    made = deidentify(tree, tmp_path / "clean", rules=RULES)
    assert made.written == 3
    assert made.left_out["the same bytes as another file"] == 1


def test_one_file(tree, tmp_path):
    made = deidentify(next(tree.rglob("IM0002")), tmp_path / "clean", rules=RULES)
    assert (made.written, made.patients) == (1, 1)


# -- folders and secrets ------------------------------------------------------------------------------------------


def test_source_and_copy_must_be_apart(tree, tmp_path):
    for output in (tree, tree / "clean", tree.parent):
        with pytest.raises(InputError, match="in each other"):
            deidentify(tree, output, rules=RULES)
    link = tmp_path / "link"
    link.symlink_to(tree)
    with pytest.raises(InputError, match="in each other"):
        deidentify(tree, link / "clean", rules=RULES)
    assert not (tree / "clean").exists()


@pytest.mark.parametrize("name", ["other.txt", f"p-{'0' * 16}/other.txt", "p-1/x.dcm", "x.dcm", ".hidden"])
def test_a_folder_with_other_files_is_refused(tree, tmp_path, name):
    (tmp_path / "clean" / name).parent.mkdir(parents=True)
    (tmp_path / "clean" / name).write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not of a cleaned copy"):
        deidentify(tree, tmp_path / "clean", rules=RULES)
    assert (tmp_path / "clean" / name).read_text("utf-8") == "mine"


def test_a_link_in_the_output_is_refused(tree, tmp_path):
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / f"p-{'0' * 16}").symlink_to(tmp_path)
    with pytest.raises(InputError, match="not of a cleaned copy"):
        deidentify(tree, tmp_path / "clean", rules=RULES)


def test_links_are_not_followed(tree, tmp_path):
    outside = save(image("9", 77), tmp_path / "outside" / "x.dcm")
    (tree / "link.dcm").symlink_to(outside)
    (tree / "folder").symlink_to(outside.parent)
    (tree / "loop").symlink_to(tree)
    made = deidentify(tree, tmp_path / "clean", rules=RULES)
    assert (made.written, made.links) == (3, 3)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_opened(tree, tmp_path):
    os.mkfifo(tree / "pipe.dcm")
    assert deidentify(tree, tmp_path / "clean", rules=RULES).written == 3


def test_no_source(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        deidentify(tmp_path / NAME, tmp_path / "clean", rules=RULES)
    assert not (tmp_path / "clean").exists()


def test_the_key_is_written_only_on_request_and_for_its_owner(tree, tmp_path):
    key = tmp_path / "secret" / "key.csv"
    save(replace_id(image("5", 50), "=HYPERLINK(1)"), tree / "formula.dcm")
    clean = tmp_path / "clean"
    deidentify(tree, clean, rules=RULES)
    assert NAME not in "".join(str(p) for p in tmp_path.rglob("*") if tree not in p.parents)
    made = deidentify(tree, clean, rules=RULES, key=key)
    if sys.platform != "win32":
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with open(key, encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert {line["patient identifier"] for line in lines if line["file"]} == {"MRN-1", "MRN-2", "'=HYPERLINK(1)"}
    assert {line["patient"]: line["patient identifier"] for line in lines}[
        f"p-{RULES.code('patient', 'MRN-2')}"
    ] == "MRN-2"
    assert {line["file"] for line in lines if line["file"]} == {
        row.file for row in read_rows(made.files[0]) if row.file
    }
    assert any(NAME in line["path"] for line in lines)
    again = key.read_bytes()
    deidentify(tree, clean, rules=RULES, key=key)
    assert key.read_bytes() == again


def replace_id(made: Dataset, identifier: str) -> Dataset:
    made.PatientID = identifier
    return made


def test_a_key_inside_the_copy_or_over_another_file_is_refused(tree, tmp_path):
    with pytest.raises(InputError, match="inside the cleaned copy"):
        deidentify(tree, tmp_path / "clean", rules=RULES, key=tmp_path / "clean" / "key.csv")
    (tmp_path / "mine.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(InputError, match="something else"):
        deidentify(tree, tmp_path / "clean", rules=RULES, key=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text("utf-8") == "a,b\n1,2\n"


def test_a_salt_is_made_once_and_read_again(tmp_path):
    path = tmp_path / "new" / "salt"
    one = read_salt(path)
    assert read_salt(path) == one
    assert len(one) == 64
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_salt(tmp_path / "other") != one
    for text in ("", "short", "x" * 5000):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match="does not hold a salt"):
            read_salt(path)
    with pytest.raises(InputError):
        read_salt(tmp_path)


# -- damaged and hostile files ------------------------------------------------------------------------------------


def test_damaged_files_are_counted_and_the_others_written(tree, tmp_path):
    whole = next(tree.rglob("IM0002")).read_bytes()
    for at, end in enumerate((140, 200, 400, len(whole) - 10)):
        (tree / f"cut{at}.dcm").write_bytes(whole[:end])
    (tree / "empty.dcm").write_bytes(b"")
    (tree / "garbage.dcm").write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 8)
    made = deidentify(tree, tmp_path / "clean", rules=RULES)
    assert made.written == 3
    assert sum(made.refused.values()) + sum(made.left_out.values()) == 1 + 5
    assert made.not_dicom == 2


def test_a_deflated_data_set_that_never_ends_is_refused(tree, tmp_path, monkeypatch):
    plain = BytesIO()
    pydicom.dcmwrite(plain, image("7", 70), enforce_file_format=True)
    start = 144 + int.from_bytes(plain.getvalue()[140:144], "little")
    head = plain.getvalue()[:start].replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    head = head[:140] + (len(head) - 144).to_bytes(4, "little") + head[144:]
    at = head.index(b"1.2.840.10008.1.2.1.99") - 2
    head = head[:at] + (22).to_bytes(2, "little") + head[at + 2 :]
    engine = zlib.compressobj(1, zlib.DEFLATED, -15)
    bomb = b"".join(engine.compress(bytes(1 << 20)) for _ in range(280)) + engine.flush()
    (tree / "bomb.dcm").write_bytes(head + bomb)
    made = deidentify(tree, tmp_path / "clean", rules=RULES)
    assert made.written == 3
    assert made.refused == {"the deflated DICOM file is larger than the limit": 1}


def mutated(data: bytes, seed: int) -> bytes:
    """``data`` with some bytes changed, taken away, put in or repeated elsewhere."""
    draw = np.random.default_rng(seed)
    out = bytearray(data)
    for _ in range(int(draw.choice([1, 2, 8, 40]))):
        at, what = int(draw.integers(132, len(out))), int(draw.integers(5))
        if what < 2:
            out[at] = int(draw.integers(256)) if what else 255
        elif what == 2:
            del out[at : at + int(draw.integers(1, 9))]
        elif what == 3:
            out[at:at] = draw.bytes(int(draw.integers(1, 9)))
        else:
            other = int(draw.integers(len(out)))
            out[at : at + 16] = out[other : other + 16]
    return bytes(out)


@pytest.mark.parametrize("rounds", [150, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")
def test_whatever_a_file_holds_no_error_but_ours_and_no_name(tmp_path, rounds):
    plain = BytesIO()
    pydicom.dcmwrite(plain, image("1", 1), enforce_file_format=True)
    for seed in range(rounds):
        (tmp_path / "x.dcm").write_bytes(mutated(plain.getvalue(), seed))
        made = clean_file(Task(str(tmp_path / "x.dcm"), "0" * 16, str(tmp_path / "clean"), RULES, True, LIMITS))
        if made is not None and made.file:
            out = tmp_path / "clean" / made.file
            held = out.read_bytes()
            # a mutation may copy the name among the pixels, where it is part of the picture
            pixels = pydicom.dcmread(BytesIO(held), force=True).get("PixelData", b"")
            assert NAME.encode() not in held.replace(pixels, b""), seed
            out.unlink()


def test_a_value_of_the_wrong_length_is_not_quoted(tmp_path):
    """pydicom has an error of its own for it, which holds the bytes."""
    broken = image("1", 1)
    plain = BytesIO()
    pydicom.dcmwrite(plain, broken, enforce_file_format=True)
    value = NAME.encode()
    element = b"\x08\x00\x01\x00UL" + len(value).to_bytes(2, "little") + value
    data = plain.getvalue()
    at = data.index(b"\x08\x00\x16\x00UI")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.dcm").write_bytes(data[:at] + element + data[at:])
    made = deidentify(tmp_path / "in", tmp_path / "clean", rules=RULES)
    assert made.written == 1
    assert NAME.encode() not in b"".join(bytes_of(made.folder).values())

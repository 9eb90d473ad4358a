"""Faults 17, 18, 24 to 29: references, identifiers, archives, links, devices. Nothing is written, nothing outside is read."""

from __future__ import annotations

import os
import stat
import struct
import sys
import unicodedata
import warnings
import zipfile
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from overread.cases.sources.dicom_export import is_tree, read_tree
from overread.cases.sources.labels import join_labels
from overread.images.dicom.header import read_header
from overread.images.dicom.series import series_entries, series_files
from overread.images.formats.archives import ArchiveLimits, members, read_member

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def dataset(name: str, **tags: object) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID, made.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2"
    made.SeriesInstanceUID, made.Modality, made.PatientName, made.PatientID = "1.2.1", "CT", name, name
    made.Rows, made.Columns, made.BitsAllocated, made.PixelData = 2, 2, 8, bytes(4)
    made["PixelData"].VR = "OW"
    for key, value in tags.items():
        setattr(made, key, value)
    return made


def write(path: Path, made: Dataset) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


@pytest.fixture
def root(tmp_path, canary) -> Path:
    """A folder with one image, beside a secret one."""
    write(tmp_path / "secret" / "secret.dcm", dataset(canary))
    write(tmp_path / "export" / "a.dcm", dataset(canary))
    return tmp_path / "export"


@pytest.fixture(autouse=True)
def nothing_is_written(tmp_path):
    """What a test made before its last call is there after it, and nothing else."""
    yield
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("evil")]


# -- 17, 18: DICOMDIR and identifiers -----------------------------------------------------------------------------


def directory(root: Path, *references: list[str]) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = (
        "1.2.840.10008.1.3.10",
        "1.2.3",
    )
    records = []
    for parts in references:
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", parts
        records.append(record)
    made.DirectoryRecordSequence = pydicom.Sequence(records)
    return write(root / "DICOMDIR", made)


@pytest.mark.parametrize(
    "parts",
    [["..", "secret", "secret.dcm"], ["A", "..", "..", "secret", "secret.dcm"], ["/etc/passwd"], ["", "etc", "passwd"],
     ["C:", "secret.dcm"], ["../secret/secret.dcm"], ["A\x01"], ["link"], ["folder", "secret.dcm"]],
    ids=str,
)  # fmt: skip
def test_17_a_dicomdir_that_points_outside(parts, root, refused):
    (root / "link").symlink_to(root.parent / "secret" / "secret.dcm")
    (root / "folder").symlink_to(root.parent / "secret")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = directory(root, ["A.DCM"], parts)
    assert "outside of its folder" in str(refused(read_tree, path))


def test_17_records_in_a_loop_end(root, survived):
    """Offsets between records are not followed at all."""
    path = directory(root, ["A.DCM"], ["A.DCM"])
    made = pydicom.dcmread(path)
    for record in made.DirectoryRecordSequence:
        record.OffsetOfTheNextDirectoryRecord = record.OffsetOfReferencedLowerLevelDirectoryEntity = 398
    write(path, made)
    assert survived(read_tree, path).table["image"].tolist() == ["a.dcm"]


@pytest.mark.parametrize(
    "uid", ["../../secret/secret.dcm", "/etc/passwd", "C:\\Windows\\x", "a.dcm#entry=x", "1.2/../3", "%2e%2e/x"]
)
def test_18_an_identifier_that_looks_like_a_path(uid, root, survived, canary):
    tags = dict.fromkeys(("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "AccessionNumber"), uid)
    for name in ("a.dcm", "b.dcm"):
        write(root / name, dataset(uid, **tags))
    found = survived(read_tree, root)
    assert found.table["image"].tolist() == ["a.dcm", "b.dcm"]
    assert found.table["series"].tolist() == [read_header(root / "a.dcm").series] * 2
    assert canary not in "".join([*found.notes, *found.problems])
    assert {path.name for path in survived(series_files, root / "a.dcm")} <= {"a.dcm", "b.dcm"}


# -- 24, 25, 27: names in an archive --------------------------------------------------------------------------------


def archive(path: Path, *entries: tuple[str, bytes], **fields: object) -> Path:
    """A zip archive whose last entry has these ``fields`` of ZipInfo, and names exactly as given."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        warnings.simplefilter("ignore")  # a name that stands twice
        for name, data in entries:
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            if name == entries[-1][0]:
                for field, value in fields.items():
                    setattr(info, field, value)
            made.writestr(info, data)
    return path


EVIL = (
    "../evil.dcm", "a/../../evil.dcm", "..", "/evil.dcm", "//host/evil.dcm", "C:/evil.dcm", "c:evil.dcm", "..\\evil.dcm",
    "\\evil.dcm", "a\\evil.dcm", "a/./evil.dcm", "./evil.dcm", "a//evil.dcm", "evil\x00.dcm", "evil\n.dcm", "evil\x1b[2J.dcm",
    "evil\u202e.dcm", "a/ .. /evil.dcm", " ", "",
)  # fmt: skip


@pytest.mark.parametrize("name", EVIL, ids=repr)
def test_24_names_that_lead_out(name, tmp_path, refused, canary):
    path = archive(tmp_path / "study.zip", (f"{canary}.dcm", b"1"), (name, b"evil"))
    for action in (members, read_tree, is_tree):
        refused(action, path)
    refused(read_member, path, f"{canary}.dcm")  # whole, also what would be fine
    refused(series_entries, path, f"{canary}.dcm")


def test_24_a_name_cut_by_a_null_byte_is_not_what_it_seems(tmp_path, refused):
    path = archive(tmp_path / "study.zip", ("a.dcmX../evil", b"evil"))
    path.write_bytes(path.read_bytes().replace(b"a.dcmX../evil", b"a.dcm\x00../evil"))
    refused(members, path)


@pytest.mark.parametrize(
    "kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR], ids=hex
)
def test_25_links_and_devices(kind, tmp_path, refused):
    path = archive(
        tmp_path / "study.zip", ("a.dcm", b"1"), ("evil", b"/etc/passwd"), external_attr=(kind | 0o777) << 16
    )
    assert "links or devices" in str(refused(members, path))


@pytest.mark.parametrize(
    "names",
    [("a.dcm", "A.DCM"), ("a.dcm", "a.dcm"), ("Straße", "STRASSE"), ("ﬁle", "file"), ("Ⅳ", "IV"), ("a", "a/"),
     (unicodedata.normalize("NFC", "é.dcm"), unicodedata.normalize("NFD", "é.dcm"))],
    ids=ascii,
)  # fmt: skip
def test_27_names_that_are_one(names, tmp_path, refused):
    path = archive(tmp_path / "study.zip", *((name, b"") for name in names))
    assert "the same on some systems" in str(refused(members, path))


# -- 26: bombs ------------------------------------------------------------------------------------------------------


def bomb(path: Path, copies: int, size: int = 100_000_000) -> Path:
    """Members that share one deflated kernel: quoted headers as in Fifield 2019, simplified to one start for all."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = bytes(1 << 20)
    kernel = b"".join(squeeze.compress(block) for _ in range(size >> 20)) + squeeze.flush()
    crc = 0
    for _ in range(size >> 20):
        crc = zlib.crc32(block, crc)
    sizes = (crc, len(kernel), size >> 20 << 20)
    local = struct.pack("<4s5HLLLHH", b"PK\3\4", 20, 0, 8, 0, 33, *sizes, 4, 0) + b"0000"
    entries = [
        struct.pack("<4s6HLLLHHHHHLL", b"PK\1\2", 20, 20, 0, 8, 0, 33, *sizes, 4, 0, 0, 0, 0, 0, 0) + f"{n:04}".encode()
        for n in range(copies)
    ]
    central = b"".join(entries)
    end = struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, copies, copies, len(central), len(local) + len(kernel), 0)
    path.write_bytes(local + kernel + central + end)
    return path


def test_26_a_member_that_grows_too_much(tmp_path, refused):
    path = bomb(tmp_path / "study.zip", 1)
    assert "grows too much" in str(refused(members, path))
    refused(is_tree, path)
    raised = ArchiveLimits(ratio=2000)
    assert members(path, limits=raised) == ["0000"]
    assert len(read_member(path, "0000", archive=raised)) == 95 << 20


def test_26_members_that_overlap(tmp_path, refused):
    path = bomb(tmp_path / "study.zip", 500, 1 << 20)
    assert "share their bytes" in str(refused(members, path))


def test_26_many_small_bombs_are_one(tmp_path, refused):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for n in range(30):
            made.writestr(str(n), bytes(3 << 20))
    assert "grows too much" in str(refused(members, path))


def test_26_a_member_that_lies_about_its_size(tmp_path, refused):
    path = archive(tmp_path / "study.zip", ("a", bytes(50 << 20)))
    lie = path.read_bytes().replace(struct.pack("<L", 50 << 20), struct.pack("<L", 1000))
    path.write_bytes(lie)
    refused(read_member, path, "a")
    path.write_bytes(lie.replace(struct.pack("<L", 1000), struct.pack("<L", 60 << 20)))
    refused(read_member, path, "a")


def test_26_a_wrong_checksum(tmp_path, refused):
    path = archive(tmp_path / "study.zip", ("a", b"abc" * 100))
    data = bytearray(path.read_bytes())
    crc = struct.pack("<L", zlib.crc32(b"abc" * 100))
    path.write_bytes(bytes(data.replace(crc, b"\1\2\3\4")))
    refused(read_member, path, "a")


@pytest.mark.parametrize("count", [10_000_000, 2**32 - 1])
def test_26_ten_million_members_are_not_listed(count, tmp_path, refused):
    """The claim alone is enough; and a directory as long as the claim is not read."""
    path = tmp_path / "study.zip"
    record = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, count * 46, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, count * 46, 1)
    end = struct.pack("<4s4HLLH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    with open(path, "wb") as handle:
        handle.truncate(count * 46)  # a hole, no bytes
        handle.seek(0, os.SEEK_END)
        handle.write(record + locator + end)
    assert "more members than the limit" in str(refused(members, path))


def test_26_a_directory_longer_than_it_claims(tmp_path, refused):
    """One member by the count, a hundred thousand by the bytes."""
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as made:
        for n in range(3000):
            made.writestr(f"{n}", b"")
    data = path.read_bytes()
    path.write_bytes(data[:-14] + struct.pack("<HH", 1, 1) + data[-10:])
    refused(members, path, limits=ArchiveLimits(members=100))


@pytest.mark.parametrize(
    "fields", [{"flag_bits": 1}, {"compress_type": zipfile.ZIP_LZMA}, {"compress_type": zipfile.ZIP_BZIP2}], ids=str
)
def test_26_encrypted_or_squeezed_otherwise(fields, tmp_path, refused):
    path = archive(tmp_path / "study.zip", ("a", b"abc"), **fields)
    if "flag_bits" in fields:  # writestr clears it
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(bytes(data))
    refused(members, path)
    refused(read_member, path, "a")


def test_26_cut_off_anywhere(tmp_path, refused, survived):
    path = archive(tmp_path / "study.zip", ("a", os.urandom(5000)), ("b", b"abc"))
    data = path.read_bytes()
    for at in range(0, len(data), len(data) // 16):
        path.write_bytes(data[:at])
        refused(members, path)
    for at in range(0, len(data), 37):  # and any byte turned
        path.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        survived(read_member, path, "a")


def test_26_a_deflated_header(tmp_path, refused, canary):
    """Two hundred megabytes of nothing in front of the pixels of a deflated file (fault 16, as a scan meets it)."""
    made = dataset(canary)
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = write(tmp_path / "a.dcm", made)
    data = path.read_bytes()
    start = 144 + struct.unpack("<L", data[140:144])[0]
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = squeeze.compress(struct.pack("<HH2sHL", 9, 0x1001, b"OB", 0, 200 << 20))
    body += b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(200)) + squeeze.flush()
    path.write_bytes(data[:start] + body)
    refused(read_header, path)
    refused(read_tree, tmp_path)


# -- 28, 29: what else lies in a folder ------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs there")
def test_28_pipes_and_devices(root, survived, refused):
    os.mkfifo(root / "pipe.dcm")
    os.mkfifo(root / "DICOMDIR")
    os.mkfifo(root / "study.zip")
    (root / "zero").symlink_to("/dev/zero")
    found = survived(read_tree, root)
    assert found.table["image"].tolist() == ["a.dcm"]
    assert "3 devices or pipes are left alone" in found.notes
    assert survived(is_tree, root)
    for name in ("pipe.dcm", "DICOMDIR", "study.zip", "zero"):
        refused(read_header, root / name)
        refused(members, root / name)
        refused(read_tree, root / name)
        assert survived(is_tree, root / name) is False
    assert [path.name for path in survived(series_files, root / "a.dcm")] == ["a.dcm"]


def test_29_loops_of_links_end(root, survived):
    (root / "self").symlink_to("self")
    (root / "up").symlink_to("..")
    (root / "here").symlink_to(".")
    (root / "sub").mkdir()
    (root / "sub" / "back").symlink_to(root)
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    (root / "dead").symlink_to("nowhere")
    found = survived(read_tree, root)
    assert found.table["image"].tolist() == ["a.dcm"]
    assert survived(is_tree, root)


def test_25_links_out_of_a_folder_are_not_followed(root, survived):
    (root / "secret.dcm").symlink_to(root.parent / "secret" / "secret.dcm")
    (root / "folder").symlink_to(root.parent / "secret")
    (root / "twin").symlink_to("a.dcm")
    found = survived(read_tree, root)
    assert found.table["image"].tolist() == ["a.dcm"]
    assert "2 links lead out of the folder and are not followed" in found.notes


def test_25_links_within_a_folder_are(root, survived):
    """As stores of large files make them: the name here, the content in a hidden folder."""
    (root / ".store").mkdir()
    (root / "a.dcm").rename(root / ".store" / "0001")
    (root / "a.dcm").symlink_to(root / ".store" / "0001")
    assert survived(read_tree, root).table["image"].tolist() == ["a.dcm"]


# -- names ----------------------------------------------------------------------------------------------------------


def test_49_names_that_a_table_cannot_hold(root, survived, canary):
    for name in (
        "new\nline.dcm",
        "bell\x07.dcm",
        "back\\slash.dcm",
        "a.dcm#frame=2",
        "x.dcm#plane=nonsense",
        os.fsdecode(b"\xff.dcm"),
    ):
        (root / name).write_bytes((root / "a.dcm").read_bytes())
    found = survived(read_tree, root)
    assert found.table["image"].tolist() == ["a.dcm"]
    assert any(note.startswith("6 files are left out") for note in found.notes)


def test_21_a_name_is_in_no_message(root, survived, refused, canary):
    """In every text of a header, in names of files, folders and members."""
    tags = dict.fromkeys(("InstitutionName", "Manufacturer", "Modality", "ViewPosition", "BodyPartExamined", "StudyDate", "PatientSex",
                          "PatientAge", "InstanceNumber", "ImageType", "SpecificCharacterSet", "NumberOfFrames"), canary)  # fmt: skip
    folder = root / canary
    with pydicom.config.disable_value_validation():
        write(
            folder / f"{canary}.dcm",
            dataset(canary, **{k: v for k, v in tags.items() if k not in ("InstanceNumber", "NumberOfFrames")}),
        )
    cut = folder / f"{canary}-cut.dcm"
    cut.write_bytes((root / "a.dcm").read_bytes()[:200])
    archive(folder / f"{canary}.zip", (f"../{canary}", b"1"))
    found = survived(read_tree, root)
    assert canary not in " ".join([*found.notes, *found.problems, *found.table["problems"]])
    assert len(found.unreadable) == 1
    labels = found.table[["patient"]].assign(y=["0", "1"])
    refused(join_labels, found.table, labels)
    refused(join_labels, found.table, labels.assign(patient=["x", canary + "y"]), "patient")
    refused(read_tree, folder / f"{canary}.zip")
    refused(read_header, cut)

"""Volumes that are cut off, lie about their size, point elsewhere or inflate without end: a typed error, soon."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from overread.images.address import Address
from overread.images.read import content_digest, read_image
from overread.images.volumes.volume import geometry_of, read_volume

RNG = np.random.default_rng(23)
VOXELS = RNG.integers(0, 2000, (9, 10, 11), dtype=np.int16)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A sound volume in every format."""
    folder = tmp_path_factory.mktemp("whole")
    image, found = sitk.GetImageFromArray(VOXELS), {}
    for ending in ENDINGS:
        for compressed in (False, True):
            sitk.WriteImage(image, str(folder / f"v{ending}"), useCompression=compressed)
            found[ending + ("!" if compressed else "")] = (folder / f"v{ending}").read_bytes()
    return found


@pytest.mark.parametrize("kind", [e + c for e in ENDINGS for c in ("", "!") if e + c != ".nii!"])
def test_cut_at_every_sixteenth(kind: str, whole, refused: Callable, tmp_path: Path) -> None:
    data = whole[kind]
    for part in range(16):
        path = tmp_path / f"v{part}{kind.rstrip('!')}"
        path.write_bytes(data[: len(data) * part // 16])
        refused(read_image, path)
        error = refused(read_volume, path)
        assert str(tmp_path) not in str(error)
    (tmp_path / f"w{kind.rstrip('!')}").write_bytes(data[:-1])
    refused(read_image, tmp_path / f"w{kind.rstrip('!')}")


def test_one_bit_wrong_in_gzip_is_noticed(whole, refused: Callable, tmp_path: Path) -> None:
    data = bytearray(whole[".nii.gz"])
    for at in range(len(data) // 2, len(data), max(1, len(data) // 20)):
        data[at] ^= 4
        (tmp_path / "v.nii.gz").write_bytes(data)
        refused(read_image, tmp_path / "v.nii.gz")
        data[at] ^= 4


def header(*, version: int = 1, **fields: object) -> bytes:
    made = (nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header)()
    made.set_data_shape(VOXELS.shape)
    made.set_data_dtype(np.int16)
    made["magic"] = b"n+1" if version == 1 else b"n+2"
    made["vox_offset"] = 352 if version == 1 else 544
    for name, value in fields.items():
        made[name] = value
    return made.binaryblock + bytes(4)


BAD_HEADERS = {
    "a thousand million voxels a side": header(version=2, dim=[3, 10**9, 10**9, 10**9, 1, 1, 1, 1]),
    "sizes that overflow": header(version=2, dim=[3, 2**62, 2**62, 2**62, 1, 1, 1, 1]),
    "as large as NIfTI-1 can say": header(dim=[7] + [32767] * 7),
    "a negative size": header(dim=[3, -5, 10, 11, 1, 1, 1, 1]),
    "a size of nothing": header(dim=[3, 0, 10, 11, 1, 1, 1, 1]),
    "no axes": header(dim=[0, 9, 10, 11, 1, 1, 1, 1]),
    "nine axes": header(dim=[9, 9, 10, 11, 1, 1, 1, 1]),
    "few enough voxels of too many bytes": header(dim=[3, 580, 580, 580, 1, 1, 1, 1], datatype=64),
    "an unknown type": header(datatype=4321),
    "bits": header(datatype=1),
    "complex": header(datatype=32),
    "colour": header(datatype=128),
    "long double": header(datatype=1536),
    "voxels before the header": header(vox_offset=100),
    "voxels far away": header(vox_offset=1e9),
    "voxels nowhere": header(vox_offset=np.nan),
    "two files": header(magic=b"ni1"),
    "an endless intercept": header(scl_slope=2, scl_inter=np.inf),
}


@pytest.mark.parametrize("name", BAD_HEADERS)
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_headers_that_cannot_be(name: str, ending: str, refused: Callable, tmp_path: Path) -> None:
    data = BAD_HEADERS[name] + VOXELS.tobytes()
    path = tmp_path / f"v{ending}"
    path.write_bytes(gzip.compress(data) if ending == ".nii.gz" else data)
    refused(read_image, path)
    refused(read_volume, path)
    refused(geometry_of, path) if name != "an endless intercept" else None


def test_affines_that_cannot_be_are_passed_over_and_told(survived: Callable, tmp_path: Path) -> None:
    nan, zero = [np.nan] * 4, [0.0] * 4
    for rows in ((nan, nan, nan), (zero, zero, zero), ([1e30, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0])):
        x, y, z = rows
        data = header(sform_code=1, srow_x=x, srow_y=y, srow_z=z, qform_code=1, quatern_b=np.nan, pixdim=[np.nan] * 8)
        (tmp_path / "v.nii").write_bytes(data + VOXELS.tobytes())
        volume = survived(read_volume, tmp_path / "v.nii")
        assert volume.spacing == (1, 1, 1)
        assert "sform cannot be used" in volume.notes
        assert "no usable voxel size" not in "".join(volume.notes) or volume.notes[-1].startswith("no orientation")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ending", ENDINGS)
def test_voxels_that_are_no_numbers(bad: float, ending: str, refused: Callable, tmp_path: Path) -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[4, 5, 6] = bad
    sitk.WriteImage(sitk.GetImageFromArray(voxels), str(tmp_path / f"v{ending}"))
    assert ("voxels of the volume are NaN" if np.isnan(bad) else "NaN or infinite") in str(
        refused(read_image, tmp_path / f"v{ending}")
    )


# -- bombs -------------------------------------------------------------------------------------------------


def zeros(count: int, begun: bytes = b"") -> bytes:
    """A gzip stream without end: what has ``begun``, then zeros; the same block again and again."""
    compress = zlib.compressobj(9, zlib.DEFLATED, 31)
    start = compress.compress(begun) + compress.flush(zlib.Z_FULL_FLUSH)
    block = compress.compress(bytes(1 << 22)) + compress.flush(zlib.Z_FULL_FLUSH)
    return start + block * (count >> 22)


def test_gzip_bombs_are_inflated_to_the_size_of_the_header(
    refused: Callable, survived: Callable, tmp_path: Path
) -> None:
    (tmp_path / "v.nii.gz").write_bytes(zeros(1 << 36, header()))  # 64 GB behind a small header
    assert "more than its header" in str(refused(read_volume, tmp_path / "v.nii.gz"))
    (tmp_path / "v.nii.gz").write_bytes(zeros(1 << 36, header(dim=[4, 11, 10, 9, 30_000, 1, 1, 1])))
    assert survived(read_volume, tmp_path / "v.nii.gz").voxels.shape == (9, 10, 11)  # the first of 30,000
    (tmp_path / "w.nii.gz").write_bytes(zeros(1 << 36))  # nothing but zeros
    refused(read_image, tmp_path / "w.nii.gz")
    refused(read_volume, tmp_path / "w.nii.gz")
    nested = gzip.compress(gzip.compress(header() + VOXELS.tobytes()))
    (tmp_path / "x.nii.gz").write_bytes(nested)
    refused(read_image, tmp_path / "x.nii.gz")


@pytest.mark.slow
def test_a_bomb_just_within_the_limits(survived: Callable, tmp_path: Path) -> None:
    for kind, side in ((4, 584), (16, 464), (64, 368)):
        bomb = header(dim=[4, side, side, side, 9, 1, 1, 1], datatype=kind, sform_code=1, srow_x=[-1, 0, 0, 0],
                      srow_y=[0, 0, -1, 0], srow_z=[0, 1, 0, 0])  # fmt: skip
        (tmp_path / "v.nii.gz").write_bytes(zeros(1 << 32, bomb))
        assert survived(read_image, tmp_path / "v.nii.gz").pixels.size == side**3


def test_a_thousand_empty_members_in_a_row(survived: Callable, refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(header()) + gzip.compress(b"") * 20_000)
    refused(read_volume, tmp_path / "v.nii.gz")


@pytest.mark.parametrize("how", ["gzip", "bzip2"])
def test_bombs_within_nrrd(how: str, refused: Callable, tmp_path: Path) -> None:
    payload = zeros(1 << 36) if how == "gzip" else bz2.compress(bytes(1 << 24)) * 256
    (tmp_path / "v.nrrd").write_bytes(nrrd(encoding=how) + payload)
    refused(read_volume, tmp_path / "v.nrrd")


# -- text headers ------------------------------------------------------------------------------------------


def nrrd(**changes: str) -> bytes:
    fields = {"type": "short", "dimension": "3", "sizes": "11 10 9", "encoding": "raw", "endian": "little"}
    lines = [f"{name.replace('_', ' ')}: {value}" for name, value in (fields | changes).items() if value]
    return "\n".join(["NRRD0004", *lines, "", ""]).encode()


def meta(**changes: str) -> bytes:
    fields = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "DimSize": "11 10 9", "ElementType": "MET_SHORT",
              "ElementDataFile": "LOCAL"}  # fmt: skip
    fields |= changes
    lines = [f"{name} = {fields[name]}" for name in sorted(fields, key="ElementDataFile".__eq__) if fields[name]]
    return ("\n".join(lines) + "\n").encode()


BAD_TEXT = {
    "a list of files": nrrd(data_file="LIST\na.raw\nb.raw"),
    "a list with axes": nrrd(data_file="LIST 2\na.raw"),
    "a pattern": nrrd(data_file="slice%03d.raw 1 9 1"),
    "huge": nrrd(sizes="1000000000 1000000000 1000000000"),
    "endless digits": nrrd(sizes="9" * 400 + " 1 1"),
    "negative": nrrd(sizes="-11 10 9"),
    "two sizes": nrrd(sizes="11 10"),
    "many axes": nrrd(dimension="1000", sizes=" ".join(["1"] * 1000)),
    "a size that is a word": nrrd(sizes="eleven 10 9"),
    "blocks": nrrd(type="block"),
    "no type": nrrd(type=""),
    "no byte order": nrrd(endian=""),
    "text": nrrd(encoding="ascii"),
    "hexadecimal": nrrd(encoding="hex"),
    "skipped lines": nrrd(line_skip="1000000000"),
    "skipped bytes": nrrd(byte_skip="1000000000"),
    "skipped bytes backwards": nrrd(byte_skip="-2"),
    "colour": nrrd(sizes="3 11 90", kinds="RGB-color domain domain"),
    "vectors": nrrd(sizes="3 11 10 3", dimension="4", space="RAS", space_directions="none (1,0,0) (0,1,0) (0,0,1)"),
    "directions that are none": nrrd(space="RAS", space_directions="(nan,0,0) (0,1,0) (0,0,1)"),
    "directions that are flat": nrrd(space="RAS", space_directions="(1,0,0) (1,0,0) (0,0,1)"),
    "no length": nrrd(space="RAS", space_directions="(0,0,0) (0,1,0) (0,0,1)"),
    "too few directions": nrrd(space="RAS", space_directions="(1,0,0) (0,1,0)"),
    "spacings that are words": nrrd(spacings="a b c"),
    "a field twice": nrrd().replace(b"type:", b"type: short\ntype:", 1),
    "no end": nrrd()[:-2],
    "a header of megabytes": b"NRRD0004\n" + b"# nothing\n" * 400_000,
    "a line of megabytes": b"NRRD0004\ntype: " + b"s" * 3_000_000,
    "meta: huge": meta(DimSize="1000000000 1000000000 1000000000"),
    "meta: negative": meta(DimSize="-11 10 9"),
    "meta: axes": meta(NDims="10"),
    "meta: colour": meta(ElementNumberOfChannels="3"),
    "meta: colour type": meta(ElementType="MET_UCHAR_ARRAY"),
    "meta: text": meta(BinaryData="False"),
    "meta: list": meta(ElementDataFile="LIST"),
    "meta: list with axes": meta(ElementDataFile="LIST 2\na.raw\nb.raw"),
    "meta: pattern": meta(ElementDataFile="slice%03d.raw 1 9 1"),
    "meta: header size": meta(HeaderSize="-7"),
    "meta: far away": meta(HeaderSize="1000000000"),
    "meta: no spacing": meta(ElementSpacing="0 1 1"),
    "meta: matrix": meta(TransformMatrix="1 0 0 1 0 0 0 0 1"),
    "meta: matrix of words": meta(TransformMatrix="a b c d e f g h i"),
    "meta: nan": meta(Offset="nan 0 0"),
    "meta: no data": meta(ElementDataFile=""),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TEXT)
def test_text_headers_that_cannot_be(name: str, refused: Callable, tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(VOXELS.tobytes())
    (tmp_path / "slice001.raw").write_bytes(VOXELS.tobytes())
    path = tmp_path / ("v.mha" if name.startswith("meta") else "v.nrrd")
    path.write_bytes(BAD_TEXT[name] + (b"" if name == "no end" else VOXELS.tobytes()))
    refused(read_image, path)
    refused(read_volume, path)


OUTSIDE = ["/etc/passwd", "../secret.raw", "..", "folder/../../secret.raw", "folder/inner.raw", "C:\\secret.raw",
           "\\\\host\\share", "file:///etc/passwd", "http://127.0.0.1/x", "missing.raw", "", ".", "a\x00b", "link.raw"]  # fmt: skip


@pytest.mark.parametrize("target", OUTSIDE)
@pytest.mark.parametrize("kind", ["mhd", "nhdr"])
def test_headers_that_point_elsewhere(target: str, kind: str, refused: Callable, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    (inner / "folder").mkdir(parents=True)
    for path in (tmp_path / "secret.raw", inner / "folder" / "inner.raw"):
        path.write_bytes(VOXELS.tobytes())
    (inner / "link.raw").symlink_to(tmp_path / "secret.raw")
    if kind == "mhd":
        text = meta(ElementDataFile="X").replace(b"= X\n", b"= " + target.encode() + b"\n")
    else:
        text = nrrd(data_file="X").replace(b": X\n", b": " + target.encode() + b"\n")
    path = inner / f"v.{kind}"
    path.write_bytes(text)
    error = refused(read_image, path)
    assert "secret" not in str(error)
    assert "passwd" not in str(error)
    refused(content_digest, path)


def test_no_header_brings_a_name_into_an_error(
    canary: str, refused: Callable, survived: Callable, tmp_path: Path
) -> None:
    """Free text of headers: descriptions, comments, fields and numbers."""
    for name, text in {
        "a.nrrd": nrrd(content=canary, type=canary),
        "b.nrrd": nrrd(sizes=f"{canary} 1 1"),
        "c.nrrd": nrrd(encoding=canary),
        "d.mha": meta(Comment=canary, ElementType=canary),
        "e.mha": meta(DimSize=f"{canary} 1 1"),
        "f.mha": meta(ElementDataFile=f"{canary}.raw"),
        "g.nrrd": nrrd(data_file=f"../{canary}"),
        "h.nii": header(descrip=canary.encode(), datatype=1234, db_name=canary.encode()),
    }.items():
        (tmp_path / name).write_bytes(text + b"\n")
        refused(read_image, tmp_path / name)


def test_files_that_only_say_that_they_are_volumes(refused: Callable, tmp_path: Path) -> None:
    for name in ("v.nii", "v.nii.gz", "v.nrrd", "v.mha", "v.mhd", "v.nhdr"):
        for data in (
            b"",
            b"\0",
            b"NRRD",
            b"\x1f\x8b",
            b"\x1f\x8b\x08" + bytes(40),
            b"ObjectType = Image\n",
            RNG.bytes(600),
        ):
            (tmp_path / name).write_bytes(data)
            refused(read_image, tmp_path / name)
            refused(read_volume, tmp_path / name)
            refused(geometry_of, tmp_path / name)
    (tmp_path / "folder.nii").mkdir()
    for path in (tmp_path / "folder.nii", tmp_path / "none.nii", "/dev/zero"):
        refused(read_image, f"{path}#plane=axial")
        refused(read_volume, path)
        refused(geometry_of, path)


def test_random_damage_is_an_error_or_a_volume(whole, survived: Callable, tmp_path: Path) -> None:
    """What a flipped byte does to a header: an error of ours, or another volume; never anything else."""
    rng = np.random.default_rng(5)
    for kind, data in whole.items():
        for _ in range(40):
            broken = bytearray(data)
            for at in rng.integers(0, min(len(data), 600), rng.integers(1, 6)):
                broken[at] = rng.integers(0, 256)
            path = tmp_path / f"v{kind.rstrip('!')}"
            path.write_bytes(broken)
            survived(read_image, path)
            survived(geometry_of, path)


def test_planes_and_points_that_are_not_there(whole, refused: Callable, tmp_path: Path) -> None:
    path = tmp_path / "v.nii"
    path.write_bytes(whole[".nii"])
    for fragment in ("plane=axial&at=9", "plane=axial&at=-1", "plane=axial&point=1e9,0,0", "plane=axial&point=nan,0,0",
                     "plane=axial&point=1,2", "plane=axial&at=1e3", "plane=sideways", "plane=axial&point=-1,-1,1&side=-4",
                     "plane=axial&point=-1,-1,1&side=1e308", "plane=axial&point=-1,-1,1&side=nan", "at=3"):  # fmt: skip
        refused(read_image, f"{path}#{fragment}")


def test_a_header_in_two_byte_orders_at_once(survived: Callable, tmp_path: Path) -> None:
    data = bytearray(header() + VOXELS.tobytes())
    data[:4] = struct.pack(">i", 348)
    (tmp_path / "v.nii").write_bytes(data)
    survived(read_image, tmp_path / "v.nii")
    survived(read_volume, Address(str(tmp_path / "v.nii")))


# -- series ------------------------------------------------------------------------------------------------


def slices(folder: Path, canary: str, **changes: dict[int, object]) -> str:
    """Four slices of a series; ``changes`` by tag and number."""
    for number in range(4):
        made = pydicom.Dataset()
        made.file_meta = pydicom.dataset.FileMetaDataset()
        made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        made.SeriesInstanceUID, made.PatientName, made.PatientID = "1.2.3", canary, canary
        made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = 4, 5, 1, "MONOCHROME2"
        made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 0
        made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, number], [1, 0, 0, 0, 1, 0]
        made.PixelSpacing, made.InstanceNumber, made.PixelData = [1, 1], number, bytes(40)
        for name, values in changes.items():
            if number in values:
                setattr(made, name, values[number])
        made.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return f"{folder}/0.dcm#series"


@pytest.mark.parametrize(
    "changes",
    [
        {"PixelData": {2: bytes(8)}},
        {"PhotometricInterpretation": {2: "RGB"}, "SamplesPerPixel": {2: 3}},
        {"NumberOfFrames": {2: 4000}},
        {"NumberOfFrames": dict.fromkeys(range(4), 2), "PixelData": {n: bytes(80) for n in range(4)}},
        {"Rows": dict.fromkeys(range(4), 60000), "Columns": dict.fromkeys(range(4), 60000)},
        {"RescaleSlope": dict.fromkeys(range(4), 1e300), "PixelData": dict.fromkeys(range(4), b"\xff" * 40)},
        {"PixelSpacing": {n: [1e-30, 1e-30] for n in range(4)}},
    ],
    ids=["short", "colour", "frames", "films", "huge", "infinite", "tiny"],
)
def test_series_that_make_no_volume(changes, canary: str, refused: Callable, tmp_path: Path) -> None:
    address = slices(tmp_path, canary, **changes)
    refused(read_image, address)
    refused(read_volume, address)


def test_a_slice_a_thousand_kilometres_away_is_no_part_of_the_volume(canary: str, tmp_path: Path) -> None:
    volume = read_image(slices(tmp_path, canary, ImagePositionPatient={3: [0, 0, 1e9]}))
    assert len(volume.pixels) == 3
    assert "3 slices of a series" in volume.notes


def test_series_in_odd_places_are_told(canary: str, survived: Callable, tmp_path: Path) -> None:
    for number, changes in enumerate((
        {"ImageOrientationPatient": {n: [0, 0, 0, 0, 0, 0] for n in range(4)}},
        {"ImagePositionPatient": {n: [0, 0, 0] for n in range(4)}},
        {"ImagePositionPatient": {1: ""}},
        {"InstanceNumber": dict.fromkeys(range(4), 7), "ImagePositionPatient": dict.fromkeys(range(4), "")},
        {"PixelSpacing": {n: [0, 0] for n in range(4)}},
        {"Rows": {1: 2}, "PixelData": {1: bytes(20)}},
    )):  # fmt: skip
        (tmp_path / str(number)).mkdir()
        volume = survived(read_volume, slices(tmp_path / str(number), canary, **changes))
        assert volume.notes
        assert canary not in "".join(volume.notes)

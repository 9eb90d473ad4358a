"""Volumes to RAS millimetres, held against nibabel, SimpleITK, and marked corners in known places."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from overread.core.errors import ImageError
from overread.images.address import Address, parse
from overread.images.formats.signatures import sniff
from overread.images.image import Limits
from overread.images.read import content_digest, read_image
from overread.images.volumes.grid import canonical, narrow
from overread.images.volumes.volume import digest_of, geometry_of, read_image_of, read_volume

RNG = np.random.default_rng(11)
SMALL = RNG.integers(-1000, 2000, (5, 6, 7), dtype=np.int16)  # (i, j, k) as nibabel has it
TURN = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])  # 16 degrees about z
ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...] = (1.5, 2.0, 3.0)
) -> np.ndarray:
    """Stored axis a runs along RAS axis order[a], forwards or backwards."""
    made = np.eye(4)
    made[:3, :3] = 0
    for axis in range(3):
        made[order[axis], axis] = signs[axis] * spacing[axis]
    made[:3, 3] = (-20.0, 7.5, 110.0)
    return made


def as_ijk(volume) -> np.ndarray:
    return volume.voxels.transpose(2, 1, 0)


def nifti(path: Path, voxels: np.ndarray, affine: np.ndarray, kind: type = nibabel.Nifti1Image) -> Path:
    nibabel.save(kind(voxels, affine), path)
    return path


# -- NIfTI -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_a_marked_corner_is_found_in_every_orientation(order, signs, tmp_path: Path) -> None:
    affine = affine_of(order, signs)
    voxels = SMALL.copy()
    voxels[4, 0, 6] = 9999
    place = affine @ [4, 0, 6, 1]  # by the definition of the affine
    volume = read_volume(nifti(tmp_path / "v.nii", voxels, affine))
    k, j, i = np.argwhere(volume.voxels == 9999)[0]
    assert np.allclose(volume.affine @ [i, j, k, 1], place, atol=1e-4)
    assert (np.diag(volume.affine)[:3] > 0).all()
    assert np.count_nonzero(volume.affine[:3, :3]) == 3
    theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels, affine))
    assert np.array_equal(as_ijk(volume), np.asanyarray(theirs.dataobj))
    assert np.allclose(volume.affine, theirs.affine, atol=1e-4)
    shape, spacing = geometry_of(tmp_path / "v.nii")
    assert shape == volume.voxels.shape
    assert spacing == pytest.approx(volume.spacing)


@settings(max_examples=60, deadline=None)
@given(
    voxels=arrays_of.arrays(np.int16, st.tuples(*[st.integers(1, 5)] * 3)),
    turn=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(x * x for x in q) > 0.1),
    spacing=st.tuples(*[st.floats(0.2, 8)] * 3),
)
def test_an_oblique_volume_is_only_permuted_and_flipped(voxels, turn, spacing) -> None:
    turn = np.array(turn) / np.linalg.norm(turn)
    affine = np.eye(4)
    affine[:3, :3] = nibabel.quaternions.quat2mat(turn) * spacing
    affine[:3, 3] = (10, -20, 30)
    volume = canonical(voxels.transpose(2, 1, 0), affine)
    assert np.linalg.det(volume.affine[:3, :3]) > 0
    back = np.linalg.inv(affine) @ volume.affine  # where each voxel was
    for place in itertools.islice(np.ndindex(volume.voxels.shape[::-1]), 40):
        was = np.rint(back @ [*place, 1.0])[:3].astype(int)
        assert volume.voxels[place[::-1]] == voxels[tuple(was)]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_and_byte_order_as_nibabel_reads_it(dtype, order, tmp_path: Path) -> None:
    voxels = RNG.integers(0, 100, (4, 3, 5)).astype(dtype)
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(dtype)
    header.set_data_shape(voxels.shape)
    nibabel.Nifti1Image(voxels, affine_of((0, 1, 2), (1, 1, 1)), header, dtype=dtype).to_filename(tmp_path / "v.nii.gz")
    volume = read_volume(tmp_path / "v.nii.gz")
    assert volume.voxels.dtype in (np.uint8, np.int16, np.uint16, np.float32)
    assert np.array_equal(as_ijk(volume), nibabel.load(tmp_path / "v.nii.gz").get_fdata())


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_slope_and_intercept_as_nibabel_applies_them(kind, tmp_path: Path) -> None:
    image = kind(RNG.normal(3, 50, (4, 5, 6)), np.eye(4))
    image.header.set_data_dtype(np.int16)
    nibabel.save(image, tmp_path / "v.nii")
    stored = nibabel.load(tmp_path / "v.nii")
    assert stored.dataobj.slope != 1
    assert np.allclose(as_ijk(read_volume(tmp_path / "v.nii")), stored.get_fdata(), rtol=1e-5, atol=1e-3)


def test_the_sform_comes_first_then_the_qform_then_the_voxel_sizes(tmp_path: Path) -> None:
    oblique = np.eye(4)
    oblique[:3, :3], oblique[:3, 3] = TURN * (1.0, 2.0, 4.0), (5, 6, 7)
    for sform, qform in itertools.product((0, 1), repeat=2):
        image = nibabel.Nifti1Image(SMALL, None)
        image.header.set_zooms((1.0, 2.0, 4.0))
        image.set_sform(affine_of((0, 1, 2), (-1, -1, 1)), code=sform)
        image.set_qform(oblique, code=qform)
        nibabel.save(image, tmp_path / "v.nii")
        volume = read_volume(tmp_path / "v.nii")
        if sform or qform:
            theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / "v.nii"))
            assert np.allclose(volume.affine, theirs.affine, atol=1e-4)
            assert volume.notes == ()
        else:
            assert np.allclose(volume.affine, np.diag([1, 2, 4, 1]))
            assert volume.notes == ("no orientation: RAS assumed",)


def test_a_negative_first_pixdim_turns_k_around(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(SMALL, None)
    image.set_qform(affine_of((0, 1, 2), (1, 1, -1)), code=1)
    assert image.header["pixdim"][0] == -1
    nibabel.save(image, tmp_path / "v.nii")
    theirs = nibabel.as_closest_canonical(nibabel.load(tmp_path / "v.nii"))
    volume = read_volume(tmp_path / "v.nii")
    assert np.allclose(volume.affine, theirs.affine, atol=1e-4)
    assert np.array_equal(as_ijk(volume), np.asanyarray(theirs.dataobj))


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("mm", 1.0), ("micron", 0.001)])
def test_lengths_become_millimetres(unit, factor, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(SMALL, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, tmp_path / "v.nii")
    assert read_volume(tmp_path / "v.nii").spacing == pytest.approx((2 * factor,) * 3)


def test_of_several_volumes_the_first_is_read(tmp_path: Path) -> None:
    films = RNG.integers(0, 1000, (5, 6, 7, 3), dtype=np.int16)
    for name in ("v.nii", "v.nii.gz"):
        volume = read_volume(nifti(tmp_path / name, films, np.eye(4)))
        assert np.array_equal(as_ijk(volume), films[..., 0])
        assert "first of 3 volumes" in volume.notes


def test_a_gzip_of_several_members_is_read(tmp_path: Path) -> None:
    data = nifti(tmp_path / "v.nii", SMALL, np.eye(4)).read_bytes()
    (tmp_path / "w.nii.gz").write_bytes(gzip.compress(data[:400]) + gzip.compress(data[400:]))
    assert np.array_equal(as_ijk(read_volume(tmp_path / "w.nii.gz")), SMALL)


def test_colour_is_refused_by_name(tmp_path: Path) -> None:
    colour = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(ImageError, match="RGB"):
        read_volume(nifti(tmp_path / "v.nii", colour, np.eye(4)))


# -- NRRD and MetaImage ------------------------------------------------------------------------------------


def written(path: Path, *, compressed: bool = False, dtype: type = np.int16) -> tuple[Path, sitk.Image]:
    """An oblique volume, as SimpleITK writes it."""
    image = sitk.GetImageFromArray(SMALL.transpose(2, 1, 0).astype(dtype))
    image.SetSpacing((0.5, 0.75, 2.5))
    image.SetOrigin((-12.0, 30.0, 400.0))
    image.SetDirection((TURN @ np.diag([-1.0, 1.0, -1.0])).ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return path, image


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_as_simpleitk_reads_it(ending, compressed, dtype, tmp_path: Path) -> None:
    path, _ = written(tmp_path / f"v{ending}", compressed=compressed, dtype=dtype)
    theirs, volume = sitk.ReadImage(str(path)), read_volume(path)
    assert np.prod(volume.voxels.shape) == SMALL.size
    for i, j, k in ((0, 0, 0), (4, 0, 1), (2, 5, 6), (4, 5, 6)):
        x, y, z = theirs.TransformIndexToPhysicalPoint((i, j, k))
        at = np.linalg.solve(volume.affine, [-x, -y, z, 1])[:3]
        assert np.allclose(at, np.rint(at), atol=1e-3)
        assert volume.voxels[tuple(np.rint(at).astype(int)[::-1])] == theirs[i, j, k]
    shape, spacing = geometry_of(path)
    assert (shape, spacing) == (volume.voxels.shape, pytest.approx(volume.spacing))
    assert content_digest(path) == volume.digest == digest_of(Address(str(path)))


def test_the_same_volume_in_all_formats_is_the_same(tmp_path: Path) -> None:
    volumes = [read_volume(written(tmp_path / f"v{e}")[0]) for e in (".nrrd", ".mha", ".mhd", ".nii.gz")]
    for other in volumes[1:]:
        assert np.array_equal(other.voxels, volumes[0].voxels)
        assert np.allclose(other.affine, volumes[0].affine, atol=1e-4)


NRRD = "NRRD0005\n# a comment\ntype: {type}\ndimension: {n}\n{more}sizes: {sizes}\nencoding: {how}\nendian: {endian}\nkey:=value\n\n"


def nrrd(path: Path, payload: bytes, *, more: str = "", sizes: str = "5 6 7", how: str = "raw", kind: str = "short",
         endian: str = "little", n: int = 3) -> Path:  # fmt: skip
    head = NRRD.format(type=kind, n=n, more=more, sizes=sizes, how=how, endian=endian)
    path.write_bytes(head.encode() + payload)
    return path


def test_nrrd_in_right_anterior_superior(tmp_path: Path) -> None:
    more = "space: right-anterior-superior\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (1,2,3)\n"
    volume = read_volume(nrrd(tmp_path / "v.nrrd", SMALL.tobytes("F"), more=more))
    assert np.allclose(volume.affine, [[2, 0, 0, 1], [0, 3, 0, 2], [0, 0, 4, 3], [0, 0, 0, 1]])
    assert np.array_equal(as_ijk(volume), SMALL)
    assert volume.notes == ()


def test_nrrd_big_endian_from_the_end_of_the_file_and_in_micrometres(tmp_path: Path) -> None:
    more = 'space: LAS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nbyte skip: -1\nspace units: "um" "um" "um"\n'
    payload = b"some bytes" + SMALL.astype(">i2").tobytes("F")
    volume = read_volume(nrrd(tmp_path / "v.nrrd", payload, more=more, endian="big"))
    assert np.array_equal(as_ijk(volume), SMALL[::-1])
    assert volume.spacing == pytest.approx((0.004, 0.003, 0.002))


def test_nrrd_without_orientation_says_so(tmp_path: Path) -> None:
    volume = read_volume(nrrd(tmp_path / "v.nrrd", SMALL.tobytes("F"), more="spacings: 1 2 3\n"))
    assert volume.spacing == (3, 2, 1)
    assert volume.notes == ("no orientation: LPS assumed",)


def test_nrrd_of_several_volumes(tmp_path: Path) -> None:
    more = "space: RAS\nspace directions: (1,0,0) (0,1,0) (0,0,1) none\nkinds: domain domain domain list\n"
    both = np.stack([SMALL, SMALL + 1], -1)
    volume = read_volume(nrrd(tmp_path / "v.nrrd", both.tobytes("F"), more=more, sizes="5 6 7 2", n=4))
    assert np.array_equal(as_ijk(volume), SMALL)
    assert "first of 2 volumes" in volume.notes


def test_a_flat_metaimage_is_an_image(tmp_path: Path) -> None:
    """Radiographs are shared as .mha: they stay as they are stored."""
    film = RNG.integers(0, 60_000, (20, 30)).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(film), str(tmp_path / "v.mha"))
    image = read_image(tmp_path / "v.mha")
    assert (image.mode, image.format, image.pixels.shape) == ("grey", "MetaImage", (20, 30, 1))
    assert np.corrcoef(image.pixels.ravel(), film.ravel())[0, 1] > 0.999


# -- arrays, archives, images ------------------------------------------------------------------------------


def test_a_plane_of_a_row_of_an_array_is_that_plane_of_the_image(tmp_path: Path) -> None:
    rows = RNG.integers(0, 256, (2, 4, 5, 6), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=rows)
    address = f"{tmp_path}/a.npz#images/1"
    volume = read_volume(address)
    assert volume.spacing == (1, 1, 1)
    assert "1 mm" in volume.notes[0]
    pixels, _, _, kind = read_image_of(parse(f"{address}#plane=axial&at=2"))
    assert kind == "array"
    assert np.array_equal(pixels[..., 0], rows[1, 2])
    whole = read_image_of(Address(address))[0]
    assert np.array_equal(whole, read_image(address).pixels)
    assert geometry_of(address) == ((4, 5, 6), (1.0, 1.0, 1.0))


def test_a_whole_volume_as_an_image_is_seen_as_by_a_radiologist(tmp_path: Path) -> None:
    voxels = np.zeros((10, 12, 8), np.uint8)
    voxels[9, 11, 0] = 200  # right, anterior, inferior
    image = read_image(nifti(tmp_path / "v.nii", voxels, np.eye(4)))
    assert (image.mode, image.format, image.pixels.shape) == ("volume", "NIfTI", (8, 12, 10, 1))
    assert image.pixels[0, 0, 0, 0] == 200  # the lowest plane, top, left


def test_percentiles_windows_and_labels(tmp_path: Path) -> None:
    voxels = RNG.normal(0, 300, (20, 20, 20)).astype(np.int16)
    path = nifti(tmp_path / "v.nii", voxels, np.eye(4))
    pixels, notes, _, _ = read_image_of(Address(str(path)))
    low, high = np.percentile(voxels, [0.5, 99.5])
    wanted = np.clip((voxels - low) / (high - low), 0, 1) * 65535
    assert pixels.dtype == np.uint16
    assert np.abs(pixels[..., 0].transpose(2, 1, 0)[::-1, ::-1] - wanted).max() <= 1
    assert "percentile" in notes[-1]
    windowed, notes, _, _ = read_image_of(Address(str(path)), window="0/200")
    assert notes[-1] == "window 0/200"
    assert (windowed[..., 0].transpose(2, 1, 0)[::-1, ::-1][voxels > 100] == 65535).all()
    labels = nifti(tmp_path / "l.nii", (voxels > 300).astype(np.int16), np.eye(4))
    pixels, notes, _, _ = read_image_of(Address(str(labels)))
    assert set(np.unique(pixels)) == {0, 1}
    assert notes[-1] == "values as stored"


def test_planes_in_a_row_decode_once_and_have_digests_of_their_own(tmp_path: Path, monkeypatch) -> None:
    from overread.images.volumes import volume as module

    path = nifti(tmp_path / "v.nii.gz", SMALL, np.eye(4))
    read, count = module._read, []
    monkeypatch.setattr(module, "_read", lambda *given: count.append(1) or read(*given))
    images = [read_image(f"{path}#plane=axial&at={at}") for at in range(7)]
    assert len(count) == 1
    assert len({image.digest for image in images}) == 7
    assert [content_digest(f"{path}#plane=axial&at={at}") for at in range(7)] == [image.digest for image in images]
    nifti(path, SMALL[::-1].copy() + np.int16(1), np.eye(4))  # a file that changes is read again
    assert read_image(f"{path}#plane=axial&at=0").digest != images[0].digest


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    path = nifti(tmp_path / "v.nii", SMALL, np.eye(4))
    assert read_volume(path).digest == hashlib.sha256(path.read_bytes()).hexdigest()
    header, _ = written(tmp_path / "v.mhd")
    parts = [hashlib.sha256(p.read_bytes()).hexdigest() for p in (header, tmp_path / "v.raw")]
    assert read_volume(header).digest == hashlib.sha256("".join(parts).encode()).hexdigest()


def test_resampling_before_planes(tmp_path: Path) -> None:
    path = nifti(tmp_path / "v.nii", SMALL, np.diag([1.0, 1.0, 2.0, 1.0]))
    assert read_image_of(Address(str(path)), spacing=(1.0, 1.0, 1.0))[0].shape == (14, 6, 5, 1)


def test_sniffing(tmp_path: Path) -> None:
    for ending, kind in ((".nii", "NIfTI"), (".nii.gz", "NIfTI"), (".nrrd", "NRRD"), (".mha", "MetaImage")):
        assert sniff(written(tmp_path / f"v{ending}")[0].read_bytes()[:512]) == kind


def test_limits_are_asked_before_the_voxels(tmp_path: Path) -> None:
    path = nifti(tmp_path / "v.nii.gz", SMALL, np.eye(4))
    with pytest.raises(ImageError, match="larger than the limit"):
        read_volume(path, limits=Limits(pixels=100))


def test_integers_are_narrowed_exactly_or_become_float() -> None:
    assert narrow(np.array([[[0, 255]]], np.int64)).dtype == np.uint8
    assert narrow(np.array([[[-1, 255]]], np.int32)).dtype == np.int16
    assert narrow(np.array([[[0, 65535]]], np.uint32)).dtype == np.uint16
    assert narrow(np.array([[[0, 65536]]], np.uint32)).dtype == np.float32


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "v.nrrd", "v.npz#images/0"])
def test_nan_is_refused_until_it_is_said_to_be_the_lowest_value(name: str, tmp_path: Path) -> None:
    voxels = np.random.default_rng(4).normal(50, 20, (5, 6, 7)).astype(np.float32)
    voxels[:, :2] = np.nan
    address = str(tmp_path / name)
    if ".npz" in name:
        np.savez(tmp_path / "v.npz", images=voxels[None])
    elif name.endswith("nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(voxels), address)
    else:
        nifti(tmp_path / name, voxels, np.eye(4))
    with pytest.raises(ImageError, match="70 of 210.*--nan-voxels lowest") as refused:
        read_volume(address)
    assert str(tmp_path) not in str(refused.value)
    volume = read_volume(f"{address}#nan=lowest")
    expected = np.where(np.isnan(voxels), np.nanmin(voxels), voxels)
    assert np.array_equal(np.sort(volume.voxels, axis=None), np.sort(expected, axis=None))
    assert any("70 of 210 voxels are NaN, taken for the lowest value" in note for note in volume.notes)
    assert any("NaN" in note for note in read_image(f"{address}#nan=lowest").notes)
    with pytest.raises(ImageError, match="NaN"):  # a kept volume of the other answer is not taken
        read_image(f"{address}#plane=axial")
    read_image(f"{address}#plane=axial&nan=lowest")
    with pytest.raises(ImageError, match="NaN"):
        read_image(f"{address}#plane=axial")


@pytest.mark.parametrize(("value", "why"), [(np.inf, "infinite"), (-np.inf, "infinite"), (1e300, "infinite")])
def test_infinity_and_nothing_but_nan_are_refused_all_the_same(value: float, why: str, tmp_path: Path) -> None:
    voxels = np.full((3, 4, 5), np.nan)
    nifti(tmp_path / "none.nii", voxels, np.eye(4))
    with pytest.raises(ImageError, match="60 of 60"):
        read_volume(f"{tmp_path / 'none.nii'}#nan=lowest")
    voxels[1:], voxels[2, 0, 0] = 1.0, value
    nifti(tmp_path / "v.nii", voxels, np.eye(4))
    with pytest.raises(ImageError, match=why):
        read_volume(f"{tmp_path / 'v.nii'}#nan=lowest")

"""Real volumes: NIfTI of two byte orders, adrenal glands in an archive, films of DICOM."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from overread.images.read import content_digest, read_image
from overread.images.volumes import centre_of, geometry_of, plane, read_volume, resample, three_views
from overread.images.volumes.grid import LPS

NIFTI = ("anatomical.nii", "anatomical_label.nii.gz", "reoriented_anat_moved.nii", "reoriented_anat_moved_label.nii.gz")


@pytest.mark.parametrize("name", NIFTI)
def test_nifti_is_what_nibabel_reads(name: str, shared: Path) -> None:
    path = shared / "data" / "nifti" / name
    theirs, volume = nibabel.as_closest_canonical(nibabel.load(path)), read_volume(path)
    assert np.allclose(volume.voxels.transpose(2, 1, 0), theirs.get_fdata(), rtol=1e-6)
    assert np.allclose(volume.affine, theirs.affine, atol=1e-4)
    assert geometry_of(path) == (volume.voxels.shape, pytest.approx(volume.spacing))
    image = read_image(path)
    assert image.mode == "volume"
    assert image.format == "NIfTI"
    assert content_digest(path) == image.digest


@pytest.mark.parametrize("name", NIFTI)
def test_nifti_is_what_simpleitk_reads(name: str, shared: Path) -> None:
    path = shared / "data" / "nifti" / name
    theirs, volume = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS"), read_volume(path)
    assert np.allclose(volume.voxels[:, ::-1, ::-1], sitk.GetArrayFromImage(theirs), rtol=1e-6)
    x, y, z = theirs.GetOrigin()
    _, j, i = volume.voxels.shape
    assert np.allclose(LPS @ volume.affine @ [i - 1, j - 1, 0, 1], [x, y, z, 1], atol=1e-3)


def test_a_label_lies_where_the_anatomy_is(shared: Path) -> None:
    """One marked voxel: its place in mm is the same through nibabel, and the views meet there."""
    for name in ("anatomical", "reoriented_anat_moved"):
        label = read_volume(shared / "data" / "nifti" / f"{name}_label.nii.gz")
        anatomy = read_volume(shared / "data" / "nifti" / f"{name}.nii")
        theirs = nibabel.load(shared / "data" / "nifti" / f"{name}_label.nii.gz")
        marked = np.argwhere(np.asanyarray(theirs.dataobj))
        point = centre_of(label)
        assert np.allclose(point, (theirs.affine @ [*marked.mean(axis=0), 1])[:3], atol=1e-3)
        assert all(view.size for view in three_views(anatomy, point))
        assert plane(anatomy, "axial", point=point, side=20.0).shape == (round(20 / anatomy.spacing[1]),) * 2


def test_real_anatomy_resampled_as_simpleitk_does(shared: Path) -> None:
    path = shared / "data" / "nifti" / "reoriented_anat_moved.nii"
    volume = read_volume(path)
    finer = resample(volume, 2.0)
    grid = sitk.GetImageFromArray(finer.voxels)
    affine = LPS @ finer.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    grid.SetSpacing(spacing.tolist())
    grid.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    grid.SetOrigin(affine[:3, 3].tolist())
    theirs = sitk.GetArrayFromImage(sitk.Resample(sitk.ReadImage(str(path)), grid, sitk.Transform(), sitk.sitkLinear))
    inner = tuple(slice(2, -2) for _ in range(3))
    assert np.allclose(finer.voxels[inner], theirs[inner], atol=1e-3 * np.ptp(volume.voxels))


def test_adrenal_glands_by_planes_are_the_rows(shared: Path) -> None:
    path = shared / "data" / "adrenalmnist3d" / "adrenalmnist3d.npz"
    with np.load(path) as archive:
        rows = archive["test_images"][:3]
    for number, row in enumerate(rows):
        address = f"{path}#test_images/{number}"
        volume = read_volume(address)
        assert volume.spacing == (1, 1, 1)
        for at in (0, 13, 27):
            assert np.array_equal(read_image(f"{address}#plane=axial&at={at}").pixels[..., 0], row[at])
            assert np.array_equal(read_image(f"{address}#plane=coronal&at={at}").pixels[..., 0], row[::-1, 27 - at])


@pytest.mark.parametrize("coding", ["", "_RLE", "_big_endian", "_jpeg_2k_lossless", "_jpeg_ls_lossless"])
def test_a_film_without_positions(coding: str, shared: Path) -> None:
    """emri_small says 1.2 mm between slices and nothing else: told, and 1 mm for the rest."""
    volume = read_volume(shared / "data" / "dicom" / f"emri_small{coding}.dcm")
    plain = sitk.GetArrayFromImage(sitk.ReadImage(str(shared / "data" / "dicom" / "emri_small.dcm")))
    assert volume.voxels.shape == (10, 64, 64)
    assert np.array_equal(volume.voxels[:, ::-1, ::-1], plain)
    assert volume.spacing == pytest.approx((1.2, 1, 1))
    assert any("no positions" in note for note in volume.notes)
    assert any("1 mm assumed" in note for note in volume.notes)


@pytest.mark.parametrize("name", ["rtdose.dcm", "rtdose_rle.dcm", "rtdose_expb.dcm"])
def test_a_dose_is_where_simpleitk_puts_it(name: str, shared: Path) -> None:
    theirs = sitk.ReadImage(str(shared / "data" / "dicom" / "rtdose.dcm"))
    volume = read_volume(shared / "data" / "dicom" / name)
    assert volume.spacing == pytest.approx((5, 10, 10))
    x, y, z = theirs.GetOrigin()
    _, j, i = volume.voxels.shape
    assert np.allclose(volume.affine @ [i - 1, j - 1, 0, 1], [-x, -y, z, 1], atol=1e-3)
    scale = float(
        pydicom.dcmread(shared / "data" / "dicom" / "rtdose.dcm").DoseGridScaling
    )  # which SimpleITK leaves out
    assert np.allclose(volume.voxels[:, ::-1, ::-1], scale * sitk.GetArrayFromImage(theirs), rtol=1e-5)


@pytest.mark.parametrize("name", ["liver.dcm", "liver_rle.dcm", "liver_deflate.dcm", "liver_expb.dcm"])
def test_a_segmentation_by_its_functional_groups(name: str, shared: Path) -> None:
    head = pydicom.dcmread(shared / "data" / "dicom" / "liver.dcm")
    volume = read_volume(shared / "data" / "dicom" / name)
    places = [f.PlanePositionSequence[0].ImagePositionPatient for f in head.PerFrameFunctionalGroupsSequence]
    order = np.argsort([place[2] for place in places])
    assert volume.spacing[1:] == pytest.approx((0.810547, 0.810547))
    assert volume.spacing[0] == pytest.approx(float(np.diff(np.sort([place[2] for place in places])).mean()), abs=1e-4)
    assert np.array_equal(volume.voxels[:, ::-1, ::-1], head.pixel_array[order])

"""Planes, cubes and resampling in mm, held against indexing and SimpleITK's resampler."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from overread.core.errors import ArgumentError, ImageError
from overread.images.volumes.grid import (
    LPS,
    Volume,
    centre_of,
    grey,
    levels,
    patch,
    plane,
    resample,
    scaled,
    three_views,
)

RNG = np.random.default_rng(3)
SIZE = (12, 20, 16)  # (K, J, I)
NOISE = RNG.integers(-1000, 1000, SIZE).astype(np.int16)


def volume_of(voxels: np.ndarray, spacing: tuple[float, float, float] = (1, 1, 1), turn: float = 0.0) -> Volume:
    k, j, i = spacing
    affine = np.diag([i, j, k, 1.0])
    c, s = np.cos(turn), np.sin(turn)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ affine[:3, :3]
    affine[:3, 3] = (-30, 12, 200)
    return Volume(voxels, affine)


def in_itk(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.voxels.astype(np.float32))
    affine = LPS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def smooth(size: tuple[int, int, int] = SIZE) -> np.ndarray:
    return ndimage.gaussian_filter(RNG.normal(0, 500, size), 2.5).astype(np.float32)


# -- planes ------------------------------------------------------------------------------------------------


def test_planes_of_cubic_voxels_are_indexed() -> None:
    volume = volume_of(NOISE)
    for k in range(SIZE[0]):
        assert np.array_equal(plane(volume, "axial", k), NOISE[k, ::-1, ::-1])
    for j in range(SIZE[1]):
        assert np.array_equal(plane(volume, "coronal", j), NOISE[::-1, j, ::-1])
    for i in range(SIZE[2]):
        assert np.array_equal(plane(volume, "sagittal", i), NOISE[::-1, ::-1, i])


def test_a_radiologist_sees_right_on_the_left_and_anterior_on_top() -> None:
    """Marks in mm: RAS says x to the right, y anterior, z superior."""
    volume = volume_of(np.zeros((9, 9, 9), np.uint8))
    middle = np.array([-26.0, 16.0, 204.0])
    for step, seen in (
        ((3, 0, 0), {"axial": (4, 1), "coronal": (4, 1)}),  # right: to the left of the picture
        ((0, 3, 0), {"axial": (1, 4), "sagittal": (4, 1)}),  # anterior: on top, or to the left
        ((0, 0, 3), {"coronal": (1, 4), "sagittal": (1, 4)}),  # superior: on top
    ):
        i, j, k = np.rint(np.linalg.solve(volume.affine, [*(middle + step), 1])[:3]).astype(int)
        marked = Volume(np.zeros((9, 9, 9), np.uint8), volume.affine)
        marked.voxels[k, j, i] = 1
        for name, place in seen.items():
            picture = plane(marked, name, point=tuple((middle + step).tolist()))
            assert tuple(np.argwhere(picture)[0]) == place


def test_the_plane_through_a_point_and_the_middle() -> None:
    volume = volume_of(NOISE, (2.0, 1.0, 1.0))
    x, y, z, _ = volume.affine @ [3, 7, 5.4, 1]
    assert np.array_equal(plane(volume, "axial", point=(x, y, z)), NOISE[5, ::-1, ::-1])
    assert np.array_equal(plane(volume, "axial"), NOISE[6, ::-1, ::-1])


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(0.3, 6.0)] * 3))
def test_pixels_are_square_and_the_extent_is_kept(spacing: tuple[float, float, float]) -> None:
    volume = volume_of(NOISE, spacing)
    for axis, name in enumerate(("axial", "coronal", "sagittal")):
        rest = [other for other in range(3) if other != axis]
        fine = min(spacing[other] for other in rest)
        picture = plane(volume, name)
        for have, other in zip(picture.shape, rest):
            assert abs(have * fine - SIZE[other] * spacing[other]) <= fine * (0.5 + 0.01 * SIZE[other])


def test_a_squashed_plane_is_stretched_as_simpleitk_does() -> None:
    volume = volume_of(smooth(), (4.0, 1.0, 1.0))
    picture = plane(volume, "sagittal", 8)
    assert picture.shape == (48, 20)
    image = in_itk(volume)
    inner = range(6, 42)
    for row in inner:
        z = 200 + (row - 23.5 + 4 * 5.5)
        at = image.TransformPhysicalPointToContinuousIndex((30 - 8, -(12 + 6), z))
        assert picture[47 - row, 19 - 6] == pytest.approx(image.EvaluateAtContinuousIndex(at), abs=0.05)


def test_a_square_around_a_point() -> None:
    volume = volume_of(NOISE)
    x, y, z, _ = (volume.affine @ [8, 10, 6, 1]).tolist()
    square = plane(volume, "axial", point=(x, y, z), side=5.0)
    assert np.array_equal(square, NOISE[6, 8:13, 6:11][::-1, ::-1])
    over = plane(volume, "axial", point=(*(volume.affine @ [0, 0, 6, 1])[:2].tolist(), z), side=5.0)
    assert np.array_equal(over[:3, :3], NOISE[6, :3, :3][::-1, ::-1])
    assert (over[3:] == NOISE[6].min()).all()
    assert (over[:, 3:] == NOISE[6].min()).all()


def test_what_is_outside_is_an_error() -> None:
    volume = volume_of(NOISE)
    for wrong in ({"at": 12}, {"at": -1}, {"point": (500.0, 0.0, 0.0)}, {"point": (float("nan"), 0.0, 0.0)}):
        with pytest.raises(ImageError):
            plane(volume, "axial", **wrong)
    with pytest.raises(ArgumentError):
        plane(volume, "axial", 3, (0.0, 0.0, 0.0))
    with pytest.raises(ArgumentError):
        plane(volume, "axial", side=3.0)


def test_a_plane_is_never_endless() -> None:
    flat = Volume(np.zeros((2, 2, 2), np.uint8), np.diag([1e-5, 1.0, 1000.0, 1.0]))
    assert max(plane(flat, "coronal").shape) <= 4096


def test_three_views_meet_in_the_point() -> None:
    volume = volume_of(NOISE)
    volume.voxels[6, 10, 8] = 5000
    point = tuple((volume.affine @ [8, 10, 6, 1])[:3].tolist())
    for picture in three_views(volume, point):
        assert (picture == 5000).sum() == 1
    volume.voxels[6, 10, 8] = 0


# -- resampling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [0.0, 0.3])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.9, 0.7), (0.6, 0.6, 0.6)])
def test_resampling_as_simpleitk_does_on_smooth_data(spacing, turn) -> None:
    volume = volume_of(smooth((24, 30, 28)), (1.6, 1.0, 0.9), turn)
    mine = resample(volume, spacing)
    assert mine.spacing == pytest.approx(spacing)
    target = in_itk(mine)
    theirs = sitk.GetArrayFromImage(sitk.Resample(in_itk(volume), target, sitk.Transform(), sitk.sitkLinear))
    inner = tuple(slice(3, -3) for _ in range(3))
    # Up to where it shrinks both are linear; there ours averages a little, which smooth data hardly shows.
    shrinks = any(new > old * 1.001 for new, old in zip(spacing, volume.spacing))
    error = np.abs(mine.voxels[inner] - theirs[inner]).max() / np.ptp(volume.voxels)
    assert error < (0.04 if shrinks else 1e-4)


def test_resampling_keeps_the_centre_and_what_fits() -> None:
    volume = volume_of(smooth(), (2.0, 1.0, 1.0), 0.2)
    assert resample(volume, (2.0, 1.0, 1.0)) is volume
    other = resample(volume, 1.3)
    for mine in (volume, other):
        middle = [(n - 1) / 2 for n in mine.voxels.shape[::-1]]
        assert np.allclose(mine.affine @ [*middle, 1], volume.affine @ [7.5, 9.5, 5.5, 1])


def test_shrinking_keeps_the_mean_of_noise() -> None:
    """Picking every fourth voxel would keep its spread as well; averaging does not."""
    small = resample(volume_of(RNG.normal(0, 1, (40, 40, 40)).astype(np.float32)), 4.0)
    assert small.voxels.std() < 0.2


def test_resampling_is_bounded() -> None:
    with pytest.raises(ImageError, match="too fine"):
        resample(volume_of(NOISE), 1e-4)


def test_a_cube_around_a_point() -> None:
    volume = volume_of(NOISE)
    point = tuple((volume.affine @ [8, 10, 6, 1])[:3].tolist())
    cube = patch(volume, point, 5.0)
    assert np.array_equal(cube.voxels, NOISE[4:9, 8:13, 6:11])
    assert np.allclose(cube.affine @ [2, 2, 2, 1], [*point, 1])
    stretched = patch(volume_of(NOISE, (3.0, 1.0, 1.0)), point=(-22.0, 22.0, 218.0), side=9.0)
    assert stretched.voxels.shape == (9, 9, 9)
    assert stretched.spacing == pytest.approx((1, 1, 1))
    corner = patch(volume, (-30.0, 12.0, 200.0), 5.0)
    assert np.array_equal(corner.voxels[2:, 2:, 2:], NOISE[:3, :3, :3])
    assert (corner.voxels[:2] == NOISE.min()).all()
    with pytest.raises(ImageError):
        patch(volume, point, 600.0)


# -- masks and grey values ---------------------------------------------------------------------------------


def test_the_centre_of_the_largest_piece() -> None:
    mask = np.zeros((20, 20, 20), np.uint8)
    mask[2:5, 3:6, 4:7] = 1  # centre (3, 4, 5)
    mask[15:17, 15:17, 15:17] = 2
    volume = volume_of(mask, (2.0, 1.0, 0.5), 0.4)
    assert np.allclose(centre_of(volume), (volume.affine @ [5, 4, 3, 1])[:3])
    with pytest.raises(ImageError, match="empty"):
        centre_of(volume_of(np.zeros((3, 3, 3), np.uint8)))


def test_windows_are_those_of_hounsfield_units() -> None:
    air, water, bone = np.array([[[-1000.0, 40.0, 1000.0]]], np.float32)[0, 0]
    volume = volume_of(np.array([[[air, water, bone, -160, 240]]], np.float32))
    soft = scaled(volume, "40/400")[0, 0]
    assert soft[0] == soft[3] == 0
    assert soft[2] == soft[4] == 65535
    assert int(soft[1]) == pytest.approx(32768, abs=200)
    assert scaled(volume, "lung").dtype == np.uint16


def test_a_rare_bright_spot_is_not_lost_between_percentiles() -> None:
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[3, 3, 3] = 7.5
    assert levels(volume_of(voxels)) == (0.0, 7.5)
    assert scaled(volume_of(voxels))[3, 3, 3] == 65535
    assert not scaled(volume_of(np.full((2, 2, 2), 7.0, np.float32))).any()


def test_eight_bits_and_labels_stay() -> None:
    labels = RNG.integers(0, 30, SIZE).astype(np.uint16)
    assert levels(volume_of(labels)) is None
    assert np.array_equal(scaled(volume_of(labels)), labels)
    bright = RNG.integers(0, 256, SIZE).astype(np.uint8)
    assert np.array_equal(scaled(volume_of(bright)), bright)
    assert levels(volume_of(NOISE)) is not None
    assert "stored" in grey(volume_of(labels), labels)[1]
    assert "not applied" in grey(volume_of(bright), bright, "lung")[1]
    assert scaled(volume_of(labels), "full").max() == 65535


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_percentiles_are_those_of_numpy(dtype) -> None:
    voxels = RNG.integers(0, 3000, (7, 8, 9)).astype(dtype)
    assert levels(volume_of(voxels)) == pytest.approx(np.percentile(voxels, [0.5, 99.5]).tolist())
    negative = (voxels.astype(np.int32) - 1500).astype(np.int16 if dtype != np.float32 else dtype)
    assert levels(volume_of(negative)) == pytest.approx(np.percentile(negative, [0.5, 99.5]).tolist())

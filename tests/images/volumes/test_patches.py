"""Three patches around a point, in millimetres: whatever the voxels, the nodule is round and in the middle of each."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from overread.core.errors import ArgumentError, ImageError
from overread.images.address import PLANES, Address, parse
from overread.images.preprocess import Preprocess, prepared
from overread.images.read import read_image
from overread.images.volumes import read_volume
from overread.images.volumes.grid import beyond, plane

CENTRE, RADIUS = np.array([12.0, -31.0, 140.0]), 9.0
TILT = np.deg2rad(20)
TURNED = np.array([[np.cos(TILT), -np.sin(TILT), 0], [np.sin(TILT), np.cos(TILT), 0], [0, 0, 1.0]])
AXES = {
    "straight": np.eye(3), "LPS": np.diag([-1.0, -1, 1]), "upside down": np.diag([1.0, 1, -1]),
    "permuted": np.array([[0.0, 1, 0], [0, 0, -1], [1, 0, 0]]), "oblique": TURNED,
}  # fmt: skip


def scan(folder: Path, axes: np.ndarray, spacing=(1.0, 1.0, 3.0), shape=(60, 60, 20), off=(0.0, 0.0, 0.0)) -> Path:
    """A ball of 40 HU in lung of −850 HU, drawn by the definition of the affine; ``off``: of the scan's middle, mm."""
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = CENTRE + off - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    distance = np.linalg.norm(places @ affine[:3, :3].T + affine[:3, 3] - CENTRE, axis=-1)
    voxels = -850 + 890 * np.clip(RADIUS - distance + 0.5, 0, 1)
    path = folder / "scan.nii.gz"
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(np.rint(voxels).astype(np.int16), affine).to_bytes()))
    return path


def shape_of(seen: np.ndarray, pixel: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the bright disc lies from the middle of the square, and its two radii, in mm, by its moments."""
    weight = np.clip((seen.astype(float) + 850) / 890, 0, 1)
    lines = [(np.arange(n) - (n - 1) / 2) * pixel for n in seen.shape]
    y, x = np.meshgrid(*lines, indexing="ij")
    middle = np.array([(weight * y).sum(), (weight * x).sum()]) / weight.sum()
    spread = [(weight * (line - m) ** 2).sum() / weight.sum() for line, m in ((y, middle[0]), (x, middle[1]))]
    return middle, 2 * np.sqrt(spread)  # of a disc the second moment is r² / 4


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("pixel", [0.0, 0.75])
def test_the_nodule_is_round_and_in_the_middle_of_all_three(axes: str, pixel: float, tmp_path: Path) -> None:
    volume = read_volume(scan(tmp_path, AXES[axes]))
    for name in PLANES:
        seen = plane(volume, name, point=tuple(CENTRE), side=30.0, pixel=pixel)
        assert seen.shape == ((30, 30) if not pixel else (40, 40))
        middle, radii = shape_of(seen, pixel or 1.0)
        assert np.abs(middle).max() < 0.6  # a pixel at most, of thick slices too
        assert np.abs(radii - RADIUS).max() < 0.75
        assert abs(radii[0] - radii[1]) < 0.08 * RADIUS


def test_the_file_says_the_pixels_and_the_window_makes_them_0_to_255_in_three_channels(tmp_path: Path) -> None:
    path = scan(tmp_path, AXES["LPS"])
    point = ",".join(f"{x:g}" for x in CENTRE)
    image = read_image(f"{path}#plane=coronal&point={point}&side=30&pixel=0.5", window="-1000:400")
    assert image.pixels.shape == (60, 60, 1)
    assert "window -300/1400" in image.notes
    assert not any("beyond" in note for note in image.notes)
    packed = prepared(image, Preprocess(size=(60, 60), channels=3, window="-1000:400"))
    assert packed.shape == (60, 60, 3)
    assert packed.dtype == np.uint8
    assert (packed[..., 0] == packed[..., 1]).all()
    assert (packed[..., 0] == packed[..., 2]).all()
    lung, nodule = ((hu + 1000) / 1400 * 255 for hu in (-850, 40))
    assert abs(int(packed[0, 0, 0]) - lung) <= 1
    assert abs(int(packed[30, 30, 0]) - nodule) <= 1


def test_a_square_that_reaches_beyond_the_volume_is_filled_and_says_by_how_much(tmp_path: Path) -> None:
    path = scan(tmp_path, AXES["straight"], off=(20.0, 0.0, 0.0))  # 10 mm from the border in x, of a side of 30
    volume, point = read_volume(path), tuple(CENTRE)
    share = {name: beyond(volume, name, point, 30.0) for name in PLANES}
    assert share["axial"] == share["coronal"] == pytest.approx(5 / 30, abs=0.02)
    assert share["sagittal"] == 0.0
    seen = plane(volume, "axial", point=point, side=30.0)
    assert (seen[:, -4:] == volume.voxels.min()).all()  # the patient's left, on the right of what is seen
    assert np.abs(shape_of(seen, 1.0)[0]).max() < 0.6
    where = f"{path}#plane=axial&point={','.join(f'{x:g}' for x in point)}&side=30"
    assert "beyond the volume: 17% of the square, filled with its lowest value" in read_image(where).notes
    slow = np.array([[np.abs(CENTRE[0] + dx - (CENTRE[0] + 20)) > 30 for dx in np.arange(-14.75, 15, 0.5)]]).mean()
    assert share["axial"] == pytest.approx(slow, abs=0.02)  # by counting places


def test_pixels_in_mm_that_cannot_be(tmp_path: Path) -> None:
    path = str(scan(tmp_path, np.eye(3)))
    with pytest.raises(ArgumentError, match="pixel needs a side"):
        Address(path, plane="axial", point=(0.0, 0, 0), pixel=1.0)
    with pytest.raises(ImageError, match="too large"):
        read_image(f"{path}#plane=axial&point={','.join(f'{x:g}' for x in CENTRE)}&side=30&pixel=0.001")
    asked = Address("a.nii", plane="axial", point=(1.0, 2, 3), side=30.0, pixel=0.7)
    assert parse(str(asked)) == asked
    assert parse(str(replace(asked, pixel=0.0))).pixel == 0

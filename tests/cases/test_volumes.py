"""Volumes cut into views and slices: rows of the same case and patient, with addresses that can be read."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases, Planes, paths
from overread.cases.sources.read_cases import read_cases
from overread.cases.volumes import as_planes, as_slices, cut, is_volume
from overread.core.errors import ImageError, InputError, OverreadError
from overread.images.address import parse
from overread.images.read import read_image
from overread.tasks.target import Target

RNG = np.random.default_rng(17)
AFFINE = np.array([[-1.0, 0, 0, 20], [0, 1.5, 0, -8], [0, 0, 4.0, 100], [0, 0, 0, 1]])


@pytest.fixture
def cases(tmp_path: Path) -> Cases:
    """Two volumes of two patients, one photograph, a mask and points."""
    for number in range(2):
        voxels = RNG.integers(0, 1000, (10, 12, 5 + number), dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / f"v{number}.nii.gz")
    mask = np.zeros((10, 12, 5), np.uint8)
    mask[3, 4, 2] = 1
    nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / "m0.nii.gz")
    table = pd.DataFrame(
        {
            "image": ["v0.nii.gz", "photo.png", "v1.nii.gz"], "case": ["a", "b", "c"], "patient": ["1", "2", "2"],
            "source": "x", "view": ["", "AP", "T1"], "time": "", "split": "", "label": ["yes", "no", "no"],
            "x": [17.0, np.nan, np.nan], "y": [-2.0, np.nan, np.nan], "z": [108.0, np.nan, np.nan],
            "mask": ["m0.nii.gz", "", ""], "age": [40.0, 50.0, np.nan],
        }
    )  # fmt: skip
    return Cases(table, Target("binary", ("no", "yes"), ("yes",)), str(tmp_path))


@pytest.mark.parametrize(
    ("address", "yes"),
    [("a.nii", True), ("A.NII.GZ", True), ("a.nrrd", True), ("a.nhdr", True), ("a.mha", True), ("a.mhd", True),
     ("s/1.dcm#series", True), ("z.zip#entry=a/b.nii.gz", True), ("z.zip#entry=1.dcm&series", True), ("a.dcm", False),
     ("a.png", False), ("a.nii#plane=axial&at=3", False), ("a.npz#x/1", False), ("a.nii#frame=x", False)],
)  # fmt: skip
def test_what_counts_as_a_volume(address: str, yes: bool) -> None:
    assert is_volume(address) is yes


def test_views_are_three_rows_of_one_case(cases: Cases) -> None:
    views = as_planes(cases)
    assert list(views.table["image"])[:4] == [
        "v0.nii.gz#plane=axial", "v0.nii.gz#plane=coronal", "v0.nii.gz#plane=sagittal", "photo.png",
    ]  # fmt: skip
    assert list(views.table["view"]) == ["axial", "coronal", "sagittal", "AP", "T1 axial", "T1 coronal", "T1 sagittal"]
    for column in ("case", "patient", "source", "label", "age"):
        by_image = dict(zip(cases.table["case"], cases.table[column]))
        assert all(
            value == by_image[case] or value != value for case, value in zip(views.table["case"], views.table[column])
        )
    assert not views.table.duplicated(["case", "view", "time"]).any()
    assert views.patients == cases.patients
    assert views.planes.how == "views"
    assert dict(views.table.dtypes) == dict(cases.table.dtypes)
    assert read_image(paths(views)[1]).mode == "grey"


def test_views_through_a_point_and_through_a_mask_are_the_same(cases: Cases) -> None:
    points = as_planes(cases, Planes("views", ("x", "y", "z"), 6.0))
    masks = as_planes(cases, Planes("views", ("mask",), 6.0))
    for views in (points, masks):
        address = parse(views.table["image"][0])
        assert np.allclose(address.point, (AFFINE @ [3, 4, 2, 1])[:3], atol=1e-4)
        assert address.side == 6
        assert read_image(paths(views)[0]).pixels.shape == (6, 6, 1)
        assert parse(views.table["image"][4]).point is None
        assert any("cut through their middle" in note for note in views.notes)
    assert np.array_equal(read_image(paths(points)[2]).pixels, read_image(paths(masks)[2]).pixels)


def test_slices_are_images_of_one_case(cases: Cases) -> None:
    slices = as_slices(cases)
    assert len(slices) == 5 + 1 + 6
    assert list(slices.table["view"][:2]) == ["axial 000", "axial 001"]
    assert slices.table["view"].iloc[-1] == "T1 axial 005"
    assert slices.table.groupby("case").size().to_dict() == {"a": 5, "b": 1, "c": 6}
    assert slices.table.groupby("case")["patient"].nunique().eq(1).all()
    assert not slices.table.duplicated(["case", "view", "time"]).any()
    voxels = np.asanyarray(nibabel.load(Path(cases.root) / "v0.nii.gz").dataobj)
    image = read_image(paths(slices)[3], window="full")
    assert image.pixels.shape == (18, 10, 1)  # 12 rows of 1.5 mm in pixels of 1 mm
    brightest = np.unravel_index(voxels[:, :, 3].argmax(), (10, 12))
    row, column, _ = np.unravel_index(image.pixels.argmax(), image.pixels.shape)
    assert column == brightest[0]  # stored from right to left, as it is looked at
    assert abs((17 - row) / 1.5 - brightest[1]) <= 1


def test_a_broken_volume_keeps_a_row_that_says_why(cases: Cases) -> None:
    (Path(cases.root) / "v1.nii.gz").write_bytes(b"\x1f\x8b nothing")
    slices = as_slices(cases)
    assert slices.table.groupby("case").size()["c"] == 1
    assert "1 volumes could not be read" in slices.notes[-1]
    with pytest.raises(ImageError):
        read_image(paths(slices)[-1])


def test_points_and_masks_that_are_none(cases: Cases) -> None:
    with pytest.raises(OverreadError, match="no column 'where'"):
        as_planes(cases, Planes("views", ("where",)))
    for wrong in ("left", float("inf")):
        table = cases.table.assign(x=pd.Series([wrong, "", ""], dtype=object))
        with pytest.raises(InputError, match="point in mm"):
            as_planes(Cases(table, cases.target, cases.root), Planes("views", ("x", "y", "z")))
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), AFFINE), Path(cases.root) / "m0.nii.gz")
    with pytest.raises(ImageError, match="the mask is empty, in row 1"):
        as_planes(cases, Planes("views", ("mask",)))


def test_cutting_as_a_study_asks_for_it(cases: Cases) -> None:
    assert cut(cases, Planes()) is cases
    assert cut(cases, Planes("views")) == as_planes(cases)
    assert cut(cases, Planes("slices")) == as_slices(cases)


@pytest.mark.parametrize(("how", "rows"), [("whole", 1), ("views", 3), ("slices", 5)])
def test_what_nan_means_goes_with_every_address_of_a_volume(how: str, rows: int, tmp_path: Path) -> None:
    voxels = np.random.default_rng(1).random((4, 5, 5)).astype(np.float32)
    voxels[0] = np.nan
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "v.nii.gz")
    pd.DataFrame({"image": ["v.nii.gz"], "label": ["yes"], "patient": ["a"]}).to_csv(tmp_path / "t.csv", index=False)
    planes = Planes(how, nan="lowest")
    made = read_cases(tmp_path / "t.csv", kind="classes", names="keep", planes=planes)
    assert len(made) == rows
    assert made.planes == planes
    for address in paths(made):
        assert any("NaN" in note for note in read_image(address).notes)
    assert Cases.load(made.save(tmp_path / "cases.csv")).planes == planes
    refused = read_cases(tmp_path / "t.csv", kind="classes", names="keep", planes=Planes(how))
    with pytest.raises(ImageError, match="--nan-voxels lowest"):
        read_image(paths(refused)[0])


def test_views_survive_saving(cases: Cases, tmp_path: Path) -> None:
    views = as_planes(cases, Planes("views", ("x", "y", "z"), 6.0))
    assert Cases.load(views.save(tmp_path / "cases.csv")) == views


def test_rows_of_an_archive_are_volumes_by_their_shape(tmp_path) -> None:
    np.savez(
        tmp_path / "a.npz",
        solid=np.zeros((2, 6, 5, 4), np.uint8),
        flat=np.zeros((2, 6, 5), np.uint8),
        colour=np.zeros((2, 6, 5, 3), np.uint8),
    )
    assert is_volume("a.npz#solid/1", tmp_path)
    assert not is_volume("a.npz#flat/1", tmp_path)
    assert not is_volume("a.npz#colour/1", tmp_path)
    assert not is_volume("b.npz#solid/1", tmp_path)

"""The order of slices, against positions that were made and then shuffled."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from overread.core.errors import ImageError
from overread.images.dicom import series
from overread.images.dicom.header import DicomHeader
from overread.images.dicom.series import normal, order, series_entries, series_files
from overread.images.dicom.stacks import fit_together, stacks

RNG = np.random.default_rng(5)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def rotation() -> np.ndarray:
    turned, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    return turned * np.sign(np.linalg.det(turned))


def slices(places, orientation=AXIAL, **fields: object) -> list[DicomHeader]:
    """Headers of slices at these places along the normal, in random places within the plane."""
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    across = np.cross(row, column)
    common = {"rows": 4, "columns": 4, "spacing": (1.0, 1.0), "series": "1.2", "modality": "CT"} | fields
    return [
        DicomHeader(position=tuple((place * across).tolist()), orientation=orientation, number=n, **common)
        for n, place in enumerate(places)
    ]


@pytest.mark.parametrize("oblique", range(4))
def test_shuffled_slices_come_in_order(oblique):
    turned = rotation() if oblique else np.eye(3)
    orientation = tuple(turned[:2].ravel().tolist())
    places = np.arange(20) * 2.5 - 17
    shuffled = RNG.permutation(20)
    found = order(slices(places[shuffled], orientation))
    assert np.array_equal(shuffled[list(found.indices)], np.arange(20))
    assert found.spacing == pytest.approx(2.5)
    assert (found.gaps, found.left_out, found.problems) == ((), (), ())
    assert np.allclose(normal(slices([0], orientation)[0]), turned[2])


def test_a_gap_is_found_where_it_is():
    places = [0, 1, 2, 5, 6, 7, 9, 10]
    found = order(slices(places[::-1]))
    steps = np.diff(places)
    assert found.indices == tuple(range(7, -1, -1))
    assert found.gaps == tuple(np.flatnonzero(steps > 1.5 * np.median(steps)))
    assert found.spacing == 1
    assert found.problems == ("gaps: 2, the widest 3 mm where slices stand 1 mm apart",)


def test_uneven_steps():
    found = order(slices([0, 1, 2, 3.3, 4.3]))
    assert (found.gaps, found.problems) == ((), ("steps between slices vary from 1 to 1.3 mm",))


def test_of_slices_in_one_place_the_first_taken_is_kept():
    first, second = slices([0, 1, 2], acquisition=1), slices([0, 1, 2], acquisition=2)
    found = order([*second, *first])
    assert found.indices == (3, 4, 5)
    assert found.left_out == (0, 1, 2)
    assert found.problems == ("the series mixes acquisition numbers: 3 of 6 images fit together",)
    retaken = order([*slices(range(9)), *slices([4], acquisition=2)])
    assert (len(retaken.indices), retaken.left_out) == (9, (4,))
    assert retaken.problems == ("slices in places that are taken: 1; the first of each is kept",)


def test_copies_are_told_and_what_nothing_tells_apart_is_refused():
    copies = slices(range(5), instance="1.2.3") * 2
    assert order(copies).problems == ("slices in places that are taken: 5; the first of each is kept",)
    bare = [dataclasses.replace(header, number=None) for header in slices(range(5)) * 2]
    with pytest.raises(ImageError, match="nothing in their headers tells .*10 images in 5 places"):
        order(bare)


def test_what_does_not_fit_is_left_out():
    volume = slices(range(6))
    other = (
        slices(range(3), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)) + slices(range(2), spacing=(2.0, 2.0)) + slices([9], rows=8)
    )
    scouts = slices([50], image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    found = order([*scouts, *other, *volume])
    assert found.indices == tuple(range(7, 13))
    assert found.left_out == tuple(range(7))
    assert found.problems == (
        "localizers kept apart: 1",
        "the series mixes sizes and orientations and pixel spacings: 6 of 12 images fit together",
    )
    assert [len(stack.indices) for stack in stacks([*scouts, *other, *volume])] == [1, 3, 2, 1, 6]


def test_only_scouts():
    found = order(slices([3, 1, 2], image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))
    assert (found.indices, found.problems) == ((1, 2, 0), ())


def test_rounding_does_not_part_a_stack():
    tilted = [(1.0, 0.0, 0.0, 0.0, 0.995 + e, 0.0999) for e in (0.0, 1e-6, -1e-6)]
    assert all(fit_together(a, b) for a, b in itertools.combinations([slices([0], o)[0] for o in tilted], 2))


def test_without_positions_numbers_count_and_it_is_said():
    headers = [DicomHeader(number=n, thickness=3.0) for n in (5, 3, 9)]
    found = order(headers)
    assert found.indices == (1, 0, 2)
    assert found.spacing == 3
    assert found.problems == ("positions are missing: ordered by instance number",)
    unsure = order([DicomHeader(number=1), DicomHeader(number=1), DicomHeader()])
    assert "guess" in unsure.problems[0]


def test_a_tilted_gantry_is_told():
    headers = [DicomHeader(position=(0, math.tan(math.radians(12)) * z, z), orientation=AXIAL) for z in range(0, 50, 5)]
    assert "tilt of 12.0 degrees" in order(headers).problems[0]


def test_one_slice_and_none():
    assert order(slices([3])).indices == (0,)
    assert math.isnan(order(slices([3])).spacing)
    with pytest.raises(ImageError):
        order([])


# -- files ---------------------------------------------------------------------------------------------------------


def write(path: Path, place: float, **tags: object) -> Path:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.{abs(hash(path)) % 10**9}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = "1.2.3", "1.2.3.4", "CT"
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, place], list(AXIAL)
    made.PixelSpacing, made.Rows, made.Columns, made.BitsAllocated = [1, 1], 2, 2, 8
    made.PixelData = bytes(4)
    made["PixelData"].VR = "OW"
    for name, value in tags.items():
        setattr(made, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, made, enforce_file_format=True)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Eight slices under shuffled names, another series, and other files."""
    for name, place in zip(RNG.permutation(8), range(8)):
        write(tmp_path / f"IM{name}", 2.0 * place)
    write(tmp_path / "other", 3, SeriesInstanceUID="1.2.3.5")
    (tmp_path / "notes.txt").write_text("notes", encoding="utf-8")
    (tmp_path / "IM99").write_bytes((tmp_path / "IM0").read_bytes()[:200])
    return tmp_path


def places(paths) -> list[float]:
    return [float(pydicom.dcmread(path).ImagePositionPatient[2]) for path in paths]


def test_the_files_of_a_series(folder):
    for first in ("IM0", "IM5"):
        assert places(series_files(folder / first)) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert series_files(folder / "other") == [folder / "other"]
    with pytest.raises(ImageError):
        series_files(folder / "notes.txt")


def test_the_stack_of_the_first_file_is_meant(folder):
    for n in range(3):
        write(folder / f"Z{n}", n, PixelSpacing=[2, 2])
    assert len(series_files(folder / "IM0")) == 8
    assert places(series_files(folder / "Z1")) == [0, 1, 2]


def test_a_folder_is_looked_at_once_until_it_changes(folder, monkeypatch):
    read = []
    headers = series._headers
    monkeypatch.setattr(series, "_headers", lambda *a: read.append(a) or headers(*a))
    series_files(folder / "IM0")
    series_files(folder / "IM1")
    assert len(read) == 1
    write(folder / "IM8", -2)
    os.utime(folder, ns=(1, 1))  # also where the clock is coarse
    assert places(series_files(folder / "IM1"))[0] == -2
    assert len(read) == 2


def test_a_series_within_a_zip(folder, tmp_path_factory):
    archive = tmp_path_factory.mktemp("zip") / "study.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        for path in sorted(folder.iterdir()):
            made.write(path, f"A/{path.name}")
        made.write(folder / "IM0", "B/IM0")
    inside = series_entries(archive, "A/IM3")
    assert [name.removeprefix("A/") for name in inside] == [path.name for path in series_files(folder / "IM3")]
    assert series_entries(archive, "B/IM0") == ["B/IM0"]
    with pytest.raises(ImageError):
        series_entries(archive, "A/absent")


def test_links_are_not_of_the_series(folder, tmp_path_factory):
    elsewhere = write(tmp_path_factory.mktemp("elsewhere") / "IM77", 100)
    (folder / "IM77").symlink_to(elsewhere)
    assert len(series_files(folder / "IM0")) == 8

"""Scans with nodules: their points, masks and classes are what the table says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from overread import audit
from overread.cases.cases import Cases, Planes, paths
from overread.cases.sources.read_cases import read_cases
from overread.core.errors import ArgumentError, InputError
from overread.images.address import parse
from overread.images.read import read_image
from overread.images.volumes import centre_of, plane, read_volume
from overread.synthetic import draw_nodules


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return draw_nodules(tmp_path_factory.mktemp("nodules"), patients=12, seed=4).parent


def read(folder: Path, planes: Planes) -> Cases:
    return read_cases(folder / "metadata.csv", image="image", label="diagnosis", patient="patient", case="case", positive=["satellite"],
                      names="keep", planes=planes)  # fmt: skip


def test_the_same_seed_gives_the_same_bytes_and_a_patient_may_have_two_nodules(folder, tmp_path) -> None:
    again = draw_nodules(tmp_path, patients=12, seed=4).parent
    for path in sorted(folder.rglob("*.*")):
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes(), path.name
    table = pd.read_csv(folder / "metadata.csv")
    assert len(table) == 16
    assert table["diagnosis"].value_counts().to_dict() == {"solitary": 8, "satellite": 8}
    assert table.groupby("patient")["image"].nunique().eq(1).all()
    with pytest.raises(ArgumentError, match="at least 6 patients"):
        draw_nodules(tmp_path, patients=5)


def test_the_satellite_stands_in_one_view_of_its_class_and_in_none_of_the_other(folder) -> None:
    for row in pd.read_csv(folder / "metadata.csv").to_dict("records"):
        volume, point = read_volume(folder / row["image"]), (row["x"], row["y"], row["z"])
        assert np.allclose(centre_of(read_volume(folder / row["mask"])), point, atol=1.0)
        there = []
        for name in ("axial", "coronal", "sagittal"):
            seen = plane(volume, name, point=point, side=26.0)
            y, x = np.indices(seen.shape) - 12.5
            there.append(bool((seen[np.hypot(y, x) > 7] > -300).any()))
            assert seen[11:15, 11:15].mean() > -200
        assert sum(there) == (row["diagnosis"] == "satellite")
        for name in ("axial", "coronal", "sagittal"):  # and nothing shows in the middle of the scan
            assert (plane(volume, name) < -500).all()


def test_the_audit_counts_squares_that_reach_beyond_their_volume(folder) -> None:
    few = np.arange(9)  # three nodules
    found = {
        finding.kind: finding
        for finding in audit(read(folder, Planes("views", ("x", "y", "z"), 26.0)).take(few)).findings
    }
    assert "padded-squares" not in found
    wide = read(folder, Planes("views", ("x", "y", "z"), 40.0))
    found = {finding.kind: finding for finding in audit(wide.take(few)).findings}
    told = found["padded-squares"]
    assert (told.severity, told.count) == ("note", 3)  # nodules lie 15 to 20 mm from a border
    assert "9 squares around a point reach beyond the volume, by up to" in told.message


def test_each_nodule_is_a_case_of_three_views_and_the_patient_the_unit(folder) -> None:
    cases = read(folder, Planes("views", ("x", "y", "z"), 26.0, pixel=0.5))
    assert (len(cases), cases.table["case"].nunique(), cases.patients) == (48, 16, 12)
    assert [parse(each).plane for each in cases.table["image"][:3]] == ["axial", "coronal", "sagittal"]
    assert read_image(paths(cases)[0]).pixels.shape == (52, 52, 1)
    masks = read(folder, Planes("views", ("mask",), 26.0, pixel=0.5))
    apart = np.array(parse(cases.table["image"][0]).point) - parse(masks.table["image"][0]).point
    assert np.abs(apart).max() < 1
    pd.read_csv(folder / "metadata.csv").drop(columns="case").to_csv(folder / "nameless.csv", index=False)
    with pytest.raises(InputError, match="different points.*--case"):
        read_cases(
            folder / "nameless.csv", image="image", label="diagnosis", planes=Planes("views", ("x", "y", "z"), 26.0)
        )
    with pytest.raises(ArgumentError, match="need the side"):
        Planes("views", ("mask",), pixel=1.0)

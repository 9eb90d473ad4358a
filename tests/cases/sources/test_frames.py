"""A DataFrame is read as its file would be, and stays as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest

import overread as ov


@pytest.fixture
def frame(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8), 40 * i, np.uint8))
    return pd.DataFrame(
        {
            "file": [f"{i}.png" for i in range(4)],
            "dx": ["nv", "mel", "nv", "mel"],
            "pid": [7, 7, np.nan, 9],
            "age": [40.0, 41.5, np.nan, 60.0],
        }
    )


ROLES = {"image": "file", "label": "dx", "patient": "pid", "positive": ["mel"], "names": "keep"}


def test_it_is_read_as_its_file_is(frame, tmp_path):
    frame.assign(pid=["7", "7", "", "9"]).to_csv(tmp_path / "table.csv", index=False)
    read, other = ov.read_cases(frame, **ROLES), ov.read_cases("table.csv", **ROLES)
    pd.testing.assert_frame_equal(read.table, other.table)
    assert read.notes == other.notes
    assert read == other
    assert read.table["patient"].tolist()[0] == "7", "a number with a blank among it is still a whole number"


def test_the_callers_frame_is_not_changed(frame):
    before = frame.copy(deep=True)
    ov.read_cases(frame, **ROLES)
    pd.testing.assert_frame_equal(frame, before)


def test_types_of_pandas_are_cells(frame):
    changed = frame.assign(
        dx=frame["dx"].astype("category"), pid=frame["pid"].astype("Int64"), seen=pd.Timestamp("2020-01-02")
    )
    read = ov.read_cases(changed, **ROLES, keep=("seen",))
    assert read.table["patient"].tolist()[:2] == ["7", "7"]
    assert read.table["seen"].iloc[0].startswith("2020-01-02")


def test_the_index_is_no_column_and_that_is_said(frame):
    with pytest.raises(ov.OverreadError, match=r"'pid' is the index .*reset_index"):
        ov.read_cases(frame.set_index("pid"), **ROLES)
    read = ov.read_cases(frame.set_index("age"), **ROLES)
    assert any("index (age) is not read" in note for note in read.notes)


def test_what_no_table_can_be_is_refused(frame):
    with pytest.raises(ov.OverreadError, match="Did you mean 'dx'"):
        ov.read_cases(frame, **{**ROLES, "label": "dxx"})
    with pytest.raises(ov.OverreadError, match="holds no rows"):
        ov.read_cases(frame.iloc[:0], **ROLES)
    with pytest.raises(ov.OverreadError, match="several levels"):
        ov.read_cases(pd.concat({"a": frame}, axis=1), **ROLES)
    with pytest.raises(ov.OverreadError, match="hold more than one value"):
        ov.read_cases(frame.assign(file=[np.zeros((8, 8))] * 4), **ROLES)
    with pytest.raises(ov.OverreadError, match="stands twice"):
        ov.read_cases(pd.concat([frame, frame["dx"].iloc[::-1].reset_index(drop=True)], axis=1), **ROLES)
    left = ov.read_cases(frame.assign(pixels=[[1, 2]] * 4), **ROLES)
    assert any("1 columns whose cells hold several values are left out, first pixels" in note for note in left.notes)


def test_a_frame_of_cases_comes_back_from_any_folder(frame, tmp_path, monkeypatch):
    cases = ov.read_cases(frame, **ROLES)
    monkeypatch.chdir(tmp_path.parent)
    back = ov.read_cases(cases.to_frame(), label="label", positive=["mel"], names="keep")
    assert (back.table["label"] == cases.table["label"]).all()
    assert (back.table["patient"] == cases.table["patient"]).all()
    assert ov.audit(back).of("unreadable") is None


def test_a_hashed_study_shows_codes_and_no_paths(frame):
    cases = ov.read_cases(
        frame.assign(pid=["Anna Smith", "Anna Smith", "Bo Ek", "Bo Ek"]),
        image="file",
        label="dx",
        positive=["mel"],
        patient="pid",
    )
    page = cases._repr_html_()
    assert "Anna" not in page
    assert ".png" not in page
    assert cases.table["patient"].iloc[0] not in page

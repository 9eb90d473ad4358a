from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import overread as ov
from overread.cases.privacy import codes, identifying, patient_codes, salt_of, unnamed
from overread.cases.sources.read_cases import read_images
from overread.core.errors import ArgumentError, InputError

from .conftest import picture, write

COUNT = 30


@pytest.fixture
def path(tmp_path):
    for i in range(COUNT):
        write(tmp_path / f"DOE_{i}.png", picture(i))
    table = pd.DataFrame({
        "file": [f"DOE_{i}.png" for i in range(COUNT)], "mrn": [f"00{i // 2}" for i in range(COUNT)], "dx": ["no", "yes"] * (COUNT // 2),
        "sex": ["f", "m"] * (COUNT // 2), "full_name": ["DOE^JANE"] * COUNT, "born": ["1950-01-02", "1951-02-03"] * (COUNT // 2),
        "remark": [f"seen by doctor {i}" for i in range(COUNT)], "insured": [123_450 + i for i in range(COUNT)],
        "age": np.linspace(20, 80, COUNT),
    })  # fmt: skip
    table.to_csv(tmp_path / "t.csv", index=False)
    return tmp_path / "t.csv"


def read(path, **options):
    return ov.read_cases(path, image="file", label="dx", patient="mrn", **options)


def test_names_become_codes_and_columns_that_nobody_named_stay_outside(path) -> None:
    cases, named = read(path), read(path, names="keep")
    assert list(cases.table["patient"]) == patient_codes(named.table["patient"], cases.salt, "ask")
    assert list(cases.table["case"]) == codes(named.table["case"], cases.salt)
    left = {"full_name", "born", "remark", "insured"}
    assert set(named.table.columns) - set(cases.table.columns) == left
    note = next(note for note in cases.notes if note.startswith("names:"))
    assert all(name in note for name in left)
    assert "--keep-column" in note
    assert list(cases.labels) == list(named.labels)


@pytest.mark.parametrize(
    ("column", "cells"),
    [
        ("findings", [""] * (COUNT - 1) + ["as told by Frau Schmidt"]),  # a remark in one row
        ("read_by", ["Dr Smith", "Dr Jones"] * (COUNT // 2)),
        ("befundet_von", ["Meier", "Schulz", "Weber"] * (COUNT // 3)),
        ("x1", ["Anna"] * COUNT),
        ("score", [str(i % 3) for i in range(COUNT)]),
    ],
)
def test_what_stands_in_an_unknown_column_does_not_matter(path, tmp_path, column, cells) -> None:
    pd.read_csv(path, dtype=str).assign(**{column: cells}).to_csv(tmp_path / "more.csv", index=False)
    cases = read(tmp_path / "more.csv")
    assert column not in cases.table
    assert column in read(tmp_path / "more.csv", keep=[column]).table
    assert column in read(tmp_path / "more.csv", queries=[f"`{column}` == 'x' and sex == 'f'"]).table
    new = read_images(tmp_path / "more.csv", cases.target, image="file", patient="mrn", salt=cases.salt)
    assert column not in new.table
    assert column in read_images(tmp_path / "more.csv", cases.target, image="file", keep=[column]).table


def test_a_column_that_is_asked_for_is_kept(path) -> None:
    assert "born" in read(path, subgroups=["born"]).table


def test_a_column_to_keep_must_be_there(path) -> None:
    for reads in (
        lambda: read(path, keep=["sexx"]),
        lambda: read_images(path, read(path).target, image="file", keep=["sexx"]),
    ):
        with pytest.raises(InputError, match=r"no column 'sexx' \(.*Did you mean 'sex'"):
            reads()


def test_what_is_saved_names_nobody(path, tmp_path) -> None:
    saved = read(path).save(tmp_path / "out" / "cases.csv")
    written = saved.read_text() + saved.with_suffix(".target.json").read_text()
    assert "DOE" not in written
    assert str(tmp_path) not in written
    with pytest.raises(InputError, match="saved without the paths"):
        ov.audit(ov.Cases.load(saved))


def test_a_case_is_found_by_its_name(path) -> None:
    assert len(read(path)["DOE_3"]) == 1


def test_the_order_of_rows_does_not_matter(path, tmp_path) -> None:
    table = pd.read_csv(path, dtype=str)
    table.iloc[::-1].to_csv(tmp_path / "back.csv", index=False)
    assert set(read(path).table["patient"]) == set(read(tmp_path / "back.csv").table["patient"])


def test_another_table_has_other_codes_unless_the_salt_is_given(path, tmp_path) -> None:
    pd.read_csv(path, dtype=str).iloc[:20].to_csv(tmp_path / "some.csv", index=False)
    first, some = read(path), read(tmp_path / "some.csv")
    assert not set(first.table["patient"]) & set(some.table["patient"])
    assert set(read(tmp_path / "some.csv", salt=first.salt).table["patient"]) <= set(first.table["patient"])


def test_new_images_have_the_codes_of_the_model(path) -> None:
    cases = read(path)
    new = read_images(path, cases.target, image="file", patient="mrn", salt=cases.salt)
    assert list(new.table["patient"]) == list(cases.table["patient"])


def test_patient_and_case_stay_equal_where_they_were(path) -> None:
    cases = ov.read_cases(path, image="file", label="dx", patient="file", case="file")
    assert (cases.table["patient"] == cases.table["case"]).all()


def test_hiding_twice_changes_nothing(path) -> None:
    cases = read(path)
    assert cases.hidden() is cases
    with pytest.raises(ArgumentError, match="Did you mean 'keep'"):
        cases.hidden(names="kep")


@pytest.mark.parametrize(
    ("name", "values", "tells"),
    [
        ("PatientName", ["x"] * 60, True),
        ("StudyInstanceUID", ["x"] * 60, True),
        ("fluid", ["x"] * 60, False),
        ("PatientSex", ["f", "m"] * 30, False),
        ("localization", ["back", "face", "arm"] * 20, False),
        ("free", [f"text {i}" for i in range(60)], True),
        ("number", [float(10_000 + i) for i in range(60)], True),
        ("volume", [10_000.5 + i for i in range(60)], False),
        ("year", [float(1990 + i % 20) for i in range(60)], False),
        ("visit", ["2020-01-0" + str(i % 5 + 1) for i in range(60)], True),
        ("empty", [""] * 60, False),
    ],
)
def test_what_identifies(name, values, tells) -> None:
    assert identifying(pd.DataFrame({name: values}), 60) == ([name] if tells else [])


def test_a_table_to_look_at(path) -> None:
    table = pd.DataFrame({"image": ["a", "b"], "patient": ["DOE", "DOE"], "case": ["1", "2"], "modality": ["CT", "CT"]})
    shown = unnamed(table)
    assert list(shown.columns) == ["patient", "case", "modality"]
    assert shown["patient"].nunique() == 1
    assert not shown["patient"].str.contains("DOE").any()
    assert unnamed(table, "keep") is table


def test_the_salt_depends_on_who_is_there() -> None:
    table = pd.DataFrame({"image": ["a"], "case": ["b"], "patient": ["c"]})
    assert salt_of(table) != salt_of(table.assign(patient="d"))

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases, paths, typed
from overread.core.errors import ArgumentError, InputError
from overread.tasks.target import Target

from .conftest import cohort, made


@pytest.mark.parametrize(
    ("values", "numeric"),
    [(["1", "", "2.50"], True), (["-3", "1e5"], True), (["007", "1"], False), (["", ""], False), (["1", "x"], False), (["nan"], False),
     (["."], False), (["0", "0.5", ".5"], True), (["inf"], False)],
)  # fmt: skip
def test_typed(values, numeric):
    column = pd.Series(values, dtype=object).astype(str)
    assert pd.api.types.is_float_dtype(typed(column)) == numeric


def test_a_target_refuses_what_cannot_be():
    for names, positive in (((), ()), (("a", "a"), ()), (("a", "b"), ("c",))):
        with pytest.raises(ArgumentError):
            Target("binary", names, positive)


def test_cases_need_their_columns():
    with pytest.raises(ArgumentError, match="lacks the column 'image'"):
        Cases(pd.DataFrame({"case": ["a"]}), Target("binary", ("a", "b")))


def test_rows_by_name_and_position():
    cases = cohort(20)
    assert cases["c3"].table["case"].tolist() == ["c3"]
    assert len(cases.drop(["c0", "c1"])) == len(cases) - 2
    assert cases.take(np.array([2, 1])).table["case"].tolist() == ["c2", "c1"]
    with pytest.raises(InputError, match="no such case"):
        cases["nobody"]


def test_equality_is_of_content():
    assert cohort(20) == cohort(20)
    assert hash(cohort(20)) == hash(cohort(20))
    assert cohort(20) != cohort(20, seed=1)


@pytest.mark.parametrize("kind", ["binary", "findings", "quantity"])
def test_a_round_trip(tmp_path, kind):
    rows = {
        "binary": {"label": ["no", "", "yes"]},
        "findings": {"label:f": [1, 0, np.nan], "label:g": [np.nan, 1, 0]},
        "quantity": {"value": [1.5, np.nan, -2]},
    }[kind]
    names = {"binary": ("no", "yes"), "findings": ("f", "g"), "quantity": ("age",)}[kind]
    cases = made(rows | {"patient": ["007", "NA", "x,y"], "age": [40.0, np.nan, 61.5]}, kind, names)
    again = Cases.load(cases.save(tmp_path / "cases.csv"))
    assert again == cases
    np.testing.assert_array_equal(again.labels, cases.labels)
    np.testing.assert_array_equal(again.table["age"], cases.table["age"])
    assert again.table["patient"].tolist() == ["007", "NA", "x,y"]


def test_addresses(tmp_path):
    cases = made({"label": ["no", "yes"], "image": ["a/b.png", "x.npz#train_images/1"]})
    cases = Cases(cases.table, cases.target, str(tmp_path))
    assert paths(cases) == [str(tmp_path / "a/b.png"), str(tmp_path / "x.npz#train_images/1")]

"""Columns of the table that a network is shown beside the pixels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.cases.extra_inputs import ExtraInput, extra_missing, extra_values, fit_extra_inputs, taught_with
from overread.core.errors import ArgumentError, InputError
from overread.tasks.target import Target


def cases_of(speed: list[str]) -> Cases:
    names, blank = [f"{i}" for i in range(len(speed))], [""] * len(speed)
    table = pd.DataFrame({"image": names, "case": names, "patient": names, "source": blank, "view": blank, "time": blank,
                          "split": blank, "label": ["a", "b"] * (len(speed) // 2), "speed": speed})  # fmt: skip
    return Cases(table, Target("binary", ("a", "b"), ("b",)))


def test_values_as_the_table_has_them_and_scaled_by_the_rows_that_teach() -> None:
    cases = cases_of(["1.5", "", "3", "4.5"])
    assert np.array_equal(extra_values(cases, ["speed"])[:, 0], [1.5, np.nan, 3, 4.5], equal_nan=True)
    assert extra_missing(cases, ["speed"]) == "speed 1 of 4 images"
    assert extra_missing(cases, []) == extra_missing(cases.take([0, 2]), ["speed"]) == ""
    (found,) = fit_extra_inputs(cases.take([0, 1, 2]), ["speed"])  # not of the last row
    assert found == ExtraInput("speed", 2.25, 0.75)
    assert taught_with(cases, []) == cases.taught
    other = cases_of(["1.5", "", "3", "4.6"])
    assert other.taught == cases.taught  # the roles are the same, and yet it is another lesson
    assert taught_with(other, ["speed"]) != taught_with(cases, ["speed"])


@pytest.mark.parametrize(
    ("speed", "column", "said"),
    [
        (["1", "fast", "3", "4"], "speed", "is no number .given: 'fast', 1 image"),
        (["1", "inf", "3", "4"], "speed", "is no number"),
        (["1", "2", "3", "4"], "spede", "has none of this name"),
        (["1", "2", "3", "4"], "patient", "must not say who or what"),
        (["1", "2", "3", "4"], "label", "must not say who or what"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_what_to_do(speed, column, said) -> None:
    with pytest.raises(InputError, match=said):
        extra_values(cases_of(speed), [column])


@pytest.mark.parametrize(("speed", "said"), [(["", "", "", ""], "blank in all"), (["7", "7", "", "7"], "hardly differs"),
                                             (["1e9", "1000000001", "1e9", "1e9"], "hardly differs")])  # fmt: skip
def test_a_column_that_tells_nothing_is_refused(speed, said) -> None:
    with pytest.raises(InputError, match=said):
        fit_extra_inputs(cases_of(speed), ["speed"])
    with pytest.raises(ArgumentError, match="deviation above 0"):
        ExtraInput("speed", 1.0, 0.0)

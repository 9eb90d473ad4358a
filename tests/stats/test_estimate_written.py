"""How numbers are written: nothing that is not exactly none or all is told as if it were, and p values as journals do."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.stats.estimate import Difference, Estimate, p_said, p_text, rounded


@pytest.mark.parametrize(
    ("value", "digits", "most", "text"),
    [
        (0.9988, 2, 1, "0.999"), (99.88, 0, 100, "99.9"), (99.96, 1, 100, "99.96"), (0.04, 1, 100, "0.04"), (100.0, 1, 100, "100.0"),
        (0.99951, 3, 1, "0.9995"), (-0.9999, 3, 1, "-0.9999"), (-0.0001, 3, 1, "-0.0001"), (0.0, 3, 1, "0.000"), (1.0, 3, 1, "1.000"),
        (1 - 1e-16, 3, 1, "1.000"), (1e-17, 3, 1, "0.000"), (-1e-17, 3, 1, "0.000"), (1 - 1e-7, 3, 1, ">0.999999"), (2e-7, 3, 1, "<0.000001"),
        (-2e-7, 3, 1, ">-0.000001"), (1.0004, 3, 1, "1.0004"), (1234.5678, 1, 1, "1,234.6"), (0.4, 0, 1, "0.4"), (2.99999, 3, 1, "3.000"),
        (math.inf, 3, 1, "inf"),
    ],
)  # fmt: skip
def test_no_bound_is_told_that_is_not_reached(value, digits, most, text):
    assert rounded(value, digits, most) == text


@given(st.floats(0, 1), st.integers(0, 4))
def test_a_share_of_any_size(value, digits):
    text = rounded(value, digits)
    if text[0] in "<>":
        assert (value < float(text[1:])) == (text[0] == "<")
    else:
        assert abs(float(text) - value) <= 0.5 * 10.0**-digits + 1e-12
        if float(text) in (0.0, 1.0):
            assert abs(value - float(text)) <= 1e-9


@given(st.floats(0, 1))
def test_a_p_value_keeps_its_side_of_a_level(p):
    text = p_text(p)
    assert len(text) <= 8 or p < 0.05
    if text[0] not in "<>":
        for level in (0.001, 0.05):
            assert (float(text) < level) == (p < level)


def test_p_values_as_journals_write_them():
    assert [p_text(p) for p in (0.0, 2.59e-95, 0.00099, 0.001, 0.0312, 0.0996, 0.5, 0.991, 1.0)] == [
        "<0.001", "<0.001", "<0.001", "0.001", "0.031", "0.10", "0.50", ">0.99", "1.00"]  # fmt: skip
    assert p_said(2.59e-95) == "p < 0.001"
    gap = Estimate("auc difference", 0.3, 0.2, 0.4)
    assert str(Difference(gap, gap, gap, 0.01, 20.0, 2.59e-95)) == "0.300 (0.200–0.400), p < 0.001"


def test_an_estimate_is_written_by_the_same_rule():
    assert str(Estimate("npv", 0.99988, 0.9993, 1.0)) == "0.9999 (0.999–1.000)"
    assert str(Estimate("brier", 0.0002, 0.0001, 0.00042)) == "0.0002 (0.0001–0.0004)"

"""What results keep in files, and how it comes back."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.core.errors import InputError
from overread.core.files import build, plain
from overread.evaluation.results import Alike, claim_again, difference_again, drawn, estimates, read_results, with_nan
from overread.stats.estimate import Difference, Estimate, implied, undefined
from overread.stats.hypotheses import Claim, non_inferiority


def again(kind, held):
    return build(kind, with_nan(json.loads(json.dumps(plain(held)))))


def test_numbers_that_json_has_not_come_back():
    sides = Estimate("auc", 0.9, 0.8, 1.0), Estimate("auc", 0.7, 0.6, 0.8)
    for value in (0.2, -0.2):
        made = implied(*sides, Estimate("auc difference", value, value, value))
        assert math.isinf(made.statistic)
        assert difference_again(again(Difference, made)) == made
    claim = non_inferiority(Estimate("auc difference", 0.0, 0.0, 0.0), 0.1)
    assert claim.statistic == math.inf
    assert claim_again(again(Claim, claim)) == claim
    lost = claim_again(again(Claim, non_inferiority(undefined("auc difference", "0 positives"), 0.1)))
    assert math.isnan(lost.statistic)


def test_estimates_come_back_in_order():
    held = [
        Estimate("auc", 0.9),
        undefined("auc", "0 positives", of="mel"),
        Estimate("f1", 0.5, 0.4, 0.6, where={"sex": "f"}),
    ]
    found = estimates(json.loads(json.dumps(plain(held))))
    assert plain(found) == plain(held)
    assert math.isnan(found[1].value)
    with pytest.raises(InputError, match="unknown|wrong"):
        estimates([{"metric": "auc", "value": "much"}])


@pytest.mark.parametrize("held", ["[]", "null", "{}", '{"curves": 1}'])
def test_damaged_results_are_said(tmp_path, held):
    (tmp_path / "metrics.json").write_text("[]")
    (tmp_path / "some.json").write_text(held)
    with pytest.raises(InputError, match="the thing is damaged"):
        read_results(tmp_path, "some", ("curves", "counts"), "thing")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_a_drawn_curve_is_the_curve(steps):
    x, y = (np.cumsum(column) / 100 for column in np.array(steps).T)
    at = drawn(x, y)
    assert at[0] == 0
    assert (x[at[-1]], y[at[-1]]) == (x[-1], y[-1])
    length = np.hypot(np.diff(x), np.diff(y)).sum()
    assert np.hypot(np.diff(x[at]), np.diff(y[at])).sum() == pytest.approx(length)
    assert len(drawn(x, y, 5)) <= 5


def test_equal_content_is_equal():
    class Found(Alike):
        def __init__(self, value):
            self.value = value

        @property
        def digest(self):
            return f"{self.value:x}"

        def table(self):
            return f"value {self.value}"

    assert Found(1) == Found(1) != Found(2)
    assert len({Found(1), Found(1)}) == 1
    assert str(Found(3)) == "value 3"

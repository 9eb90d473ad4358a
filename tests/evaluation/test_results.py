"""What results keep in files, and how it comes back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overread.core.errors import InputError
from overread.core.files import build, plain
from overread.evaluation.results import Content, Result, drawn, estimates, from_file_form, to_file_form
from overread.stats.estimate import Difference, Estimate, implied, undefined
from overread.stats.hypotheses import Claim, non_inferiority


def again(kind, held):
    return build(kind, json.loads(json.dumps(plain(held))), null_is_nan=True)


def test_numbers_that_json_has_not_come_back():
    sides = Estimate("auc", 0.9, 0.8, 1.0), Estimate("auc", 0.7, 0.6, 0.8)
    for value in (0.2, -0.2):
        made = implied(*sides, Estimate("auc difference", value, value, value))
        assert math.isinf(made.statistic)
        assert again(Difference, made) == made
    claim = non_inferiority(Estimate("auc difference", 0.0, 0.0, 0.0), 0.1)
    assert claim.statistic == math.inf
    assert again(Claim, claim) == claim
    lost = again(Claim, non_inferiority(undefined("auc difference", "0 positives"), 0.1))
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


@dataclass(frozen=True, eq=False)
class Found(Result):
    file: ClassVar[str] = "found.json"

    estimates: tuple[Estimate, ...]
    best: float = math.nan
    ends: tuple[float, float] = (0.0, 1.0)
    rows: tuple[dict[str, float], ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    def table(self) -> str:
        return f"best {self.best}"


def test_a_result_comes_back_from_its_two_files(tmp_path):
    made = Found(
        (undefined("auc", "0 positives"),), ends=(math.nan, 2.0), rows=({"a": math.nan},), about={"note": None}
    )
    assert made.save(tmp_path) == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "metrics.json"]
    back = Found.load(tmp_path)
    assert back == made
    assert all(map(math.isnan, (back.best, back.ends[0], back.rows[0]["a"], back.estimates[0].value)))
    assert back.about == {"note": None}, "only where a number is meant"


@pytest.mark.parametrize("held", ["[]", "null", "{", '{"ends": 1}', '{"best": "much"}'])
def test_damaged_results_are_said(tmp_path, held):
    Found(()).save(tmp_path)
    (tmp_path / "found.json").write_text(held)
    with pytest.raises(InputError, match=r"found\.json"):
        Found.load(tmp_path)


def test_null_is_refused_where_nothing_says_that_it_is_a_number():
    with pytest.raises(InputError, match="value is wrong"):
        build(Estimate, {"metric": "auc", "value": None})


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
    assert Found((), 1.0) == Found((), 1.0) != Found((), 2.0)
    assert len({Found((), 1.0), Found((), 1.0)}) == 1
    assert str(Found((), 3.0)) == "best 3.0"


@dataclass(frozen=True)
class Band(Content):
    null_low: tuple[float, ...] = ()
    level: float = 0.95
    at: float | None = None


@dataclass(frozen=True)
class Both(Content):
    held_out: Band = Band()
    by_name: dict[str, Band] = field(default_factory=dict)


def test_the_words_of_a_name_are_apart_in_a_file():
    made = Both(Band((0.1, math.nan), at=0.5), {"a name": Band(undefined="0 positives"), "none": Band()})
    held = json.loads(json.dumps(plain(to_file_form(made))))
    assert held == {
        "held out": {"null low": [0.1, None], "level": 0.95, "at": 0.5},
        "by name": {"a name": {"undefined": "0 positives"}, "none": {}},
    }
    back = from_file_form(Both, held)
    assert to_file_form(back.by_name) == held["by name"]
    assert back.held_out.null_low[0] == 0.1
    assert math.isnan(back.held_out.null_low[1])
    assert [bool(band) for band in (back.held_out, *back.by_name.values())] == [True, False, False]


def test_what_another_version_wrote_is_left_out_and_a_wrong_type_is_named():
    assert from_file_form(Both, {"held-out": {"level": 0.9, "colour": "red"}, "new": 1}).held_out.level == 0.9
    with pytest.raises(InputError, match=r"x\.json: held_out\.level is wrong"):
        from_file_form(Both, {"held out": {"level": "much"}}, where="x.json")

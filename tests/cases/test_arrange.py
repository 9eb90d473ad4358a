"""Which images of a case stand in which place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from overread.cases.arrange import MOST_VIEWS, arrange
from overread.cases.cases import Cases, times
from overread.core.errors import ArgumentError, InputError
from overread.tasks.target import Target

TARGET = Target("binary", ("n", "p"), ("p",))


def cases_of(case, view="", time="") -> Cases:
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(case))], "case": list(case), "patient": list(case), "source": "", "view": view,
                          "time": time, "split": "", "label": "n"})  # fmt: skip
    return Cases(table, TARGET)


def test_each_view_has_its_place_whatever_the_order_of_the_rows() -> None:
    found = arrange(cases_of("abab", ["R", "L", "L", "R"]), "concat")
    assert found.views == ("L", "R")
    assert found.rows.tolist() == [[2, 0], [1, 3]]
    assert found.first.tolist() == [0, 1]
    assert not found.notes


def test_a_missing_view_is_counted_by_its_name() -> None:
    found = arrange(cases_of("aabcc", ["L", "R", "L", "L", "R"]), "stacked")
    assert found.rows.tolist() == [[0, 1], [2, -1], [3, 4]]
    assert found.notes == ("1 of 3 cases lack views, which count as missing: R 1",)


@pytest.mark.parametrize("written", [["L-CC", "l-cc"], [" L-CC", "L-CC "], ["L  CC", "l cc"]])
def test_views_are_the_same_in_capitals_and_spaces(written) -> None:
    found = arrange(cases_of("abab", [*written, "R", "R"]), "concat")
    assert len(found.views) == 2
    assert found.rows.tolist() == [[0, 2], [1, 3]]


def test_places_are_those_that_the_model_knows() -> None:
    found = arrange(cases_of("ab", ["R", "L"]), "concat", views=("L", "M", "R"))
    assert found.rows.tolist() == [[-1, -1, 0], [1, -1, -1]]
    with pytest.raises(InputError, match="does not know a view.*'X', 1 image; known: L, R"):
        arrange(cases_of("aa", ["L", "X"]), "concat", views=("L", "R"))


@pytest.mark.parametrize(
    ("case", "view", "said"),
    [("aabb", ["L", "R", "", "R"], "needs the view of every image.*1 of 4 images"),
     ("aab", "", "--view"),
     ("aa", ["L", "L"], "needs two to 32 views"),
     ("aaab", ["L", "R", "R", "L"], "more than one image of one view.*1 case, first view 'R'"),
     ("a" * 40, [f"slice {i}" for i in range(40)], f"needs two to {MOST_VIEWS} views.*40")],
)  # fmt: skip
def test_what_cannot_be_put_side_by_side_is_refused_with_its_number(case, view, said) -> None:
    with pytest.raises(InputError, match=said):
        arrange(cases_of(case, view), "concat")


@pytest.mark.parametrize(
    "time", [["3", "1", "2"], ["2020-02-01", "2019-12-31", "2020-01-05"], ["10", "2", "9.5"], ["2020-02-01", "1999", "2000-06"]]
)  # fmt: skip
def test_images_stand_in_the_order_of_time(time) -> None:
    assert arrange(cases_of("aaa", time=time), "recurrent").rows.tolist() == [[1, 2, 0]]


@pytest.mark.parametrize(
    ("time", "said"),
    [(["1", "", "2"], "time of every image.*1 of 3"), ("", "3 of 3"), (["1", "soon", "2"], "can be read"), (["1", "1.0", "2"], "same time.*1 case of 1")],
)  # fmt: skip
def test_without_an_order_nothing_is_followed(time, said) -> None:
    with pytest.raises(InputError, match=said):
        arrange(cases_of("aaa", time=time), "recurrent")


def test_the_same_time_in_two_cases_is_no_tie() -> None:
    assert arrange(cases_of("abab", time=["1", "1", "2", "0"]), "recurrent").rows.tolist() == [[0, 2], [3, 1]]


def test_a_limit_takes_images_evenly_and_says_what_it_leaves_out() -> None:
    found = arrange(cases_of("aaaaaaabb", view=[str(i) for i in range(9)]), "attention", most=3)
    assert found.rows.tolist() == [[0, 3, 6], [7, 8, -1]]
    assert found.left_out == (4, 1)
    assert "4 images of 1 case left out" in found.notes[0]
    assert "images_per_case" in found.notes[0]
    assert found.shown == "2 to 7 images"
    assert arrange(cases_of("aaaaa"), "mean", most=1).rows.tolist() == [[2]]
    whole = arrange(cases_of("aaaaaaabb"), "mean", most=7)
    assert whole.rows.shape == (2, 7)
    assert not whole.notes


def test_every_image_stands_in_one_place_of_its_case() -> None:
    rng = np.random.default_rng(0)
    names = rng.integers(0, 20, 100)
    found = arrange(cases_of([f"c{n}" for n in names], time=[str(t) for t in rng.permutation(100)]), "recurrent")
    assert sorted(found.rows[found.present]) == list(range(100))
    for row in found.rows:
        assert len(set(names[row[row >= 0]])) == 1
        assert (row[: (row >= 0).sum()] >= 0).all()  # nothing missing before the last


def test_a_fusion_that_is_none_is_refused() -> None:
    with pytest.raises(ArgumentError, match="fusion"):
        arrange(cases_of("aa"), "single")


def test_times_of_numbers_and_dates() -> None:
    assert times(pd.Series(["7", "1e1", " "])).tolist()[:2] == [7.0, 10.0]
    dates = times(pd.Series(["2020-01-02", "2020-01-01T23:00:00", "", "no"]))
    assert dates[0] > dates[1]
    assert np.isnan(dates[2:]).all()

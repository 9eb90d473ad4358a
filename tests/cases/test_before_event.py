"""How long before its event each image of a case was taken."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from overread.cases.before_event import asked_moments, followed
from overread.cases.cases import Cases
from overread.core.errors import InputError
from overread.tasks.target import Target


def cases_of(rows: list[tuple[str, str, str, str]]) -> Cases:
    """Cases of (case, time, event, marker)."""
    case, time, event, marker = (list(each) for each in zip(*rows, strict=True))
    blank = [""] * len(rows)
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(len(rows))], "case": case, "patient": case, "source": blank, "view": blank,
                          "time": time, "split": blank, "label": ["a"] * len(rows), "event": event, "marker": marker})  # fmt: skip
    return Cases(table, Target("binary", ("a", "b"), ("b",)))


TRACKS = [
    ("A", "1.0", "2.0", "1.8"), ("A", "1.7", "2.0", "1.8"), ("A", "2.0", "2.0", "1.8"), ("A", "2.5", "2.0", "1.8"),
    ("B", "10", "10.3", ""), ("C", "4", "", ""), ("D", "7", "6", "6.5"),
]  # fmt: skip


def test_images_up_to_a_time_before_the_event() -> None:
    found = followed(cases_of(TRACKS), "event", "marker")
    assert found.before == pytest.approx([1.0, 0.3, 0.0, -0.5, 0.3, math.nan, -1.0], nan_ok=True)
    assert list(found.until(0.0).table["image"]) == ["0.png", "1.png", "2.png", "4.png"]
    assert list(found.until(0.3).table["image"]) == ["0.png", "1.png", "4.png"]  # 10.3 − 10 and 2 − 1.7 are .3, rounded
    assert list(found.until(0.5).table["image"]) == ["0.png"]
    assert len(found.until(9)) == 0
    assert found.marked == pytest.approx({"A": 0.2, "B": math.nan, "C": math.nan, "D": -0.5}, nan_ok=True)
    assert found.notes == ("1 case of 4 left out: without the time of an event (event)",
                           "2 images taken after the event are never shown")  # fmt: skip


def test_dates_are_told_in_days_and_times_may_be_relative() -> None:
    dated = [("A", "2024-05-01", "2024-05-11", ""), ("A", "2024-05-10T12:00", "2024-05-11", "")]
    found = followed(cases_of(dated), "event")
    assert (found.unit, found.before.tolist()) == ("days", [10.0, 0.5])
    relative = followed(cases_of([("A", "-1.5", "", ""), ("A", "-.2", "", ""), ("B", "0.1", "", "")]), "0")
    assert relative.before.tolist() == [1.5, 0.2, -0.1]


def test_the_moments_that_nobody_asked_for_are_round_and_reach_to_where_half_of_the_cases_begin() -> None:
    rows = [(f"c{i}", f"{10 - far}", "10", "") for i, far in enumerate((0.4, 1.2, 1.25, 1.6, 2.0))]
    found = followed(cases_of(rows), "event")
    assert found.moments() == (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
    assert asked_moments(["0.5", "0", "0.3"], found) == (0.0, 0.3, 0.5)
    assert asked_moments([], found) == found.moments()
    for wrong in (["soon"], ["-1"], ["0.3", "0.3"], ["nan"]):
        with pytest.raises(InputError, match="before-event"):
            asked_moments(wrong, found)


@pytest.mark.parametrize(
    ("rows", "event", "said"),
    [
        ([("A", "", "2", ""), ("A", "1", "2", "")], "event", "without a time"),
        ([("A", "1", "2", ""), ("A", "2", "3", "")], "event", "more than one 'event'"),
        ([("A", "1", "2", ""), ("A", "2", "", "")], "event", "more than one 'event'"),
        ([("A", "1", "", ""), ("A", "2", "", "")], "event", "no case has an event"),
        ([("A", "1", "late", "")], "event", "what is no time"),
        ([("A", "1", "2", "")], "evnt", "no column 'evnt'"),
        ([("A", "2024-05-01", "17", "")], "event", "holds numbers"),
        ([("A", "2024-05-01", "2024-05-02", "")], "0", "times that are numbers"),
    ],
)
def test_what_has_no_order_in_time_is_refused_with_what_to_do(rows, event, said) -> None:
    with pytest.raises(InputError, match=said):
        followed(cases_of(rows), event)


def test_many_images_take_a_moment() -> None:
    rng = np.random.default_rng(0)
    many = 20_000
    case = np.sort(rng.integers(0, 1600, many)).astype(str)
    rows = [(c, f"{t:.4f}", "3", "") for c, t in zip(case, rng.uniform(0, 3, many), strict=True)]
    found = followed(cases_of(rows), "event")
    assert len(found.until(1.5)) == int((found.before >= 1.5).sum())

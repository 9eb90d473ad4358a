"""A paper's numbers with ours beside them."""

from __future__ import annotations

import math

import pytest

from overread.core.errors import ArgumentError, InputError
from overread.core.files import write_json
from overread.evaluation.comparison.beside_paper import BesidePaper, Place, PublishedNumber, beside_paper
from overread.stats.estimate import Estimate

AUC = Estimate("auc", 0.9, 0.8, 0.95, of="ill")
OF_WOMEN = Estimate("auc", 0.7, 0.5, 0.8, of="ill", where={"sex": "female"})


@pytest.fixture
def run(tmp_path):
    write_json(
        tmp_path / "evaluation" / "metrics.json",
        [AUC, OF_WOMEN, Estimate("f1", 0.5, of="a"), Estimate("f1", 0.6, of="b")],
    )
    write_json(tmp_path / "readers" / "other.json", [Estimate("kappa", math.nan, undefined="one reader")])
    return tmp_path


def number(place: Place | None, why: str = "") -> PublishedNumber:
    return PublishedNumber("a number", 0.93, "Table 1", ours=place, why=why)


def test_each_number_has_ours_beside_it_or_the_reason(run) -> None:
    places = [Place("evaluation", "auc"), Place("evaluation", "auc", "ill", {"sex": "female"}), Place("evaluation", "f1", "b"),
              Place("evaluation", "f1"), Place("evaluation", "brier"), Place("curve", "auc"), Place("readers/other.json", "kappa")]  # fmt: skip
    found = beside_paper(run, [*map(number, places), number(None, "no such cases here")], system="x", paper="X 2016", left_out=["curve: no time"])  # fmt: skip
    assert [row.ours.value if row.ours else None for row in found.rows[:6]] == [0.9, 0.7, 0.6, None, None, None]
    said = found.table()
    assert "not found: f1 in evaluation/metrics.json: there is one of a, b" in said
    assert "not found: brier" in said
    assert "not made: auc in curve/metrics.json" in said
    assert "– no such cases here" in said
    assert "left out: curve: no time" in said
    assert found.rows[6].ours.undefined == "one reader"
    home = found.save(run / "published")
    again = BesidePaper.load(home)
    assert again.table() == said
    assert again == found


def test_a_number_without_ours_and_without_reason_is_refused() -> None:
    for place, why in ((None, ""), (Place("evaluation", "auc"), "and a reason")):
        with pytest.raises(ArgumentError, match="ours beside it, or why"):
            number(place, why)


def test_a_damaged_file_is_named(run) -> None:
    write_json(run / "evaluation" / "metrics.json", {"auc": 1})
    with pytest.raises(InputError, match="damaged"):
        beside_paper(run, [number(Place("evaluation", "auc"))], system="x", paper="X 2016")

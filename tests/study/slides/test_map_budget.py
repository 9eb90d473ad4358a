"""How a budget is dealt between training and heat maps, and what is said of it."""

from __future__ import annotations

import math
import re

import pytest
from tests.fixtures.drawn_slides import draw_study

from overread.cases.split import split
from overread.core.progress import Clock
from overread.images.slides.tile_settings import Tiles
from overread.learning.recipe import Recipe
from overread.slides.map_forecast import MapForecast
from overread.study import steps
from overread.study.context import RunContext
from overread.study.slides import map_budget
from overread.study.slides.map_budget import LEAST_TRAINING, ROOM, MapBudget

from .test_slide_run import study_of


def forecast(seconds: float, views: int = 8) -> MapForecast:
    return MapForecast(slides=30, places=3000, magnifications=2, views=views, seconds=seconds)


def test_maps_that_fit_are_kept_their_time():
    plan = MapBudget(forecast(100.0), left=600.0, closing=40.0)
    assert plan.reserve == ROOM * 100 + 40
    assert plan.beyond == 0
    assert plan.line(Tiles()) == "  time: 2 min of the budget are kept for the heat maps of 30 slides, 6,000 tiles in 8 orientations"  # fmt: skip


def test_maps_that_do_not_fit_leave_training_its_share_and_are_told_with_what_is_quicker():
    plan = MapBudget(forecast(1500.0), left=600.0, closing=40.0)
    assert 600 - plan.reserve == LEAST_TRAINING * 600
    over = 1500 * ROOM + 40 + LEAST_TRAINING * 600 - 600
    assert plan.beyond == pytest.approx(over)
    line = plan.line(Tiles())
    assert f"outlast its budget by about {math.ceil(over / 60)} min" in line
    assert f"--set views=1 (about {math.ceil(1500 * ROOM / 8 / 60)} min)" in line
    assert f"--set tiles.stride=256 (about {math.ceil(1500 * ROOM / 4 / 60)} min)" in line
    assert "--set views" not in MapBudget(forecast(1500.0, views=1), left=600.0, closing=40.0).line(Tiles())


@pytest.mark.parametrize(("stride", "fits"), [(64, True), (128, True), (129, False), (256, False)])
def test_a_coarser_stride_is_advised_where_tiles_take_it(stride, fits):
    """The default size is 256."""
    line = MapBudget(forecast(1500.0), left=600.0, closing=40.0).line(Tiles(stride=stride))
    assert [int(wide) for wide in re.findall(r"tiles\.stride=(\d+)", line)] == ([2 * stride] if fits else [])
    for wide in re.findall(r"tiles\.stride=(\d+)", line):
        Tiles(stride=int(wide))  # is not refused


def test_where_nothing_is_quicker_only_a_longer_budget_is_named():
    line = MapBudget(forecast(1500.0, views=1), left=600.0, closing=40.0).line(Tiles(stride=256))
    assert line.endswith(". It needs a longer --budget")
    assert "Quicker" not in line


def test_a_coarser_stride_spares_no_tile_of_a_bag():
    found = MapForecast(slides=30, places=3000, magnifications=1, views=1, seconds=4000.0, bagged=1000)
    line = MapBudget(found, left=600.0, closing=40.0).line(Tiles())
    assert "the heat maps and bags of 30 slides, 4,000 tiles" in line
    assert f"--set tiles.stride=256 (about {math.ceil((3000 / 4 + 1000) * ROOM / 60)} min)" in line


@pytest.mark.parametrize("left", [600.0, 150.0, 100.0, 20.0, -5.0], ids=lambda left: f"{left:g} s left")
def test_what_is_told_adds_up(left):
    """What training has, the maps and the end, less what is left; also where the end alone takes more than three quarters of it."""
    plan = MapBudget(forecast(500.0), left=left, closing=90.0)
    training = max(0.0, left - plan.reserve)
    assert plan.training == training
    assert plan.beyond == pytest.approx(training + 500 * ROOM + 90 - left)
    assert f"outlast its budget by about {math.ceil(plan.beyond / 60)} min" in plan.line(Tiles())


def test_what_cannot_be_timed_keeps_what_comes_after_the_maps():
    plan = MapBudget(forecast(math.nan), left=600.0, closing=40.0)
    assert plan.reserve == 40.0
    assert "not known" in plan.line(Tiles())


def test_a_budget_that_is_gone_keeps_no_less_than_the_end():
    assert MapBudget(forecast(10.0), left=-5.0, closing=40.0).reserve == 40.0


def test_training_is_given_the_reserve_of_the_recipe_that_was_settled(tmp_path, monkeypatch):
    """Only the slides of tuning and test are counted, and without a budget nothing is timed."""
    from overread.slides import map_forecast

    table, asked = draw_study(tmp_path / "drawn", patients=12, small=0), list[tuple[int, int]]()

    def foretold(cases, recipe, **_):
        asked.append((len(cases), recipe.views))
        return forecast(25.0 * recipe.views)

    monkeypatch.setattr(map_forecast, "forecast_recipe", foretold)
    study = study_of(table, budget="10m")
    study, cases = steps.open_study(study, tmp_path / "run")
    context = RunContext(study, tmp_path / "run", tmp_path / "cache", clock=Clock(600.0), table=cases)
    parts = split(cases, test=0.4, tuning=0.3)
    reserve, many = map_budget.reserve_for_maps(context, cases, parts), len(cases) - len(parts.rows(cases, "train"))
    for views in (2, 8):
        seconds, line = reserve(Recipe(views=views))
        assert seconds == pytest.approx(25 * views * ROOM + context.closing)
        assert "are kept for the heat maps" in line
    assert asked == [(many, 2), (many, 8)]
    endless = RunContext(study, tmp_path / "run", tmp_path / "cache", table=cases)
    assert map_budget.reserve_for_maps(endless, cases, parts) == context.closing

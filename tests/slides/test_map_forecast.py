"""What heat maps will take, told before a network is trained and before the first map."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from overread.cases.cases import Cases
from overread.images.slides.slide import slide_at
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import TissueSettings, find_tissue
from overread.learning.recipe import Recipe
from overread.slides import map_forecast
from overread.slides.map_forecast import MapForecast, forecast_recipe, seconds_a_place
from overread.slides.map_slide import map_job
from overread.slides.tile_answers import TileAnswers, largest_batch

from .conftest import TUMOUR, Redness

TILES = Tiles(size=32, centre=16, stride=32, mpp=(1.0,), tissue=TissueSettings(sharpness=0.0, mpp=4.0))
RECIPE = Recipe(method="scratch", backbone="lenet5", tiles=TILES)


@pytest.fixture
def cases(make_slide, tmp_path) -> Cases:
    """Two slides with tissue, one of glass alone, one that cannot be read."""
    files = [make_slide(160, 208, seed=1), make_slide(200, 160, seed=2), make_slide(160, 160, glass=True)]
    (broken := tmp_path / "none.tif").write_bytes(b"nothing")
    table = pd.DataFrame({"image": [f"{file}#slide" for file in [*files, broken]], "case": list("abcd")})
    table = table.assign(patient=table["case"], source="", view="", time="", split="", label=["tumour", "normal"] * 2)
    return Cases(table, TUMOUR)


def places_by_hand(address: str, tiles: Tiles) -> int:
    """The middles of a grid over the slide of which enough is tissue, each asked for by itself."""
    slide = slide_at(address)
    tissue, (width, height) = find_tissue(slide, tiles.tissue), slide.size
    middles = [(x + tiles.step / 2, y + tiles.step / 2) for y in np.arange(0, height - 1e-6, tiles.step) for x in np.arange(0, width - 1e-6, tiles.step)]  # fmt: skip
    return sum(float(tissue.covered(np.array([x]), np.array([y]), tiles.middle)[0]) >= tiles.least_tissue for x, y in middles)  # fmt: skip


def test_places_are_those_of_all_slides_that_have_tissue(cases, tmp_path):
    found = forecast_recipe(cases, RECIPE, cache=tmp_path / "cache", threads=1, workers=1)
    assert found.slides == 2
    assert found.places == sum(places_by_hand(address, TILES) for address in cases.table["image"][:2])
    assert (found.magnifications, found.views) == (1, 8)  # as tiles settle the recipe
    assert 0 < found.seconds < 60


def test_no_slide_with_tissue_takes_no_time(cases, tmp_path):
    found = forecast_recipe(cases.take([2, 3]), RECIPE, cache=tmp_path / "cache")
    assert (found.slides, found.places, found.seconds) == (0, 0, 0.0)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(method="scratch", backbone="lenet5", tiles=Tiles(size=32, centre=16, stride=32, mpp=(1.0, 2.0))),
        Recipe(
            method="scratch",
            backbone="lenet5",
            tiles=Tiles(size=32, centre=16, stride=32, mpp=(1.0,), pooling="attention"),
        ),
        Recipe(method="features", descriptors=("intensity",), tiles=TILES),
        Recipe(tiles=TILES, filters=0.25),
    ],
    ids=["two magnifications", "attention", "descriptors", "nothing said"],
)
def test_every_kind_of_recipe_has_a_stand_in(cases, recipe, tmp_path):
    found = forecast_recipe(cases.take([0]), recipe, cache=tmp_path / "cache", threads=1, workers=1)
    assert found.places > 0
    assert found.magnifications == len(recipe.tiles.mpp)
    assert 0 < found.seconds < 120


def test_a_place_takes_its_share_of_a_batch_and_of_its_block(cases, slide_model, monkeypatch):
    """Everything takes a tenth of a second: reading the block, and each pass of a batch of its places."""
    job = map_job(slide_model(Redness(), TILES), slide_at(cases.table["image"][0]))
    block, passes = map_forecast._fullest(job), list[int]()

    class Counted(TileAnswers):
        def __call__(self, tiles):
            passes.append(len(tiles))
            return super().__call__(tiles)

    monkeypatch.setattr(map_forecast, "TileAnswers", Counted)
    monkeypatch.setattr(map_forecast, "_timed", lambda work: (0.1, work()))
    found = seconds_a_place(slide_model(Redness(), TILES), job, threads=1, workers=1)
    assert passes[0] <= min(largest_batch("cpu", TILES.size), len(block))
    assert len(set(passes)) == 1
    assert found == pytest.approx(0.1 / len(block) + 0.1 / passes[0])


def test_a_block_that_cannot_be_read_is_no_forecast(cases, slide_model, monkeypatch):
    from overread.core.errors import ImageError

    def torn(*_):
        raise ImageError("torn")

    monkeypatch.setattr(map_forecast, "read_block", torn)
    model = slide_model(Redness(), TILES)
    assert math.isnan(seconds_a_place(model, map_job(model, slide_at(cases.table["image"][0]))))
    assert MapForecast(1, 20, 1, 1, math.nan).line == "  20 tiles of 1 slide will be read"

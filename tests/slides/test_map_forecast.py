"""What heat maps will take, told before a network is trained and before the first map."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from overread.cases.cases import Cases
from overread.images.slides.slide import slide_at
from overread.images.slides.tile_settings import Tiles
from overread.images.slides.tissue import TissueSettings, find_tissue
from overread.learning.recipe import Recipe
from overread.networks import weights as stores
from overread.slides import map_forecast
from overread.slides.map_forecast import MapForecast, forecast_recipe, seconds_a_place
from overread.slides.map_slide import map_job
from overread.slides.tile_answers import TileAnswers, largest_batch
from overread.slides.tile_classifier import train_on_slides

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


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """How many places each pass of a network was asked of. Everything takes a tenth of a second: reading a block, and each pass."""
    found = list[int]()

    class Counted(TileAnswers):
        def __call__(self, tiles):
            found.append(len(tiles))
            return super().__call__(tiles)

    monkeypatch.setattr(map_forecast, "TileAnswers", Counted)
    monkeypatch.setattr(map_forecast, "_timed", lambda work: (0.1, work()))
    return found


def places_of_fullest_block(cases: Cases, recipe: Recipe) -> int:
    """Of the slide with the most places."""
    model = map_forecast._stand_in(cases, recipe, None, "cpu")
    jobs = [map_job(model, slide_at(address)) for address in cases.table["image"][:2]]
    return len(map_forecast._fullest(max(jobs, key=lambda job: job.wanted)))


def test_places_are_those_of_all_slides_that_have_tissue(cases, passes, tmp_path):
    found = forecast_recipe(cases, RECIPE, cache=tmp_path / "cache", threads=1, workers=1)
    assert found.slides == 2
    assert found.places == sum(places_by_hand(address, TILES) for address in cases.table["image"][:2])
    assert (found.magnifications, found.views) == (1, 8)  # as tiles settle the recipe
    each = 0.1 / places_of_fullest_block(cases, RECIPE) + 0.1 / passes[0]
    assert found.seconds == pytest.approx(found.places * each)


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
def test_every_kind_of_recipe_has_a_stand_in(cases, recipe, passes, tmp_path):
    found = forecast_recipe(cases.take([0]), recipe, cache=tmp_path / "cache", threads=1, workers=1)
    assert found.places > 0
    assert found.magnifications == len(recipe.tiles.mpp)
    each = 0.1 / places_of_fullest_block(cases.take([0]), recipe) + 0.1 / passes[0]
    assert found.seconds == pytest.approx((found.places + found.bagged) * each)


def test_attention_reads_the_tiles_of_bags_besides(cases, passes, tmp_path):
    """At most five of each slide with tissue; one of the whole tissue of a slide has all of its places."""
    counts = [places_by_hand(address, TILES) for address in cases.table["image"][:2]]
    for bag in (5, 4096):
        recipe = RECIPE.changed(tiles=replace(TILES, pooling="attention", bag=bag))
        found = forecast_recipe(cases, recipe, cache=tmp_path / "cache", threads=1, workers=1)
        assert found.places == sum(counts)
        assert found.bagged == sum(min(bag, many) for many in counts)
        assert found.tiles == found.places + found.bagged
        each = 0.1 / places_of_fullest_block(cases, recipe) + 0.1 / passes[-1]
        assert found.seconds == pytest.approx(found.tiles * each)
    assert forecast_recipe(cases, RECIPE, cache=tmp_path / "cache", threads=1, workers=1).bagged == 0


# -- what stands in for a network is as the one that is trained ----------------------------------------------------------


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """A folder with one file of "pretrained" weights, drawn from a seed."""
    from torchvision.models import squeezenet1_1

    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(squeezenet1_1(weights=None).state_dict(), folder / "squeezenet1_1_seeded.safetensors")
    return folder


@pytest.mark.parametrize(
    ("method", "pooling", "at_hand", "made"),
    [
        ("features", "tiles", True, ("features", "squeezenet1_1", 2)),
        ("finetune", "tiles", True, ("finetune", "squeezenet1_1", 8)),
        ("scratch", "tiles", True, ("scratch", "unet_small", 8)),
        ("auto", "tiles", True, ("finetune", "squeezenet1_1", 8)),
        pytest.param("auto", "tiles", False, ("scratch", "unet_small", 8), marks=pytest.mark.slow),
        pytest.param("features", "attention", True, ("features", "squeezenet1_1", 1), marks=pytest.mark.slow),
    ],
    ids=["features", "finetune", "scratch", "auto", "auto without weights", "features of bags"],
)
def test_the_stand_in_is_as_what_is_trained(
    method, pooling, at_hand, made, weights, tiny_slides, tiny_split, slide_cache, monkeypatch
):
    monkeypatch.setattr(stores, "PACKAGES", ())  # what is installed here decides nothing
    tiles = Tiles(size=32, mpp=(2.0,), centre=16, stride=32, jitter=4, number=24, pooling=pooling, bag=4)
    recipe = Recipe(method=method, epochs=1, batch_size=8, precision="float32", penalties=(1e-2,), folds=2, tiles=tiles)
    folder = weights if at_hand else None
    trained = train_on_slides(tiny_slides, tiny_split, recipe, weights=folder, cache=slide_cache, threads=1, device="cpu", network=False)  # fmt: skip
    stand_in = map_forecast._stand_in(tiny_slides, recipe, folder, "cpu")
    for model in (trained, stand_in):
        settled = model.about.recipe
        assert (settled.method, settled.backbone, settled.views) == made
    for field in ("size", "channels"):
        assert getattr(stand_in.about.preprocess, field) == getattr(trained.about.preprocess, field)
    assert stand_in.about.views == trained.about.views
    layouts = [{name: tensor.shape for name, tensor in model.network.state_dict().items()} for model in (trained, stand_in)]  # fmt: skip
    assert layouts[0] == layouts[1]


def test_the_stand_in_draws_nothing_of_the_generator_of_training(cases):
    before = torch.get_rng_state()
    made = [map_forecast._stand_in(cases, RECIPE, None, "cpu") for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert made[0].digest == made[1].digest


# -- how long a place takes -----------------------------------------------------------------------------------------------


def test_a_place_takes_its_share_of_a_batch_and_of_its_block(cases, slide_model, passes):
    job = map_job(slide_model(Redness(), TILES), slide_at(cases.table["image"][0]))
    block = map_forecast._fullest(job)
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

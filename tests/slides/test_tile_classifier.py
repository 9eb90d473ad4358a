"""Training on tiles: what is settled, rounds of hard negatives, and the same bytes again."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from overread.cases.split import Split
from overread.core.errors import InputError, UnavailableError, UnsoundError
from overread.core.progress import Clock, silent, unheard
from overread.images.augment import Augmentation, draw
from overread.images.slides.tile_settings import Tiles
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.slides import tile_classifier
from overread.slides.drawn_tiles import TileTable
from overread.slides.tile_classifier import SlideTraining, train_on_slides
from overread.slides.tile_recipe import TURNED_AND_STAINED, settle_recipe

TILES = Tiles(size=32, mpp=(2.0,), centre=16, stride=16, jitter=4, number=48)
TINY = Recipe(method="scratch", backbone="cnn_small", epochs=1, batch_size=16, learning_rate=2e-3, precision="float32", tiles=TILES, seed=2)  # fmt: skip


@pytest.fixture
def taught(tiny_slides, tiny_split, slide_cache):
    def train(recipe: Recipe = TINY, **how) -> Model:
        return train_on_slides(
            tiny_slides, tiny_split, recipe, cache=slide_cache, **{"threads": 1, "device": "cpu", **how}
        )

    return train


def test_a_model_of_tiles_knows_how_slides_are_cut_and_whom_it_saw(taught, tiny_slides, tiny_split, tmp_path):
    said: list[str] = []
    model = taught(say=said.append, threads=2)
    assert model.about.recipe.tiles == TILES
    assert model.target == tiny_slides.target
    assert model.about.preprocess.size == (32, 32)
    known = tiny_slides.table.loc[np.union1d(tiny_split.rows(tiny_slides, "train"), tiny_split.rows(tiny_slides, "tuning")), "patient"]  # fmt: skip
    assert model.has_seen(known.tolist()) == len(known) == 6
    assert not model.has_seen(tiny_slides.only(tiny_split, "test").table["patient"].tolist())
    assert any("tumour 24 tiles of 2 slides of 2 patients" in line for line in said)
    assert any("KB of the cache" in line or "MB of the cache" in line for line in said)
    assert Model.load(model.save(tmp_path)).digest == model.digest


def test_what_tiles_settle():
    recipe, told = settle_recipe(Recipe(method="scratch", tiles=replace(TILES, mpp=(0.5, 1.0))))
    assert (recipe.fusion, recipe.image_size, recipe.views, recipe.members, recipe.backbone) == (
        "concat",
        32,
        8,
        1,
        "unet_small",
    )
    assert recipe.augmentation == TURNED_AND_STAINED
    assert {each.what for each in told} == {"magnifications", "backbone", "augmentation", "orientations"}
    own = Augmentation(flip_horizontal=0.5)
    kept, _ = settle_recipe(
        Recipe(method="scratch", augment="given", augmentation=own, views=1, fusion="single", tiles=TILES)
    )
    assert (kept.augmentation, kept.views, kept.fusion) == (own, 1, "single")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": 64}, "shown as they are"),
        ({"members": 5}, "one network"),
        ({"fusion": "concat"}, "one magnification"),
    ],
)
def test_what_does_not_go_with_tiles_is_refused(fields, words):
    with pytest.raises(InputError, match=words):
        settle_recipe(Recipe(method="scratch", tiles=TILES, **fields))


def test_the_augmentation_of_the_paper_has_eight_orientations_alike():
    drawn = draw(TURNED_AND_STAINED, seed=1, epoch=0, samples=np.arange(8000), size=(32, 32), channels=3)
    linear = np.rint(drawn.matrices[:, :, :2]).reshape(-1, 4).astype(int)
    kinds, many = np.unique(linear, axis=0, return_counts=True)
    assert len(kinds) == 8
    assert ((many - 1000) ** 2 / 1000).sum() < 24.3  # chi² of 7 degrees: p = .001
    assert np.abs(drawn.brightness).max() <= 64 / 255
    assert np.abs(drawn.hue).max() <= 0.04


def test_the_plan_is_by_time_and_disk(tmp_path, monkeypatch):
    recipe, _ = settle_recipe(Recipe(method="scratch", tiles=replace(TILES, number=0)))

    def planned(recipe: Recipe, clock: Clock, reserve: float = 0.0):
        return tile_classifier._planned(recipe, None, tmp_path, "cpu", clock, lambda _: reserve)

    usual = planned(recipe, Clock())
    assert usual.number == tile_classifier.USUAL
    assert "usual" in usual.decisions[-1].why
    monkeypatch.setattr(tile_classifier, "make_probe", lambda *_: lambda *_: 0.08)  # 10 ms a tile
    assert planned(recipe, Clock(1000.0), 100.0).number == pytest.approx(0.7 * 900 / (8 * 0.01), rel=0.01)
    assert planned(recipe.changed(epochs=16), Clock(1000.0), 100.0).number == pytest.approx(0.7 * 900 / (16 * 0.01), rel=0.01)  # fmt: skip
    few = planned(recipe, Clock(20.0))
    assert (few.number, few.method) == (tile_classifier.FEWEST, "scratch")
    assert "do not fit with the fewest, 1,024," in few.decisions[-1].why
    full = type("Usage", (), {"free": 20e6})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    small = planned(recipe, Clock())
    assert small.number * 32 * 32 * 3 * 1.25 <= 5e6
    assert "free disk" in small.decisions[-1].why
    with pytest.raises(UnavailableError, match="disk"):
        planned(recipe.changed(tiles=replace(TILES, number=10_000)), Clock())


def test_where_time_is_too_short_to_fine_tune_the_network_is_frozen(tmp_path, monkeypatch):
    """Its maps of two orientations leave more of the time than those of eight."""
    monkeypatch.setattr(tile_classifier, "make_probe", lambda *_: lambda *_: 0.08)  # 10 ms a tile
    recipe = Recipe(method="finetune", backbone="mobilenet_v2", image_size=32, views=8, tiles=replace(TILES, number=0))
    frozen = recipe.changed(method="features", views=2)

    def planned(seconds: float, frozen: Recipe | None = frozen, recipe: Recipe = recipe):
        return tile_classifier._planned(
            recipe, frozen, tmp_path, "cpu", Clock(seconds), lambda settled: 5.0 * settled.views
        )

    assert planned(140.0).method == "finetune", "4 passes of 1,024 tiles take 41 s of 100"
    plan = planned(90.0)
    assert plan.method == "features"
    assert plan.number == pytest.approx(0.7 * 80 / (2 * 0.01 / 3), rel=0.02)
    assert [each.what for each in plan.decisions] == ["method", "tiles"]
    assert "do not fit into 35 s: the network is frozen, and passed once" in plan.decisions[0].why
    asked = planned(110.0, None, frozen.changed(epochs=20))
    assert asked.number == pytest.approx(0.7 * 100 / (2 * 0.01 / 3), rel=0.01)
    assert planned(90.0, None).method == "finetune", "what is asked for is done"
    some = {
        "recipe": recipe.changed(tiles=replace(TILES, number=5000)),
        "frozen": frozen.changed(tiles=replace(TILES, number=5000)),
    }
    assert (planned(140.0, **some).method, planned(140.0, **some).number) == ("features", 5000)


def test_a_plan_counts_the_time_that_its_own_forecast_takes(tmp_path, monkeypatch):
    monkeypatch.setattr(tile_classifier, "make_probe", lambda *_: lambda *_: 0.08)  # 10 ms a tile
    recipe, clock = settle_recipe(Recipe(method="scratch", tiles=replace(TILES, number=0)))[0], Clock(1000.0)

    def reserve(_: Recipe) -> float:
        clock.credit(300.0)  # as finding tissue and timing a block do
        return 100.0

    plan = tile_classifier._planned(recipe, None, tmp_path, "cpu", clock, reserve)
    assert plan.number == pytest.approx(0.7 * 600 / (8 * 0.01), rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "method", "views", "kept"), [(1e9, "finetune", 8, 80.0), (60.0, "features", 2, 20.0)]
)
def test_training_leaves_what_the_maps_of_the_settled_recipe_take(seconds, method, views, kept, tiny_slides, tiny_split, slide_cache, folder, monkeypatch):  # fmt: skip
    """And what they are for is said once, of that recipe."""
    monkeypatch.setattr(tile_classifier, "make_probe", lambda *_: lambda *_: 0.08)
    held, said = dict[str, object](), list[str]()

    def stopped(self):
        held.update(method=self.recipe.method, views=self.recipe.views, reserve=self.reserve)
        raise KeyboardInterrupt

    monkeypatch.setattr(SlideTraining, "in_rounds", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_on_slides(tiny_slides, tiny_split, Recipe(tiles=replace(TILES, number=0)), weights=folder("resnet18"), cache=slide_cache, clock=Clock(seconds),
                        reserve=lambda recipe: (10.0 * recipe.views, f"maps in {recipe.views} orientations"), threads=1, device="cpu", say=said.append)  # fmt: skip
    assert held == {"method": method, "views": views, "reserve": kept}
    assert [line for line in said if "maps in" in line] == [f"maps in {views} orientations"]


def test_a_part_without_slides_is_refused(tiny_slides, slide_cache):
    split = Split(tiny_slides.table[["case", "patient"]].assign(part="train"), "by hand", 0)
    with pytest.raises(UnsoundError, match="no slides for training or for tuning"):
        train_on_slides(tiny_slides, split, TINY, cache=slide_cache)


@pytest.mark.slow
def test_rounds_add_what_was_taken_for_tumour_and_a_resumed_training_has_the_same_bytes(taught, tmp_path, monkeypatch):
    recipe = TINY.changed(tiles=replace(TILES, hard_negatives=1, hard_looked=40, hard_added=9))
    said: list[str] = []
    whole = taught(recipe, folder=tmp_path / "whole", say=said.append)
    assert any("tiles after round 1 of train: 57 — normal 33 tiles" in line for line in said)
    assert any("round of hard negatives" in line for line in said)
    looked = tile_classifier.SlideTraining.answers

    class Killed(Exception):
        pass

    def killed(*_):
        raise Killed

    monkeypatch.setattr(tile_classifier.SlideTraining, "harder", killed)
    with pytest.raises(Killed):
        taught(recipe, folder=tmp_path / "halves")
    monkeypatch.undo()
    assert taught(recipe, folder=tmp_path / "halves").digest == whole.digest
    asked: list[str] = []
    monkeypatch.setattr(tile_classifier.SlideTraining, "hardest", lambda *_: asked.append("looked again"))
    monkeypatch.setattr(tile_classifier.SlideTraining, "answers", looked)
    assert taught(recipe, folder=tmp_path / "halves").digest == whole.digest
    assert not asked


@pytest.mark.slow
def test_the_tiles_added_are_those_of_the_highest_score(taught, monkeypatch):
    held: dict[str, object] = {}
    whole = tile_classifier.SlideTraining.hardest

    def watched(self, model, part, table, done):
        found = whole(self, model, part, table, done)
        if part == "train":
            every = replace(self.recipe.tiles, hard_added=10**6)
            asked = whole(replace(self, recipe=self.recipe.changed(tiles=every)), model, part, table, done)
            held.update(found=self.answers(model, found, part)[:, 1], every=self.answers(model, asked, part)[:, 1])
            known = set(zip(table.table["slide"], table.table["place"]))
            assert not known & set(zip(found.table["slide"], found.table["place"]))
            assert not found.table["tumour"].any()
        return found

    monkeypatch.setattr(tile_classifier.SlideTraining, "hardest", watched)
    taught(TINY.changed(tiles=replace(TILES, hard_negatives=1, hard_looked=40, hard_added=9)))
    assert np.allclose(np.sort(held["found"]), np.sort(held["every"])[-9:])


def test_rounds_are_compared_on_tiles_that_no_model_chose(tiny_slides, monkeypatch):
    drawn = {part: TileTable(pd.DataFrame({"slide": [0], "place": [0]})) for part in ("train", "tuning")}
    added, asked = TileTable(pd.DataFrame({"slide": [1], "place": [5]})), list[int]()
    job = SlideTraining(tiny_slides, {}, TINY.changed(tiles=replace(TILES, hard_negatives=2)), None, "", Clock(), 0.0, 1, "cpu", silent, unheard, {})  # fmt: skip
    scores = {"model 0": 0.9, "model 1": 0.95, "model 2": 0.8}

    def score(self, model, table):
        asked.append(len(table))
        return scores[model]

    monkeypatch.setattr(SlideTraining, "first", lambda self: drawn)
    monkeypatch.setattr(SlideTraining, "told", lambda *_: [])
    monkeypatch.setattr(SlideTraining, "fit", lambda self, held, done: (f"model {done}", held))
    monkeypatch.setattr(SlideTraining, "harder", lambda self, model, held, done: {part: held[part].joined(added) for part in held})  # fmt: skip
    monkeypatch.setattr(SlideTraining, "score", score)
    monkeypatch.setattr(tile_classifier, "Model", str)
    model, told = job.in_rounds()
    assert model == "model 1"
    assert asked == [1, 1, 1]
    assert told[-1].choice.startswith("1 of 2")

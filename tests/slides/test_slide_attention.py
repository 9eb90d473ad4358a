"""Slides that are learned from their labels alone, by attention over their tiles."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from overread.cases.cases import paths
from overread.core.errors import InputError
from overread.images.read import read_image
from overread.images.slides.slide import open_slide
from overread.images.slides.tile_settings import Tiles
from overread.learning.device import to_tensor
from overread.learning.model import Model
from overread.learning.recipe import Recipe
from overread.slides.slide_attention import answer_slides, attention_of, bags_of
from overread.slides.tile_answers import TileAnswers
from overread.slides.tile_classifier import train_on_slides
from overread.slides.tile_recipe import settle_bags

TILES = Tiles(size=32, mpp=(2.0,), centre=16, stride=32, pooling="attention", bag=12)
FROZEN = Recipe(method="features", descriptors=("colour", "intensity"), epochs=20, tiles=TILES, seed=2)


@pytest.fixture(scope="module")
def model(tiny_slides, tiny_split, slide_cache) -> Model:
    blind = replace(tiny_slides, table=tiny_slides.table.assign(outlines=""))  # outlines are not looked at
    return train_on_slides(blind, tiny_split, FROZEN, cache=slide_cache, threads=2, device="cpu")


def test_a_bag_is_evenly_spread_over_the_tissue_of_its_slide(tiny_slides, slide_cache):
    bags = bags_of(tiny_slides, TILES, cache=slide_cache, threads=2)
    assert bags.table.groupby("case").size().tolist() == [12] * 8
    whole = bags_of(tiny_slides, replace(TILES, bag=4096), cache=slide_cache, threads=1)
    for case, some in whole.table.groupby("case"):
        images = some["image"].tolist()
        step = len(images) / 12
        assert bags.table["image"][bags.table["case"] == case].tolist() == [
            images[int((k + 0.5) * step)] for k in range(12)
        ]
    assert (bags.table["patient"] == bags.table["case"].map(tiny_slides.table.set_index("case")["patient"])).all()


def test_one_answer_a_slide_which_is_the_weighted_mean_of_its_tiles(
    model, tiny_slides, tiny_split, slide_cache, tmp_path
):
    assert model.about.recipe.fusion == "gated-attention"
    test = tiny_slides.only(tiny_split, "test")
    loaded = Model.load(model.save(tmp_path))
    made = answer_slides(loaded, test, cache=slide_cache, threads=1, part="test").table.set_index("case")
    table = attention_of(loaded, test, cache=slide_cache, threads=2)
    assert table.groupby("case")["weight"].sum().to_numpy() == pytest.approx(1.0)
    bags = bags_of(test, TILES, cache=slide_cache)
    network, fuse = model.network.eval(), model.network.fuse
    for case in test.table["case"]:
        mine = [address for address, name in zip(paths(bags), bags.table["case"], strict=True) if name == case]
        x = to_tensor(np.stack([read_image(address).pixels for address in mine]), model.about.preprocess, None, "cpu")
        with torch.inference_mode():
            h = network.body.features(x)
            gate = torch.tanh(fuse.look(h)) * torch.sigmoid(fuse.gate(h))
            weight = torch.softmax((gate @ fuse.weigh.weight.T)[:, 0], 0)
            p = torch.softmax(network.head(weight @ h), 0)[1]
            alone = torch.softmax(network.head(h), 1)[:, 1]
        found = table[table["case"] == case]
        assert made.loc[case, "p:yes"] == pytest.approx(float(p), abs=1e-5)
        assert np.allclose(found["weight"], weight, atol=1e-5)
        assert np.allclose(found["score"], alone, atol=1e-5)


def test_a_slide_that_cannot_be_read_leaves_the_others_their_answers(
    model, tiny_slides, tiny_split, slide_cache, tmp_path
):
    test = tiny_slides.only(tiny_split, "test")
    shutil.copytree(test.root, tmp_path / "slides")
    torn = replace(test, root=str(tmp_path / "slides"))
    Path(paths(torn)[0].partition("#")[0]).write_bytes(b"no slide")
    said: list[str] = []
    made = answer_slides(model, torn, cache=slide_cache, threads=1, say=said.append).table
    whole = answer_slides(model, test, cache=slide_cache, threads=1).table
    assert made["case"].tolist() == test.table["case"].tolist()[1:]
    assert made["p:yes"].tolist() == pytest.approx(whole["p:yes"].tolist()[1:], abs=1e-6)
    assert any("cannot be read, left out: 1 of 2" in line for line in said)
    with pytest.raises(InputError, match="1 slide cannot be read"):
        bags_of(torn, TILES, cache=slide_cache, threads=1)


def test_a_heat_map_of_it_shows_the_answer_for_each_tile_alone(model, tiny_slides, slide_cache):
    one = tiny_slides.take(np.array([1]))
    table = attention_of(model, one, cache=slide_cache, threads=1)
    slide = open_slide(paths(one)[0].partition("#")[0])
    pixels = np.stack([read_image(address).pixels for address in paths(bags_of(one, TILES, cache=slide_cache))])
    answers = TileAnswers.of(model, slide, "cpu", 16)
    assert np.allclose(answers(pixels[:, None]), table["score"], atol=1e-5)
    assert table["x"].between(0, slide.size[0]).all()


def test_the_same_model_with_one_and_two_processes(model, tiny_slides, tiny_split, slide_cache):
    again = train_on_slides(tiny_slides, tiny_split, FROZEN, cache=slide_cache, threads=1, device="cpu")
    assert again.digest == model.digest


@pytest.mark.parametrize(
    ("tiles", "fields", "words"),
    [
        ({"mpp": (1.0, 2.0)}, {}, "one magnification"),
        ({}, {"image_size": 64}, "shown as they are"),
        ({}, {"fusion": "concat"}, "no views and no order"),
        ({}, {"members": 3}, "one network"),
        ({"score": "mean of 5"}, {}, "by itself"),
    ],
)
def test_what_does_not_go_with_bags_is_refused(tiles, fields, words):
    with pytest.raises(InputError, match=words):
        settle_bags(Recipe(method="scratch", tiles=replace(TILES, **tiles), **fields))


def test_a_network_that_is_not_frozen_sees_one_slide_a_step():
    recipe, told = settle_bags(Recipe(method="scratch", tiles=replace(TILES, bag=100)))
    assert (recipe.batch_size, recipe.backbone, recipe.augment_by) == (1, "unet_small", "image")
    assert any(each.what == "slides a step" for each in told)


def test_a_model_without_attention_weighs_nothing(slide_model, tiny_slides):
    with pytest.raises(InputError, match="weighs no tiles"):
        attention_of(slide_model(), tiny_slides)

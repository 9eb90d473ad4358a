"""What slides settle of a recipe: the network of pretrained weights, the orientations of frozen ones, tiles or bags."""

from __future__ import annotations

import re

import pytest

from overread.core.errors import InputError
from overread.core.progress import Clock
from overread.images.slides.tile_settings import Tiles
from overread.learning.recipe import Recipe
from overread.slides import tile_classifier
from overread.slides.tile_recipe import refuse_unfit_recipe, settle_bags, settle_recipe, settle_tiles

TILES = Tiles(size=32, mpp=(2.0,), centre=16, stride=16)
BAGS = Tiles(size=32, mpp=(2.0,), centre=16, stride=16, pooling="attention")


@pytest.mark.parametrize("tiles", [TILES, BAGS], ids=["tiles", "bags"])
@pytest.mark.parametrize("method", ["finetune", "features"])
def test_a_network_without_a_name_is_that_which_training_takes(method, tiles, folder):
    asked = Recipe(method=method, tiles=tiles)

    def settled(names, **how):
        recipe, told = settle_recipe(asked, weights=folder(*names), **how)
        (decision,) = [each for each in told if each.what == "backbone"]
        assert decision.choice == recipe.backbone
        assert recipe.method == method
        return recipe.backbone, decision.why

    name, why = settled(())
    assert name == "mobilenet_v2"
    assert "not at hand" in why
    assert settled(["vit_tiny_patch16_224"])[0] == "vit_tiny_patch16_224"  # of no list of favourites
    name, why = settled(["resnet18", "squeezenet1_0"])
    assert name == "squeezenet1_0"  # docs/reference/measured.md: quicker for as much on a processor
    assert "on a cpu among the weights at hand" in why
    assert settled((), device="cuda")[0] == "resnet18"


def test_a_named_network_stays_and_descriptors_need_none(folder):
    named, told = settle_recipe(Recipe(method="finetune", backbone="resnet34", tiles=TILES), weights=folder("resnet18"))
    assert named.backbone == "resnet34"
    assert not [each for each in told if each.what == "backbone"]
    described, _ = settle_recipe(Recipe(method="features", descriptors=("lbp",), tiles=TILES), weights=folder("resnet18"))  # fmt: skip
    assert described.backbone == ""


@pytest.mark.parametrize(
    ("fields", "views"),
    [
        ({"method": "features"}, 2),
        ({"method": "features", "views": 4}, 4),
        ({"method": "features", "descriptors": ("lbp",), "codes": "itq"}, 1),
        (
            {
                "method": "features",
                "fusion": "attention",
                "tiles": Tiles(size=32, mpp=(1.0, 2.0), centre=16, stride=16),
            },
            1,
        ),
        ({"method": "features", "tiles": BAGS}, 1),
        ({"method": "finetune"}, 8),
        ({"method": "scratch"}, 8),
        ({"method": "scratch", "views": 1}, 1),
    ],
)
def test_orientations_are_settled(fields, views, folder):
    recipe, _ = settle_recipe(Recipe(**{"tiles": TILES, **fields}), weights=folder("resnet18"))
    assert recipe.views == views


@pytest.mark.parametrize(("method", "passes"), [("finetune", 4.0), ("features", 2 / 3)])
def test_a_budget_buys_tiles_where_no_network_is_named(method, passes, folder, tmp_path, monkeypatch):
    """Ten milliseconds a tile; .7 of the time, by as many passes as the method needs: a frozen network is passed forwards in two orientations."""
    monkeypatch.setattr(tile_classifier, "make_probe", lambda *_: lambda *_: 0.08)
    recipe, _ = settle_recipe(Recipe(method=method, tiles=TILES), weights=folder("resnet18"))
    plan = tile_classifier._planned(recipe, None, tmp_path, "cpu", Clock(100.0), lambda _: 0.0)
    assert plan.number == pytest.approx(0.7 * 100 / (passes * 0.01), rel=0.01)
    assert plan.method == method
    assert not any("--budget" in each.why for each in plan.decisions)


def test_bags_are_settled_as_bags_and_tiles_as_tiles(folder):
    for tiles, own in ((TILES, settle_tiles), (BAGS, settle_bags)):
        asked = Recipe(method="finetune", tiles=tiles)
        assert settle_recipe(asked, weights=folder("resnet18")) == own(asked, weights=folder("resnet18"))
    gated = Recipe(method="scratch", fusion="gated-attention", tiles=BAGS)
    assert settle_recipe(gated)[0].fusion == "gated-attention"
    with pytest.raises(InputError, match=re.escape("nothing to be fused")):
        refuse_unfit_recipe(Recipe(method="scratch", fusion="gated-attention", tiles=TILES))

"""The settings of tiles: what is refused, and how a recipe carries them."""

from __future__ import annotations

import pytest

from overread.core.errors import ArgumentError
from overread.core.files import build, fingerprint, plain
from overread.images.slides.tile_settings import Tiles
from overread.learning.recipe import Recipe, override


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mpp": ()}, "1 to 4"),
        ({"mpp": (1.0, 0.5)}, "finest first"),
        ({"mpp": (0.5, 0.5)}, "finest first"),
        ({"mpp": (0.5, 0.5000001)}, "written alike"),
        ({"centre": 300}, "centre"),
        ({"size": 64}, "centre 128, size 64.*--set tiles.centre=32"),
        ({"size": 64, "centre": 32}, "stride 128, size 64.*--set tiles.stride=32"),
        ({"stride": 0}, "stride"),
        ({"bits": 12}, "8 or 16"),
        ({"score": "mean of 0"}, "no such score"),
        ({"pooling": "mean"}, "pooling"),
        ({"jitter": 200}, "jitter"),
        ({"number": -1}, "number"),
        ({"least_tissue": 1.5}, "share"),
    ],
)
def test_what_cannot_be_is_refused(fields, words):
    with pytest.raises(ArgumentError, match=words):
        Tiles(**fields)


def test_a_recipe_takes_them_from_the_command_line_and_a_file(tmp_path):
    recipe = override(Recipe(), ["tiles.mpp=[0.5,1,2,4]", "tiles.size=299", "tiles.score=mean of 5"])
    assert recipe.tiles == Tiles(size=299, mpp=(0.5, 1.0, 2.0, 4.0), score="mean of 5")
    assert Recipe.load(recipe.save(tmp_path / "slides.toml")) == recipe


def test_a_recipe_of_before_is_the_same():
    old = plain(Recipe())
    del old["tiles"]
    assert build(Recipe, old) == Recipe()
    assert fingerprint(Recipe()) == "32eb19236b645628"  # as before there were tiles
    assert fingerprint(Recipe()) != fingerprint(Recipe(tiles=Tiles(size=128)))


def test_lengths_are_of_the_finest_tile():
    tiles = Tiles(size=256, mpp=(0.25, 1.0), stride=128)
    assert (tiles.side, tiles.step, tiles.views) == (64.0, 32.0, ("0.25", "1"))
